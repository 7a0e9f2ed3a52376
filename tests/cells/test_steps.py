from __future__ import annotations

import pytest
import torch
from torch import Tensor

from charlm.cells import find_cell, steps


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [1, 64])  # below and above the size from which oneDNN is used
def test_the_product_is_the_equation(batch: int, bias: bool) -> None:
    torch.manual_seed(0)
    weight, s, x = torch.randn(768, 512) / 16, torch.randn(batch, 512), torch.randn(batch, 768)
    b = torch.randn(768) if bias else None
    out = torch.empty(batch, 768)
    result = steps.recurrent_product(weight, batch, b)(s, x, out=out)
    expected = x.double() + s.double() @ weight.double().t() + (0 if b is None else b.double())
    assert result is out
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tanh_in_place_is_tanh(dtype: torch.dtype) -> None:
    a = torch.linspace(-12, 12, 10_001, dtype=dtype)
    expected = torch.tanh(a)
    steps.tanh_(a)
    torch.testing.assert_close(a, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("count", "size"), [(1, 5), (40, 1 << 15), (33, 1 << 16), (3, 1 << 20)])
def test_blocks_hold_each_step_once_the_last_first(count: int, size: int) -> None:
    held = [t for block in steps.blocks(count, size) for t in reversed(range(block.start, block.stop))]
    assert held == list(reversed(range(count)))


@pytest.mark.parametrize(("name", "reset"), [("rnn", ""), ("lstm", ""), ("gru", "before"), ("gru", "after")])
def test_many_blocks_and_packed_weights_agree_with_the_single_step(name: str, reset: str) -> None:
    """Large enough for oneDNN's packed product and for a backward pass in several blocks."""
    torch.manual_seed(1)
    cell, T, B, H = find_cell(name, reset), 20, 64, 512
    weight = (torch.randn(cell.gates * H, H) / H**0.5).requires_grad_()
    bias = (torch.randn(cell.gates * H) / 8).requires_grad_()
    x = torch.randn(T, B, cell.gates * H).requires_grad_()
    state = tuple(torch.randn(B, H).requires_grad_() for _ in range(cell.states))
    towards = torch.randn(T, B, H)

    def gradients(out: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad((out * towards).sum(), (x, weight, bias, *state))

    fast, _ = cell.sequence(x, state, weight, bias)
    at, outs = state, []
    for x_t in x.unbind():
        at = cell.step(x_t, at, weight, bias)
        outs.append(at[0])
    plain = torch.stack(outs)
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)
    for mine, reference in zip(gradients(fast), gradients(plain), strict=True):
        assert (mine - reference).norm() <= 1e-5 * reference.norm()
