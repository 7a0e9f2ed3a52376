"""What a text consists of: its size, its lines, its frequent and rare characters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charlm.text.vocabulary import CODE_POINTS, byte_size, code_points

_LONGEST = 5  # lines that are shown


@dataclass(frozen=True)
class TextStatistics:
    """What `charlm corpus stats` shows.

    Attributes:
        characters: the number of characters, including newlines.
        bytes: the size in UTF-8.
        lines: the number of lines; the last one counts even if it lacks a newline.
        vocabulary: the number of distinct characters.
        frequent: the most frequent characters with their counts.
        rare: characters that occur once or twice, with their counts, rarest first.
        longest: the longest lines as (line number from 1, characters).
    """

    characters: int
    bytes: int
    lines: int
    vocabulary: int
    frequent: list[tuple[str, int]]
    rare: list[tuple[str, int]]
    longest: list[tuple[int, int]]


def statistics(text: str | Iterable[str]) -> TextStatistics:
    """Counts what matters before training on a text, or on one in pieces, which may be larger than memory."""
    found = np.zeros(CODE_POINTS, np.int64)
    there: dict[str, None] = {}  # the characters in the order in which they come first
    newlines = ended = characters = 0  # ended: where the last line that has ended did so
    longest: list[tuple[int, int]] = []  # characters and number of the longest lines so far
    for piece in [text] if isinstance(text, str) else text:
        points = code_points(piece)
        new = np.bincount(points)
        before = found[: len(new)]
        unseen = [chr(point) for point in np.flatnonzero(new * (before == 0)).tolist()]
        there |= dict.fromkeys(sorted(unseen, key=piece.find))
        before += new
        ends = np.flatnonzero(points == ord("\n")) + characters
        lengths = np.diff(ends, prepend=ended - 1) - 1
        longest = _longest(longest, lengths, newlines)
        newlines += len(ends)
        ended = int(ends[-1]) + 1 if len(ends) else ended
        characters += len(piece)
    if characters > ended or not characters:  # the last line lacks a newline
        longest = _longest(longest, np.array([characters - ended]), newlines)
        newlines += 1
    ranked = sorted(((char, int(found[ord(char)])) for char in there), key=lambda pair: -pair[1])
    return TextStatistics(
        characters=characters,
        bytes=byte_size(found),
        lines=newlines,
        vocabulary=len(ranked),
        frequent=ranked[:10],
        rare=[pair for pair in reversed(ranked) if pair[1] <= 2],
        longest=[(number, length) for length, number in longest],
    )


def _longest(before: list[tuple[int, int]], lengths: NDArray[np.int64], first: int) -> list[tuple[int, int]]:
    """Returns the longest lines of those before, and of lines of these lengths that follow `first` others."""
    order = np.argsort(-lengths, kind="stable")[:_LONGEST].tolist()
    found = [(int(lengths[i]), first + i + 1) for i in order]
    return sorted([*before, *found], key=lambda line: (-line[0], line[1]))[:_LONGEST]
