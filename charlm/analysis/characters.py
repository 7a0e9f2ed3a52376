"""A held-out or training text as characters, whatever symbols the model reads: bytes are put together again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from charlm.scoring.log_probs import cut_sequences
from charlm.text.corpus import Split
from charlm.text.plain import UNREADABLE, continues_character, utf8_sizes
from charlm.text.vocabulary import Ids, Vocabulary

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

UNKNOWN_CODE = -1  # in place of the code point of a character that the model does not know


@dataclass(frozen=True)
class Characters:
    """The n characters of a text, and its sequences: lines in lines framing, else the parts of a stream.

    Attributes:
        codes: the code point of each character, `UNKNOWN_CODE` where the model does not know it, shape (n,). A byte
            that belongs to no character is one by itself, U+DC80 and more.
        symbols: where each character begins among the symbols of the text, shape (n,).
        bounds: where each sequence begins, in characters, and where the last one ends.
    """

    codes: Ints
    symbols: Ints
    bounds: Ints

    @classmethod
    def of(cls, vocabulary: Vocabulary, split: Split) -> Characters:
        """Reads the symbols of a split as characters."""
        ends = np.cumsum([0, *map(len, cut_sequences(vocabulary, split.ids, split.parts))])
        if vocabulary.level == "byte":
            text = split.ids.astype(np.uint8).tobytes().decode("utf-8", "surrogateescape")
            codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64)
            sizes = utf8_sizes(codes)
            symbols = sizes.cumsum() - sizes
            return cls(codes, symbols, np.searchsorted(symbols, ends))
        table = np.array([ord(symbol) if len(symbol) == 1 else UNKNOWN_CODE for symbol in vocabulary.symbols])
        return cls(table[split.ids], np.arange(len(split.ids)), ends)

    def __len__(self) -> int:
        return len(self.codes)

    def text(self, begin: int, end: int) -> str:
        """Returns the characters from one place up to another; what is unknown or no character is U+FFFD."""
        return "".join(map(display, self.codes[begin:end].tolist()))

    def sums(self, values: Floats) -> Floats:
        """Adds up what the symbols of each character have: (N, ...) to (n, ...)."""
        result: Floats = np.add.reduceat(values, self.symbols, axis=0)
        return result

    def span(self, place: int) -> tuple[int, int]:
        """Returns where the sequence begins and ends in which a character stands."""
        row = int(np.searchsorted(self.bounds, place, side="right"))
        return int(self.bounds[row - 1]), int(self.bounds[row])

    def classify(self, function: Callable[[int], int]) -> Ints:
        """Applies a function of the code point, which is called once for each distinct one: (n,)."""
        distinct, which = np.unique(self.codes, return_inverse=True)
        values = np.fromiter(map(function, distinct.tolist()), np.int64, len(distinct))
        return values[which]


def display(code: int) -> str:
    """Returns a character that can be shown and written to a file."""
    return UNREADABLE if code == UNKNOWN_CODE or 0xD800 <= code < 0xE000 else chr(code)


def look_at(vocabulary: Vocabulary, split: Split, most: int) -> Split:
    """Returns at most so many symbols of a split: lines or parts from all over it, or the beginning of the one."""
    if len(split.ids) <= most:
        return split
    sequences = cut_sequences(vocabulary, split.ids, split.parts)
    count = max(1, len(sequences) * most // len(split.ids))
    room = most
    kept: list[Ids] = []
    for i in np.unique(np.linspace(0, len(sequences) - 1, count).astype(int)).tolist():
        if kept and len(sequences[i]) > room and vocabulary.framing == "lines":
            break
        kept.append(_cut(vocabulary, sequences[i], room))
        room -= len(kept[-1])
        if room <= 0:
            break
    return _join(vocabulary, np.concatenate(kept), _parts(vocabulary, list(map(len, kept))))


def beginning_of(vocabulary: Vocabulary, split: Split, most: int) -> Split:
    """Returns the beginning of a split, of at most so many symbols; whole lines in lines framing."""
    if len(split.ids) <= most:
        return split
    ids = _cut(vocabulary, split.ids, most)
    if vocabulary.framing == "lines":
        ends = np.flatnonzero(split.ids[:most] == vocabulary.boundary_id)
        ids = split.ids[: int(ends[-1]) + 1] if len(ends) else ids
    return _join(vocabulary, ids, tuple(part for part in split.parts if part < len(ids)))


def _cut(vocabulary: Vocabulary, ids: Ids, size: int) -> Ids:
    """Returns the beginning of a sequence, of whole characters; a line that is cut ends there."""
    if len(ids) <= size:
        return ids
    is_line = vocabulary.framing == "lines"
    end = size - is_line
    if vocabulary.level == "byte":
        goes_on = continues_character(ids[max(0, end - 3) : end + 1])
        end -= int(goes_on[::-1].cumprod().sum())
    return np.append(ids[:end], vocabulary.boundary_id) if is_line else ids[:end]


def _parts(vocabulary: Vocabulary, lengths: list[int]) -> tuple[int, ...]:
    if vocabulary.framing == "lines":
        return (0,)
    return tuple(a for a, _ in pairwise(np.cumsum([0, *lengths]).tolist()))


def _join(vocabulary: Vocabulary, ids: Ids, parts: tuple[int, ...]) -> Split:
    """Returns a split whose characters and bytes are counted."""
    characters = Characters.of(vocabulary, Split(ids, 0, 0, parts))
    return Split(ids, len(characters), int(utf8_sizes(characters.codes).sum()), parts)
