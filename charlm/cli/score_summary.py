"""What `charlm score` says of all sentences together: the figures of the text, and its unknown characters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from charlm.cli.render import printable
from charlm.cli.score_formats import View

if TYPE_CHECKING:
    from charlm.inference.summary import Summary

_CHARACTERS = 20  # unknown characters named
_LINES = 10  # lines named of each


def unknown_report(summary: Summary, view: View) -> list[str]:
    """Names the unknown characters, how often and where they stand, and what they count for."""
    if not summary.unknown:
        return []
    where = "sentence" if view.source is None else "line"
    report = [f"unknown characters: {summary.unknown:,} of {summary.characters:,}"]
    ordered = sorted(summary.unknown_characters.items(), key=lambda pair: -pair[1].count)
    for char, found in ordered[:_CHARACTERS]:
        lines = ", ".join(map(str, found.lines[:_LINES])) + (", ..." if len(found.lines) > _LINES else "")
        report.append(
            f"  '{printable(char)}' (U+{ord(char):04X}) {_count(found.count, 'time')}, "
            f"in {where}{'s' if len(found.lines) > 1 else ''} {lines}"
        )
    if len(ordered) > _CHARACTERS:
        report.append(f"  and {len(ordered) - _CHARACTERS:,} more")
    if view.conditions.unknown == "spread":
        report.append(
            f"  each has 1/{view.vocabulary.unseen_characters:,} of the probability of <unk>: "
            "an equal share for every character of Unicode that the model has never seen"
        )
    else:
        report.append("  they are read but count nothing")
    return report


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def summary_lines(summary: Summary, view: View) -> list[tuple[str, str]]:
    """Returns the names and figures of a summary."""
    figures: list[tuple[str, float]] = [
        ("sentences", summary.sentences),
        ("characters", summary.characters),
        ("words", summary.words),
        ("unknown", summary.unknown),
        ("logprob", summary.logprob / view.base.nats),
        ("perplexity", summary.perplexity),
        ("perplexity_excluding_unknown", summary.perplexity_excluding_unknown),
        ("perplexity_per_word", summary.perplexity_per_word),
        ("bits_per_character", summary.bits_per_character),
        ("bits_per_byte", summary.bits_per_byte),
    ]
    if summary.words <= summary.sentences:  # a text without spaces has no words that could be told
        figures = [(name, n) for name, n in figures if "word" not in name]
    return [(name, f"{n:,}" if isinstance(n, int) else _figure(n)) for name, n in figures]


def _figure(n: float) -> str:
    if math.isnan(n):
        return "-"  # a mean of nothing
    return f"{n:,.4f}" if abs(n) < 1e9 else f"{n:.4e}"
