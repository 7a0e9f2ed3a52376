"""Two models on one text: the difference of their surprisal, character by character."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from charlm.errors import InputError
from charlm.language_model import LanguageModel


@dataclass(frozen=True)
class CharacterDifference:
    """One character of a text that two models have read.

    Attributes:
        char: the character; the end of a line that is a sentence of its own is `</s>`.
        first: surprisal of the first model in nats.
        second: surprisal of the second.
        difference: `first` - `second`; negative where the first knew better.
    """

    char: str
    first: float
    second: float
    difference: float


@dataclass(frozen=True)
class Difference:
    """How two models differ on one text.

    Attributes:
        runs: the folders of the two runs.
        first: surprisal of the whole text by the first model, in nats.
        second: surprisal of the whole text by the second model, in nats.
        difference: `first - second`, the sum of the differences of all characters.
        chars: the characters of the text, each with its surprisal by both models.
    """

    runs: tuple[str, str]
    first: float
    second: float
    difference: float
    chars: tuple[CharacterDifference, ...]

    def largest(self, most: int) -> list[int]:
        """Returns the places of the characters where the models differ most, the largest difference first."""
        order = sorted(range(len(self.chars)), key=lambda i: -abs(self.chars[i].difference))
        return order[:most]


def subtract_surprisal(first: LanguageModel, second: LanguageModel, text: str) -> Difference:
    """Reads a text with two models and subtracts their surprisal.

    If both read running text, it is read as one. If one reads lines, both are given line by line, and their ends
    count where both predict them. A character that a model does not know has its share of `<unk>`, so that
    vocabularies may differ.

    Raises:
        InputError: the text is empty, or the models do not see the same characters in it.
    """
    framings = {model.vocabulary.framing for model in (first, second)}
    parts = [text] if framings == {"stream"} else text.removesuffix("\n").split("\n")
    ends = framings == {"lines"}
    if not text.strip("\n"):
        raise InputError("the text to compare two models on is empty")
    ours, theirs = (_surprisals(model, parts, ends=ends) for model in (first, second))
    if [char for char, _ in ours] != [char for char, _ in theirs]:
        raise InputError(
            f"{first.folder} and {second.folder}: these models normalise texts differently (corpus.normalization "
            "or corpus.lowercase), so they do not see the same characters in this one; give a text that both leave "
            "as it is, or models that were trained with the same settings"
        )
    chars = [CharacterDifference(char, a, b, a - b) for (char, a), (_, b) in zip(ours, theirs, strict=True)]
    sums = [math.fsum(values) for values in zip(*((c.first, c.second, c.difference) for c in chars), strict=True)]
    return Difference((str(first.folder), str(second.folder)), sums[0], sums[1], sums[2], tuple(chars))


def _surprisals(model: LanguageModel, parts: Sequence[str], *, ends: bool) -> list[tuple[str, float]]:
    """Returns each character of some sentences, and its surprisal."""
    return [(char, -logprob) for score in model.score(parts, eos=ends) for char, logprob, _ in score.chars]
