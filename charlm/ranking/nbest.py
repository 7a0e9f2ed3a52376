"""N-best lists: reading them in the formats of four toolkits, and ranking them anew.

    moses    id ||| hypothesis ||| features ||| total [||| more]
    nematus  id ||| hypothesis ||| score [||| more]
    fairseq  S-id, then H-id<TAB>score<TAB>hypothesis with D-id, P-id and others behind it, as generate.py writes
    kaldi    KEY-n words

    total' = total + W · charlm + B · characters;   the hypotheses of an id are sorted by total', highest first

The weight W and the length bonus B are given; `tuning` finds them. Callers supply the function that scores
sentences.
"""

from __future__ import annotations

import itertools
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from charlm.errors import InputError
from charlm.scoring.measures import Scorer
from charlm.text.column_formats import split_kaldi

FEATURE = "charlm"
_MAX_COUNTED_DIGITS = 18  # ids of more digits are not taken for numbers that count up
_FAIRSEQ_LINE = re.compile(r"([A-Z])-(\d+)(?:_\d+)?\t(.*)", re.DOTALL)
_FAIRSEQ_LOG = re.compile(r"(?:\d{4}-\d\d-\d\d \d\d:\d\d:\d\d )?\| ")
_KALDI_KEY = re.compile(r"(\S+)-\d+$")


class NbestFormat(StrEnum):
    """How an n-best list is written; `auto`: it is found out from its first lines."""

    AUTO = "auto"
    MOSES = "moses"
    NEMATUS = "nematus"
    FAIRSEQ = "fairseq"
    KALDI = "kaldi"


class Metric(StrEnum):
    """A metric of translations; `bleu` splits words as WMT does (13a), `bleu-zh` splits Chinese."""

    CHRF = "chrf"
    BLEU = "bleu"
    BLEU_ZH = "bleu-zh"


@dataclass(frozen=True)
class Hypothesis(ABC):
    """One hypothesis of an n-best list.

    Attributes:
        id: the id of the sentence that it translates.
        text: the hypothesis itself.
        total: the score by which the decoder ranked it; higher is better.
        number: the number of its line in the list, from 1.
    """

    id: str
    text: str
    total: float
    number: int

    @abstractmethod
    def lines(self, value: float, total: float) -> list[str]:
        """Returns the lines of the hypothesis in the format of its list, with a new total.

        Args:
            value: the measure of the model.
            total: the new total.
        """


class Group(list[Hypothesis]):
    """The hypotheses of one id.

    Attributes:
        before: lines of the list that stand before its hypotheses, such as fairseq's source.
        after: lines that stand behind them and belong to none, such as those of a log.
    """

    def __init__(self, before: Iterable[str] = ()) -> None:
        super().__init__()
        self.before = list(before)
        self.after: list[str] = []


# --------------------------------------------------------------------------------------------- Moses and Nematus


@dataclass(frozen=True)
class _Moses(Hypothesis):
    fields: tuple[str, ...]  # the original line, split at `|||`

    @classmethod
    def parse(cls, line: str, where: str, number: int) -> _Moses:
        fields = line.split("|||")
        if len(fields) < 4:
            raise InputError(
                f"{where}: this line has {len(fields) - 1} of the three ||| of an n-best list: "
                "id ||| hypothesis ||| features ||| total; if the list has another format, name that with "
                "--input-format"
            )
        name, total = _id(fields[0], where), _number(fields[3])
        if math.isnan(total):
            raise InputError(
                f"{where}: the total, after the third |||, is not a number: {fields[3].strip()[:40]!r}"
            )
        if re.search(rf"(?:^|\s){FEATURE}=", fields[2]):
            raise InputError(
                f"{where}: this line already has a feature {FEATURE}=; to add another, rename it first, "
                f"for example with sed 's/ {FEATURE}= / {FEATURE}1= /'"
            )
        return cls(name, fields[1].strip(" "), total, number, tuple(fields))

    def lines(self, value: float, total: float) -> list[str]:
        """Appends the feature to the others; all else stays as it is."""
        features = f"{self.fields[2].rstrip(' ')} {FEATURE}= {value} "
        return ["|||".join((*self.fields[:2], features, _put_number(self.fields[3], total), *self.fields[4:]))]


@dataclass(frozen=True)
class _Nematus(Hypothesis):
    fields: tuple[str, ...]
    is_cost: bool  # whether the score is a negative logarithm: lower is better

    @classmethod
    def parse(cls, line: str, where: str, number: int, *, costs: bool | None) -> _Nematus:
        fields = line.split("|||")
        if len(fields) < 3:
            raise InputError(
                f"{where}: this line has {len(fields) - 1} of the two ||| of a Nematus n-best list: id ||| "
                "hypothesis ||| score"
            )
        name, score = _id(fields[0], where), _number(fields[2])
        if math.isnan(score):
            raise InputError(
                f"{where}: the score, after the second |||, is not a number: {fields[2].strip()[:40]!r}"
            )
        if costs and score < 0:
            raise InputError(
                f"{where}: the score {fields[2].strip()[:40]} is negative, but an earlier score was positive, so "
                "they are neither costs nor log-probabilities; write id ||| hypothesis ||| ||| total, where a "
                "higher total is better"
            )
        return cls(name, fields[1].strip(" "), -score if costs else score, number, tuple(fields), bool(costs))

    def lines(self, value: float, total: float) -> list[str]:
        """Writes the new total in place of the score: as a cost, if it was one."""
        score = _put_number(self.fields[2], 0.0 - total if self.is_cost else total)
        return ["|||".join((*self.fields[:2], score, *self.fields[3:]))]


def _id(field: str, where: str) -> str:
    if not (name := field.strip()):
        raise InputError(f"{where}: there is no id before the first |||")
    return name


def _number(field: str) -> float:
    try:
        return float(field)
    except ValueError:
        return math.nan


def _put_number(field: str, number: float) -> str:
    return field.replace(field.strip(), f"{number:.10g}")


# ------------------------------------------------------------------------------------------- fairseq and Kaldi


@dataclass(frozen=True)
class _Fairseq(Hypothesis):
    written: tuple[str, ...]  # its H- line and those that belong to it

    @classmethod
    def parse(cls, lines: Sequence[tuple[str, str]], name: str, where: str, number: int) -> _Fairseq:
        """Parses an H- line and those behind it, each with its letter; where a D- line is, its text is scored."""
        total, text = _fairseq_fields(lines[0][1], where)
        for letter, line in lines[1:]:
            if letter == "D":
                text = _fairseq_fields(line, where)[1]
        return cls(name, text, total, number, tuple(line for _, line in lines))

    def lines(self, value: float, total: float) -> list[str]:
        """Writes the new total into the H- and the D- line."""
        written = []
        for line in self.written:
            head, *rest = line.split("\t", 2)
            if head[0] in "HD":
                line = "\t".join((head, _put_number(rest[0], total), *rest[1:]))
            written.append(line)
        return written


def _fairseq_fields(line: str, where: str) -> tuple[float, str]:
    head, *fields = line.split("\t", 2)
    total = _number(fields[0])
    if math.isnan(total) or len(fields) < 2:
        raise InputError(
            f"{where}: this line does not have the form {head[0]}-id<TAB>score<TAB>hypothesis: {line[:40]!r}"
        )
    return total, fields[1].strip(" ")


@dataclass(frozen=True)
class _Kaldi(Hypothesis):
    line: str

    @classmethod
    def parse(cls, line: str, where: str, number: int) -> _Kaldi:
        key, words = split_kaldi(line)
        found = _KALDI_KEY.fullmatch(key)
        if not found:
            raise InputError(
                f"{where}: the key {key[:40]!r} does not have the form KEY-n; each line must be KEY-n words"
            )
        return cls(found[1], words, 0.0, number, line)

    def lines(self, value: float, total: float) -> list[str]:
        """Keeps the line: there is no place for a total."""
        return [self.line]


# ----------------------------------------------------------------------------------------------------- reading


def read_groups(
    batches: Iterable[Sequence[str]], source: str, input_format: NbestFormat = NbestFormat.AUTO
) -> Iterator[list[Group]]:
    """Yields the hypotheses grouped by id; each batch of lines yields the groups that it completes.

    Args:
        batches: lines without their newlines, in batches as they arrive.
        source: the name of the list in messages.
        input_format: how the list is written.

    Raises:
        InputError: a line does not belong to an n-best list, or the lines of an id are not adjacent.
    """
    batches = iter(batches)
    first: list[str] = []
    if input_format is NbestFormat.AUTO:
        for batch in batches:
            first += batch
            if first and (found := _find_format(first)):
                input_format = found
                break
        else:
            input_format = NbestFormat.FAIRSEQ if first else NbestFormat.MOSES  # nothing, or nothing but its log
    reader = _FairseqReader(source) if input_format is NbestFormat.FAIRSEQ else _LineReader(source, input_format)
    for batch in itertools.chain([first] if first else [], batches):
        if complete := [group for line in batch for group in reader.read(line)]:
            yield complete
    if complete := list(reader.finish()):
        if isinstance(reader, _FairseqReader) and not reader.hypotheses:
            raise InputError(
                f"{source}: there are no hypotheses of fairseq, which are lines H-id<TAB>score<TAB>hypothesis"
            )
        yield complete


def _find_format(lines: Sequence[str]) -> NbestFormat | None:
    """Finds out how a list is written; None: its first lines do not tell."""
    fields = lines[0].split("|||")
    if len(fields) > 1:
        scored = len(fields) > 2 and not math.isnan(_number(fields[2]))
        is_nematus = scored and (len(fields) == 3 or math.isnan(_number(fields[3])))
        return NbestFormat.NEMATUS if is_nematus else NbestFormat.MOSES
    if any(_FAIRSEQ_LINE.fullmatch(line) for line in lines):
        return NbestFormat.FAIRSEQ
    if _FAIRSEQ_LOG.match(lines[0]):
        return None
    is_kaldi = all(_KALDI_KEY.fullmatch(split_kaldi(line)[0]) for line in lines)
    return NbestFormat.KALDI if is_kaldi else NbestFormat.MOSES


class _LineReader:
    """Groups the lines of a list in which each line is a hypothesis.

    Args:
        source: the name of the list in messages.
        input_format: how it is written.
    """

    def __init__(self, source: str, input_format: NbestFormat) -> None:
        self._source = source
        self._format = input_format
        self._costs: bool | None = None  # Nematus's scores are; not known before the first that is not zero
        self._number = 0
        self._open = Group()
        self._seen = _SeenIds()

    def read(self, line: str) -> Iterator[Group]:
        """Reads a line, and yields the group that it completes, if it does."""
        self._number += 1
        where = f"{self._source}, line {self._number}"
        hypothesis = self._parse(line, where)
        if not self._open or hypothesis.id != self._open[0].id:
            by_number = self._format is not NbestFormat.KALDI
            self._seen.check_and_add(hypothesis.id, where, ", for example with sort -s -n -k1,1" * by_number)
            yield from self.finish()
            self._open = Group()
        self._open.append(hypothesis)

    def finish(self) -> Iterator[Group]:
        """Yields the last group, if there is one."""
        if self._open:
            yield self._open

    def _parse(self, line: str, where: str) -> Hypothesis:
        if self._format is NbestFormat.KALDI:
            return _Kaldi.parse(line, where, self._number)
        if self._format is NbestFormat.MOSES:
            return _Moses.parse(line, where, self._number)
        hypothesis = _Nematus.parse(line, where, self._number, costs=self._costs)
        if self._costs is None and hypothesis.total:
            self._costs = hypothesis.total > 0  # a log-probability is never positive, its negative never negative
            hypothesis = _Nematus.parse(line, where, self._number, costs=self._costs)
        return hypothesis


class _FairseqReader:
    """Groups what fairseq's generate.py prints: for each id S- and T-, then each H- with its D- and P- behind it.

    Args:
        source: the name of the list in messages.

    Attributes:
        hypotheses: how many have been read.
    """

    def __init__(self, source: str) -> None:
        self.hypotheses = 0
        self._source = source
        self._number = 0
        self._id: str | None = None
        self._open = Group()
        self._hypothesis: list[tuple[str, str]] = []  # the lines of the last H-, each with its letter
        self._place = 0  # the number of its first line
        self._seen = _SeenIds()

    def read(self, line: str) -> Iterator[Group]:
        """Reads a line, and yields the group that it completes, if it does."""
        self._number += 1
        where = f"{self._source}, line {self._number}"
        found = _FAIRSEQ_LINE.fullmatch(line)
        if not found:  # of the log, or of the summary
            self._open.after.append(line)
            return
        letter, name = found[1], found[2]
        if name != self._id:
            self._seen.check_and_add(name, where)
            yield from self.finish()
            self._id, self._open = name, Group()
        if letter == "H":
            self._close_hypothesis()
            self._place = self._number
        if letter == "H" or self._hypothesis:
            self._hypothesis.append((letter, line))
        elif letter in "DP":
            raise InputError(
                f"{where}: {letter}-{name[:40]} comes before its H-{name[:40]}; keep the lines of an id in the "
                "order in which generate.py writes them, or keep only the lines of H- (grep ^H-)"
            )
        else:
            self._open.before.append(line)

    def finish(self) -> Iterator[Group]:
        """Yields the last group, if there is one."""
        self._close_hypothesis()
        if self._open or self._open.before or self._open.after:
            yield self._open

    def _close_hypothesis(self) -> None:
        if self._hypothesis:
            where = f"{self._source}, line {self._place}"
            self._open.append(_Fairseq.parse(self._hypothesis, str(self._id), where, self._place))
            self._hypothesis = []
            self.hypotheses += 1


class _SeenIds:
    """A set of ids; those that count up from the first one take no memory, however many they are."""

    def __init__(self) -> None:
        self._first = self._next = 0  # first, first + 1, … next - 1 are in the set
        self._others: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._others or (
            _counts(name) and self._first <= int(name) < self._next and name == str(int(name))
        )

    def add(self, name: str) -> None:
        if self._first == self._next and _counts(name):
            self._first = self._next = int(name)
        self._others.add(name)
        while str(self._next) in self._others:
            self._others.remove(str(self._next))
            self._next += 1

    def check_and_add(self, name: str, where: str, hint: str = "") -> None:
        """Adds an id.

        Raises:
            InputError: it is in the set.
        """
        if name in self:
            raise InputError(
                f"{where}: id {name[:100]} comes again after another id; put the lines of each id together "
                f"first{hint}"
            )
        self.add(name)


def _counts(name: str) -> bool:
    return name.isdecimal() and len(name) <= _MAX_COUNTED_DIGITS


# ----------------------------------------------------------------------------------------------------- ranking


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
    return [line for i in order for line in group[i].hypothesis.lines(group[i].value, totals[i])]
