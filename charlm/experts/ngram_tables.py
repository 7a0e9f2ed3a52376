"""The tables of an n-gram model: how they are counted, discounted, stored and checked; see `experts/ngram`.

An n-gram is stored as one integer: the place of its first n-1 symbols in the sorted table of (n-1)-grams, times V,
plus its last symbol. So nothing overflows at any order or vocabulary, a table is a sorted array, and all places of
a text are looked up together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.text.vocabulary import Ids

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Small = NDArray[np.int32]  # one for each symbol of a text; more than 2^31 are beyond what counting has memory for

_PIECE_SYMBOLS = 1 << 18  # looked at together


class Opening(NamedTuple):
    """The n-grams of one order that begin with `first_id`, by how often they occur.

    Attributes:
        key: which row of the table is the first of them.
        context: which (n-1)-gram is the first that begins with `first_id`.
        alpha: as in `Table`.
        gamma: as in `Table`.
    """

    key: int
    context: int
    alpha: NDArray[np.float32]
    gamma: NDArray[np.float32]


class Table(NamedTuple):
    """All n-grams of one order n that the training text has.

    Attributes:
        keys: sorted; see the module.
        alpha: (a(h w) - D) / a(h ·) of each.
        gamma: γ(h) of each (n-1)-gram h; 1 where nothing follows it.
        first: where the n-grams that begin with each h stand: from first[h] to first[h + 1].
        opening: those where a text begins; None: they are no others.
    """

    keys: Ints
    alpha: NDArray[np.float32]
    gamma: NDArray[np.float32]
    first: Ints
    opening: Opening | None = None

    @classmethod
    def of(cls, keys: Ints, alpha: NDArray[np.float32], gamma: NDArray[np.float32], vocabulary_size: int) -> Table:
        """Makes a table, and notes where the n-grams of each context stand."""
        numbers = np.bincount(keys // vocabulary_size, minlength=len(gamma))
        return cls(keys, alpha, gamma, np.concatenate(([0], numbers.cumsum())))

    def adds_up(self) -> bool:
        """Says whether all are probabilities, and those after each context add up to one."""
        pairs = [(self.alpha, self.gamma, self.first)]
        if (opening := self.opening) is not None:
            first = self.first[opening.context : opening.context + len(opening.gamma) + 1] - opening.key
            pairs.append((opening.alpha, opening.gamma, first))
        return all(_adds_up(*pair) for pair in pairs)

    def opens(self, contexts: Ints) -> NDArray[np.bool_]:
        """Says which contexts begin with `first_id`, and have entries in `opening`."""
        if self.opening is None:
            return np.zeros(len(contexts), np.bool_)
        return (contexts >= self.opening.context) & (contexts < self.opening.context + len(self.opening.gamma))

    def find(self, contexts: Ints | Small, symbols: Ints | Small, vocabulary_size: int) -> Ints:
        """Returns which rows the n-grams of these contexts and last symbols are; -1 where there is none."""
        packed = contexts.astype(np.int64) * vocabulary_size + symbols
        found = np.minimum(np.searchsorted(self.keys, packed), len(self.keys) - 1)
        there: Ints = np.where((contexts >= 0) & (self.keys[found] == packed), found, -1)
        return there


def count_tables(sequences: Sequence[Ids], vocabulary_size: int, first_id: int, order: int) -> list[Table]:
    """Counts the n-grams of 1 … `order` symbols; the list ends with the longest that there are.

    Args:
        sequences: the training text: its lines, or all of it as one, ids of shape (n_i,).
        vocabulary_size: V.
        first_id: the symbol before the first of each sequence; no n-gram reaches beyond it.
        order: the longest n-gram.
    """
    V = vocabulary_size
    symbols, depth = lay_out(sequences, first_id)
    tables: list[Table] = []
    keys, n_contexts = np.arange(V), 1  # begin with the single symbols; their one context is the empty one
    opening = np.array([first_id, first_id + 1])  # from where to where n-grams begin with `first_id`
    ranks = symbols  # which row of `keys` is the n-gram that ends at each place
    ending = symbols[depth >= 1]  # the same, only of those places where one ends
    for n in range(1, order):
        longer = np.flatnonzero(depth >= n)  # where each (n+1)-gram ends
        if not len(longer):
            break
        next_keys, first, ending = _distinct(ranks[longer - 1].astype(np.int64) * V + symbols[longer])
        counts = np.bincount(ranks[longer[first]], minlength=len(keys))  # distinct symbols before each n-gram
        if n == 1:
            tables.append(_table(keys, counts, V, n_contexts))
        else:
            counts += np.bincount(ranks[depth == n - 1], minlength=len(keys))  # beginnings
            contexts, opening = opening, np.searchsorted(keys, opening * V)
            occurrences = np.bincount(ranks[depth >= n - 1], minlength=len(keys))
            table = _table(keys, counts, V, n_contexts)
            tables.append(_with_opening(table, occurrences, counts, contexts, opening, V))
        keys, n_contexts = next_keys, len(keys)
        ranks = np.full(len(symbols), -1, np.int32)
        ranks[longer] = ending
    counts = np.bincount(ending, minlength=len(keys))
    tables.append(_table(keys, counts, V, n_contexts))
    return tables


def table_arrays(tables: Sequence[Table]) -> dict[str, NDArray[Any]]:
    """Returns the tables, for a file."""
    arrays: dict[str, NDArray[Any]] = {}
    for n, table in enumerate(tables, 1):
        arrays |= {f"{name}.{n}": getattr(table, name) for name in ("keys", "alpha", "gamma")}
        if table.opening is not None:
            arrays |= {f"opening_{name}.{n}": getattr(table.opening, name) for name in ("alpha", "gamma")}
    return arrays


def read_tables(arrays: Mapping[str, NDArray[Any]], vocabulary_size: int, first_id: int, order: int) -> list[Table]:
    """Makes tables of what `table_arrays` gave, which may come from a stranger.

    Raises:
        ValueError: the arrays are no tables of n-grams of at most this order over so many symbols.
    """
    tables: list[Table] = []
    n_contexts, used, opening = 1, 0, np.array([first_id, first_id + 1])
    for n in range(1, sum(name.startswith("keys.") for name in arrays) + 1):
        try:
            keys, alpha, gamma = (arrays[f"{name}.{n}"] for name in ("keys", "alpha", "gamma"))
        except KeyError as error:
            raise ValueError(f"{error.args[0]} is missing") from None
        if n > order or [str(a.dtype) for a in (keys, alpha, gamma)] != ["int64", "float32", "float32"]:
            raise ValueError(f"no table of {n}-grams is expected, or not of these types")
        if keys.ndim != 1 or alpha.shape != keys.shape or gamma.shape != (n_contexts,) or not len(keys):
            raise ValueError(f"the tables of {n}-grams do not fit each other")
        if n == 1 and len(keys) != vocabulary_size:
            raise ValueError(f"{len(keys)} symbols, the vocabulary has {vocabulary_size}")
        # They are copied, since what is mapped from a file changes, or is gone, with the file. They are checked
        # before as well: a file with holes claims any length, and a copy of a hole takes memory.
        for copy in (False, True):
            if copy:
                keys, alpha, gamma = keys.copy(), alpha.copy(), gamma.copy()
            if keys[0] < 0 or keys[-1] >= n_contexts * vocabulary_size or not _is_ascending(keys):
                raise ValueError(f"the {n}-grams are not in order")
        table = Table.of(keys, alpha, gamma, vocabulary_size)
        used += 3
        if n > 1:
            contexts, opening = opening, np.searchsorted(keys, opening * vocabulary_size)
            if f"opening_alpha.{n}" in arrays and f"opening_gamma.{n}" in arrays:
                pair = [arrays[f"opening_{name}.{n}"] for name in ("alpha", "gamma")]
                sizes = [(int(stop - start),) for start, stop in (opening, contexts)]
                if [a.shape for a in pair] != sizes or {str(a.dtype) for a in pair} != {"float32"}:
                    raise ValueError(f"the {n}-grams of beginnings do not fit the others")
                alpha, gamma = (a.copy() for a in pair)
                table = table._replace(opening=Opening(int(opening[0]), int(contexts[0]), alpha, gamma))
                used += 2
        if not table.adds_up():
            raise ValueError(f"the probabilities of {n}-grams do not add up to one")
        tables.append(table)
        n_contexts = len(keys)
    if not tables or used != len(arrays):
        raise ValueError("the tables are not whole")
    return tables


def lay_out(sequences: Sequence[Ids], first_id: int) -> tuple[Small, Small]:
    """Lays sequences behind each other, `first_id` before each.

    Returns:
        The symbols, and how many symbols of its own sequence stand before each.
    """
    lengths = np.array([len(sequence) + 1 for sequence in sequences], np.int64)
    starts = np.cumsum(lengths) - lengths
    depth = np.arange(lengths.sum(), dtype=np.int32)
    depth -= np.repeat(starts.astype(np.int32), lengths)
    symbols = np.full(len(depth), first_id, np.int32)
    symbols[depth > 0] = np.concatenate([symbols[:0], *sequences])
    return symbols, depth


def _distinct(keys: Ints) -> tuple[Ints, Ints, Small]:
    """Returns the distinct ones in order, where one of each stands, and which of them each is.

    As `np.unique` does, in half of the time: PyTorch sorts on all cores, and any one of the equal will do.
    """
    import torch  # for counting alone: what was counted is used without it

    ordered, order = (part.numpy() for part in torch.from_numpy(keys).sort())
    begins = np.concatenate(([True], ordered[1:] != ordered[:-1]))
    distinct, first = ordered[begins], order[begins]
    del keys, ordered
    which = np.empty(len(order), np.int32)
    which[order] = begins.cumsum(dtype=np.int32) - 1
    return distinct, first, which


def _table(keys: Ints, counts: Ints, vocabulary_size: int, n_contexts: int) -> Table:
    contexts = keys // vocabulary_size
    discounts = _discounts(counts)[np.minimum(counts, 3)]
    total = np.bincount(contexts, counts, n_contexts)
    taken = np.bincount(contexts, discounts, n_contexts)
    gamma = np.divide(taken, total, out=np.ones(n_contexts), where=total > 0)
    alpha = np.divide(counts - discounts, total[contexts], out=np.zeros(len(keys)), where=total[contexts] > 0)
    return Table.of(keys, alpha.astype(np.float32), gamma.astype(np.float32), vocabulary_size)


def _with_opening(
    table: Table, occurrences: Ints, counts: Ints, contexts: Ints, rows: Ints, vocabulary_size: int
) -> Table:
    """Adds the n-grams that begin with `first_id`, if they occur more often than they are counted.

    Args:
        table: of all n-grams.
        occurrences: how often each occurs.
        counts: what each is counted for.
        contexts: from which (n-1)-gram on to which they begin with `first_id`.
        rows: the same of the n-grams.
        vocabulary_size: V.
    """
    (first_context, end), chosen = contexts.tolist(), slice(*rows.tolist())
    if (occurrences[chosen] == counts[chosen]).all():
        return table
    keys = table.keys[chosen] - first_context * vocabulary_size
    own = _table(keys, occurrences[chosen], vocabulary_size, end - first_context)
    return table._replace(opening=Opening(chosen.start, first_context, own.alpha, own.gamma))


def _discounts(counts: Ints) -> Floats:
    """Returns what is taken from a count of 0, 1, 2, and 3 or more, shape (4,), by Chen and Goodman's estimate.

    It needs counts of 1, 2, 3 and 4; where one is lacking, KenLM's fallback is taken, as where a discount would not
    be positive: a context that gives nothing away leaves symbols that were not seen after it without probability.
    """
    n = np.bincount(np.minimum(counts, 5), minlength=6).astype(np.float64)
    if n[1:5].all():
        y = n[1] / (n[1] + 2 * n[2])
        d = np.array([0, 1 - 2 * y * n[2] / n[1], 2 - 3 * y * n[3] / n[2], 3 - 4 * y * n[4] / n[3]])
        if (d[1:] > 0).all():
            return d
    return np.array([0, 0.5, 1, 1.5])


def _adds_up(alpha: NDArray[np.float32], gamma: NDArray[np.float32], first: Ints) -> bool:
    """Says whether all are probabilities, and those after each context add up to one; see `Table`."""
    if min(alpha.min(initial=0), gamma.min(initial=0)) < 0:
        return False
    sums = gamma.astype(np.float64)
    filled = np.flatnonzero(first[:-1] < first[1:])
    sums[filled] += np.add.reduceat(alpha, first[:-1][filled], dtype=np.float64) if len(filled) else 0
    return bool(np.abs(sums - 1).max(initial=0) <= 1e-6)


def _is_ascending(keys: Ints) -> bool:
    """Says whether each key is larger than the one before; stops at the first piece where one is not."""
    pieces = (keys[first : first + _PIECE_SYMBOLS + 1] for first in range(0, len(keys), _PIECE_SYMBOLS))
    return all((piece[1:] > piece[:-1]).all() for piece in pieces)
