"""The cache of encoded corpora: small ones stay in memory, large ones lie in a file that is mapped and kept.

A file of the cache is named by a key of the corpus's content and settings, written beside its place and renamed,
and checked as a whole before it is used; a damaged one is made again. When the files together exceed a bound, those
that were not used for the longest time are removed. Where no file can be kept, a temporary one takes its place.
What is written is left to `corpus`.

    header | ids | what is known about them, as JSON
"""

from __future__ import annotations

import contextlib
import errno
import json
import mmap
import os
import shutil
import struct
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any, NamedTuple

import numpy as np

from charlm.errors import CorpusError
from charlm.system.counts import format_size
from charlm.system.files import cache_folder, replace_file
from charlm.system.portable import is_running, lock_file
from charlm.text.vocabulary import Ids

_ABANDONED_SECONDS = 86400.0  # after which a file that no process has finished is removed
_IDLE_SECONDS = 60.0  # the same where its process is not one of this machine; another one may share the folder
_MAGIC = b"charlm 4"
_HEADER = struct.Struct("<8sQQI4x")  # magic, bytes of the ids, bytes of the JSON, CRC-32 of both
_READ_BYTES = 1 << 20
_SHARDS = ".shards"  # how the folder of the shards of a text is called, behind its key


class Encoded(NamedTuple):
    """An encoded corpus.

    Attributes:
        ids: all symbols, shape (N,), mapped or in memory.
        info: what is known about them.
    """

    ids: Ids
    info: dict[str, Any]


def release_pages(ids: Ids) -> None:
    """Lets the system take back the memory that mapped ids were read into; they are read again when needed.

    It would do so by itself when memory is short. Until then what has been touched counts as held by the process,
    and in the end all of the file does.
    """
    base: Any = ids
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(base, "madvise"):
        base.madvise(mmap.MADV_DONTNEED)


class IdsWriter:
    """Writes ids one after another, in the smallest type that holds them.

    Args:
        file: an empty file.
        symbols: the size of the vocabulary, V; ids are below it.

    Attributes:
        dtype: the type.
    """

    def __init__(self, file: IO[bytes], symbols: int) -> None:
        self._file = file
        self.dtype = np.min_scalar_type(symbols - 1)
        self._bytes = 0
        self._checksum = 0
        file.write(bytes(_HEADER.size))

    def write(self, ids: Ids) -> None:
        """Appends ids of shape (n,)."""
        data = ids.astype(self.dtype, copy=False).tobytes()
        self._file.write(data)
        self._bytes += len(data)
        self._checksum = zlib.crc32(data, self._checksum)

    def finish(self, info: dict[str, Any]) -> None:
        """Writes what is known about the ids, and the header, which makes the file valid."""
        data = json.dumps({**info, "dtype": self.dtype.str}).encode()
        self._file.write(data)
        self._file.seek(0)
        self._file.write(_HEADER.pack(_MAGIC, self._bytes, len(data), zlib.crc32(data, self._checksum)))


@dataclass(frozen=True)
class Cache:
    """The encoded corpora that are kept in `encoded` of the cache folder.

    Attributes:
        memory_bytes: up to this size, texts and ids stay in memory and are not kept.
        max_bytes: the size of all kept files together; the newest one may exceed it alone.
    """

    memory_bytes: int = 1 << 24
    max_bytes: int = 8 << 30

    def folder(self) -> Path | None:
        """Returns the folder, which is made if it is missing; None if nothing can be written there."""
        try:
            path = cache_folder() / "encoded"
            path.mkdir(parents=True, exist_ok=True)
        except (OSError, RuntimeError):  # RuntimeError: there is no home
            return None
        return path if os.access(path, os.W_OK) else None

    def check_room(self, text_bytes: int, there_bytes: int = 0, *, keep: bool) -> str | None:
        """Compares the room on the disk with what a copy of a text and its ids will take.

        Args:
            text_bytes: the size of the text.
            there_bytes: how much of the copy is there already.
            keep: whether the ids are kept, and both are written into the folder, rather than into a temporary one.

        Returns:
            What a person should know; None: there is room for both.

        Raises:
            OSError: there is no room for the copy alone.
        """
        if text_bytes <= self.memory_bytes:
            return None
        folder = (self.folder() if keep else None) or Path(tempfile.gettempdir())
        free = shutil.disk_usage(folder).free
        needed = 2 * text_bytes - there_bytes  # ids mostly take no more than their text; see `check_ids_room`
        if free >= needed:
            return None
        told = f"encoding needs up to {format_size(needed)} in {folder}, which has {format_size(free)} free"
        if free < needed - text_bytes:
            raise OSError(errno.ENOSPC, told)
        return told

    def check_ids_room(self, count: int, symbols: int, *, keep: bool) -> None:
        """Compares the room on the disk with what so many ids of a vocabulary will take.

        Raises:
            OSError: there is no room for them, neither in the folder, if they are kept, nor in the temporary one.
        """
        needed = count * np.min_scalar_type(symbols - 1).itemsize
        if needed <= self.memory_bytes:
            return
        own = self.folder() if keep else None
        places = [*([own] if own else []), Path(tempfile.gettempdir())]
        free = {place: shutil.disk_usage(place).free for place in places}
        if max(free.values()) < needed:
            places_free = " and ".join(f"{place} has {format_size(size)} free" for place, size in free.items())
            raise OSError(errno.ENOSPC, f"the encoded text needs {format_size(needed)}, but {places_free}")

    @contextlib.contextmanager
    def shards(self, key: str) -> Iterator[Path | None]:
        """Yields the folder for the shards of a text, which is this process's alone until the block ends.

        It is removed then; what a process leaves that is stopped, or killed, is there for the next one.

        Args:
            key: the name of the text.

        Yields:
            The folder; None: nothing can be written or locked there, or another process has it.
        """
        with contextlib.ExitStack() as opened:
            folder = self._lock_shards(key, opened)
            try:
                yield folder
            except (CorpusError, OSError):  # there is nothing to go on with
                if folder is not None:
                    shutil.rmtree(folder, ignore_errors=True)
                raise
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)

    def _lock_shards(self, key: str, opened: contextlib.ExitStack) -> Path | None:
        if (own := self.folder()) is None:
            return None
        folder = own / f"{key}{_SHARDS}"
        try:
            folder.mkdir(exist_ok=True)
            lock = opened.enter_context((folder / "lock").open("wb"))
            lock_file(lock.fileno())
            if not os.path.samestat(os.fstat(lock.fileno()), os.stat(lock.name)):
                return None  # another process has just removed it
            os.utime(folder)
        except OSError:
            return None
        return folder

    def shards_bytes(self, key: str) -> int:
        """Returns how much of the copy of a text an earlier process has left."""
        if (own := self.folder()) is None:
            return 0
        return sum(file.stat().st_size for file in (own / f"{key}{_SHARDS}").glob("*.text"))

    def remember_size(self, key: str, characters: int) -> None:
        """Keeps the size of a text."""
        with contextlib.suppress(OSError):
            if folder := self.folder():
                with replace_file(folder / f"{key}.size", shared=True) as file:
                    file.write(b"%d\n" % characters)

    def recall_size(self, key: str) -> int | None:
        """Returns the size of a text that was kept; None: it was not."""
        try:
            return int((folder / f"{key}.size").read_bytes()) if (folder := self.folder()) else None
        except (OSError, ValueError):
            return None

    def load(self, key: str) -> Encoded | None:
        """Returns the encoded corpus of this key, or None if there is none or it is damaged."""
        if (folder := self.folder()) is None:
            return None
        path = folder / f"{key}.ids"
        try:
            with path.open("rb") as file:
                found = self._read(file)
        except OSError:
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # used now
        return found

    def save(self, key: str | None, symbols: int, write: Callable[[IdsWriter], dict[str, Any]]) -> Encoded:
        """Stores an encoded corpus and returns it as it is stored.

        Args:
            key: the name to find it again by; None: it is not kept.
            symbols: the size of the vocabulary, V.
            write: writes the ids and returns what is to be known about them. It is called again where the first
                place has no room.

        Raises:
            OSError: no place has room.
        """
        if key and (folder := self.folder()):
            path = folder / f"{key}.ids"
            with contextlib.suppress(OSError):
                self._prune(folder, path)  # what a process left that was killed may take the room
                with replace_file(path, shared=True) as kept:
                    writer = IdsWriter(kept, symbols)
                    writer.finish(write(writer))
                self._prune(folder, path)
                with path.open("rb") as written:
                    if found := self._read(written, is_checked=True):
                        return found
        with SpooledTemporaryFile(max_size=self.memory_bytes) as file:
            writer = IdsWriter(file, symbols)
            writer.finish(write(writer))
            found = self._read(file, is_checked=True)
        if found is None:
            raise OSError("the temporary file was damaged")
        return found

    def _read(self, file: IO[bytes], *, is_checked: bool = False) -> Encoded | None:
        """Reads what an `IdsWriter` wrote; None if it is damaged. Large ids are mapped; they outlive the name.

        What has just been written, and synced, `is_checked`.
        """
        file.seek(0)
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            return None
        magic, n_ids, n_info, checksum = _HEADER.unpack(header)
        if magic != _MAGIC or file.seek(0, os.SEEK_END) != _HEADER.size + n_ids + n_info:
            return None
        file.seek(_HEADER.size)
        found = 0
        while not is_checked and (chunk := file.read(_READ_BYTES)):
            found = zlib.crc32(chunk, found)
        if not is_checked and found != checksum:
            return None
        file.seek(_HEADER.size + n_ids)
        info = json.loads(file.read())
        dtype = np.dtype(info["dtype"])
        if n_ids > self.memory_bytes:
            mapped = np.memmap(file, dtype, "r", _HEADER.size, n_ids // dtype.itemsize)
            return Encoded(mapped.view(np.ndarray), info)
        file.seek(_HEADER.size)
        return Encoded(np.frombuffer(file.read(n_ids), dtype), info)

    def _prune(self, folder: Path, newest: Path) -> None:
        """Removes the files that were not used for the longest time beyond the bound, and those never finished."""
        kept_bytes = 0
        files = []
        for path in folder.iterdir():
            if path.suffix != _SHARDS:
                files.append((path.stat(), path))
            elif time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
        for status, file in sorted(files, key=lambda item: -item[0].st_mtime):
            kept_bytes += status.st_size
            abandoned = file.suffix == ".tmp" and _is_abandoned(file, time.time() - status.st_mtime)
            if (kept_bytes > self.max_bytes or abandoned) and file != newest:
                file.unlink(missing_ok=True)


def _is_abandoned(file: Path, idle_seconds: float) -> bool:
    """Whether no process is at work on a file that was never finished; its name holds the number of the process."""
    bound = _ABANDONED_SECONDS
    with contextlib.suppress(ValueError):
        if not is_running(int(file.stem.rpartition(".")[2])):
            bound = _IDLE_SECONDS
    return idle_seconds > bound
