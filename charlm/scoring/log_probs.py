"""How likely is a text? One function turns ids into log-probabilities; scores, evaluation and validation sum them.

    log p(x_1 … x_n) = Σ_t log o_t[x_{t+1}],  the state zero before the boundary that opens a sentence

All log-probabilities are natural, in nats. What is made of a sentence's log-probabilities is in `measures`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from charlm.errors import InputError
from charlm.model.network import CharacterModel, ModelState, reading
from charlm.scoring.conditions import Conditions, Unknown, name_characters
from charlm.scoring.measures import CharacterScore, Score
from charlm.system.threads import side_by_side
from charlm.text.batches import IGNORE, pad_lines
from charlm.text.vocabulary import END_OF_SENTENCE, Ids, Vocabulary, to_bytes

LogProbs = NDArray[np.float64]
Beginning = tuple[int | None, ModelState]  # of a sentence, as `start` gives it

DEFAULT = Conditions()

_MAX_LOGITS = 1 << 22  # numbers of T·B·V held at once
_MAX_BATCH = 64
_FEWEST_WEIGHTS = 1 << 16  # recurrent ones, from which on a batch is worth a thread of its own
_MAX_SYMBOLS = 1 << 20  # of sequences side by side, the filling included
_READ_AT_ONCE = 1 << 14  # symbols of a context or prompt
_CHUNK = 1024  # sentences looked at together, sorted by length


def score_sentences(
    model: CharacterModel,
    vocabulary: Vocabulary,
    sentences: Iterable[str],
    conditions: Conditions = DEFAULT,
) -> Iterator[Score]:
    """Scores sentences of any number and length in their order, in bounded memory.

    A sentence's score does not depend on what is scored beside it (beyond rounding, below 1e-5 nats a character).
    """
    remaining = iter(sentences)
    chunks = iter(lambda: list(islice(remaining, _CHUNK)), [])
    for scores in score_batches(model, vocabulary, chunks, conditions):
        yield from scores


def score_batches(
    model: CharacterModel,
    vocabulary: Vocabulary,
    batches: Iterable[Sequence[str]],
    conditions: Conditions = DEFAULT,
) -> Iterator[list[Score]]:
    """Scores batches of sentences as they come; a context is read once for all of them."""
    beginning = start(model, vocabulary, conditions)
    for batch in batches:
        yield score_together(model, vocabulary, batch, conditions, beginning)


def score_together(
    model: CharacterModel,
    vocabulary: Vocabulary,
    sentences: Sequence[str],
    conditions: Conditions = DEFAULT,
    beginning: Beginning | None = None,
) -> list[Score]:
    """Scores sentences that are all at hand, in their order.

    Args:
        model: in evaluation mode or not.
        vocabulary: the model's.
        sentences: one string each.
        conditions: under which they are scored.
        beginning: what `start` gives for these conditions, where it has been asked already.

    Raises:
        InputError: unknown characters, where the conditions refuse them.
    """
    texts = [vocabulary.normalize(sentence) for sentence in sentences]
    if conditions.unknown == Unknown.ERROR:
        for text in (vocabulary.normalize(conditions.context), *texts):
            if unknown := vocabulary.unknown_in(text):
                raise InputError(f"the model has never seen {name_characters(unknown)}, in {text[:80]!r}")
    end = [vocabulary.boundary_id] if conditions.eos and vocabulary.ends_sentences else []
    ids = [np.append(vocabulary.encode_sentence(text), np.array(end, np.int32)) for text in texts]
    scores: dict[int, Score] = {}
    found = conditional_log_probs(model, vocabulary, ids, beginning or start(model, vocabulary, conditions))
    for i, log_probs in found:
        scores[i] = _score(vocabulary, conditions, sentences[i], texts[i], ids[i], log_probs)
    return [scores[i] for i in range(len(sentences))]


def _score(
    vocabulary: Vocabulary, conditions: Conditions, sentence: str, text: str, ids: Ids, log_probs: LogProbs
) -> Score:
    end = [END_OF_SENTENCE] if conditions.eos and vocabulary.ends_sentences else []
    unigram = vocabulary.unigram_log_probs[ids]
    unknown = ids == vocabulary.unknown_id  # all False where nothing is unknown
    skipped = 0
    if conditions.unknown == Unknown.SKIP:
        log_probs, unigram = np.where(unknown, 0.0, log_probs), np.where(unknown, 0.0, unigram)
        skipped = int(unknown.sum())
    elif unknown.any():
        share = unknown * math.log(vocabulary.unseen_characters)
        log_probs, unigram = log_probs - share, unigram - share
    parts = log_probs
    if vocabulary.level == "byte":  # the bytes of a character add up to its log-probability
        sizes = [len(to_bytes(char)) for char in text] + [1] * len(end)
        parts = np.add.reduceat(log_probs, np.cumsum([0, *sizes[:-1]])) if sizes else log_probs
        unknown = np.zeros(len(sizes), np.bool_)
    columns = zip([*text, *end], parts.tolist(), unknown.tolist(), strict=True)
    chars = list(map(CharacterScore._make, columns))
    return Score.of(
        sentence,
        chars,
        characters=len(text),
        logprob=float(log_probs.sum()),
        unigram=float(unigram.sum()),
        n=len(chars) - skipped,
    )


def start(model: CharacterModel, vocabulary: Vocabulary, conditions: Conditions) -> Beginning:
    """Returns where a sentence begins: the symbol that is read before its first, and the state before that.

    The symbol is None where neither a boundary nor a context stands before the sentence.

    Raises:
        InputError: the context holds a newline, and the model is one of lines.
    """
    if vocabulary.framing == "lines" and "\n" in conditions.context:
        raise InputError(
            "the context holds a newline, but this model reads each line by itself, from its beginning"
        )
    context = vocabulary.encode_sentence(vocabulary.normalize(conditions.context))
    if conditions.bos:
        context = np.append(np.array([vocabulary.boundary_id], np.int32), context)
    state = model.initial_state(1)
    if len(context) > 1:
        _, state = read(model, context[:-1], state)
    return int(context[-1]) if len(context) else None, state


def conditional_log_probs(
    model: CharacterModel, vocabulary: Vocabulary, sequences: Sequence[Ids], beginning: Beginning
) -> Iterator[tuple[int, LogProbs]]:
    """Yields the log-probability (nats) of each symbol of each sentence, shapes (n_i,), from what `start` says.

    They come with the place of their sentence, in the order in which they are ready.
    """
    first, state = beginning
    if first is not None:
        yield from each_log_probs(model, sequences, first, state)
        return
    same_first: dict[int | None, list[int]] = {}
    for i, ids in enumerate(sequences):
        same_first.setdefault(int(ids[0]) if len(ids) else None, []).append(i)
    for first, members in same_first.items():
        if first is None:
            yield from ((i, np.zeros(0)) for i in members)
            continue
        by_frequency = vocabulary.unigram_log_probs[[first]]
        for n, log_probs in each_log_probs(model, [sequences[i][1:] for i in members], first):
            yield members[n], np.concatenate((by_frequency, log_probs))


def sequence_log_probs(
    model: CharacterModel, sequences: Sequence[Ids], first_id: int, state: ModelState | None = None
) -> list[LogProbs]:
    """Returns what `each_log_probs` yields, in the order of the sequences."""
    found = dict(each_log_probs(model, sequences, first_id, state))
    return [found[i] for i in range(len(sequences))]


def each_log_probs(
    model: CharacterModel, sequences: Sequence[Ids], first_id: int, state: ModelState | None = None
) -> Iterator[tuple[int, LogProbs]]:
    """Yields the log-probability (nats) of each symbol of each sequence, shapes (n_i,), as soon as it is known.

    Each sequence starts from the zero state, or the given one, with `first_id` as the symbol before it. Sequences
    of like length go through the model side by side; long ones in windows, so memory is bounded whatever their
    number and length.

    Args:
        model: in evaluation mode or not; dropout is not applied.
        sequences: ids, shape (n_i,).
        first_id: the symbol read before the first of each sequence.
        state: before `first_id`, for one sequence; None: zero.

    Yields:
        The place of a sequence, and its log-probabilities.
    """
    yield from ((i, np.zeros(0)) for i, ids in enumerate(sequences) if not len(ids))
    order = sorted((i for i in range(len(sequences)) if len(sequences[i])), key=lambda i: len(sequences[i]))
    batches = []
    while order:
        # A very long one is not laid beside others, which would all be filled up to its length.
        fits = max(1, _MAX_SYMBOLS // len(sequences[order[min(_MAX_BATCH, len(order)) - 1]]))
        batches.append(order[: min(fits, _MAX_BATCH)])
        order = order[min(fits, _MAX_BATCH) :]

    def read_batch(batch: list[int]) -> LogProbs:
        inputs, targets = pad_lines([sequences[i] for i in batch], first_id)
        before = model.initial_state(len(batch)) if state is None else _repeated(state, len(batch))
        return window_log_probs(model, inputs, targets, before)[0]

    weights = model.recurrent.parameter("weight_hh", 0).numel()
    divided = model.device.type == "cpu" and len(batches) > 1 and weights >= _FEWEST_WEIGHTS
    batches.reverse()  # the longest first: at the end all threads are done at about the same time
    with reading(model):  # for all threads: each by itself would put the model back while another reads
        found = side_by_side(read_batch, batches) if divided else map(read_batch, batches)
        for batch, log_probs in zip(batches, found, strict=True):
            yield from ((i, log_probs[row, : len(sequences[i])]) for row, i in enumerate(batch))


def _repeated(state: ModelState, B: int) -> ModelState:
    """Returns the state of one sequence, (1, H) each, as that of B, (B, H) each."""
    return [tuple(part.expand(B, -1).contiguous() for part in layer) for layer in state]


def read(model: CharacterModel, ids: Ids, state: ModelState) -> tuple[Tensor, ModelState]:
    """Reads a text, shape (N,), however long; returns what the softmax reads after it, (1, H), and the state."""
    with reading(model):
        for start in range(0, len(ids), _READ_AT_ONCE):
            x = torch.from_numpy(ids[start : start + _READ_AT_ONCE, None]).to(model.device)  # (T, 1)
            features, state = model.features(x, state)
    return features[-1], state


def window_log_probs(
    model: CharacterModel, inputs: Ids, targets: Ids, state: ModelState
) -> tuple[LogProbs, ModelState]:
    """The one place where log-probabilities are made: log softmax(V_o s_t + b_o) at the target.

    Args:
        model: dropout is not applied.
        inputs: ids, shape (B, T).
        targets: the ids that follow, shape (B, T); where `IGNORE`, the result is 0.
        state: before the first step.

    Returns:
        Log-probabilities in nats, shape (B, T), and the state after the last step.
    """
    B, T = inputs.shape
    result = np.zeros((B, T))
    window = max(1, _MAX_LOGITS // (B * model.output.out_features))
    for start in range(0, T, window):
        with reading(model):
            x = torch.from_numpy(inputs[:, start : start + window]).to(model.device).t()  # (T', B)
            y = torch.from_numpy(targets[:, start : start + window]).long().to(model.device).t()  # (T', B)
            logits, state = model(x, state)  # (T', B, V)
            loss = F.cross_entropy(logits.flatten(0, 1), y.flatten(), ignore_index=IGNORE, reduction="none")
            result[:, start : start + window] = -loss.view(x.shape).t().cpu().double().numpy()
    return result, state
