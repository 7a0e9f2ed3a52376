"""`charlm eval --samples`: figures of what a model writes beside those of held-out text, as a table or as JSON."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING

from charlm.cli.layout import fit_table, terminal_width, wrap
from charlm.cli.render import json_line

if TYPE_CHECKING:
    from charlm.writing.figures import WritingEvaluation

_COUNTS = ("texts", "characters", "longest_copy")


def show_writing(writing: WritingEvaluation, *, as_json: bool) -> None:
    """Prints a table, or one JSON object."""
    if as_json:
        print(json_line(dataclasses.asdict(writing)))
        return
    width = terminal_width(sys.stdout)
    sides = [dataclasses.asdict(side) for side in (writing.written, writing.held_out)]
    rows = [(name, *(_format_figure(name, side[name]) for side in sides)) for name in sides[0]]
    table = fit_table([("", "written", "held_out"), *rows], "<>>", width, min_name=None)
    drawn = ", ".join(f"{name} {value:g}" for name, value in writing.sampling.items() if value is not None)
    legend = [
        f"written: seed {writing.seed}, {drawn}",
        f"distinct: the share of different {writing.unit} among the first {writing.compared:,}; repeated: the "
        f"share of {writing.ngram} {writing.unit} in a row that occurred earlier in the same text; copied: the "
        f"share of {writing.window} characters in a row that occur in the training text",
    ]
    print("\n".join([*table, *(line for text in legend for line in wrap(text, width, 2))]))


def _format_figure(name: str, number: float | None) -> str:
    if number is None:
        return "-"
    if name in _COUNTS:
        return f"{number:,}"
    return f"{number:.1f}" if name == "mean_longest_copy" else f"{number:.2%}"
