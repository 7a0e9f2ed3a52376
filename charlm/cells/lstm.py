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


def sequence(x: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor | None) -> tuple[Tensor, State]:
    """All steps: x is (T, B, 4H), the result s_1 … s_T (T, B, H) and the last state."""
    s, c = LSTMFunction.apply(x, *state, weight_hh, bias_hh)  # type: ignore[no-untyped-call]  # (T, B, H), (B, H)
    return s, (s[-1], c)


class LSTMFunction(torch.autograd.Function):
    """All steps of the cell, with its gradient derived by hand.

    Backward, with a· the arguments of the gates and d· the gradient of the loss:

        dc_t  += ds_t ∘ o ∘ (1 - tanh²(c_t))
        da_i   = dc_t ∘ g ∘ i(1-i)         da_f = dc_t ∘ c_{t-1} ∘ f(1-f)
        da_g   = dc_t ∘ i ∘ (1-g²)         da_o = ds_t ∘ tanh(c_t) ∘ o(1-o)
        dc_{t-1}  = dc_t ∘ f               ds_{t-1} += Wᵀ da_t
        dx_t   = da_t,   dW = Σ_t da_t s_{t-1}ᵀ,   db = Σ_t da_t

    All that multiplies ds_t and dc_t is known after the forward pass, and is made for the whole window at once.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, s0: Tensor, c0: Tensor, weight_hh: Tensor, bias_hh: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Returns s_1 … s_T, shape (T, B, H), and c_T, shape (B, H)."""
        T, B, H = x.shape[0], x.shape[1], weight_hh.shape[1]
        a = x if bias_hh is None else x + bias_hh  # (T, B, 4H)
        gates = torch.empty_like(a, memory_format=torch.contiguous_format)  # (T, B, 4H)
        states, cells, tanh_cells = x.new_empty(3, T, B, H)  # each (T, B, H)
        w = weight_hh.t()
        s, c = s0, c0
        for a_t, gates_t, s_t, c_t, tanh_c_t in zip(
            a.unbind(), gates.unbind(), states.unbind(), cells.unbind(), tanh_cells.unbind(), strict=True
        ):
            torch.addmm(a_t, s, w, out=gates_t)
            gates_t[:, : 2 * H].sigmoid_()
            gates_t[:, 2 * H : 3 * H].tanh_()
            gates_t[:, 3 * H :].sigmoid_()
            i, f, g, o = gates_t.chunk(4, dim=1)
            c = torch.mul(f, c, out=c_t).addcmul_(i, g)
            s = torch.mul(o, torch.tanh(c, out=tanh_c_t), out=s_t)
        ctx.save_for_backward(gates, states, cells, tanh_cells, s0, c0, weight_hh)
        return states, c.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_c: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradients of x, s0, c0, weight_hh and bias_hh."""
        gates, states, cells, tanh_cells, s0, c0, weight_hh = ctx.saved_tensors
        i, f, g, o = gates.chunk(4, dim=2)  # each (T, B, H)
        previous_c = torch.cat((c0[None], cells[:-1]))  # (T, B, H)
        by_dc = torch.stack((g * i * (1 - i), previous_c * f * (1 - f), i * (1 - g * g)), 2)  # (T, B, 3, H)
        by_ds = tanh_cells * o * (1 - o)  # (T, B, H)
        slope = o * (1 - tanh_cells * tanh_cells)  # (T, B, H)
        da = torch.empty_like(gates)  # (T, B, 4H)
        T, B, H = slope.shape
        ds, dc = torch.zeros_like(s0), grad_c.clone()
        for t in range(T - 1, -1, -1):
            ds.add_(grad[t])
            dc.addcmul_(ds, slope[t])
            torch.mul(by_dc[t], dc[:, None], out=da[t, :, : 3 * H].view(B, 3, H))
            torch.mul(by_ds[t], ds, out=da[t, :, 3 * H :])
            dc.mul_(f[t])
            torch.mm(da[t], weight_hh, out=ds)
        previous = torch.cat((s0[None], states[:-1]))  # (T, B, H)
        dw = da.flatten(0, 1).t() @ previous.flatten(0, 1)  # (4H, H)
        return da, ds, dc, dw, da.sum((0, 1)) if ctx.needs_input_grad[4] else None
