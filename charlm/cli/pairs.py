"""`charlm pairs`: count how often a model prefers the good sentence of a minimal pair."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm.cli import options
from charlm.cli.layout import fit_table, terminal_width
from charlm.cli.render import json_line, note, printable
from charlm.cli.unknown import UnknownCounter
from charlm.errors import InputError
from charlm.scoring.measures import Measure
from charlm.text.columns import join_lines, joined_note, parse_field
from charlm.text.lines import LineCounter, name_of, read_line_batches
from charlm.text.reading import refuse_twice

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
            help="Files with lines good<TAB>bad[<TAB>group], the same as CSV, or the JSON lines of BLiMP, also as "
            ".gz; - is standard input.",
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
            help="Group by this JSON key (default: linguistics_term, UID or field) or column (default: group).",
        ),
    ] = None,
    good: Annotated[
        str | None,
        options.input_option(
            "--good",
            metavar="NAME|NUMBER",
            help="Read the good sentences from this JSON key or column (default: sentence_good, the column that "
            "the header calls good, or column 1).",
        ),
    ] = None,
    bad: Annotated[
        str | None,
        options.input_option(
            "--bad",
            metavar="NAME|NUMBER",
            help="Read the bad sentences from this JSON key or column (default: sentence_bad, the column that the "
            "header calls bad, or column 2).",
        ),
    ] = None,
    no_header: Annotated[
        bool,
        options.input_option(
            "--no-header", help="Read the first row of a table as a pair, even if it looks like a header."
        ),
    ] = False,
    output: Annotated[
        Format,
        options.output_option("--format", help="Print a table or one JSON object."),
    ] = Format.TABLE,
    encoding: options.EncodingOption = "utf-8",
    device: options.DeviceOption = None,
    threads: options.ThreadsOption = None,
) -> None:
    """Count how often the model prefers the good sentence of a pair.

    Files may have any size. Ties do not count as right and are counted separately. The interval is the Wilson
    interval at 95%. With --against, both models judge the same pairs, and McNemar's mid-p is the probability that
    chance alone makes them differ at least as much; the JSON output also has the exact p-value. Unknown characters
    are listed on standard error.

    \b
    $ printf '%s\\t%s\\t%s\\n' \\
        'The boat is old.' 'The baot is old.' spelling \\
        'He has a lamp.' 'He have a lamp.' agreement > pairs.tsv
    $ charlm pairs runs/quickstart pairs.tsv
    group      pairs  right  ties  accuracy         95%
    spelling       1      1     0    100.0%  20.7-100.0
    agreement      1      1     0    100.0%  20.7-100.0
    all            2      2     0    100.0%  34.2-100.0
    """
    from charlm import load

    model = load(run, device=device or "auto", threads=threads)
    other = None if against is None else load(against, device=device or "auto", threads=threads)
    unknown = [UnknownCounter(model.vocabulary, "" if other is None else str(run))]
    if other is not None:
        unknown.append(UnknownCounter(other.vocabulary, str(against)))
    refuse_twice(files)
    layout = {
        "group_key": by,
        "header": False if no_header else None,
        "good": None if good is None else parse_field(good),
        "bad": None if bad is None else parse_field(bad),
    }
    vocabularies = [model.vocabulary] if other is None else [model.vocabulary, other.vocabulary]
    one_line = any(vocabulary.framing == "lines" for vocabulary in vocabularies)
    found = _read_files(files, model.vocabulary.level, encoding, layout, unknown, one_line=one_line)
    results = model.pairs(found, measure=measure, against=other)
    if output is Format.JSON:
        overall, *groups = (_json_row(result) for result in results)
        del overall["group"]
        print(json_line({"measure": measure.value, **overall, "groups": groups}))
    else:
        print("\n".join(_table(results)))
    for counter in unknown:
        counter.tell()


def _read_files(
    files: list[Path],
    level: str,
    encoding: str,
    layout: dict[str, Any],
    unknown: Sequence[UnknownCounter],
    *,
    one_line: bool,
) -> Iterator[MinimalPair]:
    """Yields the pairs of all files, and counts their unknown characters.

    Args:
        files: see `pairs`.
        level: see `read_line_batches`.
        encoding: of the files.
        layout: what `read_pairs` is told about the columns.
        unknown: count the unknown characters.
        one_line: whether newlines inside a sentence become spaces, as a model of lines needs.

    Raises:
        InputError: a file cannot be read, a line is not a pair, or there are no pairs at all.
    """
    from charlm.ranking.minimal_pairs import read_pairs

    found, n_joined = False, 0
    for file in files:
        path = None if str(file) == "-" else file
        name = name_of(path)
        lines = LineCounter(chain.from_iterable(read_line_batches(path, level, encoding, note=note)))
        for pair in read_pairs(lines, name, **layout):
            if one_line and "\n" in pair.good + pair.bad:
                n_joined += ("\n" in pair.good) + ("\n" in pair.bad)
                pair = pair._replace(good=join_lines(pair.good), bad=join_lines(pair.bad))
            for counter in unknown:
                for text in (pair.good, pair.bad):
                    counter.add(text, lines.number, name if len(files) > 1 else "")
            yield pair
            found = True
    if n_joined:
        note(joined_note(n_joined))
    if not found:
        raise InputError(
            f"{', '.join(map(str, files))}: there are no pairs to judge; write good<TAB>bad on each line"
        )


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
    return fit_table(rows, "<" + ">" * (len(header) - 1), terminal_width(sys.stdout))


def _format_accuracy(result: Accuracy) -> list[str]:
    return [f"{result.accuracy:.1%}", f"{100 * result.low:.1f}-{100 * result.high:.1f}"]
