"""One step of training, by itself: what it does to the weights, what its hook sees, and that a training is many."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from charlm.config import TrainingConfig, change_section
from charlm.experts.mixture import Mixture
from charlm.experts.torch_network import network_expert
from charlm.model.network import CharacterModel
from charlm.store.run_folder import RunFolder
from charlm.text.batches import LineBatches, StreamBatches, Window
from charlm.text.corpus import Split
from charlm.text.vocabulary import Vocabulary
from charlm.training.optimization import schedule_factor
from charlm.training.step import StepResult, TrainingStep, endless_windows, measure_speed
from charlm.training.trainer import Trainer
from models import make_network

TEXT = "the heron sees the boat.\n" * 16
VOCABULARY = Vocabulary.build(TEXT)
SPLIT = Split.of(TEXT, VOCABULARY)
V, B, T = len(VOCABULARY), 4, 10
STREAM = StreamBatches(SPLIT.ids, B, T, seed=1)
assert VOCABULARY.boundary_id is not None
LINES = LineBatches(SPLIT.ids, VOCABULARY.boundary_id, B, T, seed=1)
CONFIG = TrainingConfig(batch_size=B, sequence_length=T, warmup=0.0, learning_rate=0.02)


def changed(**values: Any) -> TrainingConfig:
    return change_section(CONFIG, values)


def network(**settings: Any) -> CharacterModel:
    return make_network(V, seed=1, **{"hidden_size": 8, **settings})


def weights(network: CharacterModel) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


# --- the hook ---------------------------------------------------------------------------------------


class Probe:
    """Remembers what a hook is told, and what it finds in the network then."""

    def __init__(self, network: CharacterModel) -> None:
        self.network = network
        self.windows: list[Window] = []
        self.results: list[StepResult] = []
        self.gradients: list[list[Tensor]] = []
        self.weights = [weights(network)]

    def __call__(self, window: Window, result: StepResult) -> None:
        self.windows.append(window)
        self.results.append(result)
        self.gradients.append([p.grad.clone() for p in self.network.parameters() if p.grad is not None])
        self.weights.append(weights(self.network))


def test_the_hook_sees_each_step_once_with_its_window_and_its_result():
    probe = Probe(model := network())
    step = TrainingStep(model, CONFIG, hook=probe)
    windows = list(STREAM.epoch(0))
    results = [step(window, 0.0) for window in windows]
    assert len(windows) == 10
    assert all(seen is window for seen, window in zip(probe.windows, windows, strict=True))
    assert all(seen is result for seen, result in zip(probe.results, results, strict=True))
    assert all(result.symbols == window.targets.size for result, window in zip(results, windows, strict=True))


@pytest.mark.parametrize("clip", [0.05, None])
def test_the_hook_finds_the_clipped_gradient_of_the_mean_loss_in_the_parameters(clip: float | None):
    probe = Probe(model := network())
    step = TrainingStep(model, changed(clip_norm=clip), hook=probe)
    for window, before in zip(itertools.islice(LINES.epoch(0), 5), probe.weights, strict=False):
        state = (
            step.state if window.carry.any() and step.state is not None else model.initial_state(len(window.inputs))
        )
        result = step(window, 0.0)
        expected = network()
        for parameter, value in zip(expected.parameters(), before, strict=True):
            parameter.data.copy_(value)
        x, y = (torch.from_numpy(part).long().t() for part in (window.inputs, window.targets))
        logits, _ = expected(x, state)
        loss = F.cross_entropy(logits.flatten(0, 1), y.flatten(), ignore_index=-1, reduction="sum")
        gradients = torch.autograd.grad(loss / result.symbols, list(expected.parameters()))
        norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))
        assert result.loss == pytest.approx(loss.item(), rel=1e-5)
        assert result.gradient_norm == pytest.approx(norm, rel=1e-4)
        assert norm > 0.05
        scale = 1.0 if clip is None else clip / norm
        for found, gradient in zip(probe.gradients[-1], gradients, strict=True):
            torch.testing.assert_close(found, gradient * scale, rtol=1e-3, atol=1e-6)


def test_the_hook_is_called_when_the_weights_have_moved():
    probe = Probe(model := network())
    step = TrainingStep(model, changed(optimizer="sgd", learning_rate=0.5), hook=probe)
    step(next(STREAM.epoch(0)), 0.0)
    (gradients,) = probe.gradients
    before, after = probe.weights
    for old, new, gradient in zip(before, after, gradients, strict=True):
        torch.testing.assert_close(new, old - 0.5 * gradient)


def test_a_hook_changes_nothing_of_the_training():
    plain, probed = network(dropout=0.2), network(dropout=0.2)
    for model, hook in ((plain, None), (probed, Probe(probed))):
        torch.manual_seed(3)
        step = TrainingStep(model, CONFIG, hook=hook)
        for window in itertools.islice(endless_windows(STREAM), 15):
            step(window, 0.0)
    assert all(map(torch.equal, weights(plain), weights(probed)))


def test_the_hook_sees_a_step_that_was_not_taken_since_the_loss_is_not_finite():
    probe = Probe(model := network())
    model.recurrent.register_forward_hook(lambda _model, _inputs, out: (out[0] * math.nan, out[1]))
    step = TrainingStep(model, CONFIG, hook=probe)
    result = step(next(STREAM.epoch(0)), 0.0)
    assert probe.results == [result]
    assert not result.is_finite
    assert all(map(torch.equal, *probe.weights))


# --- the step ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["linear", "cosine", "step", "constant"])
def test_the_rate_follows_the_schedule_at_the_fraction_that_is_given(schedule: str):
    config = changed(schedule=schedule, warmup=0.1)
    step = TrainingStep(network(), config)
    window = next(STREAM.epoch(0))
    for fraction in (0.0, 0.05, 0.1, 0.4, 0.8, 1.0):
        expected = 0.02 * schedule_factor(schedule, fraction, 0.1)
        told = step(window, fraction).learning_rate
        rates = [told, *(group["lr"] for group in step.optimizer.param_groups)]
        assert rates == pytest.approx([expected] * len(rates))


def test_the_state_is_carried_into_a_window_that_goes_on_and_is_zero_before_any_other():
    step = TrainingStep(model := network(), changed(optimizer="sgd", learning_rate=1e-30))
    first, second = itertools.islice(STREAM.epoch(0), 2)
    zero = model.initial_state(B)
    _, carried = model(torch.from_numpy(first.inputs).t(), zero)
    step(first, 0.0)
    assert step.state is not None
    torch.testing.assert_close(step.state, [tuple(part.detach() for part in layer) for layer in carried])
    for window, state in ((second, carried), (second._replace(carry=np.zeros(B, np.bool_)), zero)):
        step.state = [tuple(part.detach() for part in layer) for layer in carried]
        logits, _ = model(torch.from_numpy(window.inputs).t(), state)
        expected = F.cross_entropy(
            logits.flatten(0, 1), torch.from_numpy(window.targets).long().t().flatten(), reduction="sum"
        )
        assert step(window, 0.0).loss == pytest.approx(expected.item(), rel=1e-5)


def test_an_optimizer_can_be_given():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-30)
    before = weights(model)
    step = TrainingStep(model, CONFIG, optimizer=optimizer)
    assert step.optimizer is optimizer
    step(next(STREAM.epoch(0)), 0.0)
    assert all(torch.allclose(old, new, atol=1e-20) for old, new in zip(before, weights(model), strict=True))


def test_windows_come_epoch_after_epoch():
    windows = list(itertools.islice(endless_windows(LINES), LINES.windows_per_epoch + 3))
    expected = [*LINES.epoch(0), *itertools.islice(LINES.epoch(1), 3)]
    for found, wanted in zip(windows, expected, strict=True):
        assert (found.carry == wanted.carry).all()
        assert (found.inputs == wanted.inputs).all()
        assert (found.targets == wanted.targets).all()


def test_the_speed_is_symbols_over_the_time_that_the_clock_shows_without_the_first_step():
    now = 0.0

    def tick(window: Window, result: StepResult) -> None:
        nonlocal now
        now += 2.0 if now else 100.0

    step = TrainingStep(network(), CONFIG, hook=tick)
    assert measure_speed(step, STREAM, 10.0, clock=lambda: now) == B * T / 2


# --- a training is many steps -----------------------------------------------------------------------


class Silent:
    """Validates nothing, writes nothing, hears nothing."""

    def __init__(self, network: CharacterModel) -> None:
        self.mixture = Mixture(network_expert(network))

    def validate(self) -> None:
        return None

    def write_sample(self) -> str:
        return ""

    def on_step(self, *_: object) -> None:
        pass

    on_evaluation = on_note = on_step


@pytest.mark.parametrize("batches", [STREAM, LINES], ids=["stream", "lines"])
@pytest.mark.parametrize("optimizer", ["adamw", "rmsprop", "sgd"])
def test_a_training_by_hand_gives_the_weights_of_the_trainer(
    tmp_path: Path, optimizer: str, batches: StreamBatches | LineBatches
):
    steps = 25
    config = changed(optimizer=optimizer, budget=f"{steps} steps", warmup=0.2)
    by_hand, trained = network(num_layers=2, dropout=0.1), network(num_layers=2, dropout=0.1)

    torch.manual_seed(5)
    step = TrainingStep(by_hand, config)
    for number, window in enumerate(itertools.islice(endless_windows(batches), steps)):
        step(window, number / steps)

    (folder := RunFolder(tmp_path / "run")).create("config", "vocabulary")
    torch.manual_seed(5)
    silent = Silent(trained)
    Trainer(TrainingStep(trained, config), batches, SPLIT, config, silent, folder).run(silent)
    assert all(map(torch.equal, weights(by_hand), weights(trained)))
    assert not all(map(torch.equal, weights(by_hand), weights(network(num_layers=2, dropout=0.1))))
