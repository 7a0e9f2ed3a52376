"""Text for terminals and pipes: safe characters, JSON, colours, numbers and curves; `layout` makes it fit."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from charlm.cli.layout import label, terminal_width, wrap, wrap_lines
from charlm.system.distributed import is_follower
from charlm.system.shell import quote_for_shell

_LABEL_CELLS = 12  # of `text:`, `budget:` and the like, in front of what was found or chosen
_LABELLED = re.compile(r"([a-z]{3,10}:) (.*)", re.DOTALL)
_ALPHABET_ENTROPY_NATS = 3.0  # of the characters of a text in an alphabet, by their frequencies alone
_SHADE_STEP_NATS = 0.5  # shades move in whole steps, so that the legend has round numbers
# Surprisal in nats up to which a character gets each background, in a text in an alphabet.
SHADES = ((1.0, ""), (2.5, "on grey30"), (4.5, "black on yellow"), (7.0, "black on dark_orange"))
WORST_STYLE = "white on red"
UNKNOWN_STYLE = "underline white on red"


def console(*, stderr: bool = False) -> Console:
    """Returns a console that prints text as it is, without wrapping, markup or emoji codes."""
    return Console(stderr=stderr, highlight=False, markup=False, soft_wrap=True, emoji=False)


def note(message: str) -> None:
    """Prints a message to standard error, wrapped to the width of a terminal; of several processes rank 0 does."""
    if is_follower():
        return
    print(wrap_lines(message, terminal_width(sys.stderr)), file=sys.stderr)


def remark_lines(remark: str, width: int | None) -> list[str]:
    """Returns the lines of a remark on a training, a word such as `text:` in a column of its own."""
    remark = printable(remark)
    if labelled := _LABELLED.fullmatch(remark):
        return label(labelled[1], labelled[2], _LABEL_CELLS, width)
    return wrap(remark, width, 2)


def json_line(row: Mapping[str, Any]) -> str:
    """Returns JSON that every parser accepts: null for NaN and Infinity, lone surrogates escaped.

    For a terminal, all characters that are not printable are escaped as well.
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
    """Replaces characters that a terminal would interpret or hide by escapes such as `\\x1b`."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def escape_control_characters(text: str) -> str:
    """Does the same as `printable`, but keeps newlines and tabs."""
    return "".join(c if c in "\n\t" else printable(c) for c in text)


def for_terminal(text: str) -> str:
    """Escapes control characters if standard output is a terminal; leaves the text as it is otherwise."""
    return escape_control_characters(text) if sys.stdout.isatty() else text


def program_name() -> str:
    """Returns, quoted for the shell, how this program was called: `charlm`, its path, or `python -m charlm`."""
    path = Path(sys.argv[0])
    words = sys.orig_argv
    if path.name == "__main__.py" and path.parent.name == "charlm" and "-m" in words:
        return " ".join(map(quote_for_shell, words[: words.index("-m") + 2]))
    if path.name != "charlm" or not path.is_file():
        return "charlm"  # called from Python
    found = shutil.which("charlm")
    return "charlm" if found and os.path.samefile(found, path) else quote_for_shell(sys.argv[0])


def shade_bounds(unigram_entropy: float) -> list[tuple[float, str]]:
    """Returns the surprisal in nats up to which a character gets each background.

    Among thousands of characters every one is surprising: six nats are much in English and usual in Chinese.

    Args:
        unigram_entropy: mean surprisal in nats of a character by its frequency in the training text alone.
    """
    steps = max(0, round((unigram_entropy - _ALPHABET_ENTROPY_NATS) / _SHADE_STEP_NATS))
    return [(most + steps * _SHADE_STEP_NATS, style) for most, style in SHADES]


def shade_by_surprisal(
    chars: Iterable[tuple[str, float, bool]], unigram_entropy: float = _ALPHABET_ENTROPY_NATS
) -> Text:
    """Colours each character (its text, its log-probability in nats, whether it is unknown) by its surprisal."""
    text, bounds = Text(), shade_bounds(unigram_entropy)
    for char, logprob, unknown in chars:
        visible = "⏎" if char == "</s>" else printable(char)
        style = next((style for most, style in bounds if -logprob <= most), WORST_STYLE)
        text.append(visible, UNKNOWN_STYLE if unknown else style)
    return text


def shade_legend(unit: str = "nats", nats: float = 1.0, unigram_entropy: float = _ALPHABET_ENTROPY_NATS) -> Text:
    """Explains the colours of `shade_by_surprisal`, in a unit of so many nats."""
    text = Text(f"surprisal in {unit}: ", "dim")
    bounds = shade_bounds(unigram_entropy)
    low = "0"
    for most, style in bounds:
        high = f"{most / nats:.3g}"
        text.append(f" {low}-{high} ", style).append(" ")
        low = high
    text.append(f" over {low} ", WORST_STYLE).append(" ").append(" unknown ", UNKNOWN_STYLE)
    if bounds != list(SHADES):
        text.append(f" by frequency alone: {unigram_entropy / nats:.3g}", "dim")
    return text


def format_duration(seconds: float) -> str:
    """Formats seconds for people: 45 s, 2:05, 3:10:00, 2 d 4 h."""
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


CURVE_LABEL_CELLS = 9  # on the left of each line of a curve


def draw_curve(points: Sequence[tuple[float, float]], *, width: int = 60, height: int = 10) -> list[str]:
    """Draws a curve through points (x, y) with Braille dots; the ends of the y axis are labelled."""
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
