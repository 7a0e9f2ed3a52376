"""What a format of `charlm score` is, and two that programs read: JSON lines and TSV.

A printer prints a header, then each sentence, then a summary. The table that people read is in `score_table`, the
formats of KenLM and SRILM are in `score_toolkits`.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

from charlm.cli.layout import fit_table
from charlm.cli.render import for_terminal, json_line, note
from charlm.scoring.measures import Measure, Score
from charlm.scoring.words import Space, WordScore, find_words, score_words

if TYPE_CHECKING:
    from charlm.scoring.alternatives import Alternative
    from charlm.scoring.conditions import Conditions
    from charlm.scoring.summary import Summary
    from charlm.text.columns import Record
    from charlm.text.vocabulary import Vocabulary

    Alternatives = Sequence[Sequence[Alternative]]  # for each character of a sentence

FIELDS = tuple(field.name for field in dataclasses.fields(Score) if field.name not in ("n", "chars"))
_SENTENCE_FIELDS = (*FIELDS, "score", "rank", "chars", "words")
WORD_FIELDS = ("word", "start", "end", "logprob", "surprisal", "unknown")
WORD_LOGARITHMS = ("logprob", "surprisal")
LOGARITHMS = ("logprob", "mean_logprob", "penlp", "slor")  # the fields that depend on --log-base
FIGURES = (  # of a whole file, as `Summary` names them
    *("sentences", "characters", "words", "unknown", "logprob"),
    *("perplexity", "perplexity_excluding_unknown", "perplexity_per_word", "bits_per_character", "bits_per_byte"),
)


class LogBase(StrEnum):
    """The base of the logarithms that are printed."""

    E = "e"
    TWO = "2"
    TEN = "10"

    @property
    def nats(self) -> float:
        """The size of one unit in nats."""
        return 1.0 if self is LogBase.E else math.log(int(self))

    @property
    def unit(self) -> str:
        """The name of the unit of information."""
        return {LogBase.E: "nats", LogBase.TWO: "bits", LogBase.TEN: "bans"}[self]


@dataclass(frozen=True)
class Printer(ABC):
    """Prints scores in one format.

    Attributes:
        vocabulary: the vocabulary of the model.
        conditions: the conditions under which sentences are scored.
        source: the name of the file, `-` for standard input, None for sentences of the command line.
        log_base: the base of all logarithms.
        measure: the measure that is printed as `score`, if any.
        ranked: whether each sentence has a rank.
        per_char: whether each character is printed.
        space: the white space that belongs to a word, if each word is printed.
        columns: the names of the columns that stand beside the texts, if any.
    """

    vocabulary: Vocabulary
    conditions: Conditions
    source: str | None
    log_base: LogBase
    measure: Measure | None
    ranked: bool
    per_char: bool
    space: Space | None
    columns: list[str] = field(default_factory=list)

    def print_header(self) -> None:  # noqa: B027 (most formats have none)
        """Prints what precedes the first sentence."""

    @abstractmethod
    def print_sentence(self, score: Score, rank: int | None, alternatives: Alternatives, record: Record) -> None:
        """Prints one sentence, and the other columns of its record where the format has a place for them."""

    def print_summary(self, summary: Summary) -> None:
        """Prints the figures of a file, to standard error where standard output is for programs."""
        if lines := self.figures(summary):
            note("\n".join(lines))

    @cached_property
    def context(self) -> str:
        """The context as the model reads it."""
        return self.vocabulary.normalize(self.conditions.context)

    @cached_property
    def history_length(self) -> int:
        """The number of symbols that the model reads before the first character of a sentence."""
        document = self.vocabulary.normalize(self.conditions.document)
        if self.vocabulary.framing == "lines":
            document = ""  # is remembered, and does not stand before the sentence
        ended = not document or document.endswith(self.vocabulary.boundary)
        return len(document) + (not ended) + len(self.context) + self.conditions.bos

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the printed fields, in order."""
        optional = {"score": self.measure, "rank": self.ranked, "chars": self.per_char}
        return (*FIELDS, *(name for name, wanted in optional.items() if wanted))

    def column_name(self, name: str) -> str:
        """Returns what a column of the input is called beside the results, whose own names it may not take."""
        return f"input_{name}" if name in (*_SENTENCE_FIELDS, *self.fields) else name

    def row(self, score: Score, rank: int | None, alternatives: Alternatives) -> dict[str, Any]:
        """Returns the printed fields of a sentence by their names."""
        nats = self.log_base.nats
        row: dict[str, Any] = {name: getattr(score, name) for name in FIELDS}
        for name in LOGARITHMS:
            row[name] /= nats
        if self.measure:
            row["score"] = score.measure(self.measure) / nats
        if self.ranked:
            row["rank"] = rank
        if self.per_char:
            row["chars"] = [{**char._asdict(), "logprob": char.logprob / nats} for char in score.chars]
            for char, others in zip(row["chars"], alternatives, strict=False):
                char["alternatives"] = [{"char": other.char, "logprob": other.logprob / nats} for other in others]
        return row

    def words(self, score: Score, record: Record) -> list[WordScore]:
        """Returns the words of a sentence where they are printed."""
        if self.space is None:
            return []
        spans = find_words(score.text)[1] if record.words is None else record.words
        return score_words(score, spans, self.vocabulary.normalize, self.space)

    def word_rows(self, score: Score, record: Record) -> list[dict[str, Any]]:
        """Returns the printed fields of each word by their names."""
        nats = self.log_base.nats
        return [
            {
                **{name: getattr(word, name) for name in WORD_FIELDS},
                **{name: getattr(word, name) / nats for name in WORD_LOGARITHMS},
            }
            for word in self.words(score, record)
        ]

    def figures(self, summary: Summary, width: int | None = None) -> list[str]:
        """Returns the figures of a file as lines; none for sentences of the command line or an empty file.

        Args:
            summary: of all sentences.
            width: of the terminal.
        """
        if self.source is None or not summary.sentences:
            return []
        figures: dict[str, float] = {name: getattr(summary, name) for name in FIGURES}
        figures["logprob"] /= self.log_base.nats
        if summary.words <= summary.sentences:  # a text without spaces: its words cannot be counted
            figures = {name: number for name, number in figures.items() if "word" not in name}
        return fit_table([(name, _format_figure(number)) for name, number in figures.items()], "<>", width)


class JsonlPrinter(Printer):
    """One JSON object a line."""

    def print_sentence(self, score: Score, rank: int | None, alternatives: Alternatives, record: Record) -> None:
        """Prints one line."""
        row = {self.column_name(name): value for name, value in record.others.items()}
        row.update(self.row(score, rank, alternatives))
        if self.space:
            row["words"] = self.word_rows(score, record)
        print(json_line(row))


class TsvPrinter(Printer):
    """A header, then one line for each sentence; tabs, newlines and backslashes in the text are escaped."""

    def print_header(self) -> None:
        """Prints the names of the columns."""
        self.print_cells([*(_escape(self.column_name(name)) for name in self.columns), *self.fields])

    def print_sentence(self, score: Score, rank: int | None, alternatives: Alternatives, record: Record) -> None:
        """Prints one line."""
        row = self.row(score, rank, alternatives)
        row["text"] = _escape(row["text"])
        if "chars" in row:
            row["chars"] = json.dumps(row["chars"])
        self.print_cells([*self.beside(record), *(str(row[name]) for name in self.fields)])

    def print_cells(self, cells: Sequence[str]) -> None:
        """Prints the cells of one line."""
        print(for_terminal("\t".join(cells)))

    def beside(self, record: Record) -> list[str]:
        """Returns the cells of the columns that stand beside the text."""
        return [tsv_cell(record.others.get(name)) for name in self.columns]


@dataclass(frozen=True)
class WordTsvPrinter(TsvPrinter):
    """A header, then one line for each word; cells with quotes are quoted, as pandas, R and spreadsheets expect."""

    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the printed fields, in order."""
        return ("sentence_id", "word_id", *WORD_FIELDS)

    def print_sentence(self, score: Score, rank: int | None, alternatives: Alternatives, record: Record) -> None:
        """Prints the words; sentences and words are numbered from 1."""
        sentence_id, beside = next(self._numbers), self.beside(record)
        for word_id, row in enumerate(self.word_rows(score, record), 1):
            row["word"] = _escape(row["word"])
            self.print_cells([*beside, *map(str, (sentence_id, word_id, *row.values()))])

    def print_cells(self, cells: Sequence[str]) -> None:
        """Prints the cells of one line."""
        super().print_cells([_quote(cell) for cell in cells])


def tsv_cell(value: Any) -> str:
    """Returns a value as a cell of TSV; nothing for None."""
    if value is None:
        return ""
    return _escape(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _escape(text: str) -> str:
    """Escapes what would end a cell, and what is not Unicode."""
    text = text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
    return text.encode("utf-8", "backslashreplace").decode()


def _quote(cell: str) -> str:
    """Encloses a cell that has quotes, and doubles them."""
    return '"' + cell.replace('"', '""') + '"' if '"' in cell else cell


def _format_figure(number: float) -> str:
    if isinstance(number, int):
        return f"{number:,}"
    if math.isnan(number):
        return "-"  # the mean of nothing
    return f"{number:,.4f}" if abs(number) < 1e9 else f"{number:.4e}"
