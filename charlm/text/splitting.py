"""Which parts of a text are held out: lines or pieces from all over it, or its end.

What is held out decides what is learnt. A tail keeps the newest part of a text from being learnt at all, and of a
sorted list it is unlike the rest; lines and pieces from all over are like what is learnt. So `spread` is the
usual way, and `tail` is for comparing with published splits.

A plan is a sequence of runs (split, size), which together make up the text: split 0 is for training, 1 for
validation, 2 for the test; sizes are in lines or characters. It is the same whatever `training.seed` is, so that
runs can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from charlm.errors import CorpusError
from charlm.system.counts import count_of

Runs = Callable[[], Iterator[tuple[int, int]]]  # may be asked for again

PIECE_CHARACTERS = 4000  # of a stream that are held out together
_FEW_PIECES = 8  # of a short text so many are held out, if they have
_SHORT_PIECE_CHARACTERS = 400
_BLOCK_LINES = 1 << 14  # whose shares are drawn together
_SEED = 20  # of what is held out


def split_sizes(total: int, validation: float, test: float, unit: str) -> tuple[int, int, int]:
    """Returns the sizes of the three splits of so many characters or lines, whose singular is `unit`.

    Raises:
        CorpusError: a split that is asked for would be empty.
    """
    if validation + test >= 1:
        raise CorpusError(
            f"corpus.validation {validation:g} and corpus.test {test:g} leave no text to train on; lower them"
        )
    train = int(total * (1 - validation - test) + 1e-9)
    held_out = total - train
    in_validation = held_out if not test else int(held_out * validation / (validation + test) + 1e-9)
    if not validation and not test:
        train, in_validation, held_out = total, 0, 0
    sizes = (train, in_validation, held_out - in_validation)
    for name, share, size in (("validation", validation, sizes[1]), ("test", test, sizes[2])):
        if share and not size:
            raise CorpusError(
                f"the corpus has only {count_of(total, unit)}, so corpus.{name}: {share:g} of it is empty; "
                f"raise corpus.{name}, set it to 0, or use more text"
            )
    if not train:
        raise CorpusError(
            f"the corpus has only {count_of(total, unit)}, which is too little to train on after the split; "
            "use more text or lower corpus.validation"
        )
    return sizes


def tail_runs(sizes: tuple[int, int, int]) -> Runs:
    """The text in the order training, validation, test."""
    return lambda: ((split, size) for split, size in enumerate(sizes) if size)


def spread_lines(sizes: tuple[int, int, int]) -> LineRuns:
    """Lines drawn from all over a text: of every block of lines its share."""
    return LineRuns(sizes)


class LineRuns:
    """The `Runs` of `spread_lines`, which are short and many: also as the split of each line."""

    def __init__(self, sizes: tuple[int, int, int]) -> None:
        self._sizes = sizes

    def __call__(self) -> Iterator[tuple[int, int]]:
        """Yields the runs."""
        for drawn in self.blocks():
            starts = np.flatnonzero(np.diff(drawn, prepend=-1))
            sizes_of_runs = np.diff(starts, append=len(drawn))
            yield from zip(drawn[starts].tolist(), sizes_of_runs.tolist(), strict=True)

    def blocks(self) -> Iterator[NDArray[np.int8]]:
        """Yields the split of each line, of a block of lines at a time."""
        total = sum(self._sizes)
        rng = np.random.default_rng(_SEED)
        for start in range(0, total, _BLOCK_LINES):
            end = min(start + _BLOCK_LINES, total)
            drawn = np.zeros(end - start, np.int8)
            here = [size * end // total - size * start // total for size in self._sizes[1:]]
            order = rng.permutation(end - start)
            drawn[order[: here[0]]] = 1
            drawn[order[here[0] : sum(here)]] = 2
            yield drawn


def line_splits(runs: Runs) -> Iterator[NDArray[np.int8]]:
    """Yields the split of each line of a text, of some lines at a time."""
    if isinstance(runs, LineRuns):
        yield from runs.blocks()
        return
    for split, size in runs():
        for start in range(0, size, _BLOCK_LINES):
            yield np.full(min(_BLOCK_LINES, size - start), split, np.int8)


def spread_pieces(sizes: tuple[int, int, int], next_breaks: Callable[[list[int], int], list[int]]) -> Runs:
    """Pieces of some thousand characters from all over a text, each somewhere in a stretch of its own.

    Each stretch has as many characters to train on as any other.

    Args:
        sizes: of the splits, in characters.
        next_breaks: returns for each of these places, which ascend, where a line or else a word begins next, if
        that is no further than so many characters; else the place itself.
    """
    total = sum(sizes)
    counts = [_piece_count(size) for size in sizes[1:]]
    free = sizes[0] / max(1, sum(counts))
    order = sorted(
        ((i + 0.5) / count, split, size / count)
        for split, (size, count) in enumerate(zip(sizes[1:], counts, strict=True), 1)
        for i in range(count)
    )
    rng = np.random.default_rng(_SEED)
    places: list[int] = []
    stretch = 0.0  # where it begins
    for *_, length in order:
        begin = stretch + rng.uniform(0.05, 0.95) * free
        places += [round(begin), round(begin + length)]
        stretch += free + length
    breaks = next_breaks(places, int(min([free, *(length for *_, length in order)]) / 4))

    def runs() -> Iterator[tuple[int, int]]:
        at = 0
        for (_, split, _), begin, end in zip(order, breaks[::2], breaks[1::2], strict=True):
            if end > max(begin, at):
                if begin > at:
                    yield 0, begin - at
                yield split, end - max(begin, at)
                at = end
        if total > at:
            yield 0, total - at

    return runs


def _piece_count(size: int) -> int:
    """Returns into how many pieces a split of so many characters is divided."""
    few = min(_FEW_PIECES, size // _SHORT_PIECE_CHARACTERS)
    return max(round(size / PIECE_CHARACTERS), few, 1) if size else 0
