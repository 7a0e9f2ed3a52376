"""Which weight and length bonus rank a development set best, by the chrF or BLEU of sacrebleu?

    for each point (W, B) of a grid: argmax over each id of total + W · charlm + B · characters → corpus score

The statistics that chrF and BLEU are made of (counts of n-grams) add up over sentences. They are taken once for
each hypothesis that some point chooses, so a point costs a sum. A coarse grid in steps of two is followed by a
finer one around its best point, in steps of the fourth root of two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.errors import InputError
from charlm.ranking.nbest import Hypothesis, Metric, Scored, score_groups
from charlm.scoring.measures import Scorer

Point = tuple[float, float]  # weight, length bonus
Floats = NDArray[np.float64]

_COARSE = tuple(2.0**k for k in range(-6, 7))
_FINE = tuple(2.0 ** (k / 4) for k in range(-3, 4))


@dataclass(frozen=True)
class Tuning:
    """The weight and length bonus that rank a development set best.

    Attributes:
        weight: of the measure; four digits.
        length_bonus: for each character; four digits.
        metric: sacrebleu's name and signature of the metric.
        before: the metric (0 to 100) of the best hypotheses by their old totals.
        after: the metric with the new totals.
        held_out: the metric when each half of the sentences is ranked by what the other half chose; what to expect
            of new text. None where there are fewer than two sentences.
        sentences: how many have hypotheses.
    """

    weight: float
    length_bonus: float
    metric: str
    before: float
    after: float
    held_out: float | None
    sentences: int


def tune(
    groups: Sequence[Sequence[Hypothesis]],
    references: Sequence[Sequence[str]],
    score: Scorer,
    *,
    measure: str,
    metric: str,
) -> Tuning:
    """Finds weight and length bonus on a development set.

    Args:
        groups: each id's hypotheses, in the order of their list; the ids number the references from 0.
        references: one or more translations of the whole set, each with a line for each sentence.
        score: scores sentences; asked only when all else is in order.
        measure: `logprob`, `mean`, `penlp` or `slor`.
        metric: `chrf`, `bleu` or `bleu-zh`.

    Raises:
        InputError: sacrebleu is not installed, there are no hypotheses, an id has no reference, or the references
            differ in length.
    """
    measured = _Quality(metric)
    _check(groups, references)
    sentences = [_Sentence.of(group, references) for group in score_groups(groups, score, measure)]
    old = (0.0, 0.0)
    best = _best_point(sentences, measured)
    held_out = None
    if len(sentences) > 1:
        halves = sentences[::2], sentences[1::2]
        crossed = [(_best_point(a, measured), b) for a, b in (halves, halves[::-1])]
        held_out = measured.of(np.sum([_counts(half, [point], measured)[0] for point, half in crossed], axis=0))
    before, after = (measured.of(counts) for counts in _counts(sentences, [old, best], measured))
    if after <= before:
        best, after = old, before
    return Tuning(*best, measured.signature(), before, after, held_out, len(sentences))


def _check(groups: Sequence[Sequence[Hypothesis]], references: Sequence[Sequence[str]]) -> None:
    if not groups:
        raise InputError("no hypotheses to tune on")
    lengths = [len(lines) for lines in references]
    if len(set(lengths)) != 1:
        raise InputError(f"references must have the same number of lines: {', '.join(map(str, lengths)) or 'none'}")
    for group in groups:
        name = group[0].id
        if not (name.isdecimal() and int(name) < lengths[0]):
            raise InputError(
                f"id {name} has no reference: ids are line numbers of the references, from 0 to {lengths[0] - 1}"
            )


@dataclass(frozen=True)
class _Sentence:
    """One id: its hypotheses as arrays of shape (K,), its references, and the statistics asked for so far."""

    totals: Floats
    values: Floats
    lengths: Floats
    texts: list[str]
    references: list[str]
    statistics: dict[str, Floats] = field(default_factory=dict)

    @classmethod
    def of(cls, group: Sequence[Scored], references: Sequence[Sequence[str]]) -> _Sentence:
        return cls(
            totals=np.array([scored.hypothesis.total for scored in group]),
            values=np.array([scored.value for scored in group]),
            lengths=np.array([scored.characters for scored in group], np.float64),
            texts=[scored.hypothesis.text for scored in group],
            references=[lines[int(group[0].hypothesis.id)] for lines in references],
        )

    def chosen(self, weights: Floats, bonuses: Floats) -> NDArray[np.intp]:
        """Returns which hypothesis each of P points ranks first, shape (P,); of equals the first, as in rerank."""
        totals = self.totals + weights[:, None] * self.values + bonuses[:, None] * self.lengths  # (P, K)
        first: NDArray[np.intp] = totals.argmax(axis=1)
        return first

    def counts(self, text: str, quality: _Quality) -> Floats:
        if text not in self.statistics:
            self.statistics[text] = quality.statistics(text, self.references)
        return self.statistics[text]


def _best_point(sentences: Sequence[_Sentence], quality: _Quality) -> Point:
    # Where one standard deviation of weighted measure, or of rewarded length, weighs as much as one of the totals.
    spread = _spread([s.totals for s in sentences])
    weight = spread / _spread([s.values for s in sentences])
    bonus = spread / _spread([s.lengths for s in sentences])
    weights = [0.0, *(weight * factor for factor in _COARSE)]
    bonuses = [bonus * factor for factor in _COARSE]
    w, b = _middle_of_best(weights, [*(-x for x in bonuses[::-1]), 0.0, *bonuses], sentences, quality)
    return _middle_of_best([w * factor for factor in _FINE], [b * factor for factor in _FINE], sentences, quality)


def _middle_of_best(
    weights: Sequence[float], bonuses: Sequence[float], sentences: Sequence[_Sentence], quality: _Quality
) -> Point:
    """Returns the best point of a grid; of equals the one in their middle, far from where it gets worse."""
    # In four digits, as they are printed: what is told is what was measured.
    points = [(float(f"{w:.4g}"), float(f"{b:.4g}")) for w, b in product(weights, bonuses)]
    scores = np.array([quality.of(counts) for counts in _counts(sentences, points, quality)])
    scores = scores.reshape(len(weights), len(bonuses))
    tied = np.argwhere(scores == scores.max())  # (N, 2)
    nearest = np.square(tied - tied.mean(axis=0)).sum(axis=1).argmin()
    i, j = map(int, tied[nearest])
    return points[i * len(bonuses) + j]


def _counts(sentences: Sequence[_Sentence], points: Sequence[Point], quality: _Quality) -> Floats:
    """Returns the summed statistics of what each of P points ranks first, shape (P, S)."""
    weights, bonuses = np.array(points).T  # (P,) each
    total = np.zeros(1)
    for sentence in sentences:
        chosen = sentence.chosen(weights, bonuses)  # (P,)
        picked, inverse = np.unique(chosen, return_inverse=True)
        rows = np.stack([sentence.counts(sentence.texts[i], quality) for i in picked])
        total = total + rows[inverse]  # (P, S)
    return total


def _spread(arrays: Sequence[Floats]) -> float:
    """Returns the standard deviation within arrays; 1 where nothing differs."""
    finite = [array[np.isfinite(array)] for array in arrays]
    variances = [float(array.var()) for array in finite if len(array) > 1]
    spread = math.sqrt(sum(variances) / len(variances)) if variances else 0.0
    return spread if spread > 0 else 1.0


class _Quality:
    """A metric of sacrebleu, as counts that add up and the score that they give."""

    def __init__(self, name: str) -> None:
        try:
            from sacrebleu import BLEU, CHRF
        except ImportError:
            raise InputError("tuning needs sacrebleu: pip install 'charlm[tune]'") from None
        if name not in set(Metric):
            raise InputError(f"metric {name!r}: must be one of {', '.join(Metric)}")
        self._name = name
        self._metric: Any = (
            CHRF() if name == Metric.CHRF else BLEU(tokenize="zh" if name == Metric.BLEU_ZH else "13a")
        )

    # What both methods call is what sacrebleu's own bootstrap adds sentences up by; it has no public name.

    def statistics(self, text: str, references: Sequence[str]) -> Floats:
        """Returns the counts of one hypothesis, shape (S,)."""
        [counts] = self._metric._extract_corpus_statistics([text], [[reference] for reference in references])
        return np.array(counts, np.float64)

    def of(self, counts: Floats) -> float:
        """Returns the corpus score (0 to 100) that summed counts give."""
        score: float = self._metric._compute_score_from_stats(counts.tolist()).score
        return score

    def signature(self) -> str:
        """Returns the metric's name and settings, as sacrebleu writes them; to be asked after `statistics`."""
        name = "chrF2" if self._name == Metric.CHRF else "BLEU"
        return f"{name}|{self._metric.get_signature()}"
