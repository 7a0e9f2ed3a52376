"""What the hand-derived cells share: the walk over the steps, the product of a step, and a fast tanh.

The cells write their equations in plain torch, each result into memory that exists already: for the small tensors
of one step, a fresh result costs as much as its arithmetic. Where there is a C compiler, `kernels.c` runs instead.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_LARGE_MULTIPLICATIONS = 1 << 24


def steps(*sequences: Tensor) -> list[tuple[Tensor, ...]]:
    """Returns for each of the T steps its part of every sequence, as views; each sequence has shape (T, …)."""
    return list(zip(*(sequence.unbind() for sequence in sequences), strict=True))


def addmm(add: Tensor | None, left: Tensor, right: Tensor, out: Tensor) -> Tensor:
    """Writes add + left · right to `out` and returns it: `torch.addmm` in the dtype of the right factor.

    Args:
        add: shape (B, N), or one that expands to it; it may be `out` itself. None: nothing is added.
        left: shape (B, K); it is rounded to the dtype of `right`.
        right: shape (K, N), in the dtype of `out` or in bfloat16.
        out: shape (B, N); what is added keeps its dtype.
    """
    if right.dtype != out.dtype:
        product = left.to(right.dtype) @ right
        return out.copy_(product) if add is None else torch.add(add, product, out=out)
    return torch.mm(left, right, out=out) if add is None else torch.addmm(add, left, right, out=out)


def add_product(total: Tensor, left: Tensor, right: Tensor, dtype: torch.dtype | None = None) -> None:
    """Adds leftᵀ · right to the total, shape (N, K), summed over all steps and sequences.

    Args:
        total: shape (N, K).
        left: shape (…, N).
        right: shape (…, K).
        dtype: to which the factors are rounded; None: that of the total.
    """
    left, right = left.flatten(0, -2), right.flatten(0, -2)
    if dtype in (None, total.dtype):
        total.addmm_(left.t(), right)
    else:
        total += left.to(dtype).t() @ right.to(dtype)


def is_large(batch_size: int, weights: int) -> bool:
    """Says whether a product of so many rows with so many weights gains more by bfloat16 than rounding costs."""
    return batch_size * weights >= _LARGE_MULTIPLICATIONS


def tanh_(a: Tensor) -> Tensor:
    """Replaces a by tanh a. On a CPU NumPy does it, in a quarter to a half of the time that torch takes."""
    if a.device.type != "cpu":
        return a.tanh_()
    array = a.numpy()
    np.tanh(array, out=array)
    return a


def mul_one_minus_(a: Tensor, b: Tensor) -> Tensor:
    """Replaces a by a ∘ (1 - b), in one call."""
    return a.addcmul_(a, b, value=-1)
