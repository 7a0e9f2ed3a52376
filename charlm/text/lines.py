"""Lines of a file or of standard input, in batches that never wait for more than there is."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from charlm.errors import InputError

_BYTES = 1 << 16  # read at once: what a pipe holds
_MOST = 1024  # lines in one batch
LONGEST = 1 << 22  # bytes of a line, characters of a prompt; a score holds a hundred times as much


class _Reader(Protocol):
    def read1(self, size: int, /) -> bytes: ...


class Numbered:
    """Passes lines on, and knows the number of the last."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = lines
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.number += 1
            yield line


def name_of(path: Path | None) -> str:
    """What messages call a source of lines; None: standard input."""
    return "standard input" if path is None else str(path)


def batches_as_they_come(path: Path | None, level: str) -> Iterator[list[str]]:
    """Yields the lines that have come so far, at least one and at most 1,024 at a time.

    So a fast writer is read in large batches, a program that waits for each answer gets it at once, and memory
    does not grow with the input.

    Args:
        path: the file, which may be a .gz; None: standard input.
        level: at `byte` level bytes that are not UTF-8 pass as lone surrogates.

    Raises:
        InputError: the file cannot be read, or a line is not UTF-8 or endless.
    """
    if path is None:
        yield from _batches(sys.stdin.buffer, name_of(path), level)  # type: ignore[arg-type]
        return
    try:
        file = gzip.open(path) if path.suffix == ".gz" else open(path, "rb")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    with file:
        yield from _batches(file, name_of(path), level)


def _batches(file: _Reader, name: str, level: str) -> Iterator[list[str]]:
    errors = "surrogateescape" if level == "byte" else "strict"
    batch: list[str] = []
    number = 0
    for lines in _complete_lines(file, name):
        for line in lines:
            number += 1
            try:
                text = line.decode("utf-8-sig" if number == 1 and level != "byte" else "utf-8", errors)
            except UnicodeDecodeError as error:
                if batch:
                    yield batch
                raise InputError(
                    f"{name}, line {number}: not UTF-8: byte 0x{error.object[error.start]:02x} "
                    f"at offset {error.start} of the line"
                ) from None
            batch.append(text.removesuffix("\r"))
            if len(batch) == _MOST:
                yield batch
                batch = []
        if batch:
            yield batch
            batch = []


def _complete_lines(file: _Reader, name: str) -> Iterator[list[bytes]]:
    """Yields the lines, without their newlines, that each read completes."""
    begun: list[bytes] = []  # pieces of a line whose end has not come yet
    held, number = 0, 1  # their bytes, and the number of the line
    while True:
        try:
            chunk = file.read1(_BYTES)
        except OSError as error:
            raise InputError(f"{name}: cannot be read: {error.strerror or error}") from None
        except (EOFError, zlib.error) as error:
            raise InputError(f"{name}: damaged gzip file: {error}") from None
        if not chunk:
            break
        first, *rest = chunk.split(b"\n")
        begun.append(first)
        held += len(first)
        if held > LONGEST:
            raise InputError(
                f"{name}, line {number}: longer than {LONGEST:,} bytes, which no sentence is; break it into lines, "
                "or measure the text as a whole with `charlm eval`"
            )
        if rest:
            yield [b"".join(begun), *rest[:-1]]
            begun = [rest[-1]]
            held = len(rest[-1])
            number += len(rest)
    if last := b"".join(begun):
        yield [last]
