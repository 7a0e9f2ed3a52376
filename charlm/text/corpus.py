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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from itertools import pairwise
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from charlm.errors import CorpusError
from charlm.system.counts import count_of
from charlm.system.encodings import AUTO, UTF_8
from charlm.text.cache import Cache, Encoded, IdsWriter
from charlm.text.columns import Columns, Field
from charlm.text.decoding import OPTION, Note
from charlm.text.framing import find_framing
from charlm.text.lines import complete_lines
from charlm.text.reading import STDIN, content_key, find_files, read_pieces, refuse_twice
from charlm.text.splitting import Runs, split_sizes, spread_lines, spread_pieces, tail_runs
from charlm.text.vocabulary import Ids, Vocabulary, code_points, normalize_pieces, to_bytes

if TYPE_CHECKING:
    from charlm.config import CorpusConfig

_PIECE_SIZE = 1 << 20  # bytes read at a time, and characters or symbols worked on at a time
_DEFAULT_CACHE = Cache()


@dataclass(frozen=True)
class Split:
    """A part of a corpus, or several parts that do not follow each other.

    Attributes:
        ids: symbols, shape (N,); in lines framing every line ends with the boundary.
        characters: the number of characters, including newlines; it differs from N at byte level only.
        bytes: the size of the text in UTF-8.
        parts: where each part of a stream begins in `ids`: what stands before it there did not do so in the text.
    """

    ids: Ids
    characters: int
    bytes: int
    parts: tuple[int, ...] = (0,)

    @classmethod
    def of(cls, text: str, vocabulary: Vocabulary) -> Split:
        """Encodes a normalised text."""
        return cls(vocabulary.encode(text), len(text), len(to_bytes(text)))

    def sequences(self) -> list[Ids]:
        """Returns the parts of a stream."""
        return [self.ids[a:b] for a, b in pairwise([*self.parts, len(self.ids)])]

    def last(self, symbols: int) -> Split:
        """Returns the end of the split, of so many symbols; characters and bytes are not counted anew."""
        first = max(0, len(self.ids) - symbols)
        parts = tuple(part - first for part in self.parts if part > first)
        return replace(self, ids=self.ids[first:], parts=(0, *parts))

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
        held_out: in few words, what the validation split is made of.
        key: a checksum of vocabulary, training and validation text, by which a resumed run knows its corpus.
        notes: what the user should know, for example how many lines were left out.
    """

    vocabulary: Vocabulary
    train: Split
    validation: Split
    test: Split
    held_out: str
    key: str
    notes: list[str] = dataclass_field(default_factory=list)


def load_corpus(
    config: CorpusConfig,
    known: Sequence[str] = (),
    *,
    cache: Cache = _DEFAULT_CACHE,
    piece_size: int = _PIECE_SIZE,
    choose_validation: Callable[[int], float] | None = None,
) -> Corpus:
    """Reads, normalises, splits and encodes a corpus, in memory that does not grow with it.

    What was made of large files is kept on disk (see `cache`), and used again as long as the content of the files
    and the settings are the same.

    Args:
        config: what to read, and how it becomes numbers.
        known: characters that the vocabulary has in any case; see `Vocabulary.build`.
        cache: where large encoded corpora are kept.
        piece_size: the number of bytes read, and of characters encoded, at a time.
        choose_validation: chooses the share of the validation split, instead of `config.validation`, by the number
            of characters of the text, once that is known: the text is read once, and encoded once.

    Raises:
        CorpusError: there is nothing to read, it is not text, or it is too small for the split.
    """
    paths = [config.path] if isinstance(config.path, str) else config.path
    reading: dict[str, Any] = {"level": config.level, "encoding": config.encoding, "strict": config.strict}
    found_notes: list[str] = []  # of the files, whatever is in them
    files = find_files(paths, **reading, note=found_notes.append)
    held_out_files: dict[int, list[str | Path]] = {}
    for split, key_name, name in _held_out_files(config):
        with _naming(key_name):
            held_out_files[split] = find_files([name], **reading)
    all_files = [*files, *itertools.chain(*held_out_files.values())]
    refuse_twice(all_files)
    key = _cache_key(all_files, config, known, cache)
    if key and not choose_validation and (kept := cache.load(key)):
        return _corpus(kept, found_notes)
    notes: list[str] = []
    try:
        whole = config.field is None and config.max_line_length is None  # else little of a large text may be left
        if whole and (told := cache.check_room(_file_bytes(all_files), keep=key is not None)):
            found_notes.append(told)
        with ExitStack() as opened:

            def store(names: Sequence[str], found: list[str | Path], framing: str, notes: list[str]) -> _StoredText:
                if framing == "auto" and config.field is not None:
                    framing = "lines"
                    notes.append("framing: lines (each record is a text of its own)")
                columns = Columns(config.field, framing == "lines", notes)
                read = read_pieces(
                    names, files=found, **reading, note=notes.append, read_bytes=piece_size, columns=columns
                )
                pieces = normalize_pieces(read, config.normalization, config.lowercase)
                if framing == "auto":
                    framing, pieces = find_framing(pieces, notes)
                if framing == "lines":
                    pieces = _filter_lines(pieces, config.max_line_length, notes)
                file = opened.enter_context(_open_scratch(cache, keep=key is not None))
                return _StoredText(file, pieces, framing, piece_size)

            text = store(paths, files, config.framing, notes)
            if choose_validation:
                config = config.model_copy(update={"validation": choose_validation(text.characters)})
                key = _cache_key(all_files, config, known, cache)
                if key and (kept := cache.load(key)):
                    return _corpus(kept, found_notes)
            others = {}
            for split, key_name, name in _held_out_files(config):
                with _naming(key_name):
                    others[split] = store([name], held_out_files[split], text.framing, [])
            shares = [0.0 if isinstance(share, str) else share for share in (config.validation, config.test)]
            runs = _plan(text, config.split, *shares)
            settings = config.model_dump(include={"level", "normalization", "lowercase", "min_count"})
            train = (part for part, _ in text.parts(runs, 0))
            vocabulary = Vocabulary.build(train, known=known, framing=text.framing, **settings)
            if config.min_count > 1 and not set(vocabulary.characters) - {"\n"}:
                raise CorpusError("no character occurs as often as corpus.min_count says; lower it")
            if key and key != _cache_key(all_files, config, known, cache):
                key = None  # somebody wrote into the files meanwhile
            held_out = describe_held_out(config, text.framing)
            filled = [number for number, share in enumerate((1, config.validation, config.test)) if share]
            return _corpus(
                _encode(text, runs, filled, others, vocabulary, cache, key, notes, held_out), found_notes
            )
    except OSError as error:
        raise _no_room(error) from None


def _plan(text: _StoredText, split: str, validation: float, test: float) -> Runs:
    unit = "line" if text.framing == "lines" else "character"
    sizes = split_sizes(text.size, validation, test, unit)
    if split == "tail":
        return tail_runs(sizes)
    return spread_lines(sizes) if unit == "line" else spread_pieces(sizes, text.next_breaks)


def _held_out_files(config: CorpusConfig) -> list[tuple[int, str, str]]:
    """Returns the number of each split that is a file and no share of the text, its key, and the file's name."""
    held_out = ((1, "corpus.validation", config.validation), (2, "corpus.test", config.test))
    return [(split, key, value) for split, key, value in held_out if isinstance(value, str)]


def named_paths(config: CorpusConfig) -> list[str]:
    """Returns all paths that a configuration names: those of the text, and of splits that are files."""
    paths = [config.path] if isinstance(config.path, str) else list(config.path)
    return [*paths, *(name for *_, name in _held_out_files(config))]


@contextmanager
def _naming(key: str) -> Iterator[None]:
    """Puts the key of the configuration that asked for it before what cannot be read."""
    try:
        yield
    except CorpusError as error:
        raise CorpusError(f"{key}: {error}") from None


def describe_held_out(config: CorpusConfig, framing: str) -> str:
    """Says in few words what the validation split is made of."""
    if isinstance(config.validation, str):
        return Path(config.validation).name
    if config.split == "tail":
        return f"the last {config.validation:.3g} of the text" if not config.test else "the end of the text"
    share = f"{100 * config.validation:.2g}%"
    return f"{share} of the lines, from all over" if framing == "lines" else f"{share} of the text, from all over"


def load_held_out(
    paths: str | Sequence[str],
    vocabulary: Vocabulary,
    *,
    field: Field | None = None,
    encoding: str = UTF_8,
    strict: bool = False,
    note: Note = lambda text: None,
    cache: Cache = _DEFAULT_CACHE,
    piece_size: int = _PIECE_SIZE,
) -> Split:
    """Reads text to evaluate a model on, framed and normalised as the model's own corpus was.

    Args:
        paths: see `find_files`.
        vocabulary: the vocabulary of the model.
        field: the column whose texts are read, see `Columns`.
        encoding: see `read_pieces`.
        strict: see `read_pieces`.
        note: see `read_pieces`.
        cache: decides which ids stay in memory; nothing is kept there.
        piece_size: the number of bytes read, and of characters encoded, at a time.

    Raises:
        CorpusError: there is nothing to read, or it is not text.
    """
    paths = [paths] if isinstance(paths, str) else list(paths)
    notes: list[str] = []
    read = read_pieces(
        paths,
        level=vocabulary.level,
        encoding=encoding,
        strict=strict,
        remedy=OPTION,
        note=note,
        read_bytes=piece_size,
        columns=Columns(field, vocabulary.framing == "lines", notes, "--field"),
    )
    pieces = normalize_pieces(read, vocabulary.normalization, vocabulary.lowercase)
    if vocabulary.framing == "lines":
        pieces = _filter_lines(pieces, None, [])
    try:
        with _open_scratch(cache) as file:
            text = _StoredText(file, pieces, vocabulary.framing, piece_size)
            for remark in notes:
                note(remark)
            return _splits(_encode(text, lambda: iter([(0, text.size)]), [0], {}, vocabulary, cache))[0]
    except OSError as error:
        raise _no_room(error) from None


def _cache_key(files: Sequence[str | Path], config: CorpusConfig, known: Sequence[str], cache: Cache) -> str | None:
    """Returns the name of an encoded corpus in the cache, or None if it is not worth keeping.

    It is made from the content of the files, not from their dates: two gigabytes are read in a second, and no copy,
    clock or network drive can make an old encoding pass for that of a new text.
    """
    if not all(file != STDIN and Path(file).is_file() for file in files):
        return None  # what comes through a pipe cannot be read again
    if _file_bytes(files) <= cache.memory_bytes:
        return None
    settings = config.model_dump(exclude={"path"})
    parts = [content_key(files), settings, list(known), unicodedata.unidata_version]
    if config.encoding == AUTO:
        parts.append([str(file) for file in files])  # the notes name them
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _file_bytes(files: Sequence[str | Path]) -> int:
    return sum(Path(file).stat().st_size for file in files if file != STDIN and Path(file).is_file())


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
        framing: `lines`, and its size is in lines, or `stream`, and it is in characters.
        piece_size: the number of characters in a piece that is read back.

    Attributes:
        framing: as given.
        size: the size of the text.
        characters: the number of its characters.
    """

    def __init__(self, file: IO[str], pieces: Iterable[str], framing: str, piece_size: int) -> None:
        self._file = file
        self._piece_size = piece_size
        self.framing = framing
        self.size = self.characters = 0
        for piece in pieces:
            self._file.write(piece)
            self.characters += len(piece)
            self.size += self._measure(piece)

    def _measure(self, piece: str) -> int:
        return piece.count("\n") if self.framing == "lines" else len(piece)

    def pieces(self) -> Iterator[str]:
        """Yields the text in pieces."""
        self._file.seek(0)
        while piece := self._file.read(self._piece_size):
            yield piece

    def parts(self, runs: Runs, number: int) -> Iterator[tuple[str, bool]]:
        """Yields the text of one split in pieces; each says whether it begins a run of a stream."""
        plan = runs()
        split, left = next(plan, (0, self.size))
        begins = True
        for piece in self.pieces():
            ends = self._ends(piece)
            found: list[str] = []  # of lines, what one piece holds in many runs is encoded together
            start = used = 0  # characters of the piece, and units of its size, that are given out
            while start < len(piece):
                if not left:
                    split, left = next(plan)
                    begins = True
                units = min(left, len(ends) - used)
                end = ends[used + units - 1] if units == left else len(piece)
                if split == number:
                    found.append(piece[start:end])
                    if self.framing == "stream":
                        yield found.pop(), begins
                begins = False
                left -= units
                used += units
                start = end
            if found:
                yield "".join(found), False

    def _ends(self, piece: str) -> Sequence[int]:
        """Returns where each line or character of a piece ends, from 1."""
        if self.framing == "stream":
            return range(1, len(piece) + 1)
        ends: list[int] = (np.flatnonzero(code_points(piece) == ord("\n")) + 1).tolist()
        return ends

    def next_breaks(self, places: list[int], within: int) -> list[int]:
        """Returns for each place, which ascend, where a line or else a word begins next; see `spread_pieces`."""
        found: list[int] = []
        offset, before = 0, ""
        for piece in itertools.chain(self.pieces(), [""]):
            text, start = before + piece, offset - len(before)
            while len(found) < len(places) and (places[len(found)] + within < start + len(text) or not piece):
                at = min(max(places[len(found)] - start, 0), len(text))
                ends = (text.find(mark, max(at - 1, 0), at + within) for mark in "\n ")
                found.append(start + next((end + 1 for end in ends if end >= 0), at))
            offset += len(piece)
            before = text[-2 * within - 2 :] if within else ""
        return found


def _encode(
    text: _StoredText,
    runs: Runs,
    filled: Sequence[int],
    others: Mapping[int, _StoredText],
    vocabulary: Vocabulary,
    cache: Cache,
    key: str | None = None,
    notes: Sequence[str] = (),
    held_out: str = "",
) -> Encoded:
    """Writes the ids of all splits one after another: those of the text, and those that are texts of their own.

    `filled` are the numbers of the splits that are not empty.
    """

    def write(file: IdsWriter) -> dict[str, Any]:
        splits = []
        described = vocabulary.to_json()
        corpus_key = hashlib.sha256(described.encode())
        for number in range(3):
            other = others.get(number)
            plan = runs if other is None else (lambda size=other.size, own=number: iter([(own, size)]))
            symbols = characters = size = 0
            parts: list[int] = []
            source = text if other is None else other
            read = source.parts(plan, number) if number in filled else []  # an empty split costs no reading
            for part, begins in read:
                ids = vocabulary.encode(part)
                file.write(ids)
                if number < 2:
                    corpus_key.update(ids.tobytes())
                if begins:
                    parts.append(symbols)
                symbols += len(ids)
                characters += len(part)
                size += len(to_bytes(part))
            splits.append([symbols, characters, size, parts or [0]])
        return {
            "vocabulary": described,
            "splits": splits,
            "held_out": held_out,
            "key": corpus_key.hexdigest(),
            "notes": list(notes),
        }

    return cache.save(key, len(vocabulary), write)


def _corpus(encoded: Encoded, notes: Sequence[str] = ()) -> Corpus:
    info = encoded.info
    train, validation, test = _splits(encoded)
    vocabulary = Vocabulary.from_json(info["vocabulary"])
    return Corpus(vocabulary, train, validation, test, info["held_out"], info["key"], [*notes, *info["notes"]])


def _splits(encoded: Encoded) -> list[Split]:
    splits, start = [], 0
    for symbols, characters, size, parts in encoded.info["splits"]:
        splits.append(Split(encoded.ids[start : start + symbols], characters, size, tuple(parts)))
        start += symbols
    return splits


def _filter_lines(pieces: Iterable[str], max_line_length: int | None, notes: list[str]) -> Iterator[str]:
    """Leaves out empty and overlong lines, and ends each line with a newline."""
    n_lines = n_kept = 0
    for complete in complete_lines(pieces):
        lines = list(filter(None, complete))
        n_lines += len(lines)
        if max_line_length is not None:
            lines = [line for line in lines if len(line) <= max_line_length]
        n_kept += len(lines)
        if lines:
            yield "\n".join(lines) + "\n"
    if not n_kept:
        raise CorpusError(f"no line is as short as corpus.max_line_length: {max_line_length}; raise it")
    if n_kept < n_lines:
        n_out, longest = n_lines - n_kept, count_of(max_line_length or 0, "character")
        verb = "is" if n_out == 1 else "are"
        notes.append(f"{n_out:,} of {count_of(n_lines, 'line')} {verb} longer than {longest} and {verb} left out")
