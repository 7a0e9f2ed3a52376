"""How `charlm score` prints for people: columns, characters shaded by their surprisal, the worst spots named."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from charlm.cli.render import columns, console, legend, printable, shaded
from charlm.cli.score_formats import Item, Printer, View
from charlm.cli.score_summary import summary_lines, unknown_report

if TYPE_CHECKING:
    from charlm.scoring.measures import CharacterScore
    from charlm.scoring.summary import Summary

_SPOTS = 3  # worst spots named of each sentence
_AROUND = 12  # characters shown on each side of a spot


class Table(Printer):
    """A line a sentence; with `--per-char` its characters shaded, or numbered where there is no colour."""

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._console = console()
        self._ordinary = view.vocabulary.unigram_entropy
        self._colours = self._console.color_system is not None and not self._console.no_color

    def begin(self) -> None:
        """Prints the names of the columns; a star marks the measure that is asked for."""
        names = ["logprob", "mean", "ppl", "bits", "penlp", "slor", "unk"]
        widths = [9, 8, 8, 6, 9, 8, 5]
        shown = [name + "*" * (name == self._view.measure) for name in names]
        head = " ".join(f"{name:>{width}}" for name, width in zip(shown, widths, strict=True))
        print(("rank " if self._view.ranked else "") + head + "  text")

    def show(self, item: Item) -> None:
        """Prints one line, and with `--per-char` what is seen character by character."""
        r = self._view.row(item)
        ppl = f"{r['perplexity']:8.2f}" if r["perplexity"] < 1e5 else f"{r['perplexity']:8.1e}"
        numbers = (
            f"{r['logprob']:9.2f} {r['mean_logprob']:8.3f} {ppl} {r['bits_per_character']:6.3f} "
            f"{r['penlp']:9.2f} {r['slor']:8.3f} {r['unknown']:5d}  "
        )
        if self._view.ranked:
            numbers = f"{item.rank:4d} {numbers}"
        if self._view.per_char and self._colours:
            chars = ((c.char, c.logprob, c.unknown) for c in item.score.chars)
            self._console.print(Text(numbers).append_text(shaded(chars, self._ordinary)))
        else:
            print(numbers + printable(r["text"]))
        if self._view.per_char:
            if not self._colours:
                print("\n".join(self._numbered(item.score.chars)))
            print("\n".join(self._worst(item)))

    def _numbered(self, chars: Sequence[CharacterScore]) -> list[str]:
        """Sets the surprisal of each character below it, wrapped to the width of the terminal."""
        cells = []
        for c in chars:
            label = _visible(c.char) + "?" * c.unknown
            cells.append((label, f"{-c.logprob / self._view.base.nats:.2f}"))
        lines: list[str] = []
        row: list[tuple[str, str]] = []
        width = 4
        for cell in cells:
            wide = max(map(cell_len, cell)) + 1
            if row and width + wide > self._console.width:
                lines += _aligned(row)
                row, width = [], 4
            row.append(cell)
            width += wide
        return lines + _aligned(row)

    def _worst(self, item: Item) -> list[str]:
        """Names the places of the highest surprisal, with the text around them and what was likelier there."""
        chars, nats = item.score.chars, self._view.base.nats
        places = sorted(range(len(chars)), key=lambda i: chars[i].logprob)[:_SPOTS]
        lines = []
        for i in places:
            before = _shown(chars[max(0, i - _AROUND) : i])
            after = _shown(chars[i + 1 : i + 1 + _AROUND])
            before = ("…" if i > _AROUND else "") + before
            after += "…" if i + 1 + _AROUND < len(chars) else ""
            line = f"{-chars[i].logprob / nats:9.2f} {self._view.base.unit}  {before}[{_shown([chars[i]])}]{after}"
            if item.alternatives:
                instead = ", ".join(
                    f"{_visible(other.char)} {_percent(other.logprob)}" for other in item.alternatives[i]
                )
                line += f"  {_percent(chars[i].logprob)}; instead: {instead}"
            lines.append(line)
        return lines

    def end(self, summary: Summary) -> None:
        """Prints the legend, a file's figures, and the unknown characters."""
        if self._view.per_char and self._colours:
            self._console.print(legend(self._view.base.unit, self._view.base.nats, self._ordinary))
        elif self._view.per_char:
            unit = self._view.base.unit
            print(f"surprisal in {unit} below each character; ␣ space, ? unknown; the worst places in brackets")
        report = unknown_report(summary, self._view)
        if self._view.source is not None and summary.sentences:
            print()
            print("\n".join(columns(summary_lines(summary, self._view), "<>")))
        if report:
            print("\n".join(report))


def _aligned(row: Sequence[tuple[str, str]]) -> list[str]:
    """Lays labels out above their numbers."""
    widths = [max(map(cell_len, cell)) for cell in row]
    return [
        "   "
        + "".join(f" {' ' * (width - cell_len(cell[k]))}{cell[k]}" for cell, width in zip(row, widths, strict=True))
        for k in (0, 1)
    ]


def _shown(chars: Sequence[CharacterScore]) -> str:
    return "".join(printable(c.char) for c in chars)


def _visible(char: str) -> str:
    return "␣" if char == " " else printable(char)


def _percent(logprob: float) -> str:
    return f"{100 * math.exp(logprob):.2g}%"
