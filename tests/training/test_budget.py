"""A budget is used up when, and only when, as much has been done as it says, in its own unit."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm.config import TrainingConfig
from charlm.text.corpus import Split
from charlm.training.budget import Amount, Progress, read_amounts

UNITS = ["seconds", "training_seconds", "epochs", "steps", "characters"]

units = st.sampled_from(UNITS)
amounts = st.floats(1e-3, 1e9)
sizes = st.integers(1, 10**9)  # of a text, in symbols
widths = st.floats(0.25, 1)  # characters a symbol
progresses = st.builds(
    Progress,
    step=st.integers(0, 10**9),
    symbols=st.integers(0, 10**12),
    seconds=st.floats(0, 1e9),
    training_seconds=st.floats(0, 1e9),
)


@given(units, amounts, sizes, widths)
def test_nothing_is_spent_before_the_first_step(unit: str, amount: float, size: int, width: float):
    assert Amount(unit, amount, size, width).times_spent(Progress()) == 0


@given(amounts, sizes, widths, progresses)
def test_steps_count_optimiser_steps(amount: float, size: int, width: float, progress: Progress):
    assert Amount("steps", amount, size, width).times_spent(progress) == progress.step / amount


@given(amounts, sizes, widths, progresses)
def test_epochs_count_passes_over_the_text(amount: float, size: int, width: float, progress: Progress):
    spent = Amount("epochs", amount, size, width).times_spent(progress)
    assert spent == pytest.approx(progress.symbols / size / amount)


@given(amounts, sizes, widths, progresses)
def test_characters_count_characters_not_symbols(amount: float, size: int, width: float, progress: Progress):
    spent = Amount("characters", amount, size, width).times_spent(progress)
    assert spent == pytest.approx(progress.symbols * width / amount)


@given(amounts, sizes, widths, progresses)
def test_seconds_count_time(amount: float, size: int, width: float, progress: Progress):
    spent = Amount("seconds", amount, size, width).times_spent(progress)
    assert spent == pytest.approx(progress.seconds / amount)


@given(amounts, progresses)
def test_training_seconds_leave_the_evaluations_out(amount: float, progress: Progress):
    spent = Amount("training_seconds", amount, 1000).times_spent(progress)
    assert spent == progress.training_seconds / amount


def test_a_symbol_is_a_character_unless_something_else_is_said():
    assert Amount("characters", 50, 1000).times_spent(Progress(symbols=100)) == 2


@given(st.integers(2, 10**6), sizes)
def test_a_budget_is_used_up_at_its_last_step_and_not_one_before(steps: int, size: int):
    budget = Amount("steps", steps, size)
    assert budget.times_spent(Progress(step=steps - 1)) < 1
    assert budget.times_spent(Progress(step=steps)) == 1


@given(st.integers(1, 1000), st.integers(2, 10**6))
def test_epochs_are_used_up_at_the_last_symbol_and_not_one_before(epochs: int, size: int):
    budget = Amount("epochs", epochs, size)
    assert budget.times_spent(Progress(symbols=epochs * size - 1)) < 1
    assert budget.times_spent(Progress(symbols=epochs * size)) == 1


@given(units, amounts, sizes, widths, progresses, progresses)
def test_who_has_done_no_less_has_spent_no_less(
    unit: str, amount: float, size: int, width: float, a: Progress, b: Progress
):
    more = Progress(**{key: value + getattr(b, key) for key, value in dataclasses.asdict(a).items()})
    budget = Amount(unit, amount, size, width)
    assert budget.times_spent(more) >= budget.times_spent(a)


@given(st.floats(1, 1e6), st.floats(0, 0.99))
def test_reserved_seconds_end_a_budget_of_time_that_much_earlier(amount: float, share: float):
    budget, reserved = Amount("seconds", amount, 1000), amount * share
    end = Progress(seconds=amount - reserved)
    assert budget.times_spent(end, reserved) == pytest.approx(1)
    assert budget.times_spent(end) == pytest.approx(1 - share)


@given(st.floats(1e-3, 1e6), st.floats(1, 10))
def test_when_all_of_the_time_is_reserved_the_budget_is_used_up_with_the_first_step(amount: float, times: float):
    budget = Amount("seconds", amount, 1000)
    assert budget.times_spent(Progress(step=1, seconds=1e-3), amount * times) >= 1


@given(st.sampled_from(UNITS[1:]), amounts, sizes, progresses, st.floats(0, 1e6))
def test_reserved_seconds_change_no_other_budget(
    unit: str, amount: float, size: int, progress: Progress, reserved: float
):
    budget = Amount(unit, amount, size)
    assert budget.times_spent(progress, reserved) == budget.times_spent(progress)


def test_an_amount_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Amount("steps", 10, 1000).amount = 20  # type: ignore[misc]


@pytest.mark.parametrize("unit", UNITS)
def test_spending_does_not_touch_what_was_done(unit: str):
    progress = Progress(step=3, symbols=300, seconds=1.5, epoch=1, window=2)
    Amount(unit, 10, 1000).times_spent(progress, 0.5)
    assert progress == Progress(step=3, symbols=300, seconds=1.5, epoch=1, window=2)


SPLIT = Split(np.zeros(100, np.uint8), characters=50, bytes=100)  # two symbols a character


@pytest.mark.parametrize(
    ("budget", "every", "expected"),
    [
        ("20 epochs", "10%", ("epochs", 20, "epochs", 2)),
        ("1m", "25%", ("seconds", 60, "training_seconds", 15)),  # slow evaluations leave time to train
        ("1m", "5s", ("seconds", 60, "training_seconds", 5)),
        ("5k steps", "5s", ("steps", 5000, "training_seconds", 5)),
        ("1M characters", "1 epoch", ("characters", 1e6, "epochs", 1)),
    ],
)
def test_budget_and_interval_are_read_from_the_configuration(
    budget: str, every: str, expected: tuple[str, float, str, float]
):
    found = read_amounts(TrainingConfig(budget=budget, evaluate_every=every), SPLIT)
    assert tuple(part for amount in found for part in (amount.unit, amount.amount)) == expected
    for amount in found:
        assert (amount.symbols_per_epoch, amount.characters_per_symbol) == (100, 0.5)
