"""Layout: what fits a terminal is cut or wrapped to its width, and what goes into a pipe or a file is left whole.

Widths are counted in the cells of a terminal: a Chinese character takes two, a combining mark none. Everywhere
here a width of None stands for a pipe or a file.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

_DEFAULT_COLUMNS = 80  # of a terminal that does not tell its width
_MIN_TEXT_CELLS = 16  # a text is wrapped, or a column of names cut, to no less than this
_GAP_CELLS = 2  # between columns


def terminal_width(stream: TextIO) -> int | None:
    """Returns the number of columns of the terminal that a stream writes to; None if it writes to no terminal."""
    if not stream.isatty():
        return None
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size(stream.fileno()).columns or _DEFAULT_COLUMNS
    except (OSError, ValueError):
        return _DEFAULT_COLUMNS


def cut(text: str, width: int | None) -> str:
    """Cuts a text that is wider than `width`, and ends it with `…`."""
    if width is None or cell_len(text) <= width:
        return text
    end = bisect_right(range(len(text) + 1), width - 1, key=lambda end: cell_len(text[:end])) - 1
    return text[: max(0, end)] + "…"


def wrap(text: str, width: int | None, indent: int = 0) -> list[str]:
    """Breaks one line between words; the lines after the first are indented."""
    if width is None or cell_len(text) <= width:
        return [text]
    indent = max(0, min(indent, width - _MIN_TEXT_CELLS))
    text = text.expandtabs(4)
    first, *others = Text(text).wrap(_console(), width)
    rest = text[len(first.plain) :].lstrip(" ")
    if indent:
        others = list(Text(rest).wrap(_console(), width - indent))
    return [first.plain.rstrip(), *(" " * indent + line.plain.rstrip() for line in others)]


def wrap_lines(text: str, width: int | None) -> str:
    """Wraps each line of a text, and indents what goes on further than its beginning."""
    lines = text.split("\n")
    return "\n".join(part for line in lines for part in wrap(line, width, len(line) - len(line.lstrip(" ")) + 2))


def keep_most_important(parts: Iterable[tuple[int, str]], width: int | None) -> str:
    """Joins the parts of a line, and leaves out the least important ones until the line fits.

    Args:
        parts: how important each part is, and its text; an empty text is left out.
        width: of the terminal.
    """
    kept = [part for part in parts if part[1]]
    while len(kept) > 1 and width is not None and cell_len("  ".join(text for _, text in kept)) > width:
        kept.remove(min(kept))
    return cut("  ".join(text for _, text in kept), width)


def align_columns(rows: Iterable[Sequence[str]], align: str) -> list[str]:
    """Aligns the cells of rows; `align` has `<` or `>` for each column."""
    table = [list(row) for row in rows]
    widths = _column_widths(table)
    lines = []
    for row in table:
        cells = [
            " " * (w - cell_len(c)) + c if a == ">" else c + " " * (w - cell_len(c))
            for c, w, a in zip(row, widths, align, strict=True)
        ]
        lines.append((" " * _GAP_CELLS).join(cells).rstrip())
    return lines


def fit_table(
    rows: Iterable[Sequence[str]], align: str, width: int | None, *, min_name: int | None = _MIN_TEXT_CELLS
) -> list[str]:
    """Aligns the cells of rows whose first column is a name.

    The names of a table that is too wide for the terminal are cut; where that is not enough, its columns are
    printed in groups, one below the other, each beside the names.

    Args:
        rows: the cells.
        align: as in `align_columns`.
        width: of the terminal.
        min_name: names are cut to no less than so many cells; None: not at all.
    """
    table = [list(row) for row in rows]
    names, *others = _column_widths(table)
    others = [cells + _GAP_CELLS for cells in others]
    if width is None or names + sum(others) <= width:
        return align_columns(table, align)
    least = names if min_name is None else min(names, min_name)
    room = width - sum(others)
    whole = room >= least
    if not whole:
        room = min(names, max(least, width // 3))
    table = [[cut(row[0], room), *row[1:]] for row in table]
    groups: list[list[int]] = [[]]
    used = room
    for column, cells in enumerate(others, 1):
        if groups[-1] and used + cells > width and not whole:
            groups.append([])
            used = room
        groups[-1].append(column)
        used += cells
    lines: list[str] = []
    for group in groups:
        chosen = [0, *group]
        lines += [""] * bool(lines)
        lines += align_columns([[row[i] for i in chosen] for row in table], "".join(align[i] for i in chosen))
    return lines


def fit_fields(rows: Iterable[tuple[str, str]], width: int | None) -> list[str]:
    """Sets names on the left and texts on the right; long texts are wrapped in their column."""
    table = list(rows)
    column = max(cell_len(name) for name, _ in table) + _GAP_CELLS
    return [line for name, text in table for line in label(name, text, column, width)]


def label(name: str, text: str, column: int, width: int | None) -> list[str]:
    """Sets a name in front of a text that begins at this column, and is wrapped there if that leaves room."""
    if width is not None and width - column < _MIN_TEXT_CELLS:
        return wrap(f"{name} {text}", width, _GAP_CELLS)
    first, *others = wrap(text, None if width is None else width - column)
    head = name + " " * (column - cell_len(name))
    return [(head + first).rstrip(), *(" " * column + line for line in others)]


def _column_widths(table: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(cell_len, column)) for column in zip(*table, strict=True)]


@cache
def _console() -> Console:
    return Console()
