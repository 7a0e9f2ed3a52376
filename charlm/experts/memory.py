"""Memory: counts of what a text itself has said so far, as an expert beside those that were trained and counted.

For a context h, the last 1 … 10 symbols, h' the same without its first symbol, and c(h w) how often w came after h
among the last 32,768 symbols that were read (interpolated absolute discounting, Ney et al. 1994):

    p(w | h) = (c(h w) - D) / c(h ·) + γ(h) p(w | h'),    γ(h) = D · (distinct symbols after h) / c(h ·),    D = 1/2

Below the single symbol lies the uniform distribution: what did not come after any context is all alike, so memory
has no opinion on it. The kind of a context is the length of its longest end that memory knows.

Each symbol is predicted first and counted then. What came longest ago is forgotten exactly: the counts are at any
time those of the last 32,768 symbols alone.

A mixture with memory is the mixture p that is there, as one factor, and memory, each to a power that depends on the
pair of what both know; where memory knows nothing it is the mixture as it was:

    log p(w | h, memory) = a log p(w) + b log p_memory(w) - log Z
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from charlm.experts.expert import Contexts, ExpertStep, LogProbs
from charlm.experts.mixture import Mixture
from charlm.text.vocabulary import Ids

LONGEST = 10  # symbols of a context; 8 lose nothing on plays and 0.016 nats on source text
MOST_SYMBOLS = 1 << 15  # remembered; eight times fewer lose 0.005 nats on plays, all of a text 0.017 on source
CONTEXTS = LONGEST + 1  # kinds of context: how many symbols of it are known
LARGEST_POWER = 100.0  # fitted ones are below 2, and with this nothing that is loaded overflows float32

_DISCOUNT = 0.5
_FORGOTTEN = -1  # in place of what followed a context

_Table = dict[
    int, "int | dict[int, int]"
]  # by context: the one symbol that followed it, once; or how often each did
# Known symbols, p of what is not listed, the symbols that are, and p of each.
_Recalled = tuple[int, float, "array[int]", "array[float]"]


class Memory:
    """What one text has said so far.

    Args:
        vocabulary_size: V.
        longest: symbols of the longest context.
        most: so many symbols are remembered.
    """

    __slots__ = (
        "_base",
        "_first",
        "_longest",
        "_most",
        "_oldest",
        "_own",
        "_recent",
        "_symbols",
        "_vocabulary_size",
    )

    def __init__(self, vocabulary_size: int, *, longest: int = LONGEST, most: int = MOST_SYMBOLS) -> None:
        self._vocabulary_size = vocabulary_size
        self._longest = longest
        self._most = most
        self._own: _Table = {}
        self._base: _Table = {}  # shared with copies, and never changed; what `_own` has goes first
        # A context is the number that has its symbols as digits to the base V, behind a 1.
        self._recent: list[int] = []  # the contexts of the next symbol, the shortest first
        self._oldest: list[int] = []  # those of the first symbol that is still remembered
        self._symbols: deque[int] = deque()  # that are remembered; ~symbol where a text begins
        self._first = True

    def copy(self) -> Memory:
        """Returns a memory of the same, which goes on by itself; what is shared is not copied."""
        if not self._base:
            self._base = self._own  # in this order: another thread may be copying as well
            self._own = {}
        other = Memory(self._vocabulary_size, longest=self._longest, most=self._most)
        other._base = self._base
        other._own = {key: dict(v) if isinstance(v, dict) else v for key, v in self._own.items()}
        other._recent, other._oldest = self._recent, self._oldest
        other._symbols, other._first = self._symbols.copy(), self._first
        return other

    def begin(self) -> None:
        """Begins a text anew: no context reaches back beyond here, but all is remembered."""
        self._recent = []
        self._first = True

    def read(self, symbol: int) -> None:
        """Counts a symbol after its contexts, and forgets the oldest one."""
        for context in self._recent:
            self._count(context, symbol)
        self._recent = self._extended(self._recent, symbol)
        self._symbols.append(~symbol if self._first else symbol)
        self._first = False
        if len(self._symbols) > self._most:
            oldest = self._symbols.popleft()
            if oldest < 0:
                oldest, self._oldest = ~oldest, []
            for context in self._oldest:
                self._discount(context, oldest)
            self._oldest = self._extended(self._oldest, oldest)

    def recall(self) -> _Recalled:
        """Predicts the next symbol: how long a context is known, and probabilities."""
        found: list[int | dict[int, int]] = []
        for context in self._recent:  # one is known only where the shorter ones are
            after = self._after(context)
            if after is None:
                break
            found.append(after)
        p: dict[int, float] = {}
        weight = 1.0
        for after in reversed(found):
            if isinstance(after, int):
                p[after] = p.get(after, 0.0) + weight * (1 - _DISCOUNT)
                weight *= _DISCOUNT
            else:
                share = weight / sum(after.values())
                for symbol, count in after.items():
                    p[symbol] = p.get(symbol, 0.0) + share * (count - _DISCOUNT)
                weight = share * _DISCOUNT * len(after)
        rest = weight / self._vocabulary_size
        return len(found), rest, array("q", p), array("d", p.values())

    def _extended(self, contexts: list[int], symbol: int) -> list[int]:
        V = self._vocabulary_size
        return [V + symbol, *(context * V + symbol for context in contexts[: self._longest - 1])]

    def _after(self, context: int) -> int | dict[int, int] | None:
        after = self._own.get(context)
        if after is None:
            return self._base.get(context) if self._base else None
        return None if after == _FORGOTTEN else after

    def _count(self, context: int, symbol: int) -> None:
        after = self._after(context)
        if after is None:
            self._own[context] = symbol
        elif isinstance(after, int):
            self._own[context] = {symbol: 2} if after == symbol else {after: 1, symbol: 1}
        else:
            own = self._own_counts(context, after)
            own[symbol] = own.get(symbol, 0) + 1

    def _discount(self, context: int, symbol: int) -> None:
        after = self._after(context)
        if isinstance(after, dict):
            own = self._own_counts(context, after)
            own[symbol] -= 1
            if not own[symbol]:
                del own[symbol]
            if len(own) == 1 and 1 in own.values():
                self._own[context] = next(iter(own))
        elif context in self._base:
            self._own[context] = _FORGOTTEN
        else:
            del self._own[context]

    def _own_counts(self, context: int, after: dict[int, int]) -> dict[int, int]:
        """Returns counts that may be changed: those that are shared are copied first."""
        if context not in self._own:
            self._own[context] = after = dict(after)
        return after


class MemoryExpert:
    """Memory as an expert of a mixture: each text of a batch has one of its own, from its beginning on.

    A state is gone on from in place, so that a text costs no more the longer it is. Whoever needs a state again
    takes a copy (`take`) before it is advanced; one that was advanced is refused.

    Args:
        vocabulary_size: V.
    """

    name: ClassVar[str] = "memory"
    contexts = CONTEXTS
    beginning = 0

    def __init__(self, vocabulary_size: int) -> None:
        self.vocabulary_size = vocabulary_size

    def context_names(self) -> list[str]:
        """Returns what to call each kind of context: how many symbols memory knows of it."""
        return [f"{k} remembered" for k in range(CONTEXTS)]

    def initial_state(self, batch_size: int) -> MemoryState:
        """Returns the memories of B texts that have said nothing."""
        return MemoryState([Memory(self.vocabulary_size) for _ in range(batch_size)])

    def join(self, states: Sequence[MemoryState]) -> MemoryState:
        """Returns the memories of several batches as those of one."""
        return MemoryState([memory for state in states for memory in state.copies()])

    def take(self, state: MemoryState, rows: NDArray[np.intp]) -> MemoryState:
        """Returns copies of the memories of these texts."""
        return MemoryState(state.copies(rows.tolist()))

    def advance(self, ids: Ids, state: MemoryState) -> tuple[NDArray[np.object_], MemoryState]:
        """Reads symbols, ids (T, B); returns what is predicted after each, (T, B, 1), and the last state."""
        readings = np.empty((*ids.shape, 1), np.object_)
        memories = state.take()
        for b, memory in enumerate(memories):
            for t, symbol in enumerate(ids[:, b].tolist()):
                memory.read(symbol)
                readings[t, b, 0] = memory.recall()
        return readings, MemoryState(memories)

    def log_probs(self, reading: NDArray[np.object_]) -> LogProbs:
        """Returns the log-probability of every symbol after each place: (N, 1) → (N, V)."""
        return log_probs(reading[:, 0], self.vocabulary_size)

    def context(self, reading: NDArray[np.object_]) -> Contexts:
        """Returns how many symbols of the context are known at each place: (N, 1) → (N,)."""
        return known_lengths(reading[:, 0])

    def make_step(self, state: MemoryState) -> ExpertStep:
        """Returns a function for writing: it reads one symbol of each text and predicts the next."""

        def step(ids: NDArray[np.intp]) -> tuple[LogProbs, Contexts]:
            nonlocal state
            (readings,), state = self.advance(ids[None], state)
            return self.log_probs(readings), self.context(readings)

        return step


class MemoryState:
    """The memories of a batch of texts, which one reader goes on with.

    Args:
        memories: one of each text.
    """

    def __init__(self, memories: list[Memory]) -> None:
        self._memories: list[Memory] | None = memories

    def copies(self, rows: Iterable[int] | None = None) -> list[Memory]:
        """Returns copies of the memories, or of those of these texts.

        Raises:
            RuntimeError: they were taken.
        """
        memories = self._there()
        return [memories[row].copy() for row in (range(len(memories)) if rows is None else rows)]

    def take(self) -> list[Memory]:
        """Returns the memories, to be gone on with; this state cannot be used any more.

        Raises:
            RuntimeError: they were taken before.
        """
        memories = self._there()
        self._memories = None
        return memories

    def _there(self) -> list[Memory]:
        if self._memories is None:
            raise RuntimeError("this state of a memory was already used to read on; copy it before")
        return self._memories


def log_probs(recalled: Iterable[_Recalled], vocabulary_size: int) -> LogProbs:
    """Returns log p of every symbol, (N, V), of N predictions."""
    _, rest, symbols, p = zip(*recalled, strict=True)
    dense = np.repeat(np.array(rest), vocabulary_size).reshape(-1, vocabulary_size)
    rows = np.repeat(np.arange(len(rest)), [len(listed) for listed in symbols])
    listed = np.frombuffer(b"".join(symbols), np.int64)
    dense[rows, listed] += np.frombuffer(b"".join(p))
    result: LogProbs = np.log(dense).astype(np.float32)
    return result


def known_lengths(recalled: Iterable[_Recalled]) -> Contexts:
    """Returns how many symbols of the context N predictions know, (N,)."""
    return np.array([known for known, *_ in recalled], np.int64)


def remember(mixture: Mixture) -> Mixture:
    """Returns a mixture with memory beside it; its state is that of the experts, and the memories of the texts.

    Args:
        mixture: one that has powers for it (`memory_powers`); it stays as it is.
    """
    assert mixture.memory_powers is not None
    result = Mixture(mixture.network, mixture.others, MemoryExpert(mixture.network.vocabulary_size))
    a, b = mixture.memory_powers[:, :1], mixture.memory_powers[:, 1:]  # (kinds · CONTEXTS, 1)
    result.powers = np.concatenate([a * np.repeat(mixture.powers, CONTEXTS, 0), b], 1)
    return result
