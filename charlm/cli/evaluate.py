"""`charlm eval`: measure how well a model predicts held-out text, or what it writes."""

from __future__ import annotations

import dataclasses
import math
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm.cli import options
from charlm.cli.evaluate_writing import show_writing
from charlm.cli.layout import fit_table, terminal_width
from charlm.cli.render import json_line, note
from charlm.text.columns import parse_field

if TYPE_CHECKING:
    from charlm.system.distributed import Ranks

_comparison_option = options.option_group("Comparisons")


class Format(StrEnum):
    """An output format."""

    TABLE = "table"
    JSON = "json"


def evaluate(
    ctx: typer.Context,
    run: options.RunArgument,
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH",
            help="Files, folders, globs, packed files or -; without any, the run's own validation split.",
        ),
    ] = None,
    baseline: Annotated[
        bool,
        _comparison_option("--baseline", help="Also evaluate a Kneser-Ney n-gram model of the same training text."),
    ] = False,
    dynamic: Annotated[
        bool,
        _comparison_option(
            "--dynamic",
            help="Also evaluate a copy of the model that keeps learning from the text: by a memory of it, by "
            "gradient steps, and by both.",
        ),
    ] = False,
    learning_rate: Annotated[
        float | None,
        _comparison_option(
            "--learning-rate",
            metavar="X",
            help="Set the learning rate of --dynamic, otherwise tuned on the validation split.",
        ),
    ] = None,
    decay: Annotated[
        float | None,
        _comparison_option(
            "--decay",
            metavar="X",
            help="Set the decay of --dynamic to the trained weights, otherwise tuned on the validation split.",
        ),
    ] = None,
    samples: Annotated[
        int | None,
        options.sampling_option(
            "--samples",
            metavar="N",
            min=1,
            help="Measure instead what the model writes: N samples beside as many held-out texts.",
        ),
    ] = None,
    temperature: options.TemperatureOption = None,
    top_k: options.TopKOption = None,
    top_p: options.TopPOption = None,
    min_p: options.MinPOption = None,
    seed: Annotated[
        int | None, options.sampling_option("--seed", min=0, help="Seed the random numbers (default: 0).")
    ] = None,
    field: options.FieldOption = None,
    output: Annotated[
        Format,
        options.output_option("--format", help="Print a table or one JSON object."),
    ] = Format.TABLE,
    encoding: options.EncodingOption = "utf-8",
    strict: Annotated[
        bool,
        options.input_option(
            "--strict", help="Refuse what is not text in folders and archives, instead of skipping it."
        ),
    ] = False,
    device: options.DeviceOption = None,
    threads: options.ThreadsOption = None,
) -> None:
    """Measure how well a model predicts unseen text, or how it writes.

    \b
    $ charlm eval runs/quickstart corpus:english
    characters                    158,837
    bytes                         158,837
    unknown                             0
    nats_per_character             0.9535
    bits_per_character             1.3756
    bits_per_byte                  1.3756
    perplexity                     2.5948
    perplexity_excluding_unknown   2.5948

    \b
    $ charlm eval runs/mine --dynamic --baseline | grep nats
    nats_per_character                  1.4197
    memory_nats_per_character           1.3202
    dynamic_nats_per_character          1.3176
    dynamic_memory_nats_per_character   1.2892
    baseline_nats_per_character         1.5165

    \b
    $ charlm eval runs/quickstart --samples 100 --temperature 0.9 | head -4
                       written  held_out
    texts                  100        64
    characters          20,000    12,800
    words_known         91.09%    93.81%
    """
    from charlm import load
    from charlm.errors import InputError

    reading: dict[str, Any] = {
        "field": None if field is None else parse_field(field),
        "encoding": encoding,
        "strict": strict,
        "note": note,
    }
    settings: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    if samples is None and any(value is not None for value in (*settings.values(), seed)):
        raise InputError("--temperature, --top-k, --top-p, --min-p and --seed belong to --samples: give it as well")
    if samples is not None and (baseline or dynamic or (learning_rate, decay) != (None, None)):
        raise InputError(
            "--samples measures writing; --baseline and --dynamic measure prediction: give one of them"
        )
    ranks: Ranks = ctx.obj
    if samples is not None and ranks.size > 1:
        raise InputError("several processes do not divide --samples; leave out torchrun")
    lm = load(run, device=device or "auto", threads=threads)
    if samples is not None:
        writing = lm.evaluate_writing(samples, paths or None, seed=seed or 0, **settings, **reading)
        show_writing(writing, as_json=output is Format.JSON)
        return
    evaluation = lm.evaluate(
        paths or None,
        dynamic=dynamic,
        learning_rate=learning_rate,
        decay=decay,
        baseline=baseline,
        ranks=ranks,
        **reading,
    )
    if not ranks.leads:
        return
    result = {name: value for name, value in dataclasses.asdict(evaluation).items() if value is not None}
    if output is Format.JSON:
        print(json_line(result))
    else:
        rows = [(name, _format_figure(name, n)) for name, n in result.items()]
        print("\n".join(fit_table(rows, "<>", terminal_width(sys.stdout), min_name=None)))


def _format_figure(name: str, number: float) -> str:
    if isinstance(number, int):
        return f"{number:,}"
    if math.isnan(number):
        return "-"  # the mean of nothing
    return f"{number:g}" if name in ("dynamic_learning_rate", "dynamic_decay") else f"{number:.4f}"
