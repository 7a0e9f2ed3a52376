"""How numbers of things, of bytes, and lists of names are written in messages: one is singular, many are cut."""

from __future__ import annotations

import re
from collections.abc import Sequence


def count_of(number: int, thing: str, plural: str = "") -> str:
    """Returns `1 character` or `1,234 characters`; a plural that is not the thing and an s is given."""
    return f"{number:,} {thing if number == 1 else plural or thing + 's'}"


def format_size(number: float) -> str:
    """Formats a number of bytes for people: 999 bytes, 1.0 kB, 158.8 MB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 999.95 or unit == "GB":  # otherwise it would be printed as 1,000.0
            return f"{number:,.0f} {unit}" if unit == "bytes" else f"{number:,.1f} {unit}"
        number /= 1000
    raise AssertionError


def parse_size(text: str) -> float:
    """Reads a number of bytes as people write it: 300000, 1.5 MB, 100GB, 2TB.

    Raises:
        ValueError: it is none, and above zero.
    """
    units = {"": 0, "kb": 1, "mb": 2, "gb": 3, "tb": 4}
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?) ?(|kB|MB|GB|TB)", text.strip(), re.IGNORECASE | re.ASCII)
    if not found or not float(found[1]):
        raise ValueError(f"{text!r} is not a size; write for example 300 MB, 100GB or 2 TB")
    return float(found[1]) * 1000.0 ** units[found[2].lower()]


def list_some(names: Sequence[str], most: int = 5) -> str:
    """Lists the first names, and says how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
