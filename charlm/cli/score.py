"""`charlm score`: compute how likely sentences are, and where they are surprising."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm.cli import options
from charlm.cli.layout import terminal_width, wrap_lines
from charlm.cli.render import note
from charlm.cli.score_formats import JsonlPrinter, LogBase, Printer, TsvPrinter, WordTsvPrinter
from charlm.cli.score_input import (
    Waiting,
    note_columns,
    number_lines,
    read_field,
    read_kaldi,
    read_text,
    take_out_separators,
)
from charlm.cli.score_table import TablePrinter
from charlm.cli.score_toolkits import KaldiPrinter, KenlmPrinter, SrilmPrinter
from charlm.cli.unknown import report_lines
from charlm.scoring.conditions import Unknown
from charlm.scoring.measures import Measure
from charlm.scoring.words import Space
from charlm.system.shell import quote_path
from charlm.text.columns import Record, parse_field
from charlm.text.lines import name_of, read_line_batches

if TYPE_CHECKING:
    from charlm.cli.score_formats import Alternatives
    from charlm.language_model import LanguageModel
    from charlm.scoring.measures import Score
    from charlm.scoring.summary import Summary


class Format(StrEnum):
    """An output format."""

    TABLE = "table"
    TSV = "tsv"
    JSONL = "jsonl"
    KENLM = "kenlm"
    SRILM = "srilm"
    KALDI = "kaldi"


_PRINTERS: dict[Format, type[Printer]] = {
    Format.TABLE: TablePrinter,
    Format.TSV: TsvPrinter,
    Format.JSONL: JsonlPrinter,
    Format.KENLM: KenlmPrinter,
    Format.SRILM: SrilmPrinter,
    Format.KALDI: KaldiPrinter,
}


def score(
    ctx: typer.Context,
    run: options.RunArgument,
    sentences: Annotated[
        list[str] | None, typer.Argument(metavar="SENTENCE", help="The sentences, unless --file is given.")
    ] = None,
    file: Annotated[
        Path | None,
        options.input_option(
            "--file", "-f", metavar="FILE|-", help="Read one sentence a line from this file; - is standard input."
        ),
    ] = None,
    field: options.FieldOption = None,
    separator: Annotated[
        str | None,
        options.input_option(
            metavar="TEXT",
            help="With --per-word, treat this text, for example '|', as the separator of words and remove it "
            "before scoring. Without it, white space separates words and is not removed.",
        ),
    ] = None,
    output: Annotated[
        Format,
        options.output_option(
            "--format",
            help="Choose the output format. kenlm and srilm print what these tools print, in base 10. kaldi reads "
            "lines KEY words and prints KEY cost, where the cost is the negative natural logarithm.",
        ),
    ] = Format.TABLE,
    per_char: Annotated[
        bool,
        options.output_option("--per-char", help="Show the surprisal of each character."),
    ] = False,
    per_word: Annotated[
        bool,
        options.output_option(
            "--per-word", help="Show the surprisal of each word. In tsv each word has its own line."
        ),
    ] = False,
    space: Annotated[
        Space | None,
        options.output_option(
            help="With --per-word, count the white space after a word as part of it, and the end of the sentence "
            "as part of the last word (after, the default), or the white space before a word (before)."
        ),
    ] = None,
    alternatives: Annotated[
        int | None,
        options.output_option(
            min=1,
            metavar="K",
            help="Show the K most probable other characters. The table shows them for the most surprising places, "
            "tsv and jsonl for every place.",
        ),
    ] = None,
    rank: Annotated[
        bool,
        options.output_option(
            "--rank", help="Sort the sentences by score, the best first. Equal scores share a rank."
        ),
    ] = False,
    measure: Annotated[
        Measure | None,
        options.output_option(
            help="Sort by this measure with --rank (default: mean). tsv and jsonl print it as `score`."
        ),
    ] = None,
    log_base: Annotated[
        LogBase | None,
        options.output_option(help="Print logarithms in this base (default: e)."),
    ] = None,
    context: Annotated[
        str,
        options.scoring_option(metavar="TEXT", help="Read this text before each sentence, without scoring it."),
    ] = "",
    document: Annotated[
        Path | None,
        options.scoring_option(
            metavar="FILE",
            help="Read this file, for example the chapter so far, before each sentence and remember it, so that "
            "its names are expected.",
        ),
    ] = None,
    no_bos: Annotated[
        bool,
        options.scoring_option(
            "--no-bos", help="Do not put a boundary before a sentence, so that it may begin anywhere in a text."
        ),
    ] = False,
    no_eos: Annotated[
        bool,
        options.scoring_option("--no-eos", help="Do not score the end of a sentence."),
    ] = False,
    unknown: Annotated[
        Unknown | None,
        options.scoring_option(
            help="Spread the probability of <unk> evenly over unknown characters (default), skip them, or stop "
            "with an error."
        ),
    ] = None,
    encoding: options.EncodingOption = "utf-8",
    device: options.DeviceOption = None,
    threads: options.ThreadsOption = None,
) -> None:
    """Score sentences by their log-probability; higher is better.

    Log-probabilities are in nats and include the end of the sentence. Sentences come from the command line, a file
    or standard input, and are scored in order as they arrive. After a file, its perplexities and its bits per
    character and byte are printed, and the unknown characters with the lines in which they occur.

    \b
    $ charlm score runs/quickstart "The boat is old." "The baot is old."
      logprob     mean      ppl   bits     penlp     slor   unk  text
       -19.10   -1.123     3.07  1.621     -6.75    1.994     0  The boat is old.
       -31.62   -1.860     6.42  2.683    -11.18    1.257     0  The baot is old.

    \b
    $ charlm score runs/quickstart "The baot is old." --alternatives 2
    ...
         7.39 nats  The ba[o]t is old.</s>  0.062%; instead: r 55%, c 13%
         2.96 nats  The baot is [o]ld.</s>  5.2%; instead: a 13%, n 12%
         2.88 nats  The baot[ ]is old.</s>  5.6%; instead: h 63%, e 11%
    ...
    """
    from charlm import load
    from charlm.errors import InputError
    from charlm.scoring.conditions import Conditions

    source = _source(sentences, file)
    if source == "-" and str(document) == "-":
        raise InputError(
            "the sentences and --document cannot both come from standard input; name a file for one of them"
        )
    _check_words(per_word, {"--space": space, "--separator": separator})
    given = {"--rank": rank, "--measure": measure, "--alternatives": alternatives}
    if output in (Format.KENLM, Format.SRILM, Format.KALDI):
        _refuse_unsupported_options(output, {**given, "--per-word": per_word}, log_base, unknown)
    printer_class = _PRINTERS[output]
    if per_word and output is Format.TSV:
        _refuse_options("--format tsv with --per-word", {**given, "--per-char": per_char}, "--format jsonl")
        printer_class = WordTsvPrinter
    if field is not None and (sentences or output is Format.KALDI):
        what = "sentences on the command line have" if sentences else "lines of --format kaldi have"
        raise InputError(f"{what} no columns; leave out --field")
    read_document = "" if document is None else read_text(document, encoding, what="the document")
    model = load(run, device=device or "auto", threads=threads)
    treatment = unknown or (Unknown.SKIP if output is Format.SRILM else Unknown.SPREAD)
    printer = printer_class(
        vocabulary=model.vocabulary,
        conditions=Conditions(context, not no_bos, not no_eos, treatment, read_document),
        source=source,
        log_base=log_base or LogBase.E,
        measure=measure or (Measure.MEAN if rank else None),
        ranked=rank,
        per_char=per_char or alternatives is not None,
        space=(space or Space.AFTER) if per_word else None,
    )
    path = None if source == "-" else file
    lines = [sentences] if sentences else read_line_batches(path, model.vocabulary.level, encoding, note=note)
    if output is Format.KALDI:
        records = read_kaldi(lines, "command line" if sentences else name_of(path))
    elif field is not None:
        one_line = model.vocabulary.framing == "lines"
        records = read_field(lines, parse_field(field), name_of(path), one_line=one_line)
    else:
        plain = bool(sentences) or separator is not None  # which may be what columns are separated by
        records = number_lines(lines if plain else note_columns(lines, name_of(path)))
    if separator is not None:
        records = take_out_separators(records, separator)
    with model.sharing(ctx.obj, printer.conditions):
        summary = _print_scores(model, records, printer, alternatives)
    if not summary.sentences:
        note(f"{name_of(path)}: there are no sentences to score")
    kind = "sentence" if source is None else "line" if field is None else "record"
    if report := _report_unknown(summary, printer, kind):
        if output is Format.TABLE:
            print(wrap_lines("\n".join(report), terminal_width(sys.stdout)))
        else:
            note("\n".join(report))


def _source(sentences: list[str] | None, file: Path | None) -> str | None:
    """Returns where the sentences come from: a file's name, `-`, or None for the command line."""
    from charlm.errors import InputError

    if sentences and file is not None:
        raise InputError("give either sentences or --file, not both")
    if sentences:
        if files := [sentence for sentence in sentences if os.path.isfile(sentence)]:
            name = quote_path(files[0])
            note(
                f"note: {name} is scored as a sentence, but there is a file of this name; use --file {name} to "
                "score the file"
            )
        return None
    if file is None and sys.stdin.isatty():
        raise InputError("there is nothing to score; give sentences, or --file (- for standard input)")
    return "-" if file is None else str(file)


def _note_unknown_context(printer: Printer) -> None:
    """Names the unknown characters of the context and of the document on standard error."""
    from charlm.text.characters import name_characters

    vocabulary = printer.vocabulary
    document = vocabulary.normalize(printer.conditions.document)
    if vocabulary.framing == "lines":
        document = document.replace("\n", "")
    for text, what in ((document, "document"), (printer.context, "context")):
        if chars := vocabulary.unknown_in(text):
            note(
                f"the {what} has characters that the model has never seen: {name_characters(chars)}; they are read "
                "as <unk> and not scored"
            )


def _refuse_unsupported_options(
    output: Format, given: Mapping[str, Any], log_base: LogBase | None, unknown: Unknown | None
) -> None:
    """Refuses the options that the format of another toolkit cannot show.

    Raises:
        InputError: the first such option.
    """
    refused = {Format.KENLM: Unknown.SKIP, Format.SRILM: Unknown.SPREAD}
    base = LogBase.E if output is Format.KALDI else LogBase.TEN
    given = {
        **given,
        f"--log-base {log_base}": log_base and log_base is not base,
        f"--unknown {unknown}": unknown is not None and unknown is refused.get(output),
    }
    _refuse_options(f"--format {output}", given, "--format tsv or jsonl")


def _refuse_options(what: str, given: Mapping[str, Any], instead: str) -> None:
    """Refuses the first of these options that has a value.

    Raises:
        InputError: there is one.
    """
    from charlm.errors import InputError

    for option, value in given.items():
        if value:
            raise InputError(f"{what} does not support {option}; use {instead}")


def _check_words(per_word: bool, given: Mapping[str, Any]) -> None:
    """Refuses options of words where words are not asked for.

    Raises:
        InputError: there is one, or the separator is empty.
    """
    from charlm.errors import InputError

    for option, value in given.items():
        if value is not None and not per_word:
            raise InputError(f"{option} can only be used with --per-word; add it")
        if value == "":
            raise InputError(f"{option} is empty; leave it out if white space separates words")


def _print_scores(
    model: LanguageModel, records: Iterable[list[Record]], printer: Printer, alternatives: int | None
) -> Summary:
    """Prints each batch of sentences as soon as it is scored, or all of them in the end if they are ranked."""
    from charlm.scoring.measures import rank
    from charlm.scoring.summary import Summary

    def print_sentence(score: Score, record: Record, place: int | None = None) -> None:
        instead: Alternatives = ()
        if alternatives:
            instead = model.alternatives(score.text, alternatives, printer.conditions)
        printer.print_sentence(score, place, instead, record)

    summary = Summary()
    unranked: list[Score] = []
    records_of: dict[int, Record] = {}  # by the identity of a score in `unranked`
    if printer.conditions.unknown == Unknown.ERROR:
        records = _refuse_unknown(records, printer)
    waiting = Waiting(records)
    for number, scores in enumerate(model.score_batches(waiting.texts(), printer.conditions)):
        for score in scores:
            summary.add(score)
        if number == 0:  # the context and the options have been accepted
            _note_unknown_context(printer)
            printer.columns.extend(first.others if (first := waiting.first()) else ())
            printer.print_header()
        for score in scores:
            record = waiting.take()
            if printer.ranked:
                unranked.append(score)
                records_of[id(score)] = record
            else:
                print_sentence(score, record)
        sys.stdout.flush()
    for ranked in rank(unranked, printer.measure or Measure.MEAN):
        print_sentence(ranked.score, records_of[id(ranked.score)], ranked.rank)
    printer.print_summary(summary)
    return summary


def _refuse_unknown(batches: Iterable[list[Record]], printer: Printer) -> Iterator[list[Record]]:
    """Yields records up to the first whose text has an unknown character.

    Raises:
        InputError: that text and its unknown characters.
    """
    from charlm.errors import InputError
    from charlm.text.characters import name_characters

    vocabulary, source = printer.vocabulary, printer.source
    for batch in batches:
        for i, record in enumerate(batch):
            if unknown := vocabulary.unknown_in(vocabulary.normalize(record.text or "")):
                if i:
                    yield batch[:i]
                place = {None: f"sentence {record.line}", "-": f"standard input, line {record.line}"}
                where = place.get(source, f"{source}, line {record.line}")
                raise InputError(f"{where}: the model has never seen {name_characters(unknown)}")
        yield batch


def _report_unknown(summary: Summary, printer: Printer, kind: str) -> list[str]:
    """Returns lines that name the unknown characters, where they occur and how they are scored."""
    if not summary.unknown:
        return []
    found = [(char, at.count, list(map(str, at.lines))) for char, at in summary.unknown_characters.items()]
    skipped = printer.conditions.unknown != Unknown.SPREAD
    return report_lines(summary.characters, found, kind, printer.vocabulary, skipped=skipped)
