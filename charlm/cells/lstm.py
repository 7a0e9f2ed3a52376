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

from charlm.cells.steps import add_product, blocks, earlier_gradients, previous, recurrent_product, tanh_

GATES = 4
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

    Backward, with a· the arguments of the gates and d· the gradient of the loss:

        dc_t  += ds_t ∘ o ∘ (1 - tanh²(c_t))
        da_i   = dc_t ∘ g ∘ i(1-i)         da_f = dc_t ∘ c_{t-1} ∘ f(1-f)
        da_g   = dc_t ∘ i ∘ (1-g²)         da_o = ds_t ∘ tanh(c_t) ∘ o(1-o)
        dc_{t-1}  = dc_t ∘ f               ds_{t-1} += Wᵀ da_t
        dx_t   = da_t,   dW = Σ_t da_t s_{t-1}ᵀ,   db = Σ_t da_t

    All that multiplies ds_t and dc_t is known after the forward pass, and is made for a block of steps at once.
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
        T, B, H = x.shape[0], x.shape[1], weight_hh.shape[1]
        product = recurrent_product(weight_hh, B, bias_hh, dtype)
        gates = torch.empty_like(x, memory_format=torch.contiguous_format)  # (T, B, 4H)
        states, cells, tanh_cells = x.new_empty(3, T, B, H)  # each (T, B, H)
        views = (gates, gates[:, :, : 2 * H], *gates.chunk(4, 2), states, cells, tanh_cells)
        s, c = s0, c0
        for x_t, a, i_and_f, i, f, g, o, s_t, c_t, tanh_c in zip(
            x.unbind(), *(view.unbind() for view in views), strict=True
        ):
            product(s, x_t, out=a)
            i_and_f.sigmoid_()
            tanh_(g)
            o.sigmoid_()
            c = torch.mul(f, c, out=c_t).addcmul_(i, g)
            s = torch.mul(o, tanh_(tanh_c.copy_(c)), out=s_t)
        ctx.dtype = dtype
        ctx.save_for_backward(gates, states, cells, tanh_cells, s0, c0, weight_hh)
        return states, c.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_c: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradients of x, s0, c0, weight_hh and bias_hh."""
        gates, states, cells, tanh_cells, s0, c0, weight_hh = ctx.saved_tensors
        T, B, H = states.shape
        product = recurrent_product(weight_hh.t(), B, dtype=ctx.dtype)
        earlier = earlier_gradients(grad)
        da = torch.empty_like(gates)  # (T, B, 4H)
        da_ifg, da_o = da[:, :, : 3 * H].unflatten(2, (3, H)), da[:, :, 3 * H :]
        dw = torch.zeros_like(weight_hh)
        ds, dc = grad[-1].clone(), grad_c.clone()
        for block in blocks(T, B * H):
            i, f, g, o = gates[block].chunk(4, 2)  # each (K, B, H)
            tanh_c = tanh_cells[block]
            # (K, B, 3, H): what multiplies dc_t in da_i, da_f and da_g
            by_dc = torch.stack(
                ((i - i * i).mul_(g), (f - f * f).mul_(previous(c0, cells, block)), i * (1 - g * g)), 2
            )
            by_ds = (o - o * o).mul_(tanh_c)
            slope = (1 - tanh_c * tanh_c).mul_(o)
            views = (by_dc, by_ds, slope, f, da[block], da_ifg[block], da_o[block])
            steps = zip(earlier[block], *(view.unbind() for view in views), strict=True)
            for earlier_t, by_dc_t, by_ds_t, slope_t, f_t, da_t, da_ifg_t, da_o_t in reversed(list(steps)):
                dc.addcmul_(ds, slope_t)
                torch.mul(by_dc_t, dc[:, None], out=da_ifg_t)
                torch.mul(by_ds_t, ds, out=da_o_t)
                dc.mul_(f_t)
                product(da_t, earlier_t, out=ds)
            add_product(dw, da[block], previous(s0, states, block), ctx.dtype)
        return da, ds, dc, dw, da.sum((0, 1)) if ctx.needs_input_grad[4] else None, None
