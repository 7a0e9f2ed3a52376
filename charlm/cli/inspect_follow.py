"""`charlm inspect --follow`: watch a training from another terminal, by the files of its run."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.text import Text

from charlm.cli.layout import cut, terminal_width, wrap
from charlm.cli.render import CURVE_LABEL_CELLS, draw_curve, format_duration, note, printable
from charlm.cli.train import evaluation_line
from charlm.errors import RunError, TrainingError
from charlm.system.shell import quote_path

if TYPE_CHECKING:
    from charlm.training.reports import Metrics
    from charlm.training.status import Status

_POLL_SECONDS = 1.0
_CURVE_CELLS = 60  # at most
_CURVE_LINES = 3, 10  # at least and at most
_SAMPLE_LINES = 5  # at most
_GAP = "  "


def follow_training(run: Path, *, wait: Callable[[], None] = lambda: time.sleep(_POLL_SECONDS)) -> None:
    """Shows how a training goes until it has ended: at a terminal in place, elsewhere a line for each evaluation.

    Args:
        run: the run folder; nothing in it is changed.
        wait: waits before it is looked at again.

    Raises:
        RunError: the folder is missing or damaged, or vanishes.
        TrainingError: nobody trains the run, which is not finished.
    """
    console = Console(highlight=False, markup=False, emoji=False)
    states = _states(run, wait)
    if sys.stdout.isatty() and not console.is_dumb_terminal:
        status = _redraw(run, states, console)
    else:
        status = _print_lines(run, states)
    if not status.finished:
        raise TrainingError(
            f"{run}: no process is training this run, which stopped at step {status.step:,}; "
            f"continue it with `charlm train --resume --out {quote_path(run)}`"
        )


def _states(run: Path, wait: Callable[[], None]) -> Iterator[Status]:
    """Yields how the training is, again and again, until nobody trains."""
    from charlm.store.lock import find_holder
    from charlm.store.run_folder import RunFolder
    from charlm.store.trained import load_run_config
    from charlm.training.status import read_status

    folder = RunFolder(run)
    seen = False
    while True:
        if seen and not os.path.isdir(run):
            raise RunError(f"{run}: the run folder was removed")
        preparing = not folder.config.exists() and find_holder(folder.lock) is not None
        status = read_status(folder, None if preparing else load_run_config(folder).training_of_each)
        seen = True
        yield status
        if status.holder is None and not preparing:
            return
        wait()


# ---------------------------------------------------------------------------------------------- without a terminal


def _print_lines(run: Path, states: Iterable[Status]) -> Status:
    """Prints a line for each evaluation, those before this one first; returns how it was in the end."""
    shown, best, said = -1, float("inf"), ""
    for status in states:
        if (said or status.finished) != (said := _describe_state(status).partition(",")[0]):
            note(f"{run}: {_describe_state(status)}")
        for metrics in status.evaluations:
            if metrics.step <= shown:
                continue
            is_best = metrics.validation_loss is None or metrics.validation_loss < best
            if is_best and metrics.validation_loss is not None:
                best = metrics.validation_loss
            print(evaluation_line(metrics, is_best, terminal_width(sys.stdout)), flush=True)
            shown = metrics.step
    return status


# --------------------------------------------------------------------------------------------------- at a terminal


def _redraw(run: Path, states: Iterable[Status], console: Console) -> Status:
    """Shows the training in place; returns how it was in the end, which stays on the screen."""
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        for status in states:
            width = terminal_width(sys.stdout) or console.width
            lines = _frame(run, status, width, shutil.get_terminal_size().lines)
            live.update(Text("\n", no_wrap=True, overflow="crop").join(lines), refresh=True)
    return status


def _frame(run: Path, status: Status, width: int, height: int) -> list[Text]:
    """Returns the lines that show a training; none is wider than the terminal, nor are they more than it has."""
    lines = [Text(line, "bold") for line in wrap(f"{printable(str(run))}: {_describe_state(status)}", width, 2)]
    last = status.evaluations[-1] if status.evaluations else None
    lines += map(Text, _flow(_counts(status), width))
    if last is None:
        lines.append(Text(cut("no evaluation yet", width), "dim"))
    else:
        lines += map(Text, _flow(_numbers(last, status.evaluations), width))
    end = [Text(cut("Ctrl-C stops watching, not the training", width), "dim")] if status.holder else []
    sample = _sample(status, width)
    room = height - 1 - len(lines) - len(end) - len(sample) - 2  # a line above the curve names it
    if room < _CURVE_LINES[0]:  # the curve is worth more than the sample
        room, sample = room + len(sample), []
    if len(status.evaluations) > 1 and room >= _CURVE_LINES[0]:
        lines += _curve(status.evaluations, width, min(room, _CURVE_LINES[1]))
    return [*lines, *sample, *end]


def _describe_state(status: Status) -> str:
    if status.holder is None:
        took = format_duration(status.seconds)
        return (
            f"finished after {took}" if status.finished else f"stopped after {took}, and no process is training it"
        )
    if not status.step:
        return f"starting ({status.holder})"
    parts = [f"training ({status.holder})"]
    if status.fraction is not None:
        parts.append(f"{min(status.fraction, 0.99):.0%} done")
    if status.seconds_left is not None:
        parts.append(f"{format_duration(status.seconds_left)} left")
    return ", ".join(parts)


def _counts(status: Status) -> list[str]:
    epoch = [] if status.epoch is None else [f"epoch {status.epoch:.2f}"]
    return [f"step {status.step:,}", *epoch, f"{format_duration(status.seconds)} of training"]


def _numbers(last: Metrics, evaluations: list[Metrics]) -> list[str]:
    best = min(loss for _, loss in _losses(evaluations))
    loss = last.validation_loss
    return [
        f"train {last.train_loss:.4f}",
        *([] if loss is None else [f"validation {loss:.4f}"]),
        f"best {best:.4f}",
        f"{last.bits_per_character:.3f} bits/char",
        f"{last.characters_per_second:,.0f} char/s",
        f"lr {last.learning_rate:.1e}",
        f"|g| {last.gradient_norm:.2f}",
    ]


def _losses(evaluations: list[Metrics]) -> list[tuple[float, float]]:
    return [(m.characters, m.train_loss if m.validation_loss is None else m.validation_loss) for m in evaluations]


def _curve(evaluations: list[Metrics], width: int, height: int) -> list[Text]:
    name = "training" if evaluations[-1].validation_loss is None else "validation"
    cells = max(10, min(_CURVE_CELLS, width - CURVE_LABEL_CELLS - 1))
    heading = f"{name} loss, nats per character"
    curve = draw_curve(_losses(evaluations), width=cells, height=height)
    return [Text(""), Text(cut(heading, width)), *(Text(cut(line, width)) for line in curve)]


def _sample(status: Status, width: int) -> list[Text]:
    if status.sample is None:
        return []
    step, text = status.sample
    mark = "  | "
    lines = [
        part for line in text.splitlines() if line.strip() for part in wrap(printable(line), width - len(mark))
    ]
    head = Text(cut(f"written at step {step:,}:", width))
    return [Text(""), head, *(Text(cut(mark + line, width), "dim") for line in lines[:_SAMPLE_LINES])]


def _flow(parts: Iterable[str], width: int) -> list[str]:
    """Sets parts side by side as they fit, in as many lines as they need."""
    lines: list[str] = []
    for part in parts:
        if lines and cell_len(lines[-1] + _GAP + part) <= width:
            lines[-1] += _GAP + part
        else:
            lines.append(part)
    return [cut(line, width) for line in lines]
