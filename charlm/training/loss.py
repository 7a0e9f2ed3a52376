"""The softmax layer and its cross-entropy, with the gradient by hand.

    z = V_o s + b_o,   o = softmax(z),   L = -Σ_n ln o_n[y_n]
    ∂L/∂z_n = o_n - e(y_n)      ∂L/∂s = ∂L/∂z V_o,   ∂L/∂V_o = Σ_n ∂L/∂z_n s_nᵀ,   ∂L/∂b_o = Σ_n ∂L/∂z_n

For thousands of characters the logits of a window are the largest thing that training holds, and plain autograd
holds them three times (logits, their log-softmax, their gradient). Here some rows of them exist at a time, in
memory that stays in the cache: log-probabilities become the gradient in the same place, and that is used up before
the next rows are made.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from charlm.cells.steps import add_product
from charlm.text.batches import IGNORE

_MAX_LOGITS = 1 << 20  # that exist at a time, so that they stay in the cache


class Loss(NamedTuple):
    """A cross-entropy and its gradients.

    Attributes:
        total: -Σ ln o[y] in nats, shape ().
        features: ∂(scale · total)/∂s, shape (N, H).
        weight: ∂(scale · total)/∂V_o, shape (V, H).
        bias: ∂(scale · total)/∂b_o, shape (V,); None where there is no bias.
    """

    total: Tensor
    features: Tensor
    weight: Tensor
    bias: Tensor | None


@torch.no_grad()
def cross_entropy(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    *,
    scale: float = 1.0,
    dtype: torch.dtype | None = None,
    max_logits: int = _MAX_LOGITS,
) -> Loss:
    """Sums -ln o[y] over all places, and derives it.

    Args:
        features: s, shape (N, H).
        weight: V_o, shape (V, H).
        bias: b_o, shape (V,), or None.
        targets: y, ids of shape (N,); places with `IGNORE` count nothing.
        scale: what the gradients are multiplied by.
        dtype: of the products; None: that of the weights. The softmax is in the weights' own.
        max_logits: so many exist at a time, or one row.
    """
    own = weight.dtype
    s, w = features.to(dtype or own), weight.to(dtype or own)
    total, d_features, d_weight = weight.new_zeros(()), torch.empty_like(features), torch.zeros_like(weight)
    d_bias = None if bias is None else torch.zeros_like(bias)
    rows = max(1, max_logits // len(weight))
    for s_n, y, d_s in zip(s.split(rows), targets.split(rows), d_features.split(rows), strict=True):
        z = F.linear(s_n, w).to(own)  # (n, V)
        if bias is not None:
            z += bias
        counts = y != IGNORE  # (n,)
        y = y.where(counts, 0)[:, None]
        z = z.log_softmax(1)  # ln o
        total -= z.gather(1, y).squeeze(1).where(counts, 0).sum()
        z = z.softmax(1)  # o; exp takes three times as long
        z.scatter_add_(1, y, z.new_full(y.shape, -1)).mul_(counts[:, None] * scale)  # ∂L/∂z
        if d_bias is not None:
            d_bias += z.sum(0)
        d_z = z.to(w.dtype)
        d_s.copy_(d_z @ w)
        add_product(d_weight, d_z, s_n, w.dtype)
    return Loss(total, d_features, d_weight, d_bias)
