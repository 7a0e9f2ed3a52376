"""The bytes of texts: read from a file or standard input, and unpacked within bounds.

What is packed, and what is no text at all, is known by content (`containers`). `decoding` turns bytes into
characters, `reading` makes corpora of them, `lines` sentences.
"""

from __future__ import annotations

import io
import math
import os
import shutil
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any, BinaryIO, NamedTuple, cast
from zipfile import ZipFile

from charlm.errors import CorpusError
from charlm.system.counts import count_of, list_some
from charlm.system.encodings import UTF_8
from charlm.system.shell import quote_path
from charlm.text.containers import (
    BINARY,
    DAMAGE,
    HEAD_BYTES,
    NotText,
    may_be_packed,
    members,
    not_text,
    open_member,
    packing,
    packing_by_name,
    unpack,
)
from charlm.text.detection import detect_wide

MAX_UNPACKED_BYTES = 1 << 30
_MAX_UNPACKED_RATIO = 200  # text unpacks to 2 to 10 times the size of the file, and gzip can reach 1,000
_SEARCHED_BYTES = 1 << 20  # for a newline to cut behind; without one, a part is longer
_SPOOLED_BYTES = 1 << 24  # of a zip archive that comes through a pipe, held in memory


class NotTextError(CorpusError):
    """A file that cannot be text.

    Args:
        name: what messages call the file.
        what: what it is.
    """

    def __init__(self, name: str, what: NotText) -> None:
        advice = ""
        if what.way_out:
            advice = f"; convert it to text first, for example with `{what.way_out.format(quote_path(name))}`"
        super().__init__(f"{name}: {what.kind}, not a text{advice}")
        self.what = what


class Span(NamedTuple):
    """A file, or a part of one that holds its bytes as they are and is cut behind newlines.

    Attributes:
        path: the file.
        begin: its first byte.
        end: the byte behind its last one; None: the end of the file.
    """

    path: Path
    begin: int = 0
    end: int | None = None


class Source(NamedTuple):
    """The bytes of one text.

    Attributes:
        name: what messages call it.
        chunks: its bytes, unpacked; they are read before the next text of the same file.
        is_file: whether `name` is a file that holds these bytes as they are.
        begins: whether the bytes begin the text, rather than go on with it behind a newline.
    """

    name: str
    chunks: Iterator[bytes]
    is_file: bool
    begins: bool = True


def read_sources(
    path: Path | Span | None,
    chunk_bytes: int,
    *,
    name: str,
    level: str = "character",
    as_they_come: bool = False,
    max_unpacked_bytes: float = math.inf,
    skipped: list[str] | None = None,
) -> Iterator[Source]:
    """Yields the texts of a file or of standard input: one, or those of a zip archive.

    Args:
        path: the file, or a part of it; None: standard input.
        chunk_bytes: the size of a chunk; the last one may be smaller.
        name: what messages call the source.
        level: at `byte` level what is not text is read as well, but for packed files, which are unpacked.
        as_they_come: whether a smaller chunk is yielded rather than waiting for more bytes.
        max_unpacked_bytes: what a packed file may unpack to however small it is. Beyond that, it may unpack to 200
            times its own size.
        skipped: takes the names of files in a zip archive that are not text, which are left out. None: they are
            refused.

    Raises:
        CorpusError: the source cannot be read, is a damaged packed file, unpacks to too much, or is not text.
    """
    begin, end = 0, None
    if isinstance(path, Span):
        path, begin, end = path
    with _faults(name), _open(path, name) as file:
        if begin:
            file.seek(begin)
            yield Source(name, _limit(_read_chunks(name, file, chunk_bytes, False), end, begin), True, False)
            return
        head = _read_head(file, chunk_bytes, as_they_come)
        kind = packing(head)
        wanted = packing_by_name(str(path)) if path is not None else None
        if wanted and head and kind != wanted:
            raise CorpusError(
                f"{name}: this is not a {wanted} file, although its name ends like one; rename it or download it "
                "again"
            )
        raw = _Rewound(head, file)
        rest = cast("BinaryIO", io.BufferedReader(raw))
        if kind is None:
            _refuse_other(name, head, level)
            yield Source(name, _limit(_read_chunks(name, rest, chunk_bytes, as_they_come), end), path is not None)
            return
        bound = _Bound(name, raw, max_unpacked_bytes)
        if kind == "zip":
            with _seekable(file, rest) as archive:
                yield from _read_archive(archive, bound, name, level, chunk_bytes, skipped)
            return
        try:
            unpacked = unpack(kind, rest)
        except ModuleNotFoundError:
            raise CorpusError(
                f"{name}: this Python cannot unpack zstd; run `pip install 'charlm[zstd]'`, or unpack the file "
                "with `unzstd` first"
            ) from None
        with unpacked, _faults(name, kind):
            head = unpacked.read(HEAD_BYTES)
            _refuse_other(name, head, level, inside=kind)
            inner = cast("BinaryIO", io.BufferedReader(_Rewound(head, cast("BinaryIO", unpacked))))
            yield Source(name, bound.watch(_read_chunks(name, inner, chunk_bytes, as_they_come, kind)), False)


def what_else(path: Path, *, level: str, encoding: str = UTF_8) -> NotText | None:
    """Says what a file is that cannot be text, as far as its beginning tells; None: it may be text.

    Raises:
        CorpusError: it cannot be read.
    """
    sources = read_sources(path, HEAD_BYTES, name=str(path), level=level, skipped=[])
    try:
        head = next(next(sources).chunks, b"")
    except NotTextError as error:
        return error.what
    finally:
        sources.close()  # type: ignore[attr-defined]  # it is a generator
    has_zeros = level != "byte" and b"\0" in head and "\0".encode(_named(encoding)) == b"\0"
    return BINARY if has_zeros and detect_wide(head) is None else None


def _named(encoding: str) -> str:
    return UTF_8 if encoding == "auto" else encoding


def describe_skipped(names: Sequence[str], where: str) -> str:
    """Counts files that were skipped, and names the first of them."""
    count = count_of(len(names), "file that is not text", "files that are not text")
    return f"skipped {count} {where}: {list_some(names)}"


def unreadable(name: str, error: OSError) -> CorpusError:
    """Returns what to raise where a source cannot be opened or read."""
    return CorpusError(f"{name}: cannot be read: {error.strerror or error}")


@contextmanager
def _faults(name: str, kind: str = "zip") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise (_damaged(name, kind, error) if error.errno is None else unreadable(name, error)) from None
    except DAMAGE as error:
        raise _damaged(name, kind, error) from None


def _damaged(name: str, kind: str, error: Exception) -> CorpusError:
    return CorpusError(f"{name}: damaged {kind} file: {error}; copy or download it again")


def _open(path: Path | None, name: str) -> AbstractContextManager[BinaryIO]:
    if path is None:
        return nullcontext(cast("BinaryIO", sys.stdin.buffer))
    file = path.open("rb")
    status = os.fstat(file.fileno())
    if stat.S_ISBLK(status.st_mode) or (stat.S_ISCHR(status.st_mode) and not _ends(file, status)):
        file.close()
        raise CorpusError(f"{name}: this is a device, not a file; name a file of text")
    return cast("AbstractContextManager[BinaryIO]", file)


def _ends(file: IO[bytes], status: os.stat_result) -> bool:
    """Whether reading a device comes to an end: a terminal and /dev/null do, /dev/zero does not."""
    return file.isatty() or getattr(status, "st_rdev", 0) == getattr(os.stat(os.devnull), "st_rdev", 0)


def _read_head(file: BinaryIO, chunk_bytes: int, as_they_come: bool) -> bytes:
    """Reads enough of the beginning to recognise a file, or, of what arrives slowly, what has arrived."""
    if not as_they_come:
        return file.read(HEAD_BYTES)
    read1 = cast("io.BufferedReader", file).read1
    head = more = read1(chunk_bytes)
    while more and may_be_packed(head):
        more = read1(chunk_bytes)
        head += more
    return head


class _Rewound(io.RawIOBase):
    """A stream, read again from the beginning of which some bytes were read.

    Attributes:
        n_bytes: how many bytes were given out.
    """

    def __init__(self, head: bytes, file: BinaryIO) -> None:
        self._head = head
        self._file = cast("io.BufferedReader", file)
        self.n_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._head or self._file.read1(len(buffer))
        count = min(len(buffer), len(data))
        buffer[:count] = data[:count]
        self._head = data[count:]
        self.n_bytes += count
        return count


def _refuse_other(name: str, head: bytes, level: str, inside: str | None = None) -> None:
    if level == "byte":
        return
    what = not_text(head)
    if what is None and inside is not None and (kind := packing(head)):
        what = NotText(f"a {kind} file")
    if what is not None and inside is not None:
        what = NotText(f"{what.kind} in a {inside} file")
    if what is not None:
        raise NotTextError(name, what)


def _read_chunks(
    name: str, file: BinaryIO, chunk_bytes: int, as_they_come: bool, kind: str = "zip"
) -> Iterator[bytes]:
    read = cast("io.BufferedReader", file).read1 if as_they_come else file.read
    with _faults(name, kind):
        while chunk := read(chunk_bytes):
            yield chunk


def _limit(chunks: Iterator[bytes], end: int | None, begin: int = 0) -> Iterator[bytes]:
    """Passes on what lies before a place of the file; None: everything."""
    for chunk in chunks:
        yield chunk if end is None else chunk[: end - begin]
        begin += len(chunk)
        if end is not None and begin >= end:
            return


def cut_file(path: Path, span_bytes: int, *, searched_bytes: int = _SEARCHED_BYTES) -> Iterator[Span]:
    """Yields the parts of a large file that is not packed, each of about so many bytes and cut behind a newline.

    Raises:
        CorpusError: it cannot be read.
    """
    with _faults(str(path)), path.open("rb") as file:
        status = os.fstat(file.fileno())
        begin = 0
        if stat.S_ISREG(status.st_mode) and packing(file.read(HEAD_BYTES)) is None:
            for place in range(span_bytes, status.st_size - span_bytes // 2, span_bytes):
                file.seek(place)
                newline = file.read(searched_bytes).find(b"\n")
                if newline >= 0 and begin < place + newline + 1 < status.st_size:
                    yield Span(path, begin, begin := place + newline + 1)
    yield Span(path, begin)


class _Bound:
    """Counts what is made of a packed file, and refuses what no text unpacks to."""

    def __init__(self, name: str, packed: _Rewound, max_unpacked_bytes: float) -> None:
        self._name = name
        self._packed = packed
        self._max_unpacked_bytes = max_unpacked_bytes
        self._unpacked_bytes = 0
        self.packed_bytes: int | None = None  # where the packed bytes are not read in order

    def watch(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Passes chunks on while they are within the bound."""
        for chunk in chunks:
            self._unpacked_bytes += len(chunk)
            packed_bytes = self._packed.n_bytes if self.packed_bytes is None else self.packed_bytes
            bound = max(self._max_unpacked_bytes, _MAX_UNPACKED_RATIO * packed_bytes)
            if self._unpacked_bytes > bound:
                raise CorpusError(
                    f"{self._name}: this file unpacks to more than {bound:,} bytes, {_MAX_UNPACKED_RATIO} times "
                    "its size, which is unusual for a text; if it is a text, unpack it first"
                )
            yield chunk


@contextmanager
def _seekable(file: BinaryIO, rest: BinaryIO) -> Iterator[BinaryIO]:
    """Yields a file that can be read in any order: the file itself, or a copy of what comes through a pipe."""
    if file.seekable():
        file.seek(0)
        yield file
        return
    with SpooledTemporaryFile(_SPOOLED_BYTES) as copy:
        shutil.copyfileobj(rest, copy)
        copy.seek(0)
        yield cast("BinaryIO", copy)


def _read_archive(
    file: BinaryIO, bound: _Bound, name: str, level: str, chunk_bytes: int, skipped: list[str] | None
) -> Iterator[Source]:
    file.seek(0, os.SEEK_END)
    bound.packed_bytes = file.tell()
    found = False
    with ZipFile(file) as archive:
        files, what = members(archive)
        if what is not None and level != "byte":
            raise NotTextError(name, what)
        for info in files:
            inner_name = f"{name}/{info.filename}"
            with _faults(inner_name), open_member(archive, info) as opened:
                head = opened.read(HEAD_BYTES)
                try:
                    _refuse_other(inner_name, head, level)
                    if level != "byte" and packing(head):
                        raise NotTextError(inner_name, NotText("a packed file in a zip file"))
                    if level != "byte" and b"\0" in head and detect_wide(head) is None:
                        raise NotTextError(inner_name, BINARY)
                except NotTextError:
                    if skipped is None:
                        raise
                    skipped.append(inner_name)
                    continue
                found = True
                rest = cast("BinaryIO", io.BufferedReader(_Rewound(head, cast("BinaryIO", opened))))
                yield Source(inner_name, bound.watch(_read_chunks(inner_name, rest, chunk_bytes, False)), False)
    if not found:
        raise NotTextError(name, NotText("a zip archive without any text in it"))
