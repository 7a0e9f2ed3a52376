"""`charlm export`: the network of a run for other runtimes."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charlm.cli import options
from charlm.cli.render import note
from charlm.errors import InputError

if TYPE_CHECKING:
    from charlm.export.network import Figures


class Target(StrEnum):
    """What a network is exported to."""

    ONNX = "onnx"
    HF = "hf"


_NAMES = {Target.ONNX: "model.onnx", Target.HF: "hf"}  # in the run folder


def export(
    run: options.RunArgument,
    to: Annotated[
        Target,
        options.output_option(
            "--to",
            help="Choose the format: onnx, a file for ONNX runtimes, or hf, a folder for Hugging Face "
            "transformers.",
        ),
    ],
    out: Annotated[
        Path | None,
        options.output_option(
            "--out",
            metavar="PATH",
            help="Write to this file or folder (default: model.onnx or hf in the run folder).",
        ),
    ] = None,
    quiet: Annotated[
        bool, options.output_option("--quiet", "-q", help="Print errors only, without notes.")
    ] = False,
) -> None:
    """Export the network of a run to ONNX or Hugging Face transformers.

    Only the network and its vocabulary are exported, not the models that are mixed with it or the training text.

    \b
    $ charlm export runs/quickstart --to onnx --quiet
    runs/quickstart/model.onnx
    $ charlm export runs/quickstart --to hf --out river-model
    """
    path = out or run / _NAMES[to]
    if path.exists() or path.is_symlink():
        raise InputError(f"{path}: already exists; remove it, or give another name with --out")
    if out is not None and not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no such folder: {out.parent}")
    if to is Target.ONNX:
        from charlm.export.onnx_model import check_onnx

        check_onnx()
    from charlm import load
    from charlm.export.network import exported_config, measure_figures

    lm = load(run, device="cpu")
    exported_config(lm)  # a network that cannot be exported speaks up before any work
    figures = measure_figures(lm, (lambda message: None) if quiet else note)
    if to is Target.ONNX:
        from charlm.export.onnx_model import write_onnx

        write_onnx(lm, figures, path)
    else:
        from charlm.export.hugging_face import write_folder

        write_folder(lm, figures, path)
    if not quiet:
        note(_describe(figures, is_mixture=len(lm.mixture.experts) > 1))
    typer.echo(str(path))


def _describe(figures: Figures, is_mixture: bool) -> str:
    """Says in one line how good the network is that was exported."""
    if figures.network is None:
        what = "the network alone" if is_mixture else "the network"
        return f"{what} was exported; its loss was not measured, because {figures.missing}"
    said = f"{figures.network:.4f} nats per character of {figures.text}"
    if figures.mixture is None:
        return f"the network was exported; it has {said}"
    return f"only the network was exported; it has {said}, and the mixture has {figures.mixture:.4f}"
