"""Batches: ids cut into windows of truncated backpropagation through time.

Both framings yield the same `Window`s; the trainer does not know which one it reads. An epoch's plan depends on
nothing but the seed and the epoch's number, so a cursor of two integers is enough to go on exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np

from charlm.errors import CorpusError
from charlm.text.vocabulary import Ids

IGNORE = -1  # the target of a place that holds no character


class Window(NamedTuple):
    """One step of training.

    Attributes:
        inputs: ids, shape (B, T).
        targets: the ids that follow, shape (B, T); `IGNORE` where a row is shorter.
        carry: whether the hidden state goes on from the window before; else it starts from zero.
    """

    inputs: Ids
    targets: Ids
    carry: bool


class Batches(Protocol):
    """What the trainer reads: windows, epoch by epoch."""

    windows_per_epoch: (
        int  # of the first epoch; lines are grouped anew each time, so later ones may differ a little
    )

    def epoch(self, number: int) -> Iterator[Window]:
        """Yields the windows of one epoch, the same ones each time it is asked for."""


class StreamBatches:
    """A text in B parallel streams; each character is a target exactly once an epoch.

    The text is read as a circle, entered at a random place each epoch so that windows are cut elsewhere each
    time, and laid out in B rows; where N is not a multiple of B the last rows are a character shorter.

    Args:
        ids: the training text, shape (N,).
        batch_size: B.
        sequence_length: T; the last window of an epoch may be shorter.
        seed: of the random places.

    Raises:
        CorpusError: fewer than two characters for each stream.
    """

    def __init__(self, ids: Ids, batch_size: int, sequence_length: int, seed: int) -> None:
        if len(ids) < 2 * batch_size:
            advice = f"lower training.batch_size to at most {len(ids) // 2} or " if len(ids) > 1 else ""
            raise CorpusError(
                f"the training text has {len(ids)} characters, too few for training.batch_size: {batch_size}; "
                f"{advice}bring more text"
            )
        self._ids = ids
        self._batch_size = batch_size
        self._sequence_length = sequence_length
        self._seed = seed
        self._row_length = -(-len(ids) // batch_size)  # S = ceil(N / B)
        self.windows_per_epoch = -(-self._row_length // sequence_length)

    def epoch(self, number: int) -> Iterator[Window]:
        """Yields ceil(S / T) windows, the state carried from each to the next."""
        N, B, S, T = len(self._ids), self._batch_size, self._row_length, self._sequence_length
        offset = int(np.random.default_rng((self._seed, number)).integers(N))
        text = np.roll(self._ids, -offset)
        before = np.roll(text, 1)  # the character before each
        short = B * S - N  # so many rows lack their last character
        lengths = np.full(B, S)
        lengths[B - short :] -= 1
        starts = np.concatenate(([0], np.cumsum(lengths)[:-1]))
        places = starts[:, None] + np.arange(S)  # (B, S)
        missing = np.arange(S) >= lengths[:, None]
        places[missing] = 0
        inputs, targets = before[places], text[places]
        targets[missing] = IGNORE
        for start in range(0, S, T):
            stop = start + T
            yield Window(inputs[:, start:stop], targets[:, start:stop], carry=start > 0)


class LineBatches:
    """Each line a sentence: B lines of like length side by side, the state zero at their start.

    Lines longer than T are read in windows of T with the state carried.

    Args:
        ids: lines, each ended by the boundary, shape (N,).
        boundary_id: the symbol before the first and after the last character of a line.
        batch_size: B; the last batch of an epoch may hold fewer lines.
        sequence_length: T.
        seed: of the order of the lines.

    Raises:
        CorpusError: fewer lines than fill one batch.
    """

    def __init__(self, ids: Ids, boundary_id: int, batch_size: int, sequence_length: int, seed: int) -> None:
        self._ids = ids
        self._boundary_id = boundary_id
        self._batch_size = batch_size
        self._sequence_length = sequence_length
        self._seed = seed
        self._starts, self._lengths = line_spans(ids, boundary_id)
        if len(self._starts) < batch_size:
            raise CorpusError(
                f"the training text has {len(self._starts)} lines, too few for training.batch_size: "
                f"{batch_size}; lower training.batch_size or bring more text"
            )
        self.windows_per_epoch = sum(
            -(-int(self._lengths[batch].max()) // sequence_length) for batch in self._plan(0)
        )

    def _plan(self, number: int) -> list[np.ndarray]:
        """Returns the lines of each batch: shuffled, then sorted by length inside pools of 64 batches."""
        rng = np.random.default_rng((self._seed, number))
        order = rng.permutation(len(self._starts))
        B = self._batch_size
        pools = [order[i : i + 64 * B] for i in range(0, len(order), 64 * B)]
        ordered = np.concatenate([pool[np.argsort(self._lengths[pool], kind="stable")] for pool in pools])
        batches = [ordered[i : i + B] for i in range(0, len(ordered), B)]
        return [batches[i] for i in rng.permutation(len(batches))]

    def epoch(self, number: int) -> Iterator[Window]:
        """Yields the windows of every line once."""
        T = self._sequence_length
        for batch in self._plan(number):
            inputs, targets = pad_lines(
                [self._ids[s : s + n] for s, n in zip(self._starts[batch], self._lengths[batch], strict=True)],
                self._boundary_id,
            )
            for start in range(0, inputs.shape[1], T):
                yield Window(inputs[:, start : start + T], targets[:, start : start + T], carry=start > 0)


def line_spans(ids: Ids, boundary_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the start and the length, boundary included, of each line that ends with the boundary."""
    ends = np.flatnonzero(ids == boundary_id) + 1
    starts = np.concatenate(([0], ends))[:-1].astype(np.int64)
    return starts, ends - starts


def pad_lines(lines: list[Ids], first_id: int) -> tuple[Ids, Ids]:
    """Lays sequences side by side: (inputs, targets), each (B, longest).

    A row of `inputs` is `first_id` and the sequence without its last symbol, a row of `targets` the sequence;
    what is behind its end is `first_id` and `IGNORE`.
    """
    longest = max(map(len, lines))
    inputs = np.full((len(lines), longest), first_id, np.int32)
    targets = np.full((len(lines), longest), IGNORE, np.int32)
    for row, line in enumerate(lines):
        inputs[row, 1 : len(line)] = line[:-1]
        targets[row, : len(line)] = line
    return inputs, targets
