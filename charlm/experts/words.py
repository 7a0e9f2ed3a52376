"""Word contexts: counts of what follows the beginning of a word, after the words before it.

An n-gram sees the last few symbols; here the context is the word so far, however long it is, alone, with the word
before it, and with the two before it, small and capital letters alike. Between words the context is what stands
there so far. For texts without spaces nothing is gained, so the recipe asks for it only where words are parted.

A symbol is a letter if it is one, a digit, a mark, or one of _ and '. A text is thus cut into runs of letters and
runs of others. With r the symbols of the last run so far, and v the last whole words, all as hashes of 64 bits,

    r' = M r + x + 1,    key_1 = N (r + letter · L),    key_k = N ((key_{k-1} ^ key_{k-1} >> 29) + v_{k-1})

modulo 2^64, where r = 0 when a run begins; a context is known by the upper 32 bits of its key. Two of a million
contexts take each other's place in one case of four thousand.

Contexts that the training text has less than five times are left out. How the counts become probabilities is said
in `interpolated`: interpolated absolute discounting, down to the frequencies of single symbols.
"""

from __future__ import annotations

import ctypes
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from charlm import kernels
from charlm.config import ModelConfig
from charlm.experts.expert import Contexts, ExpertStep
from charlm.experts.interpolated import Interpolated, to_log_probs
from charlm.experts.ngram_tables import Ints, Table, Unsigned, check_followers, smallest, starts_of
from charlm.text.vocabulary import Ids, Vocabulary

LEVELS = 3  # the word so far, with the word before it, with the two before it

_LEAST_OCCURRENCES = 5  # of a context; those of two to four gain half a thousandth and take twice the room
_LETTER = 1 << 31  # of a class; the rest tells symbols apart
_RUN = 0x9E3779B97F4A7C15  # odd numbers whose bits look random, the same as in words.c
_KIND = 0xD1B54A32D192ED03
_NEXT = 0xBF58476D1CE4E5B9
_PIECE_SYMBOLS = 1 << 18  # read together
_PARTS_BITS = 4
_PARTS = 1 << _PARTS_BITS  # in which the contexts of a text are sorted

_Classes = NDArray[np.uint32]
_Keys = NDArray[np.uint32]
_States = NDArray[
    np.uint64
]  # (B, 4): the run so far, whether it is one of letters, the last word, the one before it


class WordModel(Interpolated):
    """Counts word contexts of sequences that each begin after `first_id`, and predicts others the same way.

    Its state is that of the runs and words (`words.c`); a reading says which of the known contexts each is. A
    mixture trusts it alike in all of them: how far it can be trusted is seen from the n-grams.

    Counting takes about 0.5 seconds for each million symbols, and 25 bytes for each symbol.

    Args:
        classes: of each symbol what tells it apart, in small and capital letters alike, and whether it is a letter,
            (V,).
        tables: single symbols, and what follows contexts of each length.
        keys: of the contexts of each length, ascending.
    """

    name: ClassVar[str] = "words"
    contexts = 1
    beginning = 0

    def __init__(self, classes: _Classes, tables: list[Table], keys: list[_Keys]) -> None:
        self.vocabulary_size = len(classes)
        self.tables = tables
        self._classes = classes
        self._keys = keys
        library = kernels.library()
        self._advance = None if library is None else library.charlm_words_advance
        self._known = (ctypes.c_void_p * LEVELS)(*(key.ctypes.data for key in keys))
        self._sizes = (ctypes.c_int64 * LEVELS)(*map(len, keys))

    @classmethod
    def is_wanted(cls, config: ModelConfig) -> bool:
        """Says whether `model.words` is set."""
        return config.words

    @classmethod
    def count(cls, config: ModelConfig, sequences: Sequence[Ids], vocabulary: Vocabulary) -> WordModel:
        """Counts what follows each context that occurs often enough."""
        del config
        V, first_id = len(vocabulary), vocabulary.boundary_id
        classes = find_classes(vocabulary)
        n = sum(map(len, sequences))
        keys, symbols = np.empty((LEVELS, n), np.uint32), np.empty(n, smallest(np.arange(V)).dtype)
        place = 0
        for sequence in sequences:
            state = np.zeros((1, 4), np.uint64)
            for begin in range(0, len(sequence), _PIECE_SYMBOLS):
                piece = sequence[begin : begin + _PIECE_SYMBOLS]
                before = np.concatenate(([sequence[begin - 1] if begin else first_id], piece[:-1]))
                there = slice(place, place + len(piece))
                keys[:, there], symbols[there] = read_keys(classes, before, state), piece
                place += len(piece)
        counts = np.bincount(symbols, minlength=V)
        tables = [Table(smallest(np.arange(V)), smallest(counts), np.array([0, V], np.uint32))]
        known = []
        for level in range(LEVELS):
            key, table = _count(keys[level], symbols)
            known.append(key)
            tables.append(table)
        return cls(classes, tables, known)

    def context_names(self) -> list[str]:
        """Returns what to call the one kind of context."""
        return [""]

    def initial_state(self, batch_size: int) -> _States:
        """Returns the state before the first symbol: nothing was read, (B, 4)."""
        return np.zeros((batch_size, 4), np.uint64)

    def join(self, states: Sequence[_States]) -> _States:
        """Returns states of (B_i, 4) as one of (Σ B_i, 4)."""
        return np.concatenate(states)

    def take(self, state: _States, rows: NDArray[np.intp]) -> _States:
        """Returns these rows of a state, (N, 4)."""
        return state.take(rows, 0)

    def advance(self, ids: Ids, state: _States) -> tuple[Ints, _States]:
        """Finds which known contexts stand after each symbol: ids (T, B) → (T, B, LEVELS + 1), and the state."""
        T, B = ids.shape
        state = state.copy()
        if self._advance is not None:
            readings = np.empty((T, B, LEVELS + 1), np.int64)
            symbols = np.ascontiguousarray(ids, np.int64)
            self._reader(symbols, state, readings)()
            return readings, state
        readings = np.zeros((T, B, LEVELS + 1), np.int64)
        for b in range(B):
            for level, keys in enumerate(read_keys(self._classes, ids[:, b], state[b : b + 1])):
                readings[:, b, level] = _places(self._keys[level], keys)
        return readings, state

    def context(self, reading: Ints) -> Contexts:
        """Returns the kind of context at each place, of which there is one: (N, LEVELS + 1) → (N,)."""
        return np.zeros(len(reading), np.int64)

    def make_step(self, state: _States) -> ExpertStep:
        """Returns a function that reads one symbol of each text and predicts the next."""
        kinds = np.zeros(len(state), np.int64)
        if self._advance is not None and self.kernel is not None:
            own, ids_read = state.copy(), np.empty((1, len(state)), np.int64)
            readings = np.empty((1, len(state), LEVELS + 1), np.int64)
            read, predict = self._reader(ids_read, own, readings), self.kernel.make_prediction(readings[0])

            def compiled(ids: NDArray[np.intp]) -> tuple[NDArray[np.float32], Contexts]:
                ids_read[0] = ids
                read()
                return to_log_probs(predict()), kinds

            return compiled

        def step(ids: NDArray[np.intp]) -> tuple[NDArray[np.float32], Contexts]:
            nonlocal state
            readings, state = self.advance(ids[None], state)
            return self.log_probs(readings[0]), kinds

        return step

    def _reader(self, ids: Ints, state: _States, readings: Ints) -> Callable[[], None]:
        """Returns a function that reads symbols, (T, B), goes on from the state in place, and writes readings."""
        assert self._advance is not None
        # `data_as` keeps the arrays in memory.
        arrays = (array.ctypes.data_as(ctypes.c_void_p) for array in (self._classes, ids, state))
        arguments = (*map(ctypes.c_int64, ids.shape), *arrays, self._known, self._sizes)
        return partial(self._advance, *arguments, readings.ctypes.data_as(ctypes.c_void_p))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Returns classes, keys and tables, for a file."""
        arrays: dict[str, NDArray[Any]] = {"classes": self._classes, "counts.0": self.tables[0].counts}
        for level, (key, table) in enumerate(zip(self._keys, self.tables[1:], strict=True), 1):
            arrays |= {f"contexts.{level}": key, f"children.{level}": smallest(np.diff(table.first))}
            arrays |= {f"symbols.{level}": table.symbols, f"counts.{level}": table.counts}
        return arrays

    @classmethod
    def from_arrays(
        cls, config: ModelConfig, arrays: Mapping[str, NDArray[Any]], vocabulary_size: int, first_id: int
    ) -> WordModel:
        """Makes an expert of what `arrays` gave, which may come from a stranger.

        Raises:
            ValueError: the arrays are no word contexts over so many symbols.
        """
        del config, first_id
        V = vocabulary_size
        parts = ("contexts", "children", "symbols", "counts")
        names = {"classes", "counts.0", *(f"{part}.{k}" for k in range(1, LEVELS + 1) for part in parts)}
        if set(arrays) != names:
            raise ValueError(f"tables are missing or unexpected: {', '.join(sorted(set(arrays) ^ names))}")
        if any(a.ndim != 1 or a.dtype not in (np.uint8, np.uint16, np.uint32) for a in arrays.values()):
            raise ValueError("a table is not a list of unsigned integers")
        classes, singles = arrays["classes"].copy(), arrays["counts.0"].copy()
        if classes.dtype != np.uint32 or not len(classes) == len(singles) == V:
            raise ValueError(f"the classes are not those of the {V} symbols of the vocabulary")
        tables = [Table(smallest(np.arange(V)), singles, np.array([0, V], np.uint32))]
        keys = []
        for level in range(1, LEVELS + 1):
            key, children, symbols, counts = (arrays[f"{part}.{level}"] for part in parts)
            if key.dtype != np.uint32 or len(key) != len(children) or symbols.dtype != tables[0].symbols.dtype:
                raise ValueError(f"the contexts of level {level} do not fit each other")
            if not (key[1:] > key[:-1]).all():
                raise ValueError(f"the contexts of level {level} are not in order")
            first = starts_of(children)
            symbols, counts = check_followers(symbols, counts, first, V, f"what follows words, level {level}")
            tables.append(Table(symbols, counts, first))
            keys.append(key.copy())
        return cls(classes, tables, keys)


def find_classes(vocabulary: Vocabulary) -> _Classes:
    """Returns of each symbol its character in lower case, and whether it is a letter, (V,).

    At byte level all bytes beyond ASCII are letters: they are parts of such, as a rule.
    """
    classes = np.zeros(len(vocabulary), np.uint32)
    for symbol, name in enumerate(vocabulary.symbols):
        if vocabulary.level == "byte" and symbol >= 0x80:
            classes[symbol] = symbol + _LETTER
        elif len(name) == 1:  # `<unk>` is no letter
            letter = name in "_'" or unicodedata.category(name)[0] in "LMN"
            classes[symbol] = ord(name.lower()[0]) + (_LETTER if letter else 0)
    return classes


def read_keys(classes: _Classes, ids: Ids, state: _States) -> _Keys:
    """Reads symbols of one text, ids (n,), and goes on from its state, (1, 4), in place.

    Returns:
        The keys of the contexts after each symbol, the shortest first, (LEVELS, n).
    """
    n = len(ids)
    if (library := kernels.library()) is not None:
        keys, symbols = np.empty((LEVELS, n), np.uint32), np.ascontiguousarray(ids, np.int64)
        arrays = (classes, symbols, state, keys)
        library.charlm_words_keys(ctypes.c_int64(n), *(ctypes.c_void_p(array.ctypes.data) for array in arrays))
        return keys
    return slow_keys(classes, ids, state)


def slow_keys(classes: _Classes, ids: Ids, state: _States) -> _Keys:
    """Does what `read_keys` does, without the compiled code.

    With P_t = Σ_{j≤t} (x_j + 1) M^-j, a run from s to t has the hash M^t (P_t - P_{s-1}), so that all are found at
    once.
    """
    n = len(ids)
    found, letters = classes[ids], classes[ids] >= _LETTER
    run, was_letter, word, older = (int(x) for x in state[0])
    forward = np.full(n + 1, _RUN, np.uint64)
    forward[0] = 1
    forward = np.multiply.accumulate(forward)  # M^t
    backward = np.full(n, pow(_RUN, -1, 1 << 64), np.uint64)
    backward[0] = 1
    backward = np.multiply.accumulate(backward)  # M^-t
    x = (found & np.uint32(_LETTER - 1)).astype(np.uint64) + np.uint64(1)
    sums = np.concatenate((np.zeros(1, np.uint64), (x * backward).cumsum(dtype=np.uint64)))  # P_{t-1}
    begins = letters != np.concatenate(([bool(was_letter)], letters[:-1]))
    starts = np.maximum.accumulate(np.where(begins, np.arange(n), 0))
    runs = (sums[1:] - sums[starts]) * forward[:n]  # (n,)
    first = begins.cumsum() == 0  # these go on with the run that was there
    runs[first] += np.uint64(run) * forward[1:][first]
    before = np.concatenate((np.array([run], np.uint64), runs[:-1]))
    ends = begins & ~letters
    words = np.concatenate((np.array([older, word], np.uint64), before[ends]))
    last = ends.cumsum() + 1  # which of `words` is the last whole one
    key = (runs + letters * np.uint64(_KIND)) * np.uint64(_NEXT)
    keys = [key >> np.uint64(32)]
    for back in range(LEVELS - 1):
        key = ((key ^ key >> np.uint64(29)) + words[last - back]) * np.uint64(_NEXT)
        keys.append(key >> np.uint64(32))
    state[0] = runs[-1], letters[-1], words[last[-1]], words[last[-1] - 1]
    return np.array(keys).astype(np.uint32)


def _places(known: _Keys, keys: _Keys) -> Ints:
    """Returns which of the known keys each is, -1 where it is none of them."""
    if not len(known):
        return np.full(len(keys), -1)
    found = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    places: Ints = np.where(known[found] == keys, found, -1)
    return places


def _count(keys: _Keys, symbols: Unsigned) -> tuple[_Keys, Table]:
    """Counts what follows each context, of its key and the symbol after it at each place.

    The keys are sorted in parts, so that this takes little memory beside them.
    """
    contexts, children, followers, counts = [], [], [], []
    for part in range(_PARTS):
        there = keys >> np.uint32(32 - _PARTS_BITS) == part
        pairs = keys[there].astype(np.uint64) << np.uint64(32) | symbols[there]
        pairs.sort()
        at = _changes(pairs)
        n = np.diff(at, append=len(pairs))
        context = (pairs[at] >> np.uint64(32)).astype(np.uint32)
        begins = _changes(context)
        often = np.add.reduceat(n, begins) >= _LEAST_OCCURRENCES if len(begins) else np.zeros(0, np.bool_)
        different = np.diff(begins, append=len(context))
        kept = np.repeat(often, different)
        contexts.append(context[begins[often]])
        children.append(smallest(different[often]))
        followers.append((pairs[at[kept]] & np.uint64(0xFFFFFFFF)).astype(symbols.dtype))
        counts.append(smallest(n[kept]))
    table = Table(np.concatenate(followers), smallest(np.concatenate(counts)), starts_of(np.concatenate(children)))
    return np.concatenate(contexts), table


def _changes(values: NDArray[Any]) -> Ints:
    """Returns the places at which ascending values are not what they were before; the first is one of them."""
    found: Ints = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1]))[: len(values)])
    return found
