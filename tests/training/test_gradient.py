"""The gradient of a window is the same, whether the rows of the batch are divided among threads or not."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from charlm.cells import compiled
from charlm.model.network import CharacterModel, ModelState
from charlm.text.batches import IGNORE
from charlm.training import gradient
from charlm.training.gradient import GradientComputer, threads_by_rows
from charlm.training.optimization import build_optimizer

V, H, B, T = 11, 8, 9, 6
CELLS = ["rnn", "lstm", "gru-after", "gru-before"]


@pytest.fixture(autouse=True)
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """There are two threads, before and after each test; small as they are, the products are divided by rows."""
    monkeypatch.setattr(gradient, "_SMALL", 0)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def setup(cell: str = "lstm", **settings: object) -> tuple[CharacterModel, Tensor, Tensor, ModelState]:
    torch.manual_seed(0)
    name, _, reset = cell.partition("-")
    model = CharacterModel(V, cell=name, reset=reset or "after", hidden_size=H, num_layers=2, **settings)  # type: ignore[arg-type]
    x, y = torch.randint(V, (2, T, B))
    y[4:, 0] = IGNORE
    y[:, -1] = IGNORE
    state = [tuple(torch.randn(B, H) for _ in layer) for layer in model.initial_state(B)]
    return model.train(), x, y, state


@pytest.mark.parametrize("cell", CELLS)
def test_divided_rows_give_the_gradient_loss_and_state_of_the_whole(cell: str):
    model, x, y, state = setup(cell)
    symbols = int((y != IGNORE).sum())
    logits, last = model(x, state)
    expected = F.cross_entropy(logits.flatten(0, 1), y.flatten(), ignore_index=IGNORE, reduction="sum")
    expected_gradients = torch.autograd.grad(expected / symbols, list(model.parameters()))
    for _ in range(2):  # the threads stay, and are as good the second time
        found = GradientComputer(model)(x, y, state, symbols)
        torch.testing.assert_close(found.loss, expected.detach())
        torch.testing.assert_close(found.parameters, expected_gradients)
        torch.testing.assert_close(found.state, last)


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "rmsprop", "sgd"])
@pytest.mark.parametrize("backend", ["derived", "compiled", "bfloat16", "fused"])
@pytest.mark.parametrize("cell", CELLS)
def test_a_step_moves_each_weight_by_its_own_gradient(cell: str, backend: str, optimizer: str):
    """The fused optimisers read a gradient as it lies: one that lies otherwise than its weight moves others."""
    if (backend == "fused" and cell != "lstm") or (backend == "compiled" and compiled.library() is None):
        pytest.skip("no such kernel")
    model, x, y, state = setup(cell, backend=backend)
    found = GradientComputer(model)(x, y, state, 20).parameters
    before = [parameter.detach().clone() for parameter in model.parameters()]
    steps = build_optimizer(model, optimizer, learning_rate=1.0, weight_decay=0.0)
    for parameter, value in zip(model.parameters(), found, strict=True):
        parameter.grad = value
    steps.step()
    for old, parameter, value in zip(before, model.parameters(), found, strict=True):
        clear = value.abs() > value.abs().max() / 1000
        assert ((old - parameter)[clear].sign() == value[clear].sign()).all()


@pytest.mark.parametrize("what", ["dropout", "recurrent_dropout"])
def test_the_same_seed_drops_the_same_whichever_thread_is_faster(what: str):
    model, x, y, state = setup(**{what: 0.5})
    compute = GradientComputer(model)
    found = []
    for _ in range(20):
        torch.manual_seed(7)
        found.append(compute(x, y, state, 40))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=0, atol=0)
    assert not torch.equal(compute(x, y, state, 40).loss, found[0].loss)


def test_no_two_rows_drop_the_same():
    model, x, y, state = setup(dropout=0.5)
    x, y = x[:, :1].expand(T, 8), y[:, 1:2].expand(T, 8)
    same = [tuple(part[:1].expand(8, H) for part in layer) for layer in state]
    top = GradientComputer(model)(x, y, same, 48).state[1][0]  # behind one dropout
    assert len(torch.unique(top, dim=0)) == 8


def test_an_error_in_a_thread_is_raised():
    model, x, y, state = setup()
    x[0, -1] = V  # no such symbol, in the rows of the second thread
    with pytest.raises((IndexError, RuntimeError)):
        GradientComputer(model)(x, y, state, 40)
    assert torch.get_num_threads() == 2


def test_large_kernels_few_rows_and_one_thread_are_left_to_pytorch(monkeypatch: pytest.MonkeyPatch):
    model, *_ = setup()
    assert [threads_by_rows(model, rows, 2) for rows in (1, 7, 8, 100)] == [None, None, 2, 2]
    assert [threads_by_rows(model, 100, threads) for threads in (1, 2, 8)] == [None, 2, 8]
    monkeypatch.setattr(gradient, "_SMALL", 50 * 4 * H * H)
    assert [threads_by_rows(model, rows, 2) for rows in (8, 49, 50)] == [1, 1, 2]
    monkeypatch.setattr(gradient, "_CACHED", 4 * H * H - 1)
    assert threads_by_rows(model, 100, 2) is None
    derived, *_ = setup("gru")  # has no kernel, and is divided however large
    assert threads_by_rows(derived, 100, 2) == 2
    assert threads_by_rows(model.to("meta"), 8, 2) is None
