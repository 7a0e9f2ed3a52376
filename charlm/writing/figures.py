"""What is written, in figures, each beside the same figure of held-out text: words, variety, repetition, copying.

    words known         words that stand in the training text / words
    distinct            different units among the first m / m, m being as many as both sides have
    repeated            n-grams of units that stood in the same text before / n-grams
    copied              windows of w characters that stand in the training text / windows
    longest copy        the most characters in a row of a text that stand in a row in the training text

Units are words, without the punctuation around them; where white space does not separate words they are characters,
n and w are smaller, and the share of words known is left out. No window and no n-gram reaches beyond its text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from charlm.config import SamplingConfig
from charlm.text.plain import UNREADABLE, separates_words
from charlm.writing.runs import find_matches
from charlm.writing.words import count_words, list_words, share_known

Unit = Literal["words", "characters"]

_WINDOW_CHARACTERS: dict[Unit, int] = {"words": 30, "characters": 10}
_REPEATED_UNITS: dict[Unit, int] = {"words": 4, "characters": 6}
HELD_OUT_CHARACTERS = 1 << 22  # looked at, from the beginning
_JUDGED_CHARACTERS = 1 << 20  # of the training text: whether white space separates its words


@dataclass(frozen=True)
class WritingFigures:
    """Figures of a set of texts. A share is None if there is nothing to count.

    Attributes:
        texts: number of texts.
        characters: number of characters of all texts.
        words_known: share of the words that occur in the training text. None if white space does not separate
            words.
        distinct: share of different units among the first `WritingEvaluation.compared` units.
        repeated: share of the n-grams of `WritingEvaluation.ngram` units that occurred earlier in the same text.
        copied: share of the windows of `WritingEvaluation.window` characters that occur in the training text.
        longest_copy: length in characters of the longest piece that occurs in the training text.
        mean_longest_copy: mean length of the longest such piece of each text.
        texts_known: share of the texts that occur in the training text as a whole; in lines framing, as a line.
    """

    texts: int
    characters: int
    words_known: float | None
    distinct: float | None
    repeated: float | None
    copied: float | None
    longest_copy: int
    mean_longest_copy: float
    texts_known: float


@dataclass(frozen=True)
class WritingEvaluation:
    """A comparison of what a model writes with held-out text.

    Attributes:
        written: the figures of the samples.
        held_out: the figures of held-out text, which is cut like the samples, into as many texts if it is long
            enough.
        unit: the unit that is counted: `words`, or `characters` if white space does not separate words.
        compared: number of units among which different ones are counted.
        ngram: number of units in an n-gram that counts as a repetition.
        window: number of characters in a window that counts as a copy.
        searched: number of characters at the beginning of the training text that were searched.
        seed: the seed of the samples.
        sampling: the settings with which the samples were drawn.
    """

    written: WritingFigures
    held_out: WritingFigures
    unit: Unit
    compared: int
    ngram: int
    window: int
    searched: int
    seed: int
    sampling: Mapping[str, float | None]


def measure_writing(
    written: Sequence[str],
    held_out: Sequence[str],
    training: str,
    rule: SamplingConfig,
    *,
    lines: bool,
    seed: int = 0,
) -> WritingEvaluation:
    """Measures texts that a model wrote, and held-out ones.

    Args:
        written: samples.
        held_out: texts that are cut as samples are, see `cut_stretches`.
        training: the text that the model was trained on.
        rule: what the samples were drawn by; a text of the length that it names was cut, and its last word is not
            counted.
        lines: whether each line of the training text is a text.
        seed: of the samples.
    """
    unit: Unit = "words" if separates_words(training[:_JUDGED_CHARACTERS]) else "characters"
    ngram, window = _REPEATED_UNITS[unit], _WINDOW_CHARACTERS[unit]
    sides = [_units(unit, texts, rule.length) for texts in (written, held_out)]
    compared = min(sum(map(len, units)) for units in sides)
    known = set(count_words([training])) if unit == "words" else set[str]()
    all_lines = set(training.split("\n")) if lines else None
    matches = find_matches([*written, *held_out], training)

    def measure(texts: Sequence[str], units: list[list[str]], first: int) -> WritingFigures:
        found = [match.lengths for match in matches[first : first + len(texts)]]
        longest = np.array([lengths.max(initial=0) for lengths in found], np.int64)
        windows = [lengths[: max(0, len(lengths) - window + 1)] >= window for lengths in found]
        whole = [
            bool(text) and (text in all_lines if all_lines is not None else best == len(text))
            for text, best in zip(texts, longest.tolist(), strict=True)
        ]
        words = Counter(word for own in units for word in own)
        return WritingFigures(
            texts=len(texts),
            characters=sum(map(len, texts)),
            words_known=share_known(words, known) if unit == "words" else None,
            distinct=share_distinct(units, compared),
            repeated=share_repeated(units, ngram),
            copied=_mean(np.concatenate(windows)),
            longest_copy=int(longest.max()),
            mean_longest_copy=float(longest.mean()),
            texts_known=float(np.mean(whole)),
        )

    return WritingEvaluation(
        written=measure(written, sides[0], 0),
        held_out=measure(held_out, sides[1], len(written)),
        unit=unit,
        compared=compared,
        ngram=ngram,
        window=window,
        searched=len(training),
        seed=seed,
        sampling=rule.model_dump(),
    )


def cut_stretches(text: str, length: int, count: int, *, lines: bool) -> list[str]:
    """Cuts a text as samples are cut, and takes as many from all over it.

    Args:
        text: parts that do not follow each other are separated by a newline.
        length: the most characters of one.
        count: how many to take, at most.
        lines: whether each line is a text, or they are stretches of a stream that begin where lines do.
    """
    if lines:
        found = [line[:length] for line in text.split("\n") if line]
    else:
        found, start = [], 0
        while start < len(text) and (not found or start + length <= len(text)):
            found.append(text[start : start + length])
            end = start + length
            newline = text.find("\n", end - 1, end + length)
            start = newline + 1 if newline >= 0 else end
    chosen = np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int)
    return [found[i] for i in chosen.tolist()]


def share_distinct(texts: Sequence[Sequence[str]], first: int) -> float | None:
    """Returns the share of different units among so many of the first ones of these texts."""
    units = [unit for text in texts for unit in text][:first]
    return len(set(units)) / len(units) if units else None


def share_repeated(texts: Sequence[Sequence[str]], n: int) -> float | None:
    """Returns the share of the n-grams that stood in the same text before."""
    total = different = 0
    for units in texts:
        ngrams = [tuple(units[i : i + n]) for i in range(len(units) - n + 1)]
        total += len(ngrams)
        different += len(set(ngrams))
    return (total - different) / total if total else None


def _units(unit: Unit, texts: Sequence[str], length: int) -> list[list[str]]:
    if unit == "characters":
        return [[char for char in text if not char.isspace() and char != UNREADABLE] for text in texts]
    return [list_words(_without_last_word(text) if len(text) >= length else text) for text in texts]


def _without_last_word(text: str) -> str:
    """Returns a text up to its last white space; without any, nothing."""
    end = len(text)
    while end and not text[end - 1].isspace():
        end -= 1
    return text[:end]


def _mean(values: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float | None:
    return float(values.mean()) if len(values) else None
