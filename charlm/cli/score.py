"""`charlm score`: how likely is each sentence, and where is it odd?"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm.cli import options
from charlm.cli.lines import batches_as_they_come
from charlm.cli.render import console, json_line, legend, note, printable, shaded

if TYPE_CHECKING:
    from charlm.inference.measures import Score


class Format(StrEnum):
    """How scores are printed."""

    TABLE = "table"
    TSV = "tsv"
    JSONL = "jsonl"


FIELDS = (
    "text",
    "characters",
    "unknown",
    "logprob",
    "mean_logprob",
    "perplexity",
    "bits_per_character",
    "penlp",
    "slor",
)


def score(
    run: options.Run,
    sentences: Annotated[list[str] | None, typer.Argument(metavar="SENTENCE")] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", metavar="FILE|-", help="One sentence a line; - is standard input."),
    ] = None,
    output: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
    per_char: Annotated[bool, typer.Option("--per-char", help="Show each character's surprisal.")] = False,
    device: options.DeviceOption = None,
    threads: options.Threads = None,
) -> None:
    """Score sentences: log-probabilities in nats, higher is better.

    Sentences come from the command line, a file, or standard input, and are answered in order as they come. The
    end of the sentence is scored too. Unknown characters count as <unk> and are listed at the end.

    \b
    $ charlm score runs/quickstart "The river was high." "The rievr was high."
      logprob     mean      ppl   bits     penlp     slor   unk  text
       -23.52   -1.176     3.24  1.696     -7.51    2.030     0  The river was high.
       -45.98   -2.299     9.97  3.317    -14.68    0.907     0  The rievr was high.
    """
    from charlm import load
    from charlm.errors import InputError

    if sentences and file is not None:
        raise InputError("give sentences or --file, not both")
    if not sentences and file is None and sys.stdin.isatty():
        raise InputError("nothing to score: give sentences, or --file (- for standard input)")
    model = load(run, device=device or "auto", threads=threads)
    if sentences:
        batches: Iterator[list[str]] = iter([sentences])
    else:
        batches = batches_as_they_come(None if file is None or str(file) == "-" else file, model.vocabulary.level)
    printer = _PRINTERS[output](per_char)
    unknown: Counter[str] = Counter()
    for number, batch in enumerate(batches):
        if number == 0:
            printer.begin()
        for result in model.score_batch(batch):
            unknown.update(char.char for char in result.chars if char.unknown)
            printer.show(result)
        sys.stdout.flush()
    printer.end()
    if unknown:
        shown = ", ".join(
            f"'{printable(char)}' (U+{ord(char):04X}) {n} times" for char, n in unknown.most_common(20)
        )
        note(f"unknown characters: {shown}{', ...' if len(unknown) > 20 else ''}")


class _Jsonl:
    """One JSON object a line."""

    def __init__(self, per_char: bool) -> None:
        self._per_char = per_char

    def begin(self) -> None:
        """Nothing comes before the first line."""

    def show(self, result: Score) -> None:
        row: dict[str, Any] = {name: getattr(result, name) for name in FIELDS}
        if self._per_char:
            row["chars"] = _chars(result)
        print(json_line(row))

    def end(self) -> None:
        """Nothing follows the last line."""


def _chars(result: Score) -> list[dict[str, Any]]:
    return [dataclasses.asdict(char) for char in result.chars]


class _Tsv:
    """A header and a line a sentence; tabs, newlines and backslashes in the text are escaped."""

    def __init__(self, per_char: bool) -> None:
        self._per_char = per_char

    def begin(self) -> None:
        print("\t".join((*FIELDS, "chars") if self._per_char else FIELDS))

    def show(self, result: Score) -> None:
        text = result.text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
        cells = [
            text.encode("utf-8", "backslashreplace").decode(),
            *(str(getattr(result, name)) for name in FIELDS[1:]),
        ]
        if self._per_char:
            cells.append(json.dumps(_chars(result)))
        print("\t".join(cells))

    def end(self) -> None:
        """Nothing follows the last line."""


class _Table:
    """Columns for people; with `--per-char` each sentence shaded, or in a pipe spelt out."""

    def __init__(self, per_char: bool) -> None:
        self._per_char = per_char
        self._console = console()
        self._colours = self._console.color_system is not None and not self._console.no_color

    def begin(self) -> None:
        print("  logprob     mean      ppl   bits     penlp     slor   unk  text")

    def show(self, r: Score) -> None:
        ppl = f"{r.perplexity:8.2f}" if r.perplexity < 1e5 else f"{r.perplexity:8.1e}"
        numbers = (
            f"{r.logprob:9.2f} {r.mean_logprob:8.3f} {ppl} {r.bits_per_character:6.3f} "
            f"{r.penlp:9.2f} {r.slor:8.3f} {r.unknown:5d}  "
        )
        if not self._per_char:
            print(numbers + printable(r.text))
        elif self._colours:
            self._console.print(shaded((c.char, c.logprob) for c in r.chars), end="\n")
            print(numbers)
        else:
            print(numbers + printable(r.text))
            print(
                "    "
                + "  ".join(f"{printable(c.char)}{'?' if c.unknown else ''} {c.logprob:.2f}" for c in r.chars)
            )

    def end(self) -> None:
        if self._per_char and self._colours:
            self._console.print(legend())


_PRINTERS: dict[Format, type[_Jsonl] | type[_Tsv] | type[_Table]] = {
    Format.JSONL: _Jsonl,
    Format.TSV: _Tsv,
    Format.TABLE: _Table,
}
