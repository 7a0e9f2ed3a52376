"""Where charlm keeps its files, where those that it ships lie, and how a file is replaced as a whole."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def cache_folder() -> Path:
    """Returns the folder for files that charlm can make again.

    It is `$CHARLM_CACHE` if this variable is set, otherwise `$XDG_CACHE_HOME/charlm`, otherwise `~/.cache/charlm`.
    It contains downloaded `corpora`, `encoded` corpora and compiled `kernels`.
    """
    if own := os.environ.get("CHARLM_CACHE"):
        return Path(own).expanduser()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared).expanduser() / "charlm"
    return Path.home() / ".cache" / "charlm"


def shipped_folder(name: str) -> Path:
    """Returns a folder of files that come with charlm, `data` or `configs`.

    An installed package contains it; in a checkout it lies beside the package.
    """
    package = Path(__file__).resolve().parent.parent
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


@contextmanager
def replace_file(path: Path, *, shared: bool = False) -> Iterator[BinaryIO]:
    """Writes a file beside its place, syncs it and renames it into place; the folder is synced as well.

    A reader, or a machine that loses power, sees the old content or the new, never a part of it. If the block
    raises, the old content stays and nothing is left beside it. What lies beside it from a process that was killed
    is removed first, and so is a symbolic link there: nothing is written through it.

    Args:
        path: the file to replace, or to make.
        shared: whether several processes may write this file at the same time; each then writes beside it under a
            name of its own, and the last one wins.

    Raises:
        OSError: the file cannot be written.
    """
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp" if shared else f"{path.name}.new")
    try:
        beside.unlink(missing_ok=True)
        with open(beside, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    sync_folder(path.parent)


@contextmanager
def make_folder(path: Path) -> Iterator[Path]:
    """Makes a folder beside its place, and renames it into place when the block has filled it.

    If the block raises, nothing is left. A folder that holds anything is never replaced.

    Args:
        path: the folder to make.

    Raises:
        OSError: it cannot be made, or is there already.
    """
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    beside.mkdir()
    try:
        yield beside
        sync_folder(beside)
        os.rename(beside, path)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Makes the names in a folder outlast a power cut, where the file system can."""
    with contextlib.suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
