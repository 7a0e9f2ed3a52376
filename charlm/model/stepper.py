"""One step of a whole network at a time, for writing, where each symbol has to wait for the one before.

A step of one text is small: what takes the time is not arithmetic but calls. NumPy's cost half of torch's, its
product of a vector and a matrix takes half the time of torch's as well, and all buffers are made once. So on the
CPU the cells are written out here once more, over the same weights:

    input       U x_t + b is looked up: row v of a table is what symbol v brings, the embedding multiplied out
    gates       σ(a) = (1 + tanh(a/2)) / 2: with the half in the weights, one tanh makes all gates
    many texts  are the rows of the same arrays

`tests/model/test_stepper.py` holds each cell against its equations. Another device, or a cell that has no such
step, goes through the network itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlm.cells import State
from charlm.model.network import CharacterModel, NetworkState

Array = NDArray[Any]  # floats, of the network's own type
Step = Callable[[NDArray[np.intp]], Array]

TABLE_NUMBERS = 1 << 20  # at most so many of U's are looked up from a table made at once; others as symbols come up


def make_step(
    network: CharacterModel,
    state: NetworkState,
    *,
    layers: Mapping[str, type[Layer]] | None = None,
    table_numbers: int = TABLE_NUMBERS,
) -> Step:
    """Returns a function that reads one symbol of each text, ids (B,), and gives the logits of the next, (B, V).

    The result is the caller's until the next call. Weights are read now: later changes of the network do not count.

    Args:
        network: dropout is not applied.
        state: of B texts, from the symbols before; not changed.
        layers: the NumPy form of cells by name; None: `LAYERS`. Other cells go through the network itself.
        table_numbers: how many numbers a table of inputs may have that is made at once.
    """
    kind = (LAYERS if layers is None else layers).get(network.config.cell)
    if kind is None or network.device.type != "cpu":
        return _network_step(network, state)
    return _numpy_step(network, state, kind, table_numbers)


def _network_step(network: CharacterModel, state: NetworkState) -> Step:
    def step(ids: NDArray[np.intp]) -> Array:
        nonlocal state
        with torch.inference_mode():
            logits, state = network(torch.from_numpy(ids)[None].to(network.device), state)  # (1, B, V)
            result: Array = logits[0].cpu().numpy()
        return result

    return step


def _numpy_step(network: CharacterModel, state: NetworkState, kind: type[Layer], table_numbers: int) -> Step:
    B = len(state[0][0])
    recurrent = network.recurrent
    read: list[_Table | _Product] = []
    layers: list[Layer] = []
    for number, before in enumerate(state):
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weight_ih, weight_hh, bias_ih, bias_hh = (_array(recurrent.parameter(name, number)) for name in names)
        assert weight_ih is not None
        assert weight_hh is not None
        bias = None
        if bias_ih is not None and bias_hh is not None:
            bias = kind.arranged(bias_ih + kind.outer(bias_hh))
        if number == 0:
            embedding = None if network.embedding is None else _array(network.embedding.weight)
            read.append(_Table(kind.arranged(weight_ih), bias, embedding, B, table_numbers))
        else:
            read.append(_Product(kind.arranged(weight_ih), bias, B))
        layers.append(kind(kind.arranged(weight_hh), bias_hh, before))
    linear = [network.output] if network.projection is None else [network.projection, network.output]
    products = [_Product(each.weight.detach().numpy(), _array(each.bias), B) for each in linear]

    def step(ids: NDArray[np.intp]) -> Array:
        s: Array = ids
        for x, layer in zip(read, layers, strict=True):
            s = layer.step(x(s))
        for product in products:
            s = product(s)
        return s

    return step


def _array(weight: Tensor | None) -> Array | None:
    return None if weight is None else weight.detach().numpy()


class _Table:
    """U x_t + b of the first layer, by lookup.

    Args:
        weight: U, shape (G·H, V), or with an embedding (G·H, K).
        bias: shape (G·H,), or None.
        embedding: shape (V, K), or None.
        batch_size: B.
        numbers: a larger table is filled as symbols come up.
    """

    def __init__(
        self, weight: Array, bias: Array | None, embedding: Array | None, batch_size: int, numbers: int
    ) -> None:
        self._weight, self._bias, self._embedding = weight, bias, embedding
        V = weight.shape[1] if embedding is None else len(embedding)
        self._rows = np.empty((V, len(weight)), weight.dtype)
        self._missing = np.ones(V, np.bool_)
        self._complete = False
        self._x = np.empty((batch_size, len(weight)), weight.dtype)
        if self._rows.size <= numbers:
            self._fill(np.arange(V))
            self._complete = True

    def __call__(self, ids: NDArray[np.intp]) -> Array:
        if not self._complete and (missing := ids[self._missing[ids]]).size:
            self._fill(missing)
        return self._rows.take(ids, axis=0, out=self._x, mode="clip")  # to raise, it would fill a copy first

    def _fill(self, ids: NDArray[np.intp]) -> None:
        rows = self._weight.T[ids] if self._embedding is None else self._embedding[ids] @ self._weight.T
        self._rows[ids] = rows if self._bias is None else rows + self._bias
        self._missing[ids] = False


class _Product:
    """Weights times a vector plus bias, for each row; the weights (N, H), the result (B, N)."""

    def __init__(self, weight: Array, bias: Array | None, batch_size: int) -> None:
        self._weight = np.ascontiguousarray(weight.T)
        self._bias = bias
        self._result = np.empty((batch_size, len(weight)), weight.dtype)

    def __call__(self, s: Array) -> Array:
        np.dot(s, self._weight, out=self._result)
        if self._bias is not None:
            np.add(self._result, self._bias, out=self._result)
        return self._result


class Layer(Protocol):
    """The recurrence of one layer, its state and its buffers."""

    def __init__(self, weight_hh: Array, bias_hh: Array | None, state: State) -> None:
        """Takes W as `arranged` gives it, and b' as it is."""

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


def _arranged(weight: Array, blocks: Sequence[tuple[int, float]]) -> Array:
    """Picks blocks of rows, each scaled; there are as many blocks as are picked."""
    split = np.split(weight, len(blocks))
    return np.concatenate([split[block] * scale for block, scale in blocks])


def _start(part: Tensor) -> Array:
    return np.array(part.detach().numpy())


class _Rnn:
    """s_t = tanh(x + W s_{t-1})."""

    def __init__(self, weight_hh: Array, bias_hh: Array | None, state: State) -> None:
        self._weight = np.ascontiguousarray(weight_hh.T)  # (H, H)
        self._s = _start(state[0])
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


class _Lstm:
    """i, f, o, g from a = x + W s_{t-1}, here in this order; c_t = f ∘ c_{t-1} + i ∘ g; s_t = o ∘ tanh(c_t)."""

    def __init__(self, weight_hh: Array, bias_hh: Array | None, state: State) -> None:
        self._weight = np.ascontiguousarray(weight_hh.T)  # (H, 4H)
        self._s, self._c = map(_start, state)
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


class _GruAfter:
    """r, z = σ(x + W s_{t-1}); h = tanh(x_n + r ∘ (W_h s_{t-1} + b'_h)); s_t = h + z ∘ (s_{t-1} - h)."""

    def __init__(self, weight_hh: Array, bias_hh: Array | None, state: State) -> None:
        self._weight = np.ascontiguousarray(weight_hh.T)  # (H, 3H)
        self._s = _start(state[0])
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


class _GruBefore:
    """r, z = σ(x + W s_{t-1}); h = tanh(x_n + W_h (r ∘ s_{t-1})); s_t = h + z ∘ (s_{t-1} - h)."""

    def __init__(self, weight_hh: Array, bias_hh: Array | None, state: State) -> None:
        self._s = _start(state[0])
        B, H = self._s.shape
        self._weight_rz = np.ascontiguousarray(weight_hh[: 2 * H].T)  # (H, 2H)
        self._weight_n = np.ascontiguousarray(weight_hh[2 * H :].T)  # (H, H)
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
