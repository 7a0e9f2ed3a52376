"""How well does a model predict held-out text? Validation during training and `charlm eval` are this function."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from charlm.experts.mixture import Mixture
from charlm.experts.ngram import NgramModel
from charlm.scoring.log_probs import cut_sequences, text_log_probs
from charlm.system.distributed import ALONE, Ranks
from charlm.text.corpus import Split
from charlm.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class Evaluation:
    """How well a model predicts a text.

    Attributes:
        characters: number of characters, newlines included; in lines framing each line's end is one.
        bytes: size of the text in UTF-8.
        unknown: number of characters that the model does not know; they are predicted as `<unk>`.
        nats_per_character: mean cross-entropy, in nats.
        bits_per_character: `nats_per_character / ln 2`.
        bits_per_byte: all bits together, divided by `bytes`.
        perplexity: `exp(nats_per_character)`.
        perplexity_excluding_unknown: the perplexity of the known characters alone.
        memory_nats_per_character: mean cross-entropy of the model with a memory of the text that it has read. None
            if it was not asked for, or if there is no validation split, on which it is found how far to trust a
            memory.
        dynamic_nats_per_character: mean cross-entropy of the model that adapts to the text as it reads, by gradient
            steps and without a memory. None if it was not asked for.
        dynamic_memory_nats_per_character: mean cross-entropy of the model that does both. None as above.
        dynamic_learning_rate: the learning rate of the gradient steps.
        dynamic_decay: how fast the weights decay back to the trained ones between the gradient steps.
        baseline_nats_per_character: mean cross-entropy of an n-gram model of the same training text. None if it was
            not asked for.
    """

    characters: int
    bytes: int
    unknown: int
    nats_per_character: float
    bits_per_character: float
    bits_per_byte: float
    perplexity: float
    perplexity_excluding_unknown: float
    memory_nats_per_character: float | None = None
    dynamic_nats_per_character: float | None = None
    dynamic_memory_nats_per_character: float | None = None
    dynamic_learning_rate: float | None = None
    dynamic_decay: float | None = None
    baseline_nats_per_character: float | None = None


def evaluate(mixture: Mixture, vocabulary: Vocabulary, split: Split, ranks: Ranks = ALONE) -> Evaluation:
    """Evaluates a model on a text that its own vocabulary encoded; memory does not grow with the text.

    Several ranks divide the text, which each of them has, and all of them return the whole evaluation.
    """
    total = known = 0.0
    n_unknown = 0
    for start, log_probs in text_log_probs(mixture, vocabulary, split.ids, split.parts, ranks=ranks):
        unknown = split.ids[start : start + len(log_probs)] == vocabulary.unknown_id
        total -= float(log_probs.sum())
        known -= float(log_probs[~unknown].sum())
        n_unknown += int(unknown.sum())
    total, known, unknown_sum = ranks.add(total, known, n_unknown)
    n_unknown = int(unknown_sum)
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


def evaluate_baseline(vocabulary: Vocabulary, train: Split, split: Split) -> float:
    """Returns the nats per character of an n-gram model of the training text, on the symbols `evaluate` scores."""
    baseline = NgramModel(
        cut_sequences(vocabulary, train.ids, train.parts), len(vocabulary), vocabulary.boundary_id
    )
    log_probs = baseline.sequence_log_probs(cut_sequences(vocabulary, split.ids, split.parts))
    return -float(np.concatenate(log_probs).sum()) / split.characters
