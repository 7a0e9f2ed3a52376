"""The copy of a whole text: where it is to be split is known only at its end, and then it is read again.

A small text, and one that comes through a pipe, is one file, in memory while it is small. A large one is the shards
that `shards` makes.
"""

from __future__ import annotations

import codecs
import itertools
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.text.shards import Facts
from charlm.text.splitting import Runs, line_splits
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

    def parts(self, runs: Runs, wanted: Container[int] = range(3)) -> Iterator[Part]:
        """Yields the text of the splits that are wanted in pieces, in the order of the text."""
        found = self._line_parts(runs, wanted) if self.framing == "lines" else self._stream_parts(runs)
        return (part for part in found if part.split in wanted)

    def _line_parts(self, runs: Runs, wanted: Container[int]) -> Iterator[Part]:
        """Yields what each piece holds of each split: many lines are taken together."""
        blocks = line_splits(runs)
        planned = np.zeros(0, np.int8)  # the splits of the lines that come next
        for piece in self.pieces():
            points = code_points(piece)
            ends = np.flatnonzero(points == ord("\n")) + 1
            while len(planned) <= len(ends) and (block := next(blocks, None)) is not None:
                planned = np.concatenate([planned, block])
            splits = planned[: len(ends) + 1]  # a line that goes on in the next piece is the last
            lengths = np.diff(ends, prepend=0, append=len(points))[: len(splits)]
            planned = planned[len(ends) :]
            present = [split for split in range(3) if (splits[lengths > 0] == split).any()]
            each = np.repeat(splits, lengths) if len(present) > 1 else None  # of each character
            for split in present:
                if split in wanted:
                    yield Part(split, points if each is None else points[each == split], False)

    def _stream_parts(self, runs: Runs) -> Iterator[Part]:
        """Yields the runs, cut where pieces end."""
        plan = runs()
        split = left = 0
        begins = True
        for piece in self.pieces():
            points = code_points(piece)
            start = 0
            while start < len(points):
                if not left:
                    split, left = next(plan)
                    begins = True
                end = min(start + left, len(points))
                yield Part(split, points[start:end], begins)
                begins = False
                left -= end - start
                start = end

    def count(self, runs: Runs, splits: Sequence[int]) -> dict[int, NDArray[np.int64]]:
        """Counts the code points of some of the splits, shape (1,114,112,) each."""
        found = {split: np.zeros(CODE_POINTS, np.int64) for split in splits}
        for part in self.parts(runs, splits) if splits else ():
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
