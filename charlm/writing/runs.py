"""Which characters of a line stand in a row in a text too, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charlm.text.plain import UNREADABLE
from charlm.text.vocabulary import code_points

Lengths = NDArray[np.int64]

SEARCHED_CHARACTERS = 1 << 25  # of a training text, from its beginning
_CHUNK_CHARACTERS = 1 << 22  # of the text, searched at once
_TABLE_NUMBERS = 1 << 24  # of a table of symbols by node


@dataclass(frozen=True)
class Run:
    """The longest run of a line that stands in a text: where it begins in both; of length 0, there is none."""

    length: int
    in_line: int
    in_text: int


@dataclass(frozen=True)
class Matches:
    """What of a line stands in a text.

    Attributes:
        lengths: for each character of the line, how many from it on stand in a row in the text, shape (n,).
        places: where in the text they first do, shape (n,).
    """

    lengths: NDArray[np.int32]
    places: Lengths

    @property
    def longest(self) -> Run:
        """The longest run, the first of several."""
        if not len(self.lengths):
            return Run(0, 0, 0)
        first = int(self.lengths.argmax())
        return Run(int(self.lengths[first]), first, int(self.places[first]))


def find_longest_runs(lines: Sequence[str], text: str) -> list[Run]:
    """Finds for each line the longest run of its characters that stands in a text, the first of several."""
    return [found.longest for found in find_matches(lines, text)]


def find_matches(lines: Sequence[str], text: str) -> list[Matches]:
    """Finds for each place of each line the longest run from there on that stands in a text.

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
    begins = ends - 1 - [len(line) for line in lines]
    return [
        Matches(best[begin : end - 1], where[begin : end - 1])
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)
    ]


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
    asking, asking_node = np.arange(len(lines)), np.zeros(len(lines), np.int64)  # places of the lines, nodes
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
