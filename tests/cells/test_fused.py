"""The fused kernels give the numbers of the equations, and are taken where they are the faster way."""

import functools
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from charlm.cells import Cell, State, find_cell, fused, run_layer, steps

T, B, H = 7, 3, 6
KERNELS = ["rnn", "lstm", "gru"]


def layer(cell: Cell, width: int, bias: bool) -> list[Tensor | None]:
    torch.manual_seed(0)
    rows = cell.gates * H
    shapes = [(rows, width), (rows, H), *([(rows,), (rows,)] if bias else [])]
    weights: list[Tensor | None] = [torch.randn(shape).requires_grad_() for shape in shapes]
    return weights if bias else [*weights, None, None]


def by_steps(cell: Cell) -> Callable[..., tuple[Tensor, State]]:
    def run(inputs: Tensor, state: State, *weights: Tensor | None) -> tuple[Tensor, State]:
        weight_ih, weight_hh, bias_ih, bias_hh = weights
        assert weight_ih is not None
        out = []
        for x in inputs:
            state = cell.step(torch.nn.functional.linear(x, weight_ih, bias_ih), state, weight_hh, bias_hh)
            out.append(state[0])
        return torch.stack(out), state

    return run


def by_kernel(cell: Cell, dtype: torch.dtype | None = None) -> Callable[..., tuple[Tensor, State]]:
    assert cell.kernel is not None
    return lambda inputs, state, *weights: fused.sequence(str(cell.kernel), inputs, state, *weights, dtype=dtype)


def gradients(
    run: Callable[..., tuple[Tensor, State]], cell: Cell, inputs: Tensor, weights: Sequence[Tensor | None]
) -> list[Tensor]:
    """Output, last state, and the gradients of weights and first state."""
    torch.manual_seed(1)
    state = tuple(torch.randn(B, H).requires_grad_() for _ in range(cell.states))
    out, last = run(inputs, state, *weights)
    loss = (out * torch.randn(T, B, H)).sum() + sum(part.pow(2).sum() for part in last)
    wanted = [w for w in (*weights, *state) if w is not None]
    return [out, *last, *torch.autograd.grad(loss, wanted)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("one_hot", [True, False])
@pytest.mark.parametrize("name", KERNELS)
def test_the_fused_layer_equals_the_equations_values_and_gradients(name: str, bias: bool, one_hot: bool) -> None:
    cell = find_cell(name)
    weights = layer(cell, 5, bias)
    torch.manual_seed(2)
    ids = torch.randint(0, 5, (T, B))
    vectors = torch.nn.functional.one_hot(ids, 5).float() if one_hot else torch.randn(T, B, 5)
    found = gradients(by_kernel(cell), cell, ids if one_hot else vectors, weights)
    expected = gradients(by_steps(cell), cell, vectors, weights)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_bfloat16_is_near_and_leaves_the_weights_in_float32() -> None:
    cell = find_cell("lstm")
    weights = layer(cell, 5, bias=True)
    ids = torch.randint(0, 5, (T, B))
    found = gradients(by_kernel(cell, torch.bfloat16), cell, ids, weights)
    expected = gradients(by_kernel(cell), cell, ids, weights)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.float32
        assert 0 < (a - b).norm() / b.norm() < 0.02  # 8 bits of mantissa: each number is off by up to 1 in 256


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", ["rnn", "lstm", "gru-after", "gru-before"])
def test_bfloat16_derived_by_hand_is_near_too(
    name: str, bias: bool, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = find_cell(*name.split("-"))
    monkeypatch.setattr(steps, "_MIN_PACKED", 0 if packed else 1 << 40)
    monkeypatch.setattr(fused, "has_kernel", lambda *_: False)
    # Small ones: a simple recurrent layer of large weights is chaotic, and makes much of any difference.
    weights = [w if w is None else (w.detach() * 0.3).requires_grad_() for w in layer(cell, 5, bias)]
    for inputs in (torch.randint(0, 5, (T, B)), torch.randn(T, B, 5)):
        found, expected = (
            gradients(functools.partial(run_layer, cell, backend=backend), cell, inputs, weights)
            for backend in ("bfloat16", "derived")
        )
        for a, b in zip(found, expected, strict=True):
            assert a.dtype == torch.float32
            assert 0 < (a - b).norm() / b.norm() < 0.02


def test_it_is_taken_for_narrow_inputs_and_many_steps_in_float32_only() -> None:
    ids = torch.zeros(T, B, dtype=torch.int64)
    assert fused.suits("lstm", ids, torch.zeros(4 * H, 2 * H))
    assert not fused.suits("lstm", ids, torch.zeros(4 * H, 2 * H + 1))
    assert not fused.suits("lstm", ids, torch.zeros(4 * H, 2 * H, dtype=torch.float64))
    assert not fused.suits("lstm", ids[:1], torch.zeros(4 * H, 2 * H))
    assert not fused.suits("gru", ids, torch.zeros(3 * H, H))  # on the CPU torch's own is slow


@pytest.mark.parametrize("backend", ["derived", "fused", "auto"])
@pytest.mark.parametrize("name", KERNELS)
def test_every_way_through_a_layer_gives_the_same(name: str, backend: str) -> None:
    cell = find_cell(name)
    weights = layer(cell, 5, bias=True)
    ids = torch.randint(0, 5, (T, B))
    vectors = torch.nn.functional.one_hot(ids, 5).float()
    found = gradients(lambda *a: run_layer(cell, *a, backend=backend), cell, ids, weights)
    for a, b in zip(found, gradients(by_steps(cell), cell, vectors, weights), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
