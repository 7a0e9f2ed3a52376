"""The table of `charlm score` for people: columns, shaded characters, the most surprising places."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from charlm.cli.layout import cut, terminal_width, wrap, wrap_lines
from charlm.cli.render import console, printable, shade_by_surprisal, shade_legend
from charlm.cli.score_formats import Printer
from charlm.scoring.words import Space

if TYPE_CHECKING:
    from rich.console import Console

    from charlm.cli.score_formats import Alternatives
    from charlm.scoring.measures import CharacterScore, Score
    from charlm.scoring.summary import Summary
    from charlm.scoring.words import WordScore
    from charlm.text.columns import Record

_WIDTHS = {"logprob": 9, "mean": 8, "ppl": 8, "bits": 6, "penlp": 9, "slor": 8, "unk": 5}  # of columns, in cells
_LEFT_OUT_FIRST = ("penlp", "slor", "bits", "ppl", "unk", "logprob")  # where a terminal is too narrow for all
_RANK_CELLS = 4
_MIN_TEXT_CELLS = 14  # beside the columns
_INDENT_CELLS = 3  # of the rows of characters
_WORST_PLACES = 3  # named for each sentence
_NEIGHBOURING_CHARACTERS = 12  # shown on each side of such a place


class TablePrinter(Printer):
    """A line for each sentence; with `--per-char` its characters shaded, or numbered where there is no colour."""

    def print_header(self) -> None:
        """Prints the names of the columns; a star marks the measure that is asked for."""
        names = [f"{name + '*' * (name == self.measure):>{_WIDTHS[name]}}" for name in self._columns]
        print(("rank " if self.ranked else "") + " ".join(names) + "  text")

    def print_sentence(self, score: Score, rank: int | None, alternatives: Alternatives, record: Record) -> None:
        """Prints one line, and with `--per-char` what is seen character by character."""
        row = self.row(score, rank, alternatives)
        figures = {
            "logprob": f"{row['logprob']:.2f}",
            "mean": f"{row['mean_logprob']:.3f}",
            "ppl": f"{row['perplexity']:.2f}" if row["perplexity"] < 1e5 else f"{row['perplexity']:.1e}",
            "bits": f"{row['bits_per_character']:.3f}",
            "penlp": f"{row['penlp']:.2f}",
            "slor": f"{row['slor']:.3f}",
            "unk": f"{row['unknown']}",
        }
        numbers = " ".join(f"{figures[name]:>{_WIDTHS[name]}}" for name in self._columns) + "  "
        if self.ranked:
            numbers = f"{rank:{_RANK_CELLS}d} {numbers}"
        if self.per_char and self._has_colours:
            self._print_shaded(numbers, score.chars)
        else:
            room = None if self._width is None else max(self._width - len(numbers), _MIN_TEXT_CELLS)
            print(numbers + cut(printable(row["text"]), room))
        if self.per_char:
            if not self._has_colours:
                print("\n".join(self._surprisal_rows((_visible(c.char), c) for c in score.chars)))
            print("\n".join(self._worst_places(score.chars, alternatives)))
        if self.space and (words := self.words(score, record)):
            print("\n".join(self._surprisal_rows((printable(word.word), word) for word in words)))

    def print_summary(self, summary: Summary) -> None:
        """Prints the legend, and the figures of a file."""
        unit = self.log_base.unit
        if self.per_char and self._has_colours:
            legend = shade_legend(unit, self.log_base.nats, self.vocabulary.unigram_entropy)
            frequency = legend.plain.find(" by frequency")
            parts = [legend]
            if self._width is not None and legend.cell_len > self._width:
                divided = legend.divide([frequency] if frequency > 0 else [])
                parts = [line for part in divided for line in part.wrap(self._console, self._width)]
            for part in parts:
                self._console.print(part)
        elif self.per_char:
            said = f"surprisal in {unit} below each character; ␣ space, ? unknown; the worst places in brackets"
            print(wrap_lines(said, self._width))
        if self.space:
            side = {Space.AFTER: "after", Space.BEFORE: "before"}[self.space]
            said = f"surprisal in {unit} below each word, including the space {side} it; ? unknown characters"
            print(wrap_lines(said, self._width))
        if lines := self.figures(summary, self._width):
            print("\n" + "\n".join(lines))

    @cached_property
    def _console(self) -> Console:
        return console()

    @property
    def _has_colours(self) -> bool:
        return self._console.color_system is not None and not self._console.no_color

    @cached_property
    def _width(self) -> int | None:
        return terminal_width(sys.stdout)

    @cached_property
    def _columns(self) -> list[str]:
        """The columns that leave room for some of the text."""
        columns = list(_WIDTHS)
        rank_cells = (_RANK_CELLS + 1) * self.ranked
        for name in _LEFT_OUT_FIRST:
            used = rank_cells + sum(_WIDTHS[column] + 1 for column in columns) + 1
            if self._width is not None and self._width - used < _MIN_TEXT_CELLS and name != self.measure:
                columns.remove(name)
        return columns

    def _print_shaded(self, numbers: str, chars: Sequence[CharacterScore]) -> None:
        """Prints shaded characters beside the numbers, or below where there is no room for them."""
        shown = ((char.char, char.logprob, char.unknown) for char in chars)
        shaded = shade_by_surprisal(shown, self.vocabulary.unigram_entropy)
        if self._width is None or len(numbers) + shaded.cell_len <= self._width:
            self._console.print(Text(numbers).append_text(shaded))
        else:
            print(numbers.rstrip())
            self._print_folded(shaded)

    def _print_folded(self, text: Text) -> None:
        """Prints coloured text in lines of the width of the terminal, cut anywhere."""
        room = max(1, (self._width or text.cell_len) - _INDENT_CELLS)
        ends, used = [], 0
        for place, char in enumerate(text.plain):
            if (used := used + cell_len(char)) > room:
                ends.append(place)
                used = cell_len(char)
        for line in text.divide(ends):
            self._console.print(Text(" " * _INDENT_CELLS).append_text(line))

    def _surprisal_rows(self, parts: Iterable[tuple[str, CharacterScore | WordScore]]) -> list[str]:
        """Sets the surprisal of each character or word below it, wrapped to the width of the terminal."""
        lines: list[str] = []
        top = bottom = " " * _INDENT_CELLS
        for name, part in parts:
            label = cut(name, self._console.width - _INDENT_CELLS - 2) + "?" * bool(part.unknown)
            number = f"{-part.logprob / self.log_base.nats:.2f}"
            width = max(cell_len(label), cell_len(number)) + 1
            if top.strip() and cell_len(top) + 1 + width > self._console.width:
                lines += [top, bottom]
                top = bottom = " " * _INDENT_CELLS
            top += " " * (width - cell_len(label)) + label
            bottom += " " * (width - cell_len(number)) + number
        return [*lines, top, bottom]

    def _worst_places(self, chars: Sequence[CharacterScore], alternatives: Alternatives) -> list[str]:
        """Names the places of the highest surprisal, with the text around them and what was likelier there."""
        lines: list[str] = []
        for i in sorted(range(len(chars)), key=lambda i: chars[i].logprob)[:_WORST_PLACES]:
            surprisal = f"{-chars[i].logprob / self.log_base.nats:9.2f} {self.log_base.unit}  "
            line = surprisal + self._surroundings(chars, i, len(surprisal))
            if alternatives:
                likelier = ", ".join(f"{_visible(a.char)} {_percent(a.logprob)}" for a in alternatives[i])
                instead = f"{_percent(chars[i].logprob)}; instead: {likelier}"
                if self._width is None or cell_len(line) + 2 + cell_len(instead) <= self._width:
                    line += f"  {instead}"
                else:
                    lines.append(line)
                    indent = min(len(surprisal), self._width // 4)
                    lines += wrap(" " * indent + instead, self._width, indent)
                    continue
            lines.append(line)
        return lines

    def _surroundings(self, chars: Sequence[CharacterScore], place: int, used: int) -> str:
        """Returns a character in brackets amid its neighbours, fewer of them on a narrow terminal."""
        neighbours = _NEIGHBOURING_CHARACTERS
        while True:
            first, end = place - neighbours, place + 1 + neighbours
            before = "…" * (first > 0) + _text(chars[max(0, first) : place])
            after = _text(chars[place + 1 : end]) + "…" * (end < len(chars))
            text = f"{before}[{_text(chars[place : place + 1])}]{after}"
            if self._width is None or neighbours == 0 or used + cell_len(text) <= self._width:
                return text
            neighbours -= 1


def _text(chars: Sequence[CharacterScore]) -> str:
    return "".join(printable(char.char) for char in chars)


def _visible(char: str) -> str:
    return "␣" if char == " " else printable(char)


def _percent(logprob: float) -> str:
    return f"{100 * math.exp(logprob):.2g}%"
