"""States for decoders: what a model has read so far, what it expects next, what a few more characters would cost.

A decoder keeps many beginnings of a text, its beams, and asks of each what some more characters would cost. A
`State` is one beginning. It never changes, so beams may share it, and it equals any other state in which the same
model has read the same. Many states advance together: they are joined into one batch, and taken apart again.

A state holds its last symbol unread, as scoring does. What the model expects after it is computed when it is first
asked for, once for all who share the state. So a state that nobody goes on from costs nothing. States that were
computed together stay rows of one batch, which is in memory as long as one of them is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from charlm.errors import InputError
from charlm.experts.mixture import Mixture, MixtureState
from charlm.scoring.conditions import Conditions
from charlm.scoring.log_probs import MAX_NUMBERS, LogProbs, window_log_probs
from charlm.scoring.sentences import begin
from charlm.system.arguments import check_text, each_of, each_text
from charlm.text.vocabulary import Ids, Vocabulary

Rows = NDArray[np.float32]
Place = tuple[MixtureState, int]  # the state of a batch, and the row of one text in it
Next = tuple[Rows, Place]  # log-probabilities of the next symbol (V,), and the state after the last one


class State:
    """The state of a model that has read a text. `start` returns the first state, and `advance` the next ones.

    Two states are equal, and have the same hash, if the same model has read the same symbols, in whatever pieces.
    All unknown characters are the same symbol.

    Args:
        mixture: the model.
        text: what it has read, normalised, without the boundary before it.
        read: all symbols that were read, as bytes.
        last: the last of them, and the model's state before it; None if nothing was read.
    """

    __slots__ = ("_last", "_mixture", "_next", "_read", "_text")

    def __init__(self, mixture: Mixture, text: str, read: bytes, last: tuple[int, Place] | None) -> None:
        self._mixture = mixture
        self._text = text
        self._read = read
        self._last = last
        self._next: Next | None = None  # computed when it is first asked for

    @property
    def text(self) -> str:
        """The text that was read, normalised, without the boundary before it."""
        return self._text

    @property
    def read(self) -> bytes:
        """All symbols that were read, including the boundary, as bytes. States can be compared and sorted by it."""
        return self._read

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, State):
            return NotImplemented
        return self._mixture is other._mixture and self._read == other._read

    def __hash__(self) -> int:
        return hash(self._read)

    def __repr__(self) -> str:
        return f"State({self._text!r})"


class StatefulModel:
    """The part of a language model that decoders use.

    Attributes:
        mixture: the network and the experts beside it.
        vocabulary: the characters it knows.
        max_numbers: so many log-probabilities are computed at once, of all states together.
    """

    mixture: Mixture
    vocabulary: Vocabulary
    max_numbers: int = MAX_NUMBERS

    @property
    def symbols(self) -> list[str]:
        """The V symbols to which `next_log_probs` assigns probabilities: characters, `<unk>` and `</s>`.

        `</s>` is the end of a line; in stream framing it is the newline. At byte level, a byte that is only a part
        of a character is a lone surrogate.
        """
        return [self.vocabulary.name_of(i) for i in range(len(self.vocabulary))]

    def start(self, context: str = "", *, bos: bool = True) -> State:
        """Returns the state at the beginning of a sentence.

        Args:
            context: The text that was read before the sentence.
            bos: Whether the sentence, or its context, begins at a boundary; see `Conditions`.

        Raises:
            InputError: The context has a newline, but the model reads single lines.
        """
        check_text(context, "context")
        beginning = begin(self.mixture, self.vocabulary, Conditions(context=context, bos=bos))
        text = self.vocabulary.normalize(context)
        if beginning is None:
            return State(self.mixture, text, b"", None)
        opening = np.array([self.vocabulary.boundary_id] if bos else [], np.int32)
        read = np.append(opening, self.vocabulary.encode_sentence(text))
        before = self.mixture.initial_state(1) if beginning.state is None else beginning.state
        return State(self.mixture, text, _bytes(read), (beginning.first_id, (before, 0)))

    def next_log_probs(self, state: State) -> Rows:
        """Returns the log-probability of each of `symbols` after a state, in nats, as an array of shape (V,)."""
        result: Rows = self.next_log_probs_batch([state])[0]
        return result

    def next_log_probs_batch(self, states: Iterable[State]) -> Rows:
        """Returns the log-probabilities of `next_log_probs` for B states at once, as an array of shape (B, V)."""
        own = self._own(states)
        rows = np.empty((len(own), len(self.vocabulary)), np.float32)
        for part in self._parts(len(own)):
            for row, (log_probs, _) in enumerate(
                _expectations(self.mixture, self.vocabulary, own[part]), part.start
            ):
                rows[row] = log_probs
        return rows

    def advance(self, state: State, text: str) -> tuple[float, State]:
        """Reads more text and returns its log-probability after the state, in nats, and the new state.

        The log-probabilities of the pieces of a sentence, and `end_log_prob`, sum to the one that `score` returns.
        An unknown character has its share of `<unk>`, as in `score`. Each piece is normalised separately, so a
        combining mark at its beginning is not composed with the text before.

        Raises:
            InputError: The state does not belong to this model.
        """
        log_probs, states = self.advance_batch([state], [text])
        return float(log_probs[0]), states[0]

    def advance_batch(self, states: Iterable[State], texts: Iterable[str]) -> tuple[LogProbs, list[State]]:
        """Advances B states at once, each by its own text. The result for a state does not depend on the others.

        Returns:
            The log-probabilities in nats, as an array of shape (B,), and the B new states.

        Raises:
            InputError: The number of texts differs from the number of states, or a state does not belong to this
                model.
        """
        own = self._own(states)
        pieces = [self.vocabulary.normalize(text) for text in each_text(texts, "texts")]
        if len(own) != len(pieces):
            raise InputError(f"there are {len(own)} states and {len(pieces)} texts; give one text for each state")
        ids = [self.vocabulary.encode_sentence(piece) for piece in pieces]
        log_probs = np.zeros(len(own))
        after = list(own)
        with_text = [i for i, symbols in enumerate(ids) if len(symbols)]
        for part in self._parts(len(with_text)):
            chosen = with_text[part]
            found = self._read([own[i] for i in chosen], [ids[i] for i in chosen])
            for i, (nats, before) in zip(chosen, found, strict=True):
                log_probs[i] = nats
                text, read = own[i].text + pieces[i], own[i]._read + _bytes(ids[i])
                after[i] = State(self.mixture, text, read, (int(ids[i][-1]), before))
        if self.vocabulary.unknown_id is not None:
            unknown = [np.count_nonzero(symbols == self.vocabulary.unknown_id) for symbols in ids]
            log_probs -= np.array(unknown, np.float64) * math.log(self.vocabulary.unseen_characters)
        return log_probs, after

    def end_log_prob(self, state: State) -> float:
        """Returns the log-probability that the sentence ends here, in nats, or 0 if `score` does not score ends."""
        return float(self.end_log_prob_batch([state])[0])

    def end_log_prob_batch(self, states: Iterable[State]) -> LogProbs:
        """Returns the log-probabilities of `end_log_prob` for B states at once, as an array of shape (B,)."""
        own = self._own(states)
        if not self.vocabulary.ends_sentences:
            return np.zeros(len(own))
        result: LogProbs = self.next_log_probs_batch(own)[:, self.vocabulary.boundary_id].astype(np.float64)
        return result

    def _own(self, states: Iterable[State]) -> list[State]:
        own = list(each_of(states, "states"))
        for state in own:
            if not isinstance(state, State):
                raise InputError(f"a state must be one that start or advance returned, not {type(state).__name__}")
            if state._mixture is not self.mixture:
                raise InputError("the state belongs to another model; get states from the start method of this one")
        return own

    def _read(self, states: Sequence[State], sequences: Sequence[Ids]) -> list[tuple[float, Place]]:
        """Reads sequences, each after its state; the last symbol stays unread.

        Args:
            states: B of them.
            sequences: B of them, ids of shape (n_i,), n_i ≥ 1.

        Returns:
            Of each the log-probability (nats), and the model's state before the last symbol.
        """
        expected = _expectations(self.mixture, self.vocabulary, states)
        log_probs = np.array([row[ids[0]] for (row, _), ids in zip(expected, sequences, strict=True)], np.float64)
        last = [before for _, before in expected]
        lengths = np.array([len(ids) for ids in sequences])
        left = np.flatnonzero(lengths > 1)  # the texts that go on
        joined = _join(self.mixture, [last[i] for i in left]) if len(left) else []
        at = 0
        while len(left):  # all as far as the shortest of them goes
            end = int(lengths[left].min()) - 1
            window = np.stack([sequences[i][at : end + 1] for i in left.tolist()])  # (B, T + 1)
            found, joined = window_log_probs(
                self.mixture, window[:, :-1], window[:, 1:], joined, max_numbers=self.max_numbers
            )
            log_probs[left] += found.sum(1)
            at = end
            for row in np.flatnonzero(lengths[left] == at + 1).tolist():
                last[left[row]] = joined, row
            going = np.flatnonzero(lengths[left] > at + 1)
            left, joined = left[going], self.mixture.take(joined, going)
        return list(zip(log_probs.tolist(), last, strict=True))

    def _parts(self, count: int) -> Iterator[slice]:
        """Yields slices of states that are computed together, so that memory is bounded."""
        most = max(1, self.max_numbers // len(self.vocabulary))
        return (slice(first, first + most) for first in range(0, count, most))


def _expectations(mixture: Mixture, vocabulary: Vocabulary, states: Sequence[State]) -> list[Next]:
    """Returns what the model expects after each state, computed once for equal ones and kept with them."""
    known = {state: state._next for state in states if state._next is not None}
    waiting = list(dict.fromkeys(state for state in states if state not in known))
    last = []
    for state in waiting:
        if state._last is None:  # nothing stands before the first symbol, so frequencies speak
            known[state] = vocabulary.unigram_log_probs.astype(np.float32), (mixture.initial_state(1), 0)
        else:
            last.append(state._last)
    if last:
        symbols = np.array([symbol for symbol, _ in last], np.int32)
        readings, after = mixture.advance(symbols[None], _join(mixture, [before for _, before in last]))
        rows = _log_softmax(mixture.logits([reading[0] for reading in readings]))  # (B, V)
        for row, state in enumerate(state for state in waiting if state not in known):
            known[state] = rows[row], (after, row)
    for state in states:
        state._next = known[state]
    return [known[state] for state in states]


def _join(mixture: Mixture, places: Sequence[Place]) -> MixtureState:
    """Returns the states at N ≥ 1 places as one of a batch, in their order."""
    members: dict[int, list[int]] = {}  # which places are in the same batch
    for i, (batch, _) in enumerate(places):
        members.setdefault(id(batch), []).append(i)
    taken = [mixture.take(places[same[0]][0], np.array([places[i][1] for i in same])) for same in members.values()]
    if len(taken) == 1:
        return taken[0]
    return mixture.take(mixture.join(taken), np.argsort([i for same in members.values() for i in same]))


def _log_softmax(logits: Rows) -> Rows:
    """Returns log softmax of each row (N, V), in place."""
    logits -= logits.max(1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(1, keepdims=True))
    return logits


def _bytes(ids: Ids) -> bytes:
    return ids.astype(np.int32).tobytes()
