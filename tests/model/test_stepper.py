"""The step that writes gives the numbers of the cells' own equations, whatever the model."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

from charlm.model import stepper as module
from charlm.model.network import CharacterModel, ModelState
from charlm.model.stepper import stepper

V, H = 7, 5
every_cell = pytest.mark.parametrize(
    ("cell", "reset"), [("rnn", "after"), ("lstm", "after"), ("gru", "after"), ("gru", "before")]
)


def model_of(cell: str, reset: str, dtype: torch.dtype = torch.float64, **shape: object) -> CharacterModel:
    """A model whose every weight and bias matters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = CharacterModel(V, cell=cell, reset=reset, hidden_size=H, **shape).to(dtype)
        for weight in model.parameters():
            weight.data.normal_()
    return model.eval()


def some_state(model: CharacterModel, batch_size: int) -> ModelState:
    generator = torch.Generator().manual_seed(4)
    return [
        tuple(torch.randn(part.shape, dtype=part.dtype, generator=generator) for part in layer)
        for layer in model.initial_state(batch_size)
    ]


def by_the_equations(model: CharacterModel, ids: Tensor, state: ModelState) -> list[Tensor]:
    """The logits after each of the symbols (T, B), by the reference step of the cell and one-hot vectors."""
    recurrent, result = model.recurrent, []
    for symbols in ids:
        x = torch.nn.functional.one_hot(symbols, V).to(model.output.weight.dtype)
        if model.embedding is not None:
            x = x @ model.embedding.weight
        for layer in range(recurrent.num_layers):
            u, w, b, b_hh = (
                recurrent.parameter(name, layer) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            state[layer] = recurrent.cell.step(linear(x, u, b), state[layer], w, b_hh)
            x = state[layer][0]
        if model.projection is not None:
            x = x @ model.projection.weight.t()
        result.append(linear(x, model.output.weight, model.output.bias))
    return result


def by_the_stepper(model: CharacterModel, ids: Tensor, state: ModelState) -> list[Tensor]:
    step = stepper(model, state)
    return [torch.from_numpy(step(symbols.numpy()).copy()) for symbols in ids]


def symbols(steps: int, batch_size: int) -> Tensor:
    return torch.randint(0, V, (steps, batch_size), generator=torch.Generator().manual_seed(5))


@every_cell
@pytest.mark.parametrize(
    ("layers", "bias", "embedding_size"), list(itertools.product([1, 2, 3], [True, False], [None, 3]))
)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_each_step_equals_the_equations(
    cell: str, reset: str, layers: int, bias: bool, embedding_size: int | None, batch_size: int
) -> None:
    factors = {"embedding_size": embedding_size, "output_rank": embedding_size}
    model = model_of(cell, reset, num_layers=layers, bias=bias, **factors)
    ids = symbols(6, batch_size)
    with torch.no_grad():
        expected = by_the_equations(model, ids, some_state(model, batch_size))
    found = by_the_stepper(model, ids, some_state(model, batch_size))
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


@every_cell
def test_in_float32_it_stays_float32_and_differs_by_rounding(cell: str, reset: str) -> None:
    model = model_of(cell, reset, torch.float32, num_layers=2)
    ids = symbols(40, 3)
    with torch.no_grad():
        expected = by_the_equations(model, ids, some_state(model, 3))
    torch.testing.assert_close(by_the_stepper(model, ids, some_state(model, 3)), expected, rtol=1e-4, atol=1e-4)


@every_cell
@pytest.mark.parametrize("embedding_size", [None, 3])
def test_a_table_too_large_to_fill_at_once_gives_the_same(
    cell: str, reset: str, embedding_size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(cell, reset, embedding_size=embedding_size)
    ids = symbols(8, 3)
    at_once = by_the_stepper(model, ids, some_state(model, 3))
    monkeypatch.setattr(module, "_SMALL_TABLE", 0)
    torch.testing.assert_close(by_the_stepper(model, ids, some_state(model, 3)), at_once)


@every_cell
def test_a_model_that_has_no_fast_step_is_asked_itself(
    cell: str, reset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(cell, reset, num_layers=2, dropout=0.5).train()
    ids = symbols(5, 3)
    fast = by_the_stepper(model, ids, some_state(model, 3))
    monkeypatch.setattr(module, "_LAYERS", {})
    torch.testing.assert_close(by_the_stepper(model, ids, some_state(model, 3)), fast, rtol=1e-11, atol=1e-11)
    assert model.training


@every_cell
def test_the_state_that_is_given_is_left_alone(cell: str, reset: str) -> None:
    model = model_of(cell, reset)
    state, untouched = some_state(model, 2), some_state(model, 2)
    step = stepper(model, state)
    step(np.array([1, 2]))
    step(np.array([3, 4]))
    torch.testing.assert_close(state, untouched, rtol=0, atol=0)


@every_cell
def test_two_writers_of_one_model_do_not_share_their_buffers(cell: str, reset: str) -> None:
    model = model_of(cell, reset)
    ids = symbols(4, 2)
    alone = by_the_stepper(model, ids, some_state(model, 2))
    one, other = (stepper(model, some_state(model, 2)) for _ in range(2))
    for expected, now in zip(alone, ids, strict=True):
        found = one(now.numpy())
        other(now.flip(0).numpy())
        torch.testing.assert_close(torch.from_numpy(found), expected)
