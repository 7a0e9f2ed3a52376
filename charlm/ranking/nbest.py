"""Moses n-best lists: reading them, adding a feature and reranking.

    id ||| hypothesis ||| features ||| total [||| more]

    total' = total + W · charlm + B · characters;   the hypotheses of an id are sorted by total', highest first

The weight W and the length bonus B are given; `tuning` finds them. Callers supply the function that scores
sentences.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from charlm.errors import InputError
from charlm.scoring.measures import Scorer

FEATURE = "charlm"


class Metric(StrEnum):
    """A metric of translations; `bleu` splits words as WMT does (13a), `bleu-zh` splits Chinese."""

    CHRF = "chrf"
    BLEU = "bleu"
    BLEU_ZH = "bleu-zh"


@dataclass(frozen=True)
class Hypothesis:
    """One line of an n-best list.

    Attributes:
        id: the id of the sentence that it translates.
        text: the hypothesis itself.
        total: the score by which the decoder ranked it.
        fields: the original line, split at `|||`.
    """

    id: str
    text: str
    total: float
    fields: tuple[str, ...]

    @classmethod
    def parse(cls, line: str, where: str) -> Hypothesis:
        """Parses a line.

        Args:
            line: without its newline.
            where: the place of the line in messages, for example `dev.nbest, line 3`.

        Raises:
            InputError: the line does not belong to an n-best list, or has the feature already.
        """
        fields = line.split("|||")
        if len(fields) < 4:
            raise InputError(
                f"{where}: {len(fields) - 1} of the three ||| of an n-best list: "
                "id ||| hypothesis ||| features ||| total"
            )
        name = fields[0].strip()
        if not name:
            raise InputError(f"{where}: no id before the first |||")
        try:
            total = float(fields[3])
        except ValueError:
            total = math.nan
        if math.isnan(total):
            raise InputError(
                f"{where}: the total, after the third |||, is not a number: {fields[3].strip()[:40]!r}"
            )
        if re.search(rf"(?:^|\s){FEATURE}=", fields[2]):
            raise InputError(
                f"{where}: has a feature {FEATURE}= already; to add another, rename it first, "
                f"for example with sed 's/ {FEATURE}= / {FEATURE}1= /'"
            )
        return cls(name, fields[1].strip(" "), total, tuple(fields))

    def with_feature(self, value: float, total: float) -> str:
        """Returns the line with the feature appended to the others and a new total, otherwise unchanged."""
        features = f"{self.fields[2].rstrip(' ')} {FEATURE}= {value} "
        old = self.fields[3]
        new = old.replace(old.strip(), f"{total:.10g}")
        return "|||".join((*self.fields[:2], features, new, *self.fields[4:]))


@dataclass(frozen=True)
class Scored:
    """A scored hypothesis.

    Attributes:
        hypothesis: the hypothesis as it was read.
        value: its measure.
        characters: number of characters of its text.
    """

    hypothesis: Hypothesis
    value: float
    characters: int

    def total(self, weight: float, length_bonus: float) -> float:
        """Returns the new total."""
        return self.hypothesis.total + weight * self.value + length_bonus * self.characters


def read_groups(batches: Iterable[Sequence[str]], source: str) -> Iterator[list[list[Hypothesis]]]:
    """Yields the hypotheses grouped by id; each batch of lines yields the groups that it completes.

    Args:
        batches: lines without their newlines, in batches as they arrive.
        source: the name of the list in messages.

    Raises:
        InputError: a line does not belong to an n-best list, or the lines of an id are not adjacent.
    """
    open_group: list[Hypothesis] = []
    seen = _SeenIds()
    number = 0
    for batch in batches:
        complete: list[list[Hypothesis]] = []
        for line in batch:
            number += 1
            hypothesis = Hypothesis.parse(line, f"{source}, line {number}")
            if not open_group or hypothesis.id != open_group[0].id:
                if hypothesis.id in seen:
                    raise InputError(
                        f"{source}, line {number}: id {hypothesis.id} comes again after another; "
                        "bring each id's lines together first, for example with sort -s -n -k1,1"
                    )
                seen.add(hypothesis.id)
                if open_group:
                    complete.append(open_group)
                open_group = []
            open_group.append(hypothesis)
        if complete:
            yield complete
    if open_group:
        yield [open_group]


class _SeenIds:
    """A set of ids; those that count up from the first one take no memory, however many they are."""

    def __init__(self) -> None:
        self._first = self._next = 0  # first, first + 1, … next - 1 are in the set
        self._others: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._others or (
            name.isdecimal() and self._first <= int(name) < self._next and name == str(int(name))
        )

    def add(self, name: str) -> None:
        if self._first == self._next and name.isdecimal():
            self._first = self._next = int(name)
        self._others.add(name)
        while str(self._next) in self._others:
            self._others.remove(str(self._next))
            self._next += 1


def score_groups(groups: Sequence[Sequence[Hypothesis]], score: Scorer, measure: str) -> list[list[Scored]]:
    """Scores hypotheses; equal texts are scored once.

    Args:
        groups: the hypotheses of each id.
        score: scores sentences.
        measure: `logprob`, `mean`, `penlp` or `slor`.

    Raises:
        InputError: there is no such measure.
    """
    texts = list(dict.fromkeys(hypothesis.text for group in groups for hypothesis in group))
    # Rounded to what is printed, so that a total can be recomputed from the features of its line.
    scored = {
        text: (round(s.measure(measure), 6) + 0.0, s.characters)
        for text, s in zip(texts, score(texts), strict=True)
    }
    return [[Scored(hypothesis, *scored[hypothesis.text]) for hypothesis in group] for group in groups]


def reranked(group: Sequence[Scored], weight: float, length_bonus: float) -> list[str]:
    """Returns the lines of one id, best first; ties keep their order."""
    totals = [scored.total(weight, length_bonus) for scored in group]
    order = sorted(range(len(group)), key=lambda i: -totals[i])
    return [group[i].hypothesis.with_feature(group[i].value, totals[i]) for i in order]
