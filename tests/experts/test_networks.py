"""Further networks: their logits are averaged, and what comes from a file is checked."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from charlm.config import ModelConfig
from charlm.errors import ConfigError
from charlm.experts.networks import FurtherNetworks
from charlm.model.exchange import as_arrays
from charlm.text.vocabulary import Vocabulary
from models import CELLS, make_network, randomize

V = 7
Arrays = dict[str, np.ndarray]


def settings(**more: Any) -> dict[str, Any]:
    return {"cell": "gru", "hidden_size": 6, "num_layers": 2, **more}


def networks(number: int = 3, **more: Any) -> FurtherNetworks:
    config = ModelConfig(**settings(**more), networks=number + 1)
    made = FurtherNetworks.count(config, [], Vocabulary.build("abcdef"[: V - 2] + "\n"))
    trained = [randomize(make_network(V, **settings(**more)), seed) for seed in range(number)]
    made.load([as_arrays(network.state_dict()) for network in trained])
    return made


def test_a_configuration_with_one_network_wants_no_further_ones() -> None:
    assert not FurtherNetworks.is_wanted(ModelConfig())
    assert FurtherNetworks.is_wanted(ModelConfig(networks=2))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("number", [1, 3])
def test_the_prediction_is_the_mean_of_the_logits(cell: str, number: int) -> None:
    made = networks(number, cell=cell, embedding_size=3, output_rank=4)
    ids = np.random.default_rng(0).integers(V, size=(9, 2))
    expected: Any = 0
    for seed in range(number):
        network = randomize(make_network(V, **settings(cell=cell, embedding_size=3, output_rank=4)), seed)
        with torch.no_grad():
            logits, _ = network(torch.from_numpy(ids), network.initial_state(2))
        expected = expected + logits.numpy() / number
    readings, _ = made.advance(ids, made.initial_state(2))
    found = made.log_probs(readings.reshape(18, -1)).reshape(9, 2, V)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_symbol_by_symbol_and_in_pieces_it_predicts_what_it_predicts_at_once() -> None:
    made = networks()
    ids = np.random.default_rng(1).integers(V, size=(9, 3))
    readings, last = made.advance(ids, made.initial_state(3))
    first, state = made.advance(ids[:4], made.initial_state(3))
    second, after = made.advance(ids[4:], state)
    np.testing.assert_allclose(np.concatenate([first, second]), readings, atol=1e-6)
    step = made.make_step(state)
    for t in range(4, 9):
        p, kinds = step(ids[t])
        np.testing.assert_allclose(p, made.log_probs(readings[t]), atol=1e-5)
        assert not kinds.any()
    for one, other in zip(after, last, strict=True):
        for layer, same in zip(one, other, strict=True):
            np.testing.assert_allclose(layer[0], same[0], atol=1e-6)


def test_states_of_texts_are_joined_and_taken_apart() -> None:
    made = networks()
    ids = np.random.default_rng(2).integers(V, size=(5, 3))
    alone = [made.advance(ids[:, [b]], made.initial_state(1))[1] for b in range(3)]
    together = made.join(alone)
    for b in (2, 0):
        readings, _ = made.advance(ids[:2, [b]], made.take(together, np.array([b])))
        expected, _ = made.advance(ids[:2, [b]], alone[b])
        np.testing.assert_allclose(readings, expected, atol=1e-6)


def test_weights_go_to_a_file_and_back() -> None:
    made = networks()
    config = ModelConfig(**settings(), networks=4)
    again = FurtherNetworks.from_arrays(config, made.arrays(), V, 0)
    ids = np.random.default_rng(3).integers(V, size=(5, 2))
    one, other = (each.advance(ids, each.initial_state(2))[0] for each in (made, again))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: a.pop("2.output.bias"), "2.output.bias is missing"),
        (lambda a: a.update({"3.output.bias": a["2.output.bias"]}), "has 3.output.bias"),
        (lambda a: a.update({"../x": a["2.output.bias"]}), r"has \.\./x"),
        (lambda a: a.update({"1.output.bias": a["1.output.bias"][1:]}), r"1.output.bias is float32 \(6,\)"),
        (lambda a: a.update({"1.output.bias": a["1.output.bias"].astype(np.float64)}), "is float64"),
        (lambda a: a.update({"1.output.bias": a["1.output.bias"].astype(np.uint8)}), "is uint8"),
    ],
)
def test_arrays_that_are_no_such_networks_are_refused(change: Callable[[Arrays], object], said: str) -> None:
    arrays = networks(2).arrays()
    change(arrays)
    with pytest.raises(ValueError, match=said):
        FurtherNetworks.from_arrays(ModelConfig(**settings(), networks=3), arrays, V, 0)


def test_a_cell_that_only_torch_computes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charlm.experts.networks.has_cell", lambda name: False)
    with pytest.raises(ConfigError, match=r"model\.networks must be 1 with the cell 'gru'"):
        networks()
