"""What `charlm score` reads: sentences of the command line, lines, records with a field, or Kaldi's `KEY words`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from charlm.cli.render import note
from charlm.cli.score_toolkits import KALDI_KEY
from charlm.errors import InputError
from charlm.scoring.words import find_words
from charlm.text.column_formats import describe_columns, raw_note, split_kaldi
from charlm.text.columns import Field, Record, join_lines, joined_note, read_record_batches

_MAX_TEXT_CHARACTERS = 1 << 22


class Waiting:
    """Passes the texts of records on, and keeps the records until their scores come back in the same order."""

    def __init__(self, batches: Iterable[Sequence[Record]]) -> None:
        self._batches = batches
        self._records: deque[Record] = deque()

    def texts(self) -> Iterator[list[str]]:
        """Yields the texts of each batch."""
        for batch in self._batches:
            self._records.extend(batch)
            yield [record.text or "" for record in batch]

    def first(self) -> Record | None:
        """Returns the record whose score comes back next."""
        return self._records[0] if self._records else None

    def take(self) -> Record:
        """Returns the record whose score comes back next, and forgets it."""
        return self._records.popleft()


def number_lines(batches: Iterable[Sequence[str]]) -> Iterator[list[Record]]:
    """Yields each line as a record that has no other columns."""
    number = 0
    for batch in batches:
        yield [Record(line, {}, number + i) for i, line in enumerate(batch, 1)]
        number += len(batch)


def note_columns(batches: Iterable[list[str]], name: str) -> Iterator[list[str]]:
    """Yields batches of lines as they are, and notes on standard error if the first one looks like columns."""
    batches = iter(batches)
    first = next(batches, [])
    if kind := describe_columns(first, name):
        note(raw_note(kind, "--field", [name]))
    yield from chain([first] if first else [], batches)


def read_field(
    batches: Iterable[Sequence[str]], field: Field, name: str, *, one_line: bool
) -> Iterator[list[Record]]:
    """Yields the records of a file, and notes on standard error what a person should know about it.

    Args:
        batches: lines without their newlines.
        field: the column that holds the texts.
        name: what messages call the file.
        one_line: whether newlines inside a text become spaces, as a model of lines needs.

    Raises:
        CorpusError: see `read_record_batches`.
    """
    notes: list[str] = []
    n_joined = 0
    for batch in read_record_batches(batches, field, name, notes):
        while notes:
            note(notes.pop(0))
        if one_line:
            n_joined += sum("\n" in (record.text or "") for record in batch)
            batch = [record._replace(text=join_lines(record.text or "")) for record in batch]
        yield batch
    if n_joined:
        note(f"{name}: {joined_note(n_joined)}")


def take_out_separators(batches: Iterable[Sequence[Record]], separator: str) -> Iterator[list[Record]]:
    """Yields records without the separators of words in their texts, and with the places of these words.

    Where no text has any, this is noted on standard error.

    Raises:
        InputError: the separator is empty.
    """
    n_without = n_with = 0
    for batch in batches:
        n_here = sum(separator in (record.text or "") for record in batch)
        n_with, n_without = n_with + n_here, n_without + len(batch) - n_here
        cut = [find_words(record.text or "", separator) for record in batch]
        yield [record._replace(text=text, words=words) for record, (text, words) in zip(batch, cut, strict=True)]
    if n_without and not n_with:
        note(f"the separator {separator!r} occurs in none of the texts, so each text counts as one word")


def read_kaldi(batches: Iterable[Sequence[str]], name: str) -> Iterator[list[Record]]:
    """Yields the words of Kaldi's lines, `KEY words`, each with its key beside it.

    Raises:
        InputError: a line has no key.
    """
    number = 0
    for batch in batches:
        records = []
        for line in batch:
            number += 1
            key, words = split_kaldi(line)
            if not key:
                raise InputError(f"{name}, line {number}: there is no key; each line must be KEY words")
            records.append(Record(words, {KALDI_KEY: key}, number))
        yield records


def read_text(file: Path, encoding: str, *, what: str) -> str:
    """Reads a text that is read before others: a prompt or a document.

    Args:
        file: its file; `-` is standard input.
        encoding: its encoding.
        what: what messages call it.

    Raises:
        CorpusError: it cannot be read, or is not text.
        InputError: it is too long.
    """
    from charlm.text.decoding import OPTION
    from charlm.text.reading import read_pieces

    text = ""
    for piece in read_pieces([str(file)], encoding=encoding, remedy=OPTION, note=note):
        text += piece
        if len(text) > _MAX_TEXT_CHARACTERS:
            raise InputError(
                f"{file}: {what} has more than {_MAX_TEXT_CHARACTERS:,} characters; keep only its end, "
                "for example with `tail`"
            )
    return text
