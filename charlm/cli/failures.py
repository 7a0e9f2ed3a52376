"""What can go wrong on a user's machine, as one message and an exit code; anything else is a bug and shown as one.

0    the command succeeded, or the reader of its output closed the pipe
1    the command failed: for example the disk is full, there is not enough memory, or the loss is not finite
2    the usage is wrong or the input is invalid
130  Ctrl-C stopped the command; in general 128 + N for the signal N, such as 129 for SIGHUP and 143 for SIGTERM
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from contextlib import suppress
from typing import Any

from charlm.errors import CharlmError

_PARSERS = (f"{os.sep}json{os.sep}", f"{os.sep}yaml{os.sep}")
_NO_MEMORY = ("can't allocate memory", "out of memory", "can't start new thread")  # as torch and Python say it


def describe_failure(error: BaseException) -> tuple[str, int] | None:
    """Returns what to tell a user, and the exit code; None if the error is a bug."""
    if isinstance(error, CharlmError):
        return str(error), error.exit_code
    if isinstance(error, OSError) and error.errno is not None:
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror}", 1
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _NO_MEMORY)
    ):
        detail = f" ({str(error).splitlines()[0][:200]})" if str(error) else ""
        return f"there is not enough memory{detail}; use a smaller model, batch or text", 1
    if isinstance(error, UnicodeError):
        return f"a text is not valid Unicode: {error}"[:500], 2
    if isinstance(error, ValueError) and str(error).startswith("Exceeds the limit ("):
        return "a number in the input has more digits than can be read", 2
    if isinstance(error, RecursionError) and _comes_from_a_parser(error):
        return "the input is nested too deeply", 2
    return None


def _comes_from_a_parser(error: RecursionError) -> bool:
    return any(part in frame.filename for frame in traceback.extract_tb(error.__traceback__) for part in _PARSERS)


def finish_output() -> None:
    """Writes what standard output still holds, or drops it where nobody takes it."""
    try:
        sys.stdout.flush()
    except (OSError, _OutputError):
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _OutputError(CharlmError):
    """Standard output cannot be written, but for a closed pipe."""


class _Output(io.FileIO):
    """Standard output, whose failures are told from those of other files."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _OutputError(f"standard output: cannot be written: {error.strerror}") from None


class _Messages(io.TextIOWrapper):
    """Standard error: a message that nobody takes (a closed terminal, a full disk) is no reason to stop working."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def prepare_streams() -> None:
    """Makes all three streams usable: none is missing, output is UTF-8, messages never fail."""
    for descriptor in range(3):  # a file that is opened later must not become standard output
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdin = sys.stdin or open(0)  # noqa: SIM115
    output = io.BufferedWriter(_Output(1, "w", closefd=False))
    unbuffered = isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.write_through
    sys.stdout = io.TextIOWrapper(
        output, "utf-8", "backslashreplace", line_buffering=output.isatty() or unbuffered, write_through=unbuffered
    )
    messages = io.BufferedWriter(io.FileIO(2, "w", closefd=False))
    sys.stderr = _Messages(messages, "utf-8", "backslashreplace", line_buffering=True)
