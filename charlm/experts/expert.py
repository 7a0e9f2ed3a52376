"""What an expert is: it reads symbols, carries a state, and says how likely each symbol is to come next.

An expert's state and its readings are its own; whoever calls only hands them on. A reading is what the expert needs
to predict: an array or a tensor with an entry for each place of a text, first (T, B, ·), then selected like any
array. Log-probabilities are NumPy arrays of float32, and may lack a constant of their row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from charlm.config import ModelConfig
from charlm.text.vocabulary import Ids, Vocabulary

State = Any
Reading = Any
LogProbs = NDArray[np.float32]
Contexts = NDArray[np.int64]
ExpertStep = Callable[[NDArray[np.intp]], tuple[LogProbs, Contexts]]


class Expert(Protocol):
    """A model that predicts the next symbol.

    Attributes:
        name: of the expert, for people and for its file.
        contexts: how many kinds of context it tells apart; a mixture trusts it differently in each.
    """

    name: ClassVar[str]

    @property
    def contexts(self) -> int:
        """How many kinds of context the expert tells apart."""
        ...

    @property
    def beginning(self) -> int:
        """How many symbols after its beginning a text has kinds of context of its own; 0: it has none."""
        ...

    def context_names(self) -> list[str]:
        """Returns what to call each kind of context, for people."""
        ...

    def initial_state(self, batch_size: int) -> State:
        """Returns the state before the first symbol of B texts."""

    def join(self, states: Sequence[State]) -> State:
        """Returns the states of several batches of texts as that of one batch, in their order."""

    def take(self, state: State, rows: NDArray[np.intp]) -> State:
        """Returns the state of these texts of a batch, as a copy; one that is named twice stands there twice."""

    def advance(self, ids: Ids, state: State) -> tuple[Reading, State]:
        """Reads symbols, ids (T, B) with T ≥ 1; returns the readings (T, B, ·) and the last state."""

    def log_probs(self, reading: Reading) -> LogProbs:
        """Returns the log-probability of every symbol after each place: (N, ·) → (N, V)."""

    def context(self, reading: Reading) -> Contexts:
        """Returns the kind of context at each place: (N, ·) → (N,), each below `contexts`."""

    def make_step(self, state: State) -> ExpertStep:
        """Returns a function for writing: it reads one symbol of each text and predicts the next.

        It maps ids (B,) to log-probabilities (B, V), the caller's until the next call, and the contexts (B,).
        """


class TrainedExpert(Expert, Protocol):
    """An expert that is trained: the network."""

    @property
    def vocabulary_size(self) -> int:
        """V."""
        ...

    @property
    def divides_batches(self) -> bool:
        """Whether scoring gives each batch a thread of its own."""
        ...

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Returns the weights by name, for a file."""

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Takes over copies of weights of the same names and shapes."""


class CountedExpert(Expert, Protocol):
    """An expert that is counted from the training text, and stored in a file of its own."""

    @classmethod
    def is_wanted(cls, config: ModelConfig) -> bool:
        """Says whether a configuration asks for this expert."""

    @classmethod
    def count(cls, config: ModelConfig, sequences: Sequence[Ids], vocabulary: Vocabulary) -> Self:
        """Counts the training text.

        Args:
            config: the `model` section of the configuration.
            sequences: lines, or the whole text as one: ids of shape (n_i,).
            vocabulary: of the text; its boundary stands before the first symbol of each sequence.
        """

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Returns everything that was counted, for a file."""

    @classmethod
    def from_arrays(
        cls, config: ModelConfig, arrays: Mapping[str, NDArray[Any]], vocabulary_size: int, first_id: int
    ) -> Self:
        """Makes an expert of what `arrays` gave, which may come from a stranger.

        Raises:
            ValueError: the arrays are no such expert over so many symbols.
        """
