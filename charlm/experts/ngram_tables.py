"""The tables of an n-gram model: how they are counted, discounted, stored and checked; see `experts/ngram`.

The n-grams of one order are the leaves of a tree: after each (n-1)-gram stand the symbols that follow it, in order,
and how often. Those of one order lie in one array, so an n-gram is known by its place there, which names it as the
context of (n+1)-grams. For each n-gram a table thus holds its last symbol, its count, and how many (n+1)-grams it
begins: three bytes, where the vocabulary has at most 256 symbols. All probabilities follow from the counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.text.vocabulary import Ids

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Unsigned = NDArray[Any]  # of the fewest bytes that hold the largest
Places = NDArray[np.uint32]  # a table has fewer than 2^32 n-grams

_UNSIGNED = (np.uint8, np.uint16, np.uint32)
_PIECE_SYMBOLS = 1 << 18  # looked at together
_PARTS = 16  # in which the n-grams of a text are sorted: sorting takes 40 bytes a symbol
_PART_SYMBOLS = 1 << 18  # of a part, at least
_SAMPLED_BITS = 16
_HASH = np.uint64(0x9E3779B97F4A7C15)  # odd, with bits that look random


@dataclass(frozen=True)
class Probabilities:
    """What follows from the counts of the n-grams after some contexts.

    Attributes:
        alpha: (a(h w) - D) / a(h ·) of each n-gram.
        gamma: γ(h) of each context h; 1 where nothing follows it.
    """

    alpha: NDArray[np.float32]
    gamma: NDArray[np.float32]

    @classmethod
    def of(cls, counts: Unsigned, first: NDArray[Any]) -> Probabilities:
        """Discounts counts; those after context h stand from first[h] to first[h + 1]."""
        contexts, n_contexts = _contexts(first), len(first) - 1
        discounts = discount(counts)[np.minimum(counts, 3)]
        total = np.bincount(contexts, counts, n_contexts)
        taken = np.bincount(contexts, discounts, n_contexts)
        gamma = np.divide(taken, total, out=np.ones(n_contexts), where=total > 0)
        alpha = np.divide(counts - discounts, total[contexts], out=np.zeros(len(counts)), where=total[contexts] > 0)
        return cls(alpha.astype(np.float32), gamma.astype(np.float32))


@dataclass(frozen=True)
class Opening:
    """The n-grams of one order that begin with `first_id`, by how often they occur.

    Attributes:
        row: which n-gram of the table is the first of them.
        context: which (n-1)-gram is the first that begins with `first_id`.
        counts: of each.
        first: where the n-grams after each of these contexts stand among them.
    """

    row: int
    context: int
    counts: Unsigned
    first: Ints

    @cached_property
    def probabilities(self) -> Probabilities:
        """What follows from these counts."""
        return Probabilities.of(self.counts, self.first)


@dataclass(frozen=True)
class Table:
    """All n-grams of one order n that the training text has.

    Attributes:
        symbols: the last symbol of each.
        counts: a(h w) of each.
        first: where the n-grams that begin with each (n-1)-gram h stand: from first[h] to first[h + 1].
        opening: those where a text begins; None: they are no others.
    """

    symbols: Unsigned
    counts: Unsigned
    first: Places
    opening: Opening | None = None

    @cached_property
    def probabilities(self) -> Probabilities:
        """What follows from the counts."""
        return Probabilities.of(self.counts, self.first)

    @cached_property
    def keys(self) -> Ints:
        """Each n-gram as one integer, in ascending order: its context, times 2^32, plus its last symbol."""
        return (_contexts(self.first) << 32) + self.symbols

    def opens(self, contexts: Ints) -> NDArray[np.bool_]:
        """Says which contexts begin with `first_id`, and have counts in `opening`."""
        if self.opening is None:
            return np.zeros(len(contexts), np.bool_)
        end = self.opening.context + len(self.opening.first) - 1
        return (contexts >= self.opening.context) & (contexts < end)

    def find(self, contexts: NDArray[Any], symbols: NDArray[Any]) -> Ints:
        """Returns which rows the n-grams of these contexts and last symbols are; -1 where there is none."""
        packed = (contexts.astype(np.int64) << 32) + symbols
        found = np.minimum(np.searchsorted(self.keys, packed), len(self.keys) - 1)
        there: Ints = np.where((contexts >= 0) & (self.keys[found] == packed), found, -1)
        return there


def count_tables(
    sequences: Sequence[Ids], vocabulary_size: int, first_id: int, order: int, part_symbols: int = _PART_SYMBOLS
) -> list[Table]:
    """Counts the n-grams of 1 … `order` symbols; the list ends with the longest that there are.

    Args:
        sequences: the training text: its lines, or all of it as one, ids of shape (n_i,).
        vocabulary_size: V.
        first_id: the symbol before the first of each sequence; no n-gram reaches beyond it.
        order: the longest n-gram.
        part_symbols: so many are sorted together, at least.
    """
    V = vocabulary_size
    text, depth = lay_out(sequences, first_id, order, V)
    tables: list[Table] = []
    symbols, first = smallest(np.arange(V)), np.array([0, V], np.uint32)  # single symbols follow the empty context
    opening = np.array([first_id, first_id + 1])  # from where to where n-grams begin with `first_id`
    ranks: Unsigned = text  # which n-gram ends at each place
    for n in range(1, order + 1):
        longer = None if n == order else _extend(text, depth, ranks, n, len(symbols), V, part_symbols)
        if longer is None:
            occurrences = _tally(ranks, depth >= max(n - 1, 1), len(symbols))
            tables.append(Table(symbols, smallest(occurrences), first))
            break
        counts = longer.lefts
        if n == 1:
            tables.append(Table(symbols, smallest(counts), first))
        else:
            np.add.at(counts, ranks[depth == n - 1], 1)  # beginnings
            contexts, opening = opening, first[opening].astype(np.int64)
            opened = _opening(ranks, depth >= n - 1, counts, first, contexts, opening)
            tables.append(Table(symbols, smallest(counts), first, opened))
        symbols, first, ranks = longer.symbols, longer.first, longer.ranks
    return tables


def estimate_distinct(ids: Ids, longest: int) -> list[float]:
    """Estimates how many distinct n-grams of 1 … `longest` symbols a text has, to about one in a hundred.

    Only n-grams whose hash falls into a sample are told apart, about 2^16 places of the text:

        hash(x_1 … x_n) = (hash(x_1 … x_{n-1}) + x_n + 1) M  modulo 2^64
    """
    shift = max(0, (len(ids) >> _SAMPLED_BITS).bit_length())  # a share of 2^-shift is looked at
    sampled: list[list[NDArray[np.uint64]]] = [[] for _ in range(longest)]
    for begin in range(0, len(ids), _PIECE_SYMBOLS):
        piece = ids[begin : begin + _PIECE_SYMBOLS + longest - 1].astype(np.uint64) + np.uint64(1)
        hashes = np.zeros(min(_PIECE_SYMBOLS, len(ids) - begin), np.uint64)
        for n, found in enumerate(sampled):
            hashes = (hashes[: len(piece) - n] + piece[n : n + len(hashes)]) * _HASH
            found.append(hashes[hashes <= np.uint64((1 << 64 - shift) - 1)])
    return [float(len(np.unique(np.concatenate(found))) << shift) if found else 0.0 for found in sampled]


def table_arrays(tables: Sequence[Table]) -> dict[str, NDArray[Any]]:
    """Returns the tables, for a file."""
    arrays: dict[str, NDArray[Any]] = {}
    for n, table in enumerate(tables, 1):
        arrays[f"counts.{n}"] = table.counts
        if n > 1:
            arrays |= {f"symbols.{n}": table.symbols, f"children.{n}": smallest(np.diff(table.first))}
        if table.opening is not None:
            arrays[f"opening_counts.{n}"] = table.opening.counts
    return arrays


def read_tables(arrays: Mapping[str, NDArray[Any]], vocabulary_size: int, first_id: int, order: int) -> list[Table]:
    """Makes tables of what `table_arrays` gave, which may come from a stranger.

    Raises:
        ValueError: the arrays are no tables of n-grams of at most this order over so many symbols.
    """
    V = vocabulary_size
    tables: list[Table] = []
    used, opening = 0, np.array([first_id, first_id + 1])
    symbols, first = smallest(np.arange(V)), np.array([0, V], np.uint32)
    for n in range(1, sum(name.startswith("counts.") for name in arrays) + 1):
        names = [f"counts.{n}"] if n == 1 else [f"counts.{n}", f"symbols.{n}", f"children.{n}"]
        if missing := [name for name in names if name not in arrays]:
            raise ValueError(f"{missing[0]} is missing")
        parts = [arrays[name] for name in names]
        if n > order or not all(part.ndim == 1 and part.dtype in _UNSIGNED for part in parts):
            raise ValueError(f"a table of {n}-grams is not expected, or its types are wrong")
        used += len(names)
        if n > 1:
            n_contexts = len(symbols)
            counts, symbols, children = parts
            if symbols.dtype != tables[0].symbols.dtype or len(children) != n_contexts:
                raise ValueError(f"the tables of {n}-grams do not fit each other")
            first = starts_of(children)
        else:
            (counts,) = parts
        if n == 1 and len(counts) != V:
            raise ValueError(f"it has {len(counts)} symbols, but the vocabulary has {V}")
        if not len(counts) == len(symbols) == first[-1] > 0:
            raise ValueError(f"the tables of {n}-grams do not fit each other")
        if n == 1:
            counts = counts.copy()
        else:
            symbols, counts = check_followers(symbols, counts, first, V, f"the {n}-grams")
        table = Table(symbols, counts, first)
        if n > 1:
            contexts, opening = opening, first[opening].astype(np.int64)
            if (name := f"opening_counts.{n}") in arrays:
                opened = arrays[name]
                if opened.dtype not in _UNSIGNED or opened.shape != (opening[1] - opening[0],):
                    raise ValueError(f"the {n}-grams of beginnings do not fit the others")
                if not (opened := opened.copy()).all():
                    raise ValueError(f"the {n}-grams of beginnings were never counted")
                table = Table(symbols, counts, first, _make_opening(opened, first, contexts, opening))
                used += 1
        tables.append(table)
    if not tables or used != len(arrays):
        raise ValueError("the tables are incomplete")
    return tables


def check_followers(
    symbols: Unsigned, counts: Unsigned, first: Places, vocabulary_size: int, what: str
) -> tuple[Unsigned, Unsigned]:
    """Returns copies of what may come from a stranger, since what is mapped from a file changes, or goes, with it.

    Each piece is checked before the next one is copied: a file with holes claims any length, and a copy of a hole
    takes memory.

    Args:
        symbols: those that follow each context.
        counts: of each.
        first: where those after each context stand.
        vocabulary_size: V.
        what: for a message.

    Raises:
        ValueError: they are not symbols that ascend after each context, each counted at least once.
    """
    if not len(counts) == len(symbols) == first[-1]:
        raise ValueError(f"{what} do not fit their contexts")
    kept, times = bytearray(), bytearray()  # which grow with what was found right
    last = symbols[:0]
    for begin in range(0, len(symbols), _PIECE_SYMBOLS):
        piece = slice(begin, begin + _PIECE_SYMBOLS)
        here, counted = np.concatenate((last, symbols[piece])), counts[piece].copy()
        if not (counted.all() and _are_in_order(here, begin - len(last), first, vocabulary_size)):
            raise ValueError(f"{what} are not in order, or were never counted")
        kept += here[len(last) :].data
        times += counted.data
        last = here[-1:]
    return np.frombuffer(kept, symbols.dtype), np.frombuffer(times, counts.dtype)


def discount(counts: Unsigned) -> Floats:
    """Returns what is taken from a count of 0, 1, 2, and 3 or more, shape (4,), by Chen and Goodman's estimate.

    It needs counts of 1, 2, 3 and 4; where one is lacking, KenLM's fallback is taken, as where a discount would not
    be positive: a context that gives nothing away leaves symbols that were not seen after it without probability.
    """
    pieces = [counts[begin : begin + _PIECE_SYMBOLS] for begin in range(0, len(counts), _PIECE_SYMBOLS)]
    n = [sum(np.count_nonzero(piece == count) for piece in pieces) for count in range(5)]
    if all(n[1:]):
        y = n[1] / (n[1] + 2 * n[2])
        d = np.array([0, 1 - 2 * y * n[2] / n[1], 2 - 3 * y * n[3] / n[2], 3 - 4 * y * n[4] / n[3]])
        if (d[1:] > 0).all():
            return d
    return np.array([0, 0.5, 1, 1.5])


def lay_out(
    sequences: Sequence[Ids], first_id: int, deepest: int, vocabulary_size: int
) -> tuple[Unsigned, NDArray[np.uint8]]:
    """Lays sequences behind each other, `first_id` before each.

    Returns:
        The symbols, and how many symbols of its own sequence stand before each, up to `deepest`, at most 255.
    """
    lengths = np.array([len(sequence) + 1 for sequence in sequences], np.int64)
    starts = np.cumsum(lengths) - lengths
    depth = np.full(lengths.sum(), deepest, np.uint8)
    for k in range(deepest):
        depth[starts[lengths > k] + k] = k
    symbols = np.full(len(depth), first_id, _type_for(vocabulary_size - 1))
    for start, sequence in zip(starts.tolist(), sequences, strict=True):
        symbols[start + 1 : start + 1 + len(sequence)] = sequence
    return symbols, depth


@dataclass(frozen=True)
class _Longer:
    """The distinct (n+1)-grams of a text.

    Attributes:
        symbols: the last symbol of each.
        first: where those that begin with each n-gram stand.
        ranks: which of them ends at each place, where one does.
        lefts: how many of them end with each n-gram: the distinct symbols before it.
    """

    symbols: Unsigned
    first: Places
    ranks: Places
    lefts: Places


def _extend(
    text: Unsigned,
    depth: NDArray[np.uint8],
    ranks: Unsigned,
    n: int,
    number: int,
    vocabulary_size: int,
    part_symbols: int,
) -> _Longer | None:
    """Finds the (n+1)-grams of a text; None if there are none.

    The places are sorted in parts, by the n-gram before them, so that the sort needs little memory.

    Args:
        text: the symbols.
        depth: as `lay_out` gives it.
        ranks: which n-gram ends at each place, where one does.
        n: their length.
        number: of distinct n-grams.
        vocabulary_size: V.
        part_symbols: so many are sorted together, at least.
    """
    bits = (vocabulary_size - 1).bit_length()
    next_ranks = np.zeros(len(text), np.uint32)
    lefts = np.zeros(number, np.uint32)
    symbols: list[Unsigned] = []
    children: list[Unsigned] = []
    found = 0
    for low, high in _ranges(ranks, number, part_symbols):
        places = _find_places(depth, ranks, n, low, high)
        kind = np.int32 if (high - low) << bits < 1 << 31 else np.int64
        keys: NDArray[Any] = (ranks[places - 1] - np.uint32(low)).astype(kind)
        keys <<= bits
        keys += text[places]
        ordered, order = _sort(keys)
        del keys
        begins = np.concatenate(([True], ordered[1:] != ordered[:-1]))[: len(ordered)]
        distinct = ordered[begins]
        contexts, last = distinct >> bits, (distinct & ((1 << bits) - 1)).astype(text.dtype)
        del ordered, distinct
        places = places[order]
        del order
        np.add.at(lefts, ranks[places[begins]], 1)
        next_ranks[places] = begins.cumsum() + (found - 1)
        symbols.append(last)
        children.append(smallest(np.bincount(contexts, minlength=high - low)))
        found += len(last)
    if not found:
        return None
    return _Longer(np.concatenate(symbols), starts_of(np.concatenate(children)), next_ranks, lefts)


def _find_places(depth: NDArray[np.uint8], ranks: Unsigned, n: int, low: int, high: int) -> Places:
    """Returns the places of a text at which (n+1)-grams end that begin with one of a range of n-grams."""
    found = []
    for begin in range(0, len(depth) - 1, _PIECE_SYMBOLS):
        before = ranks[begin : begin + _PIECE_SYMBOLS][: len(depth) - 1 - begin]
        here = depth[begin + 1 : begin + 1 + len(before)] >= n
        here &= (before >= low) & (before < high)
        found.append((np.flatnonzero(here) + (begin + 1)).astype(np.uint32))
    return np.concatenate(found)


def _ranges(ranks: Unsigned, number: int, part_symbols: int) -> Iterator[tuple[int, int]]:
    """Yields ranges of ranks, from 0 to `number`, that have about as many places each."""
    parts = min(_PARTS, -(-len(ranks) // part_symbols))
    if number > len(ranks) // _PARTS:  # each stands at a few places
        bounds = np.linspace(0, number, parts + 1).astype(int)
    else:
        until = np.cumsum(_tally(ranks, np.True_, number))
        bounds = np.searchsorted(until, np.linspace(0, until[-1], parts + 1)[1:-1]) + 1
        bounds = np.concatenate(([0], bounds, [number]))
    for low, high in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        if low < high:
            yield low, high


def _tally(ranks: Unsigned, ends: NDArray[np.bool_] | np.bool_, number: int) -> Ints:
    """Returns how often each n-gram occurs, of those places where one ends."""
    tally = np.zeros(number, np.int64)
    ends = np.broadcast_to(ends, ranks.shape)
    for begin in range(0, len(ranks), _PIECE_SYMBOLS):
        piece = slice(begin, begin + _PIECE_SYMBOLS)
        np.add.at(tally, ranks[piece][ends[piece]], 1)
    return tally


def _sort(keys: NDArray[Any]) -> tuple[NDArray[Any], Ints]:
    """Returns the keys in order, and where each stood. PyTorch sorts on all cores."""
    import torch  # for counting alone: what was counted is used without it

    ordered, order = torch.from_numpy(keys).sort()
    return ordered.numpy(), order.numpy()


def _opening(
    ranks: Unsigned, ends: NDArray[np.bool_], counts: Unsigned, first: Places, contexts: Ints, rows: Ints
) -> Opening | None:
    """Counts how often the n-grams that begin with `first_id` occur; None if that is what they are counted for.

    Args:
        ranks: which n-gram ends at each place.
        ends: whether one does.
        counts: of all.
        first: of the table.
        contexts: from which (n-1)-gram on to which they begin with `first_id`.
        rows: the same of the n-grams.
    """
    begin, end = rows.tolist()
    ends = ends & (ranks >= begin) & (ranks < end)
    occurrences = np.bincount(ranks[ends] - begin, minlength=end - begin)
    if (occurrences == counts[begin:end]).all():
        return None
    return _make_opening(smallest(occurrences), first, contexts, rows)


def _make_opening(counts: Unsigned, first: Places, contexts: Ints, rows: Ints) -> Opening:
    begin, end = contexts.tolist()
    return Opening(int(rows[0]), begin, counts, first[begin : end + 1].astype(np.int64) - int(rows[0]))


def _contexts(first: NDArray[Any]) -> Ints:
    """Returns the context of each n-gram."""
    children: Ints = first[1:].astype(np.int64) - first[:-1]
    return np.repeat(np.arange(len(children)), children)


def starts_of(children: Unsigned) -> Places:
    """Returns where the n-grams after each context stand, of how many there are; 0 … number."""
    starts = np.zeros(len(children) + 1, np.uint32)
    number = 0
    for begin in range(0, len(children), _PIECE_SYMBOLS):  # of small pieces the sums are three times as fast
        ends = children[begin : begin + _PIECE_SYMBOLS].astype(np.int64)
        ends[0] += number
        number = int(ends.cumsum(out=ends)[-1])
        if number >= 1 << 32:
            raise ValueError("2^32 n-grams of one length, or more")
        starts[begin + 1 : begin + 1 + len(ends)] = ends
    return starts


def _type_for(most: int) -> type[np.unsignedinteger[Any]]:
    return next(kind for kind in _UNSIGNED if most <= np.iinfo(kind).max)


def smallest(numbers: NDArray[Any]) -> Unsigned:
    """Returns numbers of no sign in as few bytes as hold the largest of them."""
    return numbers.astype(_type_for(int(numbers.max(initial=0))))


def _are_in_order(symbols: Unsigned, begin: int, first: Places, vocabulary_size: int) -> bool:
    """Says whether these, which stand from place `begin` on, are symbols, and ascend after each context."""
    within = np.array([begin + 1, begin + len(symbols)], first.dtype)  # of another type, all would be converted
    starts = first[slice(*np.searchsorted(first, within))]
    ascends = symbols[1:] > symbols[:-1]
    ascends[starts.astype(np.int64) - begin - 1] = True
    return bool(ascends.all() and symbols.max() < vocabulary_size)
