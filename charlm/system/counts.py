"""How numbers of things are written in messages: one is singular."""

from __future__ import annotations


def count_of(number: int, thing: str, plural: str = "") -> str:
    """Returns `1 character` or `1,234 characters`; a plural that is not the thing and an s is given."""
    return f"{number:,} {thing if number == 1 else plural or thing + 's'}"
