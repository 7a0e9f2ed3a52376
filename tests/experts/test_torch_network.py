"""A network that torch computes, as on a GPU, reads, predicts and moves as one that is computed over arrays."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from charlm.config import ModelConfig
from charlm.experts.mixture import Mixture
from charlm.experts.network import NetworkExpert
from charlm.experts.ngram import NgramModel
from charlm.experts.torch_network import TorchNetworkExpert
from charlm.language_model import LanguageModel
from charlm.text.vocabulary import Vocabulary
from models import CELLS, make_language_model, make_network, randomize

TEXT = "the quick brown fox jumps over the lazy dog\n" * 30
SHAPE: dict[str, Any] = {"hidden_size": 8, "num_layers": 2, "output_rank": 4}


def both(V: int, cell: str, embedding_size: int | None = None) -> tuple[TorchNetworkExpert, NetworkExpert]:
    config = ModelConfig(cell=cell, embedding_size=embedding_size, **SHAPE)  # type: ignore[arg-type]
    network = randomize(make_network(V, kernel="python", **config.model_dump()))
    arrays = NetworkExpert.without_weights(V, config)
    arrays.load(TorchNetworkExpert(network).arrays())
    return TorchNetworkExpert(network), arrays


@pytest.mark.parametrize("embedding_size", [None, 3])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int32, np.int64])
def test_symbols_of_any_width_are_read_even_those_of_a_file(
    cell: str, embedding_size: int | None, dtype: type[np.integer[Any]]
) -> None:
    ours, arrays = both(7, cell, embedding_size)
    for steps in (1, 9):
        ids: NDArray[np.integer[Any]] = np.random.default_rng(0).integers(0, 7, (2, steps)).astype(dtype).T
        ids.flags.writeable = False
        found, expected = (
            expert.log_probs(expert.advance(ids, expert.initial_state(2))[0][-1]) for expert in (ours, arrays)
        )
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_scores_texts_and_evaluations_are_those_of_the_network_over_arrays(cell: str) -> None:
    vocabulary = Vocabulary.build(TEXT, framing="lines")
    ids = vocabulary.encode(TEXT)
    models: list[LanguageModel] = []
    for network in both(len(vocabulary), cell):
        mixture = Mixture(network, [NgramModel([ids], len(vocabulary), vocabulary.boundary_id, order=3)])
        mixture.powers[:] = (0.7, 0.4)
        models.append(make_language_model(mixture, vocabulary))
    found, expected = (
        {
            "logprob": [score.logprob for score in lm.score(["the dog", "", "a lazy fox jumps"], context="quick")],
            "alternatives": [other.logprob for place in lm.alternatives("fox", 3) for other in place],
        }
        for lm in models
    )
    for name, numbers in found.items():
        np.testing.assert_allclose(numbers, expected[name], rtol=1e-4, atol=1e-4)
    texts, same = (
        [str(sample) for sample in lm.sample(count=3, prompt="the ", length=40, seed=2)] for lm in models
    )
    assert texts == same


@pytest.mark.parametrize("cell", CELLS)
def test_weights_are_loaded_onto_the_device_that_was_named(cell: str) -> None:
    ours, arrays = both(7, cell)
    config = ours.trained.config
    for device, has_numbers in (("cpu", True), ("meta", False)):
        expert = TorchNetworkExpert.without_weights(7, config, device)
        assert expert.trained.device.type == "meta"  # it takes no memory yet
        expert.load(arrays.arrays())
        assert {parameter.device.type for parameter in expert.trained.parameters()} == {device}
        assert {part.device.type for layer in expert.initial_state(2) for part in layer} == {device}
        if has_numbers:
            for name, array in expert.arrays().items():
                assert np.array_equal(array, arrays.arrays()[name])


def test_states_are_joined_and_taken_apart() -> None:
    ours, _ = both(7, "lstm")
    ids = np.random.default_rng(0).integers(0, 7, (6, 3))
    state = ours.advance(ids, ours.initial_state(3))[1]
    parts = [ours.take(state, np.array([row])) for row in (2, 0)]
    joined, expected = ours.join(parts), ours.take(state, np.array([2, 0]))
    for layer, same in zip(joined, expected, strict=True):
        for part, other in zip(layer, same, strict=True):
            assert part.shape == (2, 8)
            assert part.equal(other)
