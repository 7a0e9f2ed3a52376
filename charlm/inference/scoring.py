"""How likely is a text? One function turns ids into log-probabilities; scores, evaluation and validation sum them.

    log p(x_1 … x_n) = Σ_t log o_t[x_{t+1}],  the state zero before the boundary that opens a sentence

All log-probabilities are natural, in nats. What is made of a sentence's log-probabilities is in `measures`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from charlm.inference.measures import CharacterScore, Score
from charlm.model import CharacterModel, ModelState
from charlm.text.batches import IGNORE, pad_lines
from charlm.text.vocabulary import END_OF_SENTENCE, Ids, Vocabulary, to_bytes

LogProbs = NDArray[np.float64]

_MAX_LOGITS = 1 << 22  # numbers of T·B·V held at once
_MAX_BATCH = 64
_CHUNK = 1024  # sentences looked at together, sorted by length


def score_sentences(model: CharacterModel, vocabulary: Vocabulary, sentences: Iterable[str]) -> Iterator[Score]:
    """Scores sentences of any number and length in their order, in bounded memory.

    A sentence's score does not depend on what is scored beside it (beyond rounding, below 1e-5 nats a character).
    """
    chunk: list[str] = []
    for sentence in sentences:
        chunk.append(sentence)
        if len(chunk) == _CHUNK:
            yield from score_together(model, vocabulary, chunk)
            chunk = []
    yield from score_together(model, vocabulary, chunk)


def score_together(model: CharacterModel, vocabulary: Vocabulary, sentences: Sequence[str]) -> list[Score]:
    """Scores sentences that are all at hand, in their order."""
    texts = [vocabulary.normalize(sentence) for sentence in sentences]
    end = [vocabulary.boundary_id] if vocabulary.ends_sentences else []
    ids = [np.append(vocabulary.encode_sentence(text), np.array(end, np.int32)) for text in texts]
    log_probs = sequence_log_probs(model, ids, vocabulary.boundary_id)
    return [_score(vocabulary, *item) for item in zip(sentences, texts, ids, log_probs, strict=True)]


def _score(vocabulary: Vocabulary, sentence: str, text: str, ids: Ids, log_probs: LogProbs) -> Score:
    end = [END_OF_SENTENCE] if vocabulary.ends_sentences else []
    parts = log_probs
    unknown = ids == vocabulary.unknown_id  # all False where nothing is unknown
    if vocabulary.level == "byte":  # the bytes of a character add up to its log-probability
        sizes = [len(to_bytes(char)) for char in text] + [1] * len(end)
        parts = np.add.reduceat(log_probs, np.cumsum([0, *sizes[:-1]])) if sizes else log_probs
        unknown = np.zeros(len(sizes), np.bool_)
    chars = [
        CharacterScore(char, float(p), bool(u)) for char, p, u in zip([*text, *end], parts, unknown, strict=True)
    ]
    return Score.of(
        sentence,
        chars,
        characters=len(text),
        logprob=float(log_probs.sum()),
        unigram=float(vocabulary.unigram_log_probs[ids].sum()),
    )


def sequence_log_probs(model: CharacterModel, sequences: Sequence[Ids], first_id: int) -> list[LogProbs]:
    """Returns the log-probability (nats) of each symbol of each sequence, shapes (n_i,).

    Each sequence starts from the zero state with `first_id` as the symbol before it. Sequences of like length go
    through the model side by side; long ones in windows, so memory is bounded whatever their number and length.

    Args:
        model: in evaluation mode or not; dropout is not applied.
        sequences: ids, shape (n_i,).
        first_id: the symbol read before the first of each sequence.
    """
    results: list[LogProbs] = [np.zeros(0)] * len(sequences)
    order = sorted((i for i in range(len(sequences)) if len(sequences[i])), key=lambda i: len(sequences[i]))
    for start in range(0, len(order), _MAX_BATCH):
        batch = order[start : start + _MAX_BATCH]
        inputs, targets = pad_lines([sequences[i] for i in batch], first_id)
        log_probs, _ = window_log_probs(model, inputs, targets, model.initial_state(len(batch)))
        for row, i in enumerate(batch):
            results[i] = log_probs[row, : len(sequences[i])]
    return results


@contextmanager
def reading(model: CharacterModel) -> Iterator[None]:
    """Runs a model without dropout and without gradients; the model and torch are as before afterwards."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)


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
