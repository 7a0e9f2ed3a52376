"""`charlm compare`: train cells side by side, or compare runs that exist."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlm.cli import options
from charlm.cli.compare_formats import Format, print_comparison
from charlm.cli.render import note
from charlm.errors import InputError
from charlm.system.shell import quote_path

if TYPE_CHECKING:
    from charlm.analysis.comparison import PlannedTraining

_training_option = options.option_group("Trainings")
_ALL_CELLS = "rnn,lstm,gru,gru-before"


class Match(StrEnum):
    """What all models have in common."""

    PARAMETERS = "parameters"


def compare(
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="CONFIG|RUN",
            help="A configuration (a file or config:NAME) with which each cell is trained, or two or more run "
            "folders.",
        ),
    ],
    cells: Annotated[
        str | None,
        _training_option("--cells", metavar="NAMES", help="Train these cells (default: rnn,lstm,gru,gru-before)."),
    ] = None,
    match: Annotated[
        Match | None,
        _training_option(
            "--match",
            help="Choose hidden sizes so that all cells have as many parameters as the cell of the configuration. "
            "Otherwise all have the same hidden size.",
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        _training_option(
            "--seeds", metavar="N", min=1, help="Train each cell with N seeds, and show mean and spread."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        _training_option(
            "--out",
            metavar="FOLDER",
            help="Write the runs to this folder (default: runs/compare-NAME). Runs there that are complete are "
            "kept.",
        ),
    ] = None,
    quiet: Annotated[bool, _training_option("--quiet", "-q", help="Print errors only, without progress.")] = False,
    corpus: options.CorpusOption = None,
    budget: options.BudgetOption = None,
    assign: options.SetOption = None,
    text: Annotated[
        Path | None,
        options.input_option(
            "--text", metavar="FILE", help="Show where two models differ on this text, character by character."
        ),
    ] = None,
    encoding: options.EncodingOption = "utf-8",
    prompt: Annotated[str, options.output_option("--prompt", help="Let each model continue this text.")] = "",
    length: Annotated[
        int, options.output_option("--length", metavar="N", min=1, help="Let each model write N characters.")
    ] = 50,
    output: Annotated[
        Format,
        options.output_option(
            "--format",
            help="Print a table, JSON with the learning curves, or TSV (with --text, one line for each character).",
        ),
    ] = Format.TABLE,
    device: options.DeviceOption = None,
    threads: options.ThreadsOption = None,
) -> None:
    """Compare cells or runs by size, speed, memory, loss and samples.

    Each cell is trained on the same corpus, split, seed and budget, one after the other, and is written to
    FOLDER/CELL. Ctrl-C saves the work and stops; the same command then continues it.

    \b
    $ charlm compare config:quickstart --set model.ngram=null --budget '4 epochs'
                hidden  parameters   char/s  memory  time    nats   bits
    rnn            256      98,880  101,041  437 MB   7 s  1.6353  2.359
    ...
    $ charlm compare config:quickstart --cells lstm,gru --seeds 2
    $ charlm compare runs/mine runs/letters --text held_out.txt
    """
    from charlm.analysis.comparison import find_unlike, measure_run, summarize
    from charlm.analysis.differences import subtract_surprisal
    from charlm.cli.compare_trainings import run_trainings
    from charlm.language_model import load

    training = {
        "--cells": cells, "--match": match, "--seeds": seeds, "--out": out, "--quiet": quiet or None,
        "--corpus": corpus, "--budget": budget, "--set": assign,
    }  # fmt: skip
    content = None if text is None else _read_text(text, encoding)
    groups: dict[str, list[Path]] = {}
    if _are_runs(targets, [name for name, value in training.items() if value is not None]):
        groups.update({target: [Path(target)] for target in targets})
    else:
        overrides = options.configuration_overrides(corpus, budget, assign)
        if device is not None:
            overrides["training.device"] = device.value
        planned = _plan(targets[0], overrides, out, cells, seeds, match)
        _check_two(content, len(planned))
        model = planned[0].config.model
        if model.mixed_in and not quiet:
            alone = "--set model.ngram=null" + (" --set model.words=false" if model.words else "")
            note(f"mixture: each network is mixed with {model.mixed_in}; add {alone} to compare the networks alone")
        run_trainings(planned, threads=threads, quiet=quiet)
        for each in planned:
            groups.setdefault(each.config.model.cell, []).append(each.folder.path)
    _check_two(content, sum(map(len, groups.values())))
    models = {
        name: [load(run, device=device or "auto", threads=threads) for run in runs] for name, runs in groups.items()
    }
    every = [lm for some in models.values() for lm in some]
    for remark in find_unlike(every):
        note(remark if content is not None else f"{remark}; measure both on one text with --text")
    rows = [
        summarize(name, [measure_run(lm, prompt=prompt, length=length) for lm in some])
        for name, some in models.items()
    ]
    difference = None if content is None else subtract_surprisal(every[0], every[1], content)
    print_comparison(rows, difference, prompt, output)


def _check_two(content: str | None, models: int) -> None:
    if content is not None and models != 2:
        raise InputError("--text shows where two models differ; name two runs, or two cells and one seed")


def _read_text(path: Path, encoding: str) -> str:
    from charlm.text.decoding import OPTION
    from charlm.text.reading import read_text

    return read_text([str(path)], encoding=encoding, remedy=OPTION, note=note)


def _are_runs(targets: Sequence[str], training: Sequence[str]) -> bool:
    """Says whether runs are named, not a configuration, and refuses what does not belong to them.

    Args:
        targets: what is named.
        training: the options of trainings that are given.
    """
    if len(targets) == 1 and not Path(targets[0]).is_dir():
        return False
    for target in targets:
        if target.startswith("config:") or target.endswith((".yaml", ".yml")):
            raise InputError(
                f"{target}: a configuration is compared alone; name this one alone, or only run folders"
            )
    if training:
        raise InputError(
            f"{training[0]} can only be used with a configuration; runs are compared as they are"
            if len(targets) > 1
            else f"{training[0]} can only be used with a configuration; to train cells as this run was trained, "
            f"name {quote_path(Path(targets[0]) / 'config.yaml')}"
        )
    if len(set(targets)) < len(targets) or len(targets) < 2:
        raise InputError("name two or more different runs, or a configuration to train each cell with")
    return True


def _plan(
    source: str,
    overrides: dict[str, Any],
    out: Path | None,
    cells: str | None,
    seeds: int | None,
    match: Match | None,
) -> list[PlannedTraining]:
    """Plans the trainings that the options ask for."""
    from charlm.analysis.comparison import plan_trainings
    from charlm.config import load_config

    config = load_config(Path(source), overrides)
    folder = out or Path("runs") / f"compare-{Path(source.removeprefix('config:')).stem}"
    names = [name.strip() for name in (_ALL_CELLS if cells is None else cells).split(",")]
    return plan_trainings(config, names, folder, seeds=seeds or 1, match_parameters=match is not None)
