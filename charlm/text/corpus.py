"""Corpora: from files to text, from text to the ids of a training, a validation and a test split.

Batching is left to `batches`, known corpora and downloads to `library`.
"""

from __future__ import annotations

import codecs
import glob
import gzip
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from charlm.errors import CorpusError
from charlm.text import library
from charlm.text.vocabulary import Ids, Vocabulary, normalize, to_bytes

STDIN = "-"
_NAMED = "corpus:"


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


@dataclass(frozen=True)
class Corpus:
    """A text, encoded and split.

    Attributes:
        vocabulary: built from the training split, so that the others are honestly new.
        train: what is learnt from.
        validation: chooses the best weights.
        test: never looked at in training.
        notes: what a person should know about the reading, for example lines left out.
    """

    vocabulary: Vocabulary
    train: Split
    validation: Split
    test: Split
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
) -> Corpus:
    """Reads, normalises, splits and encodes a corpus.

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

    Raises:
        CorpusError: nothing to read, not text, or too small for the split.
    """
    paths = [paths] if isinstance(paths, str) else list(paths)
    text = normalize(read_text(paths, level=level), normalization, lowercase)
    notes: list[str] = []
    if framing == "lines":
        text = _tidy_lines(text, max_line_length, notes)
        sizes = _cut(text.count("\n"), validation, test, "lines")
        starts = _line_starts(text, np.cumsum(sizes))
    else:
        starts = np.cumsum(_cut(len(text), validation, test, "characters")).tolist()
    parts = [text[a:b] for a, b in zip([0, *starts[:-1]], starts, strict=True)]
    vocabulary = Vocabulary.build(
        parts[0],
        framing=framing,
        level=level,
        normalization=normalization,
        lowercase=lowercase,
        min_count=min_count,
    )
    train, held_out, rest = (Split.of(part, vocabulary) for part in parts)
    return Corpus(vocabulary, train, held_out, rest, notes)


def load_held_out(paths: str | Sequence[str], vocabulary: Vocabulary) -> Split:
    """Reads text to evaluate a model on, framed and normalised as the model's own corpus was.

    Raises:
        CorpusError: nothing to read, or not text.
    """
    paths = [paths] if isinstance(paths, str) else list(paths)
    text = vocabulary.normalize(read_text(paths, level=vocabulary.level))
    if vocabulary.framing == "lines":
        text = _tidy_lines(text, None, [])
    return Split.of(text, vocabulary)


def read_text(paths: Iterable[str], *, level: str = "character") -> str:
    """Reads files into one text.

    Args:
        paths: files, folders (all files below, hidden ones left out), globs, `.gz` files, `-` for standard input,
            `corpus:NAME` for a corpus that charlm knows. A file that does not end with a newline is given one
            if another follows.
        level: at `character` level text must be UTF-8, a BOM is dropped and CRLF and CR become newlines; at `byte`
            level bytes are taken as they are (bytes that are not UTF-8 as lone surrogates).

    Raises:
        CorpusError: naming the file, and for a fault in UTF-8 its byte offset and line.
    """
    texts: list[str] = []
    for path in paths:
        for file in _expand(path):
            text = _decode(_read_bytes(file), str(file), level)
            if texts and texts[-1] and not texts[-1].endswith("\n"):
                texts.append("\n")
            texts.append(text)
    text = "".join(texts)
    if not text.strip("\n"):
        raise CorpusError(f"{', '.join(paths)}: the corpus is empty")
    return text


def _expand(path: str) -> Iterator[str | Path]:
    """Yields the files that a path of a configuration stands for."""
    if path == STDIN:
        yield STDIN
        return
    if path.startswith(_NAMED):
        yield _named(path.removeprefix(_NAMED))
        return
    try:
        is_folder, exists = Path(path).is_dir(), Path(path).exists()
    except (OSError, ValueError):
        is_folder = exists = False
    if is_folder:
        files = sorted(
            file
            for file in Path(path).rglob("*")
            if file.is_file() and not any(p.startswith(".") for p in file.relative_to(path).parts)
        )
        if not files:
            raise CorpusError(f"{path}: no files in this folder")
        yield from files
    elif exists:
        yield Path(path)
    else:
        files = [Path(p) for p in sorted(glob.glob(path, recursive=True)) if Path(p).is_file()]
        if not files:
            hint = "no file matches this pattern" if glob.has_magic(path) else "no such file or folder"
            name = Path(path).name
            if any(name == known.name for known in library.known_corpora()):
                hint += f"; for the known corpus of this name write {_NAMED}{name}"
            raise CorpusError(f"{path}: {hint}")
        yield from files


def _named(name: str) -> Path:
    library.known_corpus(name)
    path = library.find(name)
    if path is None:
        raise CorpusError(f"{_NAMED}{name}: not on this machine yet; run `charlm corpus fetch {name}`")
    return path


def _read_bytes(file: str | Path) -> bytes:
    if isinstance(file, str):
        return sys.stdin.buffer.read()
    try:
        raw = file.read_bytes()
        return gzip.decompress(raw) if file.suffix == ".gz" else raw
    except OSError as error:  # gzip.BadGzipFile is one
        raise CorpusError(f"{file}: cannot be read: {error.strerror or error}") from None
    except (EOFError, zlib.error) as error:
        raise CorpusError(f"{file}: damaged gzip file: {error}") from None


def _decode(raw: bytes, name: str, level: str) -> str:
    if level == "byte":
        return raw.decode("utf-8", "surrogateescape")
    zero = raw.find(b"\0")
    if zero >= 0:
        raise CorpusError(
            f"{name}: not a text file (a NUL byte at offset {zero}); "
            "remove it, or set corpus.level: byte to learn from bytes"
        )
    body = raw.removeprefix(codecs.BOM_UTF8)
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        at = error.start + len(raw) - len(body)
        line = raw.count(b"\n", 0, at) + 1
        raise CorpusError(
            f"{name}: not UTF-8: byte 0x{raw[at]:02x} at offset {at} (line {line}); "
            "convert it, for example with `iconv -f latin1 -t utf-8`, or set corpus.level: byte"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _tidy_lines(text: str, max_line_length: int | None, notes: list[str]) -> str:
    """Leaves out empty and overlong lines and ends each line with a newline."""
    lines = text.split("\n")
    kept = [line for line in lines if line]
    if max_line_length is not None:
        short = [line for line in kept if len(line) <= max_line_length]
        if len(short) < len(kept):
            notes.append(
                f"{len(kept) - len(short):,} of {len(kept):,} lines are longer than "
                f"{max_line_length} characters and are left out"
            )
        kept = short
        if not kept:
            raise CorpusError(f"no line is as short as corpus.max_line_length: {max_line_length}; raise it")
    return "\n".join(kept) + "\n"


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


def _line_starts(text: str, ends: Iterable[int]) -> list[int]:
    """Returns the offsets behind the given numbers of lines."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    newlines = np.flatnonzero(codes == ord("\n"))
    return [int(newlines[end - 1]) + 1 if end else 0 for end in ends]


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
