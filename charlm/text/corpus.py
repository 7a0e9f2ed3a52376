"""Corpora: from text to the ids of a training, a validation and a test split.

A text is read once, piece by piece, into a copy, which lies on disk unless it is small: where it is to be split is
known only at its end. The ids are written from the copy. Reading is left to `reading`, storing the ids to `cache`,
batches to `batches`.
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
from typing import IO, TYPE_CHECKING, Any

from charlm.errors import CorpusError
from charlm.text.cache import Cache, Encoded, IdsWriter
from charlm.text.reading import STDIN, content_key, find_files, read_pieces
from charlm.text.vocabulary import Ids, Vocabulary, normalize_pieces, to_bytes

if TYPE_CHECKING:
    from charlm.config import CorpusConfig

_PIECE_SIZE = 1 << 20  # bytes read at a time, and characters or symbols worked on at a time
_DEFAULT_CACHE = Cache()


@dataclass(frozen=True)
class Split:
    """A contiguous part of a corpus.

    Attributes:
        ids: symbols, shape (N,); in lines framing every line ends with the boundary.
        characters: the number of characters, including newlines; it differs from N at byte level only.
        bytes: the size of the text in UTF-8.
    """

    ids: Ids
    characters: int
    bytes: int

    @classmethod
    def of(cls, text: str, vocabulary: Vocabulary) -> Split:
        """Encodes a normalised text."""
        return cls(vocabulary.encode(text), len(text), len(to_bytes(text)))

    def count(self, symbol_id: int | None, *, piece_size: int = _PIECE_SIZE) -> int:
        """Counts a symbol, looking at `piece_size` symbols at a time."""
        starts = range(0, len(self.ids), piece_size)
        return sum(int((self.ids[start : start + piece_size] == symbol_id).sum()) for start in starts)


@dataclass(frozen=True)
class Corpus:
    """A text, encoded and split.

    Attributes:
        vocabulary: built from the training split alone, so that the other splits are new to it.
        train: the text to learn from.
        validation: the text that the best weights are chosen by.
        test: the text that training never looks at.
        key: a checksum of vocabulary, training and validation text, by which a resumed run knows its corpus.
        notes: what the user should know, for example how many lines were left out.
    """

    vocabulary: Vocabulary
    train: Split
    validation: Split
    test: Split
    key: str
    notes: list[str] = field(default_factory=list)


def load_corpus(
    config: CorpusConfig,
    known: Sequence[str] = (),
    *,
    cache: Cache = _DEFAULT_CACHE,
    piece_size: int = _PIECE_SIZE,
) -> Corpus:
    """Reads, normalises, splits and encodes a corpus, in memory that does not grow with it.

    What was made of large files is kept on disk (see `cache`), and used again as long as the content of the files
    and the settings are the same.

    Args:
        config: what to read, and how it becomes numbers.
        known: characters that the vocabulary has in any case; see `Vocabulary.build`.
        cache: where large encoded corpora are kept.
        piece_size: the number of bytes read, and of characters encoded, at a time.

    Raises:
        CorpusError: there is nothing to read, it is not text, or it is too small for the split.
    """
    paths = [config.path] if isinstance(config.path, str) else config.path
    key = _cache_key(paths, config, known, cache)
    if key and (kept := cache.load(key)):
        return _corpus(kept)
    notes: list[str] = []
    read = read_pieces(paths, level=config.level, read_bytes=piece_size)
    pieces = normalize_pieces(read, config.normalization, config.lowercase)
    if config.framing == "lines":
        pieces = _filter_lines(pieces, config.max_line_length, notes)
    try:
        with _open_scratch(cache, keep=key is not None) as file:
            text = _StoredText(file, pieces, "lines" if config.framing == "lines" else "characters", piece_size)
            sizes = _split_sizes(text.size, config.validation, config.test, text.unit)
            train = (part for split, part in text.parts(sizes) if split == 0)
            settings = config.model_dump(include={"framing", "level", "normalization", "lowercase", "min_count"})
            vocabulary = Vocabulary.build(train, known=known, **settings)
            if key and key != _cache_key(paths, config, known, cache):
                key = None  # somebody wrote into the files meanwhile
            return _corpus(_encode(text, sizes, vocabulary, cache, key, notes))
    except OSError as error:
        raise _no_room(error) from None


def load_held_out(
    paths: str | Sequence[str],
    vocabulary: Vocabulary,
    *,
    cache: Cache = _DEFAULT_CACHE,
    piece_size: int = _PIECE_SIZE,
) -> Split:
    """Reads text to evaluate a model on, framed and normalised as the model's own corpus was.

    Args:
        paths: see `read_text`.
        vocabulary: the vocabulary of the model.
        cache: decides which ids stay in memory; nothing is kept there.
        piece_size: the number of bytes read, and of characters encoded, at a time.

    Raises:
        CorpusError: there is nothing to read, or it is not text.
    """
    paths = [paths] if isinstance(paths, str) else list(paths)
    read = read_pieces(paths, level=vocabulary.level, read_bytes=piece_size)
    pieces = normalize_pieces(read, vocabulary.normalization, vocabulary.lowercase)
    if vocabulary.framing == "lines":
        pieces = _filter_lines(pieces, None, [])
    try:
        with _open_scratch(cache) as file:
            text = _StoredText(file, pieces, "characters", piece_size)
            return _splits(_encode(text, (text.size, 0, 0), vocabulary, cache))[0]
    except OSError as error:
        raise _no_room(error) from None


def _cache_key(paths: Sequence[str], config: CorpusConfig, known: Sequence[str], cache: Cache) -> str | None:
    """Returns the name of an encoded corpus in the cache, or None if it is not worth keeping.

    It is made from the content of the files, not from their dates: two gigabytes are read in a second, and no copy,
    clock or network drive can make an old encoding pass for that of a new text.
    """
    files = find_files(paths)
    if STDIN in files or sum(Path(file).stat().st_size for file in files) <= cache.memory_bytes:
        return None
    settings = config.model_dump(exclude={"path"})
    parts = [content_key(files), settings, list(known), unicodedata.unidata_version]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _no_room(error: OSError) -> CorpusError:
    return CorpusError(
        f"no room to encode the corpus ({error.strerror or error}); make room on the disk, or set CHARLM_CACHE and "
        "TMPDIR to other folders"
    )


def _open_scratch(cache: Cache, *, keep: bool = False) -> SpooledTemporaryFile[str]:
    """Opens a file for a text: in memory while it is small, then on disk, beside the ids where those are kept."""
    folder = cache.folder() if keep else None
    return SpooledTemporaryFile(
        cache.memory_bytes,
        "w+",
        encoding="utf-8",
        errors="surrogatepass",
        newline="\n",
        dir=str(folder) if folder else None,
    )


class _StoredText:
    """The copy of a whole text, which is read once.

    Args:
        file: the file that the text is copied into.
        pieces: the pieces of the text.
        unit: what it is measured in, `characters` or `lines`.
        piece_size: the number of characters in a piece that is read back.

    Attributes:
        size: the size of the text in this unit.
    """

    def __init__(self, file: IO[str], pieces: Iterable[str], unit: str, piece_size: int) -> None:
        self._file = file
        self._piece_size = piece_size
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
        while piece := self._file.read(self._piece_size):
            while piece:
                while not left:
                    split += 1
                    left = sizes[split]
                part = piece
                if self._measure(piece) >= left:
                    part = piece[: left if self.unit == "characters" else _line_end(piece, left)]
                yield split, part
                left -= self._measure(part)
                piece = piece[len(part) :]


def _line_end(piece: str, number: int) -> int:
    """Returns the index behind the line of this number, counted from 1."""
    end = 0
    for _ in range(number):
        end = piece.index("\n", end) + 1
    return end


def _encode(
    text: _StoredText,
    sizes: Sequence[int],
    vocabulary: Vocabulary,
    cache: Cache,
    key: str | None = None,
    notes: Sequence[str] = (),
) -> Encoded:
    """Writes the ids of all splits one after another."""

    def write(file: IdsWriter) -> dict[str, Any]:
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


def _corpus(encoded: Encoded) -> Corpus:
    info = encoded.info
    train, validation, test = _splits(encoded)
    vocabulary = Vocabulary.from_json(info["vocabulary"])
    return Corpus(vocabulary, train, validation, test, info["key"], info["notes"])


def _splits(encoded: Encoded) -> list[Split]:
    splits, start = [], 0
    for symbols, characters, size in encoded.info["splits"]:
        splits.append(Split(encoded.ids[start : start + symbols], characters, size))
        start += symbols
    return splits


def _filter_lines(pieces: Iterable[str], max_line_length: int | None, notes: list[str]) -> Iterator[str]:
    """Leaves out empty and overlong lines, and ends each line with a newline."""
    begun: list[str] = []  # pieces of a line whose end has not arrived yet
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


def _split_sizes(total: int, validation: float, test: float, unit: str) -> tuple[int, int, int]:
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
        characters: the number of characters, including newlines.
        bytes: the size in UTF-8.
        lines: the number of lines; the last one counts even if it lacks a newline.
        vocabulary: the number of distinct characters.
        frequent: the most frequent characters with their counts.
        rare: characters that occur once or twice, with their counts, rarest first.
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
