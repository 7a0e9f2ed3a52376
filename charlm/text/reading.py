"""Reading: from paths to text, piece by piece, so that a text may be larger than memory.

Splitting and encoding are left to `corpus`, known corpora and downloads to `library`.
"""

from __future__ import annotations

import codecs
import glob
import gzip
import hashlib
import io
import itertools
import math
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

from charlm.errors import CorpusError
from charlm.text import library

STDIN = "-"
_NAMED = "corpus:"
_CHUNK = 1 << 20  # bytes read at once
_BOMB = 1 << 30  # bytes that a .gz file may unpack to, however small it is
_RATIO = 200  # beyond that, so many for each of its own: text has 2 to 10, and gzip reaches 1,000


def read_text(paths: Sequence[str], *, level: str = "character") -> str:
    """Reads files into one text.

    Args:
        paths: files, folders (all files below, hidden ones left out), globs, `.gz` files, `-` for standard input,
            `corpus:NAME` for a corpus that charlm knows. A file that does not end with a newline is given one
            if another follows.
        level: at `character` level text must be UTF-8, a BOM is dropped and CRLF and CR become newlines; at `byte`
            level bytes are taken as they are (bytes that are not UTF-8 as lone surrogates).

    Raises:
        CorpusError: naming the file, and for a fault in UTF-8 its byte offset and line.
    """
    return "".join(read_pieces(paths, level=level))


def read_pieces(paths: Sequence[str], *, level: str = "character") -> Iterator[str]:
    """Yields the text of `read_text` in pieces of about a megabyte."""
    empty, end = True, "\n"
    for number, file in enumerate(find_files(paths)):
        if number and end != "\n":
            yield "\n"
            end = "\n"
        for piece in _decoded(_chunks(file), str(file), level):
            if piece:
                empty = empty and not piece.strip("\n")
                end = piece[-1]
                yield piece
    if empty:
        raise CorpusError(f"{', '.join(paths)}: the corpus is empty")


def find_files(paths: Iterable[str]) -> list[str | Path]:
    """Returns the files that the paths of a configuration stand for; standard input is a `-`.

    Raises:
        CorpusError: a path stands for none.
    """
    return [file for path in paths for file in _expand(path)]


def content_key(files: Iterable[str | Path]) -> str:
    """Returns the SHA-256 of what files hold, in their order.

    Raises:
        CorpusError: a file cannot be read.
    """
    key = hashlib.sha256()
    for file in files:
        try:
            with Path(file).open("rb") as opened:
                inside = hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            raise _unreadable(file, error) from None
        key.update(f"{inside} {_is_packed(file)}\n".encode())
    return key.hexdigest()


def _expand(path: str) -> Iterator[str | Path]:
    """Yields the files that a path of a configuration stands for."""
    if path == STDIN:
        yield STDIN
        return
    if path.startswith(_NAMED):
        yield _named(path.removeprefix(_NAMED))
        return
    try:
        is_folder, exists = Path(path).is_dir(), Path(path).exists()
    except (OSError, ValueError):
        is_folder = exists = False
    if is_folder:
        files = sorted(
            file
            for file in Path(path).rglob("*")
            if file.is_file() and not any(p.startswith(".") for p in file.relative_to(path).parts)
        )
        if not files:
            raise CorpusError(f"{path}: no files in this folder")
        yield from files
    elif exists:
        yield Path(path)
    else:
        files = [Path(p) for p in sorted(glob.glob(path, recursive=True)) if Path(p).is_file()]
        if not files:
            hint = "no file matches this pattern" if glob.has_magic(path) else "no such file or folder"
            name = Path(path).name
            if any(name == known.name for known in library.known_corpora()):
                hint += f"; for the known corpus of this name write {_NAMED}{name}"
            raise CorpusError(f"{path}: {hint}")
        yield from files


def _named(name: str) -> Path:
    library.known_corpus(name)
    path = library.find(name)
    if path is None:
        raise CorpusError(f"{_NAMED}{name}: not on this machine yet; run `charlm corpus fetch {name}`")
    return path


def _is_packed(file: str | Path) -> bool:
    return Path(file).suffix == ".gz"


def _unreadable(file: str | Path, error: OSError) -> CorpusError:
    return CorpusError(f"{file}: cannot be read: {error.strerror or error}")


def _opened(file: str | Path) -> AbstractContextManager[BinaryIO | gzip.GzipFile]:
    if file == STDIN:
        return nullcontext(sys.stdin.buffer)
    return gzip.open(file) if _is_packed(file) else Path(file).open("rb")


def _chunks(file: str | Path) -> Iterator[bytes]:
    try:
        most = max(_BOMB, _RATIO * Path(file).stat().st_size) if _is_packed(file) else math.inf
        unpacked = 0
        with _opened(file) as source:
            while chunk := source.read(_CHUNK):
                unpacked += len(chunk)
                if unpacked > most:
                    raise CorpusError(
                        f"{file}: unpacks to more than {most:,} bytes, {_RATIO} times its size, as text does "
                        "not; if it is one, unpack it with `gunzip` first"
                    )
                yield chunk
    except OSError as error:  # gzip.BadGzipFile is one
        raise _unreadable(file, error) from None
    except (EOFError, zlib.error) as error:
        raise CorpusError(f"{file}: damaged gzip file: {error}") from None


def _decoded(chunks: Iterable[bytes], name: str, level: str) -> Iterator[str]:
    as_bytes = level == "byte"
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    held = b""  # of a character that the next chunk completes
    offset, line = 0, 1  # where `held` begins
    at_start = True
    for chunk in itertools.chain(chunks, [None]):
        data = held + (chunk or b"")
        if not as_bytes and (zero := data.find(b"\0")) >= 0:
            raise CorpusError(
                f"{name}: not a text file (a NUL byte at offset {offset + zero}); "
                "remove it, or set corpus.level: byte to learn from bytes"
            )
        try:
            text, used = codecs.utf_8_decode(data, "surrogateescape" if as_bytes else "strict", chunk is None)
        except UnicodeDecodeError as error:
            at = error.start
            in_line = line + data.count(b"\n", 0, at)
            raise CorpusError(
                f"{name}: not UTF-8: byte 0x{data[at]:02x} at offset {offset + at} (line {in_line}); "
                "convert it, for example with `iconv -f latin1 -t utf-8`, or set corpus.level: byte"
            ) from None
        held = data[used:]
        offset += used
        line += data.count(b"\n", 0, used)
        if as_bytes:
            yield text
            continue
        if at_start and text:
            at_start = False
            text = text.removeprefix("\ufeff")
        yield newlines.decode(text, final=chunk is None)
