"""Lines of a file or of standard input, in batches that never wait for more than there is."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from charlm.errors import InputError

_MOST = 1024  # lines in one batch
_DONE = object()


def batches_as_they_come(path: Path | None, level: str) -> Iterator[list[str]]:
    """Yields the lines that have come so far, at least one and at most 1,024 at a time.

    So a fast writer is read in large batches, and a program that waits for each answer gets it at once. A reading
    thread runs at most four batches ahead, so memory does not grow with the input.

    Args:
        path: the file; None: standard input.
        level: at `byte` level bytes that are not UTF-8 pass as lone surrogates.

    Raises:
        InputError: the file cannot be read, or a line is not UTF-8.
    """
    if path is None:
        yield from _batches(sys.stdin.buffer, "standard input", level)
        return
    try:
        file = open(path, "rb")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    with file:
        yield from _batches(file, str(path), level)


def _batches(file: BinaryIO, name: str, level: str) -> Iterator[list[str]]:
    lines: queue.Queue[object] = queue.Queue(4 * _MOST)

    def read() -> None:
        try:
            for line in file:
                lines.put(line)
        except (OSError, ValueError) as error:
            lines.put(InputError(f"{name}: cannot be read: {error}"))
        lines.put(_DONE)

    threading.Thread(target=read, daemon=True).start()
    errors = "surrogateescape" if level == "byte" else "strict"
    number, going = 0, True
    while going:
        batch: list[str] = []
        item = lines.get()
        while item is not _DONE:
            if isinstance(item, InputError):
                raise item
            assert isinstance(item, bytes)
            number += 1
            try:
                text = item.decode("utf-8-sig" if number == 1 else "utf-8", errors)
            except UnicodeDecodeError as error:
                if batch:
                    yield batch
                raise InputError(
                    f"{name}, line {number}: not UTF-8: byte 0x{error.object[error.start]:02x} "
                    f"at offset {error.start} of the line"
                ) from None
            batch.append(text.removesuffix("\n").removesuffix("\r"))
            if len(batch) == _MOST:
                break
            try:
                item = lines.get_nowait()
            except queue.Empty:
                break
        going = item is not _DONE
        if batch:
            yield batch
