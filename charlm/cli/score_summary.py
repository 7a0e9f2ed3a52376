"""What `charlm score` says of all sentences together: the figures of the text, and its unknown characters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from charlm.cli.score_formats import View
from charlm.cli.unknown import report_lines

if TYPE_CHECKING:
    from charlm.scoring.summary import Summary


def unknown_report(summary: Summary, view: View) -> list[str]:
    """Names the unknown characters, how often and where they stand, and what they count for."""
    if not summary.unknown:
        return []
    found = [(char, at.count, list(map(str, at.lines))) for char, at in summary.unknown_characters.items()]
    kind = "sentence" if view.source is None else "line"
    skipped = view.conditions.unknown != "spread"
    return report_lines(summary.characters, found, kind, view.vocabulary, skipped=skipped)


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
