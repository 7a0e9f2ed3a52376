"""Batches: ids cut into windows of truncated backpropagation through time.

Both framings yield the same `Window`s; the trainer does not know which one it reads. An epoch's plan depends on
nothing but the seed and the epoch's number, so a cursor of two integers is enough to go on exactly.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from charlm.errors import CorpusError
from charlm.system.counts import count_of
from charlm.text.cache import release_pages
from charlm.text.vocabulary import Ids

IGNORE = -1  # the target of a place that holds no character
_SEARCHED_SYMBOLS = 1 << 22  # searched for boundaries at a time
SHUFFLED_LINES = 1 << 24  # together, at most
_BLOCK_LINES = 1 << 16  # of a larger text that stay together until lines are shuffled
_RELEASED_LINES = 1 << 12  # after so many, what they were read from, 64 kB around each, need not stay in memory
_RELEASED_WINDOWS = 1024  # the same of a stream


class Window(NamedTuple):
    """One step of training.

    Attributes:
        inputs: ids, shape (B, T).
        targets: the ids that follow, shape (B, T); `IGNORE` where a row is shorter.
        carry: for each row, whether the hidden state goes on from the window before, shape (B,); else it starts
            from zero.
    """

    inputs: Ids
    targets: Ids
    carry: NDArray[np.bool_]


class Batches(Protocol):
    """What the trainer reads: windows, epoch by epoch."""

    windows_per_epoch: (
        int  # of the first epoch; lines are grouped anew each time, so later ones may differ a little; of more
        # lines than are shuffled together, it is estimated from the first section
    )

    def epoch(self, number: int, first: int = 0) -> Iterator[Window]:
        """Yields the windows of one epoch from the `first` on, the same ones each time it is asked for."""


class StreamBatches:
    """A text in B parallel streams; each character is a target exactly once an epoch.

    The text is read as a circle, entered at a random place each epoch so that windows are cut elsewhere each
    time, and laid out in B rows; where N is not a multiple of B the last rows are a character shorter.

    A text that lacks pieces, which are held out, is no whole: where one of its parts begins, a row starts from the
    zero state behind `first_id`, in a window of its own, and windows before it may be shorter.

    Args:
        ids: the training text, shape (N,).
        batch_size: B.
        sequence_length: T; the last window of an epoch may be shorter.
        seed: of the random places.
        parts: where the parts of the text begin, ascending from 0; one part is a whole text.
        first_id: the symbol read before the first of a part.

    Raises:
        CorpusError: fewer than two characters for each stream.
    """

    def __init__(
        self,
        ids: Ids,
        batch_size: int,
        sequence_length: int,
        seed: int,
        *,
        parts: Sequence[int] = (0,),
        first_id: int = 0,
    ) -> None:
        if len(ids) < 2 * batch_size:
            advice = f"lower training.batch_size to at most {len(ids) // 2} or " if len(ids) > 1 else ""
            raise CorpusError(
                f"the training text has {count_of(len(ids), 'character')}, which is too few for "
                f"training.batch_size: {batch_size}; {advice}use more text"
            )
        self._ids = ids
        self._batch_size = batch_size
        self._sequence_length = sequence_length
        self._seed = seed
        self._parts = np.asarray(parts, np.int64) if len(parts) > 1 else np.zeros(0, np.int64)
        self._first_id = first_id
        self.windows_per_epoch = max(row.windows for row in self._rows(0))

    def _rows(self, number: int) -> list[_Row]:
        """Lays the text out in B rows; as even as can be, the first ones a character longer."""
        N, B = len(self._ids), self._batch_size
        entry = int(np.random.default_rng((self._seed, number)).integers(N))
        S = -(-N // B)
        full = B - (B * S - N)  # so many rows have S characters, those below them S - 1
        around = np.concatenate([self._parts + turn * N for turn in range(3)])  # the circle, unrolled
        begin, rows = entry, []
        for row in range(B):
            end = begin + (S if row < full else S - 1)
            cuts = around[(begin <= around) & (around < end)].tolist()
            rows.append(_Row.of(begin, end, cuts, self._sequence_length))
            begin = end
        return rows

    def epoch(self, number: int, first: int = 0) -> Iterator[Window]:
        """Yields the windows of all rows side by side, the state carried from each to the next."""
        N, T = len(self._ids), self._sequence_length
        rows = self._rows(number)
        for window in range(first, max(row.windows for row in rows)):
            if window % _RELEASED_WINDOWS == 0:
                release_pages(self._ids)
            begins, ends, fresh = map(
                np.array, zip(*(row.span(window, T) for row in rows), strict=True)
            )  # (B,) each
            places = begins[:, None] + np.arange(-1, int((ends - begins).max()))  # from the character before
            symbols = self._ids[places % N].astype(np.int32)  # (B, T + 1)
            inputs, targets = symbols[:, :-1], symbols[:, 1:].copy()
            inputs[fresh, 0] = self._first_id
            targets[places[:, 1:] >= ends[:, None]] = IGNORE
            yield Window(inputs, targets, ~fresh if window else np.zeros(len(rows), np.bool_))


class _Row(NamedTuple):
    """A row of a stream, for one epoch: its parts, and how many windows each of them has.

    Attributes:
        bounds: where its parts begin, and where the last one ends, on the unrolled circle.
        counts: how many windows there are before each part, and in all.
        inside: whether the row begins inside a part of the text.
    """

    bounds: list[int]
    counts: list[int]
    inside: bool

    @classmethod
    def of(cls, begin: int, end: int, cuts: list[int], length: int) -> _Row:
        bounds = [*([] if cuts[:1] == [begin] else [begin]), *cuts, end]
        counts = [0]
        for a, b in pairwise(bounds):
            counts.append(counts[-1] - (a - b) // length)
        return cls(bounds, counts, cuts[:1] != [begin])

    @property
    def windows(self) -> int:
        return self.counts[-1]

    def span(self, window: int, length: int) -> tuple[int, int, bool]:
        """Returns where a window of the row begins and ends, and whether a part of the text begins there."""
        if window >= self.windows:
            return self.bounds[-1], self.bounds[-1], False
        part = bisect_right(self.counts, window) - 1
        begin = self.bounds[part] + (window - self.counts[part]) * length
        fresh = begin == self.bounds[part] and (part > 0 or not self.inside)
        return begin, min(begin + length, self.bounds[part + 1]), fresh


class LineBatches:
    """Each line a sentence: B lines of like length side by side, the state zero at their start.

    Lines longer than T are read in windows of T with the state carried.

    Of more lines than may be shuffled together, an epoch is read in sections: the text is cut into blocks of lines
    that follow each other, the blocks are drawn into sections of equal size, and the lines of a section are
    shuffled. So memory is bounded, and a section lies at some hundreds of places of a disk rather than at millions.

    Args:
        ids: lines, each ended by the boundary, shape (N,).
        boundary_id: the symbol before the first and after the last character of a line.
        batch_size: B; the last batch of an epoch, or of each of its sections, may hold fewer lines.
        sequence_length: T.
        seed: of the order of the lines.
        most_shuffled: so many lines are shuffled together, at most, but for part of a block.
        block_lines: how many lines make a block.

    Raises:
        CorpusError: fewer lines than fill one batch.
    """

    def __init__(
        self,
        ids: Ids,
        boundary_id: int,
        batch_size: int,
        sequence_length: int,
        seed: int,
        *,
        most_shuffled: int = SHUFFLED_LINES,
        block_lines: int = _BLOCK_LINES,
    ) -> None:
        self._ids = ids
        self._boundary_id = boundary_id
        self._batch_size = batch_size
        self._sequence_length = sequence_length
        self._seed = seed
        self._blocks, lines = _find_blocks(ids, boundary_id, block_lines)
        if lines < batch_size:
            raise CorpusError(
                f"the training text has {count_of(lines, 'line')}, which is too few for training.batch_size: "
                f"{batch_size}; lower training.batch_size or use more text"
            )
        self._sections = min(-(-lines // most_shuffled), len(self._blocks) - 1)
        self._whole = _Lines.of(line_bounds(ids, boundary_id)) if self._sections == 1 else None
        plan = self._plan(0, 0)
        self.windows_per_epoch = round(int(plan.windows.sum()) * lines / len(plan.order))

    def _draw(self, number: int, section: int) -> tuple[np.random.Generator, _Lines]:
        """Returns the lines of a section of an epoch, and what shuffles them."""
        if self._whole is not None:
            return np.random.default_rng((self._seed, number)), self._whole
        blocks = np.random.default_rng((self._seed, number)).permutation(len(self._blocks) - 1)
        drawn = [
            self._blocks[block] + line_bounds(self._ids[slice(*self._blocks[block : block + 2])], self._boundary_id)
            for block in np.sort(np.array_split(blocks, self._sections)[section]).tolist()
        ]
        release_pages(self._ids)
        return np.random.default_rng((self._seed, number, section)), _Lines.of(*drawn)

    def _plan(self, number: int, section: int) -> _Plan:
        """Shuffles the lines, sorts them by length inside pools of 64 batches, and shuffles the batches."""
        rng, lines = self._draw(number, section)
        B = self._batch_size
        order = np.arange(len(lines.begins), dtype=np.uint32)
        rng.shuffle(order)
        longest = []
        for start in range(0, len(order), 64 * B):
            pool = order[start : start + 64 * B]  # a view: sorted in its place
            lengths = lines.ends[pool] - lines.begins[pool]
            by_length = np.argsort(lengths, kind="stable")
            pool[:] = pool[by_length]
            longest.append(np.maximum.reduceat(lengths[by_length], np.arange(0, len(pool), B)))
        windows = -(-np.concatenate(longest).astype(np.int64) // self._sequence_length)
        return _Plan(lines, order, rng.permutation(len(windows)), windows)

    def epoch(self, number: int, first: int = 0) -> Iterator[Window]:
        """Yields the windows of every line once."""
        for section in range(self._sections):
            plan = self._plan(number, section)
            yield from self._read(plan, first)
            first = max(0, first - int(plan.windows.sum()))

    def _read(self, plan: _Plan, first: int) -> Iterator[Window]:
        """Yields the windows of a section from the `first` on, perhaps none."""
        B, T = self._batch_size, self._sequence_length
        ends = np.cumsum(plan.windows[plan.batches])
        skipped = int(np.searchsorted(ends, first, side="right"))  # batches that lie before `first` as a whole
        window = int(ends[skipped - 1]) if skipped else 0
        for read, batch in enumerate(plan.batches[skipped:].tolist()):
            if read % max(1, _RELEASED_LINES // B) == 0:
                release_pages(self._ids)
            order = plan.order[batch * B : (batch + 1) * B]
            windows = int(plan.windows[batch])
            for i in range(max(first - window, 0), windows):
                yield self._window(plan.lines, order, i * T)
            window += windows

    def _window(self, lines: _Lines, order: NDArray[np.uint32], start: int) -> Window:
        """Lays the T symbols from `start` of each line side by side: an endless line must not widen the others."""
        begins = lines.begins[order].astype(np.int64) + start
        ends = np.minimum(lines.ends[order], begins + self._sequence_length)
        spans = zip(begins.tolist(), ends.tolist(), strict=True)
        inputs, targets = pad_lines([self._ids[a:b] for a, b in spans], self._boundary_id)
        if start:
            going_on = begins < ends
            inputs[going_on, 0] = self._ids[begins[going_on] - 1]
        return Window(inputs, targets, np.full(len(order), start > 0))


class _Lines(NamedTuple):
    """Where lines begin and end, shape (N,) each."""

    begins: NDArray[Any]
    ends: NDArray[Any]

    @classmethod
    def of(cls, *bounds: NDArray[Any]) -> _Lines:
        """Of blocks of lines, each as `line_bounds` gives it."""
        if len(bounds) == 1:
            return cls(bounds[0][:-1], bounds[0][1:])
        return cls(np.concatenate([b[:-1] for b in bounds]), np.concatenate([b[1:] for b in bounds]))


class _Plan(NamedTuple):
    """One section of an epoch of lines.

    Attributes:
        lines: of the section.
        order: all lines; those of batch i are at i · B to (i + 1) · B.
        batches: the batches in the order in which they are read.
        windows: how many windows each batch has.
    """

    lines: _Lines
    order: NDArray[np.uint32]
    batches: NDArray[np.int64]
    windows: NDArray[np.int64]


def _find_blocks(ids: Ids, boundary_id: int, block_lines: int) -> tuple[NDArray[np.int64], int]:
    """Returns where each block of so many lines begins and where the last one ends, and the number of lines."""
    begins = [np.zeros(1, np.int64)]
    lines = 0
    for start, found in _boundaries(ids, boundary_id, _SEARCHED_SYMBOLS):
        begins.append(found[-(lines + 1) % block_lines :: block_lines] + (start + 1))
        lines += len(found)
    begins.append(np.full(int(lines % block_lines > 0), len(ids)))
    return np.concatenate(begins), lines


def _boundaries(ids: Ids, boundary_id: int, piece_size: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yields, of so many symbols at a time, where they begin, and the places of the boundary from there."""
    for start in range(0, len(ids), piece_size):
        yield start, np.flatnonzero(ids[start : start + piece_size] == boundary_id)
        release_pages(ids)


def line_bounds(ids: Ids, boundary_id: int, *, piece_size: int = _SEARCHED_SYMBOLS) -> NDArray[Any]:
    """Returns where lines that end with the boundary begin: line i is `ids[bounds[i] : bounds[i + 1]]`.

    The ids are searched `piece_size` at a time.
    """
    dtype = np.uint32 if len(ids) < 1 << 32 else np.int64
    parts = [np.zeros(1, dtype)]
    for start, found in _boundaries(ids, boundary_id, piece_size):
        parts.append((found + (start + 1)).astype(dtype))
    return np.concatenate(parts)


def pad_lines(lines: list[Ids], first_id: int) -> tuple[Ids, Ids]:
    """Lays sequences side by side: (inputs, targets), each (B, longest).

    A row of `inputs` is `first_id` and the sequence without its last symbol, a row of `targets` the sequence;
    what is behind its end is `first_id` and `IGNORE`.
    """
    lengths = np.fromiter(map(len, lines), np.int64, len(lines))
    real = np.arange(lengths.max()) < lengths[:, None]  # (B, longest)
    targets = np.full(real.shape, IGNORE, np.int32)
    targets[real] = np.concatenate(lines)
    inputs = np.full(real.shape, first_id, np.int32)
    inputs[:, 1:] = np.where(real[:, 1:], targets[:, :-1], first_id)
    return inputs, targets
