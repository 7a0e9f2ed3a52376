"""Where encoded corpora lie: in memory if small, else in a file that is mapped, and kept for the next time.

A file of the cache is named by a key of the corpus's content and settings, written beside its place and renamed,
and checked as a whole before it is used; a damaged one is made again. When all of them together grow beyond 8 GiB,
those not used for longest are removed. Where nothing can be kept, a temporary file takes its place. What is written
is left to `corpus`.

    header | ids | what is known about them, as JSON
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any, NamedTuple

import numpy as np

from charlm.system.files import cache_folder
from charlm.text import library
from charlm.text.vocabulary import Ids

SMALL = 1 << 24  # bytes that may stay in memory
_KEPT = 8 << 30  # bytes of all files together
_ABANDONED = 86400.0  # seconds after which a file that nobody finished is removed
_MAGIC = b"charlm 1"
_HEADER = struct.Struct("<8sQQI4x")  # magic, bytes of the ids, bytes of the JSON, CRC-32 of both
_CHUNK = 1 << 20


class Encoded(NamedTuple):
    """An encoded corpus.

    Attributes:
        ids: all symbols, shape (N,), mapped or in memory.
        info: what is known about them.
    """

    ids: Ids
    info: dict[str, Any]


class IdsWriter:
    """Writes ids behind each other, in the smallest type that holds them.

    Args:
        file: empty.
        symbols: V; ids are below it.
    """

    def __init__(self, file: IO[bytes], symbols: int) -> None:
        self._file = file
        self._dtype = np.min_scalar_type(symbols - 1)
        self._bytes = 0
        self._checksum = 0
        file.write(bytes(_HEADER.size))

    def write(self, ids: Ids) -> None:
        """Appends ids of shape (n,)."""
        data = ids.astype(self._dtype).tobytes()
        self._file.write(data)
        self._bytes += len(data)
        self._checksum = zlib.crc32(data, self._checksum)

    def finish(self, info: dict[str, Any]) -> None:
        """Writes what is known about the ids, and the header."""
        data = json.dumps({**info, "dtype": self._dtype.str}).encode()
        self._file.write(data)
        self._file.seek(0)
        self._file.write(_HEADER.pack(_MAGIC, self._bytes, len(data), zlib.crc32(data, self._checksum)))


def folder() -> Path | None:
    """Returns the folder of encoded corpora, made if need be; None if nothing can be written there."""
    try:
        path = cache_folder() / "encoded"
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return None
    return path if os.access(path, os.W_OK) else None


def load(key: str) -> Encoded | None:
    """Returns the encoded corpus of this key, or None if there is none or it is damaged."""
    if (place := folder()) is None:
        return None
    path = _path(place, key)
    try:
        with path.open("rb") as file:
            found = _read(file)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # used now
    return found


def save(key: str | None, symbols: int, write: Callable[[IdsWriter], dict[str, Any]]) -> Encoded:
    """Stores an encoded corpus and returns it as it lies there.

    Args:
        key: to find it again; None: it is not kept.
        symbols: V.
        write: writes the ids and returns what is to be known about them. Called again where the first place has no
            room.

    Raises:
        OSError: no place has room.
    """
    if key and (place := folder()):
        path = _path(place, key)
        with contextlib.suppress(OSError):
            with library.replacing(path) as kept:
                writer = IdsWriter(kept, symbols)
                writer.finish(write(writer))
            _prune(place, path)
            if found := load(key):
                return found
    with SpooledTemporaryFile(max_size=SMALL) as file:
        writer = IdsWriter(file, symbols)
        writer.finish(write(writer))
        found = _read(file)
    if found is None:
        raise OSError("the temporary file was damaged")
    return found


def _path(place: Path, key: str) -> Path:
    return place / f"{key}.ids"


def _read(file: IO[bytes]) -> Encoded | None:
    """Reads what an `IdsWriter` wrote; None if it is damaged. Large ids are mapped and outlive the file's name."""
    file.seek(0)
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    magic, n_ids, n_info, checksum = _HEADER.unpack(header)
    if magic != _MAGIC or file.seek(0, os.SEEK_END) != _HEADER.size + n_ids + n_info:
        return None
    file.seek(_HEADER.size)
    found = 0
    while chunk := file.read(_CHUNK):
        found = zlib.crc32(chunk, found)
    if found != checksum:
        return None
    file.seek(_HEADER.size + n_ids)
    info = json.loads(file.read())
    dtype = np.dtype(info["dtype"])
    if n_ids > SMALL:
        mapped = np.memmap(file, dtype, "r", _HEADER.size, n_ids // dtype.itemsize)
        return Encoded(mapped.view(np.ndarray), info)
    file.seek(_HEADER.size)
    return Encoded(np.frombuffer(file.read(n_ids), dtype), info)


def _prune(place: Path, newest: Path) -> None:
    """Removes what was not used for longest beyond the bound, and what was never finished."""
    kept = 0
    files = [(file.stat(), file) for file in place.iterdir()]
    for status, file in sorted(files, key=lambda item: -item[0].st_mtime):
        abandoned = file.suffix == ".tmp" and time.time() - status.st_mtime > _ABANDONED
        kept += status.st_size
        if (kept > _KEPT or abandoned) and file != newest:
            file.unlink(missing_ok=True)
