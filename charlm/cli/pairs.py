"""`charlm pairs`: count how often a model prefers the good sentence of a minimal pair."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm.cli import options
from charlm.cli.render import align_columns, json_line, printable
from charlm.cli.unknown import UnknownCounter
from charlm.errors import InputError
from charlm.scoring.measures import Measure
from charlm.text.lines import LineCounter, name_of, read_line_batches

if TYPE_CHECKING:
    from charlm.ranking.minimal_pairs import Accuracy, MinimalPair, PairsResult


class Format(StrEnum):
    """An output format."""

    TABLE = "table"
    JSON = "json"


def pairs(
    run: options.RunArgument,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help="Files of good<TAB>bad[<TAB>group] or BLiMP's JSON lines, or .gz of either; - is standard input.",
        ),
    ],
    measure: options.MeasureOption = Measure.LOGPROB,
    against: Annotated[
        Path | None,
        options.scoring_option("--against", metavar="RUN2", help="Compare with this run on the same pairs."),
    ] = None,
    by: Annotated[
        str | None,
        options.input_option(
            "--by",
            metavar="KEY",
            help="Group JSON lines by this key (default: linguistics_term, UID or field).",
        ),
    ] = None,
    output: Annotated[
        Format,
        options.output_option("--format", help="Print a table or one JSON object."),
    ] = Format.TABLE,
    device: options.DeviceOption = None,
    threads: options.ThreadsOption = None,
) -> None:
    """Count how often the model prefers the good sentence of a pair.

    Files may have any size. A tie does not count as right, and is counted separately. The interval is Wilson's at
    95%. With --against, both models judge the same pairs, and McNemar's mid-p is the probability that chance alone
    makes them differ at least as much; JSON holds the exact p-value too. Unknown characters are named on standard
    error.

    \b
    $ charlm pairs runs/quickstart docs/examples/pairs.tsv
    group                     pairs  right  ties  accuracy         95%
    adjacent letters swapped     10     10     0    100.0%  72.2-100.0
    agreement                    10      6     0     60.0%   31.3-83.2
    word order                   10     10     0    100.0%  72.2-100.0
    sense                        10      5     0     50.0%   23.7-76.3
    all                          40     31     0     77.5%   62.5-87.7
    """
    from charlm import load

    model = load(run, device=device or "auto", threads=threads)
    other = None if against is None else load(against, device=device or "auto", threads=threads)
    unknown = [UnknownCounter(model.vocabulary, "" if other is None else str(run))]
    if other is not None:
        unknown.append(UnknownCounter(other.vocabulary, str(against)))
    results = model.pairs(_read_files(files, model.vocabulary.level, by, unknown), measure=measure, against=other)
    if output is Format.JSON:
        overall, *groups = (_json_row(result) for result in results)
        del overall["group"]
        print(json_line({"measure": measure.value, **overall, "groups": groups}))
    else:
        print("\n".join(_table(results)))
    for counter in unknown:
        counter.tell()


def _read_files(
    files: list[Path], level: str, by: str | None, unknown: Sequence[UnknownCounter]
) -> Iterator[MinimalPair]:
    """Yields the pairs of all files, and counts their unknown characters.

    Raises:
        InputError: a file cannot be read, a line is not a pair, or there are no pairs at all.
    """
    from charlm.ranking.minimal_pairs import read_pairs

    found = False
    for file in files:
        path = None if str(file) == "-" else file
        name = name_of(path)
        lines = LineCounter(chain.from_iterable(read_line_batches(path, level)))
        for pair in read_pairs(lines, name, group_key=by):
            for counter in unknown:
                for text in (pair.good, pair.bad):
                    counter.add(text, lines.number, name if len(files) > 1 else "")
            yield pair
            found = True
    if not found:
        raise InputError(f"{', '.join(map(str, files))}: no pairs to judge")


def _json_row(result: PairsResult) -> dict[str, Any]:
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
        row = [name, f"{result.pairs:,}", f"{result.right:,}", f"{result.ties:,}", *_format_accuracy(result)]
        if result.against:
            other = result.against
            row += [
                *_format_accuracy(other),
                f"{other.only_first:,}",
                f"{other.only_second:,}",
                f"{other.p_mid:.3g}",
            ]
        rows.append(row)
    return align_columns(rows, "<" + ">" * (len(header) - 1))


def _format_accuracy(result: Accuracy) -> list[str]:
    return [f"{result.accuracy:.1%}", f"{100 * result.low:.1f}-{100 * result.high:.1f}"]
