"""Corpora: from the paths of a configuration to text, piece by piece, so that it may be larger than memory.

Opening and decoding are left to `source`, splitting and encoding to `corpus`, known corpora to `library`.
"""

from __future__ import annotations

import glob
import hashlib
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from charlm.errors import CorpusError
from charlm.text import library
from charlm.text.source import MAX_UNPACKED_BYTES, decode_utf8, is_packed, not_utf8, read_chunks, unreadable

STDIN = "-"
READ_BYTES = 1 << 20
_NAMED = "corpus:"


def read_text(
    paths: Sequence[str],
    *,
    level: str = "character",
    read_bytes: int = READ_BYTES,
    max_unpacked_bytes: int = MAX_UNPACKED_BYTES,
) -> str:
    """Reads files into one text.

    Args:
        paths: files, folders (all files below them, without hidden ones), globs, `.gz` files, `-` for standard
            input, `corpus:NAME` for a corpus that charlm knows. A file that does not end with a newline is given
            one if another file follows.
        level: at `character` level text must be UTF-8, a byte order mark is dropped, and CRLF and CR become
            newlines; at `byte` level bytes are taken as they are (those that are not UTF-8 as lone surrogates).
        read_bytes: the number of bytes read at a time.
        max_unpacked_bytes: what a `.gz` file may unpack to, see `read_chunks`.

    Raises:
        CorpusError: naming the file, and for a fault in UTF-8 its byte offset and line.
    """
    return "".join(read_pieces(paths, level=level, read_bytes=read_bytes, max_unpacked_bytes=max_unpacked_bytes))


def read_pieces(
    paths: Sequence[str],
    *,
    level: str = "character",
    read_bytes: int = READ_BYTES,
    max_unpacked_bytes: int = MAX_UNPACKED_BYTES,
) -> Iterator[str]:
    """Yields the text of `read_text` in pieces of about `read_bytes`."""
    empty, end = True, "\n"
    for number, file in enumerate(find_files(paths)):
        if number and end != "\n":
            yield "\n"
            end = "\n"
        path, name = (None, STDIN) if file == STDIN else (Path(file), str(file))
        chunks = read_chunks(path, read_bytes, name=name, max_unpacked_bytes=max_unpacked_bytes)
        for piece in _decode(chunks, name, level):
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
            raise unreadable(str(file), error) from None
        key.update(f"{inside} {is_packed(Path(file))}\n".encode())
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


def _decode(chunks: Iterable[bytes], name: str, level: str) -> Iterator[str]:
    """Yields the text of chunks of bytes; a character that is cut comes with the chunk that completes it."""
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    held = b""  # the begun character
    offset, line = 0, 1  # where `held` begins
    for chunk in itertools.chain(chunks, [None]):
        data = held + (chunk or b"")
        if level != "byte" and (zero := data.find(b"\0")) >= 0:
            raise CorpusError(
                f"{name}: not a text file (a NUL byte at offset {offset + zero}); "
                "remove it, or set corpus.level: byte to learn from bytes"
            )
        try:
            text, used = decode_utf8(data, level, beginning=offset == 0, final=chunk is None)
        except UnicodeDecodeError as error:
            place = f"at offset {offset + error.start} (line {line + data.count(10, 0, error.start)})"
            advice = "convert it, for example with `iconv -f latin1 -t utf-8`, or set corpus.level: byte"
            raise not_utf8(name, error, f"{place}; {advice}") from None
        held = data[used:]
        offset += used
        line += data.count(b"\n", 0, used)
        yield text if level == "byte" else newlines.decode(text, final=chunk is None)
