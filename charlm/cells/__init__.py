"""The recurrent cells, each in one file: equations, one step, all steps, and the gradient by hand.

A cell knows its recurrence and nothing of vocabularies, layers or training. The letters, here and in all cells:

    T time steps    B sequences side by side    V symbols    H hidden units    G gates of the cell
    x_t input       s_t state                   c_t memory cell of the LSTM
    U input weights, `weight_ih`, (G·H, ·)      W recurrent weights, `weight_hh`, (G·H, H)
    b = bias_ih + bias_hh, each (G·H,)          a the argument of a gate; d· the gradient of the loss by ·

Gates stand in PyTorch's order and weights have its names: i, f, g, o for the LSTM, r, z, n for the GRU. Tensors are
time-major, (T, B, ·).

`run_layer` computes one layer with the kernel that it is told to use; which one that is, is decided in `plan`.
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
        name: as in `model.cell`.
        gates: G, how many blocks of H rows the weights have.
        states: how many tensors a state has.
        step: one step by the equations: (x (B, G·H), state, weight_hh, bias_hh) → state.
        sequence: all steps: (x (T, B, G·H), state, weight_hh, bias_hh, *, dtype) → (s (T, B, H), last state),
            with products in the dtype.
        torch_kernel: the name in torch of the fused kernel of the same equations, if there is one.
        blocks: what each block of H rows makes: a gate, by its name, or the candidate, which goes through tanh.
    """

    name: str
    gates: int
    states: int
    step: Callable[..., Any]
    sequence: Callable[..., tuple[Tensor, Any]]
    torch_kernel: str | None = None
    blocks: tuple[str, ...] = ()


CELLS = {
    cell.name: cell
    for cell in (
        Cell("rnn", rnn.GATES, rnn.STATES, rnn.step, rnn.sequence, "rnn_tanh", rnn.BLOCKS),
        Cell("lstm", lstm.GATES, lstm.STATES, lstm.step, lstm.sequence, "lstm", lstm.BLOCKS),
        Cell("gru", gru.GATES, gru.STATES, gru.step_after, gru.sequence_after, "gru", gru.BLOCKS),
        Cell("gru-before", gru.GATES, gru.STATES, gru.step_before, gru.sequence_before, blocks=gru.BLOCKS),
    )
}


def run_layer(
    cell: Cell,
    inputs: Tensor,
    state: State,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    *,
    kernel: str = "python",
    dtype: torch.dtype | None = None,
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
        kernel: `python`, `compiled` or `fused`, see `plan`.
        dtype: of the matrix products; None: that of the weights.

    Returns:
        s_1 … s_T, shape (T, B, H), and the last state.
    """
    dtype = dtype or weight_hh.dtype
    if kernel == "fused":
        assert cell.torch_kernel is not None
        return fused.sequence(cell.torch_kernel, inputs, state, weight_ih, weight_hh, bias_ih, bias_hh, dtype=dtype)
    if kernel == "compiled" and not inputs.is_floating_point():
        table = weight_ih.t().contiguous() if bias_ih is None else weight_ih.t() + bias_ih  # (V, G·H)
        return compiled.sequence(cell.name, table, state, weight_hh, bias_hh, ids=inputs, dtype=dtype)
    x = input_product(inputs, weight_ih, bias_ih, dtype)
    if kernel == "compiled":
        return compiled.sequence(cell.name, x, state, weight_hh, bias_hh, dtype=dtype)
    return cell.sequence(x, state, weight_hh, bias_hh, dtype=dtype)


def input_product(inputs: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Returns U x_t + bias_ih of all steps, shape (T, B, G·H), the product in a dtype of its own."""
    if inputs.is_floating_point():
        x = F.linear(inputs.to(dtype), weight.to(dtype)).to(weight.dtype)
    else:
        # A one-hot vector picks a column of U: looked up, never multiplied.
        x = F.embedding(inputs, weight.t())
    return x if bias is None else x.add_(bias)
