"""The gated recurrent unit (Cho et al. 2014), with its reset gate before or after the recurrent product.

    z, r = σ(U x_t + W s_{t-1} + b), each with its own U, W and b
    reset before:   h = tanh(U_h x_t + b_h + W_h (r ∘ s_{t-1}) + b'_h)
    reset after:    h = tanh(U_h x_t + b_h + r ∘ (W_h s_{t-1} + b'_h))
    s_t  = (1 - z) ∘ h + z ∘ s_{t-1}

The three matrices stand below each other in PyTorch's order r, z, n, where n is the candidate h: `weight_ih` is
(3H, ·), `weight_hh` (3H, H); b = bias_ih + bias_hh for r and z, b_h and b'_h are their last thirds. The input
product x = U x_t + bias_ih is made outside, for all steps at once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from charlm.cells.steps import add_product, addmm, mul_one_minus_, steps, tanh_

GATES = 3
BLOCKS = ("reset", "update", "candidate")
STATES = 1
State = tuple[Tensor]


def step_before(x: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor | None) -> State:
    """One step with the reset gate before the product, by the equations.

    Args:
        x: U x_t + bias_ih for r, z, n, shape (B, 3H).
        state: (s_{t-1},), shape (B, H).
        weight_hh: W for r, z, n, shape (3H, H).
        bias_hh: shape (3H,), or None.
    """
    (s,) = state
    H = s.shape[1]
    b_rz, b_n = (None, None) if bias_hh is None else (bias_hh[: 2 * H], bias_hh[2 * H :])
    r, z = torch.sigmoid(x[:, : 2 * H] + linear(s, weight_hh[: 2 * H], b_rz)).chunk(2, dim=1)
    h = torch.tanh(x[:, 2 * H :] + linear(r * s, weight_hh[2 * H :], b_n))
    return ((1 - z) * h + z * s,)


def step_after(x: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor | None) -> State:
    """One step with the reset gate after the product, as in PyTorch and cuDNN; arguments as `step_before`."""
    (s,) = state
    x_r, x_z, x_n = x.chunk(3, dim=1)
    a_r, a_z, m = linear(s, weight_hh, bias_hh).chunk(3, dim=1)  # each (B, H)
    r, z = torch.sigmoid(x_r + a_r), torch.sigmoid(x_z + a_z)
    h = torch.tanh(x_n + r * m)
    return ((1 - z) * h + z * s,)


def sequence_before(
    x: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor | None, *, dtype: torch.dtype | None = None
) -> tuple[Tensor, State]:
    """All steps, reset before: x is (T, B, 3H), the result s_1 … s_T (T, B, H) and the last state."""
    s = GRUBeforeFunction.apply(x, state[0], weight_hh, bias_hh, dtype)  # type: ignore[no-untyped-call]  # (T, B, H)
    return s, (s[-1],)


def sequence_after(
    x: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor | None, *, dtype: torch.dtype | None = None
) -> tuple[Tensor, State]:
    """All steps, reset after: x is (T, B, 3H), the result s_1 … s_T (T, B, H) and the last state."""
    s = GRUAfterFunction.apply(x, state[0], weight_hh, bias_hh, dtype)  # type: ignore[no-untyped-call]  # (T, B, H)
    return s, (s[-1],)


class GRUBeforeFunction(torch.autograd.Function):
    """All steps with the reset gate before the product, the gradient derived by hand.

    Backward, from the last step to the first, with a· the arguments of the gates, q = r ∘ s_{t-1}, and d· the
    gradient of the loss:

        da_z = ds_t ∘ (s_{t-1} - h) ∘ z(1-z)       da_n = ds_t ∘ (1-z) ∘ (1-h²)
        dq   = W_hᵀ da_n                           da_r = dq ∘ s_{t-1} ∘ r(1-r)
        ds_{t-1} = grad_{t-1} + ds_t ∘ z + dq ∘ r + W_rᵀ da_r + W_zᵀ da_z
        dx_t = da_t,   dW_h = Σ_t da_n qᵀ,   dW_{r,z} = Σ_t da_{r,z} s_{t-1}ᵀ,   db = Σ_t da_t

    where grad_t is the gradient of s_t as an output: that of the loss and of the layers above.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, s0: Tensor, weight_hh: Tensor, bias_hh: Tensor | None, dtype: torch.dtype | None
    ) -> Tensor:
        """Returns s_1 … s_T, shape (T, B, H)."""
        T, B, H = len(x), *s0.shape
        W_transposed = weight_hh.to(dtype or weight_hh.dtype).t()  # (H, 3H)
        W_rz_transposed, W_h_transposed = W_transposed.split((2 * H, H), 1)
        x_rz, x_n = x.split((2 * H, H), 2)
        gates = x.new_empty(T, B, 2 * H)  # r, z
        candidates, resets = x.new_empty(2, T, B, H)  # h, q
        states = x.new_empty(T + 1, B, H)  # s_0 … s_T
        states[0] = s0
        every = steps(x_rz, x_n, states[:-1], gates, *gates.chunk(2, 2), resets, candidates, states[1:])
        for x_rz_t, x_n_t, s, rz, r, z, q, h, s_t in every:  # s is s_{t-1}; each (B, ·)
            addmm(x_rz_t, s, W_rz_transposed, out=rz)  # (B, 2H)
            if bias_hh is not None:
                rz += bias_hh[: 2 * H]
            rz.sigmoid_()
            addmm(x_n_t, torch.mul(r, s, out=q), W_h_transposed, out=h)
            if bias_hh is not None:
                h += bias_hh[2 * H :]
            tanh_(h)
            torch.lerp(h, s, z, out=s_t)  # h + z ∘ (s_{t-1} - h)
        ctx.dtype = dtype
        ctx.save_for_backward(gates, resets, candidates, states, weight_hh)
        return states[1:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradients of x, s0, weight_hh and bias_hh."""
        gates, resets, candidates, states, weight_hh = ctx.saved_tensors
        T, B, H = candidates.shape
        W_rz, W_h = weight_hh.to(ctx.dtype or weight_hh.dtype).split((2 * H, H))  # (2H, H), (H, H)
        da = gates.new_empty(T, B, 3 * H)
        da_rz, da_n = da.split((2 * H, H), 2)
        ds, ds_z, dq = gates.new_zeros(3, B, H)
        every = steps(grad, *gates.chunk(2, 2), candidates, states[:-1], da_rz, *da.chunk(3, 2))
        for grad_t, r, z, h, s, da_rz_t, da_r, da_z, da_n_t in reversed(every):  # s is s_{t-1}
            ds += grad_t  # now ds_t
            torch.mul(ds, z, out=ds_z)  # ds_t ∘ z
            mul_one_minus_(torch.mul(ds_z, s - h, out=da_z), z)  # ds_t ∘ z ∘ (s_{t-1} - h) ∘ (1 - z)
            mul_one_minus_(torch.sub(ds, ds_z, out=da_n_t), h * h)  # ds_t ∘ (1 - z) ∘ (1 - h²)
            dq_r = addmm(None, da_n_t, W_h, out=dq).mul_(r)  # dq ∘ r
            mul_one_minus_(torch.mul(dq_r, s, out=da_r), r)
            addmm(ds_z.add_(dq_r), da_rz_t, W_rz, out=ds)
        dw = torch.zeros_like(weight_hh)
        add_product(dw[: 2 * H], da_rz, states[:-1], ctx.dtype)
        add_product(dw[2 * H :], da_n, resets, ctx.dtype)
        db = da.sum((0, 1)) if ctx.needs_input_grad[3] else None
        return da, ds, dw, db, None


class GRUAfterFunction(torch.autograd.Function):
    """All steps with the reset gate after the product, the gradient derived by hand.

    Backward, from the last step to the first, with a· the arguments of the gates, m = W_h s_{t-1} + b'_h, and d·
    the gradient of the loss:

        da_z = ds_t ∘ (s_{t-1} - h) ∘ z(1-z)       da_n = ds_t ∘ (1-z) ∘ (1-h²)
        da_r = da_n ∘ m ∘ r(1-r)                   dm   = da_n ∘ r
        ds_{t-1} = grad_{t-1} + ds_t ∘ z + Wᵀ (da_r, da_z, dm)
        dx_t = (da_r, da_z, da_n),   dW = Σ_t (da_r, da_z, dm) s_{t-1}ᵀ,   db' = Σ_t (da_r, da_z, dm)

    where grad_t is the gradient of s_t as an output: that of the loss and of the layers above.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, s0: Tensor, weight_hh: Tensor, bias_hh: Tensor | None, dtype: torch.dtype | None
    ) -> Tensor:
        """Returns s_1 … s_T, shape (T, B, H)."""
        T, B, H = len(x), *s0.shape
        W_transposed = weight_hh.to(dtype or weight_hh.dtype).t()  # (H, 3H)
        x_rz, x_n = x.split((2 * H, H), 2)
        gates = x.new_empty(T, B, 3 * H)  # r, z, m
        candidates = x.new_empty(T, B, H)  # h
        states = x.new_empty(T + 1, B, H)  # s_0 … s_T
        states[0] = s0
        every = steps(
            *(x_rz, x_n, states[:-1]),
            *(gates, gates[:, :, : 2 * H], *gates.chunk(3, 2)),
            *(candidates, states[1:]),
        )
        for x_rz_t, x_n_t, s, a, rz, r, z, m, h, s_t in every:  # s is s_{t-1}; each (B, ·)
            addmm(bias_hh, s, W_transposed, out=a)  # W s_{t-1} + b', (B, 3H)
            rz.add_(x_rz_t).sigmoid_()
            tanh_(torch.addcmul(x_n_t, r, m, out=h))  # x_n + r ∘ m
            torch.lerp(h, s, z, out=s_t)  # h + z ∘ (s_{t-1} - h)
        ctx.dtype = dtype
        ctx.save_for_backward(gates, candidates, states, weight_hh)
        return states[1:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradients of x, s0, weight_hh and bias_hh."""
        gates, candidates, states, weight_hh = ctx.saved_tensors
        T, B, H = candidates.shape
        W_rz, W_h = weight_hh.to(ctx.dtype or weight_hh.dtype).split((2 * H, H))  # (2H, H), (H, H)
        da, dm = gates.new_empty(T, B, 3 * H), gates.new_empty(T, B, H)
        da_rz = da[:, :, : 2 * H]
        ds, ds_z = torch.zeros_like(states[0]), torch.empty_like(states[0])
        every = steps(grad, *gates.chunk(3, 2), candidates, states[:-1], da_rz, *da.chunk(3, 2), dm)
        for grad_t, r, z, m, h, s, da_rz_t, da_r, da_z, da_n, dm_t in reversed(every):  # s is s_{t-1}
            ds += grad_t  # now ds_t
            torch.mul(ds, z, out=ds_z)  # ds_t ∘ z
            mul_one_minus_(torch.mul(ds_z, s - h, out=da_z), z)  # ds_t ∘ z ∘ (s_{t-1} - h) ∘ (1 - z)
            mul_one_minus_(torch.sub(ds, ds_z, out=da_n), h * h)  # ds_t ∘ (1 - z) ∘ (1 - h²)
            torch.mul(da_n, r, out=dm_t)
            mul_one_minus_(torch.mul(dm_t, m, out=da_r), r)
            addmm(ds_z, dm_t, W_h, out=ds)
            addmm(ds, da_rz_t, W_rz, out=ds)
        dw = torch.zeros_like(weight_hh)
        add_product(dw[: 2 * H], da_rz, states[:-1], ctx.dtype)
        add_product(dw[2 * H :], dm, states[:-1], ctx.dtype)
        db = torch.cat((da_rz.sum((0, 1)), dm.sum((0, 1)))) if ctx.needs_input_grad[3] else None
        return da, ds, dw, db, None
