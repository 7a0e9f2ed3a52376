"""The simple recurrent cell (Elman 1990).

    s_t = tanh(U x_t + W s_{t-1} + b)

`weight_ih` is U, `weight_hh` is W, and b = bias_ih + bias_hh as in PyTorch. The input product x = U x_t + bias_ih
is made outside, for all steps at once; here is what has to go step by step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from charlm.cells.steps import add_product, addmm, steps, tanh_

GATES = 1
BLOCKS = ("candidate",)
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

    Backward, from the last step to the first, with a_t the argument of tanh and d· the gradient of the loss:

        da_t     = ds_t ∘ (1 - s_t²)
        ds_{t-1} = grad_{t-1} + Wᵀ da_t
        dx_t     = da_t,   dW = Σ_t da_t s_{t-1}ᵀ,   db = Σ_t da_t

    where grad_t is the gradient of s_t as an output: that of the loss and of the layers above.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, s0: Tensor, weight_hh: Tensor, bias_hh: Tensor | None, dtype: torch.dtype | None
    ) -> Tensor:
        """Returns s_1 … s_T, shape (T, B, H)."""
        T, B, H = x.shape
        W_transposed = weight_hh.to(dtype or weight_hh.dtype).t()  # (H, H)
        states = x.new_empty(T + 1, B, H)  # s_0 … s_T
        states[0] = s0
        for x_t, s, s_t in steps(x, states[:-1], states[1:]):  # s is s_{t-1}; each (B, H)
            a = addmm(x_t, s, W_transposed, out=s_t)  # x_t + W s_{t-1}
            if bias_hh is not None:
                a += bias_hh
            tanh_(a)
        ctx.dtype = dtype
        ctx.save_for_backward(states, weight_hh)
        return states[1:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradients of x, s0, weight_hh and bias_hh."""
        states, weight_hh = ctx.saved_tensors
        W = weight_hh.to(ctx.dtype or weight_hh.dtype)  # (H, H)
        da = torch.empty_like(states[1:])  # (T, B, H)
        ds = torch.zeros_like(states[0])  # (B, H)
        for grad_t, s_t, da_t in reversed(steps(grad, states[1:], da)):  # each (B, H)
            ds += grad_t  # now ds_t
            torch.addcmul(ds, ds, s_t * s_t, value=-1, out=da_t)  # ds_t ∘ (1 - s_t²)
            addmm(None, da_t, W, out=ds)  # Wᵀ da_t
        dw = torch.zeros_like(weight_hh)
        add_product(dw, da, states[:-1], ctx.dtype)
        db = da.sum((0, 1)) if ctx.needs_input_grad[3] else None
        return da, ds, dw, db, None
