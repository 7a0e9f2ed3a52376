"""The step that writes gives the numbers of the cells' own equations, whatever the network."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

from charlm.model.network import CharacterModel, NetworkState
from charlm.model.stepper import make_step
from models import CELLS, make_network, randomize

V, H = 7, 5
every_cell = pytest.mark.parametrize("cell", CELLS)


def network_of(cell: str, dtype: torch.dtype = torch.float64, **shape: object) -> CharacterModel:
    """A network whose every weight and bias matters."""
    return randomize(make_network(V, dtype=dtype, cell=cell, hidden_size=H, **shape), seed=2, std=1)


def some_state(network: CharacterModel, batch_size: int) -> NetworkState:
    generator = torch.Generator().manual_seed(4)
    return [
        tuple(torch.randn(part.shape, dtype=part.dtype, generator=generator) for part in layer)
        for layer in network.initial_state(batch_size)
    ]


def by_the_equations(network: CharacterModel, ids: Tensor, state: NetworkState) -> list[Tensor]:
    """The logits after each of the symbols (T, B), by the reference step of the cell and one-hot vectors."""
    recurrent, result = network.recurrent, []
    for symbols in ids:
        x = torch.nn.functional.one_hot(symbols, V).to(network.output.weight.dtype)
        if network.embedding is not None:
            x = x @ network.embedding.weight
        for layer in range(network.config.num_layers):
            u, w, b, b_hh = (
                recurrent.parameter(name, layer) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            state[layer] = recurrent.cell.step(linear(x, u, b), state[layer], w, b_hh)
            x = state[layer][0]
        if network.projection is not None:
            x = x @ network.projection.weight.t()
        result.append(linear(x, network.output.weight, network.output.bias))
    return result


def by_the_stepper(network: CharacterModel, ids: Tensor, state: NetworkState, **settings: Any) -> list[Tensor]:
    step = make_step(network, state, **settings)
    return [torch.from_numpy(step(symbols.numpy()).copy()) for symbols in ids]


def symbols(steps: int, batch_size: int) -> Tensor:
    return torch.randint(0, V, (steps, batch_size), generator=torch.Generator().manual_seed(5))


@every_cell
@pytest.mark.parametrize(
    ("layers", "bias", "embedding_size"), list(itertools.product([1, 2, 3], [True, False], [None, 3]))
)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_each_step_equals_the_equations(
    cell: str, layers: int, bias: bool, embedding_size: int | None, batch_size: int
) -> None:
    factors = {"embedding_size": embedding_size, "output_rank": embedding_size}
    network = network_of(cell, num_layers=layers, bias=bias, **factors)
    ids = symbols(6, batch_size)
    with torch.no_grad():
        expected = by_the_equations(network, ids, some_state(network, batch_size))
    found = by_the_stepper(network, ids, some_state(network, batch_size))
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


@every_cell
def test_in_float32_it_stays_float32_and_differs_by_rounding(cell: str) -> None:
    network = network_of(cell, torch.float32, num_layers=2)
    ids = symbols(40, 3)
    with torch.no_grad():
        expected = by_the_equations(network, ids, some_state(network, 3))
    torch.testing.assert_close(by_the_stepper(network, ids, some_state(network, 3)), expected, rtol=1e-4, atol=1e-4)


@every_cell
@pytest.mark.parametrize("embedding_size", [None, 3])
def test_a_table_too_large_to_fill_at_once_gives_the_same(cell: str, embedding_size: int | None) -> None:
    network = network_of(cell, embedding_size=embedding_size)
    ids = symbols(8, 3)
    at_once = by_the_stepper(network, ids, some_state(network, 3))
    filled = by_the_stepper(network, ids, some_state(network, 3), table_numbers=0)
    torch.testing.assert_close(filled, at_once)


@every_cell
def test_a_network_whose_cell_has_no_fast_step_is_asked_itself_without_dropout(cell: str) -> None:
    network = network_of(cell, num_layers=2, dropout=0.5, recurrent_dropout=0.5)
    ids = symbols(5, 3)
    fast = by_the_stepper(network, ids, some_state(network, 3))
    asked = by_the_stepper(network, ids, some_state(network, 3), layers={})
    torch.testing.assert_close(asked, fast, rtol=1e-11, atol=1e-11)


@every_cell
def test_the_state_that_is_given_is_left_alone(cell: str) -> None:
    network = network_of(cell)
    state, untouched = some_state(network, 2), some_state(network, 2)
    step = make_step(network, state)
    step(np.array([1, 2]))
    step(np.array([3, 4]))
    torch.testing.assert_close(state, untouched, rtol=0, atol=0)


@every_cell
def test_two_writers_of_one_network_do_not_share_their_buffers(cell: str) -> None:
    network = network_of(cell)
    ids = symbols(4, 2)
    alone = by_the_stepper(network, ids, some_state(network, 2))
    one, other = (make_step(network, some_state(network, 2)) for _ in range(2))
    for expected, now in zip(alone, ids, strict=True):
        found = one(now.numpy())
        other(now.flip(0).numpy())
        torch.testing.assert_close(torch.from_numpy(found), expected)
