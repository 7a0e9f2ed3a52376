"""`charlm rerank`: a decoder's n-best lists, ranked with the model's help."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charlm.cli import options
from charlm.cli.render import columns, for_terminal, note
from charlm.cli.unknown import UnknownCounter
from charlm.errors import InputError
from charlm.ranking.nbest import Metric
from charlm.scoring.measures import Measure
from charlm.text.lines import batches_as_they_come, name_of

if TYPE_CHECKING:
    from charlm.language_model import LanguageModel


def rerank(
    run: options.Run,
    nbest: Annotated[
        Path, typer.Argument(metavar="NBEST|-", help="A Moses n-best list, or .gz of one; - is standard input.")
    ],
    weight: Annotated[
        float | None,
        typer.Option("--weight", metavar="W", help="Of the model, beside the old total.  [default: 1]"),
    ] = None,
    length_bonus: Annotated[
        float | None,
        typer.Option("--length-bonus", metavar="B", help="For each character of a hypothesis.  [default: 0]"),
    ] = None,
    measure: options.MeasureOption = Measure.LOGPROB,
    tune: Annotated[
        list[Path] | None,
        typer.Option(
            "--tune",
            metavar="REFERENCES",
            help="Print the best W and B for these references, line by line. Repeatable.",
        ),
    ] = None,
    metric: Annotated[
        Metric | None, typer.Option("--metric", help="What --tune makes highest.  [default: chrf]")
    ] = None,
    device: options.DeviceOption = None,
    threads: options.Threads = None,
) -> None:
    """Rank a decoder's n-best lists anew: total + W * model + B * characters.

    A line is: id ||| hypothesis ||| features ||| total, and whatever else. Each gets a feature charlm= and the new
    total, and each id's lines come out best first, as soon as all of them have come; a list may have any length.
    Everything else stays as it was. --tune finds W and B on a development set (with sacrebleu: pip install
    'charlm[tune]') and prints them as options. Unknown characters are named on standard error, at the end.

    \b
    $ charlm rerank runs/quickstart docs/examples/river.nbest | awk -F ' [|]+ ' '!seen[$1]++ {print $2}'
    The river was high in the morning.
    He was asked what he had in the basket.
    I took the boy over the water for nothing.
    ...

    \b
    $ charlm rerank runs/quickstart docs/examples/river.nbest --tune docs/examples/river.ref
    12 sentences, chrF2|nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.6.0
      by the old totals                                 75.91
      by the new totals                                100.00
      by the new totals, each half tuned on the other  100.00
    --weight 0.6379 --length-bonus 0.4422
    """
    from charlm import load

    if tune and (weight is not None or length_bonus is not None):
        raise InputError("--tune finds --weight and --length-bonus; give them or --tune, not both")
    if metric and not tune:
        raise InputError("--metric is what --tune makes highest; give it with --tune REFERENCES")
    model = load(run, device=device or "auto", threads=threads)
    path = None if str(nbest) == "-" else nbest
    unknown = UnknownCounter(model.vocabulary)
    batches = _counted(batches_as_they_come(path, model.vocabulary.level), unknown)
    if tune:
        _tune(model, batches, tune, metric or Metric.CHRF, measure, name_of(path))
    else:
        options = {"weight": 1.0 if weight is None else weight, "length_bonus": length_bonus or 0.0}
        for answer in model.rerank_batches(batches, **options, measure=measure, source=name_of(path)):
            _print(answer)
    unknown.tell()


def _counted(batches: Iterable[list[str]], unknown: UnknownCounter) -> Iterator[list[str]]:
    """Passes an n-best list on, and counts the unknown characters of its hypotheses on the way."""
    number = 0
    for batch in batches:
        for line in batch:
            number += 1
            hypothesis = line.split("|||", 2)[1:2]  # none in a line that will be refused
            unknown.add("".join(hypothesis).strip(" "), number)
        yield batch


def _print(lines: Sequence[str]) -> None:
    text = "\n".join(lines)
    # As bytes, so that what a byte-level model read that is not UTF-8 goes out as it came.
    typer.echo(for_terminal(text) if sys.stdout.isatty() else text.encode("utf-8", "surrogateescape"))


def _tune(
    model: LanguageModel,
    batches: Iterable[list[str]],
    files: Sequence[Path],
    metric: Metric,
    measure: Measure,
    source: str,
) -> None:
    """Prints options for a shell to paste, and beside them what they bring."""
    level = model.vocabulary.level
    references = [list(chain.from_iterable(batches_as_they_come(file, level))) for file in files]
    nbest = chain.from_iterable(batches)
    result = model.tune_reranking(nbest, references, metric=metric, measure=measure, source=source)
    rows = [
        ("by the old totals", result.before),
        ("by the new totals", result.after),
        ("by the new totals, each half tuned on the other", result.held_out),
    ]
    note(f"{result.sentences:,} sentences, {result.metric}")
    for line in columns([(name, f"{score:.2f}") for name, score in rows if score is not None], "<>"):
        note(f"  {line}")
    chosen = f"--weight {result.weight:g} --length-bonus {result.length_bonus:g}"
    print(chosen if measure is Measure.LOGPROB else f"{chosen} --measure {measure.value}")
