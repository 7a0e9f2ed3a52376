"""The training loop: truncated backpropagation through time until the budget is spent.

It reads windows, takes steps, evaluates, saves, and can stop and go on at any step. It is given finished parts
(step, batches, evaluator), and tells what happens through an observer; it prints nothing.

Where several processes share the batch, each of them runs this loop. Rank 0 evaluates, saves and reports; its clock
counts, and a wish to stop or to save that has reached any of them is told to all with the sums of a step, so that
all do the same behind the same step.
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

from charlm.config import TrainingConfig
from charlm.errors import Interrupted, RunError, TrainingError
from charlm.experts.mixture import Mixture
from charlm.model.exchange import as_arrays, copy_as_tensors
from charlm.model.network import NetworkState
from charlm.store.checkpoint import check_parts, join_parts, read_counters, split_parts
from charlm.store.run_folder import RunFolder
from charlm.store.tensors import Array, unusable
from charlm.system.distributed import ALONE
from charlm.system.shell import quote_path
from charlm.text.batches import Batches, Window
from charlm.text.corpus import Split
from charlm.training.budget import Progress, read_amounts
from charlm.training.optimization import optimizer_slots
from charlm.training.reports import Metrics, Observer, StepReport
from charlm.training.signals import STOP, Requests
from charlm.training.step import StepResult, TrainingStep

_SAVE_SECONDS = 60.0  # between evaluations, what a kill can lose


class Evaluator(Protocol):
    """What is asked of the model at each evaluation; `evaluator.Evaluator` is one."""

    @property
    def mixture(self) -> Mixture:
        """What is saved as the best model."""
        ...

    def validate(self) -> float | None:
        """Returns the validation loss in nats per character; None without a validation split."""

    def expected_seconds(self, clock: Callable[[], float]) -> float:
        """Returns how long `validate` will take, before it has been called."""

    def write_sample(self) -> str:
        """Returns what the model writes now."""


@dataclass
class _Interval:
    """Sums since the last evaluation."""

    loss: float = 0.0
    symbols: int = 0
    seconds: float = 0.0


class Trainer:
    """Trains one model.

    Args:
        step: makes the steps.
        batches: the training text in windows.
        train: the training split, whose length epochs and characters are counted by.
        config: the `training` section of the configuration.
        evaluator: validates the model and writes a sample.
        folder: where to save.
        identity: what a resume compares, such as the configuration; saved with each checkpoint as it is.
        clock: seconds.
    """

    def __init__(
        self,
        step: TrainingStep,
        batches: Batches,
        train: Split,
        config: TrainingConfig,
        evaluator: Evaluator,
        folder: RunFolder,
        *,
        identity: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.progress = Progress()
        self._step = step
        self._network = step.network
        self._batches = batches
        self._config = config
        self._evaluator = evaluator
        self._folder = folder
        self._identity = dict(identity or {})
        self._clock = clock
        self._budget, self._every = read_amounts(config, train)
        self._interval = _Interval()
        self._last: StepResult | None = None
        self._ranks = step.lanes.ranks if step.lanes else ALONE
        self._is_shared = False  # whether the ranks have begun to train together
        self._read_at = 0.0  # when the clock was last read

    # ---------------------------------------------------------------------------------------------- the loop

    @property
    def fraction(self) -> float:
        """How much of the budget is spent, 0 to 1."""
        return min(1.0, self._budget.times_spent(self.progress, self.progress.evaluation_seconds))

    @property
    def finished(self) -> bool:
        """Whether the budget is spent, or early stopping has struck."""
        patience = self._config.early_stopping
        return self.fraction >= 1 or (patience is not None and self.progress.stale >= patience)

    def run(self, observer: Observer, requests: Requests | None = None) -> None:
        """Trains until the budget is spent.

        Raises:
            Interrupted: a signal asked to stop; everything is saved.
            TrainingError: the loss is not finite, or a file cannot be written; what was saved before is whole.
        """
        requests = requests or Requests()
        progress = self.progress
        windows = self._windows()
        self._read_at = self._clock()
        unsaved_seconds = 0.0
        if progress.step == 0 and self._budget.unit == "seconds":  # the schedule ends where the last one begins
            progress.evaluation_seconds = self._ranks.lead(lambda: self._evaluator.expected_seconds(self._clock))
        evaluations = int(self._every.times_spent(progress))
        evaluated_at = -1
        while not self.finished:
            seconds, wishes = self._take_step(next(windows), requests)
            progress.seconds += seconds
            progress.training_seconds += seconds
            unsaved_seconds += seconds
            self._interval.seconds += seconds
            if int(self._every.times_spent(progress)) > evaluations or self.finished:
                self._evaluate(observer)
                evaluations = int(self._every.times_spent(progress))
                evaluated_at = progress.step
                self._read_at = self._clock()
                unsaved_seconds = 0.0
            else:
                if self._ranks.leads:
                    observer.on_step(self._report())
                if unsaved_seconds > _SAVE_SECONDS:
                    self.save()
                    unsaved_seconds = 0.0
            if wishes.save:
                wishes.save = False
                if evaluated_at != progress.step:
                    self.save()
                    unsaved_seconds = 0.0
                if self._ranks.leads:
                    observer.on_note(f"saved at step {progress.step}")
            if wishes.stop is not None and not self.finished:
                if evaluated_at != progress.step:
                    self.save()
                raise Interrupted(
                    wishes.stop,
                    f"training was stopped at step {progress.step} and saved; continue it with `charlm train "
                    f"--resume --out {quote_path(self._folder.path)}`",
                )
        if evaluated_at == progress.step:
            self.save()  # once more, so that a resume knows that the time is up

    def _windows(self) -> Iterator[Window]:
        progress = self.progress
        while True:
            yield from self._batches.epoch(progress.epoch, progress.window)
            progress.epoch += 1
            progress.window = 0

    def _take_step(self, window: Window, requests: Requests) -> tuple[float, Requests]:
        """Takes a step; returns the seconds that have passed on the clock of rank 0, and what is asked for.

        What is asked of a process alone is read where it is met; of several, what has reached any of them in time.
        """

        def tell() -> list[float]:
            before, self._read_at = self._read_at, self._clock()
            save = requests.save
            if save and self._ranks.size > 1:
                requests.save = False  # now it is everybody's
            return [
                self._read_at - before if self._ranks.leads else 0.0,
                float(save),
                *(float(requests.stop == number) for number in STOP),
            ]

        result = self._step(window, self.fraction, tell)
        if not result.is_finite:
            raise self._diverged(
                f"step {self.progress.step + 1}: the loss is {result.loss / result.symbols:g} and the gradient "
                f"norm is {result.gradient_norm:g}"
            )
        self._last = result
        self._interval.loss += result.loss
        self._interval.symbols += result.symbols
        self.progress.symbols += result.symbols
        self.progress.step += 1
        self.progress.window += 1
        seconds, save, *stops = result.told
        if self._ranks.size == 1:
            return seconds, requests
        stop = next((int(number) for number, asked in zip(STOP, stops, strict=True) if asked), None)
        return seconds, Requests(stop, bool(save))

    # ------------------------------------------------------------------------------------- looking and saving

    def _report(self) -> StepReport:
        fraction, seconds = self.fraction, self.progress.seconds
        return StepReport(
            step=self.progress.step,
            fraction=fraction,
            epoch=self._epochs(),
            train_loss=self._train_loss(),
            learning_rate=self._last.learning_rate if self._last else 0.0,
            gradient_norm=self._last.gradient_norm if self._last else 0.0,
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

    def _evaluate(self, observer: Observer) -> None:
        """Has rank 0 validate, write a sample and save everything; the others learn how the training stands."""
        state = self._gather_state()
        told = self._ranks.lead(lambda: self._evaluate_here(observer, state))
        for name, value in told.items():
            setattr(self.progress, name, value)
        self._interval = _Interval()

    def _evaluate_here(self, observer: Observer, state: NetworkState) -> dict[str, Any]:
        progress, started = self.progress, self._read_at
        self._check_weights()
        train_loss = self._train_loss()
        validation = self._evaluator.validate()
        loss = train_loss if validation is None else validation
        if not math.isfinite(loss):
            raise self._diverged(f"step {progress.step}: the validation loss is {loss:g}")
        is_best = validation is None or validation < progress.best_loss
        if is_best:
            progress.best_loss = loss
        progress.stale = 0 if is_best else progress.stale + 1
        sample = self._evaluator.write_sample()
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
            learning_rate=self._last.learning_rate if self._last else 0.0,
            gradient_norm=self._last.gradient_norm if self._last else 0.0,
            characters_per_second=round(self._speed(), 1),
        )
        row = json.dumps(dataclasses.asdict(metrics)) + "\n"
        entry = f"--- step {progress.step}\n{sample}\n\n"
        if is_best:
            self._folder.save_model(self._evaluator.mixture)
        self._folder.append(self._folder.metrics, row)
        self._folder.append(self._folder.samples, entry)
        self._interval = _Interval()
        self._save_here(state, self._config.keep)
        progress.evaluation_seconds = self._clock() - started
        progress.seconds += progress.evaluation_seconds - counted  # the time that saving took
        observer.on_evaluation(metrics, sample, is_best)
        return dataclasses.asdict(progress)

    def _check_weights(self) -> None:
        """Weights that could never be loaded again take the place of none that can."""
        if name := unusable(as_arrays(self._network.state_dict())):
            raise self._diverged(
                f"step {self.progress.step}: {name} has numbers that are not finite or far too large"
            )

    def _diverged(self, what: str) -> TrainingError:
        return TrainingError(
            f"{what}, so training has diverged; the last good state is kept in {self._folder.path}; "
            "lower training.learning_rate, or set training.clip_norm"
        )

    def save(self) -> None:
        """Has rank 0 save all that is needed to go on from here, on as many ranks as may be."""
        state = self._gather_state()
        if self._is_shared:
            self._ranks.lead(lambda: self._save_here(state, keep=1))
        else:
            self._save_here(state, keep=1)

    def _gather_state(self) -> NetworkState:
        """Returns the carried state of all lanes on rank 0; nothing of use on the others."""
        state, lanes = self._step.state or [], self._step.lanes
        if lanes is None or not self._is_shared:
            return state
        sizes = lanes.sizes(self._step.rows)
        gathered = [[self._ranks.gather_rows(part, sizes) for part in layer] for layer in state]
        return [tuple(part for part in layer if part is not None) for layer in gathered]

    def _save_here(self, state: NetworkState, keep: int) -> None:
        """Writes a checkpoint; with `keep` above 1, also beside older ones."""
        self._check_weights()
        slots = self._step.optimizer.state_dict()["state"]
        parts: dict[str, dict[str, Tensor]] = {
            "model": self._network.state_dict(),
            "optimizer": {
                f"{index}.{name}": value
                for index, values in slots.items()
                for name, value in values.items()
                if torch.is_tensor(value)
            },
            "state": {
                f"{layer}.{part}": value
                for layer, of_layer in enumerate(state)
                for part, value in enumerate(of_layer)
            },
            "rng": {"cpu": torch.get_rng_state()},
        }
        if self._network.device.type == "cuda":
            parts["rng"]["cuda"] = torch.cuda.get_rng_state(self._network.device)
        info = {
            "progress": dataclasses.asdict(self.progress),
            "interval": dataclasses.asdict(self._interval),
            "identity": self._identity,
        }
        self._folder.save_last(as_arrays(join_parts(parts)), info, keep=keep)

    def share(self) -> None:
        """Gives every rank what rank 0 begins with or goes on from; all of them call it once, before `run`.

        That is counters, weights, the optimiser's numbers, random numbers, and the state of its own lanes.
        """
        step, lanes = self._step, self._step.lanes
        if lanes is None:
            return
        rows = len(step.state[0][0]) if step.state else 0
        progress, interval, step.rows = self._ranks.lead(lambda: (vars(self.progress), vars(self._interval), rows))
        self.progress, self._interval = Progress(**progress), _Interval(**interval)
        if not self._ranks.leads:
            if self.progress.step:
                slots = optimizer_slots(step.optimizer)
                self._load_optimizer({name: torch.zeros_like(slot, device="cpu") for name, slot in slots.items()})
            step.state = self._network.initial_state(step.rows) if step.rows else None
        moments = step.optimizer.state_dict()["state"]
        generator = torch.get_rng_state()
        self._ranks.copy_first(
            [
                *self._network.parameters(),
                *(
                    of[name]
                    for _, of in sorted(moments.items())
                    for name in sorted(of)
                    if torch.is_tensor(of[name])
                ),
                *(part for layer in step.state or [] for part in layer),
                generator,
            ]
        )
        torch.set_rng_state(generator)
        own = lanes.rows(step.rows)
        step.state = step.state and [tuple(part[own].clone() for part in layer) for layer in step.state]
        self._is_shared = True

    def _load_optimizer(self, tensors: Mapping[str, Tensor]) -> None:
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            index, _, key = name.partition(".")
            slots.setdefault(int(index), {})[key] = value
        optimizer = self._step.optimizer
        optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})

    def resume(self, tensors: dict[str, Array], info: dict[str, Any]) -> None:
        """Goes back to where `save` was called; that model and corpus are the same ones is for the caller to check.

        Raises:
            RunError: the checkpoint is damaged, or says what no training of ours can.
        """
        source, device = self._folder.last, self._network.device
        parts = split_parts(tensors)
        try:
            progress = read_counters(Progress, info["progress"])
            interval = read_counters(_Interval, info["interval"])
            check_parts(parts, self._expected_parts(progress, parts["state"]), source)
            self._network.load_state_dict(copy_as_tensors(parts["model"]))
            self.progress, self._interval = progress, interval
            if not self._folder.model.exists():  # then the next evaluation is the best there is
                self.progress.best_loss, self.progress.stale = math.inf, 0
            self._load_optimizer(copy_as_tensors(parts["optimizer"]))
            layers: dict[int, list[Tensor]] = {}
            for name, value in sorted(copy_as_tensors(parts["state"]).items()):
                layers.setdefault(int(name.partition(".")[0]), []).append(value.to(device))
            self._step.state = [tuple(layers[layer]) for layer in sorted(layers)] or None
            generators = copy_as_tensors(parts["rng"])
            torch.set_rng_state(generators["cpu"])
            if device.type == "cuda" and "cuda" in generators:
                torch.cuda.set_rng_state(generators["cuda"], device)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(f"{source}: damaged checkpoint ({type(error).__name__}: {str(error)[:200]})") from None

    def _expected_parts(self, progress: Progress, state: Mapping[str, Array]) -> dict[str, Mapping[str, Array]]:
        """Returns what a checkpoint at this progress must hold, as shapes.

        The state has as many rows as the next window, if it is carried into it; else any number.
        """
        begun = progress.step > 0
        window = next(self._batches.epoch(progress.epoch, progress.window), None)
        if window is not None and window.carry.any():
            rows = len(window.inputs)
        else:
            rows = max([1, *(value.shape[0] for value in state.values() if value.ndim)])
        layers = enumerate(self._network.initial_state(1)) if begun else ()
        expected = {
            "model": self._network.state_dict(),
            "optimizer": optimizer_slots(self._step.optimizer) if begun else {},
            "state": {f"{layer}.{i}": part.expand(rows, -1) for layer, of in layers for i, part in enumerate(of)},
        }
        return {part: as_arrays(tensors) for part, tensors in expected.items()}
