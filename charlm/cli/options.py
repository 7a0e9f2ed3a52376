"""Arguments and options that several commands share, and the groups in which help lists options."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from charlm.scoring.measures import Measure
from charlm.system.encodings import check_encoding


def option_group(title: str) -> Callable[..., Any]:
    """Returns `typer.Option` for options that help lists below a title."""
    return partial(typer.Option, rich_help_panel=title)


configuration_option = option_group("Corpus and configuration")
run_folder_option = option_group("Run folder")
input_option = option_group("Input")
scoring_option = option_group("Scoring")
sampling_option = option_group("Sampling")
output_option = option_group("Output")
hardware_option = option_group("Hardware")


def _check_encoding(name: str) -> str:
    from charlm.errors import InputError

    try:
        return check_encoding(name)
    except ValueError as error:
        raise InputError(f"--encoding {error}") from None


class Device(StrEnum):
    """A device to compute on."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="The run folder that `charlm train` wrote.")]
ConfigArgument = Annotated[
    Path,
    typer.Argument(
        metavar="CONFIG",
        help="The configuration: a YAML file, or config:NAME for one that `charlm config list` shows.",
    ),
]
CorpusOption = Annotated[
    list[str] | None,
    configuration_option("--corpus", metavar="PATH", help="Train on this text instead of corpus.path. Repeatable."),
]
BudgetOption = Annotated[
    str | None,
    configuration_option(
        "--budget",
        metavar="AMOUNT",
        help="Train for this long, for example 3m, 1h30m, 20 epochs, 5000 steps or 10M characters.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    configuration_option(
        "--set", metavar="KEY=VALUE", help="Set a configuration key, for example model.hidden_size=128. Repeatable."
    ),
]
FieldOption = Annotated[
    str | None,
    input_option(
        "--field",
        metavar="NAME|NUMBER",
        help="Read this column of JSON lines, CSV, TSV or Kaldi text, by its name or its number, counted from 1.",
    ),
]
MeasureOption = Annotated[
    Measure,
    scoring_option(
        "--measure", help="Compare sentences by this measure; mean, penlp and slor are fairer to long sentences."
    ),
]
TemperatureOption = Annotated[
    float | None,
    sampling_option(
        "--temperature", help="Divide the logits by this number; 0 always chooses the most probable character."
    ),
]
TopKOption = Annotated[
    int | None, sampling_option("--top-k", help="Draw only from the K most probable characters.")
]
TopPOption = Annotated[
    float | None,
    sampling_option(
        "--top-p",
        help="Draw only from the smallest set of most probable characters whose probabilities sum to this.",
    ),
]
MinPOption = Annotated[
    float | None,
    sampling_option(
        "--min-p", help="Draw only from characters at least this fraction as probable as the most probable one."
    ),
]
EncodingOption = Annotated[
    str,
    input_option(
        "--encoding",
        metavar="NAME",
        callback=_check_encoding,
        help="Decode files and standard input with this encoding, for example gb18030; auto recognises it.",
    ),
]
DeviceOption = Annotated[
    Device | None,
    hardware_option(
        "--device", help="Compute on this device; auto selects CUDA if it is available, and otherwise the CPU."
    ),
]
ThreadsOption = Annotated[
    int | None,
    hardware_option("--threads", metavar="N", help="Use N CPU threads."),
]


def parse_assignments(values: list[str] | None) -> dict[str, Any]:
    """Reads the values of `--set`, each KEY=VALUE."""
    from charlm.config import parse_assignment

    return dict(parse_assignment(value) for value in values or [])


def configuration_overrides(
    corpus: list[str] | None, budget: str | None, assign: list[str] | None
) -> dict[str, Any]:
    """Returns what `--corpus`, `--budget` and `--set` change in a configuration, by dotted key."""
    overrides = parse_assignments(assign)
    if corpus:
        overrides["corpus.path"] = corpus
    if budget:
        overrides["training.budget"] = budget
    return overrides
