"""The vocabulary: which characters a model knows, and how a sentence becomes ids and back.

It is stored with every model as `vocabulary.json`, together with the framing, the level and the normalisation, so
that scoring always reads a text as training did. Reading files is left to `corpus`.
"""

from __future__ import annotations

import codecs
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from charlm.errors import InputError, RunError
from charlm.system.run_format import RUN_FORMAT, FormatError, check_format
from charlm.system.untrusted import parse_json

Ids = NDArray[np.integer[Any]]
T = TypeVar("T")

UNKNOWN = "<unk>"
END_OF_SENTENCE = "</s>"  # what the boundary is called where scores are shown
CODE_POINTS = 0x110000


class Vocabulary:
    """Characters (or bytes) in id order, and everything that decides how text becomes ids.

    The *boundary* is the symbol that stands before the first and after the last character of a sentence: the
    newline where there is one. In lines framing it is both the start and the end symbol of every line; in stream
    framing it is the ordinary newline of the text, so a sentence is scored as a line of the corpus would be. A
    stream without newlines (text8) uses its space, or else its most frequent character.

    Args:
        symbols: one character each, in the order of their ids; at character level the first is `<unk>`.
        counts: how often each symbol occurs in the training text, for the unigram model of SLOR.
        boundary: the symbol before and after a sentence.
        framing: `stream` or `lines`.
        level: `character`, or `byte`, where the symbols are the 256 byte values.
        normalization: `none`, `nfc` or `nfkc`, applied to every text before it is encoded.
        lowercase: whether every text is converted to lower case first.
    """

    def __init__(
        self,
        symbols: Sequence[str],
        counts: Sequence[int],
        *,
        boundary: str = "\n",
        framing: str = "stream",
        level: str = "character",
        normalization: str = "none",
        lowercase: bool = False,
    ) -> None:
        self.symbols = tuple(symbols)
        self.counts = tuple(counts)
        self.boundary = boundary
        self.framing = framing
        self.level = level
        self.normalization = normalization
        self.lowercase = lowercase
        self._check()
        self.boundary_id = self.symbols.index(boundary)
        self.unknown_id = 0 if level == "character" else None

    def _check(self) -> None:
        first_known = 0 if self.level == "byte" else 1
        known = self.symbols[first_known:]
        problem = None
        if self.level not in ("character", "byte"):
            problem = f"level {self.level!r} is neither character nor byte"
        elif self.framing not in ("stream", "lines"):
            problem = f"framing {self.framing!r} is neither stream nor lines"
        elif self.normalization not in ("none", "nfc", "nfkc"):
            problem = f"normalization {self.normalization!r} is none of none, nfc, nfkc"
        elif self.level == "byte" and known != tuple(map(chr, range(256))):
            problem = "a byte vocabulary lists the 256 byte values in order"
        elif self.level == "character" and self.symbols[:1] != (UNKNOWN,):
            problem = f"the first symbol must be {UNKNOWN}"
        elif any(len(symbol) != 1 for symbol in known):
            problem = "a symbol is not one character"
        elif len(set(known)) != len(known):
            problem = "a symbol appears twice"
        elif self.boundary not in known:
            problem = "the boundary is not one of the symbols"
        elif len(self.counts) != len(self.symbols) or not all(0 <= n < 2**63 for n in self.counts):
            problem = "counts do not match the symbols"
        if problem:
            raise InputError(f"vocabulary: {problem}")

    @classmethod
    def build(
        cls,
        text: str | Iterable[str],
        *,
        framing: str = "stream",
        level: str = "character",
        normalization: str = "none",
        lowercase: bool = False,
        min_count: int = 1,
        known: Sequence[str] = (),
    ) -> Vocabulary:
        """Builds the vocabulary of a training text that is already normalised.

        Args:
            text: the training text, or its pieces; in lines framing, lines that each end with a newline.
            framing: see the class.
            level: see the class.
            normalization: see the class; recorded, not applied.
            lowercase: see the class; recorded, not applied.
            min_count: characters that occur less often become `<unk>`.
            known: characters that come first, in this order, whether the text has them or not: those of a model
                whose training is continued.
        """
        found = np.zeros(CODE_POINTS, np.int64)
        for piece in [text] if isinstance(text, str) else text:
            count_points(piece, found)
        return cls.of_counts(
            found,
            framing=framing,
            level=level,
            normalization=normalization,
            lowercase=lowercase,
            min_count=min_count,
            known=known,
        )

    @classmethod
    def of_counts(
        cls,
        found: NDArray[np.int64],
        *,
        framing: str,
        level: str,
        normalization: str,
        lowercase: bool,
        min_count: int = 1,
        known: Sequence[str] = (),
    ) -> Vocabulary:
        """Builds the vocabulary of a training text by how often each code point occurs in it, shape (1,114,112,).

        All other arguments are as in `build`.
        """
        if level == "byte":
            by_byte = np.zeros(256, np.int64)
            for point in np.flatnonzero(found).tolist():
                np.add.at(by_byte, list(to_bytes(chr(point))), found[point])
            counts = by_byte.tolist()
            symbols = list(map(chr, range(256)))
        else:
            first = np.fromiter(map(ord, known), np.int64, len(known))
            kept = np.concatenate([first, np.setdiff1d(np.flatnonzero(found >= max(min_count, 1)), first)])
            symbols = [UNKNOWN, *map(chr, kept.tolist())]
            counts = [int(found.sum() - found[kept].sum()), *found[kept].tolist()]
        present = [s for s, n in zip(symbols, counts, strict=True) if n and s != UNKNOWN]
        boundary = "\n"
        if framing == "stream" and present and "\n" not in present:
            boundary = " " if " " in present else max(present, key=lambda s: counts[symbols.index(s)])
        if boundary not in symbols:
            symbols.append(boundary)
            counts.append(0)
        return cls(
            symbols,
            counts,
            boundary=boundary,
            framing=framing,
            level=level,
            normalization=normalization,
            lowercase=lowercase,
        )

    def __len__(self) -> int:
        return len(self.symbols)

    @property
    def characters(self) -> tuple[str, ...]:
        """The symbols but for `<unk>`."""
        return self.symbols if self.unknown_id is None else self.symbols[1:]

    @property
    def ends_sentences(self) -> bool:
        """Whether the boundary marks the end of a line, so that the end of a sentence has a probability."""
        return self.boundary == "\n"

    def name_of(self, symbol_id: int) -> str:
        """Returns what a symbol is called where scores are shown.

        The boundary is `</s>` where it marks the end of a line, and a byte that only begins a character is a lone
        surrogate, U+DC80 and more, as everywhere in Python.
        """
        if symbol_id == self.boundary_id and self.ends_sentences:
            return END_OF_SENTENCE
        if self.level == "byte" and symbol_id >= 0x80:
            return chr(0xDC00 + symbol_id)
        return self.symbols[symbol_id]

    @cached_property
    def _table(self) -> Ids:
        """Maps a code point to its id; unknown characters to `<unk>`."""
        table = np.zeros(CODE_POINTS, np.int32)
        for i, symbol in enumerate(self.symbols):
            if len(symbol) == 1:
                table[ord(symbol)] = i
        return table

    def normalize(self, text: str) -> str:
        """Applies the normalisation and the lower-casing that the model was trained with."""
        return normalize(text, self.normalization, self.lowercase)

    def encode(self, text: str) -> Ids:
        """Turns normalised text into ids, shape (N,); N is the number of bytes at byte level."""
        if self.level == "byte":
            return np.frombuffer(to_bytes(text), np.uint8).astype(np.int32)
        return self._table[code_points(text)]

    def encode_points(self, points: NDArray[np.uint8 | np.uint32]) -> Ids:
        """Turns the code points of normalised text into ids, as `encode` does with text."""
        if self.level == "byte":
            return self.encode(points.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass"))
        return self._table[points]

    def encode_sentence(self, text: str) -> Ids:
        """Turns one normalised sentence into ids, without boundaries.

        A newline inside a sentence of a lines model is unknown: there it means the end, never a character.
        """
        ids = self.encode(text)
        if self.framing == "lines" and self.unknown_id is not None:
            ids[ids == self.boundary_id] = self.unknown_id
        return ids

    def unknown_in(self, text: str) -> list[str]:
        """Lists the distinct unknown characters of a normalised sentence, in order of appearance."""
        if self.unknown_id is None:
            return []
        ids = self.encode_sentence(text)
        return list(dict.fromkeys(text[i] for i in np.flatnonzero(ids == self.unknown_id)))

    @property
    def unseen_characters(self) -> int:
        """How many characters of Unicode's 1,114,112 the model does not know; 0 at byte level."""
        return 0 if self.unknown_id is None else CODE_POINTS - (len(self) - 1)

    def decode(self, ids: Iterable[int]) -> str:
        """Turns ids back into text; `<unk>` becomes U+FFFD, as do bytes that are not UTF-8."""
        decoder = self.decoder()
        return "".join(decoder.feed(i) for i in [*ids, None])

    def decoder(self) -> Decoder:
        """Returns a decoder for ids that arrive one by one."""
        return Decoder(self)

    @cached_property
    def unigram_log_probs(self) -> NDArray[np.float64]:
        """Log-probability (nats) of each symbol by its frequency in the training text, add-one smoothed, (V,)."""
        counts = np.asarray(self.counts, np.float64) + 1
        result: NDArray[np.float64] = np.log(counts / counts.sum())
        return result

    @cached_property
    def unigram_entropy(self) -> float:
        """Entropy of the unigram model in nats per symbol: what a symbol costs if only frequencies are known."""
        return -float(np.exp(self.unigram_log_probs) @ self.unigram_log_probs)

    def to_json(self) -> str:
        """Writes the vocabulary as readable JSON."""
        head = {
            "format": RUN_FORMAT,
            "level": self.level,
            "framing": self.framing,
            "normalization": self.normalization,
            "lowercase": self.lowercase,
            "boundary": self.boundary,
        }
        body = json.dumps(head, ensure_ascii=False, indent=2)[:-2]
        symbols = ",\n    ".join(json.dumps(s, ensure_ascii=not s.isprintable()) for s in self.symbols)
        return f'{body},\n  "characters": [\n    {symbols}\n  ],\n  "counts": {json.dumps(self.counts)}\n}}\n'

    @classmethod
    def from_json(cls, text: str, name: str = "vocabulary.json") -> Vocabulary:
        """Reads what `to_json` wrote.

        Raises:
            RunError: it is not such a text, or of another format.
        """
        try:
            data = _read_object(text)
            check_format(name, _typed(data, "format", int))
            return cls(
                _list_of(data, "characters", str),
                _list_of(data, "counts", int),
                lowercase=_typed(data, "lowercase", bool),
                **{key: _typed(data, key, str) for key in ("boundary", "framing", "level", "normalization")},
            )
        except FormatError:
            raise
        except (ValueError, InputError) as error:
            raise RunError(f"{name}: not a vocabulary of charlm ({str(error)[:200]})") from None


def _read_object(text: str) -> dict[str, Any]:
    # One object and two lists; each bracket may also be a symbol, and one of them the boundary.
    data = parse_json(text, max_objects=3, max_lists=4)
    if not isinstance(data, dict):
        raise ValueError("it is not a JSON object")
    return data


def _typed(data: dict[str, Any], key: str, kind: type[T]) -> T:
    if type(value := data.get(key)) is not kind:  # isinstance would take true for an integer
        raise ValueError(f"{key} is missing or not of type {kind.__name__}")
    return value


def _list_of(data: dict[str, Any], key: str, kind: type[T]) -> list[T]:
    values = _typed(data, key, list)
    if not all(type(value) is kind for value in values):
        raise ValueError(f"{key} has an element that is not of type {kind.__name__}")
    return values


class Decoder:
    """Turns ids into text one by one; bytes are held back until they make a whole character."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, symbol_id: int | None) -> str:
        """Returns the text that this id completes, perhaps none; None ends the text."""
        if self._vocabulary.level == "byte":
            return self._utf8.decode(b"" if symbol_id is None else bytes([symbol_id]), symbol_id is None)
        if symbol_id is None:
            return ""
        return "\N{REPLACEMENT CHARACTER}" if symbol_id == 0 else self._vocabulary.symbols[symbol_id]


def normalize(text: str, normalization: str = "none", lowercase: bool = False) -> str:
    """Applies Unicode normalisation (`none`, `nfc`, `nfkc`), then lower case.

    Piles of more than 1,000 combining marks, which no script has, are normalised in pieces: to put one in order
    takes the square of its height, for a megabyte of them a quarter of an hour.
    """
    if normalization != "none" and not text.isascii():
        form: Literal["NFC", "NFKC"] = "NFC" if normalization == "nfc" else "NFKC"
        text = "".join(unicodedata.normalize(form, part) for part in _without_piles(text))
    return text.lower() if lowercase else text


# Marks are neither letters nor digits, but for two halfwidth ones that NFKC makes marks of.
_PILE = re.compile("(?:[^\\w\\s\x00-\x7f]|[\uff9e\uff9f]){1000}")


def _without_piles(text: str) -> Iterator[str]:
    start = 0
    for found in _PILE.finditer(text):
        if all(unicodedata.combining(unicodedata.normalize("NFKC", char)[0]) for char in found[0]):
            yield text[start : found.end()]
            start = found.end()
    yield text[start:]


_APART = re.compile("(?<=[\n 0-9A-Za-z\u4e00-\u9fff])(?=[\n 0-9A-Za-z\u4e00-\u9fff])")


def normalize_pieces(pieces: Iterable[str], normalization: str = "none", lowercase: bool = False) -> Iterator[str]:
    """Yields in pieces what `normalize` makes of a whole text.

    A text may be cut between two characters of which neither is ever changed by the other: blanks, digits, ASCII
    letters and Chinese characters, since no mark, jamo or sigma is among them. What is behind the last such place
    waits for the next piece.
    """
    held = ""
    for piece in pieces:
        begun = max(0, len(held) - 1)  # there is no such place before
        held += piece
        cut = next((i for i in range(len(held) - 1, begun, -1) if _APART.match(held, i)), 0)
        if cut:
            yield normalize(held[:cut], normalization, lowercase)
            held = held[cut:]
    yield normalize(held, normalization, lowercase)


def to_bytes(text: str) -> bytes:
    """Encodes as UTF-8; U+DC80 to U+DCFF stand for bytes that were not, other lone surrogates become U+FFFD."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        replaced = re.sub("[\ud800-\udc7f\udd00-\udfff]", "\N{REPLACEMENT CHARACTER}", text)
        return replaced.encode("utf-8", "surrogateescape")


def code_points(text: str) -> NDArray[np.uint8 | np.uint32]:
    """Returns the number that Unicode gives each character, shape (N,)."""
    if text.isascii():
        return np.frombuffer(text.encode(), np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def count_points(text: str, found: NDArray[np.int64]) -> None:
    """Adds how often each code point occurs in a text to counts of shape (1,114,112,)."""
    counts = np.bincount(code_points(text))
    found[: len(counts)] += counts


def byte_size(found: NDArray[np.int64]) -> int:
    """Returns the size of `to_bytes` of a text by how often each code point occurs in it."""
    return sum(len(to_bytes(chr(point))) * int(found[point]) for point in np.flatnonzero(found).tolist())
