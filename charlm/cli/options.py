"""Options that several commands share, each written once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from charlm.scoring.measures import Measure

Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, as `charlm train` writes it.")]
Config = Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="A configuration.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set a key, such as model.hidden_size=128. Repeatable."),
]
Corpus = Annotated[
    list[str] | None,
    typer.Option("--corpus", metavar="PATH", help="Text to learn from, instead of corpus.path. Repeatable."),
]
Budget = Annotated[
    str | None,
    typer.Option("--budget", metavar="AMOUNT", help="3m, 1h30m, 20 epochs, 5000 steps, 10M characters."),
]


class Device(StrEnum):
    """Where to compute."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


DeviceOption = Annotated[
    Device | None, typer.Option("--device", help="Where to compute; auto: CUDA if there is one, else the CPU.")
]
Threads = Annotated[int | None, typer.Option("--threads", metavar="N", help="CPU threads.")]
MeasureOption = Annotated[
    Measure,
    typer.Option("--measure", help="What to compare by; mean, penlp and slor are fairer to long sentences."),
]


def assignments(values: list[str] | None) -> dict[str, Any]:
    """Reads every `--set KEY=VALUE`."""
    from charlm.config import parse_assignment

    return dict(parse_assignment(value) for value in values or [])
