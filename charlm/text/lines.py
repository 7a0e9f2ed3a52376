"""Sentences: the lines of a file or of standard input, in batches that never wait for more than there is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from charlm.errors import InputError
from charlm.system.encodings import UTF_8
from charlm.text.decoding import OPTION, Note, decode
from charlm.text.source import describe_skipped, read_sources
from charlm.text.vocabulary import to_bytes

MAX_LINE_BYTES = 1 << 22  # a score takes a hundred times as much memory
_READ_BYTES = 1 << 16  # what a pipe holds
_MAX_BATCH_LINES = 1024


class LineCounter:
    """Passes lines on, and knows the number of the last one.

    Attributes:
        number: of the last line, from 1; 0 before the first.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = lines
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.number += 1
            yield line


def name_of(path: Path | None) -> str:
    """Returns what messages call a source of lines; None: standard input."""
    return "standard input" if path is None else str(path)


def read_line_batches(
    path: Path | None, level: str, encoding: str = UTF_8, *, note: Note = lambda text: None
) -> Iterator[list[str]]:
    """Yields the lines that have arrived so far, at least one and at most 1,024 at a time.

    So a fast writer is read in large batches, a program that waits for each answer gets it at once, and memory
    does not grow with the input. A line ends with LF, CRLF or, at `character` level, CR.

    Args:
        path: the file, which may be packed; None: standard input.
        level: see `decode`.
        encoding: see `decode`; `auto` reads everything before the first line.
        note: see `decode`.

    Raises:
        InputError: the source cannot be read or decoded, or a line is longer than a sentence can be.
    """
    name = name_of(path)
    skipped: list[str] = []
    for source in read_sources(path, _READ_BYTES, name=name, level=level, as_they_come=True, skipped=skipped):
        pieces = decode(source, encoding, level, remedy=OPTION, zeros=True, note=note)
        for lines in complete_lines(pieces, partial(_check_line, name=source.name), _bytes):
            for start in range(0, len(lines), _MAX_BATCH_LINES):
                batch = lines[start : start + _MAX_BATCH_LINES]
                yield [line.removesuffix("\r") for line in batch] if level == "byte" else batch
    if skipped:
        note(describe_skipped(skipped, "in the zip archive"))


def complete_lines(
    pieces: Iterable[str],
    check: Callable[[int, int], None] = lambda number, size: None,
    size: Callable[[str], int] = len,
) -> Iterator[list[str]]:
    """Yields the lines, without their newlines, that each piece of a text completes.

    Args:
        pieces: the text, cut anywhere.
        check: is told the number of a line that goes on, from 1, and its size so far; raises if it is too long.
        size: measures a part of a line.
    """
    begun: list[str] = []  # pieces of a line whose end has not arrived yet
    begun_size, number = 0, 1  # the size of these pieces, and the number of their line
    for piece in pieces:
        first, *rest = piece.split("\n")
        begun.append(first)
        begun_size += size(first)
        check(number, begun_size)
        if rest:
            yield ["".join(begun), *rest[:-1]]
            begun = [rest[-1]]
            begun_size = size(rest[-1])
            number += len(rest)
    if last := "".join(begun):
        yield [last]


def _bytes(text: str) -> int:
    return len(to_bytes(text))


def _check_line(number: int, size: int, name: str) -> None:
    """Raises an InputError where a line of so many bytes is too long."""
    if size > MAX_LINE_BYTES:
        raise InputError(
            f"{name}, line {number}: this line is longer than {MAX_LINE_BYTES:,} bytes, so it is not a sentence; "
            "break it into lines, or measure the whole text with `charlm eval`"
        )
