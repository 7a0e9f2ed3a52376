"""Small models for tests: networks with random weights, alone or in a mixture."""

from pathlib import Path
from typing import Any

import torch

from charlm.config import Config, ModelConfig, load_config
from charlm.experts.expert import Expert
from charlm.experts.mixture import Mixture
from charlm.experts.torch_network import network_expert
from charlm.language_model import LanguageModel
from charlm.model.network import CharacterModel, plan_layers
from charlm.store.trained import TrainedModel
from charlm.text.vocabulary import Ids, Vocabulary

CELLS = ("rnn", "lstm", "gru", "gru-before")
CPU = torch.device("cpu")


def make_network(
    vocabulary_size: int,
    *,
    seed: int | None = 0,
    dtype: torch.dtype = torch.float32,
    kernel: str = "auto",
    precision: str = "float32",
    **settings: Any,
) -> CharacterModel:
    """Returns a fresh network with these settings of the `model` section; torch's own generator stays as it was.

    In float64 the equations in Python compute it, whatever the plan says. Without a seed the weights come from
    torch's own generator.
    """
    config = ModelConfig(**settings)
    plan = plan_layers(vocabulary_size, config, CPU, kernel=kernel, precision=precision)
    if seed is None:
        return CharacterModel(vocabulary_size, config, plan).to(dtype)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CharacterModel(vocabulary_size, config, plan).to(dtype)


def randomize(network: CharacterModel, seed: int = 0, std: float = 0.5) -> CharacterModel:
    """Draws every number of a network anew, biases too."""
    rng = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.data.normal_(0, std, generator=rng)
    return network


def make_mixture(vocabulary_size: int, *others: Expert, **settings: Any) -> Mixture:
    """Returns a mixture of a fresh network, see `make_network`, and other experts."""
    return Mixture(network_expert(make_network(vocabulary_size, **settings)), others)


def record_reads(expert: Expert) -> list[tuple[int, int]]:
    """Returns a list to which an expert adds the shape, (T, B), of whatever it reads from now on."""
    shapes: list[tuple[int, int]] = []
    advance = expert.advance

    def recording(ids: Ids, state: Any) -> Any:
        shapes.append(ids.shape)
        return advance(ids, state)

    expert.advance = recording  # type: ignore[method-assign]
    return shapes


def record_predictions(expert: Expert) -> list[tuple[int, int]]:
    """Returns a list to which an expert adds the shape, (N, V), of whatever it predicts from now on."""
    shapes: list[tuple[int, int]] = []
    log_probs = expert.log_probs

    def recording(reading: Any) -> Any:
        result = log_probs(reading)
        shapes.append(result.shape)
        return result

    expert.log_probs = recording  # type: ignore[method-assign]
    return shapes


def make_language_model(
    mixture: Mixture, vocabulary: Vocabulary, config: Config | None = None, folder: str = "run"
) -> LanguageModel:
    """Returns the public face of a model that no run folder holds."""
    config = config or load_config({"corpus": {"path": "text.txt"}})
    return LanguageModel(TrainedModel(mixture, vocabulary, config, Path(folder)))
