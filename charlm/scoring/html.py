"""HTML for notebooks: small, without scripts, files or a network, and readable on light and dark backgrounds.

Text keeps the notebook's own colours; shades are laid below it, transparent enough for either background.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

MAX_BYTES = 24_000  # of what grows with a text; with the rest it stays below 30 kB
_SHADE = "217,95,2"  # red, green, blue
_MAX_OPACITY = 0.55
_CELL = "padding:2px 10px;text-align:left;font-family:ui-monospace,monospace"


def visible(char: str) -> str:
    """Returns a character as HTML: its end of sentence and newline as a sign, what cannot be seen as an escape."""
    if char in ("\n", "</s>"):
        return "⏎"
    if char.isprintable():
        return escape(char)
    return escape(char.encode("unicode_escape", "surrogatepass").decode())


def visible_alone(char: str) -> str:
    """Returns a character that stands by itself, where a space would not be seen either."""
    return "␣" if char == " " else visible(char)


def shade(nats: float, full: float) -> str:
    """Returns the style of a background, the stronger the more surprising; `full` nats and more look alike."""
    opacity = _MAX_OPACITY * max(0.0, min(1.0, nats / full))
    return f"background:rgba({_SHADE},{opacity:.2f})"


def fit(parts: Iterable[str], max_bytes: int = MAX_BYTES) -> tuple[str, int]:
    """Joins parts (HTML) as far as they fit into so many bytes; returns how many that are as well."""
    kept: list[str] = []
    size = 0
    for part in parts:
        size += len(part.encode())
        if size > max_bytes:
            break
        kept.append(part)
    return "".join(kept), len(kept)


def left_out(count: int, what: str) -> str:
    """Says how many of something (in the plural) are not shown; nothing if it is none."""
    return f"<em>… {count:,} more {escape(what)}</em>" if count else ""


def table(rows: Sequence[Sequence[str]], *, header: bool = False, what: str = "rows") -> str:
    """Returns a table.

    Args:
        rows: of cells, which are HTML.
        header: whether the first row names the columns; otherwise the first cell of each row names it.
        what: what the rows are, in the plural.
    """

    def row(cells: Sequence[str], is_head: bool) -> str:
        tags = ["th" if is_head or (n == 0 and not header) else "td" for n in range(len(cells))]
        inner = (f'<{tag} style="{_CELL}">{cell}</{tag}>' for tag, cell in zip(tags, cells, strict=True))
        return f"<tr>{''.join(inner)}</tr>"

    body, shown = fit(row(cells, header and n == 0) for n, cells in enumerate(rows))
    return f'<table style="color:inherit">{body}</table>{left_out(len(rows) - shown, what)}'
