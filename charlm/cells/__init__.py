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

from charlm.cells import fused, gru, lstm, rnn

State = tuple[Tensor, ...]  # each (B, H): (s,) or for the LSTM (s, c)


class Cell(NamedTuple):
    """A recurrence.

    Attributes:
        gates: how many blocks of H rows the weights have.
        states: how many tensors a state has.
        step: one step by the equations: (x (B, G·H), state, weight_hh, bias_hh) → state.
        sequence: all steps: (x (T, B, G·H), state, weight_hh, bias_hh, *, dtype) → (s (T, B, H), last state),
            with products in the dtype.
        kernel: the name in torch of the fused kernel of the same equations, if there is one.
    """

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
            `bfloat16`: with products in bfloat16, by the kernel where there is one; `auto`: the faster of the
            first two.

    Returns:
        s_1 … s_T, shape (T, B, H), and the last state.
    """
    if backend == "auto":
        backend = "fused" if fused.suits(cell.kernel, inputs, weight_ih) else "derived"
    dtype = torch.bfloat16 if backend == "bfloat16" else weight_hh.dtype
    if backend == "fused" or (backend == "bfloat16" and fused.has_kernel(cell.kernel, weight_hh.device)):
        assert cell.kernel is not None
        return fused.sequence(cell.kernel, inputs, state, weight_ih, weight_hh, bias_ih, bias_hh, dtype=dtype)
    if inputs.is_floating_point():
        x = F.linear(inputs.to(dtype), weight_ih.to(dtype)).to(weight_ih.dtype)  # (T, B, G·H)
    else:
        # A one-hot vector picks a column of U: looked up, never multiplied.
        x = F.embedding(inputs, weight_ih.t())  # (T, B, G·H)
    if bias_ih is not None:
        x = x.add_(bias_ih)
    return cell.sequence(x, state, weight_hh, bias_hh, dtype=dtype)


_CELLS = {
    "rnn": Cell(rnn.GATES, rnn.STATES, rnn.step, rnn.sequence, "rnn_tanh"),
    "lstm": Cell(lstm.GATES, lstm.STATES, lstm.step, lstm.sequence, "lstm"),
    "gru-before": Cell(gru.GATES, gru.STATES, gru.step_before, gru.sequence_before),
    "gru-after": Cell(gru.GATES, gru.STATES, gru.step_after, gru.sequence_after, "gru"),
}
