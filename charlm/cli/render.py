"""How results look: numbers, tables, colours, curves. Commands print what comes from here."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

_FEW = 3.0  # nats that a character of such a text has by its frequency alone; what another text has more is added
_STEP = 0.5  # nats; in whole steps, so that the legend can be read
# Surprisal in nats up to which a character gets each background, where there are as few characters as in English.
SHADES = ((1.0, ""), (2.5, "on grey30"), (4.5, "black on yellow"), (7.0, "black on dark_orange"))
WORST = "white on red"
UNKNOWN = "underline white on red"


def console(*, stderr: bool = False) -> Console:
    """Returns a console that never wraps or marks up what it is given."""
    return Console(stderr=stderr, highlight=False, markup=False, soft_wrap=True, emoji=False)


def note(message: str) -> None:
    """Prints a remark to standard error."""
    print(message, file=sys.stderr)


def json_line(row: Mapping[str, Any]) -> str:
    """Writes JSON that any reader takes: no NaN or Infinity (null instead), lone surrogates escaped.

    On a terminal everything is escaped that it would obey or hide.
    """
    row = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
    text = json.dumps(row, ensure_ascii=False)
    if sys.stdout.isatty():
        return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(row)
    return text


def printable(text: str) -> str:
    """Replaces what a terminal would obey or hide by an escape such as `\\x1b`."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def tame(text: str) -> str:
    """As `printable`, but leaves newlines and tabs."""
    return "".join(c if c in "\n\t" else printable(c) for c in text)


def for_terminal(text: str) -> str:
    """As `tame`; only where standard output is a terminal."""
    return tame(text) if sys.stdout.isatty() else text


def columns(rows: Iterable[Sequence[str]], align: str) -> list[str]:
    """Lays rows out in columns, width-aware for Chinese; `align` has `<` or `>` for each."""
    table = [list(row) for row in rows]
    widths = [max(cell_len(row[i]) for row in table) for i in range(len(align))]
    lines = []
    for row in table:
        cells = [
            " " * (w - cell_len(c)) + c if a == ">" else c + " " * (w - cell_len(c))
            for c, w, a in zip(row, widths, align, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def shades(ordinary: float) -> list[tuple[float, str]]:
    """Returns the surprisal in nats up to which a character gets each background.

    Among thousands of characters any one of them is surprising: six nats are much in English and usual in Chinese.

    Args:
        ordinary: nats that a character has by its frequency alone, on average over the training text.
    """
    more = _STEP * max(0, round((ordinary - _FEW) / _STEP))
    return [(most + more, style) for most, style in SHADES]


def shaded(chars: Iterable[tuple[str, float, bool]], ordinary: float = _FEW) -> Text:
    """Colours each character (its text, its log-probability in nats, whether it is unknown) by its surprisal."""
    text, bounds = Text(), shades(ordinary)
    for char, logprob, unknown in chars:
        shown = "⏎" if char == "</s>" else printable(char)
        style = next((style for most, style in bounds if -logprob <= most), WORST)
        text.append(shown, UNKNOWN if unknown else style)
    return text


def legend(unit: str = "nats", nats: float = 1.0, ordinary: float = _FEW) -> Text:
    """Says what the colours of `shaded` mean, in a unit of so many nats, and what they are relative to."""
    text = Text(f"surprisal in {unit}: ", "dim")
    low = "0"
    for most, style in shades(ordinary):
        bound = f"{most / nats:.3g}"
        text.append(f" {low}-{bound} ", style).append(" ")
        low = bound
    text.append(f" over {low} ", WORST).append(" ").append(" unknown ", UNKNOWN)
    if shades(ordinary) != shades(_FEW):
        text.append(f" by frequency alone: {ordinary / nats:.3g}", "dim")
    return text


def size(number: float) -> str:
    """Writes a number of bytes for people."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 999.95 or unit == "GB":  # else it would be shown as 1,000.0
            return f"{number:,.0f} {unit}" if unit == "bytes" else f"{number:,.1f} {unit}"
        number /= 1000
    raise AssertionError


def duration(seconds: float) -> str:
    """Writes seconds for people: 45 s, 2:05, 3:10:00, 2 d 4 h."""
    if seconds == float("inf"):
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, s = divmod(whole, 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days} d {h} h"
    return f"{h}:{m:02}:{s:02}" if h else f"{m}:{s:02}"


def curve(points: Sequence[tuple[float, float]], *, width: int = 60, height: int = 10) -> list[str]:
    """Draws points (x, y) with dots of braille, the y axis labelled with its ends."""
    dots = [[0] * width for _ in range(height)]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    left, low = min(xs), min(ys)
    x_span, y_span = (max(xs) - left) or 1.0, (max(ys) - low) or 1.0
    bits = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
    for (x0, y0), (x1, y1) in zip(points, points[1:] or points, strict=False):
        steps = 2 * width
        for i in range(steps + 1):
            x, y = x0 + (x1 - x0) * i / steps, y0 + (y1 - y0) * i / steps
            column = round((x - left) / x_span * (2 * width - 1))
            row = round((low + y_span - y) / y_span * (4 * height - 1))
            dots[row // 4][column // 2] |= bits[row % 4][column % 2]
    labels = {0: f"{low + y_span:.3f}", height - 1: f"{low:.3f}"}
    return [f"{labels.get(i, ''):>7} ┤" + "".join(chr(0x2800 + d) for d in row) for i, row in enumerate(dots)]
