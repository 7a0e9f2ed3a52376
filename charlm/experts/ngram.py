"""A character n-gram model with interpolated Kneser-Ney smoothing.

It is the number that a network should beat; and as an expert beside one (`model.ngram`), it knows from the first
second what a network takes long to learn.

For a context h, and h' the same without its first symbol (Chen and Goodman 1998, their "modified" discounts):

    p(w | h) = (a(h w) - D(a(h w))) / a(h ·) + γ(h) p(w | h'),    γ(h) = Σ_w D(a(h w)) / a(h ·)

a(g) counts g itself at the highest order; below, the distinct symbols seen before g, and each place where g begins
a sequence, since nothing stands before it there. D is D1, D2 or D3 for a count of 1, 2 or more. Under the single
symbols lies the uniform distribution, so what was never seen has a probability too. Where h was never seen,
p(w | h) = p(w | h').

Where a text begins, and all of it is the context, nothing can stand before g: n-grams that begin with the first
symbol of a text have a second table, which counts how often they occur. In a stream that symbol is the newline; the
distinct symbols before a newline are a few marks, and say nothing of how lines begin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from charlm.config import ModelConfig
from charlm.experts.expert import ExpertStep
from charlm.experts.interpolated import Interpolated, known_lengths, to_log_probs
from charlm.experts.ngram_tables import Floats, Ints, Unsigned, count_tables, lay_out, read_tables, table_arrays
from charlm.text.vocabulary import Ids, Vocabulary

ORDER = 7  # within 0.004 nats of the best order on English prose and plays, Chinese sentences and verse, and names

_PIECE_SYMBOLS = 1 << 18  # predicted together
_BEGINNING_SYMBOLS = 16  # of a text, whose contexts are kinds of their own


class NgramModel(Interpolated):
    """Counts n-grams of sequences that each begin after `first_id`, and predicts others the same way.

    As an expert of a mixture its state says which n-grams end at the last symbol, and how many symbols there
    are since the beginning, as far as that matters. The kind of a context is the length of its longest end that
    the training text has. But how far n-grams can be trusted is another matter where a text has just begun: the
    contexts of its first 16 symbols are kinds of their own, and so are those that are short because the text
    is.

    Counting takes about 0.6 seconds for each million symbols, and 25 bytes for each symbol.

    Args:
        sequences: the training text: its lines, or all of it as one, ids of shape (n_i,).
        vocabulary_size: V.
        first_id: the symbol before the first of each sequence; no context reaches beyond it.
        order: the longest n-gram, the predicted symbol included.
    """

    name: ClassVar[str] = "ngram"

    def __init__(self, sequences: Sequence[Ids], vocabulary_size: int, first_id: int, order: int = ORDER) -> None:
        self.vocabulary_size = vocabulary_size
        self.first_id = first_id
        self.order = order
        self.tables = count_tables(sequences, vocabulary_size, first_id, order)

    @classmethod
    def is_wanted(cls, config: ModelConfig) -> bool:
        """Says whether `model.ngram` is set."""
        return config.ngram is not None

    @classmethod
    def count(cls, config: ModelConfig, sequences: Sequence[Ids], vocabulary: Vocabulary) -> NgramModel:
        """Counts n-grams of the order `model.ngram`."""
        return cls(sequences, len(vocabulary), vocabulary.boundary_id, config.ngram or ORDER)

    @property
    def contexts(self) -> int:
        """How many kinds of context there are."""
        return 3 * self.order - 1

    @property
    def beginning(self) -> int:
        """How many symbols after its beginning a text has kinds of context of its own."""
        return _BEGINNING_SYMBOLS

    def context_names(self) -> list[str]:
        """Returns what to call each kind of context: its known symbols, early in a text, or all since it began."""
        known = [str(k) for k in range(self.order)]
        return [*known, *(f"{k} early" for k in known), *(f"{k} in all" for k in known[: self.order - 1])]

    @property
    def context_length(self) -> int:
        """K: how many symbols before the one to be predicted are looked at, at most."""
        return len(self.tables) - 1

    def sequence_log_probs(self, sequences: Sequence[Ids]) -> list[Floats]:
        """Returns the log-probability (nats) of each symbol of each sequence, shapes (n_i,)."""
        return self.predict(sequences)[0]

    def predict(self, sequences: Sequence[Ids], piece: int = _PIECE_SYMBOLS) -> tuple[list[Floats], list[Ints]]:
        """Returns of each symbol of each sequence the log-probability (nats), and how long a context was known.

        Both have shapes (n_i,). So many symbols as a `piece` has are predicted together.
        """
        log_probs: list[list[Floats]] = [[np.zeros(0)] for _ in sequences]
        known: list[list[Ints]] = [[np.zeros(0, np.int64)] for _ in sequences]
        for group in _pieces(sequences, piece):
            # What a piece begins with is there for its context: before it stands nothing that a symbol could see.
            begins = [max(0, begin - self.context_length) for _, begin in group]
            pieces = [sequences[i][a : begin + piece] for (i, begin), a in zip(group, begins, strict=True)]
            for (i, begin), a, p, k in zip(group, begins, *self._predict(pieces), strict=True):
                log_probs[i].append(p[begin - a :])
                known[i].append(k[begin - a :])
        return [np.concatenate(parts) for parts in log_probs], [np.concatenate(parts) for parts in known]

    def _predict(self, sequences: Sequence[Ids]) -> tuple[list[Floats], list[Ints]]:
        """Does the work of `predict`, with some hundred bytes for each symbol."""
        symbols, depth = lay_out(sequences, self.first_id, self.order, self.vocabulary_size)
        ranks: Unsigned | Ints = symbols
        single = self.tables[0].probabilities
        p = single.alpha[symbols] + single.gamma[0].astype(np.float64) / self.vocabulary_size
        known = np.zeros(len(symbols), np.int64)
        for n, table in enumerate(self.tables[1:], 2):
            places = np.flatnonzero(depth >= n - 1)
            places = places[ranks[places - 1] >= 0]  # elsewhere p(w | h) = p(w | h')
            contexts = ranks[places - 1]
            found = table.find(contexts, symbols[places])
            alpha, gamma = table.probabilities.alpha[found], table.probabilities.gamma[contexts]
            if (opening := table.opening) is not None:
                whole = depth[places] == n - 1  # all of the text is the context
                alpha[whole] = opening.probabilities.alpha.take(found[whole] - opening.row, mode="clip")
                gamma[whole] = opening.probabilities.gamma[contexts[whole] - opening.context]
            p[places] = np.where(found >= 0, alpha, 0) + gamma * p[places]
            known[places] = n - 1
            ranks = np.full(len(symbols), -1)
            ranks[places] = found
        ends = np.cumsum([len(sequence) for sequence in sequences])
        inside = depth > 0
        # Nothing is behind the last end.
        return np.split(np.log(p[inside]), ends)[:-1], np.split(known[inside], ends)[:-1]

    def initial_state(self, batch_size: int) -> Ints:
        """Returns the state before the first symbol: no n-gram has ended, and no symbol has come, (B, K + 1)."""
        state = np.full((batch_size, self.context_length + 1), -1)
        state[:, -1] = 0
        return state

    def join(self, states: Sequence[Ints]) -> Ints:
        """Returns states of (B_i, K + 1) as one of (Σ B_i, K + 1)."""
        return np.concatenate(states)

    def take(self, state: Ints, rows: NDArray[np.intp]) -> Ints:
        """Returns these rows of a state, (N, K + 1)."""
        return state.take(rows, 0)

    def advance(self, ids: Ids, state: Ints) -> tuple[Ints, Ints]:
        """Finds which n-grams end at each symbol.

        Args:
            ids: symbols, shape (T, B), T ≥ 1.
            state: which n-grams end before the first of them, and how many symbols there are, shape (B, K + 1).

        Returns:
            Which row of the table of k-grams the last k symbols are, -1 where it was never seen or the text is not
            as long yet; and last how many symbols there are since the beginning, up to 17 or one more than the
            order. Shape (T, B, K + 1); the state is the last of these, (B, K + 1).
        """
        symbols = ids.astype(np.int64)
        if self.kernel is not None:
            readings = self.kernel.advance(symbols, state, self._most_read)
            return readings, readings[-1]
        T, B = ids.shape
        K = self.context_length
        result = np.full((T, B, K + 1), -1)
        for k in range(1, K + 1):
            if k == 1:
                result[:, :, 0] = symbols
                continue
            before = np.empty((T, B), np.int64)
            before[0], before[1:] = state[:, k - 2], result[:-1, :, k - 2]
            result[:, :, k - 1] = self.tables[k - 1].find(before, symbols)
        result[:, :, K] = np.minimum(state[:, K] + np.arange(1, T + 1)[:, None], self._most_read)
        return result, result[-1]

    def context(self, reading: Ints) -> Ints:
        """Returns the kind of context at each place: (N, K + 1) → (N,)."""
        return self._kinds[known_lengths(reading[:, :-1]), reading[:, -1]]

    @property
    def _most_read(self) -> int:
        """Up to where the symbols since the beginning of a text are counted: no known context is as long."""
        return max(_BEGINNING_SYMBOLS, self.order) + 1

    @cached_property
    def _kinds(self) -> Ints:
        """The kind of context by how many symbols of it are known, and how many were read."""
        known, read = np.ogrid[: self.order, : self._most_read + 1]
        early = np.where((known == read) & (known < self.order - 1), 2 * self.order, self.order)
        kinds: Ints = known + np.where(read <= _BEGINNING_SYMBOLS, early, 0)
        return kinds

    def make_step(self, state: Ints) -> ExpertStep:
        """Returns a function that reads one symbol of each text and predicts the next."""
        if self.kernel is not None:
            read = self.kernel.make_step(state, self._most_read)

            def predict(ids: NDArray[np.intp]) -> tuple[NDArray[np.float32], Ints]:
                p, known, after = read(ids)
                return to_log_probs(p), self._kinds[known, after[:, -1]]

            return predict

        def step(ids: NDArray[np.intp]) -> tuple[NDArray[np.float32], Ints]:
            nonlocal state
            _, state = self.advance(ids[None], state)
            return self.log_probs(state), self.context(state)

        return step

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Returns the tables, for a file."""
        return table_arrays(self.tables)

    @classmethod
    def from_arrays(
        cls, config: ModelConfig, arrays: Mapping[str, NDArray[Any]], vocabulary_size: int, first_id: int
    ) -> NgramModel:
        """Makes a model of what `arrays` gave, which may come from a stranger.

        Raises:
            ValueError: the arrays are no n-gram model of at most the configured order over so many symbols.
        """
        order = config.ngram or ORDER
        model = cls([], vocabulary_size, first_id, order)
        model.tables = read_tables(arrays, vocabulary_size, first_id, order)
        return model


def _pieces(sequences: Sequence[Ids], length: int) -> Iterator[list[tuple[int, int]]]:
    """Yields pieces of sequences in groups of about `length` symbols; of each, which sequence and from where."""
    group, size = [], 0
    for i, sequence in enumerate(sequences):
        for begin in range(0, len(sequence), length):
            group.append((i, begin))
            size += min(length, len(sequence) - begin)
            if size >= length:
                yield group
                group, size = [], 0
    if group:
        yield group
