"""Features of a text, found by rules: what is inside quotes, how far into its line a place is, where words end."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.text.vocabulary import code_points

Floats = NDArray[np.floating[Any]]
Booleans = NDArray[np.bool_]

_LONGEST_SPAN = 1000  # characters from one bracket or quote to the other
_BEGINNING = 5  # characters from the end of the line before


class Feature(NamedTuple):
    """What a text has at each character.

    Attributes:
        name: for people.
        explanation: when it is on, or what is counted.
        is_on: whether it is on or off, else it is a number.
        values: of each character, shape (N,).
    """

    name: str
    explanation: str
    is_on: bool
    values: Floats


_QUOTES = {'"': '"', "“": "”", "「": "」", "『": "』", "«": "»"}
_BRACKETS = {"(": ")", "[": "]", "{": "}", "（": "）", "【": "】", "〔": "〕"}
_TITLES = {"《": "》", "〈": "〉"}
_CLAUSE_END = "，。；：！？、,;!?\n"
_SENTENCE_END = "。！？!?\n"
_NAME = re.compile(r"(?:(?<=[^\W\d_])|(?<=[,;])) ([A-Z][a-z]+)")


def find_features(text: str, *, words: bool) -> list[Feature]:
    """Finds everything that is looked for in a text; what it does not have is off everywhere.

    Args:
        text: the text.
        words: whether white space separates words in it; else clauses are looked at.
    """
    points = code_points(text)
    is_newline = points == ord("\n")
    features = [
        _on("inside quotes", "from an opening double quotation mark to the closing one", _spans(text, _QUOTES)),
        _on("inside brackets", "from an opening bracket to its closing one", _spans(text, _BRACKETS)),
        _on("inside a title", "from 《 to 》", _spans(text, _TITLES)),
        _number("place in the line", "characters since the beginning of the line", _since(is_newline)),
        _on(
            "beginning of a line",
            f"fewer than {_BEGINNING} characters after the end of the line before",
            _since(is_newline) < _BEGINNING,
        ),
        _on("indentation", "blanks before anything else in the line", _indented(text)),
    ]
    if words:
        is_letter = _are_letters(points)
        ends = is_letter & ~np.append(is_letter[1:], True)
        features += [
            _on("end of a word", "the next character is no letter any more", ends),
            _on("inside a name", "a capitalised word that does not begin a sentence or a line", _names(text)),
        ]
    else:
        ends_clause, ends_sentence = (np.isin(points, _numbers_of(marks)) for marks in (_CLAUSE_END, _SENTENCE_END))
        next_ends = np.append(ends_clause[1:], False) & ~ends_clause
        features += [
            _on(
                "end of a clause",
                "the next character is a mark that ends a clause, or the end of the line",
                next_ends,
            ),
            _number(
                "place in the clause", "characters since the last mark that ends a clause", _since(ends_clause)
            ),
            _number("place in the sentence", "characters since the end of a sentence", _since(ends_sentence)),
        ]
    return features


def _numbers_of(marks: str) -> NDArray[np.int64]:
    """Returns the number that Unicode gives each of some characters."""
    return np.array([ord(mark) for mark in marks])


def _on(name: str, explanation: str, values: Booleans) -> Feature:
    return Feature(name, explanation, True, values.astype(np.float64))


def _number(name: str, explanation: str, values: NDArray[np.int64]) -> Feature:
    return Feature(name, explanation, False, values.astype(np.float64))


def _spans(text: str, pairs: dict[str, str]) -> Booleans:
    """Says which characters are inside pairs of marks: from the opening one up to, not including, the closing one.

    Brackets may stand in each other; what has no partner is no bracket, nor is what is far from it. A quotation
    mark that opens and closes alike is closed in its paragraph.
    """
    result = np.zeros(len(text), np.bool_)
    for mark in (opening for opening, closing in pairs.items() if opening == closing):
        for found in re.finditer(f"{mark}(?:(?!\n\n)[^{mark}]){{1,{_LONGEST_SPAN}}}(?={mark})(.)", text):
            result[found.start() : found.start(1)] = True
    closes = {closing: opening for opening, closing in pairs.items() if opening != closing}
    marks = "".join(map(re.escape, [*closes, *closes.values()]))
    stack: list[tuple[str, int]] = []
    for found in re.finditer(f"[{marks}]", text):
        mark, place = found[0], found.start()
        if mark not in closes:
            stack.append((mark, place))
            continue
        for depth in reversed(range(len(stack))):
            opening, begin = stack[depth]
            if place - begin > _LONGEST_SPAN:
                stack.clear()
                break
            if opening == closes[mark]:
                result[begin:place] = True
                del stack[depth:]
                break
    return result


def _since(marks: Booleans) -> NDArray[np.int64]:
    """Returns how many characters stand between each and the last mark before it or at it; a mark itself has 0."""
    places = np.arange(len(marks))
    return places - np.maximum.accumulate(np.where(marks, places, 0))


def _indented(text: str) -> Booleans:
    result = np.zeros(len(text), np.bool_)
    for found in re.finditer(r"^[ \t]+(?=\S)", text, re.MULTILINE):
        result[found.start() : found.end()] = True
    return result


def _are_letters(points: NDArray[np.uint8 | np.uint32]) -> Booleans:
    """Says which characters are letters, or apostrophes between letters."""
    distinct, place = np.unique(points, return_inverse=True)
    letters: Booleans = np.array([chr(point).isalpha() for point in distinct.tolist()], np.bool_)[place]
    between = np.zeros(len(points), np.bool_)
    between[1:-1] = letters[:-2] & letters[2:]
    return letters | (between & np.isin(points, _numbers_of("'’")))


def _names(text: str) -> Booleans:
    result = np.zeros(len(text), np.bool_)
    for found in _NAME.finditer(text):
        result[found.start(1) : found.end(1)] = True
    return result
