"""One step of training: window → gradient → clip → update. Usable by itself, to train, to measure, to look inside.

    g = ∂L/∂θ of the window's mean cross-entropy L,   g ← g · min(1, clip_norm / |g|),   θ moves by the optimiser

Backpropagation through time is truncated: the state goes on from window to window, its gradient does not.

Where several processes share a batch, each takes its rows of the window and carries their state; gradient and loss
are those of the whole window, so that all of them move the weights alike.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch

from charlm.config import TrainingConfig
from charlm.model.network import CharacterModel, NetworkState
from charlm.system.threads import with_one_thread
from charlm.text.batches import IGNORE, Batches, LineBatches, StreamBatches, Window
from charlm.text.corpus import Corpus
from charlm.training.gradient import GradientComputer
from charlm.training.lanes import Lanes
from charlm.training.optimization import make_optimizer, schedule_factor


class StepResult(NamedTuple):
    """What a step gives.

    Attributes:
        loss: cross-entropy of the window in nats, summed.
        symbols: how many places of the window counted.
        gradient_norm: before clipping.
        learning_rate: of the step.
        told: what was to be told with the step, added up over all ranks.
    """

    loss: float
    symbols: int
    gradient_norm: float
    learning_rate: float
    told: tuple[float, ...] = ()

    @property
    def is_finite(self) -> bool:
        """Whether loss and gradient are finite; if not, the weights have not moved."""
        return math.isfinite(self.loss) and math.isfinite(self.gradient_norm)


Hook = Callable[[Window, StepResult], None]
Tell = Callable[[], Sequence[float]]


class TrainingStep:
    """Moves the weights of one network, window after window.

    Args:
        network: on its device.
        config: the `training` section of the configuration.
        optimizer: over the parameters of the network; None: the one that the configuration asks for.
        hook: is called after each step, when the parameters' `grad` is the clipped gradient.
        lanes: how the rows of a window are divided among processes; None: this one computes them all.

    Attributes:
        network: as given.
        optimizer: as given.
        lanes: as given.
        state: of the rows of this process, carried from the last window; None before the first.
        rows: how many rows the last window had.
    """

    def __init__(
        self,
        network: CharacterModel,
        config: TrainingConfig,
        *,
        optimizer: torch.optim.Optimizer | None = None,
        hook: Hook | None = None,
        lanes: Lanes | None = None,
    ) -> None:
        self.network = network
        self.optimizer = optimizer or make_optimizer(network, config, network.table)
        self.lanes = lanes
        self.state: NetworkState | None = None
        self.rows = 0
        self._config = config
        self._gradient = GradientComputer(network)
        self._hook = hook
        self._peaks = [group["lr"] for group in self.optimizer.param_groups]

    def __call__(self, window: Window, fraction: float, tell: Tell = tuple) -> StepResult:
        """Moves the weights once, down the gradient of the window's mean cross-entropy.

        Args:
            window: ids, and whether the state is carried into it.
            fraction: of the budget that is spent, for the schedule of the learning rate.
            tell: what this process has to tell the others; it is asked once, as late as can be.
        """
        network, B = self.network, len(window.inputs)
        own = slice(B) if self.lanes is None else self.lanes.rows(B)
        x = torch.from_numpy(window.inputs[own]).to(network.device).t()  # (T, b), b = B for a process alone
        y = torch.from_numpy(window.targets[own]).long().to(network.device).t()  # (T, b)
        symbols = int((window.targets != IGNORE).sum())
        if self.state is None or not window.carry.any():
            self.state = network.initial_state(x.shape[1])
        elif not window.carry.all():
            kept = torch.from_numpy(window.carry[own]).to(network.device)[:, None]  # (b, 1)
            self.state = [tuple(part * kept for part in layer) for layer in self.state]
        factor = schedule_factor(self._config.schedule, fraction, self._config.warmup)
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor

        told: Sequence[float] = ()
        if self.lanes is None:
            gradient = self._gradient(x, y, self.state, symbols)
        else:
            gradient, told = self._gradient.of_lanes(x, y, self.state, symbols, self.lanes, B, tell)
        for parameter, value in zip(network.parameters(), gradient.parameters, strict=True):
            parameter.grad = value
        loss = float(gradient.loss)
        # Of lanes by one thread: the norm and the ends of loops round otherwise with more.
        norm = self._move(loss) if self.lanes is None else with_one_thread(lambda: self._move(loss))
        result = StepResult(loss, symbols, norm, self._peaks[0] * factor, tuple(told))
        if result.is_finite:
            self.state, self.rows = gradient.state, B
        if self.lanes is None:
            result = result._replace(told=tuple(tell()))
        if self._hook is not None:
            self._hook(window, result)
        return result

    def _move(self, loss: float) -> float:
        """Clips the gradient and moves the weights, if both are finite; returns the norm before clipping."""
        parameters = self.network.parameters()
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, self._config.clip_norm or math.inf))
        if math.isfinite(loss) and math.isfinite(norm):
            self.optimizer.step()
        return norm


def make_batches(corpus: Corpus, config: TrainingConfig) -> Batches:
    """Lays the training split of a corpus out in windows."""
    vocabulary, ids = corpus.vocabulary, corpus.train.ids
    if vocabulary.framing == "lines":
        return LineBatches(ids, vocabulary.boundary_id, config.batch_size, config.sequence_length, config.seed)
    return StreamBatches(
        ids,
        config.batch_size,
        config.sequence_length,
        config.seed,
        parts=corpus.train.parts,
        first_id=vocabulary.boundary_id,
    )


def endless_windows(batches: Batches) -> Iterator[Window]:
    """Yields the windows of one epoch after another."""
    epoch = 0
    while True:
        yield from batches.epoch(epoch)
        epoch += 1


def measure_speed(
    step: TrainingStep, batches: Batches, seconds: float, clock: Callable[[], float] = time.monotonic
) -> float:
    """Takes steps for so many seconds and returns symbols per second.

    The weights move: it is for a network made for it.
    """
    windows = endless_windows(batches)
    step(next(windows), 0.0)  # the first step allocates, and is not typical
    start, spent, symbols = clock(), 0.0, 0
    while spent < seconds:
        symbols += step(next(windows), 0.0).symbols
        spent = clock() - start
    return symbols / spent
