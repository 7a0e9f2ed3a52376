"""How likely is a text? From ids to log-probabilities: scores, evaluation and validation sum what is made here.

    log p(x_1 … x_n) = Σ_t log o_t[x_{t+1}],  the state zero before the boundary that opens a sentence

All log-probabilities are natural, in nats. What is made of a sentence's log-probabilities is in `sentences`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.experts.expert import Reading
from charlm.experts.mixture import Mixture, MixtureState
from charlm.system.distributed import ALONE, Ranks
from charlm.system.threads import parallel_map
from charlm.text.batches import line_bounds, pad_lines
from charlm.text.vocabulary import Ids, Vocabulary

LogProbs = NDArray[np.float64]
ReadOut = Callable[[Sequence[Reading], Ids], NDArray[np.float64]]  # (T, B, ·) of each expert → (T, B) or (T, B, K)

MAX_NUMBERS = 1 << 22  # logits, T·B·V, held at once
CONTEXT_SYMBOLS = 1 << 14  # of a context or prompt read at once

_MAX_BATCH = 64
_MAX_SYMBOLS = 1 << 20  # of sequences side by side, the filling included
_WARM_UP_SYMBOLS = 256  # that a row of a long text reads before its own, to come to the state of a single pass
_MIN_ROW_SYMBOLS = 2048  # shorter texts are read in one pass
_MAX_ROWS = 64
_WINDOW_SYMBOLS = 256  # of each row read together: longer windows are no faster
_GROUP_ROWS = 16  # read by one thread, so that several are at work
_LINES = 4096  # scored together


class Beginning(NamedTuple):
    """Where a sequence begins.

    Attributes:
        first_id: the symbol that is read before its first.
        state: before that symbol, of one text; None: nothing stands before it.
    """

    first_id: int
    state: MixtureState | None = None


def sequence_log_probs(
    mixture: Mixture,
    sequences: Sequence[Ids],
    beginning: Beginning,
    *,
    read_out: ReadOut | None = None,
    max_symbols: int = _MAX_SYMBOLS,
    max_numbers: int = MAX_NUMBERS,
) -> Iterator[tuple[int, LogProbs]]:
    """Yields the log-probability (nats) of each symbol of each sequence, shapes (n_i,), as soon as it is known.

    Sequences of like length go through the model side by side; long ones in windows, so memory is bounded whatever
    their number and length.

    Args:
        mixture: the model.
        sequences: ids, shape (n_i,).
        beginning: of every sequence.
        read_out: see `window_log_probs`.
        max_symbols: so many are laid side by side, the filling included.
        max_numbers: see `window_log_probs`.

    Yields:
        The place of a sequence, and its log-probabilities.
    """
    yield from ((i, np.zeros(0)) for i, ids in enumerate(sequences) if not len(ids))
    order = sorted((i for i in range(len(sequences)) if len(sequences[i])), key=lambda i: len(sequences[i]))
    batches = []
    while order:
        # A very long one is not laid beside others, which would all be filled up to its length.
        fits = max(1, max_symbols // len(sequences[order[min(_MAX_BATCH, len(order)) - 1]]))
        batches.append(order[: min(fits, _MAX_BATCH)])
        order = order[min(fits, _MAX_BATCH) :]

    def read_batch(batch: list[int]) -> LogProbs:
        inputs, targets = pad_lines([sequences[i] for i in batch], beginning.first_id)
        state = beginning.state
        before = mixture.initial_state(len(batch)) if state is None else mixture.repeat(state, len(batch))
        return window_log_probs(mixture, inputs, targets, before, read_out=read_out, max_numbers=max_numbers)[0]

    batches.reverse()  # the longest first: at the end all threads are done at about the same time
    divides = mixture.network.divides_batches and len(batches) > 1
    found = parallel_map(read_batch, batches) if divides else map(read_batch, batches)
    for batch, log_probs in zip(batches, found, strict=True):
        yield from ((i, log_probs[row, : len(sequences[i])]) for row, i in enumerate(batch))


def text_log_probs(
    mixture: Mixture,
    vocabulary: Vocabulary,
    ids: Ids,
    parts: Sequence[int] = (0,),
    *,
    ranks: Ranks = ALONE,
    read_out: ReadOut | None = None,
    lines: int = _LINES,
    min_row: int = _MIN_ROW_SYMBOLS,
    max_rows: int = _MAX_ROWS,
    warm_up: int = _WARM_UP_SYMBOLS,
    window: int = _WINDOW_SYMBOLS,
    group: int = _GROUP_ROWS,
) -> Iterator[tuple[int, LogProbs]]:
    """Yields the log-probability (nats) of every symbol of a text: a place, and those of the symbols from there on.

    Lines framing: each line from the zero state, and so each part of a stream that has several. Else the state is
    carried through the whole text; a long text is read in up to 64 rows side by side, each after the 256 symbols
    before it, which differs from a single pass by less than 0.001 nats a character.

    Args:
        mixture: the model.
        vocabulary: the model's.
        ids: the text, shape (N,).
        parts: where the parts of a stream begin, see `Split`.
        ranks: of several, each has its share of what is scored together or read side by side.
        read_out: see `window_log_probs`.
        lines: so many lines or parts are scored together.
        min_row: in stream framing, a row has at least so many symbols of the text.
        max_rows: in stream framing, so many rows at most are read side by side.
        warm_up: in stream framing, each row but the first reads so many symbols before its own.
        window: in stream framing, so many symbols of each row are read together.
        group: in stream framing, so many rows are read by one thread.
    """
    first_id = vocabulary.boundary_id
    if vocabulary.framing == "lines" or len(parts) > 1:
        bounds = _bounds(vocabulary, ids, parts)
        for i in range(ranks.rank * lines, len(bounds) - 1, ranks.size * lines):
            ends = bounds[i : i + lines + 1].tolist()
            sequences = [ids[a:b] for a, b in pairwise(ends)]
            found = dict(sequence_log_probs(mixture, sequences, Beginning(first_id), read_out=read_out))
            yield ends[0], np.concatenate([found[line] for line in range(len(sequences))])
        return
    rows = min(max_rows, max(1, len(ids) // min_row))
    own = slice(rows * ranks.rank // ranks.size, rows * (ranks.rank + 1) // ranks.size + 1)
    cuts = np.linspace(0, len(ids), rows + 1).astype(int)[own]
    if len(cuts) < 2:
        return  # there are more ranks than rows
    rows = len(cuts) - 1
    begins = np.maximum(cuts[:-1] - warm_up, 0)
    size = group if mixture.network.divides_batches else rows
    groups = [range(a, min(a + size, rows)) for a in range(0, rows, size)]
    states = [mixture.initial_state(len(own)) for own in groups]
    for step in range(0, int((cuts[1:] - begins).max()), window):

        def read_group(number: int, step: int = step) -> list[tuple[int, LogProbs]]:
            """Reads the next window of the rows of a group."""
            own = groups[number]
            pieces = [ids[begins[row] + step : min(begins[row] + step + window, cuts[row + 1])] for row in own]
            if not any(map(len, pieces)):
                return []  # these rows are at their ends
            inputs, targets = pad_lines(pieces, first_id)
            if step:
                inputs[:, 0] = ids[begins[own.start : own.stop] + step - 1]
            log_probs, states[number] = window_log_probs(
                mixture, inputs, targets, states[number], read_out=read_out
            )
            found = []
            for row, piece, own_log_probs in zip(own, pieces, log_probs, strict=True):
                start = int(begins[row]) + step
                known = max(0, int(cuts[row]) - start)  # the row before has these
                found.append((start + known, own_log_probs[known : len(piece)]))
            return found

        numbers = range(len(groups))
        read = parallel_map(read_group, numbers) if len(groups) > 1 else map(read_group, numbers)
        yield from chain.from_iterable(read)


def cut_sequences(vocabulary: Vocabulary, ids: Ids, parts: Sequence[int] = (0,)) -> list[Ids]:
    """Cuts a text where the state starts from zero: into its lines in lines framing, else into its parts."""
    return [ids[a:b] for a, b in pairwise(_bounds(vocabulary, ids, parts).tolist())]


def _bounds(vocabulary: Vocabulary, ids: Ids, parts: Sequence[int]) -> NDArray[np.integer[Any]]:
    """Returns where each sequence begins, and where the last one ends."""
    if vocabulary.framing == "lines":
        return line_bounds(ids, vocabulary.boundary_id)
    return np.array([*parts, len(ids)])


def read_context(
    mixture: Mixture, ids: Ids, state: MixtureState, *, symbols: int = CONTEXT_SYMBOLS
) -> tuple[list[Reading], MixtureState]:
    """Reads a text, ids (N,), or B texts of the same length, ids (N, B), however long, so many symbols at once.

    Returns:
        What each expert has read at the last symbol, (B, ·), and the state; N is at least 1.
    """
    columns = ids.reshape(len(ids), -1)
    for start in range(0, len(ids), symbols):
        readings, state = mixture.advance(columns[start : start + symbols], state)
    return [reading[-1] for reading in readings], state


def window_log_probs(
    mixture: Mixture,
    inputs: Ids,
    targets: Ids,
    state: MixtureState,
    *,
    read_out: ReadOut | None = None,
    max_numbers: int = MAX_NUMBERS,
) -> tuple[LogProbs, MixtureState]:
    """The one place where log-probabilities are made.

    Args:
        mixture: the model.
        inputs: ids, shape (B, T).
        targets: the ids that follow, shape (B, T); where `IGNORE`, the result is 0.
        state: before the first step.
        read_out: what is made of each place; None: `Mixture.target_log_probs`.
        max_numbers: so many logits are held at once, of each expert.

    Returns:
        Log-probabilities in nats, shape (B, T), or what else `read_out` makes, (B, T, K), and the state after the
        last step.
    """
    B, T = inputs.shape
    read_out = read_out or mixture.target_log_probs
    result = np.zeros((B, T))
    window = max(1, max_numbers // (B * mixture.network.vocabulary_size))
    for start in range(0, T, window):
        part = slice(start, start + window)
        readings, state = mixture.advance(inputs[:, part].T, state)
        found = read_out(readings, targets[:, part].T).swapaxes(0, 1)
        if start == 0:
            result = np.zeros((B, T, *found.shape[2:]))
        result[:, part] = found
    return result, state
