"""How well does a model predict held-out text? Validation during training and `charlm eval` are this function."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from charlm.inference.ngram import NgramModel
from charlm.inference.scoring import LogProbs, sequence_log_probs
from charlm.model import CharacterModel
from charlm.text.batches import line_spans
from charlm.text.corpus import Split
from charlm.text.vocabulary import Ids, Vocabulary

_WARM_UP = 256  # symbols a row reads before its own, to have the state that a single pass would carry there
_MIN_ROW = 2048  # shorter texts are read in one pass
_MAX_ROWS = 64
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
    baseline_nats_per_character: float | None = None


def evaluate(model: CharacterModel, vocabulary: Vocabulary, split: Split) -> Evaluation:
    """Evaluates a model on a text that its own vocabulary encoded."""
    log_probs = text_log_probs(model, vocabulary, split.ids)
    unknown = split.ids == vocabulary.unknown_id
    total = -float(log_probs.sum())
    known = -float(log_probs[~unknown].sum())
    n_unknown = int(unknown.sum())
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


def ngram_model(vocabulary: Vocabulary, train: Split) -> NgramModel:
    """Counts a training split as the neural model reads it: line by line, or as one text."""
    return NgramModel(sequences_of(vocabulary, train.ids), len(vocabulary), vocabulary.boundary_id)


def evaluate_baseline(baseline: NgramModel, vocabulary: Vocabulary, split: Split) -> float:
    """Returns the nats per character of an n-gram model over the very symbols that `evaluate` scores."""
    log_probs = baseline.log_probs(sequences_of(vocabulary, split.ids))
    return -float(np.concatenate(log_probs).sum()) / split.characters


def sequences_of(vocabulary: Vocabulary, ids: Ids) -> list[Ids]:
    """Cuts a text where the state starts from zero: into its lines in lines framing, else not at all."""
    if vocabulary.framing == "stream":
        return [ids]
    starts, lengths = line_spans(ids, vocabulary.boundary_id)
    return [ids[s : s + n] for s, n in zip(starts, lengths, strict=True)]


def text_log_probs(model: CharacterModel, vocabulary: Vocabulary, ids: Ids) -> LogProbs:
    """Returns the log-probability (nats) of every symbol of a text, shape (N,).

    Lines framing: each line from the zero state. Stream framing: the state carried through the whole text; a long
    text is read in up to 64 rows side by side, each after the 256 symbols before it, which differs from a single
    pass by less than 0.001 nats a character.
    """
    if vocabulary.framing == "lines":
        lines = sequences_of(vocabulary, ids)
        parts = [
            part
            for i in range(0, len(lines), _LINES)
            for part in sequence_log_probs(model, lines[i : i + _LINES], vocabulary.boundary_id)
        ]
        return np.concatenate(parts)
    rows = min(_MAX_ROWS, max(1, len(ids) // _MIN_ROW))
    cuts = np.linspace(0, len(ids), rows + 1).astype(int)
    begins = np.maximum(cuts[:-1] - _WARM_UP, 0)
    sequences = [ids[a:b] for a, b in zip(begins, cuts[1:], strict=True)]
    scored = sequence_log_probs(model, sequences, vocabulary.boundary_id)
    return np.concatenate([part[cut - begin :] for part, cut, begin in zip(scored, cuts, begins, strict=False)])
