"""Tuning: the weight and length bonus that maximise the chrF or BLEU of a development set.

    for each point (W, B) of a grid: argmax over each id of total + W · charlm + B · characters → corpus score

The statistics behind chrF and BLEU (counts of n-grams) add up over sentences. They are computed once for each
hypothesis that some point ranks first, so a point costs one sum. A coarse grid with steps of a factor 2 is followed
by a fine one around its best point, with steps of the fourth root of 2.
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

_COARSE_FACTORS = tuple(2.0**k for k in range(-6, 7))
_FINE_FACTORS = tuple(2.0 ** (k / 4) for k in range(-3, 4))


@dataclass(frozen=True)
class Tuning:
    """The best weight and length bonus for a development set.

    Attributes:
        weight: the weight of the measure, rounded to four digits.
        length_bonus: the bonus for each character, rounded to four digits.
        metric: the name and signature of the metric, as sacrebleu writes them.
        before: the metric (0 to 100) of the hypotheses that the old totals rank first.
        after: the metric of the hypotheses that the new totals rank first.
        held_out: the metric if each half of the sentences is ranked with the values tuned on the other half. It
            estimates the metric on new text. None if there are fewer than two sentences.
        sentences: number of sentences that have hypotheses.
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
    """Finds the best weight and length bonus for a development set.

    Args:
        groups: the hypotheses of each id, in the order of their list; the ids number the references from 0.
        references: one or more translations of the whole set, each with one line per sentence.
        score: scores sentences; called only after all other arguments are checked.
        measure: `logprob`, `mean`, `penlp` or `slor`.
        metric: `chrf`, `bleu` or `bleu-zh`.

    Raises:
        InputError: sacrebleu is not installed, there are no hypotheses, an id has no reference, or the references
            differ in length.
    """
    corpus_metric = _CorpusMetric(metric)
    _check(groups, references)
    sentences = [_Sentence.of(group, references) for group in score_groups(groups, score, measure)]
    old = (0.0, 0.0)
    best = _best_point(sentences, corpus_metric)
    held_out = None
    if len(sentences) > 1:
        halves = sentences[::2], sentences[1::2]
        crossed = [(_best_point(a, corpus_metric), b) for a, b in (halves, halves[::-1])]
        held_out = corpus_metric.score(
            np.sum([_corpus_statistics(half, [point], corpus_metric)[0] for point, half in crossed], axis=0)
        )
    before, after = (
        corpus_metric.score(statistics) for statistics in _corpus_statistics(sentences, [old, best], corpus_metric)
    )
    if after <= before:
        best, after = old, before
    return Tuning(*best, corpus_metric.signature(), before, after, held_out, len(sentences))


def _check(groups: Sequence[Sequence[Hypothesis]], references: Sequence[Sequence[str]]) -> None:
    if not groups:
        raise InputError("there are no hypotheses to tune on")
    lengths = [len(lines) for lines in references]
    if len(set(lengths)) != 1:
        raise InputError(f"references must have the same number of lines: {', '.join(map(str, lengths)) or 'none'}")
    for group in groups:
        name = group[0].id
        if not (name.isdecimal() and len(name) < 19 and int(name) < lengths[0]):
            raise InputError(
                f"id {name[:100]} has no reference: ids are line numbers of the references, from 0 to "
                f"{lengths[0] - 1}"
            )


@dataclass(frozen=True)
class _Sentence:
    """One id: its K hypotheses as arrays of shape (K,), its references, and the statistics computed so far."""

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

    def ranked_first(self, weights: Floats, bonuses: Floats) -> NDArray[np.intp]:
        """Returns which hypothesis each of P points ranks first, shape (P,); ties as in `reranked`."""
        totals = self.totals + weights[:, None] * self.values + bonuses[:, None] * self.lengths  # (P, K)
        indices: NDArray[np.intp] = totals.argmax(axis=1)
        return indices

    def statistics_of(self, text: str, metric: _CorpusMetric) -> Floats:
        if text not in self.statistics:
            self.statistics[text] = metric.statistics(text, self.references)
        return self.statistics[text]


def _best_point(sentences: Sequence[_Sentence], metric: _CorpusMetric) -> Point:
    # The values at which the weighted measure, or the length bonus, has the standard deviation of the totals.
    spread = _spread([s.totals for s in sentences])
    weight = spread / _spread([s.values for s in sentences])
    bonus = spread / _spread([s.lengths for s in sentences])
    weights = [0.0, *(weight * factor for factor in _COARSE_FACTORS)]
    bonuses = [bonus * factor for factor in _COARSE_FACTORS]
    w, b = _best_of_grid(weights, [*(-x for x in bonuses[::-1]), 0.0, *bonuses], sentences, metric)
    return _best_of_grid(
        [w * factor for factor in _FINE_FACTORS], [b * factor for factor in _FINE_FACTORS], sentences, metric
    )


def _best_of_grid(
    weights: Sequence[float], bonuses: Sequence[float], sentences: Sequence[_Sentence], metric: _CorpusMetric
) -> Point:
    """Returns the best point of a grid; of tied points the one in their middle, farthest from worse ones."""
    # To four digits, as they are printed, so that the reported metric belongs to what is printed.
    points = [(float(f"{w:.4g}"), float(f"{b:.4g}")) for w, b in product(weights, bonuses)]
    scores = np.array([metric.score(statistics) for statistics in _corpus_statistics(sentences, points, metric)])
    scores = scores.reshape(len(weights), len(bonuses))
    tied = np.argwhere(scores == scores.max())  # (N, 2)
    nearest = np.square(tied - tied.mean(axis=0)).sum(axis=1).argmin()
    i, j = map(int, tied[nearest])
    return points[i * len(bonuses) + j]


def _corpus_statistics(sentences: Sequence[_Sentence], points: Sequence[Point], metric: _CorpusMetric) -> Floats:
    """Returns the summed statistics of the hypotheses that each of P points ranks first, shape (P, S)."""
    weights, bonuses = np.array(points).T  # (P,) each
    total = np.zeros(1)
    for sentence in sentences:
        chosen = sentence.ranked_first(weights, bonuses)  # (P,)
        picked, inverse = np.unique(chosen, return_inverse=True)
        rows = np.stack([sentence.statistics_of(sentence.texts[i], metric) for i in picked])
        total = total + rows[inverse]  # (P, S)
    return total


def _spread(arrays: Sequence[Floats]) -> float:
    """Returns the standard deviation within arrays; 1 if nothing differs."""
    finite = [array[np.isfinite(array)] for array in arrays]
    variances = [float(array.var()) for array in finite if len(array) > 1]
    spread = math.sqrt(sum(variances) / len(variances)) if variances else 0.0
    return spread if spread > 0 else 1.0


class _CorpusMetric:
    """A metric of sacrebleu as statistics of hypotheses, which add up, and the score of their sum."""

    def __init__(self, name: str) -> None:
        try:
            from sacrebleu import BLEU, CHRF
        except ImportError:
            raise InputError("tuning needs sacrebleu; run `pip install 'charlm[tune]'`") from None
        if name not in set(Metric):
            raise InputError(f"metric {name!r}: must be one of {', '.join(Metric)}")
        self._name = name
        self._metric: Any = (
            CHRF() if name == Metric.CHRF else BLEU(tokenize="zh" if name == Metric.BLEU_ZH else "13a")
        )

    # Both methods call what sacrebleu's own bootstrap uses to add up sentences; it has no public name.

    def statistics(self, text: str, references: Sequence[str]) -> Floats:
        """Returns the statistics of one hypothesis, shape (S,)."""
        [statistics] = self._metric._extract_corpus_statistics([text], [[reference] for reference in references])
        return np.array(statistics, np.float64)

    def score(self, statistics: Floats) -> float:
        """Returns the corpus score (0 to 100) of summed statistics."""
        score: float = self._metric._compute_score_from_stats(statistics.tolist()).score
        return score

    def signature(self) -> str:
        """Returns the metric's name and settings, as sacrebleu writes them; call it after `statistics`."""
        name = "chrF2" if self._name == Metric.CHRF else "BLEU"
        return f"{name}|{self._metric.get_signature()}"
