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


def sequence_before(x: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor | None) -> tuple[Tensor, State]:
    """All steps, reset before: x is (T, B, 3H), the result s_1 … s_T (T, B, H) and the last state."""
    s = GRUBeforeFunction.apply(x, state[0], weight_hh, bias_hh)  # type: ignore[no-untyped-call]  # (T, B, H)
    return s, (s[-1],)


def sequence_after(x: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor | None) -> tuple[Tensor, State]:
    """All steps, reset after: x is (T, B, 3H), the result s_1 … s_T (T, B, H) and the last state."""
    s = GRUAfterFunction.apply(x, state[0], weight_hh, bias_hh)  # type: ignore[no-untyped-call]  # (T, B, H)
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
    def forward(ctx: Any, x: Tensor, s0: Tensor, weight_hh: Tensor, bias_hh: Tensor | None) -> Tensor:
        """Returns s_1 … s_T, shape (T, B, H)."""
        T, B, H = x.shape[0], x.shape[1], weight_hh.shape[1]
        a = x if bias_hh is None else x + bias_hh  # (T, B, 3H)
        gates = torch.empty_like(a, memory_format=torch.contiguous_format)  # (T, B, 3H): r, z, h
        states: Tensor = x.new_empty(T, B, H)
        products: Tensor = x.new_empty(T, B, H)  # q
        w_rz, w_n = weight_hh[: 2 * H].t(), weight_hh[2 * H :].t()
        s = s0
        for a_t, gates_t, q_t, s_t in zip(
            a.unbind(), gates.unbind(), products.unbind(), states.unbind(), strict=True
        ):
            rz, h = gates_t[:, : 2 * H], gates_t[:, 2 * H :]
            torch.addmm(a_t[:, : 2 * H], s, w_rz, out=rz)
            r, z = rz.sigmoid_().chunk(2, dim=1)
            torch.addmm(a_t[:, 2 * H :], torch.mul(r, s, out=q_t), w_n, out=h)
            s = torch.lerp(h.tanh_(), s, z, out=s_t)
        ctx.save_for_backward(gates, states, products, s0, weight_hh)
        return states

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradients of x, s0, weight_hh and bias_hh."""
        gates, states, products, s0, weight_hh = ctx.saved_tensors
        r, z, h = gates.chunk(3, dim=2)  # each (T, B, H)
        T, _, H = h.shape
        w_rz, w_n = weight_hh[: 2 * H], weight_hh[2 * H :]
        previous = torch.cat((s0[None], states[:-1]))  # (T, B, H)
        to_r = previous * r * (1 - r)
        to_z = (previous - h) * z * (1 - z)
        to_n = (1 - z) * (1 - h * h)
        da = torch.empty_like(gates)  # (T, B, 3H)
        da_r, da_z, da_n = da.chunk(3, dim=2)
        ds = torch.zeros_like(s0)
        dq = torch.empty_like(s0)
        for t in range(T - 1, -1, -1):
            ds.add_(grad[t])
            torch.mul(ds, to_z[t], out=da_z[t])
            torch.mul(ds, to_n[t], out=da_n[t])
            torch.mm(da_n[t], w_n, out=dq)
            torch.mul(dq, to_r[t], out=da_r[t])
            ds.mul_(z[t]).addcmul_(dq, r[t]).addmm_(da[t, :, : 2 * H], w_rz)
        flat = da.flatten(0, 1)  # (T·B, 3H)
        dw = torch.cat(
            (flat[:, : 2 * H].t() @ previous.flatten(0, 1), flat[:, 2 * H :].t() @ products.flatten(0, 1))
        )  # (3H, H)
        return da, ds, dw, flat.sum(0) if ctx.needs_input_grad[3] else None


class GRUAfterFunction(torch.autograd.Function):
    """All steps with the reset gate after the product, the gradient derived by hand.

    Backward, with a· the arguments of the gates, m = W_h s_{t-1} + b'_h and d· the gradient of the loss:

        da_z = ds_t ∘ (s_{t-1} - h) ∘ z(1-z)       da_n = ds_t ∘ (1-z) ∘ (1-h²)
        da_r = da_n ∘ m ∘ r(1-r)                   dm   = da_n ∘ r
        ds_{t-1} = ds_t ∘ z + Wᵀ (da_r, da_z, dm)
        dx_t = (da_r, da_z, da_n),   dW = Σ_t (da_r, da_z, dm) s_{t-1}ᵀ,   db' = Σ_t (da_r, da_z, dm)
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, s0: Tensor, weight_hh: Tensor, bias_hh: Tensor | None) -> Tensor:
        """Returns s_1 … s_T, shape (T, B, H)."""
        T, B, H = x.shape[0], x.shape[1], weight_hh.shape[1]
        products = x.new_empty(T, B, 3 * H)  # W s + b' in; r, z, m out
        states: Tensor = x.new_empty(T, B, H)
        candidates: Tensor = x.new_empty(T, B, H)  # h
        w = weight_hh.t()
        s = s0
        for x_t, product, h, s_t in zip(
            x.unbind(), products.unbind(), candidates.unbind(), states.unbind(), strict=True
        ):
            if bias_hh is None:
                torch.mm(s, w, out=product)
            else:
                torch.addmm(bias_hh, s, w, out=product)
            r, z = product[:, : 2 * H].add_(x_t[:, : 2 * H]).sigmoid_().chunk(2, dim=1)
            torch.addcmul(x_t[:, 2 * H :], r, product[:, 2 * H :], out=h)
            s = torch.lerp(h.tanh_(), s, z, out=s_t)
        ctx.save_for_backward(products, candidates, states, s0, weight_hh)
        return states

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradients of x, s0, weight_hh and bias_hh."""
        products, h, states, s0, weight_hh = ctx.saved_tensors
        r, z, m = products.chunk(3, dim=2)  # each (T, B, H)
        previous = torch.cat((s0[None], states[:-1]))  # (T, B, H)
        to_n = (1 - z) * (1 - h * h)
        # What multiplies ds_t in da_r, da_z and dm: (T, B, 3, H)
        factors = torch.stack((to_n * m * r * (1 - r), (previous - h) * z * (1 - z), to_n * r), 2)
        T, B, _, H = factors.shape
        dp = torch.empty_like(products)  # (T, B, 3H): the gradient of W s + b'
        total = torch.empty_like(states)  # ds_t with all its parts, (T, B, H)
        ds = torch.zeros_like(s0)
        for t in range(T - 1, -1, -1):
            ds_t = torch.add(ds, grad[t], out=total[t])
            torch.mul(factors[t], ds_t[:, None], out=dp[t].view(B, 3, H))
            torch.addmm(torch.mul(ds_t, z[t], out=ds), dp[t], weight_hh, out=ds)
        dw = dp.flatten(0, 1).t() @ previous.flatten(0, 1)  # (3H, H)
        dx = torch.cat((dp[:, :, : 2 * H], total * to_n), 2)  # (T, B, 3H)
        return dx, ds, dw, dp.sum((0, 1)) if ctx.needs_input_grad[3] else None
