"""Minimal pairs: how often a model prefers the good sentence to the bad one, and whether another does so more.

    accuracy   right / pairs; a tie does not count as right
    interval   Wilson (1927): all p that differ from the accuracy by at most z·√(p(1-p)/n); z = 1.96 for 95%
    McNemar    tests whether b and c differ by chance: the pairs that only the first or only the second model gets
               right. exact p: 2·P(X ≤ min(b, c)), X binomial (b + c, ½); mid-p: P(X = min(b, c)) is subtracted
               (Fagerland 2013)

This module reads the files; its callers supply the function that scores sentences.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePath
from typing import Any, NamedTuple

from charlm.errors import InputError
from charlm.scoring.measures import Scorer, is_tie
from charlm.system.untrusted import parse_json
from charlm.text.column_formats import looks_like_header, split_cells
from charlm.text.columns import Field, read_cells
from charlm.text.json_lines import parse_json_line

_Z_95_PERCENT = 1.959963984540054  # 95% of a normal distribution lies within this many standard deviations
_BATCH_PAIRS = 512
_BLIMP_GROUP_KEYS = ("linguistics_term", "UID", "field")  # the first that is present names the group
# What the columns of a header are called, in lower case.
_GOOD_NAMES = {"good", "sentence_good", "good_sentence", "grammatical", "correct", "acceptable", "right"}
_BAD_NAMES = {"bad", "sentence_bad", "bad_sentence", "ungrammatical", "incorrect", "unacceptable", "wrong"}
_GROUP_NAMES = ("group", "linguistics_term", "uid", "field", "phenomenon", "category", "type")
_PLURALS = {"\t": "tabs", ",": "commas", ";": "semicolons"}


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
        right: number of pairs whose good sentence scores higher.
        wrong: number of pairs whose bad sentence scores higher.
        ties: number of pairs whose sentences score the same.
        accuracy: `right / pairs`.
        low: lower bound of the 95% interval of the accuracy.
        high: upper bound of the 95% interval of the accuracy.
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
        only_first: number of pairs that only the first model gets right.
        only_second: number of pairs that only the second model gets right.
        p_exact: McNemar's exact two-sided p-value.
        p_mid: McNemar's mid-p value, which is less conservative.
    """

    only_first: int
    only_second: int
    p_exact: float
    p_mid: float


@dataclass(frozen=True)
class PairsResult(Accuracy):
    """How often the good sentence scores higher, among all pairs or among those of one group.

    Attributes:
        group: the name of the group, or None for all pairs.
        against: the result of the second model, if there is one.
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
        raise InputError("there are no pairs to judge")
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


def read_pairs(
    lines: Iterable[str],
    source: str,
    *,
    group_key: str | None = None,
    header: bool | None = None,
    good: Field | None = None,
    bad: Field | None = None,
) -> Iterator[MinimalPair]:
    """Reads pairs from TSV or CSV, `good<TAB>bad[<TAB>group]`, or from JSON lines such as BLiMP's.

    A file whose first line is a JSON object holds JSON lines. A table is CSV if its name ends in `.csv`, its first
    line has a quoted cell or a header without tabs; else TSV. Blank lines are skipped. A header names the columns,
    which may then stand in any order beside others; names such as good, sentence_good, grammatical and correct are
    known, and `good` and `bad` name others.

    Args:
        lines: without their newlines.
        source: the name of the file in messages.
        group_key: the JSON key, or the column of the header, that names the group; None: linguistics_term, UID or
            field, whichever comes first, or a column called group.
        header: whether a table has a header; None: it is found out by the names that are known.
        good: the key or the column of the good sentence; None: see above.
        bad: the key or the column of the bad sentence.

    Raises:
        InputError: a line is not a pair, or has no such key; the message names it.
    """
    if (good is None) != (bad is None):
        raise InputError("name both columns, that of the good sentences and that of the bad ones")
    if 0 in (good, bad):
        raise InputError("there is no column 0; columns are counted from 1")
    lines = iter(lines)
    blank: list[str] = []  # kept, so that lines are numbered as in the file
    for first in lines:
        if first.strip():
            break
        blank.append(first)
    else:
        return
    if _is_json_object(first):
        keys = ("sentence_good", "sentence_bad") if good is None or bad is None else (str(good), str(bad))
        for place, line in enumerate(chain([first], lines), len(blank) + 1):
            if line.strip():
                yield _from_json(line, f"{source}, line {place}", group_key, keys)
        return
    yield from _from_table(chain(blank, [first], lines), first, source, group_key, header, (good, bad))


def _is_json_object(line: str) -> bool:
    if not line.lstrip("\ufeff").startswith("{"):
        return False
    try:
        return isinstance(parse_json(line.lstrip("\ufeff")), dict)
    except ValueError:
        return line.startswith('{"') and "\t" not in line  # a damaged one: its fault is named


def _from_json(line: str, where: str, group_key: str | None, keys: tuple[str, str]) -> MinimalPair:
    row = parse_json_line(line.lstrip("\ufeff"), where)
    if not isinstance(row, dict):
        raise InputError(f"{where}: this line is not a JSON object")
    for key in keys:
        if not isinstance(row.get(key), str):
            raise InputError(f"{where}: {key} is {'not a string' if key in row else 'missing'}")
    if group_key is not None and group_key not in row:
        raise InputError(f"{where}: there is no key {group_key!r}; the keys are {', '.join(map(repr, row))}")
    group_keys = _BLIMP_GROUP_KEYS if group_key is None else (group_key,)
    group = next((str(row[key]) for key in group_keys if key in row), None)
    return MinimalPair(row[keys[0]], row[keys[1]], group)


def _from_table(
    lines: Iterable[str],
    first: str,
    source: str,
    group_key: str | None,
    header: bool | None,
    columns: tuple[Field | None, Field | None],
) -> Iterator[MinimalPair]:
    where = f"{source}, line {{}}"
    delimiter = _find_delimiter(first, source, columns)
    names: list[str] | None = None  # of the columns
    places: tuple[int, int, int | None] = (0, 1, 2)
    for number, cells in read_cells(lines, delimiter, source):
        if names is None:
            names = [cell.strip() for cell in cells]
            found = None if header is False else _find_columns(names, columns, group_key)
            if found is None and (header or any(isinstance(column, str) for column in columns)):
                shown = ", ".join(repr(name[:40]) for name in names)
                raise InputError(
                    f"{where.format(number)}: there are no columns of good and bad sentences; the columns are "
                    f"{shown}"
                )
            if found is not None:
                places = found
                continue
            names = []
            if columns != (None, None):
                places = (int(columns[0] or 0) - 1, int(columns[1] or 0) - 1, None)
        if group_key is not None and not names:
            raise InputError(
                f"{where.format(number)}: this line is not JSON and has no key {group_key!r}; in a table without a "
                "header the group is the third column"
            )
        if not names and columns == (None, None) and len(cells) not in (2, 3):
            raise InputError(
                f"{where.format(number)}: this line has {len(cells) - 1} {_PLURALS[delimiter]}; a line must be "
                "good<TAB>bad or good<TAB>bad<TAB>group, or a JSON object with sentence_good and sentence_bad; "
                "CSV needs a header, such as good,bad, or a name that ends in .csv"
            )
        if names and len(cells) > len(names):
            raise InputError(
                f"{where.format(number)}: this row has {len(cells)} cells, but the header has {len(names)}"
            )
        if max(places[:2]) >= len(cells):
            raise InputError(
                f"{where.format(number)}: this row has {len(cells)} cells, but column {max(places[:2]) + 1} is to "
                "be read"
            )
        group = cells[places[2]] if places[2] is not None and places[2] < len(cells) else None
        yield MinimalPair(cells[places[0]], cells[places[1]], group or None)


def _find_delimiter(first: str, source: str, columns: tuple[Field | None, Field | None]) -> str:
    """Returns the delimiter of a table: a tab, unless there is good reason to take it for CSV."""
    if "\t" in first:
        return "\t"
    for delimiter in ",;":
        cells = split_cells(first, delimiter)
        names = [cell.strip().lower() for cell in cells]
        is_header = bool(_GOOD_NAMES.intersection(names) and _BAD_NAMES.intersection(names))
        named = {".csv"} & set(PurePath(source.lower()).suffixes)
        if len(cells) > 1 and (is_header or named or columns != (None, None) or first.startswith('"')):
            return delimiter
    return "\t"


def _find_columns(
    names: Sequence[str], columns: tuple[Field | None, Field | None], group_key: str | None
) -> tuple[int, int, int | None] | None:
    """Returns the places of good, bad and group in a header; None: it is no header."""
    lower = [name.lower() for name in names]
    places = []
    for column, known in zip(columns, (_GOOD_NAMES, _BAD_NAMES), strict=True):
        if isinstance(column, int):
            found = [column - 1] if column <= len(names) and looks_like_header(names) else []
        elif column is None:
            found = [place for place, name in enumerate(lower) if name in known]
        else:
            found = [place for place, name in enumerate(names) if name == column]
        if len(found) != 1:
            return None
        places += found
    if group_key is None:
        group = next((lower.index(name) for name in _GROUP_NAMES if name in lower), None)
        if group is None and len(names) == 3 and places == [0, 1]:
            group = 2
    elif group_key in names:
        group = names.index(group_key)
    else:
        shown = ", ".join(repr(name[:40]) for name in names)
        raise InputError(f"no column {group_key!r}; there are {shown}")
    return places[0], places[1], group
