"""How well does a model predict held-out text? Validation during training and `charlm eval` are this function."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from charlm.experts.ngram import ORDER, NgramModel
from charlm.model.network import CharacterModel
from charlm.scoring.log_probs import LogProbs, sequence_log_probs, window_log_probs
from charlm.text.batches import line_bounds, pad_lines
from charlm.text.corpus import Split
from charlm.text.vocabulary import Ids, Vocabulary

_WARM_UP = 256  # symbols a row reads before its own, to have the state that a single pass would carry there
_MIN_ROW = 2048  # shorter texts are read in one pass
_MAX_ROWS = 64
_WINDOW = 256  # symbols of each row read together: longer ones are no faster
_LINES = 4096  # lines scored together


@dataclass(frozen=True)
class Evaluation:
    """How well a model predicts a text.

    Attributes:
        characters: newlines included; in lines framing each line's end is one.
        bytes: in UTF-8.
        unknown: characters that the model does not know; they are predicted as `<unk>`.
        nats_per_character: mean cross-entropy.
        bits_per_character: the same over ln 2.
        bits_per_byte: total bits over bytes.
        perplexity: exp(nats_per_character).
        perplexity_excluding_unknown: the same, unknown characters left out of sum and count.
        dynamic_nats_per_character: of the model that adapts to the text as it reads; None: not asked for.
        dynamic_learning_rate: with which it did so.
        dynamic_decay: and this decay.
        baseline_nats_per_character: of an n-gram model of the same training text; None: not asked for.
    """

    characters: int
    bytes: int
    unknown: int
    nats_per_character: float
    bits_per_character: float
    bits_per_byte: float
    perplexity: float
    perplexity_excluding_unknown: float
    dynamic_nats_per_character: float | None = None
    dynamic_learning_rate: float | None = None
    dynamic_decay: float | None = None
    baseline_nats_per_character: float | None = None


def evaluate(model: CharacterModel, vocabulary: Vocabulary, split: Split) -> Evaluation:
    """Evaluates a model on a text that its own vocabulary encoded; memory does not grow with the text."""
    total = known = 0.0
    n_unknown = 0
    for start, log_probs in text_log_probs(model, vocabulary, split.ids):
        unknown = split.ids[start : start + len(log_probs)] == vocabulary.unknown_id
        total -= float(log_probs.sum())
        known -= float(log_probs[~unknown].sum())
        n_unknown += int(unknown.sum())
    n_known = split.characters - n_unknown
    return Evaluation(
        characters=split.characters,
        bytes=split.bytes,
        unknown=n_unknown,
        nats_per_character=total / split.characters,
        bits_per_character=total / split.characters / math.log(2),
        bits_per_byte=total / split.bytes / math.log(2),
        perplexity=_exp(total / split.characters),
        perplexity_excluding_unknown=_exp(known / n_known) if n_known else math.nan,
    )


def _exp(nats: float) -> float:
    return math.exp(nats) if nats < 700 else math.inf


def ngram_model(vocabulary: Vocabulary, train: Split, order: int = ORDER, *, most: int | None = None) -> NgramModel:
    """Counts a training split as the neural model reads it: line by line, or as one text.

    Args:
        vocabulary: of the split.
        train: the split.
        order: the longest n-gram.
        most: count only so many symbols, the last ones.
    """
    ids = train.ids if most is None else train.ids[-most:]
    return NgramModel(sequences_of(vocabulary, ids), len(vocabulary), vocabulary.boundary_id, order)


def evaluate_baseline(baseline: NgramModel, vocabulary: Vocabulary, split: Split) -> float:
    """Returns the nats per character of an n-gram model over the very symbols that `evaluate` scores."""
    log_probs = baseline.log_probs(sequences_of(vocabulary, split.ids))
    return -float(np.concatenate(log_probs).sum()) / split.characters


def sequences_of(vocabulary: Vocabulary, ids: Ids) -> list[Ids]:
    """Cuts a text where the state starts from zero: into its lines in lines framing, else not at all."""
    if vocabulary.framing == "stream":
        return [ids]
    bounds = line_bounds(ids, vocabulary.boundary_id).tolist()
    return [ids[a:b] for a, b in pairwise(bounds)]


def text_log_probs(model: CharacterModel, vocabulary: Vocabulary, ids: Ids) -> Iterator[tuple[int, LogProbs]]:
    """Yields the log-probability (nats) of every symbol of a text: a place, and those of the symbols from there on.

    Lines framing: each line from the zero state. Stream framing: the state carried through the whole text; a long
    text is read in up to 64 rows side by side, each after the 256 symbols before it, which differs from a single
    pass by less than 0.001 nats a character.
    """
    first_id = vocabulary.boundary_id
    if vocabulary.framing == "lines":
        bounds = line_bounds(ids, first_id)
        for i in range(0, len(bounds) - 1, _LINES):
            ends = bounds[i : i + _LINES + 1].tolist()
            lines = [ids[a:b] for a, b in pairwise(ends)]
            yield ends[0], np.concatenate(sequence_log_probs(model, lines, first_id))
        return
    rows = min(_MAX_ROWS, max(1, len(ids) // _MIN_ROW))
    cuts = np.linspace(0, len(ids), rows + 1).astype(int)
    begins = np.maximum(cuts[:-1] - _WARM_UP, 0)
    state = model.initial_state(rows)
    for step in range(0, int((cuts[1:] - begins).max()), _WINDOW):
        starts = begins + step  # (rows,)
        parts = [ids[a : min(a + _WINDOW, b)] for a, b in zip(starts, cuts[1:], strict=True)]
        inputs, targets = pad_lines(parts, first_id)
        if step:
            inputs[:, 0] = ids[starts - 1]
        log_probs, state = window_log_probs(model, inputs, targets, state)
        for row, part in enumerate(parts):
            known = max(0, int(cuts[row] - starts[row]))  # the row before has these
            yield int(starts[row]) + known, log_probs[row, known : len(part)]
