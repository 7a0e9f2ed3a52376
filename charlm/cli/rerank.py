"""`charlm rerank`: rerank the n-best lists of a decoder."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charlm.cli import options
from charlm.cli.render import align_columns, for_terminal, note
from charlm.cli.unknown import UnknownCounter
from charlm.errors import InputError
from charlm.ranking.nbest import Metric
from charlm.scoring.measures import Measure
from charlm.text.lines import name_of, read_line_batches

if TYPE_CHECKING:
    from charlm.language_model import LanguageModel


_tuning_option = options.option_group("Tuning")


def rerank(
    run: options.RunArgument,
    nbest: Annotated[
        Path,
        typer.Argument(metavar="NBEST|-", help="The Moses n-best list, or a .gz of it; - is standard input."),
    ],
    weight: Annotated[
        float | None,
        options.scoring_option(
            "--weight", metavar="W", help="Multiply the model's score by W in the new total (default: 1)."
        ),
    ] = None,
    length_bonus: Annotated[
        float | None,
        options.scoring_option(
            "--length-bonus",
            metavar="B",
            help="Add B to the new total for each character of the hypothesis (default: 0).",
        ),
    ] = None,
    measure: options.MeasureOption = Measure.LOGPROB,
    tune: Annotated[
        list[Path] | None,
        _tuning_option(
            "--tune",
            metavar="REFERENCES",
            help="Print the W and B that rank best by these references, one a line. Repeatable.",
        ),
    ] = None,
    metric: Annotated[
        Metric | None,
        _tuning_option("--metric", help="Maximise this metric with --tune (default: chrf)."),
    ] = None,
    device: options.DeviceOption = None,
    threads: options.ThreadsOption = None,
) -> None:
    """Rerank the n-best lists of a decoder with the model's scores.

    A line has the form id ||| hypothesis ||| features ||| total, and may have more fields. Each line gets a feature
    charlm= and the new total, total + W * score + B * characters; the rest of it stays as it is. The lines of an id
    are printed best first, as soon as all of them are read, and a list may have any length. --tune finds W and B on
    a development set and prints them as options; it needs sacrebleu (pip install 'charlm[tune]'). Unknown
    characters are named on standard error at the end.

    \b
    $ charlm rerank runs/quickstart docs/examples/river.nbest |
        awk -F ' [|]+ ' '!seen[$1]++ {print $2}'
    The river was high in the morning.
    He was asked what he had in the basket.
    I took the boy over the water for nothing.
    ...

    \b
    $ charlm rerank runs/quickstart docs/examples/river.nbest \\
        --tune docs/examples/river.ref
    12 sentences, chrF2|nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|...
      by the old totals                                 75.91
      by the new totals                                100.00
      by the new totals, each half tuned on the other  100.00
    --weight 0.7901 --length-bonus 0.7436
    """
    from charlm import load

    if tune and (weight is not None or length_bonus is not None):
        raise InputError("--tune finds --weight and --length-bonus; give them or --tune, not both")
    if metric and not tune:
        raise InputError("--metric selects what --tune maximises; give it together with --tune REFERENCES")
    model = load(run, device=device or "auto", threads=threads)
    path = None if str(nbest) == "-" else nbest
    unknown = UnknownCounter(model.vocabulary)
    batches = _count_unknown(read_line_batches(path, model.vocabulary.level), unknown)
    if tune:
        _print_tuning(model, batches, tune, metric or Metric.CHRF, measure, name_of(path))
    else:
        weights = {"weight": 1.0 if weight is None else weight, "length_bonus": length_bonus or 0.0}
        for lines in model.rerank_batches(batches, **weights, measure=measure, source=name_of(path)):
            _print_lines(lines)
    unknown.tell()


def _count_unknown(batches: Iterable[list[str]], unknown: UnknownCounter) -> Iterator[list[str]]:
    """Yields the lines of an n-best list, and counts the unknown characters of its hypotheses."""
    number = 0
    for batch in batches:
        for line in batch:
            number += 1
            hypothesis = line.split("|||", 2)[1:2]  # empty for a malformed line, which is refused later
            unknown.add("".join(hypothesis).strip(" "), number)
        yield batch


def _print_lines(lines: Sequence[str]) -> None:
    text = "\n".join(lines)
    # As bytes, so that what a byte-level model reads and is not UTF-8 is printed as it was read.
    typer.echo(for_terminal(text) if sys.stdout.isatty() else text.encode("utf-8", "surrogateescape"))


def _print_tuning(
    model: LanguageModel,
    batches: Iterable[list[str]],
    files: Sequence[Path],
    metric: Metric,
    measure: Measure,
    source: str,
) -> None:
    """Prints the best weights as options, and what they gain to standard error."""
    level = model.vocabulary.level
    references = [list(chain.from_iterable(read_line_batches(file, level))) for file in files]
    nbest = chain.from_iterable(batches)
    result = model.tune_reranking(nbest, references, metric=metric, measure=measure, source=source)
    rows = [
        ("by the old totals", result.before),
        ("by the new totals", result.after),
        ("by the new totals, each half tuned on the other", result.held_out),
    ]
    note(f"{result.sentences:,} sentences, {result.metric}")
    for line in align_columns([(name, f"{score:.2f}") for name, score in rows if score is not None], "<>"):
        note(f"  {line}")
    chosen = f"--weight {result.weight:g} --length-bonus {result.length_bonus:g}"
    print(chosen if measure is Measure.LOGPROB else f"{chosen} --measure {measure.value}")
