"""What characters cost by what they are and where they stand: means over classes of characters and places."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charlm.analysis.characters import UNKNOWN_CODE, Characters, Floats, Ints

_SMALL, _CAPITAL, _CHINESE, _OTHER_LETTER, _DIGIT, _SPACE, _LINE_END, _MARK, _UNKNOWN, _OTHER = range(10)
CLASSES = (
    "small letters",
    "capital letters",
    "Chinese characters",
    "other letters",
    "digits",
    "spaces",
    "ends of lines",
    "punctuation and signs",
    "unknown characters",
    "other",
)
_CATEGORIES = {  # the first that a category of Unicode begins with
    "Ll": _SMALL, "Lu": _CAPITAL, "Lt": _CAPITAL, "L": _OTHER_LETTER, "M": _OTHER_LETTER, "N": _DIGIT,
    "Z": _SPACE, "P": _MARK, "S": _MARK,
}  # fmt: skip
_KANA = ("HIRAGANA", "KATAKANA")
_APOSTROPHES = (ord("'"), ord("’"))

_LAST_PLACE_IN_WORD = 10  # and later ones
_FEWEST_IN_WORDS = 0.2  # of the characters: a text with fewer consists of something else than words
_LONGEST_MEAN_WORD = 15.0  # characters; where words are longer, nothing stands between them (as in Thai)


@dataclass(frozen=True)
class Bucket:
    """Characters that have something in common.

    Attributes:
        name: what it is.
        count: how many characters there are.
        nats: what each costs, in the mean.
    """

    name: str
    count: int
    nats: float


def by_class(characters: Characters, nats: Floats) -> list[Bucket]:
    """Returns the mean by class of character, by its category in Unicode; every character is in one class.

    Args:
        characters: the text.
        nats: what each character costs, shape (n,).
    """
    return group(characters.classify(_class_of), CLASSES, nats)


def by_place_in_word(characters: Characters, nats: Floats) -> list[Bucket]:
    """Returns the mean by place in the word, and of what stands between words; nothing if there are no words.

    A word is a run of letters, and of apostrophes between them. Chinese characters and Japanese kana are none: no
    space stands between the words of those languages.
    """
    letters = characters.classify(_is_letter).astype(np.bool_)
    apostrophes = np.isin(characters.codes, _APOSTROPHES)
    apostrophes[:1] = apostrophes[-1:] = False
    inside = letters.copy()
    inside[1:-1] |= apostrophes[1:-1] & letters[:-2] & letters[2:]
    begins = inside & ~np.concatenate([[False], inside[:-1]])
    begins |= inside & _begin_sequences(characters)
    words = int(begins.sum())
    if not words or inside.mean() < _FEWEST_IN_WORDS or inside.sum() / words > _LONGEST_MEAN_WORD:
        return []
    place = np.minimum(_since(begins), _LAST_PLACE_IN_WORD - 1)
    names = [*map(_ordinal, range(1, _LAST_PLACE_IN_WORD)), f"{_ordinal(_LAST_PLACE_IN_WORD)} and later"]
    return group(np.where(inside, place, len(names)), [*names, "between words"], nats)


def by_place_in_line(characters: Characters, nats: Floats) -> list[Bucket]:
    """Returns the mean by place in the line, its end included: 1, 2, 3-4, 5-8, …; nothing if there are no lines.

    A part of a stream counts as beginning with a line.
    """
    ends = characters.codes == ord("\n")
    if not ends.any():
        return []
    begins = _begin_sequences(characters)
    begins[1:] |= ends[:-1]
    bucket = np.frexp(_since(begins).astype(np.float64))[1]  # 0 → 0, 1 → 1, 2-3 → 2, 4-7 → 3, …
    spans = [(1, 1), *((2 ** (k - 1) + 1, 2**k) for k in range(1, int(bucket.max()) + 1))]
    return group(bucket, [f"{a}" if a == b else f"{a:,}\N{EN DASH}{b:,}" for a, b in spans], nats)


def group(which: Ints, names: Sequence[str], nats: Floats) -> list[Bucket]:
    """Returns the mean of each bucket that has any characters, in the order of the names.

    Args:
        which: the bucket of each character, shape (n,).
        names: of the buckets.
        nats: what each character costs, shape (n,).
    """
    counts = np.bincount(which, minlength=len(names)).tolist()
    sums = np.bincount(which, nats, len(names)).tolist()
    return [
        Bucket(name, count, total / count) for name, count, total in zip(names, counts, sums, strict=True) if count
    ]


def _class_of(code: int) -> int:
    if code == UNKNOWN_CODE:
        return _UNKNOWN
    char = chr(code)
    if char in "\n\r\u2028\u2029":
        return _LINE_END
    category = unicodedata.category(char)
    if category == "Lo" and unicodedata.name(char, "").startswith("CJK"):
        return _CHINESE
    if char.isspace():  # a tab is a control character to Unicode
        return _SPACE
    return next((kind for start, kind in _CATEGORIES.items() if category.startswith(start)), _OTHER)


def _is_letter(code: int) -> bool:
    """Says whether words that stand apart consist of such characters."""
    if _class_of(code) not in (_SMALL, _CAPITAL, _OTHER_LETTER):
        return False
    return not unicodedata.name(chr(code), "").startswith(_KANA)


def _begin_sequences(characters: Characters) -> NDArray[np.bool_]:
    result = np.zeros(len(characters), np.bool_)
    result[characters.bounds[:-1]] = True
    return result


def _since(begins: NDArray[np.bool_]) -> Ints:
    """Returns how many characters before each the last beginning is: (n,) → (n,)."""
    places = np.arange(len(begins))
    return places - np.maximum.accumulate(np.where(begins, places, 0))


def _ordinal(number: int) -> str:
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number, 'th') }"
