"""The cross-entropy equals PyTorch's, in values and gradients, however many rows are held together."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from charlm.text.batches import IGNORE
from charlm.training.loss import Loss, cross_entropy

H, V = 5, 7


def case(N: int, bias: bool, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    torch.manual_seed(N)
    features, weight = (torch.randn(n, H, dtype=dtype).requires_grad_() for n in (N, V))
    targets = torch.randint(0, V, (N,))
    targets[::3] = IGNORE
    return features, weight, torch.randn(V, dtype=dtype).requires_grad_() if bias else None, targets


def given_by(loss: Loss) -> list[Tensor]:
    return [part for part in loss if part is not None]


def by_autograd(total: Tensor, *wanted: Tensor | None) -> list[Tensor]:
    return [total, *torch.autograd.grad(total * 0.3, [w for w in wanted if w is not None])]


@given(N=st.integers(1, 20), rows=st.integers(0, 8), bias=st.booleans())
def test_it_equals_the_cross_entropy_of_the_logits(N: int, rows: int, bias: bool) -> None:
    features, weight, b, targets = case(N, bias)
    found = given_by(cross_entropy(features, weight, b, targets, scale=0.3, max_logits=rows * V))
    logits = F.linear(features, weight, b)
    expected = F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum")
    torch.testing.assert_close(found, by_autograd(expected, features, weight, b))


def test_logits_of_any_size_do_not_overflow() -> None:
    features, weight, b, targets = case(6, bias=True, dtype=torch.float32)
    for part in given_by(cross_entropy(features * 1e18, weight, b, targets)):
        assert torch.isfinite(part).all()


def test_in_bfloat16_it_is_near_and_its_gradients_are_float32() -> None:
    features, weight, b, targets = case(200, bias=True, dtype=torch.float32)
    exact = given_by(cross_entropy(features, weight, b, targets))
    near = given_by(cross_entropy(features, weight, b, targets, dtype=torch.bfloat16))
    for one, other in zip(exact, near, strict=True):
        assert other.dtype == torch.float32
        assert 0 < (one - other).norm() / one.norm() < 0.02
