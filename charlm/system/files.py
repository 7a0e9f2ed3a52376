"""Where files lie, and how those are read that may come from a stranger: in bounded time and memory.

A run folder is data that people send each other. So what stands in the place of its files is opened without
waiting, read only if it is an ordinary file of a size such a file can have, and as JSON that says each thing once.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO


def cache_folder() -> Path:
    """Where charlm keeps what it can make again.

    `$CHARLM_CACHE`, else `$XDG_CACHE_HOME/charlm`, else `~/.cache/charlm`; in it `corpora` that were fetched,
    `encoded` ones, and compiled `kernels`.
    """
    if own := os.environ.get("CHARLM_CACHE"):
        return Path(own).expanduser()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared).expanduser() / "charlm"
    return Path.home() / ".cache" / "charlm"


def open_regular(path: Path) -> BinaryIO:
    """Opens an ordinary file for reading, at once: a FIFO without a writer would make others wait for ever.

    Raises:
        OSError: it cannot be opened, or is a FIFO, a device, a socket or a folder.
    """
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError("not an ordinary file")
    return open(number, "rb")


def read_regular(path: Path, limit: int) -> bytes:
    """Reads an ordinary file of at most `limit` bytes.

    Raises:
        OSError: see `open_regular`.
        ValueError: the file is larger.
    """
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"larger than such a file can be ({limit:,} bytes)")
    return content


def parse_json(text: str) -> Any:
    """Reads JSON in which every key stands once: of two, each reader would believe another.

    Raises:
        ValueError: it is not such a text.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {key[:100]!r} stands twice")
        result[key] = value
    return result
