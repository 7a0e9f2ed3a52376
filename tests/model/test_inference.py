"""Networks over arrays give the numbers of the cells' own equations, step by step and in windows."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

from charlm import kernels
from charlm.config import ModelConfig
from charlm.experts.torch_network import SharedNetworkExpert, TorchNetworkExpert
from charlm.model import inference
from charlm.model.exchange import as_arrays
from charlm.model.inference import InferenceNetwork, weight_shapes
from charlm.model.network import CharacterModel, NetworkState
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


def over_arrays(network: CharacterModel, **settings: Any) -> InferenceNetwork:
    return InferenceNetwork(network.config, as_arrays(network.state_dict()), **settings)


def arrays_of(state: NetworkState) -> inference.NetworkState:
    return [tuple(part.numpy() for part in layer) for layer in state]


def step_by_step(network: CharacterModel, ids: Tensor, state: NetworkState, **settings: Any) -> list[Tensor]:
    step = over_arrays(network, **settings).make_step(arrays_of(state))
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
    found = step_by_step(network, ids, some_state(network, batch_size))
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


@every_cell
def test_in_float32_it_stays_float32_and_differs_by_rounding(cell: str) -> None:
    network = network_of(cell, torch.float32, num_layers=2)
    ids = symbols(40, 3)
    with torch.no_grad():
        expected = by_the_equations(network, ids, some_state(network, 3))
    torch.testing.assert_close(step_by_step(network, ids, some_state(network, 3)), expected, rtol=1e-4, atol=1e-4)


@every_cell
@pytest.mark.parametrize("embedding_size", [None, 3])
def test_a_table_too_large_to_fill_at_once_gives_the_same(cell: str, embedding_size: int | None) -> None:
    network = network_of(cell, embedding_size=embedding_size)
    ids = symbols(8, 3)
    at_once = step_by_step(network, ids, some_state(network, 3))
    filled = step_by_step(network, ids, some_state(network, 3), table_numbers=0)
    torch.testing.assert_close(filled, at_once)


@every_cell
def test_a_network_that_torch_computes_gives_the_same_without_dropout(cell: str) -> None:
    network = network_of(cell, num_layers=2, dropout=0.5, recurrent_dropout=0.5)
    ids = symbols(5, 3)
    fast = step_by_step(network, ids, some_state(network, 3))
    step = TorchNetworkExpert(network).make_step(some_state(network, 3))
    asked = [torch.from_numpy(step(now.numpy())[0].copy()) for now in ids]
    torch.testing.assert_close(asked, fast, rtol=1e-11, atol=1e-11)


@every_cell
def test_the_state_that_is_given_is_left_alone(cell: str) -> None:
    network = network_of(cell)
    state, untouched = some_state(network, 2), some_state(network, 2)
    step = over_arrays(network).make_step(arrays_of(state))
    step(np.array([1, 2]))
    step(np.array([3, 4]))
    over_arrays(network).features(np.array([[1, 2]] * 5), arrays_of(state))
    torch.testing.assert_close(state, untouched, rtol=0, atol=0)


@every_cell
def test_two_writers_of_one_network_do_not_share_their_buffers(cell: str) -> None:
    network = network_of(cell)
    ids = symbols(4, 2)
    alone = step_by_step(network, ids, some_state(network, 2))
    shared = over_arrays(network)
    one, other = (shared.make_step(arrays_of(some_state(network, 2))) for _ in range(2))
    for expected, now in zip(alone, ids, strict=True):
        found = one(now.numpy())
        other(now.flip(0).numpy())
        torch.testing.assert_close(torch.from_numpy(found), expected)


# ----------------------------------------------------------------------------------------------------- windows


@every_cell
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("layers", "bias", "embedding_size"), list(itertools.product([1, 3], [True, False], [None, 3]))
)
@pytest.mark.parametrize(("steps", "batch_size"), [(1, 1), (3, 2), (4, 1), (9, 4)])
def test_a_window_equals_the_equations_and_leaves_their_state(
    cell: str,
    dtype: torch.dtype,
    layers: int,
    bias: bool,
    embedding_size: int | None,
    steps: int,
    batch_size: int,
) -> None:
    factors = {"embedding_size": embedding_size, "output_rank": embedding_size}
    network = network_of(cell, dtype, num_layers=layers, bias=bias, **factors)
    ids, state, over = symbols(steps, batch_size), some_state(network, batch_size), over_arrays(network)
    tolerance = 1e-11 if dtype == torch.float64 else 1e-4
    before = arrays_of(some_state(network, batch_size))
    with torch.no_grad():
        expected = by_the_equations(network, ids, state)  # which moves the state on
    features, last = over.features(ids.numpy(), before)
    found = over.logits(features.reshape(steps * batch_size, -1)).reshape(steps, batch_size, V)
    np.testing.assert_allclose(found, torch.stack(expected).numpy(), rtol=tolerance, atol=tolerance)
    for own, theirs in zip(last, state, strict=True):
        for part, other in zip(own, theirs, strict=True):
            assert part.dtype == found.dtype
            np.testing.assert_allclose(part, other.numpy(), rtol=tolerance, atol=tolerance)


@every_cell
def test_without_compiled_kernels_a_window_is_the_same_but_for_rounding(cell: str) -> None:
    network = network_of(cell, torch.float32, num_layers=2)
    ids, state = symbols(30, 3).numpy(), arrays_of(some_state(network, 3))
    by_kernel, _ = over_arrays(network).features(ids, state)
    in_numpy, _ = over_arrays(network, min_steps=1000).features(ids, state)
    np.testing.assert_allclose(in_numpy, by_kernel, rtol=0, atol=1e-5)


@pytest.mark.skipif(kernels.library() is None, reason="no C compiler")
@pytest.mark.parametrize("bad", [-1, V, 2**40])
def test_an_id_of_no_symbol_is_refused_before_memory_is_read(bad: int) -> None:
    over = over_arrays(network_of("lstm", torch.float32))
    with pytest.raises(IndexError, match=str(bad)):
        over.features(np.array([[0], [1], [2], [bad]]), over.initial_state(1))


@every_cell
@pytest.mark.parametrize(
    ("layers", "bias", "embedding_size", "rank"),
    list(itertools.product([1, 2], [True, False], [None, 3], [None, 2])),
)
def test_the_shapes_are_those_of_the_network_in_torch(
    cell: str, layers: int, bias: bool, embedding_size: int | None, rank: int | None
) -> None:
    settings = {"num_layers": layers, "bias": bias, "embedding_size": embedding_size, "output_rank": rank}
    config = ModelConfig(cell=cell, hidden_size=H, **settings)
    with torch.device("meta"):
        expected = {name: tuple(value.shape) for name, value in CharacterModel(V, config).state_dict().items()}
    assert list(weight_shapes(V, config).items()) == list(expected.items())


def test_an_expert_of_a_network_in_training_reads_the_weights_of_now() -> None:
    network = network_of("gru", torch.float32)
    expert = SharedNetworkExpert(network)
    ids = symbols(6, 2).numpy()
    before, _ = expert.advance(ids, expert.initial_state(2))
    with torch.no_grad():
        network.recurrent.parameter("weight_hh", 0).mul_(0.5)
    after, _ = expert.advance(ids, expert.initial_state(2))
    assert not np.allclose(after, before)
    expected, _ = over_arrays(network).features(ids, expert.initial_state(2))
    np.testing.assert_array_equal(after, expected)
