"""Is what a model calls 20 % likely what comes in 20 % of the cases? Over all symbols, not only the likeliest.

At each of N places every symbol of the vocabulary has a predicted probability p, and comes or does not come. The
predictions are sorted into bins; in each, the mean of p is held against the share that came.

A bin covers a factor of two in the odds p / (1 - p). Most predictions are tiny: bins of equal numbers would all lie
where nobody looks, and bins that are equal in p or in log p would put what is all but impossible, or all but
certain, into one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.analysis.characters import Floats, look_at
from charlm.experts.expert import Reading
from charlm.experts.mixture import Mixture
from charlm.scoring.log_probs import ReadOut, cut_sequences, text_log_probs
from charlm.text.corpus import Split
from charlm.text.vocabulary import Ids, Vocabulary

_MOST_PREDICTIONS = 1 << 25  # of all symbols at all places; places from all over the text are looked at
_TOGETHER = 1 << 16  # places whose bins are held at once, about 40 MB
_LEAST, _MOST = -16, 8  # log2 of the odds between which the bins lie; beyond each end is one more
_BINS = _MOST - _LEAST + 2
_CACHED_NUMBERS = 1 << 16  # predictions that are sorted together, so that they stay in the cache


@dataclass(frozen=True)
class CalibrationBin:
    """Predictions of like probability.

    Attributes:
        predicted: the mean of their probabilities.
        observed: the share of them that came true.
        count: how many there are, over all symbols of the vocabulary at all places.
    """

    predicted: float
    observed: float
    count: int


def calibrate(mixture: Mixture, vocabulary: Vocabulary, split: Split) -> tuple[list[CalibrationBin], float]:
    """Compares predicted probabilities with what came.

    Returns:
        The bins that have any predictions, the least likely first, and the expected calibration error

            1/2N Σ_bins count · |predicted - observed|,

        which is the share of the probability that stands in the wrong bins: 0 is perfect, and for a model that is
        as sure of one symbol everywhere it is by how much it is too sure.
    """
    split = look_at(vocabulary, split, max(1, _MOST_PREDICTIONS // len(vocabulary)))
    sequences = len(cut_sequences(vocabulary, split.ids, split.parts))
    lines = max(1, _TOGETHER * sequences // len(split.ids))
    read_out = _sort_into_bins(mixture)
    sums = np.zeros((3, _BINS))  # predictions, their probabilities, those that came true
    for _, found in text_log_probs(mixture, vocabulary, split.ids, split.parts, read_out=read_out, lines=lines):
        sums += found.sum(0).reshape(3, _BINS)
    return summarize(sums, len(split.ids))


def summarize(sums: Floats, places: int) -> tuple[list[CalibrationBin], float]:
    """Makes bins and error, see `calibrate`, of the sums of each bin.

    Args:
        sums: predictions, their probabilities, and those that came true, shape (3, bins).
        places: N.
    """
    filled = sums[:, sums[0] > 0]
    bins = [CalibrationBin(p / n, came / n, int(n)) for n, p, came in filled.T.tolist()]
    return bins, float(np.abs(sums[1] - sums[2]).sum()) / (2 * places)


def _sort_into_bins(mixture: Mixture) -> ReadOut:
    """Returns a function that gives of each place the sums of each bin: (T, B, 3 · bins)."""

    def read_out(readings: Sequence[Reading], targets: Ids) -> Floats:
        logits = mixture.logits([reading.reshape(-1, reading.shape[-1]) for reading in readings])  # (T·B, V)
        flat = np.maximum(targets.reshape(-1), 0)
        result = np.empty((len(flat), 3 * _BINS))
        rows = max(1, _CACHED_NUMBERS // logits.shape[1])
        for first in range(0, len(flat), rows):
            part = slice(first, first + rows)
            result[part] = bin_predictions(logits[part], flat[part]).reshape(-1, 3 * _BINS)
        return result.reshape(*targets.shape, -1)

    return read_out


def bin_predictions(logits: NDArray[np.floating[Any]], targets: Ids) -> Floats:
    """Sorts the predictions of some places into bins.

    Args:
        logits: shape (N, V).
        targets: what came, shape (N,).

    Returns:
        Predictions, their probabilities, and those that came true, of each place and bin: (N, 3, bins).
    """
    N = len(logits)
    p = logits - logits.max(1, keepdims=True)
    np.exp(p, out=p)
    p /= p.sum(1, keepdims=True)
    with np.errstate(divide="ignore"):  # odds of nothing and of certainty
        odds = np.log2(p / np.maximum(1 - p, 0))
    bins = np.clip(np.floor(odds), _LEAST - 1, _MOST).astype(np.int64) - (_LEAST - 1)  # (N, V)
    which = bins + _BINS * np.arange(N)[:, None]
    came = np.zeros((N, _BINS))
    came[np.arange(N), bins[np.arange(N), targets]] = 1
    counts, sums = (np.bincount(which.ravel(), w, N * _BINS).reshape(N, _BINS) for w in (None, p.ravel()))
    return np.stack([counts.astype(np.float64), sums, came], 1)
