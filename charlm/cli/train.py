"""`charlm train`: train a model, with progress on standard error."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charlm.cli import options
from charlm.cli.render import console, format_duration, note, printable

if TYPE_CHECKING:
    from charlm.training.reports import Metrics, StepReport

_SAMPLE_LINES = 2  # shown of each sample
_SAMPLE_LINE_CHARACTERS = 90  # shown of each of these lines


def train(
    config: Annotated[
        Path | None,
        typer.Argument(metavar="CONFIG.yaml", help="The configuration file; not needed if --corpus is given."),
    ] = None,
    corpus: options.CorpusOption = None,
    budget: options.BudgetOption = None,
    assign: options.SetOption = None,
    out: Annotated[
        Path | None,
        options.run_folder_option(
            "--out", metavar="RUN", help="Write the run into this folder (default: runs/NAME)."
        ),
    ] = None,
    resume: Annotated[
        bool,
        options.run_folder_option("--resume", help="Continue the run in --out where it stopped."),
    ] = False,
    from_run: Annotated[
        Path | None,
        options.run_folder_option(
            "--from", metavar="RUN", help="Start from the weights of this run, on another text."
        ),
    ] = None,
    quiet: Annotated[
        bool,
        options.output_option("--quiet", "-q", help="Print errors only, without progress."),
    ] = False,
    device: options.DeviceOption = None,
    threads: options.ThreadsOption = None,
) -> None:
    """Train a model, keep the best weights and print the run folder.

    Ctrl-C and SIGTERM save the work and stop; --resume continues exactly where training stopped. SIGUSR1 saves the
    work while training continues. --from starts from a trained model: its characters are matched with those of the
    new text, new ones are added, and the first line names both kinds.

    \b
    $ charlm train configs/quickstart.yaml --budget 60s
    runs/quickstart
    $ charlm train --corpus my.txt --budget 3m --out runs/mine
    runs/mine
    $ charlm train --resume --out runs/mine --budget 10m
    $ charlm train --from runs/mine --corpus letters.txt --out runs/letters
    from runs/mine: 61 characters known; 2 new: 'é' '—'; 1 no longer used: 'Q'
    """
    from charlm.run import train as train_model

    overrides = options.parse_assignments(assign)
    with _Display(quiet) as display:
        run = train_model(
            config,
            corpus=corpus,
            budget=budget,
            out=out,
            resume=resume,
            from_run=from_run,
            device=device,
            threads=threads,
            overrides=overrides,
            observer=display,
        )
    if not quiet and display.best is not None:
        note(f"best {_describe_loss(display.best)}; try `charlm sample {run.folder}`")
    typer.echo(str(run.folder))


def _describe_loss(metrics: Metrics) -> str:
    name, loss = "validation loss", metrics.validation_loss
    if loss is None:
        name, loss = "training loss", metrics.train_loss
    return f"{name}: {loss:.4f} nats per character ({metrics.bits_per_character:.3f} bits)"


class _Display:
    """Observes training: shows a progress bar, and a line and a sample for each evaluation."""

    def __init__(self, quiet: bool) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self.best: Metrics | None = None
        self._quiet = quiet
        self._console = console(stderr=True)
        self._progress = Progress(
            BarColumn(bar_width=20),
            TextColumn("{task.description}"),
            console=self._console,
            transient=True,
            disable=quiet or not self._console.is_terminal,
            refresh_per_second=4,
        )
        self._task = self._progress.add_task("reading the corpus", total=1.0)

    def __enter__(self) -> _Display:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def on_step(self, report: StepReport) -> None:
        self._progress.update(
            self._task,
            completed=report.fraction,
            description=f"{report.fraction:4.0%}  loss {report.train_loss:.3f}  "
            f"{report.train_loss / math.log(2):.2f} bits/char  {report.characters_per_second:,.0f} char/s  "
            f"lr {report.learning_rate:.1e}  |g| {report.gradient_norm:.2f}  "
            f"{format_duration(report.seconds_left)} left",
        )

    def on_evaluation(self, metrics: Metrics, sample: str, is_best: bool) -> None:
        if is_best:
            self.best = metrics
        if self._quiet:
            return
        validation = "" if metrics.validation_loss is None else f"  validation {metrics.validation_loss:.4f}"
        self._console.print(
            f"{format_duration(metrics.seconds):>7}  step {metrics.step:,}  epoch {metrics.epoch:.2f}  "
            f"train {metrics.train_loss:.4f}{validation}  {metrics.bits_per_character:.3f} bits/char  "
            f"{metrics.characters_per_second:,.0f} char/s" + ("  *best" if is_best else "")
        )
        for line in [line for line in sample.splitlines() if line.strip()][:_SAMPLE_LINES]:
            self._console.print("         | " + printable(line)[:_SAMPLE_LINE_CHARACTERS], style="dim")

    def on_note(self, note: str) -> None:
        if not self._quiet:
            self._console.print(printable(note))
