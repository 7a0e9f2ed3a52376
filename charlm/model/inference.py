"""The network over NumPy arrays: what scores and writes on a CPU, without torch.

The weights are those of `model.network`, by its names. A window of several steps goes through the compiled kernels
(`kernels`); without them, and for a step or two, through the cells in NumPy (`numpy_cells`):

    input    U x_t + b is looked up: row v of a table is what symbol v brings, the embedding multiplied out
    output   o_t = softmax(V_o s_t + b_o), with a factored output V_o P s_t

Arrays are time-major, (T, B, ·), and nothing of a text depends on the texts beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm import kernels
from charlm.config import ModelConfig
from charlm.model.numpy_cells import LAYERS, Array, State
from charlm.text.vocabulary import Ids

NetworkState = list[State]  # one for each layer
Step = Callable[[NDArray[np.intp]], Array]

TABLE_NUMBERS = 1 << 20  # a larger table of inputs is not made at once, but row by row as symbols come up
MIN_STEPS = 4  # a kernel packs the weights anew at each call, which a window of a step or two does not pay back


def has_cell(name: str) -> bool:
    """Says whether networks of this cell are computed here."""
    return name in LAYERS


def weight_shapes(vocabulary_size: int, config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every weight of a network, by the names that `model.network` gives them."""
    V, H, K, R = vocabulary_size, config.hidden_size, config.embedding_size, config.output_rank
    rows = LAYERS[config.cell].gates * H
    shapes: dict[str, tuple[int, ...]] = {} if K is None else {"embedding.weight": (V, K)}
    for layer in range(config.num_layers):
        shapes[f"recurrent.weight_ih_l{layer}"] = (rows, H if layer else K or V)
        shapes[f"recurrent.weight_hh_l{layer}"] = (rows, H)
        for name in ("bias_ih", "bias_hh") if config.bias else ():
            shapes[f"recurrent.{name}_l{layer}"] = (rows,)
    if R is not None:
        shapes["projection.weight"] = (R, H)
    shapes["output.weight"] = (V, R or H)
    if config.bias:
        shapes["output.bias"] = (V,)
    return shapes


class _LayerWeights(NamedTuple):
    """The weights of one layer, as PyTorch names and orders them."""

    weight_ih: Array
    weight_hh: Array
    bias_ih: Array | None
    bias_hh: Array | None


class _StepWeights(NamedTuple):
    """The weights of one layer, as its NumPy form takes them: Uᵀ or a table of it, Wᵀ, and b'."""

    inputs: _Table | _Product
    weight: Array
    bias_hh: Array | None


class InferenceNetwork:
    """A network that is read from: no dropout, no gradients, and weights that do not change.

    Args:
        config: the `model` section of the configuration, of a cell that `has_cell` knows.
        weights: by name, all of one floating type; see `weight_shapes`.
        table_numbers: how many numbers a table of inputs may have that is made at once.
        min_steps: shorter windows go through the cells in NumPy.
    """

    def __init__(
        self,
        config: ModelConfig,
        weights: Mapping[str, Array],
        *,
        table_numbers: int = TABLE_NUMBERS,
        min_steps: int = MIN_STEPS,
    ) -> None:
        self.config = config
        self.weights = weights
        self._kind = LAYERS[config.cell]
        self._table_numbers = table_numbers
        self._min_steps = min_steps

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return len(self.weights["output.weight"])

    def initial_state(self, batch_size: int) -> NetworkState:
        """Returns the zero state of B texts: for each layer arrays of shape (B, H)."""
        shape, dtype = (batch_size, self.config.hidden_size), self.weights["output.weight"].dtype
        return [
            tuple(np.zeros(shape, dtype) for _ in range(self._kind.states)) for _ in range(self.config.num_layers)
        ]

    def features(self, ids: Ids, state: NetworkState) -> tuple[Array, NetworkState]:
        """Runs all layers over all steps: ids (T, B) → what the softmax reads (T, B, R), and the last state."""
        s: Array = ids
        last: NetworkState = []
        by_kernel = (
            len(ids) >= self._min_steps
            and self.weights["output.weight"].dtype == np.float32
            and kernels.has_kernel(self.config.cell)
            and kernels.library() is not None
        )
        for layer, before in enumerate(state):
            s, after = (self._run_kernel if by_kernel else self._run_steps)(layer, s, before)
            last.append(after)
        projection = self.weights.get("projection.weight")
        return s if projection is None else s @ projection.T, last

    def logits(self, features: Array) -> Array:
        """Returns V_o s + b_o: (N, R) → (N, V)."""
        logits: Array = features @ self.weights["output.weight"].T
        return logits if (bias := self.weights.get("output.bias")) is None else np.add(logits, bias, out=logits)

    def make_step(self, state: NetworkState) -> Step:
        """Returns a function from one symbol of each text, ids (B,), to the logits of the next, (B, V).

        The result is the caller's until the next call.

        Args:
            state: of B texts, from the symbols before; not changed.
        """
        B = len(state[0][0])
        layers = [
            (weights.inputs.begin(B), self._kind(weights.weight, weights.bias_hh, before))
            for weights, before in zip(self._steps, state, strict=True)
        ]
        products = [product.begin(B) for product in self._output]

        def step(ids: NDArray[np.intp]) -> Array:
            s: Array = ids
            for inputs, layer in layers:
                s = layer.step(inputs(s))
            for product in products:
                s = product(s)
            return s

        return step

    def _run_kernel(self, layer: int, inputs: Array, before: State) -> tuple[Array, State]:
        """Runs a layer by the compiled kernels: ids (T, B) or vectors (T, B, H) → (T, B, H) and the last state."""
        weights = self._layer(layer)
        T, B, H = *inputs.shape[:2], self.config.hidden_size
        ids = None
        if layer == 0:
            if inputs.min() < 0 or inputs.max() >= self.vocabulary_size:
                raise IndexError(f"ids from {inputs.min()} to {inputs.max()}, and {self.vocabulary_size} symbols")
            if inputs.size < self.vocabulary_size:
                x = self._rows(inputs.reshape(-1))  # (T·B, G·H)
            else:
                x = self._rows(np.arange(self.vocabulary_size))  # (V, G·H)
                ids = np.ascontiguousarray(inputs, np.int64)
        else:
            x = inputs.reshape(T * B, H) @ weights.weight_ih.T
            if weights.bias_ih is not None:
                x += weights.bias_ih
        states = np.empty((T, B, H), np.float32)
        saved = np.empty((1, B, kernels.saved_numbers(self.config.cell) * H), np.float32)
        c = np.empty((B, H), np.float32) if len(before) == 2 else None
        s0, c0 = before if len(before) == 2 else (*before, None)
        given = [x, ids, weights.weight_hh, weights.bias_hh, s0, c0]
        arrays = [None if a is None else np.ascontiguousarray(a) for a in given]
        addresses = [None if a is None else a.ctypes.data for a in (*arrays, states, saved, c, None)]
        kernels.call(self.config.cell, "forward", (T, B, H, False, False), addresses)
        # A state of its own: a view would keep all of the window in memory.
        return states, (states[-1].copy(),) if c is None else (states[-1].copy(), c)

    def _run_steps(self, layer: int, inputs: Array, before: State) -> tuple[Array, State]:
        """Does the same by the cell in NumPy, one step after the other."""
        weights = self._steps[layer]
        x = weights.inputs.begin(inputs.shape[1])
        cell = self._kind(weights.weight, weights.bias_hh, before)
        states = np.empty((*inputs.shape[:2], self.config.hidden_size), weights.weight.dtype)
        for t, each in enumerate(inputs):
            states[t] = cell.step(x(each))
        return states, cell.state()

    def _layer(self, layer: int) -> _LayerWeights:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        ih, hh, *biases = (self.weights.get(f"recurrent.{name}_l{layer}") for name in names)
        assert ih is not None
        assert hh is not None
        return _LayerWeights(ih, hh, *biases)

    def _rows(self, ids: Ids) -> Array:
        """Returns what symbols bring to the first layer, U x + b of each: (N,) → (N, G·H)."""
        weights = self._layer(0)
        embedding = self.weights.get("embedding.weight")
        rows: Array = weights.weight_ih.T[ids] if embedding is None else embedding[ids] @ weights.weight_ih.T
        return rows if weights.bias_ih is None else rows + weights.bias_ih

    @cached_property
    def _steps(self) -> list[_StepWeights]:
        kind, result = self._kind, []
        for layer in range(self.config.num_layers):
            weight_ih, weight_hh, bias_ih, bias_hh = self._layer(layer)
            bias = None
            if bias_ih is not None and bias_hh is not None:
                bias = kind.arranged(bias_ih + kind.outer(bias_hh))
            inputs: _Table | _Product
            if layer == 0:
                embedding = self.weights.get("embedding.weight")
                inputs = _Table(kind.arranged(weight_ih), bias, embedding, self._table_numbers)
            else:
                inputs = _Product(kind.arranged(weight_ih), bias)
            result.append(_StepWeights(inputs, np.ascontiguousarray(kind.arranged(weight_hh).T), bias_hh))
        return result

    @cached_property
    def _output(self) -> list[_Product]:
        projection = self.weights.get("projection.weight")
        output = _Product(self.weights["output.weight"], self.weights.get("output.bias"))
        return [output] if projection is None else [_Product(projection, None), output]


class _Table:
    """U x_t + b of the first layer, by lookup.

    Args:
        weight: U, shape (G·H, V), or with an embedding (G·H, K).
        bias: shape (G·H,), or None.
        embedding: shape (V, K), or None.
        numbers: a larger table is filled as symbols come up.
    """

    def __init__(self, weight: Array, bias: Array | None, embedding: Array | None, numbers: int) -> None:
        self._weight, self._bias, self._embedding = weight, bias, embedding
        V = weight.shape[1] if embedding is None else len(embedding)
        self._rows = np.empty((V, len(weight)), weight.dtype)
        self._missing = np.ones(V, np.bool_)
        self._complete = False
        if self._rows.size <= numbers:
            self._fill(np.arange(V))
            self._complete = True

    def begin(self, batch_size: int) -> Step:
        """Returns a function that looks symbols up, ids (B,) → (B, G·H); valid until the next call."""
        x = np.empty((batch_size, len(self._weight)), self._weight.dtype)

        def look_up(ids: NDArray[np.intp]) -> Array:
            if not self._complete and (missing := ids[self._missing[ids]]).size:
                self._fill(missing)
            return self._rows.take(ids, axis=0, out=x, mode="clip")  # to raise, it would fill a copy first

        return look_up

    def _fill(self, ids: NDArray[np.intp]) -> None:
        rows = self._weight.T[ids] if self._embedding is None else self._embedding[ids] @ self._weight.T
        self._rows[ids] = rows if self._bias is None else rows + self._bias
        self._missing[ids] = False


class _Product:
    """Weights times a vector plus bias, for each row: the weights (N, H), the bias (N,) or None."""

    def __init__(self, weight: Array, bias: Array | None) -> None:
        self._weight = np.ascontiguousarray(weight.T)
        self._bias = bias

    def begin(self, batch_size: int) -> Callable[[Array], Array]:
        """Returns a function that multiplies vectors of B texts, (B, H) → (B, N), valid until the next call."""
        result = np.empty((batch_size, self._weight.shape[1]), self._weight.dtype)

        def multiply(s: Array) -> Array:
            np.dot(s, self._weight, out=result)
            return result if self._bias is None else np.add(result, self._bias, out=result)

        return multiply
