"""`charlm rerank`: rerank the n-best lists of a decoder."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charlm.cli import options
from charlm.cli.layout import fit_table, terminal_width
from charlm.cli.render import for_terminal, note
from charlm.cli.unknown import UnknownCounter
from charlm.errors import InputError
from charlm.ranking.nbest import Group, Metric, NbestFormat, read_groups
from charlm.scoring.measures import Measure
from charlm.system.counts import count_of
from charlm.text.lines import name_of, read_line_batches
from charlm.text.reading import refuse_twice

if TYPE_CHECKING:
    from charlm.language_model import LanguageModel


_tuning_option = options.option_group("Tuning")


def rerank(
    ctx: typer.Context,
    run: options.RunArgument,
    nbest: Annotated[
        Path,
        typer.Argument(metavar="NBEST|-", help="The n-best list, also as .gz; - is standard input."),
    ],
    input_format: Annotated[
        NbestFormat,
        options.input_option("--input-format", help="Read the list in this format; auto recognises it."),
    ] = NbestFormat.AUTO,
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
            help="Find W and B on a development set with these references, one on each line. Repeatable.",
        ),
    ] = None,
    metric: Annotated[
        Metric | None,
        _tuning_option("--metric", help="Maximise this metric with --tune (default: chrf)."),
    ] = None,
    encoding: options.EncodingOption = "utf-8",
    device: options.DeviceOption = None,
    threads: options.ThreadsOption = None,
) -> None:
    """Rerank the n-best lists of a decoder with the model's scores.

    The list may come from Moses (lines id ||| hypothesis ||| features ||| total), Nematus (lines id ||| hypothesis
    ||| score), fairseq (the output of generate.py with its S- and H- lines) or Kaldi (lines KEY-n words). The new
    total of a hypothesis is total + W * score + B * characters. It replaces the old total in the same format, and a
    Moses list also gets the feature charlm=. Lines of Kaldi have no total; they are only sorted. The hypotheses of
    an id are printed best first, as soon as all of them have been read, and a list may have any length. --tune
    finds the best W and B on a development set and prints them as options; it needs sacrebleu (pip install
    'charlm[tune]'). Unknown characters are listed on standard error at the end.

    \b
    $ printf '%s\\n' \\
        '1 ||| The rievr is high. ||| lm=-9.1 ||| -9.1' \\
        '1 ||| The river is high. ||| lm=-9.4 ||| -9.4' > river.nbest
    $ charlm rerank runs/quickstart river.nbest
    1 ||| The river is high. ||| lm=-9.4 charlm= -19.632751 ||| -29.032751
    1 ||| The rievr is high. ||| lm=-9.1 charlm= -38.235612 ||| -47.335612

    \b
    $ charlm rerank runs/quickstart dev.nbest --tune dev.ref
    12 sentences, chrF2|nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|...
      by the old totals                                 75.91
      by the new totals                                100.00
      by the new totals, each half tuned on the other  100.00
    --weight 0.7901 --length-bonus 0.7436
    """
    from charlm import load

    if tune and (weight is not None or length_bonus is not None):
        raise InputError("--tune finds --weight and --length-bonus; give either --tune or these options, not both")
    if metric and not tune:
        raise InputError("--metric can only be used with --tune REFERENCES; add it")
    refuse_twice([nbest, *(tune or ())])
    model = load(run, device=device or "auto", threads=threads)
    path = None if str(nbest) == "-" else nbest
    unknown = UnknownCounter(model.vocabulary)
    batches = read_line_batches(path, model.vocabulary.level, encoding, note=note)
    groups = _count_unknown(read_groups(batches, name_of(path), input_format), unknown, name_of(path))
    with model.sharing(ctx.obj):
        if tune:
            _print_tuning(model, groups, tune, encoding, metric or Metric.CHRF, measure)
        else:
            weights = {"weight": 1.0 if weight is None else weight, "length_bonus": length_bonus or 0.0}
            for lines in model.rerank_groups(groups, **weights, measure=measure):
                _print_lines(lines)
    unknown.tell()


def _count_unknown(batches: Iterable[list[Group]], unknown: UnknownCounter, name: str) -> Iterator[list[Group]]:
    """Yields the hypotheses of an n-best list, counts their unknown characters, and notes if there are none."""
    found = False
    for batch in batches:
        found = found or any(batch)
        for group in batch:
            for hypothesis in group:
                unknown.add(hypothesis.text, hypothesis.number)
        yield batch
    if not found:
        note(f"{name}: there are no hypotheses to rerank")


def _print_lines(lines: Sequence[str]) -> None:
    text = "\n".join(lines)
    # As bytes, so that what a byte-level model reads and is not UTF-8 is printed as it was read.
    typer.echo(for_terminal(text) if sys.stdout.isatty() else text.encode("utf-8", "surrogateescape"))


def _print_tuning(
    model: LanguageModel,
    batches: Iterable[list[Group]],
    files: Sequence[Path],
    encoding: str,
    metric: Metric,
    measure: Measure,
) -> None:
    """Prints the best weights as options, and what they gain to standard error."""
    from charlm.ranking import tuning

    level = model.vocabulary.level
    references = [list(chain.from_iterable(read_line_batches(file, level, encoding, note=note))) for file in files]
    groups = [group for group in chain.from_iterable(batches) if group]
    result = tuning.tune(groups, references, model.score_stream, measure=measure, metric=metric)
    rows = [
        ("by the old totals", result.before),
        ("by the new totals", result.after),
        ("by the new totals, each half tuned on the other", result.held_out),
    ]
    note(f"{count_of(result.sentences, 'sentence')}, {result.metric}")
    table = [("  " + name, f"{score:.2f}") for name, score in rows if score is not None]
    for line in fit_table(table, "<>", terminal_width(sys.stderr)):
        note(line)
    chosen = f"--weight {result.weight:g} --length-bonus {result.length_bonus:g}"
    print(chosen if measure is Measure.LOGPROB else f"{chosen} --measure {measure.value}")
