"""The training loop: it learns, keeps to its budget, keeps the best weights, and stops when it has diverged."""

import dataclasses
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from charlm.config import TrainingConfig
from charlm.errors import TrainingError
from charlm.experts.mixture import Mixture
from charlm.experts.torch_network import network_expert
from charlm.model.network import CharacterModel
from charlm.store.run_folder import RunFolder
from charlm.text.batches import StreamBatches
from charlm.text.corpus import Split
from charlm.text.vocabulary import Vocabulary
from charlm.training.optimization import schedule_factor
from charlm.training.reports import Metrics, StepReport
from charlm.training.step import TrainingStep
from charlm.training.trainer import Trainer
from models import CELLS, make_network

TEXT = "the heron sees the boat.\n" * 16  # 400 characters
B, T, PEAK = 4, 10, 0.02  # 10 windows an epoch
VOCABULARY = Vocabulary.build(TEXT)
SPLIT = Split.of(TEXT, VOCABULARY)
IDS = SPLIT.ids


class Recorder:
    """Remembers what a training tells, and the weights at each evaluation."""

    def __init__(self, model: CharacterModel) -> None:
        self.model = model
        self.steps: list[StepReport] = []
        self.evaluations: list[Metrics] = []
        self.rates: list[float] = []
        self.best: list[bool] = []
        self.weights: list[dict[str, Tensor]] = []

    def on_step(self, report: StepReport) -> None:
        self.steps.append(report)
        self.rates.append(report.learning_rate)

    def on_evaluation(self, metrics: Metrics, sample: str, is_best: bool) -> None:
        self.evaluations.append(metrics)
        self.rates.append(metrics.learning_rate)
        self.best.append(is_best)
        self.weights.append({name: value.clone() for name, value in self.model.state_dict().items()})

    def on_note(self, note: str) -> None:
        raise AssertionError(f"nothing to note here: {note}")


class Clock:
    """A clock that only goes on when something takes its time: a step takes a second."""

    now, step = 0.0, 1.0

    def __call__(self) -> float:
        return self.now

    def spend(self, seconds: float) -> None:
        self.now += seconds

    def slow(self, act: Callable[..., Any], seconds: float) -> Callable[..., Any]:
        return lambda *args, **named: (self.spend(seconds), act(*args, **named))[1]


def new_folder(path: Path) -> RunFolder:
    folder = RunFolder(path / "run")
    folder.create("config", "vocabulary")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return new_folder(tmp_path)


def new_model(**settings: Any) -> CharacterModel:
    return make_network(len(VOCABULARY), seed=1, **{"hidden_size": 8, **settings})


@dataclasses.dataclass
class StubEvaluator:
    """An evaluator that does what a test says."""

    mixture: Mixture
    validate: Callable[[], float | None]
    write_sample: Callable[[], str]
    expected: float = 0.0

    def expected_seconds(self, clock: Callable[[], float]) -> float:
        return self.expected


def run(
    folder: RunFolder, budget: str, every: str, *, model: CharacterModel | None = None, clock: Clock | None = None,
    custom: torch.optim.Optimizer | None = None, validate: Callable[[], float | None] = lambda: None,
    write_sample: Callable[[], str] = lambda: "a sample", expected: float = 0.0, **settings: Any,
) -> Recorder:  # fmt: skip
    """Trains for an amount such as `40 steps`, without warm-up or validation unless they are asked for.

    The other settings are those of the `training` section; a `custom` optimiser may take the place of theirs.
    """
    model, clock = model or new_model(), clock or Clock()
    model.recurrent.register_forward_pre_hook(lambda *_: clock.spend(clock.step))
    defaults = {"optimizer": "adam", "learning_rate": PEAK, "warmup": 0.0}
    config = TrainingConfig(budget=budget, evaluate_every=every, **defaults | settings)
    trainer = Trainer(
        TrainingStep(model, config, optimizer=custom), StreamBatches(IDS, B, T, seed=1), SPLIT, config,
        StubEvaluator(Mixture(network_expert(model)), validate, write_sample, expected), folder, clock=clock,
    )  # fmt: skip
    recorder = Recorder(model)
    trainer.run(recorder)
    assert trainer.finished
    return recorder


# --- learning -------------------------------------------------------------------------------------

RATES = {"sgd": 2.0, "rmsprop": 0.01, "adam": 0.02, "adamw": 0.02}


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_learns_a_small_text_with_every_optimiser(folder: RunFolder, cell: str, name: str):
    recorder = run(
        folder, "120 steps", "60 steps", model=new_model(cell=cell), optimizer=name, learning_rate=RATES[name]
    )
    assert recorder.steps[0].train_loss == pytest.approx(math.log(len(VOCABULARY)), abs=0.4)
    assert recorder.evaluations[1].train_loss < 0.7 * recorder.evaluations[0].train_loss


def test_plain_sgd_moves_each_weight_by_the_rate_times_the_gradient_of_the_mean_cross_entropy(folder: RunFolder):
    model, fresh = new_model(), new_model()
    window = next(StreamBatches(IDS, B, T, 1).epoch(0))
    x, y = (torch.from_numpy(part).long().t() for part in (window.inputs, window.targets))
    F.cross_entropy(fresh(x, fresh.initial_state(B))[0].flatten(0, 1), y.flatten()).backward()
    run(folder, "1 steps", "1 steps", model=model, optimizer="sgd", learning_rate=0.5, clip_norm=None)
    for after, before in zip(model.parameters(), fresh.parameters(), strict=True):
        assert before.grad is not None
        torch.testing.assert_close(after, before - 0.5 * before.grad)


@pytest.mark.parametrize("clip", [0.01, 0.05, None])
def test_clipping_bounds_the_gradient_that_is_applied_not_the_norm_that_is_told(
    folder: RunFolder, clip: float | None
):
    model = new_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    settings = {"optimizer": "sgd", "learning_rate": 1.0, "schedule": "constant", "clip_norm": clip}
    recorder = run(folder, "6 steps", "1 steps", model=model, **settings)
    for after, metrics in zip(recorder.weights, recorder.evaluations, strict=True):
        moved = math.sqrt(sum(float((after[name] - before[name]).square().sum()) for name in before))
        assert metrics.gradient_norm > 0.05
        assert moved == pytest.approx(clip or metrics.gradient_norm, rel=1e-3)
        before = after


def test_the_state_goes_from_window_to_window_and_its_gradient_does_not(folder: RunFolder):
    model = new_model()
    recorder = run(folder, "2 steps", "1 steps", model=model, optimizer="sgd", learning_rate=1e-30, clip_norm=None)
    got = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    first, second = itertools.islice(StreamBatches(IDS, B, T, 1).epoch(0), 2)
    x, y = (torch.from_numpy(part).long().t() for part in (second.inputs, second.targets))
    _, carried = model(torch.from_numpy(first.inputs).t(), zero := model.initial_state(B))
    detached = [tuple(part.detach() for part in layer) for layer in carried]

    def loss(state: Any) -> Tensor:
        return F.cross_entropy(model(x, state)[0].flatten(0, 1), y.flatten())

    assert recorder.evaluations[1].train_loss == pytest.approx(loss(detached).item(), rel=1e-6)
    assert recorder.evaluations[1].train_loss != pytest.approx(loss(zero).item(), rel=1e-4)
    torch.testing.assert_close(got, list(torch.autograd.grad(loss(detached), model.parameters())))
    through = torch.autograd.grad(loss(carried), model.parameters())
    assert any(not torch.allclose(a, b, rtol=1e-3) for a, b in zip(got, through, strict=True))


# --- budget and schedule --------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["linear", "cosine", "step", "constant"])
@pytest.mark.parametrize("budget", ["40 steps", "4 epochs", "1600 characters", "40s"])
def test_the_schedule_ends_where_the_budget_ends_whatever_its_unit(folder: RunFolder, budget: str, schedule: str):
    recorder = run(folder, budget, "10 steps", schedule=schedule, warmup=0.1)
    assert [metrics.step for metrics in recorder.evaluations] == [10, 20, 30, 40]
    assert recorder.rates == pytest.approx([PEAK * schedule_factor(schedule, step / 40, 0.1) for step in range(40)])
    assert recorder.rates[-1] <= PEAK * {"linear": 0.03, "cosine": 0.002, "step": 0.01, "constant": 1.0}[schedule]


@settings(max_examples=10)
@given(step=st.floats(1, 4), evaluation=st.floats(0, 10), sample=st.floats(0, 5))
def test_a_budget_of_time_includes_the_evaluations(
    tmp_path_factory: pytest.TempPathFactory, step: float, evaluation: float, sample: float
):
    clock = Clock()
    clock.step = step
    slow = {"validate": clock.slow(lambda: 1.0, evaluation), "write_sample": clock.slow(lambda: "", sample)}
    recorder = run(new_folder(tmp_path_factory.mktemp("time")), "100s", "25s", clock=clock, **slow)
    assert 100 - evaluation - sample - 1e-6 <= clock.now <= 100 + step + 1e-6
    assert recorder.evaluations[-1].seconds == pytest.approx(clock.now, abs=1e-3)
    assert recorder.rates[-1] <= PEAK * (step + evaluation + sample) / 80


def test_the_schedule_ends_where_one_slow_evaluation_begins(folder: RunFolder):
    slow = (clock := Clock()).slow(lambda: 1.0, 40)
    recorder = run(folder, "100s", "100%", clock=clock, validate=slow, expected=39.0)
    assert [metrics.step for metrics in recorder.evaluations] == [61]
    assert recorder.rates[-1] <= PEAK / 60
    assert clock.now == 101


def test_a_budget_of_time_includes_the_time_that_saving_takes(folder: RunFolder, monkeypatch: pytest.MonkeyPatch):
    clock = Clock()
    monkeypatch.setattr(folder, "save_model", clock.slow(folder.save_model, 2))
    monkeypatch.setattr(folder, "save_last", clock.slow(folder.save_last, 4))
    run(folder, "100s", "10s", clock=clock)
    assert clock.now <= 107  # a step and one round of saving too late at the most


@pytest.mark.parametrize("evaluation", [9, 12, 19])
def test_slow_evaluations_leave_time_to_train(folder: RunFolder, evaluation: float):
    slow = (clock := Clock()).slow(lambda: 1.0, evaluation)
    recorder = run(folder, "150s", "10s", clock=clock, validate=slow)
    assert [metrics.step for metrics in recorder.evaluations[:4]] == [10, 20, 30, 40]


@pytest.mark.parametrize(
    ("every", "steps"),
    [("7 steps", [7, 14, 21, 25]), ("1 epochs", [10, 20, 25]), ("0.5 epochs", [5, 10, 15, 20, 25]),
     ("480 characters", [12, 24, 25]), ("9s", [9, 18, 25]), ("100 steps", [25])],
)  # fmt: skip
def test_evaluations_come_at_their_interval_and_at_the_end(folder: RunFolder, every: str, steps: list[int]):
    assert [metrics.step for metrics in run(folder, "25 steps", every).evaluations] == steps


# --- what is written ------------------------------------------------------------------------------


def test_metrics_has_a_line_for_each_evaluation_with_just_the_documented_fields(folder: RunFolder):
    recorder = run(folder, "15 steps", "5 steps", validate=iter([2.5, 2.0, 1.5]).__next__)
    rows = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    assert rows == [dataclasses.asdict(metrics) for metrics in recorder.evaluations] == folder.read_metrics()
    assert list(rows[0]) == [
        "step", "characters", "epoch", "seconds", "train_loss", "validation_loss", "bits_per_character",
        "learning_rate", "gradient_norm", "characters_per_second",
    ]  # fmt: skip
    keys = ("step", "characters", "epoch", "seconds", "validation_loss", "characters_per_second")
    assert [[row[key] for key in keys] for row in rows] == [
        [5, 200, 0.5, 5, 2.5, 40], [10, 400, 1.0, 10, 2.0, 40], [15, 600, 1.5, 15, 1.5, 40],
    ]  # fmt: skip
    assert rows[2]["bits_per_character"] == 1.5 / math.log(2)


def test_samples_grow_by_one_at_each_evaluation(folder: RunFolder):
    run(folder, "15 steps", "5 steps", write_sample=iter(["sample 1", "sample 2", "sample 3"]).__next__)
    assert folder.samples.read_text().split("\n\n")[:-1] == [f"--- step {5 * n}\nsample {n}" for n in (1, 2, 3)]


@given(order=st.permutations([1.0, 2.0, 3.0, 4.0, 5.0]))
@settings(max_examples=10)
def test_the_saved_model_is_the_best_one_not_the_last(tmp_path_factory: pytest.TempPathFactory, order: list[float]):
    folder = new_folder(tmp_path_factory.mktemp("best"))
    recorder = run(folder, "5 steps", "1 steps", validate=iter(order).__next__)
    saved = safetensors.torch.load(folder.model.read_bytes())
    chosen = [all(torch.equal(saved[name], weights[name]) for name in saved) for weights in recorder.weights]
    assert chosen == [loss == 1.0 for loss in order]
    assert recorder.best == [loss < min(order[:i], default=math.inf) for i, loss in enumerate(order)]


def test_without_a_validation_split_the_last_weights_are_kept(folder: RunFolder):
    recorder = run(folder, "15 steps", "5 steps")
    saved = safetensors.torch.load(folder.model.read_bytes())
    assert all(torch.equal(saved[name], value) for name, value in recorder.weights[-1].items())
    assert [metrics.validation_loss for metrics in recorder.evaluations] == [None] * 3
    assert all(m.bits_per_character == m.train_loss / math.log(2) for m in recorder.evaluations)


@pytest.mark.parametrize(("patience", "end"), [(1, 6), (2, 8), (3, 18), (None, 20)])
def test_early_stopping_strikes_after_so_many_evaluations_without_a_better_loss(
    folder: RunFolder, patience: int | None, end: int
):
    validate = iter([5.0, 4.0, 4.5, 4.0, 3.0, 2.0, 3.0, 2.0, 2.5, 9.0]).__next__
    recorder = run(folder, "20 steps", "2 steps", validate=validate, early_stopping=patience)
    assert recorder.evaluations[-1].step == end


# --- when it goes wrong ---------------------------------------------------------------------------


def spoil(model: CharacterModel, place: str) -> None:
    """Makes the output, or a gradient, of step 8 not finite."""
    calls = itertools.count(1)
    if place == "loss":
        scale = lambda: math.nan if next(calls) == 8 else 1.0  # noqa: E731
        model.recurrent.register_forward_hook(lambda _model, _ids, out: (out[0] * scale(), out[1]))
    else:
        model.recurrent.parameter("weight_hh", 0).register_hook(lambda g: g * math.inf if next(calls) == 8 else g)


@pytest.mark.parametrize("place", ["loss", "gradient"])
def test_what_is_not_finite_stops_training_with_advice_and_keeps_what_was_saved(folder: RunFolder, place: str):
    run(folder, "5 steps", "5 steps")
    files = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    model = new_model()
    spoil(model, place)
    with pytest.raises(TrainingError, match=r"^step 8: .* diverged; .*lower training.learning_rate") as caught:
        run(folder, "25 steps", "10 steps", model=model)
    assert (caught.value.exit_code, str(folder.path) in str(caught.value)) == (1, True)
    assert {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()} == files


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_validation_loss_that_is_not_finite_stops_before_anything_is_overwritten(folder: RunFolder, loss: float):
    with pytest.raises(TrainingError, match=f"^step 10: the validation loss is {loss}.*training.learning_rate"):
        run(folder, "20 steps", "5 steps", validate=iter([2.0, loss]).__next__)
    assert [row["step"] for row in folder.read_metrics()] == [5]
    assert folder.load_last()[1]["progress"]["step"] == 5


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_a_step_that_goes_beyond_all_numbers_is_never_saved(
    folder: RunFolder, optimizer: Callable[..., torch.optim.Optimizer], steps: int
):
    run(folder, "5 steps", "5 steps")
    files = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    model, amount = new_model(), f"{steps} steps"
    far = optimizer(model.parameters(), lr=1e30)
    with pytest.raises(TrainingError, match=r"training has diverged; .*lower training.learning_rate"):
        run(folder, amount, amount, model=model, custom=far, schedule="constant", clip_norm=None)
    assert {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()} == files
