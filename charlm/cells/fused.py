"""Layers through PyTorch's own fused kernels: the same weights, all steps in one call.

On the CPU that is oneDNN's LSTM (the GRU and the simple cell have no kernel there: PyTorch runs theirs operation by
operation), on CUDA cuDNN's LSTM, GRU (reset after) and simple cell.

In bfloat16 (8 bits of mantissa) the products take half the time or less where the processor has them; sums, gates
and the weights that the optimiser moves stay in float32. By default PyTorch lets cuDNN round the factors of float32
products to TF32, with 10 bits of mantissa. In training it may; where no gradient is wanted it may not, so that
scores do not depend on the device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

State = tuple[Tensor, ...]


def has_kernel(kernel: str | None, device: torch.device) -> bool:
    """Says whether a device runs a cell with this `Cell.torch_kernel` in one call."""
    return kernel is not None and (device.type == "cuda" or (device.type == "cpu" and kernel == "lstm"))


def has_bfloat16(device: torch.device) -> bool:
    """Says whether a device multiplies bfloat16 faster than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
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
    weights, on_cuda = [weight_ih, weight_hh, *biases], inputs.is_cuda
    weights = lay_together(weights, dtype) if on_cuda else [weight.to(dtype) for weight in weights]
    first = tuple(part[None].to(dtype) for part in state)
    learns = torch.is_grad_enabled()  # else nothing is kept for a backward pass
    with exact_products() if on_cuda and not learns else nullcontext():
        # A single layer in one direction, time first; dropout between layers is the caller's.
        out, *last = getattr(torch, kernel)(
            *(inputs.to(dtype), first if len(first) > 1 else first[0], weights),
            *(bool(biases), 1, 0.0, learns, False, False),
        )
    return out.to(own), tuple(part[0].to(own) for part in last)


def lay_together(weights: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Returns copies of a layer's weights that lie one behind the other in memory; gradients go through them.

    So cuDNN has them. Weights that lie otherwise PyTorch copies at each call, and warns about it.

    Args:
        weights: weight_ih (G·H, ·) and weight_hh (G·H, H), and where there are biases these, (G·H,) each.
        dtype: of the copies.
    """
    parts = [weight.to(dtype).flatten() for weight in weights]
    if len(weights) == 2:  # cuDNN keeps room for biases all the same, which are zero then
        parts.append(parts[0].new_zeros(2 * len(weights[0])))
    copies = torch.cat(parts).split([len(part) for part in parts])
    return [copy.view(weight.shape) for copy, weight in zip(copies, weights, strict=False)]


@contextmanager
def exact_products() -> Iterator[None]:
    """Has cuDNN's layers multiply float32 as float32, and not as TF32."""
    cudnn = torch.backends.cudnn
    # From PyTorch 2.9 on there is a setting for recurrent layers alone; the older one is for convolutions too.
    has_own = hasattr(cudnn.rnn, "fp32_precision")
    holder, name = (cudnn.rnn, "fp32_precision") if has_own else (cudnn, "allow_tf32")
    before = getattr(holder, name)
    setattr(holder, name, "ieee" if has_own else False)
    try:
        yield
    finally:
        setattr(holder, name, before)
