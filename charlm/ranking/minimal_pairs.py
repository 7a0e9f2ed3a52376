"""Minimal pairs: how often a model prefers the good sentence to the bad one, and whether another does so more.

    accuracy   right / pairs; a tie does not count as right
    interval   Wilson (1927): all p that differ from the accuracy by at most z·√(p(1-p)/n); z = 1.96 for 95%
    McNemar    tests whether b and c differ by chance: the pairs that only the first or only the second model gets
               right. exact p: 2·P(X ≤ min(b, c)), X binomial (b + c, ½); mid-p: P(X = min(b, c)) is subtracted
               (Fagerland 2013)

This module reads the files; its callers supply the function that scores sentences.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from charlm.errors import InputError
from charlm.scoring.measures import Scorer, is_tie

_Z_95_PERCENT = 1.959963984540054  # 95% of a normal distribution lies within this many standard deviations
_BATCH_PAIRS = 512
_BLIMP_GROUP_KEYS = ("linguistics_term", "UID", "field")  # the first that is present names the group


class MinimalPair(NamedTuple):
    """Two sentences that differ only in what is tested.

    Attributes:
        good: the sentence that should score higher.
        bad: the other sentence.
        group: what is tested, for example `swapped letters`; None: the pair counts in the total only.
    """

    good: str
    bad: str
    group: str | None = None


@dataclass(frozen=True)
class Accuracy:
    """How often the good sentence scores higher.

    Attributes:
        pairs: number of pairs.
        right: pairs whose good sentence scores higher.
        wrong: pairs whose bad sentence scores higher.
        ties: pairs whose sentences score the same.
        accuracy: right / pairs.
        low: lower bound of its 95% interval.
        high: upper bound of its 95% interval.
    """

    pairs: int
    right: int
    wrong: int
    ties: int
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison(Accuracy):
    """The accuracy of a second model on the same pairs, and how the two models differ.

    Attributes:
        only_first: pairs that only the first model gets right.
        only_second: pairs that only the second model gets right.
        p_exact: McNemar's exact two-sided p-value.
        p_mid: McNemar's mid-p value, which is less conservative.
    """

    only_first: int
    only_second: int
    p_exact: float
    p_mid: float


@dataclass(frozen=True)
class PairsResult(Accuracy):
    """How often the good sentence scores higher, among all pairs or those of one group.

    Attributes:
        group: the name of the group; None: all pairs.
        against: the second model, if there is one.
    """

    group: str | None
    against: Comparison | None


def judge(
    pairs: Iterable[tuple[str, str] | tuple[str, str, str | None]],
    score: Scorer,
    measure: str,
    against: Scorer | None = None,
) -> list[PairsResult]:
    """Counts how often the good sentence scores higher, in memory that does not grow with the pairs.

    Args:
        pairs: (good, bad) or (good, bad, group).
        score: scores sentences.
        measure: `logprob`, `mean`, `penlp` or `slor`.
        against: scores sentences with a second model.

    Returns:
        The result of all pairs, then that of each group in order of appearance.

    Raises:
        InputError: there are no pairs, or there is no such measure.
    """
    outcomes: dict[str | None, Counter[tuple[int, int]]] = {None: Counter()}
    for batch in _in_batches(pairs):
        first = _verdicts(batch, score, measure)
        second = _verdicts(batch, against, measure) if against else [0] * len(batch)
        for pair, outcome in zip(batch, zip(first, second, strict=True), strict=True):
            for group in {None, pair.group}:
                outcomes.setdefault(group, Counter())[outcome] += 1
    if not outcomes[None]:
        raise InputError("no pairs to judge")
    return [_make_result(group, counts, paired=against is not None) for group, counts in outcomes.items()]


def _in_batches(pairs: Iterable[tuple[str, str] | tuple[str, str, str | None]]) -> Iterator[list[MinimalPair]]:
    batch: list[MinimalPair] = []
    for pair in pairs:
        batch.append(MinimalPair(*pair))
        if len(batch) == _BATCH_PAIRS:
            yield batch
            batch = []
    if batch:
        yield batch


def _verdicts(batch: Sequence[MinimalPair], score: Scorer, measure: str) -> list[int]:
    """Returns for each pair 1 if the good sentence scores higher, -1 if the bad one does, 0 for a tie."""
    scores = [s.measure(measure) for s in score([text for pair in batch for text in pair[:2]])]
    return [
        0 if is_tie(good, bad) else 1 if good > bad else -1
        for good, bad in zip(scores[::2], scores[1::2], strict=True)
    ]


def _make_result(group: str | None, outcomes: Counter[tuple[int, int]], *, paired: bool) -> PairsResult:
    first: Counter[int] = Counter()
    second: Counter[int] = Counter()
    only_first = only_second = 0
    for (a, b), n in outcomes.items():
        first[a] += n
        second[b] += n
        only_first += n * (a > 0 >= b)
        only_second += n * (b > 0 >= a)
    against = None
    if paired:
        p_exact, p_mid = mcnemar(only_first, only_second)
        against = Comparison(
            **_accuracy_fields(second), only_first=only_first, only_second=only_second, p_exact=p_exact, p_mid=p_mid
        )
    return PairsResult(**_accuracy_fields(first), group=group, against=against)


def _accuracy_fields(verdicts: Counter[int]) -> dict[str, Any]:
    pairs = verdicts.total()
    low, high = wilson(verdicts[1], pairs)
    return {
        "pairs": pairs,
        "right": verdicts[1],
        "wrong": verdicts[-1],
        "ties": verdicts[0],
        "accuracy": verdicts[1] / pairs,
        "low": low,
        "high": high,
    }


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Returns the 95% interval of the proportion successes / n (Wilson 1927); n is at least 1."""
    p = successes / n
    shrink = 1 + _Z_95_PERCENT**2 / n
    centre = (p + _Z_95_PERCENT**2 / (2 * n)) / shrink
    half = _Z_95_PERCENT / shrink * math.sqrt(p * (1 - p) / n + _Z_95_PERCENT**2 / (4 * n**2))
    return min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half))  # exactly 0 or 1 if p is


def mcnemar(b: int, c: int) -> tuple[float, float]:
    """Returns McNemar's two-sided p-values, exact and mid-p.

    Args:
        b: number of pairs that only the first model gets right.
        c: number of pairs that only the second model gets right.
    """
    n, k = b + c, min(b, c)
    term = below = 1  # binomial coefficient of i and the sum up to it; integers are exact for any n
    for i in range(k):
        term = term * (n - i) // (i + 1)
        below += term
    return min(1.0, 2 * below / 2**n), min(1.0, (2 * below - term) / 2**n)


def read_pairs(lines: Iterable[str], source: str, *, group_key: str | None = None) -> Iterator[MinimalPair]:
    """Reads pairs from TSV, `good<TAB>bad[<TAB>group]`, or from BLiMP's JSON lines.

    A file whose first line is a JSON object holds JSON lines. Blank lines are skipped, and so is a TSV header that
    begins with good and bad (or sentence_good and sentence_bad).

    Args:
        lines: without their newlines.
        source: the name of the file in messages.
        group_key: the JSON key that names the group; None: linguistics_term, UID or field, whichever comes first.

    Raises:
        InputError: a line is not a pair, or has no such key; the message names it.
    """
    is_json: bool | None = None  # not known before the first line
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{source}, line {number}"
        if is_json is None:
            is_json = _is_json_object(line)
            cells = line.lower().split("\t")[:2]
            if cells in (["good", "bad"], ["sentence_good", "sentence_bad"]):
                continue
        if group_key is not None and not is_json:
            raise InputError(f"{where}: not JSON, so no key {group_key!r}; in TSV the group is the third column")
        yield _from_json(line, where, group_key) if is_json else _from_tsv(line, where)


def _is_json_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _from_tsv(line: str, where: str) -> MinimalPair:
    cells = line.split("\t")
    if len(cells) not in (2, 3):
        raise InputError(
            f"{where}: {len(cells) - 1} tabs; a line is good<TAB>bad or good<TAB>bad<TAB>group, "
            "or a JSON object with sentence_good and sentence_bad"
        )
    return MinimalPair(cells[0], cells[1], cells[2] or None if len(cells) == 3 else None)


def _from_json(line: str, where: str, group_key: str | None) -> MinimalPair:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where}: not JSON: {error}") from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: not a JSON object")
    for key in ("sentence_good", "sentence_bad"):
        if not isinstance(row.get(key), str):
            raise InputError(f"{where}: {key} is {'not a string' if key in row else 'missing'}")
    if group_key is not None and group_key not in row:
        raise InputError(f"{where}: no key {group_key!r}; there are {', '.join(map(repr, row))}")
    keys = _BLIMP_GROUP_KEYS if group_key is None else (group_key,)
    group = next((str(row[key]) for key in keys if key in row), None)
    return MinimalPair(row["sentence_good"], row["sentence_bad"], group)
