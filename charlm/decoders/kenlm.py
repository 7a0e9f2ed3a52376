"""A trained model with the methods and units of the `kenlm` module, for tools that expect one.

    from charlm.decoders import kenlm

    model = kenlm.Model("runs/q")
    model.score("to be or not to be")

As there, log-probabilities are to base 10, a sentence is a string of tokens with blanks between them, `<s>` is
context and `</s>` is predicted. A token is a word, priced with the space before it. With `tokens="characters"`
tokens follow each other directly, as for a KenLM that was trained on single characters, and one token stands for
the space; this is also for words of a language that is written without spaces.

The model remembers the whole sentence: its order has no limit, and a token's n-gram begins at the beginning.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from charlm.decoders.prefixes import UNLIMITED
from charlm.errors import InputError
from charlm.language_model import LanguageModel, load
from charlm.scoring.states import State as TextState
from charlm.text.vocabulary import END_OF_SENTENCE

_BEGIN_OF_SENTENCE = "<s>"
_NATS = math.log(10)  # of one unit to base 10


class FullScoreReturn(NamedTuple):
    """What a token costs, as `BaseFullScore` returns it.

    Attributes:
        log_prob: its log-probability to base 10.
        ngram_length: how many tokens it was predicted from, itself and `<s>` included.
        oov: whether it has characters that the model does not know.
    """

    log_prob: float
    ngram_length: int
    oov: bool


@functools.total_ordering
class State:
    """A place that a method writes a state to; states are equal where the same was read, and can be sorted."""

    def __init__(self) -> None:
        self._text: TextState | None = None  # None: nothing was read
        self._tokens = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, State) and self._read == other._read

    def __lt__(self, other: State) -> bool:
        return self._read < other._read

    def __hash__(self) -> int:
        return hash(self._read)

    @property
    def _read(self) -> bytes:
        return self._text.read if self._text else b""

    def __copy__(self) -> State:
        copy = State()
        copy._text, copy._tokens = self._text, self._tokens
        return copy

    def __deepcopy__(self, memo: Any = None) -> State:
        return self.__copy__()


class Model:
    """A model that scores sentences as `kenlm.Model` does.

    Args:
        run: a run folder, or a model that is already loaded.
        tokens: `words`, or `characters`; see the module.
        space: the token that stands for a space where tokens are characters.

    Raises:
        InputError: tokens are something else.
        RunError: the folder holds no run.
    """

    def __init__(
        self, run: str | os.PathLike[str] | LanguageModel, *, tokens: str = "words", space: str = "|"
    ) -> None:
        if tokens not in ("words", "characters"):
            raise InputError(f"tokens {tokens!r}: must be words or characters")
        self.lm = run if isinstance(run, LanguageModel) else load(run)
        self.path = os.fsencode(os.path.abspath(self.lm.folder))
        self._separator = " " if tokens == "words" else ""
        self._space = space if tokens == "characters" else None
        self._null = self.lm.start(bos=False)
        self._begin = self.lm.start()

    @property
    def order(self) -> int:
        """The longest n-gram: no limit, which is 2³¹ - 1."""
        return UNLIMITED

    def score(self, sentence: str, bos: bool = True, eos: bool = True) -> float:
        """Returns the log-probability of a sentence to base 10, between `<s>` and `</s>` unless told otherwise."""
        text = self._separator.join(map(self._spelling, sentence.split()))
        nats, state = self.lm.advance(self._begin if bos else self._null, text)
        return (nats + (self.lm.end_log_prob(state) if eos else 0.0)) / _NATS

    def perplexity(self, sentence: str) -> float:
        """Returns 10 to the negative score of a token, `</s>` counting as one."""
        exponent = -self.score(sentence) / (len(sentence.split()) + 1)
        return 10.0**exponent if exponent < 308 else math.inf

    def full_scores(self, sentence: str, bos: bool = True, eos: bool = True) -> Iterator[tuple[float, int, bool]]:
        """Yields of each token, and of `</s>`, what `BaseFullScore` returns, as a plain tuple."""
        state = State()
        (self.BeginSentenceWrite if bos else self.NullContextWrite)(state)
        for token in [*sentence.split(), *([END_OF_SENTENCE] if eos else [])]:
            found = self.BaseFullScore(state, token, state)
            yield found.log_prob, found.ngram_length, found.oov

    def BeginSentenceWrite(self, state: State) -> None:  # noqa: N802
        """Writes the state after `<s>`."""
        state._text, state._tokens = self._begin, 1

    def NullContextWrite(self, state: State) -> None:  # noqa: N802
        """Writes the state before anything was read."""
        state._text, state._tokens = self._null, 0

    def BaseScore(self, in_state: State, word: str, out_state: State) -> float:  # noqa: N802
        """Returns the log-probability of a token to base 10 after a state, and writes the state after it."""
        return self.BaseFullScore(in_state, word, out_state).log_prob

    def BaseFullScore(self, in_state: State, word: str, out_state: State) -> FullScoreReturn:  # noqa: N802
        """As `BaseScore`; also returns the length of its n-gram, and if it has unknown characters."""
        before = self._null if in_state._text is None else in_state._text
        length = in_state._tokens + 1
        if word == END_OF_SENTENCE:
            nats, after, oov = self.lm.end_log_prob(before), self._begin, False
        else:
            piece = self._spelling(word)
            nats, after = self.lm.advance(before, (self._separator if before.text else "") + piece)
            oov = word not in self
        out_state._text, out_state._tokens = after, 1 if word == END_OF_SENTENCE else length
        return FullScoreReturn(nats / _NATS, length, oov)

    def __contains__(self, word: str) -> bool:
        if word in (_BEGIN_OF_SENTENCE, END_OF_SENTENCE):
            return True
        vocabulary = self.lm.vocabulary
        return bool(word) and not vocabulary.unknown_in(vocabulary.normalize(self._spelling(word)))

    def __repr__(self) -> str:
        return f"<Model from {os.path.basename(os.fsdecode(self.path))}>"

    def _spelling(self, token: str) -> str:
        return " " if token == self._space else token
