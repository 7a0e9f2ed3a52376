"""The numbers of one scored sentence, and the measures by which sentences are compared.

    n      characters of the sentence, and one for its end where that is scored; skipped ones do not count
    LP     log p(x_1 … x_n)                        logprob
    mean   LP / n                                  mean_logprob
    PenLP  LP / ((5 + n) / 6)^0.8                  penlp
    SLOR   (LP - LP_u) / n                         slor; LP_u by the corpus's character frequencies

Where log-probabilities come from is `scoring`'s business. All are natural, in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from charlm.errors import InputError

_TIE = 1e-5  # of the value: what is scored beside a sentence may change its last digits


class Measure(StrEnum):
    """A number by which sentences are compared; higher is better."""

    LOGPROB = "logprob"
    MEAN = "mean"
    PENLP = "penlp"
    SLOR = "slor"


class CharacterScore(NamedTuple):  # the quickest to make: a long line has millions
    """One character of a scored sentence.

    Attributes:
        char: the character; the end of the sentence is `</s>`.
        logprob: its log-probability given all before it, in nats.
        unknown: whether the model does not know the character; then `logprob` is its share of `<unk>`, or 0 where
            unknown characters are skipped.
    """

    char: str
    logprob: float
    unknown: bool


@dataclass(frozen=True)
class Score:
    """The score of one sentence.

    Attributes:
        text: the sentence as given.
        characters: how many characters it has, its end not counted.
        unknown: how many of them the model does not know.
        logprob: log-probability of the sentence and of its end, in nats.
        n: how many of its characters `logprob` is over, its end counted where it is scored.
        mean_logprob: `logprob` / n.
        perplexity: exp(-mean_logprob).
        bits_per_character: -mean_logprob / ln 2.
        penlp: logprob / ((5 + n) / 6)^0.8, the length penalty of Wu et al. 2016 as used by Lau et al. 2020.
        slor: (logprob - log-probability under the corpus's unigram frequencies) / n (Pauls and Klein 2012).
        chars: each character and the end with its own log-probability; they add up to `logprob`.
    """

    text: str
    characters: int
    unknown: int
    n: int
    logprob: float
    mean_logprob: float
    perplexity: float
    bits_per_character: float
    penlp: float
    slor: float
    chars: tuple[CharacterScore, ...]

    @classmethod
    def of(
        cls,
        text: str,
        chars: Sequence[CharacterScore],
        *,
        characters: int,
        n: int,
        logprob: float,
        unigram: float,
    ) -> Score:
        """Draws all numbers from the log-probabilities of a sentence.

        Args:
            text: the sentence as given.
            chars: its characters, and its end where that is scored.
            characters: how many of `chars` are the sentence's own.
            n: how many of `chars` count.
            logprob: the sum over `chars`, in nats.
            unigram: the same sum under the corpus's unigram frequencies.
        """
        mean = logprob / n if n else 0.0
        return cls(
            text=text,
            characters=characters,
            unknown=sum(char.unknown for char in chars),
            n=n,
            logprob=logprob,
            mean_logprob=mean,
            perplexity=math.exp(-mean) if mean > -700 else math.inf,
            bits_per_character=-mean / math.log(2),
            penlp=logprob / ((5 + n) / 6) ** 0.8,
            slor=(logprob - unigram) / n if n else 0.0,
            chars=tuple(chars),
        )

    def measure(self, name: str) -> float:
        """Returns one measure by its name: `logprob`, `mean`, `penlp` or `slor`; higher is better.

        Raises:
            InputError: there is no such measure.
        """
        try:
            measure = Measure(name)
        except ValueError:
            raise InputError(f"measure {name!r}: must be one of {', '.join(Measure)}") from None
        value: float = getattr(self, "mean_logprob" if measure is Measure.MEAN else measure.value)
        return value


Scorer = Callable[[Sequence[str]], Iterable[Score]]  # what ranking and judging are given to score sentences with


def tie(a: float, b: float) -> bool:
    """Says whether two values differ by no more than rounding can make them."""
    return math.isclose(a, b, rel_tol=_TIE, abs_tol=_TIE)


@dataclass(frozen=True)
class Ranked:
    """A sentence in its place among others.

    Attributes:
        rank: 1 for the best; sentences that tie share the rank of the first of them.
        value: the measure that ranked it.
        score: all its numbers.
    """

    rank: int
    value: float
    score: Score


def rank(scores: Iterable[Score], measure: str) -> list[Ranked]:
    """Sorts sentences by a measure, best first; those that tie stay in their order.

    Values that differ by less than rounding can make them tie.

    Raises:
        InputError: there is no such measure.
    """
    ordered = sorted(((score.measure(measure), score) for score in scores), key=lambda pair: -pair[0])
    ranked: list[Ranked] = []
    for place, (value, score) in enumerate(ordered, 1):
        tied = ranked and tie(value, ordered[ranked[-1].rank - 1][0])
        ranked.append(Ranked(ranked[-1].rank if tied else place, value, score))
    return ranked
