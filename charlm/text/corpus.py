"""Corpora: from text to the ids of a training, a validation and a test split.

A text is read once, piece by piece, into a copy that lies on disk unless it is small, since where it is to be split
is known at its end only; the ids are written from there. Reading is left to `reading`, the place of the ids to
`cache`, batching to `batches`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from charlm.errors import CorpusError
from charlm.text import cache
from charlm.text.reading import STDIN, content_key, find_files, read_pieces
from charlm.text.vocabulary import Ids, Vocabulary, normalize_pieces, to_bytes

_PIECE = 1 << 20  # characters encoded at once


@dataclass(frozen=True)
class Split:
    """A contiguous part of a corpus.

    Attributes:
        ids: symbols, shape (N,); in lines framing every line ends with the boundary.
        characters: the number of characters, newlines included; differs from N at byte level only.
        bytes: the size of the text in UTF-8.
    """

    ids: Ids
    characters: int
    bytes: int

    @classmethod
    def of(cls, text: str, vocabulary: Vocabulary) -> Split:
        """Encodes a normalised text."""
        return cls(vocabulary.encode(text), len(text), len(to_bytes(text)))

    def count(self, symbol_id: int | None) -> int:
        """Counts a symbol."""
        starts = range(0, len(self.ids), _PIECE)
        return sum(int((self.ids[start : start + _PIECE] == symbol_id).sum()) for start in starts)


@dataclass(frozen=True)
class Corpus:
    """A text, encoded and split.

    Attributes:
        vocabulary: built from the training split, so that the others are honestly new.
        train: what is learnt from.
        validation: chooses the best weights.
        test: never looked at in training.
        key: of vocabulary, training and validation text: tells whether a run goes on with what it began with.
        notes: what a person should know about the reading, for example lines left out.
    """

    vocabulary: Vocabulary
    train: Split
    validation: Split
    test: Split
    key: str
    notes: list[str] = field(default_factory=list)


def load_corpus(
    paths: str | Sequence[str],
    *,
    framing: str = "stream",
    level: str = "character",
    validation: float = 0.1,
    test: float = 0.0,
    normalization: str = "none",
    lowercase: bool = False,
    min_count: int = 1,
    max_line_length: int | None = None,
    known: Sequence[str] = (),
) -> Corpus:
    """Reads, normalises, splits and encodes a corpus, in memory that does not grow with it.

    What was made of files of more than 16 MiB is kept on disk (see `cache`) and used again as long as the content
    of the files and the settings are the same.

    Args:
        paths: see `read_text`.
        framing: `stream` splits by characters, `lines` by lines.
        level: `character` or `byte`.
        validation: share of the text held out after the training part.
        test: share after that.
        normalization: `none`, `nfc` or `nfkc`.
        lowercase: whether letters are turned into small ones.
        min_count: rarer characters of the training split become `<unk>`.
        max_line_length: in lines framing, longer lines are left out.
        known: characters that the vocabulary has in any case; see `Vocabulary.build`.

    Raises:
        CorpusError: nothing to read, not text, or too small for the split.
    """
    paths = [paths] if isinstance(paths, str) else list(paths)
    settings = (framing, level, validation, test, normalization, lowercase, min_count, max_line_length, list(known))
    key = _key(paths, settings)
    if key and (kept := cache.load(key)):
        return _corpus(kept)
    notes: list[str] = []
    pieces = normalize_pieces(read_pieces(paths, level=level), normalization, lowercase)
    if framing == "lines":
        pieces = _tidy_lines(pieces, max_line_length, notes)
    try:
        with _scratch(cache.folder() if key else None) as file:
            text = _Text(file, pieces, "lines" if framing == "lines" else "characters")
            sizes = _cut(text.size, validation, test, text.unit)
            train = (part for split, part in text.parts(sizes) if split == 0)
            vocabulary = Vocabulary.build(
                train,
                framing=framing,
                level=level,
                normalization=normalization,
                lowercase=lowercase,
                min_count=min_count,
                known=known,
            )
            if key and key != _key(paths, settings):
                key = None  # somebody wrote into the files meanwhile
            return _corpus(_encode(text, sizes, vocabulary, key, notes))
    except OSError as error:
        raise _no_room(error) from None


def load_held_out(paths: str | Sequence[str], vocabulary: Vocabulary) -> Split:
    """Reads text to evaluate a model on, framed and normalised as the model's own corpus was.

    Raises:
        CorpusError: nothing to read, or not text.
    """
    paths = [paths] if isinstance(paths, str) else list(paths)
    read = read_pieces(paths, level=vocabulary.level)
    pieces = normalize_pieces(read, vocabulary.normalization, vocabulary.lowercase)
    if vocabulary.framing == "lines":
        pieces = _tidy_lines(pieces, None, [])
    try:
        with _scratch() as file:
            text = _Text(file, pieces, "characters")
            return _splits(_encode(text, (text.size, 0, 0), vocabulary))[0]
    except OSError as error:
        raise _no_room(error) from None


def _key(paths: Sequence[str], settings: tuple[object, ...]) -> str | None:
    """Returns the name of an encoded corpus in the cache, or None if it is not worth keeping.

    It is drawn from the content of the files, not from their dates: two gigabytes are read in a second, and no
    copy, clock or network drive can make an old encoding pass for that of a new text.
    """
    files = find_files(paths)
    if STDIN in files or sum(Path(file).stat().st_size for file in files) <= cache.SMALL:
        return None
    known = [content_key(files), settings, unicodedata.unidata_version]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def _no_room(error: OSError) -> CorpusError:
    return CorpusError(
        f"no room to encode the corpus ({error.strerror or error}); make room on the disk, or set CHARLM_CACHE and "
        "TMPDIR to other folders"
    )


def _scratch(folder: Path | None = None) -> SpooledTemporaryFile[str]:
    """Opens a file for a text: in memory while it is small, then in the folder or where temporary files go."""
    return SpooledTemporaryFile(
        cache.SMALL,
        "w+",
        encoding="utf-8",
        errors="surrogatepass",
        newline="\n",
        dir=str(folder) if folder else None,
    )


class _Text:
    """A whole text, read once.

    Args:
        file: where it is put.
        pieces: of the text.
        unit: what it is measured in: `characters` or `lines`.

    Attributes:
        size: in this unit.
    """

    def __init__(self, file: IO[str], pieces: Iterable[str], unit: str) -> None:
        self._file = file
        self.unit = unit
        self.size = 0
        for piece in pieces:
            self._file.write(piece)
            self.size += self._measure(piece)

    def _measure(self, piece: str) -> int:
        return piece.count("\n") if self.unit == "lines" else len(piece)

    def parts(self, sizes: Sequence[int]) -> Iterator[tuple[int, str]]:
        """Yields the text in pieces, each with the number of the split that it belongs to."""
        self._file.seek(0)
        split, left = 0, sizes[0]
        while piece := self._file.read(_PIECE):
            while piece:
                while not left:
                    split += 1
                    left = sizes[split]
                part = piece
                if self._measure(piece) >= left:
                    part = piece[: left if self.unit == "characters" else _behind_line(piece, left)]
                yield split, part
                left -= self._measure(part)
                piece = piece[len(part) :]


def _behind_line(piece: str, number: int) -> int:
    """Returns where the line of this number, from 1, has ended."""
    end = 0
    for _ in range(number):
        end = piece.index("\n", end) + 1
    return end


def _encode(
    text: _Text, sizes: Sequence[int], vocabulary: Vocabulary, key: str | None = None, notes: Sequence[str] = ()
) -> cache.Encoded:
    """Writes the ids of all splits behind each other."""

    def write(file: cache.IdsWriter) -> dict[str, Any]:
        measured = [[0, 0, 0] for _ in sizes]  # symbols, characters, bytes
        described = vocabulary.to_json()
        corpus_key = hashlib.sha256(described.encode())
        for split, part in text.parts(sizes):
            ids = vocabulary.encode(part)
            file.write(ids)
            if split < 2:
                corpus_key.update(ids.tobytes())
            for i, size in enumerate((len(ids), len(part), len(to_bytes(part)))):
                measured[split][i] += size
        return {"vocabulary": described, "splits": measured, "key": corpus_key.hexdigest(), "notes": list(notes)}

    return cache.save(key, len(vocabulary), write)


def _corpus(encoded: cache.Encoded) -> Corpus:
    info = encoded.info
    train, validation, test = _splits(encoded)
    vocabulary = Vocabulary.from_json(info["vocabulary"])
    return Corpus(vocabulary, train, validation, test, info["key"], info["notes"])


def _splits(encoded: cache.Encoded) -> list[Split]:
    splits, start = [], 0
    for symbols, characters, size in encoded.info["splits"]:
        splits.append(Split(encoded.ids[start : start + symbols], characters, size))
        start += symbols
    return splits


def _tidy_lines(pieces: Iterable[str], max_line_length: int | None, notes: list[str]) -> Iterator[str]:
    """Leaves out empty and overlong lines and ends each line with a newline."""
    begun: list[str] = []  # pieces of a line whose end has not come yet
    n_lines = n_kept = 0
    for piece in itertools.chain(pieces, ["\n"]):
        first, *rest = piece.split("\n")
        begun.append(first)
        if not rest:
            continue
        lines = [line for line in ("".join(begun), *rest[:-1]) if line]
        begun = [rest[-1]]
        n_lines += len(lines)
        if max_line_length is not None:
            lines = [line for line in lines if len(line) <= max_line_length]
        n_kept += len(lines)
        if lines:
            yield "\n".join(lines) + "\n"
    if not n_kept:
        raise CorpusError(f"no line is as short as corpus.max_line_length: {max_line_length}; raise it")
    if n_kept < n_lines:
        notes.append(
            f"{n_lines - n_kept:,} of {n_lines:,} lines are longer than {max_line_length} characters "
            "and are left out"
        )


def _cut(total: int, validation: float, test: float, unit: str) -> tuple[int, int, int]:
    """Returns the sizes of the three splits of `total` characters or lines."""
    if validation + test >= 1:
        raise CorpusError(
            f"corpus.validation {validation:g} and corpus.test {test:g} leave nothing to train on; lower them"
        )
    train = int(total * (1 - validation - test) + 1e-9)
    held_out = total - train
    in_validation = held_out if not test else int(held_out * validation / (validation + test) + 1e-9)
    if not validation and not test:
        train, in_validation, held_out = total, 0, 0
    sizes = (train, in_validation, held_out - in_validation)
    for name, share, size in (("validation", validation, sizes[1]), ("test", test, sizes[2])):
        if share and not size:
            raise CorpusError(
                f"the corpus has only {total} {unit}: corpus.{name} of {share:g} leaves none for it; "
                f"raise corpus.{name}, set it to 0, or bring more text"
            )
    if not train:
        raise CorpusError(
            f"the corpus has only {total} {unit}, too little to train on after the split; "
            "bring more text or lower corpus.validation"
        )
    return sizes


@dataclass(frozen=True)
class TextStatistics:
    """What `charlm corpus stats` shows.

    Attributes:
        characters: newlines included.
        bytes: in UTF-8.
        lines: the last one counts though it may lack a newline.
        vocabulary: distinct characters.
        frequent: the most frequent characters with their counts.
        rare: characters that occur once or twice with their counts, rarest first.
        longest: the longest lines as (line number from 1, characters).
    """

    characters: int
    bytes: int
    lines: int
    vocabulary: int
    frequent: list[tuple[str, int]]
    rare: list[tuple[str, int]]
    longest: list[tuple[int, int]]


def statistics(text: str) -> TextStatistics:
    """Counts what matters before training on a text."""
    counts = Counter(text)
    ranked = counts.most_common()
    lengths = [len(line) for line in text.removesuffix("\n").split("\n")]
    longest = sorted(range(len(lengths)), key=lambda i: -lengths[i])[:5]
    return TextStatistics(
        characters=len(text),
        bytes=len(to_bytes(text)),
        lines=len(lengths),
        vocabulary=len(counts),
        frequent=ranked[:10],
        rare=[pair for pair in reversed(ranked) if pair[1] <= 2],
        longest=[(i + 1, lengths[i]) for i in longest],
    )
