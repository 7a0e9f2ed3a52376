"""What the hand-derived cells share: the recurrent product, a fast tanh, the backward pass by blocks of steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

_BLOCK = 1 << 19  # numbers of B·H in one block: a few of them fit the cache
_MIN_PACKED = 1 << 24  # multiplications in a product, below which packing does not pay


class Product(Protocol):
    """A product that every step of a window makes with the same weight."""

    def __call__(self, s: Tensor, x: Tensor, out: Tensor) -> Tensor:
        """Writes x + s weightᵀ + bias to `out` and returns it: s (B, K), x and out (B, N)."""


def recurrent_product(
    weight: Tensor, batch_size: int, bias: Tensor | None = None, dtype: torch.dtype | None = None
) -> Product:
    """Prepares the product of a window's steps.

    oneDNN takes a weight packed once, where `addmm` packs it anew at each call: 0.48 ms instead of 0.70 for
    H = 512, B = 64, three gates, on two cores. Each of its calls costs 15 µs, which small products do not earn.

    Args:
        weight: shape (N, K).
        batch_size: B.
        bias: shape (N,), or None.
        dtype: of the product; None: that of the weight. Sums are in the weight's own.
    """
    packs = _packs(weight, batch_size)
    if dtype in (None, weight.dtype) and packs:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), batch_size)
        linear = torch.ops.mkldnn._linear_pointwise.binary
        return lambda s, x, out: out.copy_(linear(s, x, packed, bias, "add"))
    product: Product
    if dtype in (None, weight.dtype):
        turned = weight.t()
        product = lambda s, x, out: torch.addmm(x, s, turned, out=out)  # noqa: E731
    elif packs:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.to(dtype).contiguous(), batch_size)
        short = torch.ops.mkldnn._linear_pointwise
        product = lambda s, x, out: torch.add(x, short(s.to(dtype), packed, None, "none", [], ""), out=out)  # noqa: E731
    else:
        turned = weight.to(dtype).t()
        product = lambda s, x, out: torch.add(x, s.to(dtype) @ turned, out=out)  # noqa: E731
    return product if bias is None else lambda s, x, out: product(s, x, out).add_(bias)


def is_large(batch_size: int, weights: int) -> bool:
    """Says whether a product with so many weights earns the cost of preparing it."""
    return batch_size * weights >= _MIN_PACKED


def _packs(weight: Tensor, batch_size: int) -> bool:
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and is_large(batch_size, weight.numel())
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def add_product(total: Tensor, left: Tensor, right: Tensor, dtype: torch.dtype | None = None) -> None:
    """Adds leftᵀ right to the total, (N, K): left (…, N), right (…, K), the product in a dtype of its own."""
    left, right = left.flatten(0, -2), right.flatten(0, -2)
    if dtype in (None, total.dtype):
        total.addmm_(left.t(), right)
    else:
        total += left.to(dtype).t() @ right.to(dtype)


def tanh_(a: Tensor) -> Tensor:
    """Replaces a by tanh a. On a CPU by numpy, whose tanh takes a quarter of the time of torch's."""
    if a.device.type != "cpu":
        return a.tanh_()
    array = a.numpy()
    np.tanh(array, out=array)
    return a


def blocks(steps: int, size: int) -> Iterator[slice]:
    """Yields the steps T-1 … 0 in blocks small enough for the cache, the last block first.

    Args:
        steps: T.
        size: numbers in one state, B·H.
    """
    length = max(1, _BLOCK // size)
    for stop in range(steps, 0, -length):
        yield slice(max(0, stop - length), stop)


def previous(first: Tensor, states: Tensor, block: slice) -> Tensor:
    """Returns s_{t-1} for the steps t of a block, shape (K, B, H), where `first` is s_0."""
    if block.start > 0:
        return states[block.start - 1 : block.stop - 1]
    return torch.cat((first[None], states[: block.stop - 1]))


def earlier_gradients(grad: Tensor) -> list[Tensor]:
    """Returns for each step t the gradient that reaches s_{t-1} from above: none for s_0, `grad[t-1]` after."""
    return [torch.zeros_like(grad[0]), *grad[:-1].unbind()]
