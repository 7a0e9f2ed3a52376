"""Counts of what follows contexts of several lengths, interpolated: what n-grams and word contexts share.

For contexts h_1, h_2, …, each longer than the one before it, with the counts a, and α and γ by Chen and Goodman's
discounts (`ngram_tables.Probabilities`):

    p(w) = Σ_n α(h_n w) Π_{m>n} γ(h_m)

over the contexts that are known; what lies below them all is the distribution of single symbols.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from charlm.experts.ngram_kernel import NgramKernel, compile_ngrams
from charlm.experts.ngram_tables import Ints, Table

_SMALLEST = np.finfo(np.float32).tiny  # in place of a probability that float32 rounds to nothing


class Interpolated:
    """Predicts from tables of counts.

    Attributes:
        vocabulary_size: V.
        tables: the single symbols, and what follows contexts of each length, the shortest first. A context is known
            by its place; a reading has that of each length, -1 where there is none, and at its end how many symbols
            the text has, (K + 1,).
    """

    vocabulary_size: int
    tables: list[Table]

    @cached_property
    def kernel(self) -> NgramKernel | None:
        """The compiled code over these tables; None where there is no compiler."""
        return compile_ngrams(self.tables, self.lowest)

    @cached_property
    def lowest(self) -> NDArray[np.float32]:
        """The probability of every symbol where no context is known, (V,)."""
        single = self.tables[0]
        alpha, gamma = single.probabilities.alpha, single.probabilities.gamma
        lowest: NDArray[np.float32] = alpha + gamma[0] / np.float32(self.vocabulary_size)
        return lowest

    def log_probs(self, reading: Ints) -> NDArray[np.float32]:
        """Returns the log-probability of every symbol after each place: (N, K + 1) → (N, V)."""
        return to_log_probs(self.distributions(reading))

    def distributions(self, reading: Ints) -> NDArray[np.float32]:
        """Returns the probability of every symbol after each context.

        Multiplied out, p is Σ_n alpha_n Π_{m>n} gamma_m, so all V symbols are touched once, and beyond that only
        those that were seen after the context.

        Args:
            reading: see the class, (N, K + 1).

        Returns:
            Probabilities, shape (N, V).
        """
        if self.kernel is not None:
            return self.kernel.distributions(reading)
        places, read = reading[:, :-1], reading[:, -1]
        known = known_lengths(places)
        weight = np.ones(len(places), np.float32)  # Π_{m>n} gamma_m
        parts = []
        for n in range(int(known.max(initial=0)) + 1, 1, -1):
            table, rows = self.tables[n - 1], np.flatnonzero(known >= n - 1)
            if table.opening is not None:  # all of the text is the context
                whole = (known[rows] == n - 1) & (read[rows] == n - 1) & table.opens(places[rows, n - 2])
                begun, rows = rows[whole], rows[~whole]
                contexts = places[begun, n - 2]
                found = table.opening.probabilities
                parts.append((table, found.alpha, table.opening.row, begun, contexts, weight[begun]))
                weight[begun] *= found.gamma[contexts - table.opening.context]
            contexts = places[rows, n - 2]
            parts.append((table, table.probabilities.alpha, 0, rows, contexts, weight[rows]))
            weight[rows] *= table.probabilities.gamma[contexts]
        p: NDArray[np.float32] = np.multiply.outer(weight, self.lowest)
        for table, alphas, row, rows, contexts, weights in parts:  # one at a time: V entries for a row there may be
            starts = table.first[contexts].astype(np.int64)
            counts = table.first[contexts + 1] - starts
            entries = np.repeat(starts - (counts.cumsum() - counts), counts) + np.arange(counts.sum())
            alpha = alphas[entries - row] * np.repeat(weights, counts)
            p[np.repeat(rows, counts), table.symbols[entries]] += alpha
        return p


def to_log_probs(p: NDArray[np.float32]) -> NDArray[np.float32]:
    """Takes the logarithm, in place."""
    np.maximum(p, _SMALLEST, out=p)
    return np.log(p, out=p)


def known_lengths(places: Ints) -> Ints:
    """Returns the length of the longest known context at each place: (N, K) → (N,)."""
    known: Ints = (places >= 0).cumprod(1).sum(1)  # a context is known only where the shorter ones are
    return known
