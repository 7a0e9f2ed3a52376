"""Each cell's fast forward and hand-derived backward against its plain one-step equations."""

from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from charlm.cells import CELLS, Cell

every_cell = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
with_and_without_bias = pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
few = settings(max_examples=25, deadline=None)


class Arguments(NamedTuple):
    """What a cell is called with."""

    x: Tensor  # (T, B, G·H)
    state: tuple[Tensor, ...]
    weight_hh: Tensor
    bias_hh: Tensor | None

    @property
    def tensors(self) -> list[Tensor]:
        every = [self.x, *self.state, self.weight_hh, self.bias_hh]
        return [tensor for tensor in every if tensor is not None]


def draw(
    cell: Cell, T: int, B: int, H: int, bias: bool = True, seed: int = 0, dtype: torch.dtype = torch.float64
) -> Arguments:
    """Random arguments that want a gradient."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng, dtype=dtype).requires_grad_()

    rows = cell.gates * H
    state = tuple(normal(B, H) for _ in range(cell.states))
    return Arguments(normal(T, B, rows), state, normal(rows, H), normal(rows) if bias else None)


def stepwise(cell: Cell, args: Arguments) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The same as `cell.sequence`, one step of the equations after the other."""
    state, states = args.state, []
    for x_t in args.x:
        state = cell.step(x_t, state, args.weight_hh, args.bias_hh)
        states.append(state[0])
    return torch.stack(states), state


def weighed(s: Tensor, last: tuple[Tensor, ...]) -> Tensor:
    """A number in which every output counts, each with another weight."""
    rng = torch.Generator().manual_seed(9)
    outputs = [s, *last]
    return sum((o * torch.randn(o.shape, generator=rng, dtype=o.dtype)).sum() for o in outputs)


@every_cell
@with_and_without_bias
@pytest.mark.parametrize(("T", "B"), [(1, 1), (1, 2), (3, 1), (3, 2)])
def test_the_gradient_by_hand_is_the_numerical_one(cell: Cell, bias: bool, T: int, B: int) -> None:
    args = draw(cell, T, B, H=2, bias=bias)

    def outputs(*tensors: Tensor) -> tuple[Tensor, ...]:
        x, *rest = tensors
        state, weights = tuple(rest[: cell.states]), rest[cell.states :]
        s, last = cell.sequence(x, state, weights[0], weights[1] if bias else None)
        return (s, *last)

    assert torch.autograd.gradcheck(outputs, args.tensors)


@every_cell
@with_and_without_bias
@few
@given(size=st.tuples(st.integers(1, 7), st.integers(1, 4), st.integers(1, 9)), seed=st.integers(0, 999))
def test_the_whole_sequence_equals_its_steps(cell: Cell, bias: bool, size: tuple[int, int, int], seed: int) -> None:
    args = draw(cell, *size, bias=bias, seed=seed)

    (fast, fast_last), (slow, slow_last) = cell.sequence(*args), stepwise(cell, args)

    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-12)
    torch.testing.assert_close(fast_last, slow_last, rtol=0, atol=1e-12)
    for a, b in zip(
        torch.autograd.grad(weighed(fast, fast_last), args.tensors),
        torch.autograd.grad(weighed(slow, slow_last), args.tensors),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@every_cell
@with_and_without_bias
def test_the_whole_sequence_equals_its_steps_in_float32(cell: Cell, bias: bool) -> None:
    args = draw(cell, T=9, B=3, H=8, bias=bias, dtype=torch.float32)

    (fast, fast_last), (slow, slow_last) = cell.sequence(*args), stepwise(cell, args)

    assert fast.dtype == torch.float32
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fast_last, slow_last, rtol=1e-4, atol=1e-5)
    for a, b in zip(
        torch.autograd.grad(weighed(fast, fast_last), args.tensors),
        torch.autograd.grad(weighed(slow, slow_last), args.tensors),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


@every_cell
def test_the_last_state_alone_teaches_the_first_one(cell: Cell) -> None:
    args = draw(cell, T=4, B=2, H=3)

    for part in range(cell.states):  # of the last state
        fast = torch.autograd.grad(cell.sequence(*args)[1][part].sum(), args.tensors)
        slow = torch.autograd.grad(stepwise(cell, args)[1][part].sum(), args.tensors)
        for a, b in zip(fast, slow, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
            assert a.abs().sum() > 0


@every_cell
@with_and_without_bias
def test_one_pass_equals_chunks_with_the_state_carried_exactly(cell: Cell, bias: bool) -> None:
    # Steps of whole cache lines: matrix products may round by the alignment of their arguments.
    args = draw(cell, T=9, B=2, H=16, bias=bias)
    whole, last = cell.sequence(*args)

    for cuts in ((4,), (1, 8), (3, 6), tuple(range(1, 9))):
        state, parts = args.state, []
        for chunk in args.x.tensor_split(cuts):
            s, state = cell.sequence(chunk, state, args.weight_hh, args.bias_hh)
            parts.append(s)
        assert torch.equal(torch.cat(parts), whole)
        assert all(map(torch.equal, state, last))


@every_cell
@few
@given(
    size=st.tuples(st.integers(2, 9), st.integers(1, 3), st.integers(1, 9)),
    cuts=st.sets(st.integers(1, 8)),
    seed=st.integers(0, 999),
)
def test_one_pass_equals_any_chunks_gradients_included(
    cell: Cell, size: tuple[int, int, int], cuts: set[int], seed: int
) -> None:
    args = draw(cell, *size, seed=seed)
    whole, last = cell.sequence(*args)

    state, parts = args.state, []
    for chunk in args.x.tensor_split(sorted(cut for cut in cuts if cut < size[0])):
        s, state = cell.sequence(chunk, state, args.weight_hh, args.bias_hh)
        parts.append(s)

    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(state, last, rtol=0, atol=1e-12)
    for a, b in zip(
        torch.autograd.grad(weighed(torch.cat(parts), state), args.tensors),
        torch.autograd.grad(weighed(whole, last), args.tensors),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@every_cell
def test_the_last_state_is_that_after_the_last_step(cell: Cell) -> None:
    args = draw(cell, T=5, B=2, H=3)

    s, last = cell.sequence(*args)

    assert s.shape == (5, 2, 3)
    assert [part.shape for part in last] == [(2, 3)] * cell.states
    assert torch.equal(last[0], s[-1])


@every_cell
@with_and_without_bias
def test_nothing_given_is_changed(cell: Cell, bias: bool) -> None:
    args = draw(cell, T=4, B=2, H=3, bias=bias)
    before = [tensor.detach().clone() for tensor in args.tensors]
    s, last = cell.sequence(*args)
    incoming = [torch.ones_like(output) for output in (s, *last)]

    torch.autograd.backward([s, *last], [gradient.clone() for gradient in incoming], retain_graph=True)
    first = [tensor.grad.clone() for tensor in args.tensors]
    gradients = [gradient.clone() for gradient in incoming]
    again = torch.autograd.grad([s, *last], args.tensors, gradients)  # the saved tensors are whole still

    assert all(map(torch.equal, args.tensors, before))
    assert all(map(torch.equal, gradients, incoming))
    assert all(map(torch.equal, again, first))


@every_cell
@with_and_without_bias
def test_a_non_contiguous_input_gives_the_same(cell: Cell, bias: bool) -> None:
    args = draw(cell, T=4, B=3, H=2, bias=bias)
    batch_major = args.x.detach().transpose(0, 1).contiguous().requires_grad_()  # (B, T, G·H)
    strided = torch.stack((args.state[0], args.state[0]), 2).detach()[:, :, 0]
    assert not batch_major.transpose(0, 1).is_contiguous()
    assert not strided.is_contiguous()

    s, last = cell.sequence(*args)
    t, t_last = cell.sequence(batch_major.transpose(0, 1), (strided, *args.state[1:]), args.weight_hh, args.bias_hh)

    torch.testing.assert_close(t, s, rtol=0, atol=1e-12)
    torch.testing.assert_close(t_last, last, rtol=0, atol=1e-12)
    (dx,) = torch.autograd.grad(weighed(s, last), [args.x])
    (dx_t,) = torch.autograd.grad(weighed(t, t_last), [batch_major])
    torch.testing.assert_close(dx_t.transpose(0, 1), dx, rtol=0, atol=1e-12)


@every_cell
@few
@given(size=st.tuples(st.integers(1, 4), st.integers(2, 4), st.integers(1, 4)), seed=st.integers(0, 999))
def test_sequences_side_by_side_do_not_touch_each_other(cell: Cell, size: tuple[int, int, int], seed: int) -> None:
    args = draw(cell, *size, seed=seed)
    together, _ = cell.sequence(*args)

    for b in range(size[1]):
        alone, _ = cell.sequence(
            args.x[:, b : b + 1], tuple(part[b : b + 1] for part in args.state), args.weight_hh, args.bias_hh
        )
        torch.testing.assert_close(together[:, b : b + 1], alone, rtol=0, atol=1e-12)


@every_cell
def test_frozen_weights_want_no_gradient(cell: Cell) -> None:
    args = draw(cell, T=3, B=2, H=3)
    expected = torch.autograd.grad(weighed(*cell.sequence(*args)), [args.x])
    frozen = Arguments(
        args.x, tuple(p.detach() for p in args.state), args.weight_hh.detach(), args.bias_hh.detach()
    )

    weighed(*cell.sequence(*frozen)).backward()

    assert torch.equal(args.x.grad, expected[0])
    assert all(tensor.grad is None for tensor in frozen.tensors[1:])
