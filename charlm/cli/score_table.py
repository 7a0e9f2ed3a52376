"""The table of `charlm score` for people: columns, shaded characters, the most surprising places."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from charlm.cli.render import console, printable, shade_by_surprisal, shade_legend
from charlm.cli.score_formats import Printer

if TYPE_CHECKING:
    from rich.console import Console

    from charlm.cli.score_formats import Alternatives
    from charlm.scoring.measures import CharacterScore, Score
    from charlm.scoring.summary import Summary

_WIDTHS = {"logprob": 9, "mean": 8, "ppl": 8, "bits": 6, "penlp": 9, "slor": 8, "unk": 5}  # of columns, in cells
_INDENT_CELLS = 3  # of the rows of characters
_WORST_PLACES = 3  # named for each sentence
_NEIGHBOURING_CHARACTERS = 12  # shown on each side of such a place


class TablePrinter(Printer):
    """A line for each sentence; with `--per-char` its characters shaded, or numbered where there is no colour."""

    def print_header(self) -> None:
        """Prints the names of the columns; a star marks the measure that is asked for."""
        names = [f"{name + '*' * (name == self.measure):>{width}}" for name, width in _WIDTHS.items()]
        print(("rank " if self.ranked else "") + " ".join(names) + "  text")

    def print_sentence(self, score: Score, rank: int | None, alternatives: Alternatives) -> None:
        """Prints one line, and with `--per-char` what is seen character by character."""
        row = self.row(score, rank, alternatives)
        perplexity = f"{row['perplexity']:8.2f}" if row["perplexity"] < 1e5 else f"{row['perplexity']:8.1e}"
        numbers = (
            f"{row['logprob']:9.2f} {row['mean_logprob']:8.3f} {perplexity} {row['bits_per_character']:6.3f} "
            f"{row['penlp']:9.2f} {row['slor']:8.3f} {row['unknown']:5d}  "
        )
        if self.ranked:
            numbers = f"{rank:4d} {numbers}"
        if self.per_char and self._has_colours:
            chars = ((char.char, char.logprob, char.unknown) for char in score.chars)
            shaded = shade_by_surprisal(chars, self.vocabulary.unigram_entropy)
            self._console.print(Text(numbers).append_text(shaded))
        else:
            print(numbers + printable(row["text"]))
        if self.per_char:
            if not self._has_colours:
                print("\n".join(self._surprisal_rows(score.chars)))
            print("\n".join(self._worst_places(score.chars, alternatives)))

    def print_summary(self, summary: Summary) -> None:
        """Prints the legend, and the figures of a file."""
        unit = self.log_base.unit
        if self.per_char and self._has_colours:
            self._console.print(shade_legend(unit, self.log_base.nats, self.vocabulary.unigram_entropy))
        elif self.per_char:
            print(f"surprisal in {unit} below each character; ␣ space, ? unknown; the worst places in brackets")
        if lines := self.figures(summary):
            print("\n" + "\n".join(lines))

    @cached_property
    def _console(self) -> Console:
        return console()

    @property
    def _has_colours(self) -> bool:
        return self._console.color_system is not None and not self._console.no_color

    def _surprisal_rows(self, chars: Sequence[CharacterScore]) -> list[str]:
        """Sets the surprisal of each character below it, wrapped to the width of the terminal."""
        lines: list[str] = []
        top = bottom = " " * _INDENT_CELLS
        for char in chars:
            label, number = _visible(char.char) + "?" * char.unknown, f"{-char.logprob / self.log_base.nats:.2f}"
            width = max(cell_len(label), cell_len(number)) + 1
            if top.strip() and cell_len(top) + 1 + width > self._console.width:
                lines += [top, bottom]
                top = bottom = " " * _INDENT_CELLS
            top += " " * (width - cell_len(label)) + label
            bottom += " " * (width - cell_len(number)) + number
        return [*lines, top, bottom]

    def _worst_places(self, chars: Sequence[CharacterScore], alternatives: Alternatives) -> list[str]:
        """Names the places of the highest surprisal, with the text around them and what was likelier there."""
        lines = []
        for i in sorted(range(len(chars)), key=lambda i: chars[i].logprob)[:_WORST_PLACES]:
            first, end = i - _NEIGHBOURING_CHARACTERS, i + 1 + _NEIGHBOURING_CHARACTERS
            before = "…" * (first > 0) + _text(chars[max(0, first) : i])
            after = _text(chars[i + 1 : end]) + "…" * (end < len(chars))
            surprisal = f"{-chars[i].logprob / self.log_base.nats:9.2f} {self.log_base.unit}"
            line = f"{surprisal}  {before}[{_text(chars[i : i + 1])}]{after}"
            if alternatives:
                likelier = ", ".join(f"{_visible(a.char)} {_percent(a.logprob)}" for a in alternatives[i])
                line += f"  {_percent(chars[i].logprob)}; instead: {likelier}"
            lines.append(line)
        return lines


def _text(chars: Sequence[CharacterScore]) -> str:
    return "".join(printable(char.char) for char in chars)


def _visible(char: str) -> str:
    return "␣" if char == " " else printable(char)


def _percent(logprob: float) -> str:
    return f"{100 * math.exp(logprob):.2g}%"
