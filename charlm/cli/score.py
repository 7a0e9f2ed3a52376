"""`charlm score`: how likely is each sentence, and where is it odd?"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charlm.cli import options
from charlm.cli.render import columns, note
from charlm.cli.score_formats import Item, Jsonl, Kenlm, LogBase, Printer, Srilm, Tsv, View
from charlm.cli.score_summary import summary_lines, unknown_report
from charlm.cli.score_table import Table
from charlm.scoring.conditions import Unknown
from charlm.scoring.measures import Measure
from charlm.text.lines import batches_as_they_come

if TYPE_CHECKING:
    from charlm.language_model import LanguageModel
    from charlm.scoring.measures import Score
    from charlm.scoring.summary import Summary


class Format(StrEnum):
    """How scores are printed."""

    TABLE = "table"
    TSV = "tsv"
    JSONL = "jsonl"
    KENLM = "kenlm"
    SRILM = "srilm"


def score(
    run: options.Run,
    sentences: Annotated[list[str] | None, typer.Argument(metavar="SENTENCE")] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", metavar="FILE|-", help="One sentence a line; - is standard input."),
    ] = None,
    output: Annotated[
        Format, typer.Option("--format", help="How to print; kenlm and srilm: as those tools do, base 10.")
    ] = Format.TABLE,
    per_char: Annotated[bool, typer.Option("--per-char", help="Show each character's surprisal.")] = False,
    alternatives: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="K",
            help="Show the K likeliest other characters: in the table at the worst places, else at each.",
        ),
    ] = None,
    measure: Annotated[
        Measure | None, typer.Option(help="What --rank goes by (else mean); tsv and jsonl show it as `score`.")
    ] = None,
    rank: Annotated[bool, typer.Option("--rank", help="Best first; equal ones share a rank.")] = False,
    log_base: Annotated[LogBase | None, typer.Option(help="Of all log-probabilities; else e.")] = None,
    context: Annotated[
        str, typer.Option(metavar="TEXT", help="Stands before each sentence: read, but not scored.")
    ] = "",
    no_bos: Annotated[
        bool, typer.Option("--no-bos", help="A sentence does not begin at a boundary: it may stand anywhere.")
    ] = False,
    no_eos: Annotated[bool, typer.Option("--no-eos", help="Do not score the end of a sentence.")] = False,
    unknown: Annotated[
        Unknown | None,
        typer.Option(
            help="Characters never seen: spread <unk>'s probability evenly over all there are (the default), skip "
            "them, or error.",
        ),
    ] = None,
    device: options.DeviceOption = None,
    threads: options.Threads = None,
) -> None:
    """Score sentences: log-probabilities in nats, higher is better.

    Sentences come from the command line, a file, or standard input, and are answered in order as they come. The
    end of the sentence is scored too. Unknown characters are named at the end, with the lines they stand in;
    a file's figures follow its sentences: perplexities, bits per character and byte.

    \b
    $ charlm score runs/quickstart "The river was high." "The rievr was high."
      logprob     mean      ppl   bits     penlp     slor   unk  text
       -21.17   -1.059     2.88  1.527     -6.76    2.148     0  The river was high.
       -41.86   -2.093     8.11  3.020    -13.37    1.113     0  The rievr was high.

    \b
    $ charlm score runs/quickstart "The rievr was high." --alternatives 3
    ...
         7.55 nats  The riev[r] was high.</s>  0.053%; instead: e 95%, i 3.2%, a 0.22%
         5.11 nats  The ri[e]vr was high.…  0.6%; instead: v 69%, g 12%, n 10%
         3.66 nats  The rievr[ ]was high.</s>  2.6%; instead: e 40%, i 8.4%, o 7.2%
    ...
    """
    from charlm import load
    from charlm.scoring.conditions import Conditions

    source = _source(sentences, file)
    if output in (Format.KENLM, Format.SRILM):
        _refuse_what_has_no_place(output, rank, measure, alternatives, log_base, unknown)
    model = load(run, device=device or "auto", threads=threads)
    treatment = unknown or (Unknown.SKIP if output is Format.SRILM else Unknown.SPREAD)
    view = View(
        vocabulary=model.vocabulary,
        conditions=Conditions(context, not no_bos, not no_eos, treatment),
        source=source,
        base=log_base or LogBase.E,
        measure=measure or (Measure.MEAN if rank else None),
        ranked=rank,
        per_char=per_char or alternatives is not None,
    )
    lines = None if source == "-" else file
    batches = [sentences] if sentences else batches_as_they_come(lines, model.vocabulary.level)
    _print_scores(model, batches, view, output, alternatives)


def _source(sentences: list[str] | None, file: Path | None) -> str | None:
    """Returns where the sentences come from: a file's name, `-`, or None for the command line."""
    from charlm.errors import InputError

    if sentences and file is not None:
        raise InputError("give sentences or --file, not both")
    if sentences:
        return None
    if file is None and sys.stdin.isatty():
        raise InputError("nothing to score: give sentences, or --file (- for standard input)")
    return "-" if file is None else str(file)


def _note_unknown_context(view: View) -> None:
    """Says which characters of the context the model does not know."""
    from charlm.scoring.conditions import name_characters

    if chars := view.vocabulary.unknown_in(view.history):
        note(f"the model has never seen {name_characters(chars)}, in the context; read as <unk>, not scored")


def _refuse_what_has_no_place(
    output: Format,
    rank: bool,
    measure: Measure | None,
    alternatives: int | None,
    log_base: LogBase | None,
    unknown: Unknown | None,
) -> None:
    """Refuses the options that the form of another tool has no place for."""
    from charlm.errors import InputError

    given = {
        "--rank": rank,
        "--measure": measure,
        "--alternatives": alternatives,
        f"--log-base {log_base}": log_base and log_base is not LogBase.TEN,
        f"--unknown {unknown}": unknown is (Unknown.SKIP if output is Format.KENLM else Unknown.SPREAD),
    }
    for option, value in given.items():
        if value:
            raise InputError(f"--format {output} has no place for {option}; take --format tsv or jsonl")


def _print_scores(
    model: LanguageModel, batches: Iterable[list[str]], view: View, output: Format, alternatives: int | None
) -> None:
    from charlm.scoring.measures import rank
    from charlm.scoring.summary import Summary

    printer = _PRINTERS[output](view)
    summary = Summary()

    def show(score: Score, place: int | None = None) -> None:
        c, others = view.conditions, None
        if alternatives:
            others = model.alternatives(score.text, alternatives, context=c.context, bos=c.bos, eos=c.eos)
        printer.show(Item(score, place, others))

    kept: list[Score] = []
    for number, scores in enumerate(_scores(model, batches, view, summary)):
        if number == 0:  # what is refused is refused by now
            _note_unknown_context(view)
            printer.begin()
        if view.ranked:
            kept += scores
            continue
        for score in scores:
            show(score)
        sys.stdout.flush()
    if view.ranked:
        for one in rank(kept, view.measure or Measure.MEAN):
            show(one.score, one.rank)
    printer.end(summary)
    if output is not Format.TABLE:  # the table says it among its results
        if output in (Format.TSV, Format.JSONL) and view.source is not None and summary.sentences:
            note("\n".join(columns(summary_lines(summary, view), "<>")))
        if report := unknown_report(summary, view):
            note("\n".join(report))


def _scores(
    model: LanguageModel, batches: Iterable[list[str]], view: View, summary: Summary
) -> Iterator[list[Score]]:
    """Yields the scores of each batch, and takes each into the summary before it."""
    if view.conditions.unknown == Unknown.ERROR:
        batches = _known(batches, view)
    for scores in model.score_batches(batches, view.conditions):
        for score in scores:
            summary.add(score)
        yield scores


def _known(batches: Iterable[list[str]], view: View) -> Iterator[list[str]]:
    """Passes sentences on until one has an unknown character.

    Raises:
        InputError: which sentence, and which characters.
    """
    from charlm.errors import InputError
    from charlm.scoring.conditions import name_characters

    number = 0
    for batch in batches:
        for i, sentence in enumerate(batch):
            number += 1
            if unknown := view.vocabulary.unknown_in(view.vocabulary.normalize(sentence)):
                if i:
                    yield batch[:i]
                place = {None: f"sentence {number}", "-": f"standard input, line {number}"}
                where = place.get(view.source, f"{view.source}, line {number}")
                raise InputError(f"{where}: the model has never seen {name_characters(unknown)}")
        yield batch


_PRINTERS: dict[Format, type[Printer]] = {
    Format.TABLE: Table,
    Format.TSV: Tsv,
    Format.JSONL: Jsonl,
    Format.KENLM: Kenlm,
    Format.SRILM: Srilm,
}
