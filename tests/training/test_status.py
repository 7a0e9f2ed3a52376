"""How far a training is, from its files: spent, left, ended."""

import os
from pathlib import Path
from typing import Any

import pytest

import charlm
from charlm.store.lock import hold_lock
from charlm.store.run_folder import RunFolder
from charlm.store.trained import load_run_config
from charlm.training.status import Status, read_status
from runs import StopAt, config


def status(run: Path, after: float | None = None) -> Status:
    """How a run is, so many seconds after its last checkpoint was written."""
    folder = RunFolder(run)
    now = None if after is None else folder.last.stat().st_mtime + after
    return read_status(folder, load_run_config(folder).training, now)


@pytest.mark.parametrize("budget", ["24 steps", "3000 characters", "2 epochs", "1s"])
def test_a_training_that_has_spent_its_budget_is_finished(budget: str, tiny_corpus: Path, tmp_path: Path) -> None:
    charlm.train(config(tiny_corpus, budget=budget), out=tmp_path / "run")
    found = status(tmp_path / "run")
    assert found.finished
    assert found.holder is None
    assert found.seconds_left is None
    assert found.sample is not None
    assert found.sample[0] == found.step == found.evaluations[-1].step


def test_a_training_that_stopped_early_is_finished(tiny_corpus: Path, tmp_path: Path) -> None:
    settings = {"budget": "1000 steps", "early_stopping": 1, "evaluate_every": "1 steps", "learning_rate": 1.0}
    charlm.train(config(tiny_corpus, **settings), out=tmp_path / "run")
    found = status(tmp_path / "run")
    assert found.step < 1000
    assert found.finished


@pytest.mark.parametrize(
    ("budget", "share"), [("24 steps", 12 / 24), ("6000 characters", 12 * 128 / 6000), ("1h", None)]
)
def test_time_left_runs_down_between_checkpoints(
    budget: str, share: float | None, tiny_corpus: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with pytest.raises(charlm.Interrupted):
        charlm.train(config(tiny_corpus, budget=budget, evaluate_every="5 steps"), out=run, observer=StopAt(12))
    assert not status(run).finished
    with hold_lock(RunFolder(run).lock):
        before, after = status(run, 0.0), status(run, 0.01)
    assert before.holder == after.holder
    assert str(os.getpid()) in str(before.holder)
    assert before.step == 12
    assert before.seconds_left is not None
    assert after.seconds_left == pytest.approx(before.seconds_left - 0.01, abs=1e-4)
    total = before.seconds / share if share else 3600
    assert before.seconds + before.seconds_left == pytest.approx(total)
    assert not before.finished


def test_a_run_without_its_checkpoint_cannot_go_on_and_is_finished(tiny_corpus: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = config(tiny_corpus)
    charlm.train(settings, out=tmp_path / "run")
    RunFolder(tmp_path / "run").last.unlink()
    assert status(tmp_path / "run").finished
    assert status(tmp_path / "run").step == 24
