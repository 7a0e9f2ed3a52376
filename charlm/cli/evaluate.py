"""`charlm eval`: how well does a model predict held-out text?"""

from __future__ import annotations

import dataclasses
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
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Files, folders, globs, .gz, or -.")],
    output: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
    device: options.DeviceOption = None,
    threads: options.Threads = None,
) -> None:
    """Measure a model on text that it has not seen.

    \b
    $ charlm eval runs/quickstart held_out.txt
    characters                    15,884
    bytes                         15,884
    unknown                            0
    nats_per_character            1.5402
    bits_per_character            2.2220
    bits_per_byte                 2.2220
    perplexity                    4.6655
    perplexity_excluding_unknown  4.6655
    """
    from charlm import load

    result = dataclasses.asdict(load(run, device=device or "auto", threads=threads).evaluate(paths))
    if output is Format.JSON:
        print(json_line(result))
    else:
        rows = [(name, f"{n:,}" if isinstance(n, int) else f"{n:.4f}") for name, n in result.items()]
        print("\n".join(columns(rows, "<>")))
