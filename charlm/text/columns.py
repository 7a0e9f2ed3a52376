"""Columns: the texts of one field of JSON lines, CSV, TSV or Kaldi's `utt-id text`, and what stands beside them.

    {"id": 7, "text": "one"}     JSON lines: an object or a list a line
    id,text                      CSV, also with `;` or `|`: a quoted cell may hold delimiters, quotes and newlines
    id<TAB>text                  TSV: as CSV, but a quote that does not enclose a cell is an ordinary character
    utt-7 one                    Kaldi: an id, white space, the text

A field is the name of a column or its number, from 1. What is read here is decoded text, line by line or in pieces;
reading and decoding it is left to `reading` and `lines`.
"""

from __future__ import annotations

import csv
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any, NamedTuple

from charlm.errors import CorpusError
from charlm.system.counts import count_of
from charlm.text import json_lines
from charlm.text.column_formats import (
    DELIMITERS,
    PEEKED_LINES,
    describe_columns,
    find_delimiter,
    looks_like_header,
    looks_like_kaldi,
    raw_note,
    split_cells,
    split_kaldi,
)
from charlm.text.lines import complete_lines

Field = str | int

HEADER_NOTE = "the first row is read as the names of the columns"  # said of the first such file
_MAX_RECORD_CHARACTERS = 1 << 26
_JOINED_CHARACTERS = 1 << 16  # of texts that are passed on together
_LITERAL_QUOTES = "\t|"  # delimiters of files that are often written without quoting
_PEEKED_CHARACTERS = 1 << 16  # of the first piece
_MAX_KALDI_KEYS = 1 << 20  # looked at, to find one that stands twice


class Record(NamedTuple):
    """One text and what stands beside it.

    Attributes:
        text: the text; None where the record has none (a key that is missing, or null).
        others: the other columns by their names, or by their numbers where they have none.
        line: the line of the file on which the record begins, from 1.
        words: where the words of the text begin and end, if separators in the file say so.
    """

    text: str | None
    others: dict[str, Any]
    line: int
    words: Sequence[tuple[int, int]] | None = None


class Row(NamedTuple):
    """One row of a table, or the values of a JSON object or list.

    Attributes:
        values: the values by their names, or by their numbers where they have none.
        line: the line of the file on which it begins, from 1.
    """

    values: dict[str, Any]
    line: int


# ---------------------------------------------------------------------------------------------- three ways to read


def parse_field(value: str) -> Field:
    """Reads a field from the command line: a number if it is one, else a name."""
    return int(value) if value.isascii() and value.isdecimal() and len(value) < 10 else value


@dataclass(frozen=True)
class Columns:
    """What is read of each file of a corpus.

    Attributes:
        field: the column whose texts are read; None: files are read as they stand.
        one_line: whether newlines inside a text become spaces, as lines framing needs; else they stay.
        notes: gets a line for what a person should know: that a file looks like columns and none was chosen, that
            records have no text, that newlines were replaced.
    """

    field: Field | None
    one_line: bool
    notes: list[str]
    option: str = "corpus.field"  # by which a person chooses the column
    alike: dict[str, list[str]] = dataclass_field(default_factory=dict)  # the files by what they look like

    def select(self, pieces: Iterable[str], name: str) -> Iterator[str]:
        """Yields the texts of the column, each with a newline behind it; without a field, the file as it is.

        Args:
            pieces: the decoded text of one file, cut anywhere.
            name: what messages call the file.

        Raises:
            CorpusError: the file has no such field, or is damaged.
        """
        if self.field is None:
            yield from self._as_it_is(pieces, name)
            return
        yield from self.join(read_records(_line_batches(pieces, name), self.field, name, self.notes), name)

    def join(self, records: Iterable[Record], name: str) -> Iterator[str]:
        """Yields the texts of records, each with a newline behind it, many at a time."""
        assert self.field is not None
        n_without = n_joined = size = 0
        waiting: list[str] = []
        for record in records:
            if record.text is None:
                n_without += 1
                continue
            text = record.text
            if self.one_line and "\n" in text:
                n_joined += 1
                text = join_lines(text)
            waiting += (text, "\n")
            size += len(text) + 1
            if size > _JOINED_CHARACTERS:
                yield "".join(waiting)
                waiting, size = [], 0
        yield "".join(waiting)
        if n_without:
            verb = "is" if n_without == 1 else "are"
            self.notes.append(
                f"{name}: {count_of(n_without, 'record')} without a value for {_called(self.field)} {verb} left out"
            )
        if n_joined:
            self.notes.append(f"{name}: {joined_note(n_joined)}")

    def _as_it_is(self, pieces: Iterable[str], name: str) -> Iterator[str]:
        first = True
        for piece in pieces:
            if first and piece.strip():
                first = False
                lines = piece[:_PEEKED_CHARACTERS].split("\n", PEEKED_LINES)
                if kind := describe_columns(lines[:-1] if len(lines) > 1 else lines, name):
                    self.note_raw(name, kind)
            yield piece

    def note_raw(self, name: str, kind: str) -> None:
        """Notes that a file looks like columns; of several of a kind there is one note, which names them."""
        names = self.alike.setdefault(kind, [])
        before = raw_note(kind, self.option, names)
        names.append(name)
        note = raw_note(kind, self.option, names)
        if before in self.notes:
            self.notes[self.notes.index(before)] = note
        else:
            self.notes.append(note)


def read_record_batches(
    batches: Iterable[Sequence[str]], field: Field, name: str, notes: list[str]
) -> Iterator[list[Record]]:
    """Yields the records that each batch of lines completes, for callers that answer as lines arrive.

    Args:
        batches: lines without their newlines.
        field: the column.
        name: what messages call the file.
        notes: see `Columns`.

    Raises:
        CorpusError: the file has no such field, or is damaged, or a record has no text.
    """
    lines = _Lines(batches)
    complete: list[Record] = []
    for record in _records(lines, field, name, notes):
        if record.text is None:
            if complete:
                yield complete
            raise CorpusError(
                f"{name}, line {record.line}: this record has no value for {_called(field)}; add one, or leave the "
                "record out"
            )
        complete.append(record)
        if not any(line.strip() for line in lines.waiting):  # what has arrived is answered
            yield complete
            complete = []
    if complete:
        yield complete


def read_records(batches: Iterable[Sequence[str]], field: Field, name: str, notes: list[str]) -> Iterator[Record]:
    """Yields the records of a file; arguments and errors as in `read_record_batches`."""
    return _records(_Lines(batches), field, name, notes)


def join_lines(text: str) -> str:
    """Makes one line of a text, as lines framing needs: each newline becomes a space."""
    return text.replace("\r\n", " ").replace("\n", " ").replace("\r", " ")


def joined_note(count: int) -> str:
    """Returns what to say where `join_lines` has changed texts."""
    return (
        f"{count_of(count, 'text')} of several lines; in lines framing a text is one line, so each newline inside "
        "is read as a space"
    )


# ------------------------------------------------------------------------------------------------------------ rows


class _Lines:
    """Lines one by one, of batches as they arrive; the first ones can be looked at before they are taken.

    Attributes:
        waiting: lines that have arrived and are not taken yet.
        number: of the last line that was taken, from 1.
    """

    def __init__(self, batches: Iterable[Sequence[str]]) -> None:
        self._batches = iter(batches)
        self.waiting: deque[str] = deque()
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while not self.waiting:
            self.waiting.extend(next(self._batches))
        self.number += 1
        line = self.waiting.popleft()
        return line.removeprefix("\ufeff") if self.number == 1 else line

    def put_back(self, lines: Sequence[str]) -> None:
        """Takes back the last lines that were taken."""
        self.waiting.extendleft(reversed(lines))
        self.number -= len(lines)

    def peek(self) -> list[str]:
        """Returns the next lines that are not blank and have arrived; blank ones before them are taken."""
        for line in self:
            if line.strip():
                self.put_back([line])
                break
        return [line for _, line in zip(range(PEEKED_LINES), self.waiting, strict=False) if line.strip()]


def read_cells(lines: Iterable[str], delimiter: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the cells of each row of a table that is not blank, with the number of the line on which it begins.

    Args:
        lines: without their newlines.
        delimiter: what stands between cells.
        name: what messages call the file.

    Raises:
        CorpusError: a cell is damaged.
    """
    return _cells(_Lines([line] for line in lines), delimiter, name)


def _records(lines: _Lines, field: Field, name: str, notes: list[str]) -> Iterator[Record]:
    first = lines.peek()
    if not first:
        return
    required = True
    for row in _rows(lines, first, field, name, notes):
        key = str(field)
        if required and key not in row.values:
            raise _no_column(name, row.line, field, list(json_lines.paths(row.values)))
        required = False
        others = {column: value for column, value in row.values.items() if column != key}
        text = row.values.get(key)
        if text is not None and not isinstance(text, str):
            raise not_a_text(f"{name}, line {row.line}", field, text)
        yield Record(text, others, row.line)


def _rows(lines: _Lines, first: Sequence[str], field: Field, name: str, notes: list[str]) -> Iterator[Row]:
    if json_lines.is_document(first) and first[0].lstrip()[0] == "[":
        raise CorpusError(f"{name}: this is one JSON list, not JSON lines; {json_lines.document_advice(name)}")
    if first[0].lstrip()[0] == "{" or (first[0].lstrip()[0] == "[" and json_lines.is_row(first[0])):
        return _json_rows(lines, field, name)
    delimiter = _delimiter_for(first, field)
    in_header = isinstance(field, str) and field in _stripped(split_cells(first[0], delimiter))
    if field in (1, 2, "utt-id", "text") and not in_header and "\t" not in first[0] and looks_like_kaldi(first):
        names = ("utt-id", "text") if isinstance(field, str) else ("1", "2")
        return _kaldi_rows(lines, names, name, notes)
    return _table(lines, delimiter, name, field, notes)


def _delimiter_for(first: Sequence[str], field: Field) -> str:
    """Returns the delimiter by which the header has this name, else the one that fits all first lines."""
    if isinstance(field, str):
        for delimiter in DELIMITERS:
            if field in _stripped(split_cells(first[0], delimiter)):
                return delimiter
    if found := find_delimiter(first):
        return found
    return next((delimiter for delimiter in DELIMITERS if delimiter in first[0]), ",")


def _table(
    lines: _Lines,
    delimiter: str,
    name: str,
    field: Field,
    notes: list[str],
) -> Iterator[Row]:
    names: list[str] | None = None
    for number, cells in _cells(lines, delimiter, name):
        if names is None:
            named = isinstance(field, str) or looks_like_header(cells)
            if named:
                cells = _stripped(cells)
            _check_column(name, number, field, cells)
            names = [
                cell if named and cell and place != field else str(place) for place, cell in enumerate(cells, 1)
            ]
            if named:
                if isinstance(field, int):
                    _note_once(notes, name, HEADER_NOTE)
                continue
        if len(cells) > len(names):
            raise CorpusError(
                f"{name}, line {number}: this row has {len(cells)} cells and the first row has {len(names)}; a "
                f"cell that contains {_delimiter_name(delimiter)} must be in quotes"
            )
        yield Row(dict(itertools.zip_longest(names, cells)), number)


def _stripped(cells: Iterable[str]) -> list[str]:
    return [cell.strip() for cell in cells]


def _check_column(name: str, line: int, field: Field, cells: Sequence[str]) -> None:
    if field not in cells if isinstance(field, str) else not 1 <= field <= len(cells):
        raise _no_column(name, line, field, cells)
    if isinstance(field, str) and list(cells).count(field) > 1:
        raise CorpusError(f"{name}, line {line}: two columns are named {field!r}; choose one of them by its number")


def _no_column(name: str, line: int, field: Field, names: Iterable[str]) -> CorpusError:
    there = list(names)
    return no_column(f"{name}, line {line}", field, there)


def not_a_text(where: str, field: Field, value: Any) -> CorpusError:
    """Returns what to raise where the value of a column is something else than a text."""
    inner = (
        "".join(f"; did you mean {field}.{path}?" for path in list(value)[:1]) if isinstance(value, dict) else ""
    )
    return CorpusError(f"{where}: {_called(field)} is not a text: {str(value)[:40]}{inner}")


def no_column(where: str, field: Field, names: Sequence[str]) -> CorpusError:
    """Returns what to raise where there is no such column."""
    if isinstance(field, int):
        return CorpusError(f"{where}: there is no column {field}; the columns are numbered from 1 to {len(names)}")
    shown = ", ".join(repr(column[:40]) for column in names[:20]) + (", ..." if len(names) > 20 else "")
    return CorpusError(f"{where}: there is no column {field!r}; the columns are {shown or 'not named'}")


def _called(field: Field) -> str:
    return f"column {field}" if isinstance(field, int) else repr(field)


def _delimiter_name(delimiter: str) -> str:
    return {"\t": "a tab", ",": "a comma", ";": "a semicolon"}.get(delimiter, repr(delimiter))


def _cells(lines: _Lines, delimiter: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the cells of each row that is not blank, with the number of the line on which it begins."""
    if csv.field_size_limit() < _MAX_RECORD_CHARACTERS:
        csv.field_size_limit(_MAX_RECORD_CHARACTERS)
    for line in lines:
        if not line.strip():
            continue
        number = lines.number
        line = line.removesuffix("\r")
        if '"' not in line:
            yield number, line.split(delimiter)
            continue
        taken: list[str] = []
        try:
            row_lines = _row_lines(line, lines, taken, delimiter)
            cells = next(csv.reader(row_lines, delimiter=delimiter, strict=True))
        except csv.Error as error:
            if delimiter not in _LITERAL_QUOTES:
                raise CorpusError(f"{name}, line {number}: {_csv_problem(str(error))}") from None
            lines.put_back(taken)
            cells = line.split(delimiter)
        yield number, cells


def _row_lines(line: str, lines: _Lines, taken: list[str], delimiter: str) -> Iterator[str]:
    """Yields a line and those that its quoted cells go on in; they are kept in `taken`.

    Where quotes may be literal, a cell that goes on must end before the next delimiter: what reaches across the
    cells of other rows is no cell but two stray quotes.
    """
    yield line + "\n"
    size = len(line)
    for more in lines:
        taken.append(more)
        size += len(more)
        if size > _MAX_RECORD_CHARACTERS:
            raise csv.Error("too large")
        if delimiter in _LITERAL_QUOTES and delimiter in more.partition('"')[0]:
            return
        yield more + "\n"


def _csv_problem(message: str) -> str:
    if "unexpected end of data" in message:
        return "a quoted cell of this row is never closed"
    if "too large" in message or "field limit" in message:
        return f"this row has more than {_MAX_RECORD_CHARACTERS:,} characters; a quote is probably not closed"
    return "text follows the closing quote of a cell; a quote inside a quoted cell must be written twice"


def _json_rows(lines: _Lines, field: Field, name: str) -> Iterator[Row]:
    for line in lines:
        if line.strip():
            values = json_lines.parse_row(line, f"{name}, line {lines.number}")
            if (found := json_lines.take(values, str(field))) is not json_lines.MISSING:
                values[str(field)] = found
            yield Row(values, lines.number)


def _kaldi_rows(lines: _Lines, names: tuple[str, str], name: str, notes: list[str]) -> Iterator[Row]:
    seen: dict[str, int] | None = {}  # the line of each key, until one stands twice
    for line in lines:
        if not line.strip():
            continue
        key, words = split_kaldi(line)
        if seen is not None and len(seen) < _MAX_KALDI_KEYS:
            before = seen.setdefault(key, lines.number)
            if before != lines.number:
                notes.append(
                    f"{name}, line {lines.number}: the key {key!r} appears twice, first in line {before}; perhaps "
                    "other keys do too"
                )
                seen = None
        yield Row(dict(zip(names, (key, words), strict=True)), lines.number)


# ---------------------------------------------------------------------------------------------------------- pieces


def _line_batches(pieces: Iterable[str], name: str) -> Iterator[list[str]]:
    """Yields the lines that each piece of a text completes.

    Raises:
        CorpusError: a line is too long.
    """

    def check(number: int, size: int) -> None:
        if size > _MAX_RECORD_CHARACTERS:
            raise CorpusError(
                f"{name}: a line has more than {_MAX_RECORD_CHARACTERS:,} characters; break it into shorter lines"
            )

    return complete_lines(pieces, check)


def _note_once(notes: list[str], name: str, message: str) -> None:
    """Adds a note on a file, unless there is the same on another."""
    if not any(note.endswith(message) for note in notes):
        notes.append(f"{name}: {message}")
