"""Sentences: the lines of a file or of standard input, in batches that never wait for more than there is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from charlm.errors import InputError
from charlm.text.source import decode_utf8, not_utf8, read_chunks

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


def read_line_batches(path: Path | None, level: str) -> Iterator[list[str]]:
    """Yields the lines that have arrived so far, at least one and at most 1,024 at a time.

    So a fast writer is read in large batches, a program that waits for each answer gets it at once, and memory
    does not grow with the input.

    Args:
        path: the file, which may be a `.gz`; None: standard input.
        level: at `byte` level, bytes that are not UTF-8 become lone surrogates.

    Raises:
        InputError: the source cannot be read, a line is not UTF-8, or it is longer than a sentence can be.
    """
    name = name_of(path)
    batch: list[str] = []
    number = 0
    for lines in _complete_lines(read_chunks(path, _READ_BYTES, name=name, as_they_come=True), name):
        for line in lines:
            number += 1
            try:
                text, _ = decode_utf8(line, level, beginning=number == 1)
            except UnicodeDecodeError as error:
                if batch:
                    yield batch
                raise not_utf8(f"{name}, line {number}", error, f"at offset {error.start} of the line") from None
            batch.append(text.removesuffix("\r"))
            if len(batch) == _MAX_BATCH_LINES:
                yield batch
                batch = []
        if batch:
            yield batch
            batch = []


def _complete_lines(chunks: Iterable[bytes], name: str) -> Iterator[list[bytes]]:
    """Yields the lines, without their newlines, that each chunk completes.

    Raises:
        InputError: a line is too long.
    """
    begun: list[bytes] = []  # pieces of a line whose end has not arrived yet
    begun_bytes, number = 0, 1  # the size of these pieces, and the number of their line
    for chunk in chunks:
        first, *rest = chunk.split(b"\n")
        begun.append(first)
        begun_bytes += len(first)
        if begun_bytes > MAX_LINE_BYTES:
            raise InputError(
                f"{name}, line {number}: longer than {MAX_LINE_BYTES:,} bytes, which no sentence is; break it into "
                "lines, or measure the text as a whole with `charlm eval`"
            )
        if rest:
            yield [b"".join(begun), *rest[:-1]]
            begun = [rest[-1]]
            begun_bytes = len(rest[-1])
            number += len(rest)
    if last := b"".join(begun):
        yield [last]
