"""The softmax layer and its cross-entropy, with the gradient by hand.

    z = V_o s + b_o,   o = softmax(z),   L = -Σ_n ln o_n[y_n]
    ∂L/∂z_n = o_n - e(y_n)      ∂L/∂s = ∂L/∂z V_o,   ∂L/∂V_o = Σ_n ∂L/∂z_n s_nᵀ,   ∂L/∂b_o = Σ_n ∂L/∂z_n

For thousands of characters the logits of a window are the largest thing that training holds, and plain autograd
holds them three times (logits, their log-softmax, their gradient). Here some rows of them exist at a time, in
memory that stays in the cache: logits become probabilities become the gradient in the same place, and that is used
up before the next rows are made.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from charlm.text.batches import IGNORE

_ELEMENTS = 2**20  # logits held together


def cross_entropy(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Sums -ln o[y] over all places.

    Args:
        features: s, shape (N, H).
        weight: V_o, shape (V, H).
        bias: b_o, shape (V,), or None.
        targets: y, ids of shape (N,); places with `IGNORE` count nothing.
        dtype: of the products; None: that of the weights. The softmax is in the weights' own.

    Returns:
        the sum in nats, shape ().
    """
    loss: Tensor = _CrossEntropy.apply(features, weight, bias, targets, dtype)  # type: ignore[no-untyped-call]
    return loss


class _CrossEntropy(Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        dtype: torch.dtype | None,
    ) -> Tensor:
        own = weight.dtype
        s, w = features.to(dtype or own), weight.to(dtype or own)
        d_features, d_weight = torch.empty_like(features), torch.zeros_like(weight)
        d_bias = None if bias is None else torch.zeros_like(bias)
        loss = weight.new_zeros(())
        rows = max(1, _ELEMENTS // len(weight))
        for s_n, y, d_s in zip(s.split(rows), targets.split(rows), d_features.split(rows), strict=True):
            z = F.linear(s_n, w).to(own)  # (n, V)
            if bias is not None:
                z += bias
            counts = y != IGNORE  # (n,)
            y = y.where(counts, 0)[:, None]
            z -= z.amax(1, keepdim=True)
            likely = z.gather(1, y)  # (n, 1)
            total = z.exp_().sum(1, keepdim=True)
            loss += (total.log() - likely).squeeze(1).where(counts, 0).sum()
            z *= (1 / total).where(counts[:, None], 0)
            z.scatter_add_(1, y, -counts[:, None].to(own))  # ∂L/∂z
            if d_bias is not None:
                d_bias += z.sum(0)
            d_z = z.to(w.dtype)
            d_s.copy_(d_z @ w)
            if w.dtype == own:
                d_weight.addmm_(d_z.t(), s_n)
            else:
                d_weight += d_z.t() @ s_n
        ctx.save_for_backward(d_features, d_weight, d_bias)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_loss: Tensor) -> tuple[Tensor | None, ...]:
        return (*(None if d is None else d_loss * d for d in ctx.saved_tensors), None, None)
