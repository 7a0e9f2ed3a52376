"""`charlm pairs`: how often does a model prefer the good sentence to the bad one?"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm.cli import options
from charlm.cli.render import columns, json_line, printable
from charlm.cli.unknown import UnknownCounter
from charlm.errors import InputError
from charlm.scoring.measures import Measure
from charlm.text.lines import Numbered, batches_as_they_come, name_of

if TYPE_CHECKING:
    from charlm.ranking.minimal_pairs import Accuracy, MinimalPair, PairsResult


class Format(StrEnum):
    """How the accuracies are printed."""

    TABLE = "table"
    JSON = "json"


def pairs(
    run: options.Run,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE", help="good<TAB>bad[<TAB>group], or BLiMP's JSON lines; - is standard input."
        ),
    ],
    against: Annotated[
        Path | None, typer.Option("--against", metavar="RUN2", help="Compare with another run on the same pairs.")
    ] = None,
    measure: options.MeasureOption = Measure.LOGPROB,
    by: Annotated[
        str | None,
        typer.Option(
            "--by", metavar="KEY", help="JSON key that names the group.  [default: linguistics_term, UID or field]"
        ),
    ] = None,
    output: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
    device: options.DeviceOption = None,
    threads: options.Threads = None,
) -> None:
    """Judge minimal pairs: how often the good sentence scores higher than the bad one.

    A file may have any size, and be a .gz. A tie is not right, and is counted apart. The interval is Wilson's, of
    95%. With --against, both models judge the same pairs, and McNemar's mid-p says how easily chance alone would
    make them differ so much; JSON has the exact p too. Unknown characters are named on standard error.

    \b
    $ charlm pairs runs/quickstart docs/examples/pairs.tsv
    group                     pairs  right  ties  accuracy         95%
    adjacent letters swapped     10     10     0    100.0%  72.2-100.0
    agreement                    10      6     0     60.0%   31.3-83.2
    word order                   10      9     0     90.0%   59.6-98.2
    sense                        10      5     0     50.0%   23.7-76.3
    all                          40     30     0     75.0%   59.8-85.8
    """
    from charlm import load

    model = load(run, device=device or "auto", threads=threads)
    other = None if against is None else load(against, device=device or "auto", threads=threads)
    unknown = [UnknownCounter(model.vocabulary, "" if other is None else str(run))]
    if other is not None:
        unknown.append(UnknownCounter(other.vocabulary, str(against)))
    results = model.pairs(_read(files, model.vocabulary.level, by, unknown), measure=measure, against=other)
    if output is Format.JSON:
        overall, *groups = (_row(result) for result in results)
        del overall["group"]
        print(json_line({"measure": measure.value, **overall, "groups": groups}))
    else:
        print("\n".join(_table(results)))
    for counter in unknown:
        counter.tell()


def _read(
    files: list[Path], level: str, by: str | None, unknown: Sequence[UnknownCounter]
) -> Iterator[MinimalPair]:
    """Reads the pairs of all files, and counts their unknown characters on the way.

    Raises:
        InputError: a file cannot be read, a line is not a pair, or there are no pairs at all.
    """
    from charlm.ranking.minimal_pairs import read_pairs

    found = False
    for file in files:
        path = None if str(file) == "-" else file
        name = name_of(path)
        lines = Numbered(chain.from_iterable(batches_as_they_come(path, level)))
        for pair in read_pairs(lines, name, group_key=by):
            for counter in unknown:
                for text in (pair.good, pair.bad):
                    counter.add(text, lines.number, name if len(files) > 1 else "")
            yield pair
            found = True
    if not found:
        raise InputError(f"{', '.join(map(str, files))}: no pairs to judge")


def _row(result: PairsResult) -> dict[str, Any]:
    row = {"group": result.group, **dataclasses.asdict(result)}
    if result.against is None:
        del row["against"]
    return row


def _table(results: list[PairsResult]) -> list[str]:
    overall, *groups = results
    header = ["group", "pairs", "right", "ties", "accuracy", "95%"]
    if overall.against:
        header += ["against", "95%", "only first", "only second", "mid-p"]
    rows = [header]
    for result in [*groups, overall]:
        name = "all" if result.group is None else printable(result.group)
        row = [name, f"{result.pairs:,}", f"{result.right:,}", f"{result.ties:,}", *_share(result)]
        if result.against:
            other = result.against
            row += [*_share(other), f"{other.only_first:,}", f"{other.only_second:,}", f"{other.p_mid:.3g}"]
        rows.append(row)
    return columns(rows, "<" + ">" * (len(header) - 1))


def _share(result: Accuracy) -> list[str]:
    return [f"{result.accuracy:.1%}", f"{100 * result.low:.1f}-{100 * result.high:.1f}"]
