"""Symbols as plain text, quickly for long ones, and whether white space separates its words."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.text.corpus import Split
from charlm.text.vocabulary import Ids, Vocabulary, code_points

UNREADABLE = "\N{REPLACEMENT CHARACTER}"  # stands for a character that the model does not know

# Scripts that are written without spaces between words: Thai to Burmese, Khmer, kana, Chinese characters.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_LETTER = re.compile(r"[^\W\d_]")


def read_characters(vocabulary: Vocabulary, ids: Ids) -> tuple[str, NDArray[np.int64]]:
    """Turns symbols into text, quickly for long ones.

    What is no character, as a byte that is not UTF-8, or none that the model knows, is U+FFFD.

    Args:
        vocabulary: of the symbols.
        ids: shape (N,).

    Returns:
        The text, and for each of its characters the place of its last symbol in `ids`.
    """
    if vocabulary.level == "byte":
        text = ids.astype(np.uint8).tobytes().decode("utf-8", "surrogateescape")
        return _SURROGATE.sub(UNREADABLE, text), utf8_sizes(code_points(text)).cumsum() - 1
    table = np.array([ord(s) if len(s) == 1 else ord(UNREADABLE) for s in vocabulary.symbols], "<u4")
    text = table[ids].tobytes().decode("utf-32-le", "surrogatepass")
    return _SURROGATE.sub(UNREADABLE, text), np.arange(len(ids))


def utf8_sizes(codes: NDArray[Any]) -> NDArray[np.int64]:
    """Returns how many bytes each character has in UTF-8; a byte that was none is one, U+DC80 and more."""
    sizes = 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)
    return np.where((codes >= 0xDC80) & (codes <= 0xDCFF), 1, sizes)


def continues_character(ids: Ids) -> NDArray[np.bool_]:
    """Says which bytes go on with a character of UTF-8 that has begun."""
    result: NDArray[np.bool_] = ids & 0xC0 == 0x80
    return result


def read_parts(vocabulary: Vocabulary, split: Split, most: int) -> str:
    """Returns the first characters of a split; parts that do not follow each other are lines of their own."""
    texts, left = [], most
    for begin, end in pairwise([*split.parts, len(split.ids)]):
        if left <= 0:
            break
        ids = split.ids[begin : min(end, begin + 4 * left if vocabulary.level == "byte" else begin + left)]
        texts.append(read_characters(vocabulary, ids)[0][:left])
        left -= len(texts[-1])
    return "\n".join(texts)[:most]


def separates_words(text: str) -> bool:
    """Says whether a text has words that white space separates: most of its letters are of scripts that do so."""
    letters = len(_LETTER.findall(text))
    return letters > 2 * len(_UNSPACED.findall(text))
