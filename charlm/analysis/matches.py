"""Where in the training text does a context stand? The longest end of what stands before a character.

Places of the training text are sorted by the symbols before them, the last first, so that those behind the same few
symbols stand together and are found at once; they are then held against the rest of the context, symbol by symbol.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from charlm.analysis.characters import UNKNOWN_CODE, Characters, Ints, display

LONGEST_CONTEXT = 60  # characters
SHOWN_CHARACTERS = 40  # of the training text on each side

_SORTED_BY = 3  # characters before a place: an integer has room for as many of all that Unicode has
_NOTHING, _NEVER = 0, -1  # what no context has: before and between parts, or unknown; and what the training lacks


@dataclass(frozen=True)
class Match:
    """The longest context of a character that stands in the training text, and one place where it does.

    If the character comes after any of the places where the context stands, the first such place is taken, else the
    first place of all.

    Attributes:
        length: of the context in characters, at most 60; in lines framing the beginning of a line counts as one.
        before: what stands before the place in the training text, the context at its end.
        after: what stands behind it, without what stands there itself.
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
    if not len(training):
        return [None] * len(text)
    searched = _Searched(training, lines)
    sequences = (text.codes[begin:end] for begin, end in pairwise(text.bounds.tolist()))
    return [match for sequence in sequences for match in searched.follow(sequence)]


class _Searched:
    """A training text whose places, up to and including its end, are found by what stands before them.

    Args:
        training: the text.
        lines: whether sequences are lines; else an edge that is no character stands before each part.
    """

    def __init__(self, training: Characters, lines: bool) -> None:
        begins = training.bounds[:1] if lines else training.bounds[:-1]
        codes = np.insert(training.codes, begins, ord("\n") if lines else UNKNOWN_CODE)
        self._lines = lines
        self._inserted = begins + np.arange(len(begins))
        self._edges = np.flatnonzero(codes == ord("\n")) if lines else self._inserted
        self._shown = "".join(map(display, codes.tolist()))
        self._known = np.setdiff1d(codes, UNKNOWN_CODE)
        self._symbols = np.append(self._rank(codes), _NOTHING)  # something stands at the end, too
        key = np.zeros(len(self._symbols), np.int64)
        for back in range(1, _SORTED_BY + 1):
            key *= len(self._known) + 1
            key[back:] += self._symbols[:-back]
        self._order = np.argsort(key, kind="stable")
        self._keys = key[self._order]

    def _rank(self, codes: Ints) -> Ints:
        """Numbers characters from 1; `_NOTHING` for what is unknown."""
        return np.where(codes == UNKNOWN_CODE, _NOTHING, np.searchsorted(self._known, codes) + 1)

    def follow(self, codes: Ints) -> Iterator[Match | None]:
        """Yields the match of each character of a sequence."""
        if self._lines:
            codes = np.append(ord("\n"), codes)
        there = np.isin(codes, self._known)
        symbols = np.where(there, self._rank(np.where(there, codes, UNKNOWN_CODE)), _NEVER)
        for place in range(int(self._lines), len(symbols)):
            context = symbols[max(0, place - LONGEST_CONTEXT) : place]
            length, places = self._find(context[::-1].tolist())
            yield self._match(length, places, int(symbols[place])) if length else None

    def _find(self, context: list[int]) -> tuple[int, Ints]:
        """Returns how much of a context, the last symbol first, is there, and all places that stand behind it."""
        begin, end = 0, len(self._order)
        prefix = length = 0
        for symbol in context[:_SORTED_BY]:
            if symbol == _NEVER:
                break
            prefix = prefix * (len(self._known) + 1) + symbol
            scale = (len(self._known) + 1) ** (_SORTED_BY - length - 1)
            first, last = np.searchsorted(self._keys, [prefix * scale, (prefix + 1) * scale]).tolist()
            if first == last:
                break
            begin, end, length = first, last, length + 1
        places = self._order[begin:end] if length else self._order[:0]
        if length < _SORTED_BY:
            return length, places
        for symbol in context[_SORTED_BY:]:
            fitting = places[self._symbols[places - length - 1] == symbol]  # before the first is the end, nothing
            if not len(fitting):
                break
            places, length = fitting, length + 1
        return length, places

    def _match(self, length: int, places: Ints, symbol: int) -> Match:
        agreeing = places[self._symbols[places] == symbol]
        place = int(agreeing.min() if len(agreeing) else places.min())
        edge = int(np.searchsorted(self._edges, place))  # the first that is not before the place; one is
        begin = int(self._edges[edge - 1]) + (not self._lines)
        end = len(self._shown)
        if edge < len(self._edges):
            end = int(self._edges[edge]) + self._lines
        return Match(
            length=length,
            before=self._shown[max(begin, place - max(length, SHOWN_CHARACTERS)) : place],
            after=self._shown[place + 1 : min(end, place + 1 + SHOWN_CHARACTERS)],
            position=place - int(np.searchsorted(self._inserted, place)),
            followed_by=self._shown[place : min(end, place + 1)],
            agrees=len(agreeing) > 0,
        )
