"""Reading with memory: texts in their order, their static predictions, and what memory adds to them.

A memory goes on from line to line, and from part to part of a stream, though the state of the mixture begins anew
at each: it is one text that is read, as `dynamic` reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.experts.expert import Contexts, Reading
from charlm.experts.expert import LogProbs as Logits
from charlm.experts.memory import CONTEXTS, LARGEST_POWER, Memory, MemoryState, known_lengths, log_probs
from charlm.experts.mixture import Mixture, MixtureState, log_softmax_at
from charlm.experts.powers import find_powers
from charlm.scoring.log_probs import MAX_NUMBERS, LogProbs, cut_sequences
from charlm.text.batches import IGNORE, pad_lines
from charlm.text.corpus import Split
from charlm.text.vocabulary import Ids, Vocabulary

FITTED_SYMBOLS = 1 << 15  # of the validation split, read for the powers; twice as many gain 0.001 nats

_BEGINNING_SYMBOLS = 128  # of a text that begins anew
_MOST_BEGINNINGS = 64
_PRIOR = 30.0  # strength of the pull of a pair of kinds towards what suits each of the two
_FITTED_NUMBERS = 1 << 24  # probabilities of each factor in memory
_SHORT_SYMBOLS = 512  # sequences up to here are laid side by side
_MOST_SHORT = 64  # at once
_WINDOW_SYMBOLS = 4096  # of a long sequence, read together


class Piece(NamedTuple):
    """A piece of a text that is read in its order, and what a mixture predicts there without memory.

    Attributes:
        readings: of each expert, (n, ·).
        symbols: that came, (n,).
        begins: whether each is the first of its sequence, (n,).
    """

    readings: list[Reading]
    symbols: Ids
    begins: NDArray[np.bool_]


class Remembering:
    """Reads one text, from piece to piece, with a memory of it.

    Args:
        vocabulary_size: V.
        first_id: the symbol before the first of each sequence.
    """

    def __init__(self, vocabulary_size: int, first_id: int) -> None:
        self.vocabulary_size = vocabulary_size
        self.first_id = first_id
        self.memory = Memory(vocabulary_size)

    def read(self, symbols: Ids, begins: NDArray[np.bool_]) -> tuple[Logits, Contexts]:
        """Predicts each symbol, then counts it; returns log p of every symbol (n, V), and the kinds of context."""
        recalled = []
        for symbol, begin in zip(symbols.tolist(), begins.tolist(), strict=True):
            if begin:
                self.memory.begin()
                self.memory.read(self.first_id)
            recalled.append(self.memory.recall())
            self.memory.read(symbol)
        return log_probs(recalled, self.vocabulary_size), known_lengths(recalled)


class PowersOfMemory:
    """Finds how far a mixture and a memory are trusted in each pair of kinds, from what both say of a text.

    Args:
        kinds: how many kinds of context the mixture has.
        unknown_id: a symbol that does not count, if there is one: what `<unk>` stands for differs between texts.
    """

    def __init__(self, kinds: int, unknown_id: int | None) -> None:
        self._kinds = kinds
        self._unknown_id = unknown_id
        self._parts: list[tuple[Logits, Logits, Contexts, Ids]] = []

    def add(self, logits: Logits, kinds: Contexts, recalled: tuple[Logits, Contexts], symbols: Ids) -> None:
        """Takes over some places.

        Args:
            logits: of the mixture, up to a constant of each row, (n, V).
            kinds: of the mixture's contexts, (n,).
            recalled: what `Remembering.read` returns there.
            symbols: that came, (n,).
        """
        remembered, known = recalled
        counts = np.ones(len(symbols), np.bool_) if self._unknown_id is None else symbols != self._unknown_id
        part = (logits, remembered, kinds * CONTEXTS + known, symbols)
        self._parts.append(tuple(each[counts] for each in part))

    def find(self) -> NDArray[np.float32] | None:
        """Returns the powers, (kinds · CONTEXTS, 2); None: nothing was added."""
        if not sum(len(symbols) for *_, symbols in self._parts):
            return None
        logits, remembered, pairs, symbols = (np.concatenate(each) for each in zip(*self._parts, strict=True))
        find = partial(find_powers, [logits, remembered])
        # There are hundreds of pairs of kinds, many of them rare: these stay between what suits the one kind and
        # what suits the other, in whatever pair; and a rare kind stays at what suits all of the text.
        everywhere = find(np.zeros(len(pairs), np.int64), symbols, 1)  # (1, 2)
        of_mixture, of_memory = (
            find(kinds, symbols, count, trust=everywhere.repeat(count, 0))  # (count, 2)
            for kinds, count in ((pairs // CONTEXTS, self._kinds), (pairs % CONTEXTS, CONTEXTS))
        )
        trust = ((of_mixture[:, None] + of_memory) / 2).reshape(-1, 2)
        powers = find(pairs, symbols, self._kinds * CONTEXTS, trust=trust, prior=_PRIOR)
        powers[::CONTEXTS] = 1, 0  # where memory knows nothing, all is as it is without it
        return np.minimum(powers, LARGEST_POWER).astype(np.float32)


def fit_memory(mixture: Mixture, vocabulary: Vocabulary, validation: Split, *, most: int = FITTED_SYMBOLS) -> None:
    """Sets the powers of a memory beside a mixture to the likeliest on the beginning of a held-out text.

    Args:
        mixture: all of it but `memory_powers` stays as it is; these do so as well if the text is empty.
        vocabulary: the mixture's.
        validation: the text.
        most: so many symbols are read; of large vocabularies not every one of them counts. In stream framing so
            are short texts that begin inside them, from the zero state, as a document or a sample begins.
    """
    first_id, V = vocabulary.boundary_id, len(vocabulary)
    sequences, left = [], most
    for sequence in cut_sequences(vocabulary, validation.ids, validation.parts):
        sequences.append(sequence[:left])
        left -= len(sequences[-1])
        if left <= 0:
            break
    stride = -(-sum(map(len, sequences)) * V // _FITTED_NUMBERS) or 1
    powers = PowersOfMemory(len(mixture.powers), vocabulary.unknown_id)
    beginnings = [] if vocabulary.framing == "lines" else _beginnings(sequences, first_id)
    for text in (sequences, *([beginning] for beginning in beginnings)):
        remembering = Remembering(V, first_id)
        for piece in read_in_order(mixture, text, first_id):
            remembered, known = remembering.read(piece.symbols, piece.begins)
            readings = [reading[::stride] for reading in piece.readings]
            recalled = remembered[::stride].copy(), known[::stride]
            powers.add(mixture.logits(readings), kinds_of(mixture, readings), recalled, piece.symbols[::stride])
    found = powers.find()
    if found is not None:
        mixture.memory_powers = found


def _beginnings(sequences: Sequence[Ids], boundary_id: int) -> list[Ids]:
    """Returns what follows the boundary here and there: short texts, of which there is nothing to remember yet."""
    found = []
    for sequence in sequences:
        places = np.flatnonzero(sequence == boundary_id) + 1
        found += [sequence[place : place + _BEGINNING_SYMBOLS] for place in places.tolist()]
    chosen = np.unique(np.linspace(0, len(found) - 1, min(len(found), _MOST_BEGINNINGS)).astype(int))
    return [found[i] for i in chosen.tolist() if len(found[i])]


def evaluate_memory(mixture: Mixture, vocabulary: Vocabulary, split: Split) -> float:
    """Returns the nats per character, with memory, over the very symbols that `evaluate` scores.

    Args:
        mixture: one that has powers for a memory.
        vocabulary: the mixture's.
        split: the text.
    """
    assert mixture.memory_powers is not None
    text = Remembering(len(vocabulary), vocabulary.boundary_id)
    sequences = cut_sequences(vocabulary, split.ids, split.parts)
    nats = 0.0
    for piece in read_in_order(mixture, sequences, vocabulary.boundary_id):
        recalled = text.read(piece.symbols, piece.begins)
        logits, kinds = mixture.logits(piece.readings), kinds_of(mixture, piece.readings)
        nats -= float(joint_log_probs(mixture.memory_powers, logits, kinds, recalled, piece.symbols).sum())
    return nats / split.characters


def joint_log_probs(
    powers: NDArray[np.float32], logits: Logits, kinds: Contexts, recalled: tuple[Logits, Contexts], symbols: Ids
) -> LogProbs:
    """Returns the log-probability (nats) of the symbols that came, by a mixture and a memory together, (n,).

    Args:
        powers: as `PowersOfMemory.find` gives them.
        logits: see `PowersOfMemory.add`, and so are the others.
        kinds: (n,).
        recalled: (n, V) and (n,).
        symbols: (n,).
    """
    remembered, known = recalled
    weights = powers[kinds * CONTEXTS + known]  # (n, 2)
    return log_softmax_at(weights[:, :1] * logits + weights[:, 1:] * remembered, symbols).astype(np.float64)


def kinds_of(mixture: Mixture, readings: Sequence[Reading]) -> Contexts:
    """Returns the kind of context at each place, (n,), of what each expert has read there, (n, ·)."""
    return mixture.kinds([expert.context(own) for expert, own in zip(mixture.experts, readings, strict=True)])


def read_in_order(mixture: Mixture, sequences: Sequence[Ids], first_id: int) -> Iterator[Piece]:
    """Yields what a mixture reads before each symbol of a text, in its order.

    Args:
        mixture: its state is the initial one at the beginning of each sequence.
        sequences: ids, (n_i,); short ones that stand together are read side by side.
        first_id: the symbol read before the first of each.
    """
    window = max(1, min(_WINDOW_SYMBOLS, MAX_NUMBERS // mixture.network.vocabulary_size))
    short: list[Ids] = []
    for sequence in sequences:
        if len(sequence) <= min(_SHORT_SYMBOLS, window):
            if sum(map(len, short)) + len(sequence) > window or len(short) == _MOST_SHORT:
                yield from _read_side_by_side(mixture, short, first_id)
                short = []
            short.append(sequence)
            continue
        yield from _read_side_by_side(mixture, short, first_id)
        short = []
        state = mixture.initial_state(1)
        inputs = np.append(np.array([first_id], np.int32), sequence[:-1])
        for start in range(0, len(sequence), window):
            part = slice(start, start + window)
            readings, state = mixture.advance(inputs[part, None], state)
            begins = np.arange(start, min(start + window, len(sequence))) == 0
            yield Piece([reading[:, 0] for reading in readings], sequence[part], begins)
    yield from _read_side_by_side(mixture, short, first_id)


def _read_side_by_side(mixture: Mixture, sequences: Sequence[Ids], first_id: int) -> Iterator[Piece]:
    """Yields one piece: all of several sequences, one behind the other."""
    filled = [sequence for sequence in sequences if len(sequence)]
    if not filled:
        return
    inputs, targets = pad_lines(filled, first_id)
    readings, _ = mixture.advance(inputs.T, mixture.initial_state(len(filled)))
    real = targets != IGNORE  # (B, T)
    begins = np.zeros(targets.shape, np.bool_)
    begins[:, 0] = True
    yield Piece([reading.swapaxes(0, 1)[real] for reading in readings], targets[real], begins[real])


def remember_lines(mixture: Mixture, vocabulary: Vocabulary, ids: Ids, state: MixtureState) -> MixtureState:
    """Returns a state in which memory has read lines, each from its beginning, and the other experts have not.

    Args:
        mixture: one with memory, see `experts.memory.remember`.
        vocabulary: the mixture's.
        ids: the lines, each with its end, (N,).
        state: of one text.
    """
    *others, memories = state
    (memory,) = memories.take()
    for line in cut_sequences(vocabulary, ids):
        memory.begin()
        for symbol in (vocabulary.boundary_id, *line.tolist()):
            memory.read(symbol)
    memory.begin()
    return [*others, MemoryState([memory])]
