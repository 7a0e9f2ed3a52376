"""Every kernel that runs a layer gives the numbers of the equations, PyTorch's own included."""

import functools
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from charlm import kernels
from charlm.cells import CELLS, Cell, State, fused, run_layer
from charlm.errors import InputError

T, B, H = 7, 3, 6
KERNELS = [name for name, cell in CELLS.items() if cell.torch_kernel]
compiler = pytest.mark.skipif(kernels.library() is None, reason="no C compiler")


def layer(cell: Cell, width: int, bias: bool, hidden: int = H) -> list[Tensor | None]:
    torch.manual_seed(0)
    rows = cell.gates * hidden
    shapes = [(rows, width), (rows, hidden), *([(rows,), (rows,)] if bias else [])]
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
    assert cell.torch_kernel is not None
    return lambda inputs, state, *weights: fused.sequence(
        str(cell.torch_kernel), inputs, state, *weights, dtype=dtype
    )


def gradients(
    run: Callable[..., tuple[Tensor, State]], cell: Cell, inputs: Tensor, weights: Sequence[Tensor | None]
) -> list[Tensor]:
    """Output, last state, and the gradients of weights and first state."""
    torch.manual_seed(1)
    assert weights[1] is not None
    batch_size, hidden = inputs.shape[1], weights[1].shape[1]
    state = tuple(torch.randn(batch_size, hidden).requires_grad_() for _ in range(cell.states))
    out, last = run(inputs, state, *weights)
    loss = (out * torch.randn(out.shape)).sum() + sum(part.pow(2).sum() for part in last)
    wanted = [w for w in (*weights, *state) if w is not None]
    return [out, *last, *torch.autograd.grad(loss, wanted)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("one_hot", [True, False])
@pytest.mark.parametrize("name", KERNELS)
def test_the_fused_layer_equals_the_equations_values_and_gradients(name: str, bias: bool, one_hot: bool) -> None:
    cell = CELLS[name]
    weights = layer(cell, 5, bias)
    torch.manual_seed(2)
    ids = torch.randint(0, 5, (T, B))
    vectors = torch.nn.functional.one_hot(ids, 5).float() if one_hot else torch.randn(T, B, 5)
    found = gradients(by_kernel(cell), cell, ids if one_hot else vectors, weights)
    expected = gradients(by_steps(cell), cell, vectors, weights)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", KERNELS)
def test_weights_laid_together_as_for_cuda_give_the_same_values_and_gradients(
    name: str, bias: bool, dtype: torch.dtype
) -> None:
    cell = CELLS[name]
    weights = layer(cell, 5, bias)

    def together(inputs: Tensor, state: State, *given: Tensor | None) -> tuple[Tensor, State]:
        copies = fused.lay_together([weight for weight in given if weight is not None], dtype)
        return by_kernel(cell)(inputs.to(dtype), state, *copies, *(() if bias else (None, None)))

    torch.manual_seed(2)
    vectors = torch.randn(T, B, 5)
    expected = gradients(by_kernel(cell, dtype), cell, vectors, weights)
    for a, b in zip(gradients(together, cell, vectors, weights), expected, strict=True):
        torch.testing.assert_close(a.to(b.dtype), b)


@pytest.mark.parametrize("bias", [True, False])
def test_weights_laid_together_follow_each_other_in_memory_and_leave_room_for_biases(bias: bool) -> None:
    weights = [weight for weight in layer(CELLS["gru"], 5, bias) if weight is not None]
    copies = fused.lay_together(weights, torch.float32)
    at = copies[0].data_ptr()
    for copy, weight in zip(copies, weights, strict=True):
        assert copy.data_ptr() == at
        assert copy.is_contiguous()
        assert torch.equal(copy, weight)
        at += copy.numel() * 4
    room = copies[0].untyped_storage()
    assert len(room) == 4 * 3 * H * (5 + H + 2)  # bytes, with or without biases
    if not bias:
        assert not any(room[-4 * 3 * H * 2 :])


def test_without_a_gradient_the_fused_layer_gives_the_same() -> None:
    cell, inputs = CELLS["lstm"], torch.randn(T, B, 5)
    weights = layer(cell, 5, bias=True)
    state = (torch.randn(B, H), torch.randn(B, H))
    learning = by_kernel(cell)(inputs, state, *weights)
    with torch.no_grad():
        torch.testing.assert_close(by_kernel(cell)(inputs, state, *weights), learning, rtol=0, atol=0)


def test_exact_products_are_a_setting_for_the_time_of_a_call() -> None:
    before = torch.backends.cudnn.allow_tf32
    with fused.exact_products():
        own = getattr(torch.backends.cudnn.rnn, "fp32_precision", None)
        assert own == "ieee" if own else not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32 == before
    with pytest.raises(InputError), fused.exact_products():
        raise InputError
    assert torch.backends.cudnn.allow_tf32 == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("name", "kernel"), [*((name, "python") for name in CELLS), *((name, "fused") for name in KERNELS)]
)
def test_a_layer_asks_nothing_of_the_device_that_its_tensors_are_on(
    name: str, kernel: str, dtype: torch.dtype
) -> None:
    """On the meta device tensors have shapes alone: what reads numbers, or makes tensors elsewhere, fails."""
    cell = CELLS[name]
    weights = [w if w is None else w.detach().to("meta").requires_grad_() for w in layer(cell, 5, bias=True)]
    state = tuple(torch.zeros(B, H, device="meta", requires_grad=True) for _ in range(cell.states))
    for inputs in (torch.zeros(T, B, dtype=torch.int32), torch.zeros(T, B, 5)):
        out, last = run_layer(cell, inputs.to("meta"), state, *weights, kernel=kernel, dtype=dtype)
        found = torch.autograd.grad(out.sum() + sum(part.sum() for part in last), [*weights, *state])
        for a, b in zip((*found, out, *last), (*weights, *state, torch.zeros(T, B, H), *state), strict=True):
            assert b is not None
            assert (a.is_meta, a.shape, a.dtype) == (True, b.shape, torch.float32)


def test_bfloat16_is_near_and_leaves_the_weights_in_float32() -> None:
    cell = CELLS["lstm"]
    weights = layer(cell, 5, bias=True)
    ids = torch.randint(0, 5, (T, B))
    found = gradients(by_kernel(cell, torch.bfloat16), cell, ids, weights)
    expected = gradients(by_kernel(cell), cell, ids, weights)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.float32
        assert 0 < (a - b).norm() / b.norm() < 0.02  # 8 bits of mantissa: each number is off by up to 1 in 256


@pytest.mark.parametrize("size", [(T, B, H), (2, 64, 512)], ids=["small", "large"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", CELLS)
def test_bfloat16_by_the_equations_in_python_is_near_too(name: str, bias: bool, size: tuple[int, int, int]) -> None:
    steps, batch_size, hidden = size
    cell = CELLS[name]
    # Small ones: a simple recurrent layer of large weights is chaotic, and makes much of any difference.
    scale = min(0.3, 0.5 * hidden**-0.5)
    weights = [w if w is None else (w.detach() * scale).requires_grad_() for w in layer(cell, 5, bias, hidden)]
    for inputs in (torch.randint(0, 5, (steps, batch_size)), torch.randn(steps, batch_size, 5)):
        found, expected = (
            gradients(functools.partial(run_layer, cell, kernel="python", dtype=dtype), cell, inputs, weights)
            for dtype in (torch.bfloat16, torch.float32)
        )
        for a, b in zip(found, expected, strict=True):
            assert a.dtype == torch.float32
            assert 0 < (a - b).norm() / b.norm() < 0.02


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        *((name, "python") for name in CELLS),
        *((name, "fused") for name in KERNELS),
        *(pytest.param(name, "compiled", marks=compiler) for name in CELLS if kernels.has_kernel(name)),
    ],
)
def test_every_kernel_gives_the_same(name: str, kernel: str) -> None:
    cell = CELLS[name]
    weights = layer(cell, 5, bias=True)
    ids = torch.randint(0, 5, (T, B))
    vectors = torch.nn.functional.one_hot(ids, 5).float()
    found = gradients(functools.partial(run_layer, cell, kernel=kernel), cell, ids, weights)
    for a, b in zip(found, gradients(by_steps(cell), cell, vectors, weights), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
