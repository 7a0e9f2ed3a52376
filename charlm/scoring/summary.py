"""The figures of many scored sentences taken together, as of one text, gathered while they stream by."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from charlm.scoring.measures import Score
from charlm.text.vocabulary import to_bytes

_LINES = 11  # line numbers kept for each unknown character


@dataclass
class UnknownCharacter:
    """Where a character that the model does not know stands.

    Attributes:
        count: how often.
        lines: the first lines it stands in, from 1, each once.
    """

    count: int = 0
    lines: list[int] = field(default_factory=list)

    def add(self, line: int, count: int = 1) -> None:
        """Takes in that it stands so often in a line, none before the last one."""
        self.count += count
        if len(self.lines) < _LINES and self.lines[-1:] != [line]:
            self.lines.append(line)


@dataclass
class Summary:
    """Sums over scored sentences, from which the figures of the whole text follow.

    Attributes:
        sentences: how many.
        ends: how many of their ends are scored.
        characters: of the sentences, their ends not counted.
        words: separated by white space.
        n: characters and ends that the log-probabilities are over.
        bytes: the same in UTF-8, an end being one byte.
        logprob: of everything scored, in nats.
        unknown: characters that the model does not know.
        unknown_scored: how many of them count in `n`.
        unknown_logprob: their part of `logprob`.
        unknown_characters: which they are and where.
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
        """Takes in the next sentence."""
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
        """The exponential of the mean surprisal of characters and ends; nan where there are none."""
        return _perplexity(self.logprob, self.n)

    @property
    def perplexity_excluding_unknown(self) -> float:
        """The same, unknown characters left out of sum and count."""
        return _perplexity(self.logprob - self.unknown_logprob, self.n - self.unknown_scored)

    @property
    def perplexity_per_word(self) -> float:
        """The same for a word or an end, as a model of words has it; what it is worth depends on the spaces."""
        return _perplexity(self.logprob, self.words + self.ends)

    @property
    def bits_per_character(self) -> float:
        """-logprob / n / ln 2; nan where there is nothing."""
        return -self.logprob / self.n / math.log(2) if self.n else math.nan

    @property
    def bits_per_byte(self) -> float:
        """-logprob / bytes / ln 2; nan where there is nothing."""
        return -self.logprob / self.bytes / math.log(2) if self.bytes else math.nan


def _perplexity(logprob: float, n: int) -> float:
    if not n:
        return math.nan
    return math.exp(-logprob / n) if -logprob / n < 700 else math.inf
