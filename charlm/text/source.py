"""The bytes of a text: read from a file, a `.gz` file or standard input, and decoded as UTF-8.

`reading` turns them into corpora, `lines` into sentences. What both do in the same way is done here: opening,
unpacking within bounds, decoding, and naming what is wrong.
"""

from __future__ import annotations

import codecs
import gzip
import math
import sys
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from io import BufferedIOBase
from pathlib import Path

from charlm.errors import CorpusError

MAX_UNPACKED_BYTES = 1 << 30
_MAX_UNPACKED_RATIO = 200  # text unpacks to 2 to 10 times the size of the file, and gzip can reach 1,000


def is_packed(path: Path) -> bool:
    """Says whether a file is unpacked when it is read."""
    return path.suffix == ".gz"


def read_chunks(
    path: Path | None,
    chunk_bytes: int,
    *,
    name: str,
    as_they_come: bool = False,
    max_unpacked_bytes: float = math.inf,
) -> Iterator[bytes]:
    """Yields the bytes of a file or of standard input, unpacked, in chunks.

    Args:
        path: the file, which is unpacked if its name ends in `.gz`. None: standard input.
        chunk_bytes: the size of a chunk; the last one may be smaller.
        name: what messages call the source.
        as_they_come: whether a smaller chunk is yielded rather than waiting for more bytes.
        max_unpacked_bytes: what a `.gz` file may unpack to however small it is. Beyond that, it may unpack to 200
            times its own size.

    Raises:
        CorpusError: the source cannot be read, or is a damaged `.gz` file or one that unpacks to too much.
    """
    try:
        if path is not None and is_packed(path):
            max_unpacked_bytes = max(max_unpacked_bytes, _MAX_UNPACKED_RATIO * path.stat().st_size)
        else:
            max_unpacked_bytes = math.inf
        unpacked_bytes = 0
        with _open(path) as file:
            while chunk := file.read1(chunk_bytes) if as_they_come else file.read(chunk_bytes):
                unpacked_bytes += len(chunk)
                if unpacked_bytes > max_unpacked_bytes:
                    raise CorpusError(
                        f"{name}: unpacks to more than {max_unpacked_bytes:,} bytes, {_MAX_UNPACKED_RATIO} times "
                        "its size, which no text does; if it is one, unpack it with `gunzip` first"
                    )
                yield chunk
    except OSError as error:  # gzip.BadGzipFile is one
        raise unreadable(name, error) from None
    except (EOFError, zlib.error) as error:
        raise CorpusError(f"{name}: damaged gzip file: {error}") from None


def _open(path: Path | None) -> AbstractContextManager[BufferedIOBase]:
    if path is None:
        return nullcontext(sys.stdin.buffer)  # type: ignore[arg-type]  # it is one
    return gzip.open(path) if is_packed(path) else path.open("rb")


def decode_utf8(data: bytes, level: str, *, beginning: bool, final: bool = True) -> tuple[str, int]:
    """Decodes UTF-8.

    Args:
        data: bytes of a text.
        level: at `byte` level, bytes that are not UTF-8 become lone surrogates.
        beginning: whether the text begins here; a byte order mark is then dropped at `character` level.
        final: whether a character may not be cut off at the end.

    Returns:
        The text, and the number of bytes that it was decoded from.

    Raises:
        UnicodeDecodeError: the bytes are not UTF-8, see `not_utf8`.
    """
    text, used = codecs.utf_8_decode(data, "surrogateescape" if level == "byte" else "strict", final)
    return (text.removeprefix("\ufeff") if beginning and level != "byte" else text), used


def unreadable(name: str, error: OSError) -> CorpusError:
    """Returns what to raise where a source cannot be opened or read."""
    return CorpusError(f"{name}: cannot be read: {error.strerror or error}")


def not_utf8(name: str, error: UnicodeDecodeError, where: str) -> CorpusError:
    """Returns what to raise where a source is not UTF-8; `where` says at which place, and perhaps what to do."""
    return CorpusError(f"{name}: not UTF-8: byte 0x{error.object[error.start]:02x} {where}")
