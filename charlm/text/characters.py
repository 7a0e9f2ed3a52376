"""How characters are named in messages."""

from __future__ import annotations

from collections.abc import Sequence


def name_character(char: str) -> str:
    r"""Names a character by itself and its code point: `'船' (U+8239)`, `'\x1b' (U+001B)`.

    What a terminal would obey or hide is escaped. A symbol that is no single character, `<unk>`, has no code point.
    """
    return f"{char!r} (U+{ord(char):04X})" if len(char) == 1 else repr(char)


def name_characters(chars: Sequence[str], most: int = 10) -> str:
    """Names the first `most` characters, and says how many more there are."""
    names = ", ".join(map(name_character, chars[:most]))
    return f"{names} and {len(chars) - most:,} more" if len(chars) > most else names
