"""The words of a scored sentence: each one's log-probability, with the space on one side of it, and its place.

A word is what stands between white space, or between separators that the input has. Its log-probability is the sum
over its characters and over the white space that belongs to it, so the words of a sentence add up to the sentence.
Which white space that is, is a convention:

    after    log p(w_i, space | w_1, space, …, w_{i-1}, space); the end of the sentence closes the last word
    before   log p(space, w_i | w_1, space, …, w_{i-1});        the end of the sentence stands for itself

With the space after it, the word is known to have ended: these are the probabilities of words (Oh and Schuler 2024;
Pimentel and Meister 2024). With the space before it, a word counts whether or not it goes on, as in models whose
subwords begin with a space.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from charlm.errors import InputError
from charlm.scoring.measures import Score
from charlm.text.vocabulary import END_OF_SENTENCE

Spans = Sequence[tuple[int, int]]  # of a text, each from its first character up to, not including, its end


class Space(StrEnum):
    """The white space that counts as part of a word."""

    AFTER = "after"
    BEFORE = "before"


@dataclass(frozen=True)
class WordScore:
    """One word of a scored sentence.

    Attributes:
        word: the word as given, without the white space around it. The last entry may be `</s>`, which is the end
            of the sentence and white space that belongs to no word; if the end is not scored, its word is empty.
        start: the position of its first character in the sentence as given, counted from 0.
        end: the position after its last character; the word is `text[start:end]`.
        logprob: the log-probability of its characters, and of the white space or the end of the sentence that
            belongs to it, given all characters before them, in nats.
        unknown: number of its unknown characters, including those of its white space.
    """

    word: str
    start: int
    end: int
    logprob: float
    unknown: int

    @property
    def surprisal(self) -> float:
        """`-logprob`, in nats."""
        return 0.0 - self.logprob


def find_words(text: str, separator: str | None = None) -> tuple[str, Spans]:
    """Returns a text as it is to be scored, and the places of its words.

    Without a separator these are the words of `text.split()`, and the text stays as it is. Separators are taken
    out, and a word is what stood between two; white space at its edges is no part of it, white space alone is no
    word. Where white space stands on both sides of a separator, that behind it is taken out too, and so is white
    space between a separator and the edge of the text: `the old man | the boats |` is `the old man the boats`.

    Raises:
        InputError: the separator is empty.
    """
    if separator is None:
        return text, _find_words(text)
    if not separator:
        raise InputError("the separator of words is empty; leave it out if white space separates words")
    parts = text.split(separator)
    if len(parts) == 1:
        return text, _trim(text, 0)
    kept: list[str] = []
    spans: list[tuple[int, int]] = []
    length = 0
    edge = not parts[0].strip()  # whether the next part comes after white space, or nothing, and a separator
    for part in filter(str.strip, parts):
        part = part.lstrip() if edge else part
        spans += _trim(part, length)
        kept.append(part)
        length, edge = length + len(part), part[-1].isspace()
    if kept and not parts[-1].strip():
        kept[-1] = kept[-1].rstrip()
    return "".join(kept), spans


def _find_words(text: str) -> Spans:
    spans, end = [], 0
    for word in text.split():
        start = text.index(word, end)
        end = start + len(word)
        spans.append((start, end))
    return spans


def _trim(part: str, place: int) -> list[tuple[int, int]]:
    """Returns where a part of a text that stands at this place has a word; none if it is white space alone."""
    word, start = part.strip(), place + len(part) - len(part.lstrip())
    return [(start, start + len(word))] if word else []


def score_words(score: Score, spans: Spans, normalize: Callable[[str], str], space: Space) -> list[WordScore]:
    """Returns the words of a scored sentence; their log-probabilities add up to the sentence's.

    White space before the first word belongs to it in either convention. With `Space.AFTER` the last word has the
    end of the sentence; with `Space.BEFORE`, or without any word, the end and the white space before it come last.

    Args:
        score: the sentence.
        spans: the places of the words in `score.text`, in order, with white space at most between them.
        normalize: what the model does to a text; words are found in the text before that.
        space: which white space belongs to a word.
    """
    text, size = score.text, len(score.text)
    words = [(text[start:end], start, end) for start, end in spans]
    if space is Space.BEFORE or not words:
        cuts = [0, *(end for _, end in spans)]
        words.append((END_OF_SENTENCE if len(score.chars) > score.characters else "", size, size))
    else:
        cuts = [0, *(start for start, _ in spans[1:])]
    lengths = _normalized_lengths([text[start:end] for start, end in pairwise([*cuts, size])], normalize)
    scored: list[WordScore] = []
    first = 0
    for number, ((word, start, end), length) in enumerate(zip(words, lengths, strict=True), 1):
        chars = score.chars[first:] if number == len(words) else score.chars[first : first + length]
        first += length
        if word or chars:
            logprob = math.fsum(char.logprob for char in chars)
            scored.append(WordScore(word, start, end, logprob, sum(char.unknown for char in chars)))
    return scored


def _normalized_lengths(pieces: Sequence[str], normalize: Callable[[str], str]) -> Iterator[int]:
    """Yields how many characters of a normalised text come from each of the pieces that the text is cut into.

    A character that the pieces make together, a letter and a mark, comes from the piece in which it begins.
    """
    before, length = "", 0  # the pieces that the next one may still change, and their normalised length
    for piece in pieces:
        alone, together = len(normalize(piece)), len(normalize(before + piece))
        yield together - length
        if together < length + alone:
            before, length = before + piece, together
        else:
            before, length = piece, alone
