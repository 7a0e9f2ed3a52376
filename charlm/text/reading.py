"""Corpora: from the paths of a configuration to text, piece by piece, so that it may be larger than memory.

Opening and decoding are left to `source`, splitting and encoding to `corpus`, known corpora to `library`.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from charlm.errors import CorpusError
from charlm.system.counts import list_some
from charlm.system.encodings import UTF_8
from charlm.text import library
from charlm.text.columns import Columns
from charlm.text.containers import PARQUET, packing_by_name
from charlm.text.decoding import SETTING, Note, decode
from charlm.text.parquet import is_parquet, read_parquet
from charlm.text.source import (
    MAX_UNPACKED_BYTES,
    NotTextError,
    Span,
    describe_skipped,
    read_sources,
    unreadable,
    what_else,
)

STDIN = "-"
READ_BYTES = 1 << 20
_NAMED = "corpus:"
MOST_OWN_FILES = 100_000  # that a run's own text is looked for among
_MADE_UP = ("/proc", "/sys", "/dev")  # where the kernel shows itself as files


def read_text(paths: Sequence[str], **settings: Any) -> str:
    """Reads files into one text; arguments as in `read_pieces`.

    Raises:
        CorpusError: see `read_pieces`.
    """
    return "".join(read_pieces(paths, **settings))


def read_pieces(
    paths: Sequence[str],
    *,
    files: Sequence[str | Path] | None = None,
    level: str = "character",
    encoding: str = UTF_8,
    strict: bool = False,
    remedy: str = SETTING,
    note: Note = lambda text: None,
    read_bytes: int = READ_BYTES,
    max_unpacked_bytes: int = MAX_UNPACKED_BYTES,
    columns: Columns | None = None,
) -> Iterator[str]:
    """Yields the text of files, or that of one column of each, in pieces of about `read_bytes`.

    Args:
        paths: see `find_files`.
        files: what `find_files` has found there, if it has been asked already. A file that does not end with a
            newline is given one if another file follows.
        level: see `decode`.
        encoding: see `decode`.
        strict: whether what is not text is refused in folders and zip archives too, where it is skipped otherwise.
        remedy: see `decode`.
        note: is told what was skipped, and which encodings were found.
        read_bytes: the number of bytes read at a time.
        max_unpacked_bytes: what a packed file may unpack to, see `read_sources`.
        columns: selects the texts of a column; None: the whole text.

    Raises:
        CorpusError: naming the file, and for a fault in its encoding the byte, the line, and what it may be.
    """
    if files is None:
        tables = columns is not None and columns.field is not None
        files = find_files(paths, level=level, encoding=encoding, strict=strict, tables=tables, note=note)
    empty = True
    skipped: list[str] | None = None if strict else []
    for piece in read_files(
        files,
        level=level,
        encoding=encoding,
        remedy=remedy,
        note=note,
        read_bytes=read_bytes,
        max_unpacked_bytes=max_unpacked_bytes,
        columns=columns,
        skipped=skipped,
    ):
        empty = empty and not piece.strip("\n")
        yield piece
    if skipped:
        note(describe_skipped(skipped, "in zip archives"))
    if empty:
        raise empty_corpus(paths)


def empty_corpus(paths: Sequence[str]) -> CorpusError:
    """Returns what to raise where files hold nothing but newlines."""
    return CorpusError(f"{', '.join(paths)}: the corpus is empty; name a file that holds text")


def read_files(
    files: Iterable[str | Path | Span],
    *,
    level: str,
    encoding: str,
    remedy: str = SETTING,
    note: Note = lambda text: None,
    read_bytes: int = READ_BYTES,
    max_unpacked_bytes: int = MAX_UNPACKED_BYTES,
    columns: Columns | None = None,
    skipped: list[str] | None,
) -> Iterator[str]:
    """Yields the text of files, or of parts of files, as `read_pieces` does, perhaps nothing.

    Args:
        files: those that `find_files` has found, or parts of them.
        level: see `read_pieces`, as all that follow.
        encoding: see there.
        remedy: see there.
        note: see there.
        read_bytes: see there.
        max_unpacked_bytes: see there.
        columns: see there.
        skipped: see `read_sources`.

    Raises:
        CorpusError: see `read_pieces`.
    """
    end = "\n"
    for file in files:
        path, name = (None, STDIN) if file == STDIN else _named_source(file)

        def texts(path: Path | Span | None = path, name: str = name) -> Iterator[Iterator[str]]:
            plain = path.path if isinstance(path, Span) else path
            if columns is not None and plain is not None and is_parquet(plain):
                if columns.field is None:
                    raise CorpusError(
                        f"{name}: a Parquet table, not a text; name the column to read with {columns.option}"
                    )
                yield columns.join(read_parquet(plain, columns.field, name), name)
                return
            for source in read_sources(
                path, read_bytes, name=name, level=level, max_unpacked_bytes=max_unpacked_bytes, skipped=skipped
            ):
                text = decode(source, encoding, level, remedy=remedy, note=note)
                yield text if columns is None or not source.begins else columns.select(text, name)

        for text in texts():
            begins = True
            for piece in text:
                if begins and end != "\n" and piece:
                    yield "\n"
                begins = begins and not piece
                if piece:
                    end = piece[-1]
                    yield piece


def _named_source(file: str | Path | Span) -> tuple[Path | Span, str]:
    """Returns what to read, and what messages call it."""
    return (file, str(file.path)) if isinstance(file, Span) else (Path(file), str(file))


def find_files(
    paths: Iterable[str],
    *,
    level: str = "character",
    encoding: str = UTF_8,
    strict: bool = False,
    tables: bool = False,
    note: Note = lambda text: None,
) -> list[str | Path]:
    """Returns the files that the paths of a configuration stand for; standard input is a `-`.

    Args:
        paths: files, folders (all files below them, without hidden ones), globs, `-` for standard input,
            `corpus:NAME` for a corpus that charlm knows.
        level: at `byte` level all files are texts.
        encoding: of the texts.
        strict: whether what is not text in a folder or among the files of a glob is refused.
        tables: whether a Parquet table is read, of which a column is.
        note: is told what is skipped because it is not text.

    Raises:
        CorpusError: a path stands for no file, or cannot be read.
    """
    paths = list(paths)
    refuse_twice(paths)
    return [file for path in paths for file in _expand(path, level, encoding, strict, tables, note)]


def refuse_twice(paths: Iterable[str | Path]) -> None:
    """Refuses standard input where it is named twice: the second time it would be empty.

    Raises:
        CorpusError: it is.
    """
    if sum(str(path) == STDIN for path in paths) > 1:
        raise CorpusError(f"{STDIN}: standard input is named twice, but it can be read only once; name it once")


def refuse_special_files(paths: Iterable[str], *, most: int = MOST_OWN_FILES) -> None:
    """Refuses what a run folder made by others must not make anybody read: reading it may never end.

    Args:
        paths: see `find_files`.
        most: how many files and folders may stand where a path leads to.

    Raises:
        CorpusError: a path stands for something else than ordinary files of a disk, or for a folder or a pattern
            that takes long to search.
    """
    for path in paths:
        if not _is_special(path):
            _refuse_huge(path, most)
        many = not _is_special(path) and (os.path.isdir(path) or glob.has_magic(path))
        for file in find_files([path], level="byte") if many else [path]:
            if file != STDIN and _is_special(file):
                raise CorpusError(
                    f"{file}: not an ordinary file; a run's own text is read only from ordinary files"
                )


def _refuse_huge(path: str, most: int) -> None:
    """Refuses a folder, or a pattern that begins with one, that takes long to search."""
    magic = re.search(r"[*?\[]", path)
    folder = path if magic is None or os.path.isdir(path) else os.path.dirname(path[: magic.start()]) or "."
    count = 0
    for _, folders, names in os.walk(folder):
        count += len(folders) + len(names)
        if count > most:
            raise CorpusError(
                f"{path}: more than {most:,} files and folders to search; a run's own text is not read "
                "from so large a folder"
            )


def _is_special(path: str | Path) -> bool:
    """Whether a path leads to a pipe, a device, a socket, or into a file system that the kernel makes up."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return False  # told by whoever opens it
    ordinary = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
    return not ordinary or status.st_dev in _made_up_devices()


@cache
def _made_up_devices() -> set[int]:
    devices = set()
    for name in _MADE_UP:
        with suppress(OSError):
            devices.add(os.stat(name).st_dev)
    return devices - {os.stat("/").st_dev}


def content_key(files: Iterable[str | Path], tell: Callable[[int], None] = lambda size: None) -> str:
    """Returns the SHA-256 of what files hold, in their order.

    Args:
        files: the files.
        tell: is told the number of bytes that were read, now and then.

    Raises:
        CorpusError: a file cannot be read.
    """
    key = hashlib.sha256()
    for file in files:
        try:
            with Path(file).open("rb") as opened:
                inside = hashlib.sha256()
                while chunk := opened.read(READ_BYTES):
                    inside.update(chunk)
                    tell(len(chunk))
        except OSError as error:
            raise unreadable(str(file), error) from None
        key.update(f"{inside.hexdigest()} {packing_by_name(str(file))}\n".encode())
    return key.hexdigest()


def text_bytes(files: Iterable[str | Path]) -> int | None:
    """Returns how much text there is in files; None: it is not known before they are unpacked or have arrived."""
    files = list(files)
    if any(file == STDIN or packing_by_name(str(file)) or not Path(file).is_file() for file in files):
        return None
    return sum(Path(file).stat().st_size for file in files)


def _expand(path: str, level: str, encoding: str, strict: bool, tables: bool, note: Note) -> Iterator[str | Path]:
    """Yields the files that a path of a configuration stands for."""
    if path == STDIN:
        yield STDIN
        return
    if path.startswith(_NAMED):
        yield _named(path.removeprefix(_NAMED))
        return
    try:
        mode = os.stat(path).st_mode
    except PermissionError as error:
        raise unreadable(path, error) from None
    except (OSError, ValueError):
        mode = 0  # there is no such file
    if stat.S_ISDIR(mode):
        files, others = _walk(Path(path))
        if not files and not others:
            raise CorpusError(f"{path}: there are no files in this folder")
        yield from _only_texts(path, files, others, level, encoding, strict, tables, note)
    elif mode:
        yield Path(path)
    else:
        if glob.has_magic(path):
            _check_folders(path)
        modes = {Path(p): os.stat(p).st_mode for p in sorted(glob.glob(path, recursive=True)) if os.path.exists(p)}
        files = [p for p, mode in modes.items() if stat.S_ISREG(mode)]
        others = {
            p: "not an ordinary file"
            for p, mode in modes.items()
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)
        }
        if not files and not others:
            hint = "no file matches this pattern" if glob.has_magic(path) else "no such file or folder"
            name = Path(path).name
            if any(name == known.name for known in library.known_corpora()):
                hint += f"; for the known corpus of this name, write {_NAMED}{name}"
            raise CorpusError(f"{path}: {hint}")
        yield from _only_texts(path, files, others, level, encoding, strict, tables, note)


def _check_folders(pattern: str) -> None:
    """Looks into each folder that a pattern leads through: glob leaves out in silence what may not be entered.

    Raises:
        CorpusError: a folder may not be listed or entered.
    """
    parts = Path(pattern).parts
    for depth, part in enumerate(parts):
        above = os.path.join(*parts[:depth]) if depth else "."
        for folder in filter(os.path.isdir, glob.glob(above)):
            if part == "**":
                _walk(Path(folder))
                continue
            try:
                os.stat(os.path.join(folder, "."))
                if glob.has_magic(part):
                    os.scandir(folder).close()
            except OSError as error:
                raise unreadable(folder, error) from None
        if part == "**":
            return  # all below has been looked into


def _walk(folder: Path) -> tuple[list[Path], dict[Path, str]]:
    """Returns the visible files below a folder, and what is none, with the reason why.

    Raises:
        CorpusError: a folder may not be listed or entered.
    """

    def refuse(error: OSError) -> None:
        raise unreadable(str(error.filename), error)

    files: list[Path] = []
    others: dict[Path, str] = {}
    made_up = _made_up_devices()
    for above, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in list(folders):
            path = Path(above, name)
            if path.is_symlink():
                others[path] = "a link to a folder"
            elif _stat(path).st_dev in made_up:
                others[path] = "a folder of the system"
                folders.remove(name)
        for name in names:
            path = Path(above, name)
            if name.startswith("."):
                continue
            try:
                mode = path.stat().st_mode
            except PermissionError as error:
                raise unreadable(str(path), error) from None
            except OSError:
                others[path] = "a broken link"
                continue
            if stat.S_ISREG(mode):
                files.append(path)
            else:
                others[path] = (
                    "a pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
                )
    return sorted(files), others


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise unreadable(str(path), error) from None


def _only_texts(
    path: str,
    files: list[Path],
    others: dict[Path, str],
    level: str,
    encoding: str,
    strict: bool,
    tables: bool,
    note: Note,
) -> list[Path]:
    """Returns the files that are texts, and says which are not.

    Raises:
        CorpusError: none is, or `strict` and one is not.
    """
    texts = []
    skipped = dict(others)
    for file in files:
        what = what_else(file, level=level, encoding=encoding)
        if what is not None and not (tables and what == PARQUET):
            skipped[file] = what.kind
            if strict:
                raise NotTextError(str(file), what)
        else:
            texts.append(file)
    if strict and skipped:
        raise CorpusError(list_some([f"{file}: {kind}, not a text" for file, kind in skipped.items()]))
    if skipped:
        described = describe_skipped(
            [
                f"{os.path.relpath(f, path) if Path(path).is_dir() else f} ({kind})"
                for f, kind in sorted(skipped.items())
            ],
            f"in {path}",
        )
        if not texts:
            raise CorpusError(f"{path}: there is no text in it; {described}")
        note(described)
    return texts


def _named(name: str) -> Path:
    library.known_corpus(name)
    path = library.find(name)
    if path is None:
        raise CorpusError(
            f"{_NAMED}{name}: this corpus is not on this machine yet; run `charlm corpus fetch {name}`"
        )
    return path
