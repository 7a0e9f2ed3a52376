"""How words are written in commands that messages tell a user to type."""

from __future__ import annotations

import os
import shlex
from pathlib import Path


def quote_for_shell(word: str) -> str:
    """Quotes a word for the shell; what a terminal would interpret or hide is written as `$'\\x1b'`."""
    if word.isprintable():
        return shlex.quote(word)
    quoted = [
        c if c.isprintable() and c not in "\\'" else "".join(f"\\x{byte:02x}" for byte in os.fsencode(c))
        for c in word
    ]
    return "$'" + "".join(quoted) + "'"


def quote_path(path: str | Path) -> str:
    """Quotes the path of a file or folder for the shell; no program takes it for an option."""
    name = str(path)
    return quote_for_shell(f"./{name}" if name.startswith("-") else name)
