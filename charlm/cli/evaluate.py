"""`charlm eval`: how well does a model predict held-out text?"""

from __future__ import annotations

import dataclasses
import math
from enum import StrEnum
from typing import Annotated

import typer

from charlm.cli import options
from charlm.cli.render import columns, json_line


class Format(StrEnum):
    """How the evaluation is printed."""

    TABLE = "table"
    JSON = "json"


def evaluate(
    run: options.Run,
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH", help="Files, folders, globs, .gz, or -; none: the validation split."),
    ] = None,
    dynamic: Annotated[
        bool, typer.Option("--dynamic", help="Also let a copy of the model go on learning as it reads the text.")
    ] = False,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", metavar="X", help="Of --dynamic; else tuned on validation.")
    ] = None,
    decay: Annotated[
        float | None, typer.Option("--decay", metavar="X", help="Of --dynamic, to the trained weights; else tuned.")
    ] = None,
    baseline: Annotated[
        bool,
        typer.Option("--baseline", help="Also show a Kneser-Ney n-gram model of the same training text."),
    ] = False,
    output: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
    device: options.DeviceOption = None,
    threads: options.Threads = None,
) -> None:
    """Measure a model on text that it has not seen.

    \b
    $ charlm eval runs/quickstart data/english.txt
    characters                    158,837
    bytes                         158,837
    unknown                             0
    nats_per_character             0.8887
    bits_per_character             1.2821
    bits_per_byte                  1.2821
    perplexity                     2.4318
    perplexity_excluding_unknown   2.4318
    \b
    $ charlm eval runs/shakespeare --dynamic --baseline | grep nats
    nats_per_character             1.5107
    dynamic_nats_per_character     1.3650
    baseline_nats_per_character    1.5165
    """
    from charlm import load

    lm = load(run, device=device or "auto", threads=threads)
    found = lm.evaluate(paths or None, dynamic=dynamic, learning_rate=learning_rate, decay=decay, baseline=baseline)
    result = {name: value for name, value in dataclasses.asdict(found).items() if value is not None}
    if output is Format.JSON:
        print(json_line(result))
    else:
        print("\n".join(columns(((name, _shown(name, n)) for name, n in result.items()), "<>")))


def _shown(name: str, number: float) -> str:
    if isinstance(number, int):
        return f"{number:,}"
    if math.isnan(number):
        return "-"  # a mean of nothing
    return f"{number:g}" if name in ("dynamic_learning_rate", "dynamic_decay") else f"{number:.4f}"
