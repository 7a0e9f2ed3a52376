"""How far the training of a run is, read from its files alone while another process may be writing them."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass

from charlm.config import TrainingConfig, parse_amount
from charlm.errors import RunError
from charlm.store.checkpoint import read_counters
from charlm.store.lock import find_holder
from charlm.store.run_folder import RunFolder
from charlm.training.budget import Progress
from charlm.training.reports import Metrics, load_metrics, read_samples

_ROUNDING = 1e-4  # of epochs, which metrics.jsonl has with four digits


@dataclass(frozen=True)
class Status:
    """How far a training is.

    Attributes:
        holder: who trains, such as `process 123 on host`; None: nobody does.
        evaluations: so far.
        sample: the step and the text of the last one; None: none yet.
        step: of the last evaluation, or the last checkpoint if that is younger.
        epoch: at that step, as far as it is known.
        seconds: of training, up to now.
        fraction: of the budget spent, 0 to 1; None: not known yet.
        seconds_left: expected; None: not known, or nobody trains.
        finished: whether the training has reached its end.
    """

    holder: str | None
    evaluations: list[Metrics]
    sample: tuple[int, str] | None
    step: int
    epoch: float | None
    seconds: float
    fraction: float | None
    seconds_left: float | None
    finished: bool


def read_status(folder: RunFolder, config: TrainingConfig | None, now: float | None = None) -> Status:
    """Reads how far the training of a run is.

    Args:
        folder: the run.
        config: the `training` section of its configuration; None while training has not written that yet.
        now: in seconds since 1970.

    Raises:
        RunError: the run is missing or damaged.
    """
    holder = find_holder(folder.lock)  # before all else: what nobody writes any more is read to its end
    if config is None:
        return Status(holder, [], None, 0, None, 0.0, None, None, finished=False)
    names = [field.name for field in dataclasses.fields(Metrics)]
    rows = [Metrics(**{name: row[name] for name in names}) for row in load_metrics(folder.path)]
    samples = read_samples(folder.path)
    progress, saved = _read_progress(folder)
    last = rows[-1] if rows else None
    if progress is None:
        step, seconds = (last.step, last.seconds) if last else (0, 0.0)
    else:
        step, seconds = progress.step, progress.seconds
        if last and last.step > step:  # evaluated, and being saved
            step, seconds = last.step, last.seconds
    epoch = last.epoch * step / last.step if last and last.step else None
    since = max(0.0, (time.time() if now is None else now) - saved) if holder and saved else 0.0
    fraction = _fraction(config, step, seconds, epoch, last, progress)
    left = None
    if holder and fraction:
        unit, amount = parse_amount(config.budget)
        total = amount if unit == "seconds" else seconds / fraction
        left = max(0.0, total - seconds - since)
        if unit == "seconds":
            fraction = min(1.0, (seconds + since) / amount)
    return Status(
        holder=holder,
        evaluations=rows,
        sample=samples[-1] if samples else None,
        step=step,
        epoch=epoch,
        seconds=seconds + since,
        fraction=fraction,
        seconds_left=left,
        finished=holder is None and _is_finished(config, fraction, progress),
    )


def _read_progress(folder: RunFolder) -> tuple[Progress | None, float]:
    """Returns the counters of the last checkpoint, and when it was written."""
    try:
        saved = folder.last.stat().st_mtime
    except OSError:
        return None, 0.0
    info = folder.read_last_info()
    if info is None:
        return None, 0.0
    try:
        return read_counters(Progress, info["progress"]), saved
    except (KeyError, ValueError) as error:
        raise RunError(f"{folder.last}: damaged checkpoint: {str(error)[:200]}") from None


def _fraction(
    config: TrainingConfig,
    step: int,
    seconds: float,
    epoch: float | None,
    last: Metrics | None,
    progress: Progress | None,
) -> float | None:
    """Returns how much of the budget is spent, 0 to 1; characters are taken to grow with the steps."""
    unit, amount = parse_amount(config.budget)
    characters = float(progress.symbols) if progress else None
    if last and last.step:
        characters = last.characters * step / last.step
    spent = {"seconds": seconds, "steps": step, "epochs": epoch, "characters": characters}[unit]
    return None if spent is None else min(1.0, spent / amount)


def _is_finished(config: TrainingConfig, fraction: float | None, progress: Progress | None) -> bool:
    if progress is None:  # nothing that training could go on from
        return True
    unit, amount = parse_amount(config.budget)
    if config.early_stopping is not None and progress.stale >= config.early_stopping:
        return True
    if unit == "seconds":  # which include the last evaluation
        return progress.seconds + progress.evaluation_seconds >= amount * (1 - _ROUNDING)
    return fraction is not None and fraction >= 1 - _ROUNDING
