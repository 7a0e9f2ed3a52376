"""Is it writing or quoting? What a model writes is searched for in its training text, and so is held-out text.

    the longest run of a line: the most characters in a row of it that also stand in a row in the training text

Text that people wrote shares short runs with other such text too, so lines of held-out text of the same lengths are
the measure: a model that has runs much longer than theirs quotes. In the same way, which share of the words that it
writes exist in the training text says more beside the share of held-out words that do.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray

from charlm.analysis.characters import UNREADABLE, read_characters, separates_words
from charlm.config import SamplingConfig
from charlm.language_model import LanguageModel
from charlm.sampling import write
from charlm.system.threads import parallel_map
from charlm.text.corpus import Split
from charlm.text.vocabulary import Vocabulary, code_points

Lengths = NDArray[np.int64]

SAMPLED_LINES = 1000
LONGEST_LINE = 120  # characters; what is longer is cut into pieces
SEARCHED_CHARACTERS = 1 << 25  # of the training text, from its beginning
_HELD_OUT_CHARACTERS = 1 << 20  # lines and words are taken from, from the beginning
_SHOWN = 10  # of the longest runs
_CONTEXT = 40  # characters shown on each side of one
_BATCH = 64  # texts written side by side
_STREAMS = 128  # texts that a model of running text writes
_SPARE = 1.15  # of the characters that so many lines have in held-out text
_MOST_WRITTEN = 1200  # characters of a text
_CHUNK_CHARACTERS = 1 << 22  # of the training text, searched at once
_TABLE_NUMBERS = 1 << 24  # of a table of symbols by node


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
        known = set(_count_words([read]))
        words_known = _share_known(_count_words(written), known)
        held_out_words_known = _share_known(_count_words([held]), known)
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

    def write_some(samples: range) -> list[str]:
        steps = list(write(lm.mixture, lm.vocabulary, samples, rule, seed=seed))
        return ["".join(pieces) for pieces in zip(*steps, strict=True)]

    batches = [range(start, min(start + _BATCH, texts)) for start in range(0, texts, _BATCH)]
    written = list(chain.from_iterable(parallel_map(write_some, batches)))
    if lm.vocabulary.framing == "lines":
        return written
    return [text[: text.rfind("\n") + 1 or len(text)] for text in written]  # the last line of each lacks its end


_WORD = re.compile(rf"[^\s{UNREADABLE}]+")
_WITHOUT_PUNCTUATION = re.compile(r"[^\W_](?:.*[^\W_])?", re.DOTALL)


def _count_words(texts: Sequence[str]) -> Counter[str]:
    """Counts what white space separates, without the punctuation around it."""
    result: Counter[str] = Counter()
    for word, count in Counter(found[0] for text in texts for found in _WORD.finditer(text)).items():
        if core := _WITHOUT_PUNCTUATION.search(word):
            result[core[0]] += count
    return result


def _share_known(words: Counter[str], known: set[str]) -> float | None:
    found = sum(count for word, count in words.items() if word in known)
    return found / words.total() if words else None


# --------------------------------------------------------------------------------------------- longest runs


@dataclass(frozen=True)
class Run:
    """The longest run of a line that stands in a text: where it begins in both; of length 0, there is none."""

    length: int
    in_line: int
    in_text: int


def find_longest_runs(lines: Sequence[str], text: str) -> list[Run]:
    """Finds for each line the longest run of its characters that stands in a text, the first of several.

    The runs that begin anywhere in a line are a trie. All places of the text go down in it side by side, a
    character at a time, and drop out where they find no way on; so do the places of the lines whose node none of
    them has reached. Nothing is hashed, so nothing is found by mistake.

    U+FFFD is like no character.
    """
    if not lines:
        return []
    points = [code_points(line).astype(np.uint32) for line in lines]
    ends = np.cumsum([len(line) + 1 for line in lines])
    alphabet = np.setdiff1d(np.concatenate(points), [ord(UNREADABLE)])
    joined = np.full(ends[-1], len(alphabet), np.int32)  # behind each line, and for U+FFFD, a symbol of its own
    for own, end in zip(points, ends.tolist(), strict=True):
        joined[end - 1 - len(own) : end - 1] = _number(own, alphabet)
    best, where = np.zeros(ends[-1], np.int32), np.zeros(ends[-1], np.int64)
    longest = max(map(len, lines))
    for start in range(0, len(text), _CHUNK_CHARACTERS):
        piece = code_points(text[start : start + _CHUNK_CHARACTERS + longest])
        lengths, places = _match(joined, _number(piece, alphabet), len(alphabet))
        better = lengths > best
        best[better], where[better] = lengths[better], places[better] + start
    runs = []
    for line, end in zip(lines, ends.tolist(), strict=True):
        begin = end - 1 - len(line)
        first = begin + int(best[begin:end].argmax())
        runs.append(Run(int(best[first]), first - begin, int(where[first])))
    return runs


def _number(points: NDArray[np.uint8 | np.uint32], alphabet: NDArray[np.uint32]) -> NDArray[np.int32]:
    """Returns the place of each character in the alphabet; of any other its size."""
    table = np.full(int(max(alphabet.max(initial=0), points.max(initial=0))) + 1, len(alphabet), np.int32)
    table[alphabet] = np.arange(len(alphabet))
    result: NDArray[np.int32] = table[points]
    return result


def _match(lines: NDArray[np.int32], text: NDArray[np.int32], size: int) -> tuple[NDArray[np.int32], Lengths]:
    """Returns how many symbols from each place of the lines on stand in the text, and where they first do.

    Args:
        lines: symbols, shape (N,); `size` matches nothing.
        text: symbols, shape (M,); the same.
        size: of the alphabet.
    """
    lengths, where = np.zeros(len(lines), np.int32), np.zeros(len(lines), np.int64)
    asking, asking_node = (
        np.arange(len(lines)),
        np.zeros(len(lines), np.int64),
    )  # places of the lines, nodes of the trie
    alive, node = np.arange(len(text)), np.zeros(len(text), np.int64)  # places of the text
    lines, text = np.append(lines, size), np.append(text, size)
    for depth in range(len(lines)):
        symbol = lines[asking + depth]
        going = symbol < size
        asking, keys = asking[going], asking_node[going] * size + symbol[going]
        symbol = text[alive + depth]
        going = symbol < size
        alive, wanted = alive[going], node[going] * size + symbol[going]
        if not len(asking) or not len(alive):
            break
        children, asking_node = np.unique(keys, return_inverse=True)
        node = _find(wanted, children)
        alive, node = alive[node >= 0], node[node >= 0]
        first = np.full(len(children), -1)
        first[node[::-1]] = alive[::-1]  # of several, the last one written stays
        there = first[asking_node] >= 0
        asking, asking_node = asking[there], asking_node[there]
        lengths[asking], where[asking] = depth + 1, first[asking_node]
    return lengths, where


def _find(wanted: NDArray[np.int64], children: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the place of each wanted number in ascending ones, or -1."""
    most = max(int(children[-1]), int(wanted.max(initial=0)))
    if most < _TABLE_NUMBERS:  # looked up in a tenth of the time
        table = np.full(most + 1, -1, np.int32)
        table[children] = np.arange(len(children))
        return table[wanted].astype(np.int64)
    place = np.searchsorted(children, wanted)
    place[place == len(children)] = 0
    return np.where(children[place] == wanted, place, -1)


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
