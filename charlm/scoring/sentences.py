"""From sentences to scores: encoded as the training text was, read between boundaries, under conditions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from charlm.errors import InputError
from charlm.experts.mixture import Mixture
from charlm.scoring.conditions import Conditions, Unknown
from charlm.scoring.log_probs import CONTEXT_SYMBOLS, Beginning, LogProbs, read_context, sequence_log_probs
from charlm.scoring.measures import CharacterScore, Score
from charlm.scoring.memory import remember_lines
from charlm.system.distributed import ALONE, Ranks
from charlm.text.characters import name_characters
from charlm.text.vocabulary import END_OF_SENTENCE, Ids, Vocabulary, to_bytes


def score_batches(
    mixture: Mixture,
    vocabulary: Vocabulary,
    batches: Iterable[Sequence[str]],
    conditions: Conditions,
    ranks: Ranks = ALONE,
) -> Iterator[list[Score]]:
    """Scores batches of sentences as they come, in their order; a context is read once for all of them.

    A sentence's score does not depend on what is scored beside it (beyond rounding, below 1e-5 nats a character).
    Rank 0 of several hands out a share of each batch to the others, which `score_shares`.

    Raises:
        InputError: unknown characters, where the conditions refuse them; or the context holds a newline, and the
            model is one of lines.
    """
    beginning = begin(mixture, vocabulary, conditions)
    ends = [vocabulary.boundary_id] if conditions.eos and vocabulary.ends_sentences else []
    for sentences in batches:
        texts = [vocabulary.normalize(sentence) for sentence in sentences]
        if conditions.unknown == Unknown.ERROR:
            document = conditions.document.split("\n") if vocabulary.framing == "lines" else [conditions.document]
            before = map(vocabulary.normalize, (*document, conditions.context))
            for text in (*before, *texts):
                if unknown := vocabulary.unknown_in(text):
                    raise InputError(f"the model has never seen {name_characters(unknown)}, in {text[:80]!r}")
        ids = [np.append(vocabulary.encode_sentence(text), np.array(ends, np.int32)) for text in texts]
        scores: dict[int, Score] = {}
        for i, log_probs in _divided_log_probs(mixture, vocabulary, ids, beginning, ranks):
            scores[i] = _score(vocabulary, conditions, sentences[i], texts[i], ids[i], log_probs)
        yield [scores[i] for i in range(len(sentences))]


def score_shares(mixture: Mixture, vocabulary: Vocabulary, conditions: Conditions, ranks: Ranks) -> None:
    """Computes what rank 0 hands out, under its conditions, until it says that there is no more."""
    beginning = begin(mixture, vocabulary, conditions)
    while (sequences := ranks.receive(np.int32, 0)) is not None:
        found = dict(_log_probs(mixture, vocabulary, sequences, beginning))
        ranks.send([found[i] for i in range(len(sequences))], 0)


def _divided_log_probs(
    mixture: Mixture, vocabulary: Vocabulary, sequences: Sequence[Ids], beginning: Beginning | None, ranks: Ranks
) -> Iterator[tuple[int, LogProbs]]:
    """As `_log_probs`; each rank computes neighbours, which have about as many symbols as those of another."""
    before = np.cumsum([0, *map(len, sequences)])  # each sequence, how many symbols are in the others
    cuts = np.searchsorted(before, before[-1] * np.arange(1, ranks.size) / ranks.size).tolist()
    shares = [range(a, b) for a, b in pairwise([0, *cuts, len(sequences)])]
    for rank in range(1, ranks.size):
        ranks.send([sequences[i] for i in shares[rank]], rank)
    own = [sequences[i] for i in shares[0]]
    yield from _log_probs(mixture, vocabulary, own, beginning)
    for rank in range(1, ranks.size):
        yield from zip(shares[rank], ranks.receive(np.float64, rank) or [], strict=True)


def begin(
    mixture: Mixture, vocabulary: Vocabulary, conditions: Conditions, *, symbols: int = CONTEXT_SYMBOLS
) -> Beginning | None:
    """Reads what stands before each sentence; None where nothing does, not even a boundary.

    Args:
        mixture: the model, with memory if the conditions name a document.
        vocabulary: the model's.
        conditions: under which sentences are scored.
        symbols: so many of the context are read at once.

    Raises:
        InputError: the context holds a newline, and the model is one of lines.
    """
    if vocabulary.framing == "lines" and "\n" in conditions.context:
        raise InputError(
            "the context holds a newline, but this model reads each line by itself, from its beginning"
        )
    context = vocabulary.encode_sentence(vocabulary.normalize(conditions.context))
    document = vocabulary.encode(vocabulary.normalize(conditions.document))
    if len(document) and document[-1] != vocabulary.boundary_id:
        document = np.append(document, np.int32(vocabulary.boundary_id))
    state = mixture.initial_state(1)
    if vocabulary.framing == "lines":
        if len(document):
            state = remember_lines(mixture, vocabulary, document, state)
    else:
        context = np.append(document, context)
    if conditions.bos:
        context = np.append(np.array([vocabulary.boundary_id], np.int32), context)
    if not len(context):
        return None
    if len(context) > 1:
        _, state = read_context(mixture, context[:-1], state, symbols=symbols)
    return Beginning(int(context[-1]), state)


def _log_probs(
    mixture: Mixture, vocabulary: Vocabulary, sequences: Sequence[Ids], beginning: Beginning | None
) -> Iterator[tuple[int, LogProbs]]:
    """Yields the place of a sentence and the log-probabilities (nats) of its symbols, in the order they are ready.

    Where nothing stands before the sentences, their first symbols are scored by their frequency.
    """
    if beginning is not None:
        yield from sequence_log_probs(mixture, sequences, beginning)
        return
    same_first: dict[int | None, list[int]] = {}
    for i, ids in enumerate(sequences):
        same_first.setdefault(int(ids[0]) if len(ids) else None, []).append(i)
    for first, members in same_first.items():
        if first is None:
            yield from ((i, np.zeros(0)) for i in members)
            continue
        by_frequency = vocabulary.unigram_log_probs[[first]]
        rest = [sequences[i][1:] for i in members]
        for n, log_probs in sequence_log_probs(mixture, rest, Beginning(first)):
            yield members[n], np.concatenate((by_frequency, log_probs))


def spread_unknown(vocabulary: Vocabulary, ids: Ids, log_probs: LogProbs) -> LogProbs:
    """Returns log-probabilities (nats) in which an unknown character has its share of `<unk>`; ids (N,)."""
    unknown = ids == vocabulary.unknown_id  # all False where nothing is unknown
    return log_probs - unknown * math.log(vocabulary.unseen_characters) if np.any(unknown) else log_probs


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
    else:
        log_probs, unigram = (spread_unknown(vocabulary, ids, each) for each in (log_probs, unigram))
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
