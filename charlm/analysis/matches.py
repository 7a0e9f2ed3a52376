"""Where in the training text does a context stand? The longest end of what stands before a character.

The training text is searched as one string. If the context of a character has n characters that stand in the
training text, that of the next one has at most n + 1, so most characters need one or two searches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice, pairwise

import numpy as np

from charlm.analysis.characters import UNKNOWN_CODE, Characters, Ints, display

LONGEST_CONTEXT = 60  # characters
SHOWN_CHARACTERS = 40  # of the training text on each side


@dataclass(frozen=True)
class Match:
    """The longest context of a character that stands in the training text, and one place where it does.

    If the character comes after any of the places where the context stands, the first such place is taken, else the
    first place of all.

    Attributes:
        length: of the context in characters, at most 60; in lines framing the beginning of a line counts as one.
        before: what stands before the place in the training text, the context at its end.
        after: what stands behind it.
        position: of the place, in characters from the beginning of the training text.
        followed_by: what stands there; empty where a part of the training text ends.
        agrees: whether it is the true character.
    """

    length: int
    before: str
    after: str
    position: int
    followed_by: str
    agrees: bool


def find_matches(training: Characters, text: Characters, *, lines: bool) -> list[Match | None]:
    """Finds the longest context of each character of a text that the training text has; None: it has none.

    No context reaches across the beginning of a line in lines framing, or of a part of a stream, in either text.

    Args:
        training: is searched.
        text: the characters, n of them.
        lines: whether sequences are lines, whose beginning is part of the context.
    """
    edge, unknown, never = _unused(training, text)
    searched = _Searched(training, "\n" if lines else edge, unknown, opening="\n" if lines else "")
    codes = np.where(text.codes == UNKNOWN_CODE, ord(never), text.codes)
    found: list[Match | None] = []
    for begin, end in pairwise(text.bounds.tolist()):
        found += searched.follow(_to_string(codes[begin:end]))
    return found


class _Searched:
    """A training text as one string.

    Args:
        training: the text.
        edge: what no context reaches across; it is put before each part of a stream, and before the first line.
        unknown: a character that stands nowhere, in place of those that the model does not know.
        opening: what stands before the first character of a sequence, as far as it is part of the context.
    """

    def __init__(self, training: Characters, edge: str, unknown: str, opening: str) -> None:
        codes = np.where(training.codes == UNKNOWN_CODE, ord(unknown), training.codes)
        begins = training.bounds[:1] if opening else training.bounds[:-1]
        self._text = _to_string(np.insert(codes, begins, ord(edge)))
        self._edges = begins + np.arange(len(begins))  # where they were put
        self._edge = edge
        self._unknown = unknown
        self._opening = opening

    def follow(self, sequence: str) -> Iterator[Match | None]:
        """Yields the match of each character of a sequence."""
        context = self._opening
        at = self._text.find(context)
        for char in sequence:
            longer = context + char
            found = self._text.find(longer)
            yield self._match((at if found < 0 else found) + len(context), len(context), found >= 0)
            if found < 0:
                context, at = self._longest_end(longer)
            else:
                context, at = longer[-LONGEST_CONTEXT:], found + max(0, len(longer) - LONGEST_CONTEXT)

    def _longest_end(self, text: str) -> tuple[str, int]:
        """Returns the longest end of a text, which as a whole is not there, and where that stands."""
        there, missing, at = 0, len(text), 0
        while missing - there > 1:
            length = (there + missing) // 2
            found = self._text.find(text[-length:])
            if found < 0:
                missing = length
            else:
                there, at = length, found
        return text[len(text) - there :], at

    def _match(self, place: int, length: int, agrees: bool) -> Match | None:
        if not length:
            return None
        begin = max(0, place - max(length, SHOWN_CHARACTERS))
        begin = max(begin, self._text.rfind(self._edge, begin, place))
        end = place + 1 + SHOWN_CHARACTERS
        edge = self._text.find(self._edge, place, end)
        if edge >= 0:
            end = edge + 1
        return Match(
            length=length,
            before=self._shown(begin, place),
            after=self._shown(place + 1, end),
            position=place - int(np.searchsorted(self._edges, place)),
            followed_by=self._shown(place, place + 1),
            agrees=agrees,
        )

    def _shown(self, begin: int, end: int) -> str:
        """Returns a piece of the text to show; a newline is an edge and yet part of the text."""
        piece = self._text[begin:end] if self._opening else self._text[begin:end].replace(self._edge, "")
        return "".join(display(UNKNOWN_CODE if char == self._unknown else ord(char)) for char in piece)


def _unused(*texts: Characters) -> list[str]:
    """Returns three characters that no text has, the first of Unicode: Python searches small ones faster."""
    used = set().union(*(np.unique(text.codes).tolist() for text in texts))
    return [chr(code) for code in islice((code for code in count() if code not in used), 3)]


def _to_string(codes: Ints) -> str:
    return codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
