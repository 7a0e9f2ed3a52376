"""How a file of columns is written: JSON lines, CSV, TSV or Kaldi's `utt-id text`, told from its first lines.

Reading the columns is left to `columns`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from charlm.system.counts import list_some
from charlm.text import json_lines

PEEKED_LINES = 20  # looked at, at most, to find out how a file is written
DELIMITERS = {"\t": "TSV", "|": "CSV with vertical bars", ",": "CSV", ";": "CSV with semicolons"}
_DOCUMENT = "one JSON document"
_HEADER_CELL = re.compile(r"[^\W\d][\w .:/()-]{0,39}")
# What columns are called where texts are kept; one of them makes a first row of short cells a header.
_HEADER_WORD = re.compile(
    "abstract|answer|author|bad|body|caption|category|class|comment|content|context|date|description|doc|document|file"
    "|good|group|hypothesis|id|index|input|key|label|lang|language|line|message|name|output|path|prompt|question|quote"
    "|reference|review|score|sentence|source|speaker|split|src|subject|summary|target|text|tgt|title|transcript"
    "|transcription|translation|tweet|type|uid|url|user|utt|utterance|verse|word"
)
_KALDI_LINE = re.compile(r"((?=\S*\d)(?=\S*[-_])[^\W_][\w.-]{3,})(?:\s+(.*))?", re.DOTALL)
_KALDI_BLANKS = re.compile("[ \t]+")
_KALDI_DIFFERENT = 0.9  # share of the keys
_DATE = re.compile(r"\d{4}-\d\d(-\d\d)?(T[\d.:-]*)?$")


def describe_columns(lines: Sequence[str], name: str) -> str | None:
    """Says as what the first lines of a file look like columns; None where they look like plain text.

    Args:
        lines: some of the first lines, without their newlines.
        name: the name of the file.
    """
    shown = [line for line in lines[:PEEKED_LINES] if line.strip()]
    if not shown:
        return None
    if shown[0].lstrip()[0] == "{" and json_lines.is_row(shown[0]):
        return "JSON lines"
    if json_lines.is_document(shown):
        return _DOCUMENT
    if looks_like_kaldi(shown):
        return "Kaldi's `utt-id text`"
    delimiter = find_delimiter(shown)
    if delimiter is None:
        return None
    named = {"csv", "tsv"} & set(Path(name).name.lower().split(".")[1:])
    cells = split_cells(shown[0], delimiter)
    header = looks_like_header(cells) and not any(cell[:1] == " " for cell in cells)  # prose has a blank there
    return DELIMITERS[delimiter] if named or (header and len(shown) > 1) else None


def looks_like_header(cells: Sequence[str]) -> bool:
    """Says whether the cells of a first row are names of columns rather than values."""
    names = [cell.strip().lower() for cell in cells]
    if len(set(names)) < len(names) or not all(_HEADER_CELL.fullmatch(name) for name in names):
        return False
    return any(_HEADER_WORD.fullmatch(word) for name in names for word in re.split(r"[\W_]+", name))


def looks_like_kaldi(lines: Sequence[str]) -> bool:
    """Says whether lines are Kaldi's: words behind ids that differ and have a digit and a hyphen or underscore."""
    found = [_KALDI_LINE.fullmatch(line) for line in lines]
    ids = [match[1] for match in found if match]
    if (
        len(ids) < len(lines)
        or len(set(ids)) < _KALDI_DIFFERENT * len(ids)
        or any(_DATE.match(name) for name in ids)
    ):
        return False
    return any(match and match[2] for match in found)


def split_kaldi(line: str) -> tuple[str, str]:
    """Splits a line of Kaldi's into its key and its words, without the blanks around them; the key may be empty."""
    key, *words = _KALDI_BLANKS.split(line.strip(" \t\r"), maxsplit=1)
    return key, "".join(words)


def find_delimiter(lines: Sequence[str]) -> str | None:
    """Returns the delimiter that cuts all lines into equally many cells, more than one; None: there is none."""
    whole = []
    for line in lines:
        if line.count('"') % 2:
            break  # a quoted cell goes on in the next line
        whole.append(line)
    for delimiter in DELIMITERS:
        widths = {len(split_cells(line, delimiter)) for line in whole}
        if len(widths) == 1 and widths != {1}:
            return delimiter
    return None


def split_cells(line: str, delimiter: str) -> list[str]:
    """Splits one line into cells, whatever its quotes are like."""
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return line.split(delimiter)


def raw_note(kind: str, option: str, names: Sequence[str]) -> str:
    """Returns what to say of files that look like columns where none was chosen."""
    looks, is_read = ("look like", "are read") if len(names) > 1 else ("looks like", "is read")
    if kind == _DOCUMENT:
        advice = json_lines.document_advice(names[0]) if names else ""
        way_out = f"as one text; {advice}, and {option} then reads one field"
    else:
        way_out = f"with all columns as one text; {option} reads only one of them"
    return f"{list_some(names)}: {looks} {kind} and {is_read} {way_out}"
