"""The compiled kernels as functions that PyTorch can differentiate: a window is one call forward and one backward.

The derived Functions of lstm.py, gru.py and rnn.py make some ten calls a step; for small layers those cost more
than their arithmetic, and threads side by side wait for each other to make them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from charlm import kernels
from charlm.cells.steps import add_product


def sequence(
    cell: str,
    x: Tensor,
    state: tuple[Tensor, ...],
    weight_hh: Tensor,
    bias_hh: Tensor | None,
    *,
    ids: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """All steps, as the `sequence` of the cell's own file.

    Args:
        cell: its name; `kernels.has_kernel` says whether there is one.
        x: U x_t + bias_ih, shape (T, B, G·H); with ids that of each symbol, (V, G·H).
        state: before the first step.
        weight_hh: W, shape (G·H, H).
        bias_hh: shape (G·H,), or None.
        ids: the symbols of a one-hot input, shape (T, B).
        dtype: of the recurrent products: bfloat16, or that of the weights.

    Raises:
        IndexError: an id is none of a symbol.
        ValueError: bfloat16 where the processor has no such products.
    """
    if ids is not None and ids.numel():
        low, high = (int(id) for id in ids.aminmax())
        if low < 0 or high >= len(x):
            raise IndexError(f"ids from {low} to {high}, and {len(x)} symbols")
    if dtype == torch.bfloat16 and not kernels.has_bfloat16():
        raise ValueError("no bfloat16 products on this processor")
    s0, c0 = state if len(state) == 2 else (*state, None)
    keep = torch.is_grad_enabled()
    s, c = CompiledFunction.apply(x, ids, s0, c0, weight_hh, bias_hh, cell, dtype, keep)  # type: ignore[no-untyped-call]
    return s, (s[-1],) if c0 is None else (s[-1], c)


class CompiledFunction(torch.autograd.Function):
    """All steps of a cell, forward and backward, each in one call; the weights' gradient in one product."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        ids: Tensor | None,
        s0: Tensor,
        c0: Tensor | None,
        weight_hh: Tensor,
        bias_hh: Tensor | None,
        cell: str,
        dtype: torch.dtype | None,
        keep: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Returns s_1 … s_T, shape (T, B, H), and for the LSTM c_T, shape (B, H).

        Only where asked to `keep` is there what `backward` needs; else memory for one step serves all.
        """
        T, B = x.shape[:2] if ids is None else ids.shape
        H = weight_hh.shape[1]
        ids = None if ids is None else ids.long().contiguous()
        states = x.new_empty(T, B, H)
        saved = x.new_empty(T if keep else 1, B, kernels.saved_numbers(cell) * H)
        last = None if c0 is None else torch.empty_like(s0, memory_format=torch.contiguous_format)
        rounded = _rounded(T, B, H, dtype)
        given = (x, ids, weight_hh, bias_hh, s0, c0)
        _call(cell, "forward", (T, B, H, rounded is not None, keep), given, (states, saved, last, rounded))
        ctx.cell, ctx.dtype, ctx.symbols = cell, dtype, len(x)
        ctx.save_for_backward(states, saved, s0, c0, weight_hh, ids, rounded)
        return states, last

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_c: Tensor | None) -> tuple[Tensor | None, ...]:
        """Returns the gradients of x, s0, c0, weight_hh and bias_hh, with None for what has none."""
        states, saved, s0, c0, weight_hh, ids, rounded = ctx.saved_tensors
        T, B, H = states.shape
        rows = len(weight_hh)
        dx = states.new_empty(T, B, rows)
        dp = states.new_empty(T, B, rows) if ctx.cell == "gru" else dx  # of W s + b'
        ds = torch.zeros_like(s0, memory_format=torch.contiguous_format)
        dc = None if c0 is None else torch.empty_like(ds)
        d_rounded = _rounded(T, B, rows, ctx.dtype)
        given = (grad, grad_c, weight_hh, s0, c0, states, saved)
        _call(ctx.cell, "backward", (T, B, H, rounded is not None), given, (dx, dp, ds, dc, d_rounded))
        dw = torch.zeros_like(weight_hh)
        if ctx.cell == "gru-before":  # its last third multiplies r ∘ s
            add_product(dw[2 * H :], dp[:, :, 2 * H :], saved[:, :, 3 * H :], ctx.dtype)
            rows = 2 * H
        elif rounded is not None and d_rounded is not None:
            dw += d_rounded[:, :, :rows].flatten(0, 1).t() @ rounded[:, :, :H].flatten(0, 1)
            rows = 0
        if rows:
            add_product(dw[:rows], dp[0, :, :rows], s0, ctx.dtype)
            add_product(dw[:rows], dp[1:, :, :rows], states[:-1], ctx.dtype)
        if ids is not None:
            dx = torch.ops.aten.embedding_dense_backward(dx, ids, ctx.symbols, -1, False)  # (V, G·H)
        db = None
        if ctx.needs_input_grad[5]:
            db = dx.flatten(0, -2).sum(0)
            if ctx.cell == "gru":
                db[2 * H :] = dp[:, :, 2 * H :].sum((0, 1))
        return dx, None, ds, dc, dw, db, None, None, None


def _rounded(T: int, B: int, width: int, dtype: torch.dtype | None) -> Tensor | None:
    """Returns room for what the kernels round on their way; the width is even, so that pairs fill it."""
    return torch.empty(T, B, width + width % 2, dtype=dtype) if dtype == torch.bfloat16 else None


def _call(
    cell: str,
    direction: str,
    shape: tuple[int, ...],
    given: tuple[Tensor | None, ...],
    made: tuple[Tensor | None, ...],
) -> None:
    inputs = [None if tensor is None else tensor.contiguous() for tensor in given]
    addresses = [None if tensor is None else tensor.data_ptr() for tensor in (*inputs, *made)]
    kernels.call(cell, direction, shape, addresses)
