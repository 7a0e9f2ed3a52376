"""A trained model as the language model of flashlight-text's decoders, whose tokens are characters.

    from charlm.decoders.flashlight import CharacterLM

    lm = CharacterLM(charlm.load("runs/q"), tokens)
    decoder = LexiconFreeDecoder(options, lm, sil_idx, blank_idx, [])

In `LexiconDecoder` it is a language model of tokens: `is_token_lm=True`. Log-probabilities are natural; those of
flashlight's own KenLM are to base 10, so a weight tuned for it has to be divided by 2.3. Keep the object as long as
the decoder: the decoder does not.
"""

from __future__ import annotations

from collections.abc import Sequence

from charlm.errors import InputError
from charlm.language_model import LanguageModel
from charlm.scoring.states import State

try:
    from flashlight.lib.text.decoder import LM, LMState
except ImportError:
    raise InputError("this decoder needs flashlight-text; run `pip install 'charlm[decoders]'`") from None


class CharacterLM(LM):
    """Scores tokens for a decoder of flashlight-text.

    Args:
        lm: the model.
        tokens: what each token index stands for, in order; the blank's text is never asked for.
        space: the token that stands for a space.
    """

    def __init__(self, lm: LanguageModel, tokens: Sequence[str], *, space: str = "|") -> None:
        LM.__init__(self)
        self.lm = lm
        self._texts = [" " if token == space else token for token in tokens]
        vocabulary = lm.vocabulary
        ids = [vocabulary.encode_sentence(vocabulary.normalize(text)) for text in self._texts]
        # A known character is looked up; other tokens, longer ones or unknown characters, are read.
        self._columns = [
            int(symbols[0]) if len(symbols) == 1 and symbols[0] != vocabulary.unknown_id else None
            for symbols in ids
        ]
        self._parents: dict[LMState, tuple[LMState, int]] = {}
        self._states: dict[LMState, State] = {}
        self._rows: dict[LMState, list[float]] = {}

    def start(self, start_with_nothing: bool) -> LMState:
        """Returns the state at the beginning of a sentence; or, to start with nothing, before its boundary."""
        for found in (self._parents, self._states, self._rows):
            found.clear()
        state = LMState()
        self._states[state] = self.lm.start(bos=not start_with_nothing)
        return state

    def score(self, state: LMState, usr_token_idx: int) -> tuple[LMState, float]:
        """Returns the state after a token, and the token's log-probability (nats)."""
        child = state.child(usr_token_idx)
        self._parents.setdefault(child, (state, usr_token_idx))
        column = self._columns[usr_token_idx]
        if column is None:
            return child, self.lm.advance(self._state(state), self._texts[usr_token_idx])[0]
        if state not in self._rows:
            self._rows[state] = self.lm.next_log_probs(self._state(state)).tolist()
        return child, self._rows[state][column]

    def finish(self, state: LMState) -> tuple[LMState, float]:
        """Returns the log-probability (nats) that the sentence ends here, with a state after its end."""
        return state.child(-1), self.lm.end_log_prob(self._state(state))

    def _state(self, state: LMState) -> State:
        """Returns what was read; most children are given up by the decoder, and are never read."""
        if state not in self._states:
            parent, token = self._parents[state]
            self._states[state] = self.lm.advance(self._states[parent], self._texts[token])[1]
        return self._states[state]
