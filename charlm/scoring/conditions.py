"""Under which conditions a sentence is scored: what stands before it, what of it counts, what unknown means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from charlm.errors import InputError


class Unknown(StrEnum):
    """What a character that the model has never seen counts for."""

    SPREAD = "spread"
    SKIP = "skip"
    ERROR = "error"


@dataclass(frozen=True)
class Conditions:
    """Under which conditions a sentence is scored.

    Attributes:
        context: text that stands before the sentence; it is read, not scored.
        bos: whether a boundary opens the sentence (or its context). Without it and without a context, the first
            character is scored by its frequency in the training corpus, as KenLM scores it from the null context.
        eos: whether the end of the sentence is scored, where the corpus marks ends at all.
        unknown: `spread`: an unknown character has an equal share of the probability of `<unk>`, which is divided
            among all characters of Unicode that the model does not know; `skip`: it is read, but counts nothing, as
            SRILM has it; `error`: it is refused. Byte models know every character.
        document: text that was read before, such as the chapter so far: whole lines, the last of which is ended if
            it is not. A memory of what it says goes on into the sentence; see `charlm.experts.memory`. In lines
            framing the memory is all that is left of it. Without a document there is no memory either.

    Raises:
        InputError: there is no such treatment of unknown characters.
    """

    context: str = ""
    bos: bool = True
    eos: bool = True
    unknown: str = Unknown.SPREAD
    document: str = ""

    @classmethod
    def given(cls, conditions: Conditions | None, settings: Mapping[str, Any]) -> Conditions:
        """Returns conditions with some of their attributes set, by name; None stands for the usual ones."""
        return replace(conditions or cls(), **settings)

    def __post_init__(self) -> None:
        if self.unknown not in list(Unknown):
            raise InputError(f"unknown {self.unknown!r}: must be one of {', '.join(Unknown)}")
