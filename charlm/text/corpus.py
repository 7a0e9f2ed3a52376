"""Corpora: from text to the ids of a training, a validation and a test split.

A text is read once, piece by piece, into a copy (`stored`), which lies on disk unless it is small: where it is to
be split is known only at its end. The ids are written from the copy. Reading is left to `reading` and `shards`,
storing the ids to `cache`, batches to `batches`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from dataclasses import field as dataclass_field
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from charlm.errors import CorpusError
from charlm.system.counts import count_of
from charlm.system.distributed import Ranks
from charlm.system.encodings import AUTO, UTF_8
from charlm.text.cache import Cache, Encoded, IdsWriter, release_pages
from charlm.text.column_formats import raw_note
from charlm.text.columns import HEADER_NOTE, Columns, Field
from charlm.text.decoding import OPTION, Note
from charlm.text.framing import find_framing
from charlm.text.progress import Progress
from charlm.text.reading import (
    STDIN,
    content_key,
    empty_corpus,
    find_files,
    read_files,
    read_pieces,
    refuse_twice,
    text_bytes,
)
from charlm.text.shards import Facts, Reading, cut_files, drop_empty_lines, make_shards, shard_path
from charlm.text.source import describe_skipped
from charlm.text.splitting import Runs, split_sizes, spread_lines, spread_pieces, tail_runs
from charlm.text.stored import Part, StoredText, join
from charlm.text.vocabulary import Ids, Vocabulary, byte_size, normalize_pieces, to_bytes

if TYPE_CHECKING:
    from charlm.config import CorpusConfig

_PIECE_SIZE = 1 << 20  # bytes read at a time, and characters or symbols worked on at a time
_SAMPLED_PIECES = 64
_WAITING_PARTS = 4  # read, and not encoded yet
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

    def describe(self) -> list[Any]:
        """Returns what other processes have to know of the split to get it by `share_split`, as JSON takes it."""
        return [self.ids.dtype.str, len(self.ids), self.characters, self.bytes, self.parts]

    def sequences(self) -> list[Ids]:
        """Returns the parts of a stream."""
        return [self.ids[a:b] for a, b in pairwise([*self.parts, len(self.ids)])]

    def last(self, symbols: int) -> Split:
        """Returns the end of the split, of so many symbols; characters and bytes are not counted anew."""
        first = max(0, len(self.ids) - symbols)
        parts = tuple(part - first for part in self.parts if part > first)
        return replace(self, ids=self.ids[first:], parts=(0, *parts))

    def sample(self, symbols: int, boundary_id: int | None = None, *, pieces: int = _SAMPLED_PIECES) -> Split:
        """Returns pieces from all over the split, of about so many symbols in all; a small split is its own sample.

        Args:
            symbols: how many.
            boundary_id: what ends a line, if only whole lines are wanted.
            pieces: into how many pieces they are divided; each is a part of its own.
        """
        if len(self.ids) <= symbols:
            return self
        size = max(1, symbols // pieces)
        found = [
            self.ids[start : start + size] for start in np.linspace(0, len(self.ids) - size, pieces, dtype=int)
        ]
        if boundary_id is not None:
            ends = [np.flatnonzero(piece == boundary_id) + 1 for piece in found]
            found = [piece[at[0] : at[-1]] for piece, at in zip(found, ends, strict=True) if len(at) > 1]
        begins = np.cumsum([0, *map(len, found)])[:-1].tolist()
        ids = np.concatenate([self.ids[:0], *found])
        return replace(self, ids=ids, parts=(0,) if boundary_id is not None else tuple(begins))

    def count(self, symbol_id: int | None, *, piece_size: int = _PIECE_SIZE) -> int:
        """Counts a symbol, looking at `piece_size` symbols at a time."""
        starts = range(0, len(self.ids), piece_size)
        found = sum(int((self.ids[start : start + piece_size] == symbol_id).sum()) for start in starts)
        release_pages(self.ids)
        return found


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
    note: Note = lambda text: None,
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
        note: is told now and then how far reading and encoding have come.

    Raises:
        CorpusError: there is nothing to read, it is not text, or it is too small for the split.
    """
    paths = [config.path] if isinstance(config.path, str) else config.path
    finding: dict[str, Any] = {"level": config.level, "encoding": config.encoding, "strict": config.strict}
    finding["tables"] = config.field is not None
    found_notes: list[str] = []  # of the files, whatever is in them
    files = find_files(paths, **finding, note=found_notes.append)
    held_out_files: dict[int, list[str | Path]] = {}
    for split, key_name, name in _held_out_files(config):
        with _naming(key_name):
            held_out_files[split] = find_files([name], **finding)
    all_files = [*files, *itertools.chain(*held_out_files.values())]
    refuse_twice(all_files)
    looking = Progress("checking whether the text is already encoded", _file_bytes(all_files), note)
    content = content_key(all_files, looking.add) if _is_worth_keeping(all_files, cache) else None
    key = content and _cache_key(content, all_files, config, known)
    size_key = key  # by which the size of the text is found, before its share is chosen
    if choose_validation and key and (characters := cache.recall_size(key)) is not None:
        config = config.model_copy(update={"validation": choose_validation(characters)})
        choose_validation = None
        key = content and _cache_key(content, all_files, config, known)
    if key and not choose_validation and (kept := cache.load(key)):
        return _corpus(kept, found_notes)
    notes: list[str] = []
    reading = _reading(config, piece_size)
    try:
        whole = config.field is None and config.max_line_length is None  # else little of a large text may be left
        kept_bytes = cache.shards_bytes(_shards_key(content, 0, reading)) if content else 0
        if whole and (told := cache.check_room(_file_bytes(all_files), kept_bytes, keep=key is not None)):
            found_notes.append(told)
        with ExitStack() as opened:
            storing = _Storing(opened, cache, content, note)
            text = storing.store(0, paths, files, reading, notes)
            if choose_validation:
                if size_key:
                    cache.remember_size(size_key, text.facts.characters)
                config = config.model_copy(update={"validation": choose_validation(text.facts.characters)})
                key = content and _cache_key(content, all_files, config, known)
                if key and (kept := cache.load(key)):
                    return _corpus(kept, found_notes)
            others = {}
            for split, key_name, name in _held_out_files(config):
                with _naming(key_name):
                    framed = replace(reading, framing=text.framing)
                    others[split] = storing.store(split, [name], held_out_files[split], framed, [])
            checked = opened.enter_context(ThreadPoolExecutor(1)).submit(content_key, all_files if content else [])
            shares = [0.0 if isinstance(share, str) else share for share in (config.validation, config.test)]
            runs = _plan(text, config.split, *shares)
            counts = text.count(runs, [split for split, share in enumerate(shares, 1) if share])
            counts[0] = text.facts.found() - sum(counts.values())
            counts |= {split: other.facts.found() for split, other in others.items()}
            settings = config.model_dump(include={"level", "normalization", "lowercase", "min_count"})
            vocabulary = Vocabulary.of_counts(counts[0], known=known, framing=text.framing, **settings)
            if config.min_count > 1 and not set(vocabulary.characters) - {"\n"}:
                raise CorpusError("no character occurs as often as corpus.min_count requires; lower it")
            if content != checked.result():
                key = None  # somebody wrote into the files meanwhile
            held_out = describe_held_out(config, text.framing)
            progress = Progress("encoding", text.facts.size, note)
            return _corpus(
                _encode(text, runs, counts, others, vocabulary, cache, key, notes, held_out, progress), found_notes
            )
    except OSError as error:
        raise _no_room(error) from None


def _reading(config: CorpusConfig, piece_size: int) -> Reading:
    names = {"level", "encoding", "strict", "field", "framing", "max_line_length", "normalization", "lowercase"}
    return Reading(**config.model_dump(include=names), piece_size=piece_size)


@dataclass(frozen=True)
class _Storing:
    """Copies texts, into shards that are kept until the corpus is encoded, or into a file without a name.

    Attributes:
        opened: closes what is opened.
        cache: where shards are.
        content: a key of what all files hold; None: they are not worth keeping.
        note: is told of the progress.
    """

    opened: ExitStack
    cache: Cache
    content: str | None
    note: Note

    def store(
        self, number: int, names: Sequence[str], files: list[str | Path], reading: Reading, notes: list[str]
    ) -> StoredText:
        """Copies a text, after finding out how it is framed.

        Args:
            number: 0; for a text of its own that is held out, the number of its split.
            names: the paths of the configuration.
            files: what is found there.
            reading: how the files become text.
            notes: gets what a person should know.
        """
        if reading.framing == "auto" and reading.field is not None:
            reading = replace(reading, framing="lines")
            notes.append("framing: lines (each record is a separate text)")
        progress = Progress("reading the text", text_bytes(files), self.note)
        framing_notes: list[str] = []
        key = self.content and _shards_key(self.content, number, reading)
        folder = self.opened.enter_context(self.cache.shards(key)) if key else None
        if folder is None:
            return self._store_at_once(names, files, reading, notes, progress)
        if reading.framing == "auto":
            reading = replace(reading, framing=_find_framing(files, reading, framing_notes))
        spans = cut_files(files, reading)
        facts = make_shards(reading, spans, folder, keep=progress.keep, tell=progress.add)
        _collect_notes(facts, reading, framing_notes, notes)
        paths = [shard_path(folder, shard) for shard in range(len(spans))]
        sources, whole = join(facts, [not span.begin for span in spans], paths)
        if not set(whole.points) - {ord("\n")} and not sum(part.long_lines for part in facts):
            raise empty_corpus(names)
        _note_long_lines(whole.lines, sum(part.long_lines for part in facts), reading.max_line_length, notes)
        return StoredText(sources, whole, reading.framing, reading.piece_size)

    def _store_at_once(
        self, names: Sequence[str], files: list[str | Path], reading: Reading, notes: list[str], progress: Progress
    ) -> StoredText:
        """Copies a text that can be read only once, or that is small."""
        pieces = reading.normalize(
            read_pieces(
                names,
                files=files,
                level=reading.level,
                encoding=reading.encoding,
                strict=reading.strict,
                note=notes.append,
                read_bytes=reading.piece_size,
                columns=reading.columns(notes),
            )
        )
        if reading.framing == "auto":
            framing, pieces = find_framing(pieces, notes)
            reading = replace(reading, framing=framing)
        file = self.opened.enter_context(_open_scratch(self.cache))
        facts = Facts()
        facts.store(reading.frame(pieces, facts), file, progress.add)
        _note_long_lines(facts.lines, facts.long_lines, reading.max_line_length, notes)
        return StoredText([file], facts, reading.framing, reading.piece_size)


def _find_framing(files: list[str | Path], reading: Reading, notes: list[str]) -> str:
    """Finds out how a text is framed by its beginning."""
    pieces = read_files(
        files, level=reading.level, encoding=reading.encoding, read_bytes=reading.piece_size, skipped=[]
    )
    framing, _ = find_framing(reading.normalize(pieces), notes)
    return framing


def _collect_notes(facts: Sequence[Facts], reading: Reading, framing_notes: list[str], notes: list[str]) -> None:
    """Adds what a person should know about the parts of a text: of several files of a kind there is one note."""
    columns = reading.columns(notes)
    for number, part in enumerate(facts):
        raw = {raw_note(kind, columns.option, names) for kind, names in part.alike.items()}
        for remark in part.notes:
            is_said = remark.endswith(HEADER_NOTE) and any(said.endswith(HEADER_NOTE) for said in notes)
            if remark not in raw and not is_said:
                notes.append(remark)
        for kind, names in part.alike.items():
            for name in names:
                columns.note_raw(name, kind)
        if number == 0:
            notes += framing_notes
    if skipped := [name for part in facts for name in part.skipped]:
        notes.append(describe_skipped(skipped, "in zip archives"))


def _note_long_lines(n_kept: int, n_out: int, max_line_length: int | None, notes: list[str]) -> None:
    """Notes how many lines are left out because they are too long.

    Raises:
        CorpusError: all are.
    """
    if not n_out:
        return
    if not n_kept:
        raise CorpusError(f"all lines are longer than corpus.max_line_length: {max_line_length}; raise it")
    longest, verb = count_of(max_line_length or 0, "character"), "is" if n_out == 1 else "are"
    n_lines = count_of(n_kept + n_out, "line")
    notes.append(f"{n_out:,} of {n_lines} {verb} longer than {longest} and {verb} left out")


def _plan(text: StoredText, split: str, validation: float, test: float) -> Runs:
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
    share = f"{100 * config.validation:.2g}%"
    if config.split == "tail":
        return f"the last {share} of the text" if not config.test else "the end of the text"
    return f"{share} of the lines, from all over" if framing == "lines" else f"{share} of the text, from all over"


def share_split(ranks: Ranks, described: list[Any], split: Split | None = None) -> Split:
    """Gives every rank a split of rank 0.

    Args:
        ranks: the processes; all of them call this.
        described: what `Split.describe` says of it.
        split: on rank 0, the split.
    """
    dtype, length, characters, size, parts = described
    ids = ranks.share(None if split is None else split.ids, dtype, length)
    return Split(ids, characters, size, tuple(parts))


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
        pieces = drop_empty_lines(pieces)
    try:
        with _open_scratch(cache) as file:
            facts = Facts()
            facts.store(pieces, file, lambda size: None)
            text = StoredText([file], facts, vocabulary.framing, piece_size)
            for remark in notes:
                note(remark)
            counts = {0: facts.found()}
            return _splits(_encode(text, partial(_one_run, 0, text.size), counts, {}, vocabulary, cache))[0]
    except OSError as error:
        raise _no_room(error) from None


def _is_worth_keeping(files: Sequence[str | Path], cache: Cache) -> bool:
    """Whether what is made of files is kept: what comes through a pipe cannot be read again, and small ones are."""
    there = all(file != STDIN and Path(file).is_file() for file in files)
    return there and _file_bytes(files) > cache.memory_bytes


def _cache_key(content: str, files: Sequence[str | Path], config: CorpusConfig, known: Sequence[str]) -> str:
    """Returns the name of an encoded corpus in the cache.

    It is made from the content of the files, not from their dates: two gigabytes are read in a second, and no copy,
    clock or network drive can make an old encoding pass for that of a new text.
    """
    settings = config.model_dump(exclude={"path"})
    parts = [content, settings, list(known), unicodedata.unidata_version]
    if config.encoding == AUTO:
        parts.append([str(file) for file in files])  # the notes name them
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _shards_key(content: str, number: int, reading: Reading) -> str:
    """Returns the name of the shards of a text: what decides how its bytes become text, and nothing else."""
    parts = [content, number, asdict(reading), unicodedata.unidata_version]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _file_bytes(files: Sequence[str | Path]) -> int:
    return sum(Path(file).stat().st_size for file in files if file != STDIN and Path(file).is_file())


def _no_room(error: OSError) -> CorpusError:
    return CorpusError(
        f"there is no room to encode the corpus ({error.strerror or error}); make room on the disk, or set "
        "CHARLM_CACHE and TMPDIR to other folders"
    )


def _open_scratch(cache: Cache) -> SpooledTemporaryFile[bytes]:
    """Opens a file without a name: in memory while it is small, then on disk."""
    return SpooledTemporaryFile(cache.memory_bytes)


def _encode(
    text: StoredText,
    runs: Runs,
    counts: Mapping[int, NDArray[np.int64]],
    others: Mapping[int, StoredText],
    vocabulary: Vocabulary,
    cache: Cache,
    key: str | None = None,
    notes: Sequence[str] = (),
    held_out: str = "",
    progress: Progress | None = None,
) -> Encoded:
    """Writes the ids of all splits one after another: those of the text, and those that are texts of their own.

    `counts` says how often each code point occurs in each split that is not empty. The text is read once: what is
    held out waits in files of its own. Reading is one thread's work, and what becomes of it another's.
    """

    def write(file: IdsWriter) -> dict[str, Any]:
        described = vocabulary.to_json()
        corpus_key = hashlib.sha256(described.encode())
        symbols = [0, 0, 0]
        parts: list[list[int]] = [[], [], []]

        def append(split: int, ids: Ids) -> None:
            file.write(ids)
            if split < 2:
                corpus_key.update(ids.astype(np.int32, copy=False).tobytes())

        with ExitStack() as opened:
            waiting = {split: opened.enter_context(_open_scratch(cache)) for split in (1, 2)}

            def take(part: Part) -> None:
                ids = vocabulary.encode_points(part.points)
                if part.begins:
                    parts[part.split].append(symbols[part.split])
                symbols[part.split] += len(ids)
                if part.split and part.split not in others:
                    waiting[part.split].write(ids.astype(file.dtype).tobytes())
                else:
                    append(part.split, ids)
                if progress is not None:
                    progress.add(len(part.points) * text.facts.size // text.facts.characters)

            _in_another_thread(take, text.parts(runs))
            for split in (1, 2):
                if (other := others.get(split)) is not None:
                    _in_another_thread(take, other.parts(partial(_one_run, split, other.size)))
                waiting[split].seek(0)
                while data := waiting[split].read(_PIECE_SIZE):
                    append(split, np.frombuffer(data, file.dtype))
        empty = np.zeros(0, np.int64)
        sizes = [(int(found.sum()), byte_size(found)) for found in (counts.get(split, empty) for split in range(3))]
        return {
            "vocabulary": described,
            "splits": [[symbols[split], *sizes[split], parts[split] or [0]] for split in range(3)],
            "held_out": held_out,
            "key": corpus_key.hexdigest(),
            "notes": list(notes),
        }

    read = [text.facts, *(other.facts for other in others.values())]
    cache.check_ids_room(sum(_symbols(facts, vocabulary) for facts in read), len(vocabulary), keep=key is not None)
    return cache.save(key, len(vocabulary), write)


def _one_run(split: int, size: int) -> Iterator[tuple[int, int]]:
    yield split, size


def _symbols(facts: Facts, vocabulary: Vocabulary) -> int:
    return facts.characters if vocabulary.level == "character" else byte_size(facts.found())


def _in_another_thread(take: Callable[[Part], None], parts: Iterable[Part]) -> None:
    """Takes the parts of a text in order, while the next ones are read."""
    with ThreadPoolExecutor(1) as thread:
        waiting: deque[Future[None]] = deque()
        for part in parts:
            waiting.append(thread.submit(take, part))
            if len(waiting) > _WAITING_PARTS:
                waiting.popleft().result()
        for taken in waiting:
            taken.result()


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
