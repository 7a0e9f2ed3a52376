"""The cells in NumPy, one step at a time, for scoring and writing.

A step of one text is small: what takes the time is not arithmetic but calls. NumPy's cost half of torch's, its
product of a vector and a matrix takes half the time of torch's as well, and all buffers are made once. So the cells
are written out here once more, over the same weights:

    gates       σ(a) = (1 + tanh(a/2)) / 2: with the half in the weights, one tanh makes all gates
    many texts  are the rows of the same arrays

`tests/model/test_inference.py` holds each cell against its equations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]  # floats, of the network's own type
State = tuple[Array, ...]  # each (B, H): (s,) or for the LSTM (s, c)


class Layer(Protocol):
    """The recurrence of one layer, its state and its buffers.

    Attributes:
        gates: G, how many blocks of H rows the weights have.
        states: how many arrays a state has.
    """

    gates: ClassVar[int]
    states: ClassVar[int]

    def __init__(self, weight: Array, bias_hh: Array | None, state: State) -> None:
        """Takes Wᵀ, (H, G·H), of W as `arranged` gives it, b' as it is, and the state, which is not changed."""

    @staticmethod
    def arranged(weight: Array) -> Array:
        """Returns G·H rows in the order and scale that `step` wants."""
        ...

    @staticmethod
    def outer(bias_hh: Array) -> Array:
        """Returns what of b', shape (G·H,), can be added to the input beforehand."""
        ...

    def step(self, x: Array) -> Array:
        """Maps the input x (B, G·H) to s_t (B, H), which is valid until the next step."""
        ...

    def state(self) -> State:
        """Returns the state after the last step; the next step changes it."""
        ...


def _arranged(weight: Array, blocks: Sequence[tuple[int, float]]) -> Array:
    """Picks blocks of rows, each scaled; there are as many blocks as are picked."""
    split = np.split(weight, len(blocks))
    return np.concatenate([split[block] * scale for block, scale in blocks])


class _Rnn:
    """s_t = tanh(x + W s_{t-1})."""

    gates: ClassVar = 1
    states: ClassVar = 1

    def __init__(self, weight: Array, bias_hh: Array | None, state: State) -> None:
        self._weight = weight
        self._s = state[0].copy()
        self._a = np.empty_like(self._s)

    @staticmethod
    def arranged(weight: Array) -> Array:
        return weight

    @staticmethod
    def outer(bias_hh: Array) -> Array:
        return bias_hh

    def step(self, x: Array) -> Array:
        np.dot(self._s, self._weight, out=self._a)
        np.add(self._a, x, out=self._a)
        return np.tanh(self._a, out=self._s)

    def state(self) -> State:
        return (self._s,)


class _Lstm:
    """i, f, o, g from a = x + W s_{t-1}, here in this order; c_t = f ∘ c_{t-1} + i ∘ g; s_t = o ∘ tanh(c_t)."""

    gates: ClassVar = 4
    states: ClassVar = 2

    def __init__(self, weight: Array, bias_hh: Array | None, state: State) -> None:
        self._weight = weight
        self._s, self._c = (part.copy() for part in state)
        B, H = self._s.shape
        self._a = np.empty((B, 4 * H), self._s.dtype)
        self._ifo = self._a[:, : 3 * H]
        self._i, self._f, self._o, self._g = (self._a[:, k * H : (k + 1) * H] for k in range(4))

    @staticmethod
    def arranged(weight: Array) -> Array:
        return _arranged(weight, ((0, 0.5), (1, 0.5), (3, 0.5), (2, 1.0)))

    @staticmethod
    def outer(bias_hh: Array) -> Array:
        return bias_hh

    def step(self, x: Array) -> Array:
        s, c, a, g = self._s, self._c, self._a, self._g
        np.dot(s, self._weight, out=a)
        np.add(a, x, out=a)
        np.tanh(a, out=a)
        _halve_and_raise(self._ifo)
        np.multiply(self._f, c, out=c)
        np.multiply(self._i, g, out=g)
        np.add(c, g, out=c)
        np.tanh(c, out=s)
        return np.multiply(self._o, s, out=s)

    def state(self) -> State:
        return self._s, self._c


class _GruAfter:
    """r, z = σ(x + W s_{t-1}); h = tanh(x_n + r ∘ (W_h s_{t-1} + b'_h)); s_t = h + z ∘ (s_{t-1} - h)."""

    gates: ClassVar = 3
    states: ClassVar = 1

    def __init__(self, weight: Array, bias_hh: Array | None, state: State) -> None:
        self._weight = weight
        self._s = state[0].copy()
        B, H = self._s.shape
        self._bias_n = None if bias_hh is None else bias_hh[2 * H :]
        self._a = np.empty((B, 3 * H), self._s.dtype)
        self._rz, self._r, self._z, self._n = (
            self._a[:, start * H : end * H] for start, end in ((0, 2), (0, 1), (1, 2), (2, 3))
        )

    @staticmethod
    def arranged(weight: Array) -> Array:
        return _arranged(weight, ((0, 0.5), (1, 0.5), (2, 1.0)))

    @staticmethod
    def outer(bias_hh: Array) -> Array:
        b_r, b_z, b_n = np.split(bias_hh, 3)
        return np.concatenate((b_r, b_z, np.zeros_like(b_n)))  # the reset gate reaches b'_h

    def step(self, x: Array) -> Array:
        s, rz, n = self._s, self._rz, self._n
        H = s.shape[1]
        np.dot(s, self._weight, out=self._a)
        np.add(rz, x[:, : 2 * H], out=rz)
        np.tanh(rz, out=rz)
        _halve_and_raise(rz)
        if self._bias_n is not None:
            np.add(n, self._bias_n, out=n)
        np.multiply(n, self._r, out=n)
        np.add(n, x[:, 2 * H :], out=n)
        return _blend(s, np.tanh(n, out=n), self._z)

    def state(self) -> State:
        return (self._s,)


class _GruBefore:
    """r, z = σ(x + W s_{t-1}); h = tanh(x_n + W_h (r ∘ s_{t-1})); s_t = h + z ∘ (s_{t-1} - h)."""

    gates: ClassVar = 3
    states: ClassVar = 1

    def __init__(self, weight: Array, bias_hh: Array | None, state: State) -> None:
        self._s = state[0].copy()
        B, H = self._s.shape
        self._weight_rz, self._weight_n = weight[:, : 2 * H], weight[:, 2 * H :]
        self._rz = np.empty((B, 2 * H), self._s.dtype)
        self._r, self._z = self._rz[:, :H], self._rz[:, H:]
        self._q, self._n = np.empty_like(self._s), np.empty_like(self._s)

    @staticmethod
    def arranged(weight: Array) -> Array:
        return _arranged(weight, ((0, 0.5), (1, 0.5), (2, 1.0)))

    @staticmethod
    def outer(bias_hh: Array) -> Array:
        return bias_hh

    def step(self, x: Array) -> Array:
        s, rz, n = self._s, self._rz, self._n
        H = s.shape[1]
        np.dot(s, self._weight_rz, out=rz)
        np.add(rz, x[:, : 2 * H], out=rz)
        np.tanh(rz, out=rz)
        _halve_and_raise(rz)
        np.dot(np.multiply(self._r, s, out=self._q), self._weight_n, out=n)
        np.add(n, x[:, 2 * H :], out=n)
        return _blend(s, np.tanh(n, out=n), self._z)

    def state(self) -> State:
        return (self._s,)


def _halve_and_raise(gates: Array) -> None:
    """From tanh(a/2) to σ(a)."""
    np.multiply(gates, 0.5, out=gates)
    np.add(gates, 0.5, out=gates)


def _blend(s: Array, h: Array, z: Array) -> Array:
    """Writes (1 - z) ∘ h + z ∘ s into s."""
    np.subtract(s, h, out=s)
    np.multiply(s, z, out=s)
    return np.add(s, h, out=s)


# The NumPy form of each cell.
LAYERS: dict[str, type[Layer]] = {"rnn": _Rnn, "lstm": _Lstm, "gru": _GruAfter, "gru-before": _GruBefore}
