"""The copy of a whole text: where it is to be split is known only at its end, and then it is read again.

A small text, and one that comes through a pipe, is one file, in memory while it is small. A large one is the shards
that `shards` makes.
"""

from __future__ import annotations

import codecs
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.text.shards import Facts
from charlm.text.splitting import Runs
from charlm.text.vocabulary import CODE_POINTS, code_points

Points = NDArray[np.uint8 | np.uint32]


class Part(NamedTuple):
    """Some of the characters of one split.

    Attributes:
        split: its number.
        points: the code points.
        begins: whether they begin a run of a stream.
    """

    split: int
    points: Points
    begins: bool


class StoredText:
    """The copy of a whole text, which is read once.

    Args:
        sources: where the text is, in order: files of UTF-8, open or by their paths, and pieces of text.
        facts: of all of it.
        framing: `lines`, and its size is in lines, or `stream`, and it is in characters.
        piece_size: the number of bytes in a piece that is read back.

    Attributes:
        facts: as given.
        framing: as given.
        size: the size of the text.
    """

    def __init__(
        self, sources: Sequence[IO[bytes] | Path | str], facts: Facts, framing: str, piece_size: int
    ) -> None:
        self._sources = sources
        self._piece_size = piece_size
        self.facts = facts
        self.framing = framing
        self.size = facts.lines if framing == "lines" else facts.characters

    def pieces(self) -> Iterator[str]:
        """Yields the text in pieces."""
        for source in self._sources:
            if isinstance(source, str):
                yield source
            elif isinstance(source, Path):
                with source.open("rb") as file:
                    yield from self._read(file)
            else:
                source.seek(0)
                yield from self._read(source)

    def _read(self, file: IO[bytes]) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8")("surrogatepass")
        while data := file.read(self._piece_size):
            if piece := decoder.decode(data):
                yield piece

    def parts(self, runs: Runs) -> Iterator[Part]:
        """Yields the text of all splits in pieces, in the order of the text."""
        plan = _Plan(runs)
        for piece in self.pieces():
            points = code_points(piece)
            yield from self._line_parts(points, plan) if self.framing == "lines" else plan.cut(points)

    def _line_parts(self, points: Points, plan: _Plan) -> Iterator[Part]:
        """Yields what a piece holds of each split: of lines, many runs are taken together."""
        ends = np.flatnonzero(points == ord("\n")) + 1
        rest = len(points) - (int(ends[-1]) if len(ends) else 0)
        splits = plan.take(len(ends))
        if rest:
            splits = np.append(splits, plan.split())
            ends = np.append(ends, len(points))
        there = np.unique(splits).tolist()
        if len(there) == 1:
            yield Part(there[0], points, False)
            return
        each = np.repeat(splits, np.diff(ends, prepend=0))  # of each character
        for split in there:
            yield Part(split, points[each == split], False)

    def count(self, runs: Runs, splits: Sequence[int]) -> dict[int, NDArray[np.int64]]:
        """Counts the code points of some of the splits, shape (1,114,112,) each."""
        found = {split: np.zeros(CODE_POINTS, np.int64) for split in splits}
        for part in self.parts(runs) if splits else ():
            if part.split in found:
                counts = np.bincount(part.points)
                found[part.split][: len(counts)] += counts
        return found

    def next_breaks(self, places: list[int], within: int) -> list[int]:
        """Returns for each place, which ascend, where a line or else a word begins next; see `spread_pieces`."""
        found: list[int] = []
        offset, before = 0, ""
        for piece in itertools.chain(self.pieces(), [""]):
            text, start = before + piece, offset - len(before)
            while len(found) < len(places) and (places[len(found)] + within < start + len(text) or not piece):
                at = min(max(places[len(found)] - start, 0), len(text))
                ends = (text.find(mark, max(at - 1, 0), at + within) for mark in "\n ")
                found.append(start + next((end + 1 for end in ends if end >= 0), at))
            offset += len(piece)
            before = text[-2 * within - 2 :] if within else ""
        return found


class _Plan:
    """Which split comes next: the runs of a text, taken bit by bit."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs()
        self._split = self._left = 0
        self._begins = True

    def split(self) -> int:
        """Returns the split of what comes next."""
        while not self._left:
            self._split, self._left = next(self._runs)
            self._begins = True
        return self._split

    def take(self, count: int) -> NDArray[np.int8]:
        """Returns the splits of so many lines."""
        splits, sizes = [], []
        while count:
            splits.append(self.split())
            sizes.append(min(count, self._left))
            self._left -= sizes[-1]
            count -= sizes[-1]
        return np.repeat(np.array(splits, np.int8), sizes)

    def cut(self, points: Points) -> Iterator[Part]:
        """Yields the runs of a piece of a stream."""
        start = 0
        while start < len(points):
            split = self.split()
            end = min(start + self._left, len(points))
            yield Part(split, points[start:end], self._begins)
            self._begins = False
            self._left -= end - start
            start = end


def join(facts: Iterable[Facts], is_new: Iterable[bool], files: Iterable[Path]) -> tuple[list[Path | str], Facts]:
    """Returns the sources of a text whose parts are files, and the facts of the whole.

    A file that does not end with a newline is given one if another follows.

    Args:
        facts: of the parts.
        is_new: for each part, whether it begins a file.
        files: where the parts are.
    """
    whole = Facts()
    sources: list[Path | str] = []
    for part, begins, file in zip(facts, is_new, files, strict=True):
        if not part.characters:
            continue
        if begins and whole.end != "\n":
            sources.append("\n")
            whole.add(Facts(characters=1, lines=1, size=1, points=[ord("\n")], counts=[1]))
        sources.append(file)
        whole.add(part)
    return sources, whole
