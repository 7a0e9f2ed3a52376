"""What texts cost after a state, kept by prefix: a text costs only the characters that are new in it."""

from __future__ import annotations

from collections.abc import Iterable

from charlm.language_model import LanguageModel
from charlm.scoring.states import State

_MOST_NUMBERS = 1 << 25  # log-probabilities that are kept, in all

UNLIMITED = 2**31 - 1  # the order of a model that remembers the whole sentence, where a tool asks for one


class Prefixes:
    """Prices texts after states, all at once, and keeps what it finds while there is room.

    Args:
        lm: the model.
        most_numbers: about so many log-probabilities are kept.
    """

    def __init__(self, lm: LanguageModel, *, most_numbers: int = _MOST_NUMBERS) -> None:
        self._lm = lm
        self._most = max(1, most_numbers // len(lm.vocabulary))
        self._known: dict[tuple[State, str], tuple[float, State]] = {}

    def price(self, state: State, text: str) -> tuple[float, State]:
        """Returns the log-probability (nats) of a text after a state, and the state after it."""
        return self.prices([(state, text)])[0]

    def prices(self, wanted: Iterable[tuple[State, str]]) -> list[tuple[float, State]]:
        """Returns those of many texts; characters at the same place are computed together."""
        normalize = self._lm.vocabulary.normalize  # as a whole: marks belong to the letters before them
        keys = [(state, normalize(text)) for state, text in wanted]
        if len(self._known) > self._most:
            self._known.clear()
        lengths = [self._known_length(*key) for key in keys]
        while True:
            # One more character of each text that is not known to its end; what several texts need is read once.
            steps = {
                (state, text[: n + 1]) for (state, text), n in zip(keys, lengths, strict=True) if n < len(text)
            }
            if not steps:
                return [self._prefix(state, text) for state, text in keys]
            before = [self._prefix(state, prefix[:-1]) for state, prefix in steps]
            nats, after = self._lm.advance_batch(
                [state for _, state in before], [prefix[-1] for _, prefix in steps]
            )
            for step, (so_far, _), more, state in zip(steps, before, nats.tolist(), after, strict=True):
                self._known[step] = so_far + more, state
            lengths = [min(n + 1, len(text)) for (_, text), n in zip(keys, lengths, strict=True)]

    def _prefix(self, state: State, prefix: str) -> tuple[float, State]:
        return self._known[state, prefix] if prefix else (0.0, state)

    def _known_length(self, state: State, text: str) -> int:
        """Returns how many of its characters the longest known prefix of a text has."""
        return next((n for n in range(len(text), 0, -1) if (state, text[:n]) in self._known), 0)
