"""The network as an expert, over arrays: what scores and writes on a CPU. It needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from charlm.config import ModelConfig
from charlm.experts.expert import Contexts, ExpertStep, LogProbs
from charlm.model.inference import InferenceNetwork, NetworkState, weight_shapes
from charlm.text.vocabulary import Ids

Array = NDArray[Any]

_DIVIDED_BATCH_WEIGHTS = 1 << 16  # recurrent weights from which a batch to be scored is worth a thread of its own


class RecurrentExpert:
    """What recurrent networks have in common as experts, whoever computes them: they tell no contexts apart."""

    name: ClassVar[str] = "network"
    contexts = 1
    beginning = 0

    def context_names(self) -> list[str]:
        """Returns one empty name."""
        return [""]

    def context(self, reading: Any) -> Contexts:
        """Returns zeros: (N, R) → (N,)."""
        return np.zeros(len(reading), np.int64)


class NetworkExpert(RecurrentExpert):
    """A recurrent network that is read from, without dropout and without gradients.

    Args:
        network: over its weights.
    """

    def __init__(self, network: InferenceNetwork) -> None:
        self._network = network

    @classmethod
    def without_weights(cls, vocabulary_size: int, config: ModelConfig) -> Self:
        """Returns an expert that has shapes alone, and takes no memory for them until weights are loaded."""
        zero = np.zeros((), np.float32)
        shapes = weight_shapes(vocabulary_size, config)
        return cls(InferenceNetwork(config, {name: np.broadcast_to(zero, s) for name, s in shapes.items()}))

    @property
    def network(self) -> InferenceNetwork:
        """What computes, over the weights of now."""
        return self._network

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return self.network.vocabulary_size

    @property
    def divides_batches(self) -> bool:
        """Whether scoring gives each batch a thread of its own."""
        return self.network.weights["recurrent.weight_hh_l0"].size >= _DIVIDED_BATCH_WEIGHTS

    def arrays(self) -> Mapping[str, Array]:
        """Returns the weights by name."""
        return self.network.weights

    def load(self, arrays: Mapping[str, Array]) -> None:
        """Takes over copies of weights of the same names and shapes."""
        copies = {name: np.array(value, order="C") for name, value in arrays.items()}
        self._network = InferenceNetwork(self._network.config, copies)

    def initial_state(self, batch_size: int) -> NetworkState:
        """Returns the zero state."""
        return self.network.initial_state(batch_size)

    def join(self, states: Sequence[NetworkState]) -> NetworkState:
        """Returns states of (B_i, H) in each layer as one of (Σ B_i, H)."""
        return [
            tuple(np.concatenate(parts) for parts in zip(*layers, strict=True))
            for layers in zip(*states, strict=True)
        ]

    def take(self, state: NetworkState, rows: NDArray[np.intp]) -> NetworkState:
        """Returns these rows of a state, (N, H) in each layer."""
        return [tuple(part[rows] for part in layer) for layer in state]

    def advance(self, ids: Ids, state: NetworkState) -> tuple[Array, NetworkState]:
        """Returns what the softmax reads at each place, (T, B, R), and the last state."""
        return self.network.features(ids, state)

    def log_probs(self, reading: Array) -> LogProbs:
        """Returns the logits after each place: (N, R) → (N, V)."""
        return self.network.logits(reading)

    def make_step(self, state: NetworkState) -> ExpertStep:
        """Returns a function for writing, see `InferenceNetwork.make_step`."""
        step = self.network.make_step(state)

        def predict(ids: NDArray[np.intp]) -> tuple[LogProbs, Contexts]:
            return step(ids), np.zeros(len(ids), np.int64)

        return predict
