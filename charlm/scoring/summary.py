"""The figures of a whole text: sums over its scored sentences, collected one sentence at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from charlm.scoring.measures import Score
from charlm.text.vocabulary import to_bytes

_MAX_LINES = 11  # numbers of lines kept for each unknown character


@dataclass
class UnknownCharacter:
    """The occurrences of an unknown character.

    Attributes:
        count: number of occurrences.
        lines: the first lines that contain it, from 1, each once.
    """

    count: int = 0
    lines: list[int] = field(default_factory=list)

    def add(self, line: int, count: int = 1) -> None:
        """Adds the occurrences in a line; lines are added in order."""
        self.count += count
        if len(self.lines) < _MAX_LINES and self.lines[-1:] != [line]:
            self.lines.append(line)


@dataclass
class Summary:
    """Sums over scored sentences, and the figures of the whole text.

    Attributes:
        sentences: number of sentences.
        ends: number of scored ends of sentences.
        characters: number of characters, without ends.
        words: number of words, separated by white space.
        n: number of scored characters and ends.
        bytes: size of the scored characters in UTF-8, plus one byte for each end.
        logprob: log-probability of all scored characters and ends, in nats.
        unknown: number of unknown characters.
        unknown_scored: number of unknown characters in `n`.
        unknown_logprob: log-probability of the unknown characters, in nats.
        unknown_characters: the occurrences of each unknown character.
    """

    sentences: int = 0
    ends: int = 0
    characters: int = 0
    words: int = 0
    n: int = 0
    bytes: int = 0
    logprob: float = 0.0
    unknown: int = 0
    unknown_scored: int = 0
    unknown_logprob: float = 0.0
    unknown_characters: dict[str, UnknownCharacter] = field(default_factory=dict)

    def add(self, score: Score) -> None:
        """Adds the next sentence."""
        self.sentences += 1
        chars = score.chars
        end = len(chars) - score.characters
        skipped = len(chars) - score.n
        self.ends += end
        self.characters += score.characters
        self.words += len(score.text.split())
        self.n += score.n
        self.logprob += score.logprob
        counted = [c.char for c in chars[: score.characters] if not (skipped and c.unknown)]
        self.bytes += end + len(to_bytes("".join(counted)))
        if score.unknown:
            self.unknown += score.unknown
            self.unknown_scored += score.unknown - skipped
            for char in chars:
                if char.unknown:
                    self.unknown_logprob += char.logprob
                    self.unknown_characters.setdefault(char.char, UnknownCharacter()).add(self.sentences)

    @property
    def perplexity(self) -> float:
        """`exp(-logprob / n)`; nan if nothing is scored."""
        return _perplexity(self.logprob, self.n)

    @property
    def perplexity_excluding_unknown(self) -> float:
        """The perplexity of known characters and ends; nan if there are none."""
        return _perplexity(self.logprob - self.unknown_logprob, self.n - self.unknown_scored)

    @property
    def perplexity_per_word(self) -> float:
        """The perplexity of words and ends, which can be compared with that of word models."""
        return _perplexity(self.logprob, self.words + self.ends)

    @property
    def bits_per_character(self) -> float:
        """`-logprob / n / ln 2`; nan if nothing is scored."""
        return -self.logprob / self.n / math.log(2) if self.n else math.nan

    @property
    def bits_per_byte(self) -> float:
        """`-logprob / bytes / ln 2`; nan if nothing is scored."""
        return -self.logprob / self.bytes / math.log(2) if self.bytes else math.nan


def _perplexity(logprob: float, n: int) -> float:
    if not n:
        return math.nan
    return math.exp(-logprob / n) if -logprob / n < 700 else math.inf
