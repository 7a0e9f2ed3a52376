"""The gradient of a window is the same, whether the rows of the batch are divided among threads or not."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from charlm.cells import fused
from charlm.cells.plan import Plan, find_machine
from charlm.config import ModelConfig, TrainingConfig
from charlm.model.network import CharacterModel, NetworkState, plan_layers
from charlm.text.batches import IGNORE
from charlm.training.gradient import GradientComputer
from charlm.training.optimization import make_optimizer
from models import CELLS, CPU, make_network

V, H, B, T = 11, 8, 9, 6
MACHINE = find_machine(CPU)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """There are two threads, before and after each test."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def setup(cell: str = "lstm", **settings: Any) -> tuple[CharacterModel, Tensor, Tensor, NetworkState]:
    """Makes a network whose rows are divided, small as they are, with a window and a state to begin with."""
    network = make_network(V, cell=cell, hidden_size=H, num_layers=2, **settings)
    network.recurrent.plan = dataclasses.replace(network.plan, fewest_rows=0)
    assert network.plan.row_threads(B, 2) == 2
    torch.manual_seed(0)
    x, y = torch.randint(V, (2, T, B))
    y[4:, 0] = IGNORE
    y[:, -1] = IGNORE
    state = [tuple(torch.randn(B, H) for _ in layer) for layer in network.initial_state(B)]
    return network, x, y, state


@pytest.mark.parametrize("cell", CELLS)
def test_divided_rows_give_the_gradient_loss_and_state_of_the_whole(cell: str):
    network, x, y, state = setup(cell)
    symbols = int((y != IGNORE).sum())
    logits, last = network(x, state)
    expected = F.cross_entropy(logits.flatten(0, 1), y.flatten(), ignore_index=IGNORE, reduction="sum")
    expected_gradients = torch.autograd.grad(expected / symbols, list(network.parameters()))
    for _ in range(2):  # the threads stay, and are as good the second time
        found = GradientComputer(network)(x, y, state, symbols)
        torch.testing.assert_close(found.loss, expected.detach())
        torch.testing.assert_close(found.parameters, expected_gradients)
        torch.testing.assert_close(found.state, last)


KERNELS = [
    (kernel, precision) for kernel in ("python", "compiled", "fused") for precision in ("float32", "bfloat16")
]


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "rmsprop", "sgd"])
@pytest.mark.parametrize(("kernel", "precision"), KERNELS)
@pytest.mark.parametrize("cell", CELLS)
def test_a_step_moves_each_weight_by_its_own_gradient(cell: str, kernel: str, precision: str, optimizer: str):
    """The fused optimisers read a gradient as it lies: one that lies otherwise than its weight moves others."""
    there = {
        "python": True,
        "compiled": (precision == "float32" and MACHINE.compiled) or MACHINE.compiled_bfloat16,
        "fused": fused.has_kernel(cell, CPU),
    }
    if not there[kernel]:
        pytest.skip("no such kernel")
    network, x, y, state = setup(cell, kernel=kernel, precision=precision)
    found = GradientComputer(network)(x, y, state, 20).parameters
    before = [parameter.detach().clone() for parameter in network.parameters()]
    steps = make_optimizer(network, TrainingConfig(optimizer=optimizer, learning_rate=1.0, weight_decay=0.0))  # type: ignore[arg-type]
    for parameter, value in zip(network.parameters(), found, strict=True):
        parameter.grad = value
    steps.step()
    for old, parameter, value in zip(before, network.parameters(), found, strict=True):
        clear = value.abs() > value.abs().max() / 1000
        assert ((old - parameter)[clear].sign() == value[clear].sign()).all()


@pytest.mark.parametrize("what", ["dropout", "recurrent_dropout"])
def test_the_same_seed_drops_the_same_whichever_thread_is_faster(what: str):
    network, x, y, state = setup(**{what: 0.5})
    compute = GradientComputer(network)
    found = []
    for _ in range(20):
        torch.manual_seed(7)
        found.append(compute(x, y, state, 40))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=0, atol=0)
    assert not torch.equal(compute(x, y, state, 40).loss, found[0].loss)


def test_no_two_rows_drop_the_same():
    network, x, y, state = setup(dropout=0.5)
    x, y = x[:, :1].expand(T, 8), y[:, 1:2].expand(T, 8)
    same = [tuple(part[:1].expand(8, H) for part in layer) for layer in state]
    top = GradientComputer(network)(x, y, same, 48).state[1][0]  # behind one dropout
    assert len(torch.unique(top, dim=0)) == 8


def test_an_error_in_a_thread_is_raised():
    network, x, y, state = setup()
    x[0, -1] = V  # no such symbol, in the rows of the second thread
    with pytest.raises((IndexError, RuntimeError)):
        GradientComputer(network)(x, y, state, 40)
    assert torch.get_num_threads() == 2


def plan(cell: str = "lstm", hidden_size: int = H, device: str = "cpu", **how: str) -> Plan:
    return plan_layers(V, ModelConfig(cell=cell, hidden_size=hidden_size), torch.device(device), **how)  # type: ignore[arg-type]


def test_large_kernels_few_rows_and_one_thread_are_left_to_pytorch():
    divided = dataclasses.replace(plan(), fewest_rows=0)
    assert [divided.row_threads(rows, 2) for rows in (1, 7, 8, 100)] == [None, None, 2, 2]
    assert [divided.row_threads(100, threads) for threads in (1, 2, 8)] == [None, 2, 8]
    few = dataclasses.replace(plan(), fewest_rows=50)
    assert [few.row_threads(rows, 2) for rows in (8, 49, 50)] == [1, 1, 2]
    assert plan(hidden_size=512, kernel="fused").row_threads(100, 2) is None
    assert plan("gru", hidden_size=512, kernel="python").row_threads(100, 2) == 2  # divided however large
    assert plan(device="meta", kernel="python").row_threads(100, 2) is None


@pytest.mark.parametrize("cell", CELLS)
def test_the_smaller_the_layers_the_more_rows_make_it_worth_a_second_thread(cell: str):
    fewest = [plan(cell, hidden_size, kernel="python").fewest_rows for hidden_size in (32, 64, 128)]
    assert fewest[0] > fewest[1] > fewest[2] > 8
    rows = fewest[1]
    assert plan(cell, 64, kernel="python").row_threads(rows - 1, 2) == 1
    assert plan(cell, 64, kernel="python").row_threads(rows, 2) == 2
