"""Is it writing or quoting? What a model writes is searched for in its training text, and so is held-out text.

    the longest run of a line: the most characters in a row of it that also stand in a row in the training text

Text that people wrote shares short runs with other such text too, so lines of held-out text of the same lengths are
the measure: a model that has runs much longer than theirs quotes. In the same way, which share of the words that it
writes exist in the training text says more beside the share of held-out words that do.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from charlm.config import SamplingConfig
from charlm.language_model import LanguageModel
from charlm.sampling import write_at_once
from charlm.text.corpus import Split
from charlm.text.plain import read_parts, separates_words
from charlm.writing.runs import SEARCHED_CHARACTERS, Lengths, Run, find_longest_runs
from charlm.writing.words import count_words, share_known

__all__ = [
    "SAMPLED_LINES",
    "OverlapReport",
    "cut_lines",
    "find_longest_runs",
    "lines_of_like_length",
    "measure_overlap",
    "read_parts",
]

SAMPLED_LINES = 1000
LONGEST_LINE = 120  # characters; what is longer is cut into pieces
_HELD_OUT_CHARACTERS = 1 << 20  # lines and words are taken from, from the beginning
_SHOWN = 10  # of the longest runs
_CONTEXT = 40  # characters shown on each side of one
_STREAMS = 128  # texts that a model of running text writes
_SPARE = 1.15  # of the characters that so many lines have in held-out text
_MOST_WRITTEN = 1200  # characters of a text


@dataclass(frozen=True)
class OverlapReport:
    """What is written beside what was read: see the module.

    Attributes:
        sampled_lines: how many lines the model wrote.
        held_out_lines: how many different lines of held-out text stand beside them.
        lengths: of the longest run of each sampled line in characters, ascending.
        held_out_lengths: the same of held-out lines, one of the same length for each sampled line, see
            `lines_of_like_length`.
        longest: the longest runs of sampled lines, each text once: text, length, and where it stands in the
            training text, with some characters on both sides.
        words_known: share of the words written that exist in the training text; None where white space does not
            separate words.
        held_out_words_known: the same of held-out words.
        searched: characters of the training text that were searched.
        training: characters that it has.
    """

    sampled_lines: int
    held_out_lines: int
    lengths: Lengths
    held_out_lengths: Lengths
    longest: list[tuple[str, int, str]]
    words_known: float | None
    held_out_words_known: float | None
    searched: int
    training: int


def measure_overlap(
    lm: LanguageModel, training: Split, held_out: Split, *, count: int = SAMPLED_LINES, seed: int = 0
) -> OverlapReport:
    """Writes lines, and searches for them and for held-out ones in the training text.

    Args:
        lm: the model; a mixture writes as a whole, at temperature 1.
        training: the text that it was trained on.
        held_out: text that it was not trained on.
        count: how many lines to write; where that would take too long, fewer are.
        seed: of what is written, and of which held-out lines are taken.
    """
    vocabulary = lm.vocabulary
    read = read_parts(vocabulary, training, SEARCHED_CHARACTERS)
    held = read_parts(vocabulary, held_out, _HELD_OUT_CHARACTERS)
    held_lines = cut_lines(held)
    written = _write(lm, held or read[:_HELD_OUT_CHARACTERS], count, seed)
    sampled = [line for text in written for line in cut_lines(text)][:count]
    beside, different = lines_of_like_length(sampled, held_lines, seed)
    found = find_longest_runs([*sampled, *beside], read)
    ours, theirs = found[: len(sampled)], found[len(sampled) :]
    words_known = held_out_words_known = None
    if separates_words(read[:_HELD_OUT_CHARACTERS]):
        known = set(count_words([read]))
        words_known = share_known(count_words(written), known)
        held_out_words_known = share_known(count_words([held]), known)
    return OverlapReport(
        sampled_lines=len(sampled),
        held_out_lines=different,
        lengths=np.sort(np.array([run.length for run in ours], np.int64)),
        held_out_lengths=np.sort(np.array([run.length for run in theirs], np.int64)),
        longest=_longest(sampled, ours, read),
        words_known=words_known,
        held_out_words_known=held_out_words_known,
        searched=min(len(read), training.characters),
        training=training.characters,
    )


# ------------------------------------------------------------------------------------------- lines and words


def cut_lines(text: str) -> list[str]:
    """Returns the lines of a text that are not blank, without blanks around them; long ones in pieces."""
    lines = [line.strip() for line in text.split("\n")]
    return [line[i : i + LONGEST_LINE] for line in lines for i in range(0, len(line), LONGEST_LINE)]


def lines_of_like_length(lines: Sequence[str], others: Sequence[str], seed: int) -> tuple[list[str], int]:
    """Returns for each line another one, as long if there is one, and how many different ones these are.

    Each is taken once, until all have been: the shortest that is long enough, cut to the length wanted; for want of
    one, the longest that is left. Among those of a length chance decides.
    """
    shuffled = [others[place] for place in np.random.default_rng(seed).permutation(len(others)).tolist()]
    ascending = sorted(shuffled, key=len)
    result = [""] * len(lines) if others else []
    left: list[str] = []
    for place in sorted(range(len(result)), key=lambda i: -len(lines[i])):  # the long ones have the least choice
        left = left or ascending.copy()
        nearest = bisect_left(left, len(lines[place]), key=len)
        result[place] = left.pop(min(nearest, len(left) - 1))[: len(lines[place])]
    return result, min(len(result), len(others))


def _write(lm: LanguageModel, like: str, count: int, seed: int) -> list[str]:
    """Writes texts that have about `count` lines together, if they are like this one; whole lines only."""
    texts, length = count, LONGEST_LINE
    if lm.vocabulary.framing == "stream":
        texts = min(_STREAMS, count)
        per_line = len(like) / max(1, len(cut_lines(like)))  # blank ones and ends of lines included
        length = min(int(_SPARE * per_line * count / texts) + LONGEST_LINE, _MOST_WRITTEN)
    rule = SamplingConfig(length=length, temperature=1)
    written = write_at_once(lm.mixture, lm.vocabulary, texts, rule, seed=seed)
    if lm.vocabulary.framing == "lines":
        return written
    return [text[: text.rfind("\n") + 1 or len(text)] for text in written]  # the last line of each lacks its end


def _longest(lines: Sequence[str], runs: Sequence[Run], text: str) -> list[tuple[str, int, str]]:
    """Returns the longest runs, each text once, with what stands around them."""
    result: dict[str, tuple[str, int, str]] = {}
    for i in sorted(range(len(runs)), key=lambda i: -runs[i].length):
        run = runs[i]
        if len(result) == _SHOWN or not run.length:
            break
        shown = lines[i][run.in_line : run.in_line + run.length]
        around = text[max(0, run.in_text - _CONTEXT) : run.in_text + run.length + _CONTEXT]
        result.setdefault(shown, (shown, run.length, around))
    return list(result.values())
