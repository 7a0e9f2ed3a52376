"""`charlm train`: from a text to a model, with progress on standard error."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charlm.cli import options
from charlm.cli.render import console, duration, note, printable

if TYPE_CHECKING:
    from charlm.training.trainer import Metrics, StepReport


def train(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG.yaml", help="A configuration; or give --corpus.")
    ] = None,
    assign: options.Set = None,
    corpus: options.Corpus = None,
    budget: options.Budget = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="RUN", help="The run folder; by default runs/NAME.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out where it stopped.")] = False,
    from_run: Annotated[
        Path | None,
        typer.Option("--from", metavar="RUN", help="Begin with the weights of this run, on another text."),
    ] = None,
    device: options.DeviceOption = None,
    threads: options.Threads = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress; errors only.")] = False,
) -> None:
    """Train a model and save the best one; prints the run folder.

    Ctrl-C and SIGTERM save the work first; --resume goes on, exactly. SIGUSR1 saves and goes on. --from begins with
    a trained model: characters are matched one by one, new ones are added, and the first line says which.

    \b
    $ charlm train configs/quickstart.yaml --budget 60s
    runs/quickstart
    $ charlm train --corpus my.txt --budget 3m --out runs/mine
    runs/mine
    $ charlm train --resume --out runs/mine --budget 10m
    $ charlm train --from runs/mine --corpus letters.txt --budget 1m --out runs/letters
    from runs/mine: 61 characters known; 2 new: 'é' '—'; 3 no longer used: '!' 'Q' 'Z'
    """
    from charlm.run import train as start

    changes = options.assignments(assign)
    with _Display(quiet) as display:
        run = start(
            config,
            corpus=corpus,
            budget=budget,
            out=out,
            resume=resume,
            from_run=from_run,
            device=device,
            threads=threads,
            overrides=changes,
            observer=display,
        )
    if not quiet and display.best is not None:
        note(f"best: {_loss(display.best)}; now try `charlm sample {run.folder}`")
    typer.echo(str(run.folder))


def _loss(metrics: Metrics) -> str:
    if metrics.validation_loss is None:
        return f"training loss {metrics.train_loss:.4f} nats, {metrics.bits_per_character:.3f} bits a character"
    return f"validation {metrics.validation_loss:.4f} nats, {metrics.bits_per_character:.3f} bits a character"


class _Display:
    """Shows a line that moves while training runs, and a line and a sample for each evaluation."""

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
            f"{duration(report.seconds_left)} left",
        )

    def on_evaluation(self, metrics: Metrics, sample: str, is_best: bool) -> None:
        if is_best:
            self.best = metrics
        if self._quiet:
            return
        validation = "" if metrics.validation_loss is None else f"  validation {metrics.validation_loss:.4f}"
        self._console.print(
            f"{duration(metrics.seconds):>7}  step {metrics.step:,}  epoch {metrics.epoch:.2f}  "
            f"train {metrics.train_loss:.4f}{validation}  {metrics.bits_per_character:.3f} bits/char  "
            f"{metrics.characters_per_second:,.0f} char/s" + ("  *best" if is_best else "")
        )
        shown = [line for line in sample.splitlines() if line.strip()][:2]
        for line in shown:
            self._console.print("         | " + printable(line)[:90], style="dim")

    def on_note(self, note: str) -> None:
        if not self._quiet:
            self._console.print(printable(note))
