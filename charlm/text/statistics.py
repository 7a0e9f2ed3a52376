"""What a text consists of: its size, its lines, its frequent and rare characters."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from charlm.text.vocabulary import to_bytes


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


def statistics(text: str) -> TextStatistics:
    """Counts what matters before training on a text."""
    counts = Counter(text)
    ranked = counts.most_common()
    lengths = [len(line) for line in text.removesuffix("\n").split("\n")]
    longest = sorted(range(len(lengths)), key=lambda i: -lengths[i])[:5]
    return TextStatistics(
        characters=len(text),
        bytes=len(to_bytes(text)),
        lines=len(lengths),
        vocabulary=len(counts),
        frequent=ranked[:10],
        rare=[pair for pair in reversed(ranked) if pair[1] <= 2],
        longest=[(i + 1, lengths[i]) for i in longest],
    )
