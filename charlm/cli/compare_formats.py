"""What `charlm compare` prints: a table with what each model writes, JSON, or TSV."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from charlm.cli.layout import align_columns, cut, fit_fields, fit_table, terminal_width, wrap, wrap_lines
from charlm.cli.render import for_terminal, format_duration, json_line, printable
from charlm.cli.score_formats import tsv_cell
from charlm.system.counts import count_of
from charlm.text.vocabulary import END_OF_SENTENCE

if TYPE_CHECKING:
    from charlm.analysis.comparison import Row
    from charlm.analysis.differences import Difference

_MOST_PLACES = 10  # where two models differ, in the table
_PLACE_CHARACTERS = 20  # of the text on either side of a place


class Format(StrEnum):
    """An output format."""

    TABLE = "table"
    JSON = "json"
    TSV = "tsv"


def print_comparison(rows: Sequence[Row], difference: Difference | None, prompt: str, output: Format) -> None:
    """Prints a comparison.

    Args:
        rows: of the table.
        difference: of two models on one text, if it is asked for.
        prompt: what each went on from.
        output: the format.
    """
    if output is Format.JSON:
        result: dict[str, Any] = {"prompt": prompt, "rows": [dataclasses.asdict(row) for row in rows]}
        if difference is not None:
            result["difference"] = dataclasses.asdict(difference)
        print(json_line(result))
    elif output is Format.TSV:
        for cells in _tsv_rows(rows) if difference is None else _tsv_differences(difference):
            print(for_terminal("\t".join(map(tsv_cell, cells))))
    else:
        width = terminal_width(sys.stdout)
        print("\n".join(_table(rows, width)))
        print("\n" + wrap_lines(f"each continues {printable(prompt)!r}:" if prompt else "each writes:", width))
        texts = [(row.name, printable(row.runs[0].continuation)) for row in rows]
        print("\n".join(fit_fields(texts, width)))
        if difference is not None:
            print("\n" + "\n".join(_difference_lines(difference, width)))


def _table(rows: Sequence[Row], width: int | None) -> list[str]:
    """Returns the table; a column that is known of no run, or the same as the name, is left out."""
    columns: list[tuple[str, str, list[str]]] = [
        ("", "<", [printable(row.name) for row in rows]),
        ("cell", "<", [row.cell if row.cell != row.name else "" for row in rows]),
        ("hidden", ">", [str(row.hidden_size) for row in rows]),
        ("parameters", ">", [f"{row.parameters:,}" for row in rows]),
        ("char/s", ">", [f"{row.characters_per_second:,.0f}" for row in rows]),
        ("memory", ">", [_or_dash(row.peak_memory_bytes, _megabytes) for row in rows]),
        ("time", ">", [format_duration(row.seconds) for row in rows]),
        ("nats", ">", [_or_dash(row.nats_per_character, "{:.4f}".format) for row in rows]),
        ("spread", ">", [_or_dash(row.nats_spread, "{:.4f}".format) for row in rows]),
        ("bits", ">", [_or_dash(row.bits_per_character, "{:.3f}".format) for row in rows]),
        ("half-life", ">", [_or_dash(row.half_life, "{:.1f}".format) for row in rows]),
    ]
    kept = [column for column in columns if not set(column[2]) <= {"", "-"}]
    table = [[head for head, _, _ in kept], *zip(*(cells for _, _, cells in kept), strict=True)]
    # Names of runs are folders, which often differ in their last characters only.
    return fit_table(table, "".join(align for _, align, _ in kept), width, min_name=None)


def _or_dash(value: Any, show: Callable[[Any], str]) -> str:
    return "-" if value is None else show(value)


def _megabytes(number: int) -> str:
    return f"{number / 1e6:,.0f} MB"


def _difference_lines(difference: Difference, width: int | None) -> list[str]:
    """Returns the sums, and the places where two models differ most."""
    first, second = difference.runs
    count = len(difference.chars)
    lines = fit_fields(
        [
            ("text", count_of(count, "character")),
            (printable(first), f"{difference.first:,.2f} nats, {difference.first / count:.4f} a character"),
            (printable(second), f"{difference.second:,.2f} nats, {difference.second / count:.4f} a character"),
            ("difference", f"{difference.difference:+,.2f} nats, {difference.difference / count:+.4f} a character"),
        ],
        width,
    )
    rows = [("first", "second", "difference", "where")]
    for i in difference.largest(_MOST_PLACES):
        char = difference.chars[i]
        rows.append((f"{char.first:.2f}", f"{char.second:.2f}", f"{char.difference:+.2f}", _place(difference, i)))
    heading = "where they differ most, in nats of surprisal at the character in brackets:"
    table = [cut(line, width) for line in align_columns(rows, ">>><")]
    return [*lines, "", *wrap(heading, width), *table]


def _place(difference: Difference, i: int) -> str:
    """Returns the text around a character, which stands in brackets."""
    first = max(0, i - _PLACE_CHARACTERS)
    around = difference.chars[first : i + 1 + _PLACE_CHARACTERS]
    chars = [printable("⏎" if each.char in ("\n", END_OF_SENTENCE) else each.char) for each in around]
    chars[i - first] = f"[{chars[i - first]}]"
    return "".join(chars)


def _tsv_rows(rows: Sequence[Row]) -> Iterator[list[Any]]:
    names = [field.name for field in dataclasses.fields(rows[0]) if field.name != "runs"]
    yield [*names, "continuation"]
    for row in rows:
        yield [*(getattr(row, name) for name in names), row.runs[0].continuation]


def _tsv_differences(difference: Difference) -> Iterator[list[Any]]:
    yield ["char", "first", "second", "difference"]
    for char in difference.chars:
        yield [char.char, char.first, char.second, char.difference]
