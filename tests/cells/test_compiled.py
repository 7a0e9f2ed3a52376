"""The compiled kernels give the numbers of the equations, and nothing needs them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from charlm import kernels
from charlm.cells import CELLS, Cell, compiled, run_layer
from charlm.kernels.compiling import find_compiler

NAMES = ["rnn", "lstm", "gru", "gru-before"]
V = 5
compiler = pytest.mark.skipif(kernels.library() is None, reason="no C compiler")
rounds = pytest.mark.skipif(not kernels.has_bfloat16(), reason="the processor does not multiply bfloat16")


def layer(cell: Cell, width: int, hidden: int, bias: bool, dtype: torch.dtype) -> list[Tensor | None]:
    rows = cell.gates * hidden
    shapes = [(rows, width), (rows, hidden), *([(rows,), (rows,)] if bias else [])]
    # Small ones: a simple recurrent layer of large weights is chaotic, and makes much of any difference.
    scale = min(0.4, hidden**-0.5)
    weights: list[Tensor | None] = [torch.randn(shape, dtype=torch.float64) * scale for shape in shapes]
    weights = [None if w is None else w.to(dtype).requires_grad_() for w in weights]
    return weights if bias else [*weights, None, None]


def results(
    name: str,
    kernel: str,
    shape: tuple[int, int, int],
    bias: bool,
    one_hot: bool,
    dtype: torch.dtype,
    seed: int,
    products: torch.dtype | None = None,
) -> list[Tensor]:
    """Output, last state, and the gradients of input, weights and first state; matrix products in a dtype."""
    T, B, H = shape
    cell = CELLS[name]
    torch.manual_seed(seed)
    weights = layer(cell, V, H, bias, dtype)
    ids = torch.randint(0, V, (T, B))
    inputs = ids if one_hot else torch.randn(T, B, V, dtype=torch.float64).to(dtype).requires_grad_()
    state = tuple(torch.randn(B, H, dtype=torch.float64).to(dtype).requires_grad_() for _ in range(cell.states))
    out, last = run_layer(cell, inputs, state, *weights, kernel=kernel, dtype=products)
    loss = (out * torch.randn(T, B, H, dtype=torch.float64)).sum() + sum(part.pow(2).sum() for part in last)
    wanted = [w for w in (*weights, *state, *([] if one_hot else [inputs])) if w is not None]
    return [out, *last, *torch.autograd.grad(loss, wanted)]


@compiler
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40)
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 19), st.integers(1, 70)),
    st.booleans(),
    st.booleans(),
    st.integers(0, 999),
)
def test_values_and_gradients_are_those_of_the_cell_in_python_in_float64(
    name: str, shape: tuple[int, int, int], bias: bool, one_hot: bool, seed: int
) -> None:
    found = results(name, "compiled", shape, bias, one_hot, torch.float32, seed)
    expected = results(name, "python", shape, bias, one_hot, torch.float64, seed)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-4)


@compiler
@pytest.mark.parametrize("hidden", [3, 40])
@pytest.mark.parametrize("name", NAMES)
def test_what_keeps_nothing_for_gradients_gives_the_same_numbers(name: str, hidden: int) -> None:
    cell = CELLS[name]
    weights = layer(cell, V, hidden, True, torch.float32)
    inputs, state = torch.randn(7, 9, V), tuple(torch.randn(9, hidden) for _ in range(cell.states))
    kept, kept_last = run_layer(cell, inputs, state, *weights, kernel="compiled")
    with torch.no_grad():
        out, last = run_layer(cell, inputs, state, *weights, kernel="compiled")
    for found, expected in zip([out, *last], [kept, *kept_last], strict=True):
        assert torch.equal(found, expected)


@rounds
@pytest.mark.parametrize("one_hot", [True, False])
@pytest.mark.parametrize("hidden", [1, 2, 33, 64, 95])
@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_is_near(name: str, hidden: int, one_hot: bool) -> None:
    shape, bias = (3, 9, hidden), True
    found = results(name, "compiled", shape, bias, one_hot, torch.float32, 4, torch.bfloat16)
    expected = results(name, "python", shape, bias, one_hot, torch.float32, 4)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.float32
        assert (a - b).norm() / b.norm() < 0.03  # 8 bits of mantissa: each number is off by up to 1 in 256
    assert any(not torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@compiler
@pytest.mark.parametrize("scale", [1e-6, 1e-3, 0.2, 1.0, 30.0, 1e4])
def test_gates_are_right_from_the_smallest_argument_to_the_largest(scale: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 64, 4 * 16) * scale
    s, c = torch.zeros(64, 16), torch.randn(64, 16)
    (tanh,), _ = compiled.sequence("rnn", x[:, :, :16], (s,), torch.zeros(16, 16), None)
    torch.testing.assert_close(tanh.double(), x[0, :, :16].double().tanh(), rtol=1e-6, atol=0)
    (found,), (s_last, c_last) = compiled.sequence("lstm", x, (s, c), torch.zeros(64, 16), None)
    i, f, g, o = x[0].double().chunk(4, 1)
    cell = f.sigmoid() * c + i.sigmoid() * g.tanh()
    torch.testing.assert_close(c_last.double(), cell, rtol=1e-6, atol=3e-7)  # a sum may cancel
    torch.testing.assert_close(found.double(), o.sigmoid() * cell.tanh(), rtol=1e-6, atol=3e-7)
    assert torch.equal(s_last, found)


@compiler
@pytest.mark.parametrize("wrong", [-1, 5])
def test_an_id_of_no_symbol_is_refused(wrong: int) -> None:
    ids = torch.tensor([[0, 4], [wrong, 1]])
    with pytest.raises(IndexError, match="5 symbols"):
        compiled.sequence("rnn", torch.zeros(5, 3), (torch.zeros(2, 3),), torch.zeros(3, 3), None, ids=ids)


@pytest.fixture
def anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty cache, and the kernels looked for anew in it; returns where they would lie."""
    monkeypatch.setenv("CHARLM_CACHE", str(tmp_path))
    kernels.library.cache_clear()
    yield tmp_path / "kernels"
    kernels.library.cache_clear()


@compiler
def test_they_are_compiled_once_and_leave_nothing_else_behind(anew: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernels.library() is not None
    (made,) = anew.iterdir()
    before = made.stat().st_mtime_ns
    kernels.library.cache_clear()
    assert kernels.library() is not None
    assert [path.stat().st_mtime_ns for path in anew.iterdir()] == [before]


def test_without_a_compiler_or_with_one_that_fails_there_are_none(
    anew: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no-such-compiler", "false"):
        monkeypatch.setenv("CC", name)
        kernels.library.cache_clear()
        assert kernels.library() is None
        assert not kernels.has_bfloat16()
    assert not list(anew.iterdir())


@compiler
@pytest.mark.slow
def test_a_compiler_that_does_not_know_the_processor_makes_them_for_any_of_its_kind(
    anew: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (old := tmp_path / "old-compiler").write_text(
        f'#!/bin/sh\ncase "$*" in *-march=*) exit 1;; esac\nexec {find_compiler()} "$@"\n'
    )
    old.chmod(0o755)
    monkeypatch.setenv("CC", str(old))
    assert kernels.library() is not None
    assert kernels.describe() == f"built here by {old}"
    assert len(list(anew.iterdir())) == 1


def test_without_a_cache_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARLM_CACHE", "~nobody-of-that-name/cache")
    assert kernels.library.__wrapped__() is None


@pytest.mark.usefixtures("anew")
def test_a_product_that_the_machine_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(ValueError, match="bfloat16"):
        compiled.sequence(
            "rnn", torch.zeros(4, 2, 3), (torch.zeros(2, 3),), torch.zeros(3, 3), None, dtype=torch.bfloat16
        )


@compiler
def test_a_folder_that_others_may_write_to_is_not_trusted(anew: Path) -> None:
    anew.mkdir(parents=True)
    os.chmod(anew, 0o777)
    assert kernels.library() is None
    os.chmod(anew, 0o700)
    kernels.library.cache_clear()
    assert kernels.library() is not None
