"""The fused LSTM gives the numbers of the equations, and is taken where it is the faster way."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from charlm.cells import find_cell, fused, lstm, run_layer

T, B, H = 7, 3, 6


def layer(width: int, bias: bool) -> list[Tensor | None]:
    torch.manual_seed(0)
    shapes = [(4 * H, width), (4 * H, H), *([(4 * H,), (4 * H,)] if bias else [])]
    weights: list[Tensor | None] = [torch.randn(shape).requires_grad_() for shape in shapes]
    return weights if bias else [*weights, None, None]


def by_steps(inputs: Tensor, state: lstm.State, *weights: Tensor | None) -> tuple[Tensor, lstm.State]:
    weight_ih, weight_hh, bias_ih, bias_hh = weights
    assert weight_ih is not None
    assert weight_hh is not None
    out = []
    for x in inputs:
        x = torch.nn.functional.linear(x, weight_ih, bias_ih)
        state = lstm.step(x, state, weight_hh, bias_hh)
        out.append(state[0])
    return torch.stack(out), state


def gradients(
    run: Callable[..., tuple[Tensor, lstm.State]], inputs: Tensor, weights: list[Tensor | None]
) -> list[Tensor]:
    torch.manual_seed(1)
    state = (torch.randn(B, H).requires_grad_(), torch.randn(B, H).requires_grad_())
    out, (s, c) = run(inputs, state, *weights)
    loss = (out * torch.randn(T, B, H)).sum() + (s * 2).sum() + c.pow(2).sum()
    wanted = [w for w in (*weights, *state) if w is not None]
    return [out, s, c, *torch.autograd.grad(loss, wanted)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("one_hot", [True, False])
def test_the_fused_layer_equals_the_equations_values_and_gradients(bias: bool, one_hot: bool) -> None:
    weights = layer(5, bias)
    torch.manual_seed(2)
    ids = torch.randint(0, 5, (T, B))
    vectors = torch.nn.functional.one_hot(ids, 5).float() if one_hot else torch.randn(T, B, 5)
    found = gradients(fused.lstm, ids if one_hot else vectors, weights)
    expected = gradients(by_steps, vectors, weights)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_it_is_taken_for_narrow_inputs_and_many_steps_in_float32_only() -> None:
    ids = torch.zeros(T, B, dtype=torch.int64)
    assert fused.suits(ids, torch.zeros(4 * H, 2 * H))
    assert not fused.suits(ids, torch.zeros(4 * H, 2 * H + 1))
    assert not fused.suits(ids, torch.zeros(4 * H, 2 * H, dtype=torch.float64))
    assert not fused.suits(ids[:1], torch.zeros(4 * H, 2 * H))


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_both_ways_through_a_layer_give_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = find_cell(name)
    torch.manual_seed(3)
    weights = [torch.randn(cell.gates * H, n) for n in (5, H)] + [torch.randn(cell.gates * H)] * 2
    state = tuple(torch.randn(B, H) for _ in range(cell.states))
    ids = torch.randint(0, 5, (T, B))
    fast, last = run_layer(cell, ids, state, *weights)
    monkeypatch.setattr(fused, "suits", lambda *_: False)
    slow, last_slow = run_layer(cell, ids, state, *weights)
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(last, last_slow, rtol=1e-4, atol=1e-5)
