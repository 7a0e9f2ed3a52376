"""Networks of torch as experts: in training, on other devices, and of cells that only torch computes."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlm.config import ModelConfig
from charlm.experts.expert import Contexts, CountedExpert, ExpertStep, LogProbs, TrainedExpert
from charlm.experts.mixture import Mixture
from charlm.experts.network import NetworkExpert, RecurrentExpert
from charlm.experts.networks import FurtherNetworks
from charlm.model.exchange import as_arrays, copy_as_tensors
from charlm.model.inference import InferenceNetwork, has_cell
from charlm.model.network import CharacterModel, NetworkState, plan_layers
from charlm.text.vocabulary import Ids

Array = NDArray[Any]


def network_expert(network: CharacterModel) -> NetworkExpert | TorchNetworkExpert:
    """Returns an expert that reads from a network of torch, whose weights may go on changing."""
    on_cpu = network.device.type == "cpu" and has_cell(network.config.cell)
    return SharedNetworkExpert(network) if on_cpu else TorchNetworkExpert(network)


def copy_for_torch(mixture: Mixture) -> tuple[CharacterModel, Mixture]:
    """Returns a copy of a mixture's network that torch computes, with gradients, and the mixture with that copy.

    Further networks are copied as well: they are `FurtherTorchNetworks` there.
    """
    trained = _copy(mixture.network)
    others: list[CountedExpert] = []
    for expert in mixture.others:
        if isinstance(expert, FurtherNetworks):
            expert = FurtherTorchNetworks([_copy(member).to(trained.device) for member in expert.members])
        others.append(expert)
    copied = Mixture(TorchNetworkExpert(trained), others)
    copied.powers = mixture.powers
    return trained, copied


def _copy(network: TrainedExpert) -> CharacterModel:
    if isinstance(network, (SharedNetworkExpert, TorchNetworkExpert)):
        return copy.deepcopy(network.trained)
    assert isinstance(network, NetworkExpert)
    copied = CharacterModel(network.vocabulary_size, network.network.config)
    copied.load_state_dict(copy_as_tensors(network.arrays()))
    return copied


class FurtherTorchNetworks(FurtherNetworks):
    """Further networks whose logits, and their gradient, somebody else computes: these are the readings.

    Args:
        networks: on their device.
    """

    def __init__(self, networks: list[CharacterModel]) -> None:
        super().__init__(list(map(TorchNetworkExpert, networks)))
        self.networks = networks

    def log_probs(self, reading: Array) -> LogProbs:
        """Returns the readings, which may be overwritten: (N, V) → (N, V)."""
        return reading.copy()


class SharedNetworkExpert(NetworkExpert):
    """A network of torch on the CPU, computed over arrays: its weights are read where torch has them.

    Args:
        trained: the network.
    """

    def __init__(self, trained: CharacterModel) -> None:
        self.trained = trained

    @property
    def network(self) -> InferenceNetwork:
        """What computes, over the weights of now: nothing that is made of them is kept."""
        return InferenceNetwork(self.trained.config, self.arrays())

    def arrays(self) -> Mapping[str, Array]:
        """Returns the weights by name, in the memory that torch has them in."""
        return as_arrays(self.trained.state_dict())

    def load(self, arrays: Mapping[str, Array]) -> None:
        """Copies weights of the same names and shapes into the network of torch."""
        for name, array in self.arrays().items():
            np.copyto(array, arrays[name])


class TorchNetworkExpert(RecurrentExpert):
    """A network that torch computes.

    Args:
        trained: on its device.
    """

    divides_batches = False  # torch divides each operation

    def __init__(self, trained: CharacterModel) -> None:
        self.trained = trained
        self._device = trained.device

    @classmethod
    def without_weights(cls, vocabulary_size: int, config: ModelConfig, device: str) -> Self:
        """Returns an expert that has shapes alone, and takes no memory for them until weights are loaded."""
        place = torch.device(device)
        with torch.device("meta"):
            expert = cls(CharacterModel(vocabulary_size, config, plan_layers(vocabulary_size, config, place)))
        expert._device = place
        return expert

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return self.trained.output.out_features

    def arrays(self) -> Mapping[str, Array]:
        """Returns the weights by name; of a network without any, arrays that take no memory."""
        return as_arrays(self.trained.state_dict())

    def load(self, arrays: Mapping[str, Array]) -> None:
        """Takes over copies of weights of the same names and shapes."""
        # Not to_empty for the meta device: that imports sympy, half a second.
        self.trained.load_state_dict(copy_as_tensors(arrays), assign=self.trained.device.type == "meta")
        self.trained.to(self._device)

    def initial_state(self, batch_size: int) -> NetworkState:
        """Returns the zero state."""
        return self.trained.initial_state(batch_size)

    def join(self, states: Sequence[NetworkState]) -> NetworkState:
        """Returns states of (B_i, H) in each layer as one of (Σ B_i, H)."""
        return [
            tuple(torch.cat(parts) for parts in zip(*layers, strict=True)) for layers in zip(*states, strict=True)
        ]

    def take(self, state: NetworkState, rows: NDArray[np.intp]) -> NetworkState:
        """Returns these rows of a state, (N, H) in each layer."""
        chosen = torch.from_numpy(rows).to(self.trained.device)
        return [tuple(part[chosen] for part in layer) for layer in state]

    def advance(self, ids: Ids, state: NetworkState) -> tuple[Tensor, NetworkState]:
        """Returns what the softmax reads at each place, (T, B, R), and the last state."""
        # Ids of a corpus are of one or two bytes, perhaps in a file; torch looks up by four or eight, in memory.
        symbols = torch.from_numpy(ids.astype(np.int64))
        with torch.inference_mode():
            return self.trained.features(symbols.to(self.trained.device), state)

    def log_probs(self, reading: Tensor) -> LogProbs:
        """Returns the logits after each place: (N, R) → (N, V)."""
        with torch.inference_mode():
            logits: LogProbs = self.trained.logits(reading).cpu().numpy()
        return logits

    def make_step(self, state: NetworkState) -> ExpertStep:
        """Returns a function for writing: it reads one symbol of each text and gives the logits of the next."""

        def step(ids: NDArray[np.intp]) -> tuple[LogProbs, Contexts]:
            nonlocal state
            readings, state = self.advance(ids[None], state)  # (1, B, R)
            return self.log_probs(readings[0]), self.context(readings[0])

        return step
