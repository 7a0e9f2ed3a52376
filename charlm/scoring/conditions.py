"""Under which conditions a sentence is scored: what stands before it, what of it counts, what unknown means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from charlm.errors import InputError


class Unknown(StrEnum):
    """How a character is scored that the model does not know."""

    SPREAD = "spread"
    SKIP = "skip"
    ERROR = "error"


@dataclass(frozen=True)
class Conditions:
    """The conditions under which a sentence is scored.

    Attributes:
        context: text that comes before the sentence. It is read, but it is not scored.
        bos: whether the sentence, or its context, begins at a boundary. Without a boundary and without a context,
            the first character is scored by its frequency in the training corpus, as KenLM does from the null
            context.
        eos: whether the end of the sentence is scored, if the corpus marks ends of sentences.
        unknown: how characters are treated that the model does not know. With `spread`, such a character has an
            equal share of the probability of `<unk>`, which is divided among all unknown characters of Unicode.
            With `skip`, it is read, but it is not scored, as in SRILM. With `error`, it is refused. Byte models
            know every character.
        document: text that was read before the sentence, such as the chapter so far, in whole lines. The model
            keeps a memory of it while it reads the sentence; see `charlm.experts.memory`. In lines framing only
            this memory remains of the document. Without a document there is no memory.

    Raises:
        InputError: `unknown` is none of these values.
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
