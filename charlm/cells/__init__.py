"""The recurrent cells, each in one file: equations, one step, all steps, and the gradient by hand.

A cell knows its recurrence and nothing of vocabularies, layers or training. `run_layer` takes a layer the fastest
way that gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from charlm.cells import compiled, fused, gru, lstm, rnn

State = tuple[Tensor, ...]  # each (B, H): (s,) or for the LSTM (s, c)


class Cell(NamedTuple):
    """A recurrence.

    Attributes:
        name: of the cell, and for the GRU of its form.
        gates: how many blocks of H rows the weights have.
        states: how many tensors a state has.
        step: one step by the equations: (x (B, G·H), state, weight_hh, bias_hh) → state.
        sequence: all steps: (x (T, B, G·H), state, weight_hh, bias_hh, *, dtype) → (s (T, B, H), last state),
            with products in the dtype.
        kernel: the name in torch of the fused kernel of the same equations, if there is one.
    """

    name: str
    gates: int
    states: int
    step: Callable[..., Any]
    sequence: Callable[..., tuple[Tensor, Any]]
    kernel: str | None = None


def find_cell(name: str, reset: str = "after") -> Cell:
    """Returns the cell of this name; `reset` tells the two forms of the GRU apart."""
    return _CELLS[f"gru-{reset}" if name == "gru" else name]


def run_layer(
    cell: Cell,
    inputs: Tensor,
    state: State,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    *,
    backend: str = "auto",
) -> tuple[Tensor, State]:
    """Runs one layer over all steps.

    Args:
        cell: the recurrence.
        inputs: ids (T, B) of a one-hot input, or vectors (T, B, ·).
        state: before the first step.
        weight_ih: U, shape (G·H, ·).
        weight_hh: W, shape (G·H, H).
        bias_ih: shape (G·H,), or None.
        bias_hh: shape (G·H,), or None.
        backend: `derived`: by the cell's own `sequence`; `fused`: by PyTorch's kernel, which the cell must have;
            `compiled`: by the kernels of `compiled`, which the machine must have; `bfloat16`: with products in
            bfloat16, by a kernel where there is one; `auto`: the fastest in float32.

    Returns:
        s_1 … s_T, shape (T, B, H), and the last state.
    """
    if backend == "auto" and compiled.suits(inputs):
        backend = "compiled"
    elif backend == "auto":
        backend = "fused" if fused.suits(cell.kernel, inputs, weight_ih) else "derived"
    dtype = torch.bfloat16 if backend == "bfloat16" else weight_hh.dtype
    if compiled.runs(backend, weight_hh):
        if inputs.is_floating_point():
            x = _input_product(inputs, weight_ih, bias_ih, dtype)
            return compiled.sequence(cell.name, x, state, weight_hh, bias_hh, dtype=dtype)
        table = weight_ih.t().contiguous() if bias_ih is None else weight_ih.t() + bias_ih  # (V, G·H)
        return compiled.sequence(cell.name, table, state, weight_hh, bias_hh, ids=inputs, dtype=dtype)
    if backend == "fused" or (backend == "bfloat16" and fused.has_kernel(cell.kernel, weight_hh.device)):
        assert cell.kernel is not None
        return fused.sequence(cell.kernel, inputs, state, weight_ih, weight_hh, bias_ih, bias_hh, dtype=dtype)
    return cell.sequence(_input_product(inputs, weight_ih, bias_ih, dtype), state, weight_hh, bias_hh, dtype=dtype)


def _input_product(inputs: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Returns U x_t + bias_ih of all steps, shape (T, B, G·H), the product in a dtype of its own."""
    if inputs.is_floating_point():
        x = F.linear(inputs.to(dtype), weight.to(dtype)).to(weight.dtype)
    else:
        # A one-hot vector picks a column of U: looked up, never multiplied.
        x = F.embedding(inputs, weight.t())
    return x if bias is None else x.add_(bias)


_CELLS = {
    "rnn": Cell("rnn", rnn.GATES, rnn.STATES, rnn.step, rnn.sequence, "rnn_tanh"),
    "lstm": Cell("lstm", lstm.GATES, lstm.STATES, lstm.step, lstm.sequence, "lstm"),
    "gru-before": Cell("gru-before", gru.GATES, gru.STATES, gru.step_before, gru.sequence_before),
    "gru-after": Cell("gru-after", gru.GATES, gru.STATES, gru.step_after, gru.sequence_after, "gru"),
}
