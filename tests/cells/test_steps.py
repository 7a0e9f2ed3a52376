"""What the hand-derived cells share does what its name says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from charlm.cells import CELLS, steps

DTYPES = [torch.float32, torch.float64]


def test_steps_are_views_of_each_sequence_in_order() -> None:
    a, b = torch.arange(6.0).view(3, 2), torch.zeros(3, 4)
    for _, b_t in steps.steps(a, b):
        b_t.fill_(1.0)
    assert [a_t.tolist() for a_t, _ in steps.steps(a, b)] == [[0, 1], [2, 3], [4, 5]]
    assert b.sum() == 12


@pytest.mark.parametrize("add", ["none", "rows", "bias", "out"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_product_is_the_equation_with_its_factors_rounded(dtype: torch.dtype, add: str) -> None:
    torch.manual_seed(0)
    left, right = torch.randn(5, 32), (torch.randn(32, 24) / 8).to(dtype)
    out = torch.randn(5, 24)
    more = {"none": None, "rows": torch.randn(5, 24), "bias": torch.randn(24), "out": out}[add]
    expected = left.to(dtype).double() @ right.double() + (0 if more is None else more.double())
    assert steps.addmm(more, left, right, out=out) is out
    # In bfloat16 the product is rounded to 8 bits, what is added to it is not.
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=1e-5 if dtype == torch.float32 else 0.02)


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16])
def test_a_product_over_all_steps_is_added_to_the_total(dtype: torch.dtype | None) -> None:
    torch.manual_seed(0)
    total, left, right = torch.randn(6, 4), torch.randn(3, 2, 8)[:, :, :6], torch.randn(3, 2, 4)
    expected = total + torch.einsum("tbn,tbk->nk", left, right)
    steps.add_product(total, left, right, dtype)
    torch.testing.assert_close(total, expected, rtol=0, atol=1e-5 if dtype != torch.bfloat16 else 0.05)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tanh_in_place_is_tanh(dtype: torch.dtype) -> None:
    a = torch.linspace(-12, 12, 10_001, dtype=dtype)
    expected = torch.tanh(a)
    assert steps.tanh_(a) is a
    torch.testing.assert_close(a, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", DTYPES)
def test_times_one_minus_in_place_is_that(dtype: torch.dtype) -> None:
    a, b = torch.linspace(-2, 2, 101, dtype=dtype), torch.linspace(0, 1, 101, dtype=dtype)
    expected = a * (1 - b)
    assert steps.mul_one_minus_(a, b) is a
    torch.testing.assert_close(a, expected, rtol=0, atol=1e-6)


def test_a_product_is_large_by_its_multiplications() -> None:
    assert steps.is_large(64, 3 * 512 * 512)
    assert not steps.is_large(16, 3 * 512 * 512)


@pytest.mark.parametrize("name", CELLS)
def test_a_large_layer_agrees_with_the_single_step(name: str) -> None:
    torch.manual_seed(1)
    cell, T, B, H = CELLS[name], 20, 64, 512
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
