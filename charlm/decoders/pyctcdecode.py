"""A trained model as the language model of pyctcdecode.

    from charlm.decoders.pyctcdecode import build_ctcdecoder

    decoder = build_ctcdecoder(labels, charlm.load("runs/q"))
    decoder.decode(logits)

A KenLM of words knows nothing of half a word: pyctcdecode gives it a penalty where no known word begins so. A model
of characters knows what the half costs after all that stands before it.

pyctcdecode asks for the price of a half word without saying what stands before it. `BeamSearchDecoder`, which
`build_ctcdecoder` makes, knows, and prices all beams of a frame at once. `Scorer` also works in pyctcdecode's own
decoder, but there a half word is priced as if at the beginning of a sentence or after a space, the mean of both
probabilities.

Log-probabilities are natural, as pyctcdecode wants them: alpha log p(text) + beta characters. As there, the space
between two words belongs to the second one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from charlm.decoders.prefixes import UNLIMITED, Prefixes
from charlm.errors import InputError
from charlm.language_model import LanguageModel
from charlm.scoring.states import State

try:
    from pyctcdecode.alphabet import Alphabet
    from pyctcdecode.decoder import BeamSearchDecoderCTC
    from pyctcdecode.language_model import AbstractLanguageModel
except ImportError:
    raise InputError("this decoder needs pyctcdecode; run `pip install 'charlm[decoders]'`") from None

ALPHA = 0.6
BETA = 0.9  # this times what a character of English costs, 1.5 nats


class Scorer(AbstractLanguageModel):
    """Prices words and beginnings of words for a decoder of pyctcdecode.

    Args:
        lm: the model.
        alpha: weight of the log-probability.
        beta: bonus of each character, the space before a word included.
        score_boundary: whether a text begins after the boundary and ends with it.
    """

    def __init__(
        self, lm: LanguageModel, *, alpha: float = ALPHA, beta: float = BETA, score_boundary: bool = True
    ) -> None:
        self.lm = lm
        self.alpha = alpha
        self.beta = beta
        self.score_boundary = score_boundary
        self._prefixes = Prefixes(lm)
        self._first, self._later = lm.start(), lm.start(" ", bos=False)

    @property
    def order(self) -> int:
        """No limit: beams that differ anywhere are different."""
        return UNLIMITED

    def reset_params(self, **params: Any) -> None:
        """Sets `alpha`, `beta` or `score_boundary`.

        Raises:
            InputError: it is another parameter: there is no score of unknown words.
        """
        for name, value in params.items():
            if name not in ("alpha", "beta", "score_boundary"):
                raise InputError(f"{name}: a model of characters has only alpha, beta and score_boundary")
            setattr(self, name, value)

    def get_start_state(self) -> State:
        """Returns the state before the first word."""
        return self.lm.start(bos=self.score_boundary)

    def score(self, prev_state: State, word: str, is_last_word: bool = False) -> tuple[float, State]:
        """Returns the score of a word after a state, the space before it included, and the state after it."""
        ((score, state),) = self.scores([(prev_state, word)])
        if is_last_word and self.score_boundary:
            score += self.alpha * self.lm.end_log_prob(state)
        return score, state

    def scores(self, words: Sequence[tuple[State, str]]) -> list[tuple[float, State]]:
        """Returns the scores of words or beginnings of words, each after a state, and the states after them."""
        pieces = [(state, _after(state, word)) for state, word in words]
        prices = self._prefixes.prices(pieces)
        return [
            (self.alpha * nats + self.beta * len(piece), after)
            for (_, piece), (nats, after) in zip(pieces, prices, strict=True)
        ]

    def score_partial_token(self, partial_token: str) -> float:
        """Returns the score of the beginning of a word of which nothing else is known; see the module."""
        (first, _), (later, _) = self._prefixes.prices([(self._first, partial_token), (self._later, partial_token)])
        high, low = max(first, later), min(first, later)
        nats = high + math.log((1 + math.exp(low - high)) / 2)
        return self.alpha * nats + self.beta * len(partial_token)


class BeamSearchDecoder(BeamSearchDecoderCTC):
    """pyctcdecode's decoder, in which the beginning of a word is priced after all that stands before it."""

    def _get_lm_beams(
        self,
        beams: list[Any],
        hotword_scorer: Any,
        cached_lm_scores: dict[Any, Any],
        cached_partial_token_scores: dict[str, float],
        is_eos: bool = False,
    ) -> list[Any]:
        scorer: Scorer = self._language_model
        # What all beams need is computed at once; pyctcdecode then finds it, a beam at a time.
        words = scorer.scores([(cached_lm_scores[text, False][2], word) for text, word, *_ in beams])
        states = [state for _, state in words]
        if is_eos:
            scorer.lm.end_log_prob_batch(states)
        parts = scorer.scores([(state, beam[2]) for state, beam in zip(states, beams, strict=True)])
        found: list[Any] = []
        for beam, (score, _) in zip(beams, parts, strict=True):
            part = beam[2]
            priced = {} if part in hotword_scorer else {part: score}
            found += super()._get_lm_beams([beam], hotword_scorer, cached_lm_scores, priced, is_eos)
        return found


def build_ctcdecoder(
    labels: Sequence[str], lm: LanguageModel, *, alpha: float = ALPHA, beta: float = BETA
) -> BeamSearchDecoder:
    """Builds a decoder, as pyctcdecode's function of this name does with a KenLM.

    Args:
        labels: what the columns of the logits stand for, as pyctcdecode has them: `""` is the blank.
        lm: the model.
        alpha: weight of its log-probability.
        beta: bonus of each character.
    """
    return BeamSearchDecoder(Alphabet.build_alphabet(list(labels)), Scorer(lm, alpha=alpha, beta=beta))


def _after(state: State, word: str) -> str:
    """Returns what a word adds to a text: a space before it, unless the text is empty or ends with one."""
    return f" {word}" if word and state.text and not state.text.endswith(" ") else word
