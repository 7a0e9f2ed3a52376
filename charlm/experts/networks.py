"""Further networks beside the one that is trained last: together they are an ensemble.

Networks that begin with other random weights make other mistakes, and where they are multiplied, these cancel out
(Hansen and Salamon 1990, Neural Network Ensembles). With V_k s_k + b_k the logits of network k of K,

    log p(w) = 1/K Σ_k (V_k s_k + b_k)_w - log Z

is one expert of the mixture, which trusts it by powers of its own. They are trained before the mixture is, each as
a run by itself (`run.train`), and stored together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from charlm.config import ModelConfig
from charlm.errors import ConfigError
from charlm.experts.expert import ExpertStep, LogProbs, TrainedExpert
from charlm.experts.network import NetworkExpert, RecurrentExpert
from charlm.model.inference import NetworkState, has_cell
from charlm.system.counts import count_of
from charlm.text.vocabulary import Ids, Vocabulary

Array = NDArray[Any]


class FurtherNetworks(RecurrentExpert):
    """Networks of one shape, each with a state of its own.

    Args:
        members: one or more; they may have shapes alone until `load` gives them weights.
    """

    name: ClassVar[str] = "networks"

    def __init__(self, members: Sequence[TrainedExpert]) -> None:
        self.members = members

    @classmethod
    def is_wanted(cls, config: ModelConfig) -> bool:
        """Says whether `model.networks` is more than one."""
        return config.networks > 1

    @classmethod
    def count(cls, config: ModelConfig, sequences: Sequence[Ids], vocabulary: Vocabulary) -> Self:
        """Returns networks that have shapes alone: they are trained, not counted.

        Raises:
            ConfigError: only torch computes the cell.
        """
        if not has_cell(config.cell):
            raise ConfigError(f"model.networks must be 1 with the cell {config.cell!r}, which only torch computes")
        return cls._without_weights(config, len(vocabulary))

    @classmethod
    def _without_weights(cls, config: ModelConfig, vocabulary_size: int) -> Self:
        number = config.networks - 1
        return cls([NetworkExpert.without_weights(vocabulary_size, config) for _ in range(number)])

    def initial_state(self, batch_size: int) -> list[NetworkState]:
        """Returns the zero state of each network."""
        return [member.initial_state(batch_size) for member in self.members]

    def join(self, states: Sequence[list[NetworkState]]) -> list[NetworkState]:
        """Returns the states of several batches of texts as that of one batch, in their order."""
        return [member.join(own) for member, own in zip(self.members, zip(*states, strict=True), strict=True)]

    def take(self, state: list[NetworkState], rows: NDArray[np.intp]) -> list[NetworkState]:
        """Returns the state of these texts of a batch alone."""
        return [member.take(own, rows) for member, own in zip(self.members, state, strict=True)]

    def advance(self, ids: Ids, state: list[NetworkState]) -> tuple[Array, list[NetworkState]]:
        """Returns what the softmax of each network reads at each place, (T, B, ΣR), and the last states."""
        read = [member.advance(ids, own) for member, own in zip(self.members, state, strict=True)]
        return np.concatenate([reading for reading, _ in read], -1), [own for _, own in read]

    def log_probs(self, reading: Array) -> LogProbs:
        """Returns the mean of the networks' logits after each place: (N, ΣR) → (N, V)."""
        parts = np.split(reading, len(self.members), -1)
        return _mean([member.log_probs(part) for member, part in zip(self.members, parts, strict=True)])

    def make_step(self, state: list[NetworkState]) -> ExpertStep:
        """Returns a function for writing: it reads one symbol of each text and predicts the next."""
        steps = [member.make_step(own) for member, own in zip(self.members, state, strict=True)]

        def step(ids: NDArray[np.intp]) -> tuple[LogProbs, NDArray[np.int64]]:
            return _mean([each(ids)[0] for each in steps]), self.context(ids)

        return step

    def arrays(self) -> dict[str, Array]:
        """Returns the weights of all, for a file: the first network's begin with `1.`."""
        return {
            f"{number}.{name}": value
            for number, member in enumerate(self.members, 1)
            for name, value in member.arrays().items()
        }

    def load(self, weights: Sequence[Mapping[str, Array]]) -> None:
        """Gives each network its weights, of which copies are taken.

        Args:
            weights: of each, by name.

        Raises:
            ValueError: they are not of the networks' shapes.
        """
        for number, (member, own) in enumerate(zip(self.members, weights, strict=True), 1):
            for name, value in member.arrays().items():
                if name not in own:
                    raise ValueError(f"{number}.{name} is missing")
                if own[name].shape != value.shape or own[name].dtype != np.float32:
                    raise ValueError(
                        f"{number}.{name} is {own[name].dtype} {own[name].shape}, and not float32 {value.shape}"
                    )
            member.load(own)

    @classmethod
    def from_arrays(
        cls, config: ModelConfig, arrays: Mapping[str, Array], vocabulary_size: int, first_id: int
    ) -> Self:
        """Makes networks of what `arrays` gave, which may come from a stranger.

        Raises:
            ValueError: the arrays are not the weights of so many networks of this shape.
        """
        networks = cls._without_weights(config, vocabulary_size)
        if extra := sorted(set(arrays) - set(networks.arrays())):
            further = count_of(config.networks - 1, "further network")
            raise ValueError(f"it has {extra[0][:100]}, which is no weight of {further}")
        networks.load(
            [
                {name: arrays[key] for name in member.arrays() if (key := f"{number}.{name}") in arrays}
                for number, member in enumerate(networks.members, 1)
            ]
        )
        return networks


def _mean(logits: Sequence[LogProbs]) -> LogProbs:
    """Returns the mean of logits, (N, V) each; the first are overwritten."""
    total = logits[0]
    for other in logits[1:]:
        total += other
    total /= len(logits)
    return total
