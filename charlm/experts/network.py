"""The network as an expert: the only one that computes with torch."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlm.experts.expert import Contexts, ExpertStep, LogProbs
from charlm.model.network import CharacterModel, NetworkState
from charlm.model.stepper import make_step
from charlm.text.vocabulary import Ids


class NetworkExpert:
    """A recurrent network that is read from, without dropout and without gradients.

    Args:
        network: on its device.
    """

    name: ClassVar[str] = "network"
    contexts = 1
    beginning = 0

    def __init__(self, network: CharacterModel) -> None:
        self.network = network

    def context_names(self) -> list[str]:
        """Returns one empty name: the network tells no contexts apart."""
        return [""]

    def initial_state(self, batch_size: int) -> NetworkState:
        """Returns the zero state."""
        return self.network.initial_state(batch_size)

    def repeat(self, state: NetworkState, batch_size: int) -> NetworkState:
        """Returns the state of one text, (1, H) each, as that of B, (B, H) each."""
        return [tuple(part.expand(batch_size, -1).contiguous() for part in layer) for layer in state]

    def advance(self, ids: Ids, state: NetworkState) -> tuple[Tensor, NetworkState]:
        """Returns what the softmax reads at each place, (T, B, R), and the last state."""
        with torch.inference_mode():
            return self.network.features(torch.from_numpy(ids).to(self.network.device), state)

    def log_probs(self, reading: Tensor) -> LogProbs:
        """Returns the logits after each place: (N, R) → (N, V)."""
        with torch.inference_mode():
            logits: LogProbs = self.network.logits(reading).cpu().numpy()
        return logits

    def context(self, reading: Tensor) -> Contexts:
        """Returns zeros: the network tells no contexts apart."""
        return np.zeros(len(reading), np.int64)

    def make_step(self, state: NetworkState) -> ExpertStep:
        """Returns a function for writing, see `charlm.model.stepper`."""
        step = make_step(self.network, state)

        def predict(ids: NDArray[np.intp]) -> tuple[LogProbs, Contexts]:
            return step(ids), np.zeros(len(ids), np.int64)

        return predict
