"""The simple recurrent cell (Elman 1990).

    s_t = tanh(U x_t + W s_{t-1} + b)

`weight_ih` is U, `weight_hh` is W, and b = bias_ih + bias_hh as in PyTorch. The input product x = U x_t + bias_ih
is made outside, for all steps at once; here is what has to go step by step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from charlm.cells.steps import add_product, blocks, earlier_gradients, previous, recurrent_product, tanh_

GATES = 1
STATES = 1
State = tuple[Tensor]


def step(x: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor | None) -> State:
    """One step by the equation: the reference that every fast path is tested against.

    Args:
        x: U x_t + bias_ih, shape (B, H).
        state: (s_{t-1},), shape (B, H).
        weight_hh: W, shape (H, H).
        bias_hh: shape (H,), or None.
    """
    (s,) = state
    a = x + s @ weight_hh.t()  # (B, H)
    if bias_hh is not None:
        a = a + bias_hh
    return (torch.tanh(a),)


def sequence(
    x: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor | None, *, dtype: torch.dtype | None = None
) -> tuple[Tensor, State]:
    """All steps: x is (T, B, H), the result s_1 … s_T (T, B, H) and the last state."""
    s = RNNFunction.apply(x, state[0], weight_hh, bias_hh, dtype)  # type: ignore[no-untyped-call]  # (T, B, H)
    return s, (s[-1],)


class RNNFunction(torch.autograd.Function):
    """All steps of the cell, with its gradient derived by hand.

    Backward, with a_t the argument of tanh and d· the gradient of the loss:

        da_t     = ds_t ∘ (1 - s_t²)
        ds_{t-1} += Wᵀ da_t
        dx_t     = da_t
        dW       = Σ_t da_t s_{t-1}ᵀ,   db = Σ_t da_t
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, s0: Tensor, weight_hh: Tensor, bias_hh: Tensor | None, dtype: torch.dtype | None
    ) -> Tensor:
        """Returns s_1 … s_T, shape (T, B, H)."""
        product = recurrent_product(weight_hh, x.shape[1], bias_hh, dtype)
        states = torch.empty_like(x, memory_format=torch.contiguous_format)  # (T, B, H)
        s = s0
        for x_t, s_t in zip(x.unbind(), states.unbind(), strict=True):
            s = tanh_(product(s, x_t, out=s_t))
        ctx.dtype = dtype
        ctx.save_for_backward(states, s0, weight_hh)
        return states

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradients of x, s0, weight_hh and bias_hh."""
        states, s0, weight_hh = ctx.saved_tensors
        T, B, H = states.shape
        product = recurrent_product(weight_hh.t(), B, dtype=ctx.dtype)
        earlier = earlier_gradients(grad)
        da = torch.empty_like(states)  # (T, B, H)
        dw = torch.zeros_like(weight_hh)
        ds = grad[-1].clone()
        for block in blocks(T, B * H):
            slope = 1 - states[block] * states[block]
            steps = zip(slope.unbind(), da[block].unbind(), earlier[block], strict=True)
            for slope_t, da_t, earlier_t in reversed(list(steps)):
                product(torch.mul(ds, slope_t, out=da_t), earlier_t, out=ds)
            add_product(dw, da[block], previous(s0, states, block), ctx.dtype)
        return da, ds, dw, da.sum((0, 1)) if ctx.needs_input_grad[3] else None, None
