"""The score of a sentence, and the measures by which sentences are compared.

    n      scored symbols: the characters of the sentence, and its end where that is scored
    LP     log p(x_1 … x_n)                        logprob
    mean   LP / n                                  mean_logprob
    PenLP  LP / ((5 + n) / 6)^0.8                  penlp
    SLOR   (LP - LP_u) / n                         slor; LP_u is LP by the character frequencies of the corpus

All logarithms are natural, in nats. `log_probs` computes the log-probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from charlm.errors import InputError
from charlm.scoring import html
from charlm.system.counts import count_of

_TIE_TOLERANCE = 1e-5  # relative and absolute; the last digits of a score may depend on the rest of its batch

_FULL_SHADE_NATS = 6.0, 14.0  # at least and at most, where a notebook's shades are full
_DEAREST = 5  # characters that are named in a notebook


class Measure(StrEnum):
    """A number by which sentences are compared; higher is better."""

    LOGPROB = "logprob"
    MEAN = "mean"
    PENLP = "penlp"
    SLOR = "slor"


class CharacterScore(NamedTuple):  # faster to create than a dataclass: a long line has millions
    """One character of a scored sentence.

    Attributes:
        char: the character; the end of the sentence is `</s>`.
        logprob: its log-probability given all characters before it, in nats.
        unknown: whether the character is not in the vocabulary; `logprob` is then its share of `<unk>`, or 0 if
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
        characters: number of its characters, without its end.
        unknown: number of its unknown characters.
        logprob: log-probability of the sentence and its end, in nats.
        n: number of characters that are scored, including the end if it is scored.
        mean_logprob: `logprob / n`.
        perplexity: `exp(-mean_logprob)`.
        bits_per_character: `-mean_logprob / ln 2`.
        penlp: `logprob / ((5 + n) / 6)^0.8`, the length penalty of Wu et al. 2016 as used by Lau et al. 2020.
        slor: `(logprob - unigram) / n`, where `unigram` is the log-probability by the frequencies of the characters
            in the training text (Pauls and Klein 2012).
        chars: the characters and the end, each with its log-probability. Their sum is `logprob`.
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
        """Computes all numbers from the log-probabilities of a sentence.

        Args:
            text: the sentence as given.
            chars: its characters, and its end where that is scored.
            characters: number of `chars` without the end.
            n: number of `chars` that are scored, not skipped.
            logprob: their log-probability, in nats.
            unigram: their log-probability by the unigram frequencies of the corpus, in nats.
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
        """Returns the measure of this name: `logprob`, `mean`, `penlp` or `slor`; higher is better.

        Raises:
            InputError: there is no such measure.
        """
        try:
            measure = Measure(name)
        except ValueError:
            raise InputError(f"measure {name!r}: must be one of {', '.join(Measure)}") from None
        value: float = getattr(self, "mean_logprob" if measure is Measure.MEAN else measure.value)
        return value

    def _repr_html_(self, max_bytes: int = html.MAX_BYTES) -> str:
        """The characters shaded by surprisal, and the figures, for notebooks."""
        # Among thousands of characters each is surprising: shades are full at twice what frequencies alone give.
        low, high = _FULL_SHADE_NATS
        full = min(high, max(low, 2 * (self.slor - self.mean_logprob)))
        spans = (
            f'<span style="{html.shade(-c.logprob, full)}{";text-decoration:underline dotted" * c.unknown}" '
            f'title="{-c.logprob:.2f} nats{", unknown" * c.unknown}">{html.visible(c.char)}</span>'
            for c in self.chars
        )
        text, shown = html.fit(spans, max_bytes)
        text += html.left_out(len(self.chars) - shown, "characters")
        figures = [
            f"log-probability {self.logprob:.2f} nats",
            f"{self.bits_per_character:.3f} bits per character",
            count_of(self.characters, "character"),
            *([f"{self.unknown:,} unknown"] if self.unknown else []),
        ]
        dearest = sorted(self.chars, key=lambda c: c.logprob)[:_DEAREST]
        named = ", ".join(f"{html.visible_alone(c.char)} {-c.logprob:.2f}" for c in dearest)
        return (
            '<div style="line-height:1.7"><div style="font-family:ui-monospace,monospace;font-size:15px;'
            f'white-space:pre-wrap;overflow-wrap:anywhere">{text}</div>'
            f"<div>{' · '.join(figures)}</div>"
            f"<div>most surprising, in nats: {named} · shaded from 0 to {full:.1f}</div></div>"
        )


class Scores(list[Score]):
    """The scores of sentences, a list, which a notebook shows."""

    def _repr_html_(self) -> str:
        each = (score._repr_html_(html.MAX_BYTES // 2) + "<hr>" for score in self)
        text, shown = html.fit(each)
        return text + html.left_out(len(self) - shown, "sentences")


Scorer = Callable[[Sequence[str]], Iterable[Score]]  # ranking takes a scorer, not a model


def is_tie(a: float, b: float) -> bool:
    """Returns whether two values differ by no more than rounding errors."""
    return math.isclose(a, b, rel_tol=_TIE_TOLERANCE, abs_tol=_TIE_TOLERANCE)


@dataclass(frozen=True)
class Ranked:
    """A ranked sentence.

    Attributes:
        rank: its rank, which is 1 for the best; tied sentences share a rank.
        value: the measure by which it is ranked.
        score: its score.
    """

    rank: int
    value: float
    score: Score


def rank(scores: Iterable[Score], measure: str) -> list[Ranked]:
    """Sorts sentences by a measure, best first; tied sentences keep their order.

    Values tie if they differ by no more than rounding errors.

    Raises:
        InputError: there is no such measure.
    """
    ordered = sorted(((score.measure(measure), score) for score in scores), key=lambda pair: -pair[0])
    ranked: list[Ranked] = []
    for place, (value, score) in enumerate(ordered, 1):
        tied = ranked and is_tie(value, ordered[ranked[-1].rank - 1][0])
        ranked.append(Ranked(ranked[-1].rank if tied else place, value, score))
    return ranked
