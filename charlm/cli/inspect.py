"""`charlm inspect`: show what a run folder contains."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from charlm.cli import options
from charlm.cli.evaluate import Format
from charlm.cli.inspect_follow import follow_training
from charlm.cli.inspect_gradients import show_gradients
from charlm.cli.layout import fit_table, terminal_width, wrap_lines
from charlm.cli.render import CURVE_LABEL_CELLS, draw_curve, format_duration, printable
from charlm.errors import InputError
from charlm.system.counts import count_of

if TYPE_CHECKING:
    from charlm.language_model import LanguageModel

_gradients_option = options.option_group("Gradients")
_DEFAULT_LAGS = 60
_MOST_LAGS = 1000


def inspect(
    run: options.RunArgument,
    follow: Annotated[
        bool,
        options.output_option(
            "--follow", "-f", help="Watch the run while another terminal trains it; Ctrl-C stops watching."
        ),
    ] = False,
    gradients: Annotated[
        bool,
        _gradients_option(
            "--gradients", help="Show how far gradients reach back in time, before and after training, instead."
        ),
    ] = False,
    text: Annotated[
        list[str] | None,
        _gradients_option(
            "--text",
            metavar="PATH",
            help="Measure on this text instead of the run's validation split. Repeatable.",
        ),
    ] = None,
    lags: Annotated[
        int | None,
        _gradients_option(
            "--lags",
            metavar="K",
            min=2,
            max=_MOST_LAGS,
            help=f"Go back as far as K characters (default: {_DEFAULT_LAGS}).",
        ),
    ] = None,
    output: Annotated[
        Format | None, _gradients_option("--format", help="Print tables and curves, or one JSON object.")
    ] = None,
    out: Annotated[
        Path | None,
        _gradients_option("--out", metavar="FILE", help="Also draw the plots into this SVG or PNG file."),
    ] = None,
    encoding: options.EncodingOption = "utf-8",
) -> None:
    """Show the architecture, training curve and gradients of a run.

    \b
    $ charlm inspect runs/quickstart
    LSTM, 1 layer, hidden size 256, one-hot input of 64, softmax over 64
    framing stream, character level, trained on corpus:english
    ...
    all                                   346,176
    ...
    best 1.2393 nats, last 1.2393, 41,937 characters/s

    \b
    $ charlm inspect runs/quickstart --follow
    $ charlm inspect runs/quickstart --gradients --out gradients.svg
    """
    if follow and gradients:
        raise InputError("give only one of --follow and --gradients")
    if not gradients and (text, lags, output, out, encoding) != (None, None, None, None, "utf-8"):
        raise InputError("--text, --lags, --format, --out and --encoding can only be used with --gradients; add it")
    if not text and encoding != "utf-8":
        raise InputError(
            "--encoding can only be used for a text that --text names; the run's own text is read as in training"
        )
    if follow:
        follow_training(run)
        return
    from charlm import load

    lm = load(run, device="cpu")
    if gradients:
        as_json = output is Format.JSON
        show_gradients(lm, text, lags=lags or _DEFAULT_LAGS, encoding=encoding, as_json=as_json, out=out)
    else:
        _show_run(lm, run)


def _show_run(lm: LanguageModel, run: Path) -> None:
    """Prints what a run is made of, and how it learnt."""
    from charlm.language_model import describe_network
    from charlm.training.reports import load_metrics

    width = terminal_width(sys.stdout)
    c = lm.config.corpus
    print(wrap_lines(describe_network(lm), width))
    path = c.path if isinstance(c.path, str) else ", ".join(c.path)
    print(wrap_lines(f"framing {c.framing}, {c.level} level, trained on {printable(path)}", width) + "\n")
    weights = lm.mixture.network.arrays()
    rows = [(name, str(value.shape), f"{value.size:,}") for name, value in weights.items()]
    rows.append(("all", "", f"{sum(value.size for value in weights.values()):,}"))
    if (networks := lm.config.model.networks) > 1:
        rows.append((f"all of {networks} networks", "", f"{lm.mixture.parameters:,}"))
    print("\n".join(fit_table(rows, "<<>", width, min_name=None)))
    experts, powers = lm.mixture.experts, lm.mixture.powers
    if len(experts) > 1:
        print("\n" + wrap_lines("mixture: the exponent of each expert, by the length of the known context", width))
        table = [["known", *(expert.name for expert in experts)]]
        for kind, row in zip(lm.mixture.kind_names(), powers.tolist(), strict=True):
            table.append([kind, *(f"{power:.2f}" for power in row)])
        print("\n".join(fit_table(table, "<" + ">" * len(experts), width)))
    metrics = load_metrics(run)
    points = [(row["characters"], row["validation_loss"] or row["train_loss"]) for row in metrics]
    if not points:
        return
    name = "validation loss" if metrics[-1]["validation_loss"] else "training loss"
    best = min(loss for _, loss in points)
    time = format_duration(metrics[-1]["seconds"])
    heading = f"{name}, nats per character, over {count_of(points[-1][0], 'character')} and {time}"
    print("\n" + wrap_lines(heading, width))
    print("\n".join(draw_curve(points, width=60 if width is None else max(10, min(60, width - CURVE_LABEL_CELLS)))))
    speed = metrics[-1]["characters_per_second"]
    print(wrap_lines(f"best {best:.4f} nats, last {points[-1][1]:.4f}, {speed:,.0f} characters/s", width))
