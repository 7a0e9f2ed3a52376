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

from charlm.cells.steps import add_product, blocks, earlier_gradients, previous, recurrent_product, tanh_

GATES = 3
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

    Backward, with a· the arguments of the gates, q = r ∘ s_{t-1} and d· the gradient of the loss:

        da_z = ds_t ∘ (s_{t-1} - h) ∘ z(1-z)       da_n = ds_t ∘ (1-z) ∘ (1-h²)
        dq   = W_hᵀ da_n                           da_r = dq ∘ s_{t-1} ∘ r(1-r)
        ds_{t-1} = ds_t ∘ z + dq ∘ r + W_rᵀ da_r + W_zᵀ da_z
        dx_t = da_t,   dW_h = Σ_t da_n qᵀ,   dW_{r,z} = Σ_t da_{r,z} s_{t-1}ᵀ,   db = Σ_t da_t
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, s0: Tensor, weight_hh: Tensor, bias_hh: Tensor | None, dtype: torch.dtype | None
    ) -> Tensor:
        """Returns s_1 … s_T, shape (T, B, H)."""
        T, B, H = x.shape[0], x.shape[1], weight_hh.shape[1]
        b_rz, b_n = (None, None) if bias_hh is None else bias_hh.split((2 * H, H))
        product_rz = recurrent_product(weight_hh[: 2 * H], B, b_rz, dtype)
        product_n = recurrent_product(weight_hh[2 * H :], B, b_n, dtype)
        gates = x.new_empty(T, B, 2 * H)  # r, z
        states: Tensor = x.new_empty(T, B, H)
        candidates, products = x.new_empty(2, T, B, H)  # h, q, each (T, B, H)
        x_rz, x_n = x.split((2 * H, H), 2)
        views = (x_rz, x_n, gates, *gates.chunk(2, 2), products, candidates, states)
        s = s0
        for x_rz_t, x_n_t, rz, r, z, q, h, s_t in zip(*(view.unbind() for view in views), strict=True):
            product_rz(s, x_rz_t, out=rz).sigmoid_()
            tanh_(product_n(torch.mul(r, s, out=q), x_n_t, out=h))
            s = torch.lerp(h, s, z, out=s_t)
        ctx.dtype = dtype
        ctx.save_for_backward(gates, candidates, states, products, s0, weight_hh)
        return states

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradients of x, s0, weight_hh and bias_hh."""
        gates, candidates, states, products, s0, weight_hh = ctx.saved_tensors
        T, B, H = states.shape
        product_rz = recurrent_product(weight_hh[: 2 * H].t(), B, dtype=ctx.dtype)
        product_n = recurrent_product(weight_hh[2 * H :].t(), B, dtype=ctx.dtype)
        earlier = earlier_gradients(grad)
        zero, dq, part = states.new_zeros(3, B, H).unbind()
        da = states.new_empty(T, B, 3 * H)
        dw = torch.zeros_like(weight_hh)
        ds = grad[-1].clone()
        for block in blocks(T, B * H):
            r, z = gates[block].chunk(2, 2)  # each (K, B, H)
            h, before = candidates[block], previous(s0, states, block)
            to_r = (r - r * r).mul_(before)
            to_z = (z - z * z).mul_(before - h)
            to_n = (1 - h * h).mul_(1 - z)
            da_rz, da_n = da[block].split((2 * H, H), 2)
            views = (r, z, to_r, to_z, to_n, da_rz, *da[block].chunk(3, 2))
            steps = zip(earlier[block], *(view.unbind() for view in views), strict=True)
            for earlier_t, r_t, z_t, to_r_t, to_z_t, to_n_t, da_rz_t, da_r_t, da_z_t, da_n_t in reversed(
                list(steps)
            ):
                product_n(torch.mul(ds, to_n_t, out=da_n_t), zero, out=dq)
                torch.mul(dq, to_r_t, out=da_r_t)
                torch.mul(ds, to_z_t, out=da_z_t)
                torch.addcmul(earlier_t, ds, z_t, out=part).addcmul_(dq, r_t)
                product_rz(da_rz_t, part, out=ds)
            add_product(dw[: 2 * H], da_rz, before, ctx.dtype)
            add_product(dw[2 * H :], da_n, products[block], ctx.dtype)
        return da, ds, dw, da.sum((0, 1)) if ctx.needs_input_grad[3] else None, None


class GRUAfterFunction(torch.autograd.Function):
    """All steps with the reset gate after the product, the gradient derived by hand.

    Backward, with a· the arguments of the gates, m = W_h s_{t-1} + b'_h and d· the gradient of the loss:

        da_z = ds_t ∘ (s_{t-1} - h) ∘ z(1-z)       da_n = ds_t ∘ (1-z) ∘ (1-h²)
        da_r = da_n ∘ m ∘ r(1-r)                   dm   = da_n ∘ r
        ds_{t-1} = ds_t ∘ z + Wᵀ (da_r, da_z, dm)
        dx_t = (da_r, da_z, da_n),   dW = Σ_t (da_r, da_z, dm) s_{t-1}ᵀ,   db' = Σ_t (da_r, da_z, dm)
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, s0: Tensor, weight_hh: Tensor, bias_hh: Tensor | None, dtype: torch.dtype | None
    ) -> Tensor:
        """Returns s_1 … s_T, shape (T, B, H)."""
        T, B, H = x.shape[0], x.shape[1], weight_hh.shape[1]
        product = recurrent_product(weight_hh, B, bias_hh, dtype)
        gates = x.new_empty(T, B, 3 * H)  # r, z and x_n + m
        states: Tensor = x.new_empty(T, B, H)
        candidates: Tensor = x.new_empty(T, B, H)  # h
        views = (x, x[:, :, 2 * H :], gates, gates[:, :, : 2 * H], *gates.chunk(3, 2), candidates, states)
        s = s0
        for x_t, x_n, a, rz, r, z, a_n, h, s_t in zip(*(view.unbind() for view in views), strict=True):
            product(s, x_t, out=a)
            rz.sigmoid_()
            tanh_(torch.lerp(x_n, a_n, r, out=h))  # x_n + r ∘ m
            s = torch.lerp(h, s, z, out=s_t)
        ctx.dtype = dtype
        ctx.save_for_backward(x, gates, candidates, states, s0, weight_hh)
        return states

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradients of x, s0, weight_hh and bias_hh."""
        x, gates, candidates, states, s0, weight_hh = ctx.saved_tensors
        T, B, H = states.shape
        product = recurrent_product(weight_hh.t(), B, dtype=ctx.dtype)
        earlier = earlier_gradients(grad)
        dx = torch.empty_like(gates)
        ds = states.new_empty(T + 1, B, H)  # of s_0 … s_T, with all its parts
        part = torch.empty_like(s0)
        dw = torch.zeros_like(weight_hh)
        db = states.new_zeros(3 * H)
        ds[T] = grad[-1]
        for block in blocks(T, B * H):
            r, z, a_n = gates[block].chunk(3, 2)  # each (K, B, H)
            h, before = candidates[block], previous(s0, states, block)
            to_n = (1 - h * h).mul_(1 - z)
            factors = h.new_empty(len(h), B, 3, H)  # what multiplies ds_t in da_r, da_z and dm
            to_r, to_z, to_m = factors.unbind(2)
            torch.mul(to_n, r, out=to_m)
            torch.sub(a_n, x[block, :, 2 * H :], out=to_r).mul_(to_m).mul_(1 - r)
            torch.sub(before, h, out=to_z).mul_(z).mul_(1 - z)
            dp = torch.empty_like(factors)  # the gradient of W s + b'
            ds_block = ds[block.start + 1 : block.stop + 1]
            views = (ds_block, ds[block], factors, z, dp, dp.flatten(2))
            steps = zip(earlier[block], *(view.unbind() for view in views), strict=True)
            for earlier_t, ds_t, ds_before, factors_t, z_t, dp_t, dp_flat in reversed(list(steps)):
                torch.mul(factors_t, ds_t[:, None], out=dp_t)
                product(dp_flat, torch.addcmul(earlier_t, ds_t, z_t, out=part), out=ds_before)
            flat = dp.view(-1, 3 * H)  # (K·B, 3H)
            add_product(dw, flat, before, ctx.dtype)
            db += flat.sum(0)
            dx[block, :, : 2 * H] = dp[:, :, :2].flatten(2)
            torch.mul(ds_block, to_n, out=dx[block, :, 2 * H :])
        return dx, ds[0], dw, db if ctx.needs_input_grad[3] else None, None
