"""The mixture: the product of what its experts predict, each to a power that depends on the context.

    p(w) ∝ Π_e p_e(w)^a_e,k        log p(w) = Σ_e a_e,k log p_e(w) - log Z

k is the kind of context: of several experts that tell contexts apart, every combination is a kind of its own. The
powers are found on held-out text (`powers`); before that the network speaks alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.experts.expert import Contexts, CountedExpert, Expert, LogProbs, Reading, TrainedExpert
from charlm.experts.network import RecurrentExpert
from charlm.text.batches import IGNORE
from charlm.text.vocabulary import Ids

MixtureState = list[Any]  # one of each expert
Step = Callable[[NDArray[np.intp]], LogProbs]

POWERS = "mixture.powers"  # the name of the powers in a file, beside the network's weights
MEMORY_POWERS = "mixture.memory_powers"
_CACHED_NUMBERS = 1 << 16  # logits that are exponentiated together, so that they stay in the cache
_SAFE_LOGIT = 60.0  # the exponentials of smaller ones, and their sums, neither overflow nor vanish in float32


class Mixture:
    """A network, and the experts beside it.

    Args:
        network: the expert that is trained.
        others: the experts beside it.
        memory: one more, which neither training nor a run folder knows of.

    Attributes:
        network: as given.
        experts: all of them, the network first.
        others: those beside the network, but for memory.
        powers: how far each expert is trusted in each kind of context, shape (contexts, experts).
        memory_powers: how far all of them, and a memory beside them, are trusted in each pair of kinds (see
            `experts.memory`), shape (contexts · kinds of the memory, 2); None: nobody has found that out.
    """

    def __init__(
        self, network: TrainedExpert, others: Sequence[CountedExpert] = (), memory: Expert | None = None
    ) -> None:
        self.network = network
        self.others = tuple(others)
        self.experts: tuple[Expert, ...] = (network, *others, *([] if memory is None else [memory]))
        self.powers = np.zeros(
            (math.prod(expert.contexts for expert in self.experts), len(self.experts)), np.float32
        )
        self.powers[:, 0] = 1
        self._counts = [expert.contexts for expert in self.experts]
        self.memory_powers: NDArray[np.float32] | None = None

    @property
    def parameters(self) -> int:
        """How many numbers training has found: those of all networks."""
        further = (expert.arrays() for expert in self.others if isinstance(expert, RecurrentExpert))
        return sum(value.size for arrays in (self.network.arrays(), *further) for value in arrays.values())

    def initial_state(self, batch_size: int) -> MixtureState:
        """Returns the state before the first symbol of B texts."""
        return [expert.initial_state(batch_size) for expert in self.experts]

    def repeat(self, state: MixtureState, batch_size: int) -> MixtureState:
        """Returns the state of one text as that of B."""
        return self.take(state, np.zeros(batch_size, np.intp))

    def join(self, states: Sequence[MixtureState]) -> MixtureState:
        """Returns the states of several batches of texts as that of one batch, in their order."""
        return [expert.join(own) for expert, own in zip(self.experts, zip(*states, strict=True), strict=True)]

    def take(self, state: MixtureState, rows: NDArray[np.intp]) -> MixtureState:
        """Returns the state of these texts of a batch alone, as a copy."""
        return [expert.take(own, rows) for expert, own in zip(self.experts, state, strict=True)]

    def advance(self, ids: Ids, state: MixtureState) -> tuple[list[Reading], MixtureState]:
        """Reads symbols, ids (T, B): what each expert has read at each place, (T, B, ·), and the last state."""
        read = [expert.advance(ids, own) for expert, own in zip(self.experts, state, strict=True)]
        return [reading for reading, _ in read], [own for _, own in read]

    def logits(self, readings: Sequence[Reading]) -> LogProbs:
        """Returns log p up to a constant of each row: (N, ·) of each expert → (N, V)."""
        logits = self.experts[0].log_probs(readings[0])
        if len(self.experts) == 1:
            return logits
        power, others = self.beside_network(readings)
        others += np.multiply(logits, power, out=logits)
        return others

    def combine(self, contexts: Sequence[Contexts], logits: Sequence[LogProbs]) -> LogProbs:
        """Returns what `logits` does, of what each expert says of the contexts, (N,), and predicts, (N, V).

        The predictions are overwritten.
        """
        if len(logits) == 1:
            return logits[0]
        power, others = self._weighted(contexts, logits[1:])
        others += np.multiply(logits[0], power, out=logits[0])
        return others

    def beside_network(self, readings: Sequence[Reading]) -> tuple[NDArray[np.float32], LogProbs]:
        """Returns the power of the network, (N, 1), and what is added to its logits then, (N, V)."""
        contexts = [expert.context(reading) for expert, reading in zip(self.experts, readings, strict=True)]
        parts = [expert.log_probs(reading) for expert, reading in zip(self.experts[1:], readings[1:], strict=True)]
        return self._weighted(contexts, parts)

    def _weighted(
        self, contexts: Sequence[Contexts], parts: Sequence[LogProbs]
    ) -> tuple[NDArray[np.float32], LogProbs]:
        powers = self.powers.take(self.kinds(contexts), 0)  # (N, E)
        total = parts[0]
        total *= powers[:, 1:2]
        for e, part in enumerate(parts[1:], 2):
            part *= powers[:, e : e + 1]
            total += part
        return powers[:, :1], total

    def kinds(self, contexts: Sequence[Contexts]) -> Contexts:
        """Returns the row of `powers` for what each expert says of the context, (N,) each."""
        kind = contexts[0]
        for count, context in zip(self._counts[1:], contexts[1:], strict=True):
            if count > 1:
                kind = kind * count + context
        return kind

    @property
    def beginning(self) -> int:
        """How many symbols after its beginning a text has kinds of context of its own."""
        return max(expert.beginning for expert in self.experts)

    def kind_names(self) -> list[str]:
        """Returns what to call each row of `powers`, for people."""
        names = (expert.context_names() for expert in self.experts)
        return [" ".join(filter(None, each)) for each in itertools.product(*names)]

    def target_log_probs(self, readings: Sequence[Reading], targets: Ids) -> NDArray[np.float64]:
        """Returns the log-probability (nats) of what came after each place.

        Args:
            readings: of each expert, (T, B, ·).
            targets: the symbols that came, shape (T, B); where `IGNORE`, the result is 0.
        """
        result = np.zeros(targets.size)
        for part, logits, symbols in self._at_targets(readings, targets):
            result[part] = log_softmax_at(logits, symbols)
        result[targets.reshape(-1) == IGNORE] = 0
        return result.reshape(targets.shape)

    def greedy_log_probs(
        self, readings: Sequence[Reading], targets: Ids, never: int | None = None
    ) -> NDArray[np.float64]:
        """As `target_log_probs`, and beside it 1 where what came is the likeliest symbol, else 0: (T, B, 2).

        Args:
            readings: see there.
            targets: see there.
            never: a symbol that is never taken for the likeliest.
        """
        result = np.zeros((targets.size, 2))
        for part, logits, symbols in self._at_targets(readings, targets):
            result[part, 0] = log_softmax_at(logits, symbols)
            if never is not None:
                logits[:, never] = -np.inf
            result[part, 1] = logits.argmax(1) == symbols
        result[targets.reshape(-1) == IGNORE] = 0
        return result.reshape(*targets.shape, 2)

    def _at_targets(self, readings: Sequence[Reading], targets: Ids) -> Iterator[tuple[slice, LogProbs, Ids]]:
        """Yields a few of the T·B places, what `logits` gives there, and the symbols that came."""
        logits = self.logits([reading.reshape(-1, reading.shape[-1]) for reading in readings])  # (T·B, V)
        flat = np.maximum(targets.reshape(-1), 0)
        rows = max(1, _CACHED_NUMBERS // logits.shape[1])
        for first in range(0, len(flat), rows):
            part = slice(first, first + rows)
            yield part, logits[part], flat[part]

    def make_step(self, state: MixtureState) -> Step:
        """Returns a function that maps one symbol of each text, ids (B,), to log p up to a constant, (B, V).

        The result is the caller's until the next call.
        """
        steps = [expert.make_step(own) for expert, own in zip(self.experts, state, strict=True)]
        if len(steps) == 1:
            return lambda ids: steps[0](ids)[0]

        def step(ids: NDArray[np.intp]) -> LogProbs:
            logits, contexts = zip(*(each(ids) for each in steps), strict=True)
            return self.combine(contexts, logits)

        return step

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Returns what training changes, for a file: the network's weights, and the powers if there are any."""
        arrays = dict(self.network.arrays())
        if len(self.experts) > 1:
            arrays[POWERS] = self.powers
        if self.memory_powers is not None:
            arrays[MEMORY_POWERS] = self.memory_powers
        return arrays

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Takes over copies of what `arrays` gave, of the same names and shapes."""
        weights = dict(arrays)
        if POWERS in weights:
            self.powers[:] = weights.pop(POWERS)
        found = weights.pop(MEMORY_POWERS, None)
        self.memory_powers = None if found is None else np.array(found)
        self.network.load(weights)


def log_softmax_at(logits: LogProbs, targets: Ids) -> NDArray[np.float32]:
    """Returns log softmax of each row at one symbol: logits (N, V), targets (N,) → (N,)."""
    at_target = logits[np.arange(len(logits)), targets]
    if logits.max(initial=0) > _SAFE_LOGIT or logits.min(initial=0) < -_SAFE_LOGIT:
        most = logits.max(1)
        logits, at_target = logits - most[:, None], at_target - most
    result: NDArray[np.float32] = at_target - np.log(np.exp(logits).sum(1))
    return result
