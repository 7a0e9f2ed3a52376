"""The training loop: truncated backpropagation through time until the budget is spent.

It reads windows, makes steps, evaluates, saves, and can stop and go on at any step. It is given finished parts
(model, batches, optimiser) and plain values, and tells what happens through an observer; it prints nothing.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from charlm.errors import Interrupted, RunError, TrainingError
from charlm.model.network import CharacterModel, ModelState
from charlm.store.run_folder import RunFolder
from charlm.store.tensors import load_weights, unusable
from charlm.text.batches import IGNORE, Batches, Window
from charlm.training.budget import Amount, Progress
from charlm.training.gradient import GradientComputer
from charlm.training.optimization import schedule_factor
from charlm.training.restore import check_parts, counters, parts_of
from charlm.training.signals import Requests

_SAVE_SECONDS = 60.0  # between evaluations, what a kill can lose


@dataclass(frozen=True)
class Metrics:
    """One line of metrics.jsonl.

    Attributes:
        step: optimiser steps so far.
        characters: characters learnt from so far.
        epoch: passes over the training text so far.
        seconds: of training so far, evaluations included.
        train_loss: nats per character since the evaluation before.
        validation_loss: nats per character over the whole validation split; None without one.
        bits_per_character: the validation loss (without one, the training loss) over ln 2.
        learning_rate: at this step.
        gradient_norm: of the last step, before clipping.
        characters_per_second: of training alone since the evaluation before.
    """

    step: int
    characters: int
    epoch: float
    seconds: float
    train_loss: float
    validation_loss: float | None
    bits_per_character: float
    learning_rate: float
    gradient_norm: float
    characters_per_second: float


@dataclass(frozen=True)
class StepReport:
    """What a progress line shows after a step.

    Attributes:
        step: optimiser steps so far.
        fraction: of the budget spent, 0 to 1.
        epoch: passes over the training text so far.
        train_loss: nats per character since the last evaluation.
        learning_rate: of this step.
        gradient_norm: before clipping.
        characters_per_second: of training since the last evaluation.
        seconds_left: expected.
    """

    step: int
    fraction: float
    epoch: float
    train_loss: float
    learning_rate: float
    gradient_norm: float
    characters_per_second: float
    seconds_left: float


class Observer(Protocol):
    """Hears what happens in training."""

    def on_step(self, report: StepReport) -> None:
        """A step was made."""

    def on_evaluation(self, metrics: Metrics, sample: str, is_best: bool) -> None:
        """The model was evaluated and saved, and wrote `sample`."""

    def on_note(self, note: str) -> None:
        """Something a person should know: how the corpus was read, or that a signal's wish was met."""


@dataclass
class _Interval:
    """Sums since the last evaluation."""

    loss: float = 0.0
    symbols: int = 0
    seconds: float = 0.0


class Trainer:
    """Trains one model.

    Args:
        model: on its device.
        batches: the training text.
        optimizer: over the model's parameters, at its peak learning rate.
        budget: when to stop.
        interval: between evaluations.
        folder: where to save.
        validate: returns the validation loss in nats per character; None without a validation split.
        write_sample: returns what the model writes now.
        schedule: see `schedule_factor`.
        warmup: share of the budget.
        clip_norm: longest gradient, or None.
        early_stopping: evaluations without a better loss before stopping, or None.
        keep: checkpoints of so many evaluations stay.
        identity: what a resume compares, such as the configuration; saved with each checkpoint as it is.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        model: CharacterModel,
        batches: Batches,
        optimizer: torch.optim.Optimizer,
        *,
        budget: Amount,
        interval: Amount,
        folder: RunFolder,
        validate: Callable[[], float] | None,
        write_sample: Callable[[], str],
        schedule: str = "linear",
        warmup: float = 0.05,
        clip_norm: float | None = 1.0,
        early_stopping: int | None = None,
        keep: int = 1,
        identity: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model = model
        self.progress = Progress()
        self._batches = batches
        self._gradient = GradientComputer(model)
        self._optimizer = optimizer
        self._budget = budget
        self._every = interval
        self._folder = folder
        self._validate = validate
        self._write_sample = write_sample
        self._schedule = schedule
        self._warmup = warmup
        self._clip_norm = clip_norm
        self._early_stopping = early_stopping
        self._keep = keep
        self._identity = dict(identity or {})
        self._clock = clock
        self._peaks = [group["lr"] for group in optimizer.param_groups]
        self._state: ModelState | None = None
        self._interval = _Interval()
        self._learning_rate = 0.0
        self._gradient_norm = 0.0

    # ---------------------------------------------------------------------------------------------- the loop

    @property
    def fraction(self) -> float:
        """How much of the budget is spent, 0 to 1."""
        return min(1.0, self._budget.times_spent(self.progress, self.progress.evaluation_seconds))

    @property
    def finished(self) -> bool:
        """Whether the budget is spent, or early stopping has struck."""
        stale = self._early_stopping is not None and self.progress.stale >= self._early_stopping
        return stale or self.fraction >= 1

    def run(self, observer: Observer, requests: Requests | None = None) -> None:
        """Trains until the budget is spent.

        Raises:
            Interrupted: a signal asked to stop; everything is saved.
            TrainingError: the loss is not finite, or a file cannot be written; what was saved before is whole.
        """
        requests = requests or Requests()
        progress = self.progress
        windows = self._windows()
        last_saved = now = self._clock()
        evaluations = int(self._every.times_spent(progress))
        evaluated_at = -1
        self.model.train()
        while not self.finished:
            self._train_step(next(windows))
            before, now = now, self._clock()
            progress.seconds += now - before
            progress.training_seconds += now - before
            self._interval.seconds += now - before
            if int(self._every.times_spent(progress)) > evaluations or self.finished:
                self._evaluate(observer, now)
                evaluations = int(self._every.times_spent(progress))
                evaluated_at = progress.step
                last_saved = now = self._clock()
            else:
                observer.on_step(self._report())
                if now - last_saved > _SAVE_SECONDS:
                    self.save()
                    last_saved = self._clock()
            if requests.save:
                requests.save = False
                if evaluated_at != progress.step:
                    self.save()
                    last_saved = self._clock()
                observer.on_note(f"saved at step {progress.step}")
            if requests.stop is not None and not self.finished:
                if evaluated_at != progress.step:
                    self.save()
                raise Interrupted(
                    requests.stop,
                    f"stopped at step {progress.step} and saved; `charlm train --resume` with "
                    f"--out {self._folder.path} goes on from here",
                )
        if evaluated_at == progress.step:
            self.save()  # once more, so that a resume knows that the time is up

    def _windows(self) -> Iterator[Window]:
        progress = self.progress
        while True:
            yield from self._batches.epoch(progress.epoch, progress.window)
            progress.epoch += 1
            progress.window = 0

    def _train_step(self, window: Window) -> None:
        """Moves the weights once, down the gradient of the window's mean cross-entropy."""
        device = self.model.device
        x = torch.from_numpy(window.inputs).to(device).t()  # (T, B)
        y = torch.from_numpy(window.targets).long().to(device).t()  # (T, B)
        symbols = int((window.targets != IGNORE).sum())
        if not window.carry or self._state is None:
            self._state = self.model.initial_state(x.shape[1])
        factor = schedule_factor(self._schedule, self.fraction, self._warmup)
        for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor

        gradient = self._gradient(x, y, self._state, symbols)
        for parameter, value in zip(self.model.parameters(), gradient.parameters, strict=True):
            parameter.grad = value
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._clip_norm or math.inf)
        total, self._gradient_norm = float(gradient.loss), float(norm)
        if not (math.isfinite(total) and math.isfinite(self._gradient_norm)):
            raise self._diverged(
                f"step {self.progress.step + 1}: the loss is {total / symbols:g}, the gradient norm "
                f"{self._gradient_norm:g}"
            )
        self._optimizer.step()
        self._state = gradient.state  # truncated BPTT: the state goes on, its gradient does not

        self._learning_rate = self._peaks[0] * factor
        self._interval.loss += total
        self._interval.symbols += symbols
        self.progress.symbols += symbols
        self.progress.step += 1
        self.progress.window += 1

    # ---------------------------------------------------------------------------------------- before training

    @property
    def windows_per_epoch(self) -> int:
        """Steps of one pass over the training text."""
        return self._batches.windows_per_epoch

    def steps(self) -> Iterator[None]:
        """Makes a step each time it is asked, without end, and saves nothing.

        The weights move: it is for measuring, on a model made for it.
        """
        self.model.train()
        for window in self._windows():
            self._train_step(window)
            yield

    def measure_speed(self, seconds: float) -> float:
        """Makes `steps` for so many seconds and returns characters per second."""
        steps = self.steps()
        next(steps)  # the first step allocates, and is not typical
        self._interval = _Interval()
        start = self._clock()
        while self._interval.seconds < seconds:
            next(steps)
            self._interval.seconds = self._clock() - start
        return self._speed()

    def expected_seconds(self, characters_per_second: float) -> float:
        """Returns how long the budget lasts at a speed, evaluations left aside."""
        one = Progress(symbols=self._budget.symbols_per_epoch, step=self.windows_per_epoch)
        one.seconds = one.symbols * self._budget.characters_per_symbol / characters_per_second
        return one.seconds / self._budget.times_spent(one)

    # ------------------------------------------------------------------------------------- looking and saving

    def _report(self) -> StepReport:
        fraction, seconds = self.fraction, self.progress.seconds
        return StepReport(
            step=self.progress.step,
            fraction=fraction,
            epoch=self._epochs(),
            train_loss=self._train_loss(),
            learning_rate=self._learning_rate,
            gradient_norm=self._gradient_norm,
            characters_per_second=self._speed(),
            seconds_left=seconds / fraction - seconds if fraction else math.inf,
        )

    def _epochs(self) -> float:
        return self.progress.symbols / self._budget.symbols_per_epoch

    def _train_loss(self) -> float:
        characters = self._interval.symbols * self._budget.characters_per_symbol
        return self._interval.loss / max(characters, 1)

    def _speed(self) -> float:
        characters = self._interval.symbols * self._budget.characters_per_symbol
        return characters / max(self._interval.seconds, 1e-9)

    def _evaluate(self, observer: Observer, started: float) -> None:
        """Validates, writes a sample and saves everything; `started` is when."""
        progress = self.progress
        self._check_weights()
        train_loss = self._train_loss()
        validation = self._validate() if self._validate else None
        loss = train_loss if validation is None else validation
        if not math.isfinite(loss):
            raise self._diverged(f"step {progress.step}: the validation loss is {loss:g}")
        is_best = validation is None or validation < progress.best_loss
        if is_best:
            progress.best_loss = loss
        progress.stale = 0 if is_best else progress.stale + 1
        sample = self._write_sample()
        counted = self._clock() - started
        progress.seconds += counted
        metrics = Metrics(
            step=progress.step,
            characters=round(progress.symbols * self._budget.characters_per_symbol),
            epoch=round(self._epochs(), 4),
            seconds=round(progress.seconds, 3),
            train_loss=train_loss,
            validation_loss=validation,
            bits_per_character=loss / math.log(2),
            learning_rate=self._learning_rate,
            gradient_norm=self._gradient_norm,
            characters_per_second=round(self._speed(), 1),
        )
        row = json.dumps(dataclasses.asdict(metrics)) + "\n"
        entry = f"--- step {progress.step}\n{sample}\n\n"
        if is_best:
            self._folder.save_model(self.model)
        self._folder.append(self._folder.metrics, row)
        self._folder.append(self._folder.samples, entry)
        self._interval = _Interval()
        self.save(keep=self._keep)
        progress.evaluation_seconds = self._clock() - started
        progress.seconds += progress.evaluation_seconds - counted  # the time that saving took
        observer.on_evaluation(metrics, sample, is_best)

    def _check_weights(self) -> None:
        """Weights that could never be loaded again take the place of none that can."""
        if name := unusable(self.model.state_dict()):
            raise self._diverged(
                f"step {self.progress.step}: {name} has numbers that are not finite or beyond all use"
            )

    def _diverged(self, what: str) -> TrainingError:
        return TrainingError(
            f"{what}: training has diverged; the last good state is kept in {self._folder.path}; "
            "lower training.learning_rate, or set training.clip_norm"
        )

    def save(self, *, keep: int = 1) -> None:
        """Saves all that is needed to go on from here; with `keep` above 1, also beside older checkpoints."""
        self._check_weights()
        tensors: dict[str, Tensor] = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        for index, values in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": v for k, v in values.items() if torch.is_tensor(v)}
        for layer, state in enumerate(self._state or []):
            tensors |= {f"state.{layer}.{part}": value for part, value in enumerate(state)}
        tensors["rng.cpu"] = torch.get_rng_state()
        if self.model.device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self.model.device)
        info = {
            "progress": dataclasses.asdict(self.progress),
            "interval": dataclasses.asdict(self._interval),
            "identity": self._identity,
        }
        self._folder.save_last(tensors, info, keep=keep)

    def resume(self, tensors: dict[str, Tensor], info: dict[str, Any]) -> None:
        """Takes up where `save` left off; that model and corpus are the same ones is for the caller to check.

        Raises:
            RunError: the checkpoint is damaged, or says what no training of ours can.
        """
        source = self._folder.last
        parts = parts_of(tensors)
        try:
            progress = counters(Progress, info["progress"])
            interval = counters(_Interval, info["interval"])
            window = next(self._batches.epoch(progress.epoch, progress.window), None)
            rows = len(window.inputs) if window is not None and window.carry else None
            check_parts(parts, self.model, self._optimizer, begun=progress.step > 0, rows=rows, source=source)
            load_weights(self.model, parts["model"], source)
            self.progress, self._interval = progress, interval
            if not self._folder.model.exists():  # then the next evaluation is the best there is
                self.progress.best_loss, self.progress.stale = math.inf, 0
            slots: dict[int, dict[str, Tensor]] = {}
            for name, value in parts["optimizer"].items():
                index, _, key = name.partition(".")
                slots.setdefault(int(index), {})[key] = value
            param_groups = self._optimizer.state_dict()["param_groups"]
            self._optimizer.load_state_dict({"state": slots, "param_groups": param_groups})
            layers: dict[int, list[Tensor]] = {}
            for name, value in sorted(parts["state"].items()):
                layers.setdefault(int(name.partition(".")[0]), []).append(value.clone().to(self.model.device))
            self._state = [tuple(layers[layer]) for layer in sorted(layers)] or None
            torch.set_rng_state(parts["rng"]["cpu"])
            if self.model.device.type == "cuda" and "cuda" in parts["rng"]:
                torch.cuda.set_rng_state(parts["rng"]["cuda"], self.model.device)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(f"{source}: damaged checkpoint ({type(error).__name__}: {str(error)[:200]})") from None
