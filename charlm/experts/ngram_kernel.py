"""The compiled n-grams, `kernels/ngrams.c`, over the tables of a model."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm import kernels
from charlm.experts.ngram_tables import Ints, Table, discount


class _Table(ctypes.Structure):
    """`Table` of ngrams.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("first", "symbols", "counts", "opening_counts")),
        *((name, ctypes.c_int64) for name in ("symbol_bytes", "count_bytes", "opening_bytes")),
        *((name, ctypes.c_int64) for name in ("opening_row", "opening_context", "opening_contexts")),
        *((name, ctypes.c_double * 4) for name in ("discounts", "opening_discounts")),
    )


class NgramKernel:
    """Calls `ngrams.c`, which reads tables where they lie.

    Args:
        tables: of a model, all orders.
        lowest: the probability of each symbol where no context is known, (V,).
        library: the compiled code.
    """

    def __init__(self, tables: Sequence[Table], lowest: NDArray[np.float32], library: ctypes.CDLL) -> None:
        self._tables, self._lowest = tables, np.ascontiguousarray(lowest, np.float32)  # whose memory it reads
        self._structures = (_Table * len(tables))(*map(_describe, tables))
        self._advance = library.charlm_ngrams_advance
        self._distributions = library.charlm_ngrams_distributions
        self._advance.restype = self._distributions.restype = None

    def advance(self, ids: Ints, state: Ints, most: int) -> Ints:
        """Reads symbols, (T, B), from a state (B, K + 1); returns the readings, (T, B, K + 1).

        Args:
            ids: each below V.
            state: see `NgramModel.advance`.
            most: up to which number symbols are counted.
        """
        T, B = ids.shape
        K = len(self._tables) - 1
        ids, state = np.ascontiguousarray(ids), np.ascontiguousarray(state)
        assert state.shape == (B, K + 1)
        assert ids.dtype == state.dtype == np.int64
        readings = np.empty((T, B, K + 1), np.int64)
        numbers = map(ctypes.c_int64, (T, B, K, most))
        self._advance(*numbers, self._structures, _address(ids), _address(state), _address(readings))
        return readings

    def distributions(self, readings: Ints) -> NDArray[np.float32]:
        """Returns the probability of every symbol after each place: (N, K + 1) → (N, V)."""
        return self.make_prediction(np.ascontiguousarray(readings))()

    def make_prediction(self, readings: Ints) -> Callable[[], NDArray[np.float32]]:
        """Returns a function that does what `distributions` does, of what stands in `readings` when it is called.

        Its result, (N, V), is valid until the next call.
        """
        N, K, V = len(readings), len(self._tables) - 1, len(self._lowest)
        assert readings.shape == (N, K + 1)
        assert readings.dtype == np.int64
        p, lengths = np.empty((N, V), np.float32), np.empty(N, np.int64)
        arrays = self._lowest, readings, p, lengths
        arguments = (*map(ctypes.c_int64, (N, K, V)), self._structures, *(_address(array) for array in arrays))

        def predict() -> NDArray[np.float32]:
            self._distributions(*arguments)
            return arrays[2]  # which keeps all of them in memory

        return predict

    def make_step(self, state: Ints, most: int) -> Callable[[Ints], tuple[NDArray[np.float32], Ints, Ints]]:
        """Returns a function that reads one symbol of each text and predicts the next; what it needs is made once.

        It maps ids (B,) to probabilities (B, V), the lengths of the longest known contexts (B,), and the state
        (B, K + 1): all valid until the next call. Arguments as in `advance`.
        """
        B, K, V = len(state), len(self._tables) - 1, len(self._lowest)
        states, turn = np.stack((state, state)), 0  # the one that is read, and the one that is written
        ids, lengths, p = np.empty(B, np.int64), np.empty(B, np.int64), np.empty((B, V), np.float32)
        numbers = [*map(ctypes.c_int64, (1, B, K, most)), self._structures, _address(ids)]
        reads = [(*numbers, _address(states[k]), _address(states[1 - k])) for k in (0, 1)]
        numbers = [*map(ctypes.c_int64, (B, K, V)), self._structures, _address(self._lowest)]
        predictions = [(*numbers, _address(states[1 - k]), _address(p), _address(lengths)) for k in (0, 1)]

        def step(symbols: Ints) -> tuple[NDArray[np.float32], Ints, Ints]:
            nonlocal turn
            ids[:] = symbols
            self._advance(*reads[turn])
            self._distributions(*predictions[turn])
            turn = 1 - turn
            return p, lengths, states[turn]

        return step


def compile_ngrams(tables: Sequence[Table], lowest: NDArray[np.float32]) -> NgramKernel | None:
    """Returns what calls the compiled code, see `NgramKernel`; None where there is no compiler."""
    library = kernels.library()
    return None if library is None else NgramKernel(tables, lowest, library)


def _describe(table: Table) -> _Table:
    opening = table.opening
    structure = _Table(
        first=table.first.ctypes.data,
        symbols=table.symbols.ctypes.data,
        counts=table.counts.ctypes.data,
        symbol_bytes=table.symbols.itemsize,
        count_bytes=table.counts.itemsize,
        discounts=tuple(discount(table.counts)),
    )
    if opening is not None:
        structure.opening_counts = opening.counts.ctypes.data
        structure.opening_bytes = opening.counts.itemsize
        structure.opening_row, structure.opening_context = opening.row, opening.context
        structure.opening_contexts = len(opening.first) - 1
        structure.opening_discounts = tuple(discount(opening.counts))
    return structure


def _address(array: NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
