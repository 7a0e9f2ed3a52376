"""The long short-term memory (Hochreiter and Schmidhuber 1997; forget gate of Gers et al. 2000).

    i, f, o = σ(U x_t + W s_{t-1} + b), each with its own U, W and b
    g       = tanh(U_g x_t + W_g s_{t-1} + b_g)
    c_t     = f ∘ c_{t-1} + i ∘ g
    s_t     = o ∘ tanh(c_t)

The four matrices stand below each other in PyTorch's order i, f, g, o: `weight_ih` is (4H, ·), `weight_hh`
(4H, H), and b = bias_ih + bias_hh. The input product x = U x_t + bias_ih is made outside, for all steps at once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from charlm.cells.steps import add_product, addmm, mul_one_minus_, steps, tanh_

GATES = 4
BLOCKS = ("input", "forget", "candidate", "output")
STATES = 2
State = tuple[Tensor, Tensor]


def step(x: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor | None) -> State:
    """One step by the equations: the reference that every fast path is tested against.

    Args:
        x: U x_t + bias_ih for i, f, g, o, shape (B, 4H).
        state: (s_{t-1}, c_{t-1}), each (B, H).
        weight_hh: W for i, f, g, o, shape (4H, H).
        bias_hh: shape (4H,), or None.
    """
    s, c = state
    a = x + s @ weight_hh.t()  # (B, 4H)
    if bias_hh is not None:
        a = a + bias_hh
    a_i, a_f, a_g, a_o = a.chunk(4, dim=1)
    i, f, g, o = torch.sigmoid(a_i), torch.sigmoid(a_f), torch.tanh(a_g), torch.sigmoid(a_o)
    c = f * c + i * g
    return o * torch.tanh(c), c


def sequence(
    x: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor | None, *, dtype: torch.dtype | None = None
) -> tuple[Tensor, State]:
    """All steps: x is (T, B, 4H), the result s_1 … s_T (T, B, H) and the last state."""
    s, c = LSTMFunction.apply(x, *state, weight_hh, bias_hh, dtype)  # type: ignore[no-untyped-call]  # (T, B, H), (B, H)
    return s, (s[-1], c)


class LSTMFunction(torch.autograd.Function):
    """All steps of the cell, with its gradient derived by hand.

    Backward, from the last step to the first, with a· the arguments of the gates and d· the gradient of the loss:

        dc_t  += ds_t ∘ o ∘ (1 - tanh²(c_t))
        da_i   = dc_t ∘ g ∘ i(1-i)         da_f = dc_t ∘ c_{t-1} ∘ f(1-f)
        da_g   = dc_t ∘ i ∘ (1-g²)         da_o = ds_t ∘ tanh(c_t) ∘ o(1-o)
        dc_{t-1} = dc_t ∘ f                ds_{t-1} = grad_{t-1} + Wᵀ da_t
        dx_t   = da_t,   dW = Σ_t da_t s_{t-1}ᵀ,   db = Σ_t da_t

    where grad_t is the gradient of s_t as an output: that of the loss and of the layers above.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        s0: Tensor,
        c0: Tensor,
        weight_hh: Tensor,
        bias_hh: Tensor | None,
        dtype: torch.dtype | None,
    ) -> tuple[Tensor, Tensor]:
        """Returns s_1 … s_T, shape (T, B, H), and c_T, shape (B, H)."""
        T, B, H = len(x), *s0.shape
        W_transposed = weight_hh.to(dtype or weight_hh.dtype).t()  # (H, 4H)
        gates = x.new_empty(T, B, 4 * H)  # i, f, g, o
        states, cells = x.new_empty(2, T + 1, B, H)  # s_0 … s_T and c_0 … c_T
        tanh_cells = x.new_empty(T, B, H)
        states[0], cells[0] = s0, c0
        every = steps(
            *(x, states[:-1], cells[:-1]),
            *(gates, gates[:, :, : 2 * H], *gates.chunk(4, 2)),
            *(cells[1:], tanh_cells, states[1:]),
        )
        for x_t, s, c, a, i_and_f, i, f, g, o, c_t, tanh_c, s_t in every:  # s, c are s_{t-1}, c_{t-1}; each (B, ·)
            addmm(x_t, s, W_transposed, out=a)  # x_t + W s_{t-1}, (B, 4H)
            if bias_hh is not None:
                a += bias_hh
            i_and_f.sigmoid_()
            tanh_(g)
            o.sigmoid_()
            torch.mul(f, c, out=c_t).addcmul_(i, g)  # f ∘ c_{t-1} + i ∘ g
            tanh_(tanh_c.copy_(c_t))
            torch.mul(o, tanh_c, out=s_t)
        ctx.dtype = dtype
        ctx.save_for_backward(gates, states, cells, tanh_cells, weight_hh)
        return states[1:], cells[-1].clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_c: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradients of x, s0, c0, weight_hh and bias_hh."""
        gates, states, cells, tanh_cells, weight_hh = ctx.saved_tensors
        W = weight_hh.to(ctx.dtype or weight_hh.dtype)  # (4H, H)
        da = torch.empty_like(gates)  # (T, B, 4H)
        ds, dc, ds_o = torch.zeros_like(grad_c), grad_c.clone(), torch.empty_like(grad_c)  # each (B, H)
        every = steps(grad, *gates.chunk(4, 2), cells[:-1], tanh_cells, da, *da.chunk(4, 2))
        for grad_t, i, f, g, o, c, tanh_c, da_t, da_i, da_f, da_g, da_o in reversed(every):  # c is c_{t-1}
            ds += grad_t  # now ds_t
            torch.mul(ds, o, out=ds_o)
            mul_one_minus_(torch.mul(ds_o, tanh_c, out=da_o), o)  # ds_t ∘ o ∘ tanh(c_t) ∘ (1 - o)
            dc += mul_one_minus_(ds_o, tanh_c * tanh_c)  # ds_t ∘ o ∘ (1 - tanh²(c_t))
            torch.mul(dc, i, out=da_g)
            mul_one_minus_(torch.mul(da_g, g, out=da_i), i)  # dc_t ∘ i ∘ g ∘ (1 - i)
            mul_one_minus_(da_g, g * g)  # dc_t ∘ i ∘ (1 - g²)
            dc *= f  # now dc_{t-1}
            mul_one_minus_(torch.mul(dc, c, out=da_f), f)  # dc_t ∘ f ∘ c_{t-1} ∘ (1 - f)
            addmm(None, da_t, W, out=ds)  # Wᵀ da_t
        dw = torch.zeros_like(weight_hh)
        add_product(dw, da, states[:-1], ctx.dtype)
        db = da.sum((0, 1)) if ctx.needs_input_grad[4] else None
        return da, ds, dc, dw, db, None
