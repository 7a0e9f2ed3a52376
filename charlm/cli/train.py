"""`charlm train`: train a model, with progress on standard error."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charlm.cli import options
from charlm.cli.layout import cut, keep_most_important, terminal_width
from charlm.cli.render import (
    console,
    format_duration,
    note,
    printable,
    program_name,
    remark_lines,
)
from charlm.errors import InputError
from charlm.system.distributed import is_follower
from charlm.system.shell import quote_path

if TYPE_CHECKING:
    from charlm.training.reports import Metrics, StepReport

_SAMPLE_LINES = 2  # shown of each sample
_BAR_CELLS = 20  # at most, or a fifth of the terminal
_NARROW_CELLS = 60  # on a narrower terminal than this, samples are indented less
_FIRST_LINE_SECONDS, _LINE_SECONDS = 10, 30  # of progress, where no bar can be drawn


def train(
    config: Annotated[
        Path | None,
        typer.Argument(
            metavar="CONFIG",
            help="The configuration: a YAML file, or config:NAME for one that `charlm config list` shows. It is "
            "not needed with --corpus.",
        ),
    ] = None,
    corpus: options.CorpusOption = None,
    budget: options.BudgetOption = None,
    assign: options.SetOption = None,
    out: Annotated[
        Path | None,
        options.run_folder_option(
            "--out", metavar="RUN", help="Write the run to this folder (default: runs/NAME)."
        ),
    ] = None,
    resume: Annotated[
        bool,
        options.run_folder_option("--resume", help="Continue the run in --out where it stopped."),
    ] = False,
    from_run: Annotated[
        Path | None,
        options.run_folder_option(
            "--from", metavar="RUN", help="Start a new run on another text, from the weights of this run."
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
    work while training continues. --from starts from a trained model: characters that both texts have keep their
    weights, new characters are added, and the first line of the output lists the new and the unused ones. To train
    one model with N processes, run `torchrun --standalone --nproc-per-node N -m charlm train ...`.

    \b
    $ charlm train config:quickstart --budget 60s
    runs/quickstart
    $ charlm train --corpus my.txt --budget 1m --out runs/mine
    runs/mine
    $ charlm train --resume --out runs/mine --budget 10m
    $ charlm train --from runs/mine --corpus letters.txt --out runs/letters
    from runs/mine: 61 characters known; 2 new: 'é' '—'; 1 no longer used: 'Q'
    """
    from charlm.training.signals import catch_signals

    with catch_signals():  # while torch is loaded; from there on training itself does
        from charlm.run import train as train_model
    overrides = options.parse_assignments(assign)
    _refuse_unquoted(config, budget)
    with _Display(quiet or is_follower()) as display:
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
        note(f"best {_describe_loss(display.best)}")
        # On a line of its own, and never wrapped: it is there to be copied.
        print(f"try: {_sample_command(run.folder)}", file=sys.stderr)
    typer.echo(str(run.folder))


def _refuse_unquoted(config: Path | None, budget: str | None) -> None:
    """Says how to pass an amount of two words whose second was taken for a configuration."""
    from charlm.config import parse_amount

    if config is None or budget is None or config.exists():
        return
    with suppress(ValueError):
        parse_amount(f"{budget} {config}")
        raise InputError(
            f"--budget {budget} {config}: put an amount with a space in quotes: --budget '{budget} {config}'"
        )


def evaluation_line(metrics: Metrics, is_best: bool, width: int | None) -> str:
    """Returns one line on an evaluation, as much of it as fits."""
    best, loss = "*best", metrics.validation_loss
    parts = [
        (8, f"{format_duration(metrics.seconds):>7}"),
        (3, f"step {metrics.step:,}"),
        (1, f"epoch {metrics.epoch:.2f}"),
        (4, f"train {metrics.train_loss:.4f}"),
        (7, "" if loss is None else f"validation {loss:.4f}"),
        (5, f"{metrics.bits_per_character:.3f} bits/char"),
        (2, f"{metrics.characters_per_second:,.0f} char/s"),
        (6, best),  # kept room for in each line, so that all show the same
    ]
    line = keep_most_important(parts, width)
    return line if is_best else line.removesuffix(best).rstrip()


def _describe_loss(metrics: Metrics) -> str:
    name, loss = "validation loss", metrics.validation_loss
    if loss is None:
        name, loss = "training loss", metrics.train_loss
    return f"{name}: {loss:.4f} nats per character ({metrics.bits_per_character:.3f} bits)"


def _sample_command(folder: Path) -> str:
    """Returns the command, quoted for the shell, that writes text with a run."""
    return f"{program_name()} sample {quote_path(folder)}"


class _Display:
    """Observes training: shows a progress bar, and a line and a sample for each evaluation.

    On a terminal each line fits its width; in a pipe or a file nothing is left out. Where no bar can be drawn, a
    line of progress comes now and then.
    """

    def __init__(self, quiet: bool, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self.best: Metrics | None = None
        self._quiet = quiet
        self._clock = clock
        self._next_line = clock() + _FIRST_LINE_SECONDS
        self._console = console(stderr=True)
        self._bar = BarColumn(bar_width=_BAR_CELLS)
        self._progress = Progress(
            self._bar,
            TextColumn("{task.description}"),
            console=self._console,
            transient=True,
            disable=quiet or not sys.stderr.isatty() or self._console.is_dumb_terminal,
            refresh_per_second=4,
        )
        self._task = self._progress.add_task(cut("reading the corpus", self._room_beside_bar()), total=1.0)

    def __enter__(self) -> _Display:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    @property
    def _width(self) -> int | None:
        return terminal_width(sys.stderr)

    def _room_beside_bar(self) -> int:
        """Makes the bar fit the terminal, which may have changed its size; returns the cells left for text."""
        width = self._console.width if self._width is None else self._width
        self._bar.bar_width = min(_BAR_CELLS, width // 5)
        return max(1, width - self._bar.bar_width - 2)  # a space, and one cell at the end that stays empty

    def on_step(self, report: StepReport) -> None:
        if self._quiet or (self._progress.disable and self._clock() < self._next_line):
            return
        parts = [
            (6, f"{report.fraction:4.0%}"),
            (5, f"loss {report.train_loss:.3f}"),
            (3, f"{report.train_loss / math.log(2):.2f} bits/char"),
            (4, f"{report.characters_per_second:,.0f} char/s"),
            (2, f"lr {report.learning_rate:.1e}"),
            (1, f"|g| {report.gradient_norm:.2f}"),
            (7, f"{format_duration(report.seconds_left)} left"),
        ]
        if self._progress.disable:
            self._next_line = self._clock() + _LINE_SECONDS
            self._print(keep_most_important(parts, self._width))
            return
        description = keep_most_important(parts, self._room_beside_bar())
        self._progress.update(self._task, completed=report.fraction, description=description)

    def on_evaluation(self, metrics: Metrics, sample: str, is_best: bool) -> None:
        if is_best:
            self.best = metrics
        if self._quiet:
            return
        width = self._width
        self._print(evaluation_line(metrics, is_best, width))
        head = "         | " if width is None or width >= _NARROW_CELLS else "  | "
        for text in [text for text in sample.splitlines() if text.strip()][:_SAMPLE_LINES]:
            self._print(cut(head + printable(text), width), style="dim")

    def on_note(self, note: str) -> None:
        if self._quiet:
            return
        for line in remark_lines(note, self._width):
            self._print(line)

    def _print(self, line: str, style: str | None = None) -> None:
        self._console.print(line, style=style)
