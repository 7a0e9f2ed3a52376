"""Layers through PyTorch's own fused kernels: the same weights, all steps in one call.

On the CPU that is oneDNN's LSTM (the GRU and the simple cell have no kernel there: PyTorch runs theirs operation by
operation), on CUDA cuDNN's LSTM, GRU (reset after) and simple cell.

The kernel multiplies its input, so a one-hot input has to be written out as vectors of width V. That pays while V
is small beside the recurrent product; a longer one is looked up, and goes through the cell's own `sequence`.

Measured on two cores (AVX-512), a whole training step, fused ÷ derived by hand: V 65, H 256, 16 x 64: 1.7; V 65,
H 512, 64 x 128: 1.5; V 65, H 128, two layers, 50 x 50: 1.3; V 1,233, H 256, 16 x 24: 0.7. Hence `suits`.

In bfloat16 (8 bits of mantissa) the products take half the time or less where the processor has them; sums, gates
and the weights that the optimiser moves stay in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

State = tuple[Tensor, ...]

_MIN_STEPS = 4  # each call packs the weights anew, which a step or two do not pay back


def has_kernel(kernel: str | None, device: torch.device) -> bool:
    """Says whether a device runs a cell of this `Cell.kernel` in one call."""
    return kernel is not None and (device.type == "cuda" or (device.type == "cpu" and kernel == "lstm"))


def has_bfloat16(device: torch.device) -> bool:
    """Says whether a device multiplies bfloat16 faster than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )


def narrow(width: int, rows: int) -> bool:
    """Says whether an input of this width is worth multiplying, with weights of so many rows (G·H)."""
    return width <= rows // 2


def suits(kernel: str | None, inputs: Tensor, weight_ih: Tensor) -> bool:
    """Says whether the fused kernel is there for these tensors, and the faster way.

    Args:
        kernel: the cell's `Cell.kernel`.
        inputs: ids (T, B) of a one-hot input, or vectors (T, B, ·).
        weight_ih: shape (G·H, ·).
    """
    rows, width = weight_ih.shape
    return (
        has_kernel(kernel, weight_ih.device)
        and weight_ih.dtype == torch.float32
        and inputs.shape[0] >= _MIN_STEPS
        and narrow(width, rows)
    )


def sequence(
    kernel: str,
    inputs: Tensor,
    state: State,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    *,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, State]:
    """All steps of one layer.

    Args:
        kernel: `lstm`, `gru` or `rnn_tanh`.
        inputs: ids (T, B) of a one-hot input, or vectors (T, B, ·).
        state: before the first step, each part (B, H).
        weight_ih: shape (G·H, ·).
        weight_hh: shape (G·H, H).
        bias_ih: shape (G·H,), or None.
        bias_hh: shape (G·H,), or None.
        dtype: of the arithmetic; None: that of the weights.

    Returns:
        s_1 … s_T, shape (T, B, H), and the last state, in the dtype of the weights.
    """
    own, dtype = weight_ih.dtype, dtype or weight_ih.dtype
    if not inputs.is_floating_point():
        one_hot = weight_ih.new_zeros(*inputs.shape, weight_ih.shape[1], dtype=dtype)  # (T, B, V)
        inputs = one_hot.scatter_(2, inputs.long()[:, :, None], 1)
    biases = [] if bias_ih is None or bias_hh is None else [bias_ih, bias_hh]
    weights = [weight.to(dtype) for weight in (weight_ih, weight_hh, *biases)]
    first = tuple(part[None].to(dtype) for part in state)
    # A single layer in one direction, time first; dropout between layers is the caller's.
    out, *last = getattr(torch, kernel)(
        inputs.to(dtype), first if len(first) > 1 else first[0], weights, bool(biases), 1, 0.0, True, False, False
    )
    return out.to(own), tuple(part[0].to(own) for part in last)
