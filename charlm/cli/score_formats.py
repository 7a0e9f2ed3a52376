"""How `charlm score` prints for programs: JSON lines, TSV, and what KenLM's `query` and SRILM's `ngram` print."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from charlm.cli.render import for_terminal, json_line

if TYPE_CHECKING:
    from charlm.scoring.alternatives import Alternative
    from charlm.scoring.conditions import Conditions
    from charlm.scoring.measures import Measure, Score
    from charlm.scoring.summary import Summary
    from charlm.text.vocabulary import Vocabulary

FIELDS = (
    "text",
    "characters",
    "unknown",
    "logprob",
    "mean_logprob",
    "perplexity",
    "bits_per_character",
    "penlp",
    "slor",
)
LOGARITHMS = ("logprob", "mean_logprob", "penlp", "slor")  # what --log-base turns


class LogBase(StrEnum):
    """The base of the logarithms that are printed."""

    E = "e"
    TWO = "2"
    TEN = "10"

    @property
    def nats(self) -> float:
        """What one unit is in nats."""
        return 1.0 if self is LogBase.E else math.log(int(self))

    @property
    def unit(self) -> str:
        """What a unit of information is called."""
        return {LogBase.E: "nats", LogBase.TWO: "bits", LogBase.TEN: "bans"}[self]


@dataclass(frozen=True)
class View:
    """What is to be shown of every sentence.

    Attributes:
        vocabulary: the model's.
        conditions: under which it scores.
        source: the file's name, `-`, or None for sentences of the command line.
        base: of all logarithms.
        measure: what is shown as `score`, if any.
        ranked: whether each has a rank.
        per_char: whether each character is shown.
    """

    vocabulary: Vocabulary
    conditions: Conditions
    source: str | None
    base: LogBase
    measure: Measure | None
    ranked: bool
    per_char: bool

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of what is shown, in their order."""
        more = (("score", self.measure), ("rank", self.ranked), ("chars", self.per_char))
        return (*FIELDS, *(name for name, wanted in more if wanted))

    @property
    def history(self) -> str:
        """The context as the model reads it."""
        return self.vocabulary.normalize(self.conditions.context)

    def row(self, item: Item) -> dict[str, Any]:
        """Returns everything that is shown of a sentence, by the names of `fields`."""
        score, nats = item.score, self.base.nats
        row: dict[str, Any] = {name: getattr(score, name) for name in FIELDS}
        for name in LOGARITHMS:
            row[name] /= nats
        if self.measure:
            row["score"] = score.measure(self.measure) / nats
        if self.ranked:
            row["rank"] = item.rank
        if self.per_char:
            row["chars"] = [{**char._asdict(), "logprob": char.logprob / nats} for char in score.chars]
            for char, others in zip(row["chars"], item.alternatives or (), strict=False):
                char["alternatives"] = [{"char": other.char, "logprob": other.logprob / nats} for other in others]
        return row


@dataclass(frozen=True)
class Item:
    """One sentence that is shown: its score, its rank, and what else could stand at each place."""

    score: Score
    rank: int | None = None
    alternatives: list[tuple[Alternative, ...]] | None = None


class Printer:
    """Prints scores in their order."""

    def __init__(self, view: View) -> None:
        self._view = view

    def begin(self) -> None:
        """Prints what comes before the first: nothing, unless a form has a head."""

    def show(self, item: Item) -> None:
        """Prints one."""
        raise NotImplementedError

    def end(self, summary: Summary) -> None:
        """Prints what follows the last: nothing, unless a form has a summary."""


class Jsonl(Printer):
    """One JSON object a line."""

    def show(self, item: Item) -> None:
        """Prints one line."""
        print(json_line(self._view.row(item)))


class Tsv(Printer):
    """A header and a line a sentence; tabs, newlines and backslashes in the text are escaped."""

    def begin(self) -> None:
        """Prints the names of the columns."""
        print("\t".join(self._view.fields))

    def show(self, item: Item) -> None:
        """Prints one line."""
        row = self._view.row(item)
        text = row["text"].replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
        row["text"] = text.encode("utf-8", "backslashreplace").decode()
        if "chars" in row:
            row["chars"] = json.dumps(row["chars"])
        print(for_terminal("\t".join(str(row[name]) for name in self._view.fields)))


def token(char: str) -> str:
    """Returns a character as those tools can read a word: one without white space, never empty."""
    if char == " ":
        return "<space>"
    return char if len(char) > 1 or char.isprintable() else f"<U+{ord(char):04X}>"


class Kenlm(Printer):
    """What KenLM's `query` prints: `character=id context-length log10` for each, then the totals, base 10.

    The id is that of the vocabulary, 0 for an unknown character; at byte level it is the code point.
    """

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._before = len(view.history) + view.conditions.bos  # symbols read before the first

    def show(self, item: Item) -> None:
        """Prints one line."""
        score, vocabulary = item.score, self._view.vocabulary
        text = "".join(char.char for char in score.chars[: score.characters])
        ids = list(map(ord, text)) if vocabulary.level == "byte" else vocabulary.encode_sentence(text).tolist()
        ids.append(vocabulary.boundary_id)
        for place, (char, symbol) in enumerate(zip(score.chars, ids, strict=False), self._before + 1):
            print(f"{token(char.char)}={symbol} {place} {_log10(char.logprob):.8g}", end="\t")
        print(f"Total: {_log10(score.logprob):.8g} OOV: {score.unknown}")

    def end(self, summary: Summary) -> None:
        """Prints the summary of all lines."""
        for which, perplexity in (
            ("including", summary.perplexity),
            ("excluding", summary.perplexity_excluding_unknown),
        ):
            number = 1.0 if math.isnan(perplexity) else perplexity  # of nothing: that of the empty product
            print(f"Perplexity {which} OOVs:\t{number:.10g}")
        print(f"OOVs:\t{summary.unknown}")
        print(f"Tokens:\t{summary.n}")


class Srilm(Printer):
    """What SRILM's `ngram -ppl FILE -debug 2` prints; unknown characters are left out of its sums, as there."""

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._before = len(view.history) + view.conditions.bos
        self._first = "<s>" if view.conditions.bos else ""
        if view.history:
            self._first = f"{token(view.history[-1])} ..."

    def show(self, item: Item) -> None:
        """Prints the sentence, a line for each character, and the sentence's statistics."""
        score = item.score
        print(*(token(char.char) for char in score.chars[: score.characters]))
        before = self._first if self._view.history else f"{self._first} "
        for place, char in enumerate(score.chars, self._before + 1):
            word = "<unk>" if char.unknown else token(char.char)
            log10 = _log10(char.logprob)
            found = "[OOV] 0 [ -inf ]" if char.unknown else f"[{place}gram] {10**log10:.7g} [ {log10:.7g} ]"
            print(f"\tp( {word} | {before}) \t= {found}")
            before = f"{word} ..."
        known = math.fsum(char.logprob for char in score.chars if not char.unknown)
        _print_statistics(len(score.chars) - score.characters, score.characters, score.unknown, known)
        print()

    def end(self, summary: Summary) -> None:
        """Prints the statistics of the file."""
        print(f"file {self._view.source or '-'}: ", end="")
        known = summary.logprob - summary.unknown_logprob
        _print_statistics(summary.ends, summary.characters, summary.unknown, known)


def _print_statistics(ends: int, words: int, unknown: int, known: float) -> None:
    """Prints SRILM's two lines; a sentence is one only if its end is scored, and `known` is in nats."""
    print(f"{ends} sentences, {words} words, {unknown} OOVs")
    if words + ends:
        logprob = _log10(known)
        ppl, ppl1 = (
            f"{10 ** (-logprob / n):.7g}" if n else "undefined" for n in (words - unknown + ends, words - unknown)
        )
        print(f"0 zeroprobs, logprob= {logprob:.7g} ppl= {ppl} ppl1= {ppl1}")


def _log10(nats: float) -> float:
    return nats / math.log(10)
