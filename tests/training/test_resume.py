"""A training that is stopped, killed or cut off goes on as if nothing had happened, or says why it cannot."""

import functools
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import charlm
from charlm.errors import Interrupted, RunError
from charlm.training.checkpoint import RunFolder
from charlm.training.trainer import Metrics, StepReport

STEPS = 24
# Sizes that are no powers of two: what is read back must lie in memory as it did, or sums round differently.
KINDS: dict[str, dict[str, Any]] = {
    "stream-gru-rmsprop": {
        "model": {"cell": "gru", "hidden_size": 6, "dropout": 0.2},
        "training": {"batch_size": 8, "optimizer": "rmsprop", "momentum": 0.5},
    },
    "stream-lstm-adam": {
        "model": {"hidden_size": 5, "num_layers": 2, "dropout": 0.2},
        "training": {"batch_size": 3, "optimizer": "adam"},
    },
    "lines-gru-adamw": {
        "model": {"cell": "gru", "reset": "before", "hidden_size": 5, "dropout": 0.1},
        "training": {"batch_size": 3},
    },
    "lines-rnn-sgd": {
        "model": {"cell": "rnn", "hidden_size": 6},
        "training": {"batch_size": 8, "optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.5},
    },
}


def config(corpus: Path, kind: str = "stream-gru-rmsprop", **training: Any) -> dict[str, Any]:
    framing = kind.partition("-")[0]
    common = {"budget": "24 steps", "evaluate_every": "5 steps", "sequence_length": 16, "device": "cpu"}
    return {
        "corpus": {"path": str(corpus), "framing": framing, "validation": 0.1 if framing == "stream" else 0.0},
        "model": KINDS[kind]["model"],
        "training": common | KINDS[kind]["training"] | training,
        "sampling": {"length": 20},
    }


def outcome(run: Path) -> dict[str, Any]:
    """All that a run folder holds, but for the fields that tell of time."""
    folder = RunFolder(run)
    rows = folder.read_metrics()
    tensors, info = folder.load_last() or ({}, {})
    for part in (*rows, info["progress"], info["interval"]):
        for key in [key for key in part if "second" in key or key == "metrics_bytes"]:
            del part[key]
    files = (folder.config, folder.vocabulary, folder.model, folder.samples)
    last = {name: value.numpy().tobytes() for name, value in tensors.items()}
    return {"metrics": rows, "last": last, "info": info} | {file.name: file.read_bytes() for file in files}


def contents(run: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}


class StopAt:
    """Sends this process a signal behind a step, as Ctrl-C would."""

    def __init__(self, step: int, number: int = signal.SIGINT) -> None:
        self.step, self.number = step, number

    def on_step(self, report: StepReport | Metrics, *_: object) -> None:
        if report.step == self.step:
            signal.raise_signal(self.number)

    on_evaluation = on_step


# --- stopped --------------------------------------------------------------------------------------

Outcomes = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path) -> Outcomes:
    """Gives the outcome of a kind of training in one go."""

    @functools.cache
    def train(kind: str) -> dict[str, Any]:
        run = tmp_path_factory.mktemp("whole") / "run"
        charlm.train(config(tiny_corpus, kind), out=run)
        return outcome(run)

    return train


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=6)
@given(stops=st.sets(st.integers(1, STEPS - 1), min_size=1, max_size=3))
def test_a_run_stopped_anywhere_and_resumed_equals_the_uninterrupted_run_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path, uninterrupted: Outcomes, kind: str, stops: set[int]
):
    run = tmp_path_factory.mktemp("stopped") / "run"
    for i, step in enumerate(sorted(stops)):
        with pytest.raises(Interrupted, match=f"stopped at step {step} and saved"):
            charlm.train(config(tiny_corpus, kind), out=run, resume=i > 0, observer=StopAt(step))
    lm = charlm.train(config(tiny_corpus, kind), out=run, resume=True)
    assert outcome(run) == uninterrupted(kind)
    best = safetensors.torch.load(uninterrupted(kind)["model.safetensors"])
    assert all(torch.equal(value, best[name]) for name, value in lm.model.state_dict().items())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_error_says_how_to_go_on_and_carries_the_exit_code(
    tmp_path: Path, tiny_corpus: Path, number: int, code: int
):
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=f"--resume.*{tmp_path / 'run'}") as caught:
        charlm.train(config(tiny_corpus), out=tmp_path / "run", observer=StopAt(7, number))
    assert caught.value.exit_code == code
    assert signal.getsignal(number) is before


def test_a_signal_at_the_last_step_leaves_a_finished_run(tmp_path: Path, tiny_corpus: Path):
    charlm.train(config(tiny_corpus), out=tmp_path / "run", observer=StopAt(STEPS))
    assert RunFolder(tmp_path / "run").read_metrics()[-1]["step"] == STEPS


# --- killed ---------------------------------------------------------------------------------------


class Killed(BaseException):
    """Nothing catches it, as nothing catches kill -9."""


WRITES = 2 + 5 * 3  # config and vocabulary; metrics, samples and checkpoint of five evaluations, and best weights


@pytest.mark.parametrize("write", range(1, WRITES + 1))
def test_a_run_killed_at_any_write_ends_as_the_uninterrupted_run(
    tmp_path: Path, tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: Outcomes, write: int
):
    run, replace, count = tmp_path / "run", os.replace, itertools.count(1)

    def replace_or_die(*paths: Path) -> None:
        if next(count) == write:
            raise Killed
        replace(*paths)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace_or_die)
        with pytest.raises(Killed):
            charlm.train(config(tiny_corpus), out=run)
    charlm.train(config(tiny_corpus), out=run, resume=RunFolder(run).holds_run)
    assert outcome(run) == uninterrupted("stream-gru-rmsprop")


LONG = {"model.hidden_size": 16, "training.budget": "500 steps", "training.evaluate_every": "20 steps",
        "training.sequence_length": 16, "training.device": "cpu"}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path) -> dict[str, Any]:
    """The outcome of a longer run, never disturbed."""
    run = tmp_path_factory.mktemp("finished") / "run"
    charlm.train(corpus=[tiny_corpus], out=run, overrides=LONG)
    return outcome(run)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_killed_command_exits_with_its_code_and_resumes_to_the_same_end(
    tmp_path: Path, tiny_corpus: Path, finished: dict[str, Any], number: int, code: int
):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "charlm", "train", "--corpus", str(tiny_corpus), "--out", str(run)]
    command += [f"--set={key}={value}" for key, value in LONG.items()]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not RunFolder(run).last.exists() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, b""), err.decode()
    assert b"Traceback" not in err
    assert (b"--resume" in err) == (code > 0)
    assert outcome(run)["info"]["progress"]["step"] < 500
    if number == signal.SIGINT:
        done = subprocess.run([*command, "--resume"], check=True, capture_output=True, text=True)
        assert done.stdout == f"{run}\n"
    else:
        charlm.train(resume=True, out=run)
    assert outcome(run) == finished


# --- what may change and what may not -------------------------------------------------------------


@pytest.fixture
def done(tmp_path: Path, tiny_run: Path) -> Path:
    """A run of 40 steps that a test may change."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def test_resuming_a_finished_run_changes_nothing(done: Path):
    before = contents(done)
    charlm.train(resume=True, out=done, observer=StopAt(-1))
    assert contents(done) == before


def test_resuming_a_run_whose_time_is_up_changes_nothing(
    tmp_path: Path, tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch
):
    run = tmp_path / "run"
    monkeypatch.setattr(os, "fsync", lambda _: time.sleep(0.01))  # saving takes its time
    charlm.train(config(tiny_corpus, budget="0.5s", evaluate_every="25%"), out=run)
    before = contents(run)
    charlm.train(resume=True, out=run)
    assert contents(run) == before


def test_a_longer_budget_goes_on_from_where_the_shorter_one_ended(done: Path):
    before = RunFolder(done).read_metrics()
    charlm.train(resume=True, out=done, budget="60 steps")
    rows = RunFolder(done).read_metrics()
    assert rows[:4] == before
    assert [row["step"] for row in rows] == [10, 20, 30, 40, 50, 60]
    assert "budget: 60 steps" in (done / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("every", "steps"), [("25%", [6, 12, 18, 24, 36, 54, 72]), ("16 steps", [6, 12, 18, 24, 32, 48, 64, 72])]
)
def test_a_longer_budget_has_its_own_intervals(tmp_path: Path, tiny_corpus: Path, every: str, steps: list[int]):
    run = tmp_path / "run"
    charlm.train(config(tiny_corpus, evaluate_every="25%"), out=run)
    charlm.train(config(tiny_corpus, evaluate_every=every), out=run, resume=True, budget="72 steps")
    assert [row["step"] for row in RunFolder(run).read_metrics()] == steps


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [("model.hidden_size", 16, 24), ("model.cell", "lstm", "gru"), ("training.optimizer", "adamw", "sgd"),
     ("corpus.path", None, "/other.txt"), ("corpus.framing", "stream", "lines"), ("corpus.lowercase", False, True)],
)  # fmt: skip
def test_another_configuration_is_refused_with_key_old_and_new_value(done: Path, key: str, old: Any, new: Any):
    before = contents(done)
    old = charlm.load(done).config.corpus.path if key == "corpus.path" else old
    with pytest.raises(RunError) as caught:
        charlm.train(resume=True, out=done, budget="60 steps", overrides={key: new})
    assert f"{done}: cannot go on" in str(caught.value)
    assert f"{key}: {old!r} in the run, {new!r} now" in str(caught.value)
    assert contents(done) == before


@pytest.mark.parametrize("change", [lambda text: text + "one more.\n", lambda text: text + "Ä" * 99, str.upper])
def test_a_corpus_that_has_changed_is_refused_and_the_run_is_left_as_it_was(
    tmp_path: Path, tiny_text: str, change: Callable[[str], str]
):
    corpus, run = tmp_path / "corpus.txt", tmp_path / "run"
    corpus.write_text(tiny_text, encoding="utf-8")
    charlm.train(config(corpus), out=run)
    before = contents(run)
    corpus.write_text(change(tiny_text), encoding="utf-8")
    with pytest.raises(RunError, match="the corpus is not the one this run was trained on"):
        charlm.train(resume=True, out=run, budget="60 steps")
    assert contents(run) == before


@pytest.mark.parametrize("named", [True, False])
def test_where_there_is_no_run_there_is_nothing_to_resume(tmp_path: Path, tiny_corpus: Path, named: bool):
    with pytest.raises(RunError, match="no such run folder"):
        charlm.train(config(tiny_corpus) if named else None, out=tmp_path / "none", resume=True)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("lost", ["progress", "model.output.bias", "rng.cpu", "optimizer.0.exp_avg", "state.0.0"])
def test_a_checkpoint_that_lacks_a_part_is_refused(done: Path, lost: str):
    path = RunFolder(done).last
    with safetensors.safe_open(path, "pt") as file:
        header = file.metadata()
    tensors = {name: value for name, value in safetensors.torch.load_file(path).items() if name != lost}
    info = {key: value for key, value in json.loads(header["info"]).items() if key != lost}
    path.write_bytes(safetensors.torch.save(tensors, header | {"info": json.dumps(info)}))
    with pytest.raises(RunError, match=r"checkpoint\.safetensors"):
        charlm.train(resume=True, out=done, budget="60 steps")
