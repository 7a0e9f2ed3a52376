"""A training that is stopped, killed or cut off goes on as if nothing had happened, or says why it cannot."""

import functools
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import charlm
from charlm.config import load_config
from charlm.errors import CorpusError, Interrupted, RunError
from charlm.store.run_folder import RunFolder
from charlm.training.choice import make_network
from runs import KINDS, STEPS, StopAt, config, contents, outcome

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
    best = safetensors.numpy.load(uninterrupted(kind)["model.safetensors"])
    assert all(np.array_equal(value, best[name]) for name, value in lm.mixture.arrays().items())


@pytest.mark.parametrize("kind", ["stream-gru-ngram", "lines-rnn-sgd"])
def test_it_does_so_too_with_rows_divided_among_threads(tmp_path: Path, tiny_corpus: Path, kind: str):
    large = config(tiny_corpus, kind, batch_size=9, budget="14 steps")  # large enough to be divided
    large["model"] = large["model"] | {"hidden_size": 402}
    threads = torch.get_num_threads()
    try:
        whole, run = tmp_path / "whole", tmp_path / "run"
        lm = charlm.train(large, out=whole, threads=2)
        trained = make_network(load_config(large), len(lm.vocabulary), torch.device("cpu"))
        assert trained.plan.row_threads(9, 2) == 2
        with pytest.raises(Interrupted):
            charlm.train(large, out=run, threads=2, observer=StopAt(7))
        charlm.train(large, out=run, threads=2, resume=True)
        assert outcome(run) == outcome(whole)
    finally:
        torch.set_num_threads(threads)


def test_the_command_that_goes_on_is_quoted_for_the_shell(tmp_path: Path, tiny_corpus: Path):
    run = tmp_path / "my run's; ls"
    with pytest.raises(Interrupted) as caught:
        charlm.train(config(tiny_corpus), out=run, observer=StopAt(7, signal.SIGTERM))
    command = str(caught.value).split("`")[1]
    assert shlex.split(command) == ["charlm", "train", "--resume", "--out", str(run)]


@pytest.mark.slow
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


LONG = {"model.hidden_size": 16, "training.budget": "500 steps", "training.evaluate_every": "20 steps",
        "training.sequence_length": 16, "training.device": "cpu"}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path) -> dict[str, Any]:
    """The outcome of a longer run, never disturbed."""
    run = tmp_path_factory.mktemp("finished") / "run"
    charlm.train(corpus=[tiny_corpus], out=run, overrides=LONG)
    return outcome(run)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_killed_command_exits_with_its_code_and_resumes_to_the_same_end(
    tmp_path: Path, tiny_corpus: Path, finished: dict[str, Any], number: int, code: int
):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "charlm", "train", "--corpus", str(tiny_corpus), "--out", str(run)]
    command += [f"--set={key}={value}" for key, value in LONG.items()]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not RunFolder(run).metrics.exists() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, b""), err.decode()
    assert b"Traceback" not in err
    assert (b"--resume" in err) == (code > 0)
    _, info = RunFolder(run).load_last()  # the rest of the folder may be between two writes
    assert info["progress"]["step"] < 500
    if number == signal.SIGINT:
        done = subprocess.run([*command, "--resume"], check=True, capture_output=True, text=True)
        assert done.stdout == f"{run}\n"
    else:
        charlm.train(resume=True, out=run)
    assert outcome(run) == finished


# --- saved on request, and kept ---------------------------------------------------------------------


class SaveAt(StopAt):
    """Sends SIGUSR1 behind a step, and looks what was saved when that is told."""

    def __init__(self, run: Path, step: int) -> None:
        super().__init__(step, signal.SIGUSR1)
        self.folder, self.saved = RunFolder(run), list[tuple[str, int]]()

    def on_note(self, note: str) -> None:
        if note.startswith("validation: "):
            return
        self.saved.append((note, self.folder.load_last()[1]["progress"]["step"]))


@pytest.mark.parametrize("step", [7, 10, STEPS])  # between evaluations, at one, at the last
def test_sigusr1_saves_at_once_and_training_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, tiny_corpus: Path, uninterrupted: Outcomes, step: int
):
    before = signal.getsignal(signal.SIGUSR1)
    observer = SaveAt(tmp_path / "run", step)
    charlm.train(config(tiny_corpus), out=tmp_path / "run", observer=observer)
    assert observer.saved == [(f"saved at step {step}", step)]
    assert outcome(tmp_path / "run") == uninterrupted("stream-gru-ngram")
    assert signal.getsignal(signal.SIGUSR1) is before


def test_kept_checkpoints_are_those_of_the_newest_evaluations_and_each_goes_on_to_the_same_end(
    tmp_path: Path, tiny_corpus: Path
):
    run = tmp_path / "run"
    charlm.train(config(tiny_corpus, keep=3), out=run)
    end, folder = outcome(run), RunFolder(run)
    assert sorted(folder.kept()) == [15, 20, 24]
    for step in (20, 15):
        shutil.copy(folder.kept()[step], folder.last)
        charlm.train(resume=True, out=run)
        assert outcome(run) == end
        assert sorted(folder.kept()) == [15, 20, 24]


@pytest.fixture
def done(tmp_path: Path, tiny_run: Path) -> Path:
    """A run of 40 steps that a test may change."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


# --- damaged --------------------------------------------------------------------------------------


def test_without_its_checkpoint_a_run_is_refused_and_not_begun_anew(done: Path):
    RunFolder(done).last.unlink()
    before = contents(done)
    with pytest.raises(RunError, match=r"last/checkpoint\.safetensors is missing; .*charlm train --from"):
        charlm.train(resume=True, out=done, budget="60 steps")
    assert contents(done) == before


def test_a_damaged_checkpoint_points_to_the_one_that_stands_beside_it(tmp_path: Path, tiny_corpus: Path):
    run = tmp_path / "run"
    charlm.train(config(tiny_corpus, keep=2), out=run)
    end, folder = outcome(run), RunFolder(run)
    os.truncate(folder.last, 1000)
    with pytest.raises(
        RunError, match=r"damaged.*; to continue from an earlier step, copy step-24\.safetensors .* over it"
    ):
        charlm.train(resume=True, out=run)
    shutil.copy(folder.kept()[20], folder.last)
    charlm.train(resume=True, out=run)
    assert outcome(run) == end


@pytest.mark.parametrize("name", ["metrics.jsonl", "samples.txt"])
def test_a_log_that_is_gone_begins_anew(done: Path, name: str):
    (done / name).unlink()
    charlm.train(resume=True, out=done, budget="60 steps")
    assert b"50" in (done / name).read_bytes()
    assert RunFolder(done).load_last()[1]["progress"]["step"] == 60


def test_best_weights_that_are_gone_come_anew_with_the_next_evaluation(done: Path):
    RunFolder(done).model.unlink()
    lm = charlm.train(resume=True, out=done, budget="60 steps")
    assert lm.score(["the boat"])[0].characters == 8


def test_a_configuration_changed_by_hand_is_not_what_the_run_goes_on_with(done: Path):
    path = done / "config.yaml"
    before = path.read_text()
    path.write_text(before.replace("seed: 1", "seed: 2").replace("40 steps", "41 steps"))
    observer = SaveAt(done, -1)
    charlm.train(resume=True, out=done, observer=observer)
    assert path.read_text() == before
    ((note, _),) = observer.saved
    assert note.startswith(f"{path}: this file was changed after training wrote it; ")


def test_a_configuration_that_says_the_same_in_other_words_is_no_change(done: Path):
    path = done / "config.yaml"
    before = path.read_text()
    path.write_text("# mine\n" + before.replace("  output_rank: null\n", ""))  # as an earlier version wrote it
    observer = SaveAt(done, -1)
    charlm.train(resume=True, out=done, observer=observer)
    assert path.read_text() == before
    assert not observer.saved


def test_a_longer_budget_counts_from_the_moment_it_is_given(done: Path):
    with pytest.raises(Interrupted):
        charlm.train(resume=True, out=done, budget="60 steps", observer=StopAt(41))
    charlm.train(resume=True, out=done)
    assert RunFolder(done).read_metrics()[-1]["step"] == 60


# --- what may change and what may not -------------------------------------------------------------


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
     ("corpus.framing", "stream", "lines"), ("corpus.split", "tail", "spread"), ("corpus.validation", 0.1, "/a"),
     ("corpus.lowercase", False, True)],
)  # fmt: skip
def test_another_configuration_is_refused_with_key_old_and_new_value(done: Path, key: str, old: Any, new: Any):
    before = contents(done)
    with pytest.raises(RunError) as caught:
        charlm.train(resume=True, out=done, budget="60 steps", overrides={key: new})
    assert f"{done}: this run cannot continue" in str(caught.value)
    assert f"{key}: {old!r} in the run, {new!r} now" in str(caught.value)
    assert contents(done) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text + "one more.\n", ["the run was trained on", "now there are"]),
        (lambda text: "Ä" * 99 + text, ["1 new: 'Ä'"]),
        (lambda text: text.replace("k", "!"), ["1 new: '!'", "1 missing: 'k'"]),
        (lambda text: text[1:] + text[0], []),
    ],
    ids=["longer", "another character", "one for another", "other order"],
)
def test_a_corpus_that_has_changed_is_refused_with_what_differs_and_the_run_is_left_as_it_was(
    tmp_path: Path, tiny_text: str, change: Callable[[str], str], said: list[str]
):
    corpus, run = tmp_path / "corpus.txt", tmp_path / "run"
    corpus.write_text(tiny_text, encoding="utf-8")
    charlm.train(config(corpus), out=run)
    before = contents(run)
    corpus.write_text(change(tiny_text), encoding="utf-8")
    with pytest.raises(RunError, match="the corpus is not the one that this run was trained on") as caught:
        charlm.train(resume=True, out=run, budget="60 steps")
    lines = str(caught.value).splitlines()[1:]
    assert all(any(part in line for line in lines) for part in said), lines
    assert len(lines) <= len(said) + 1
    assert contents(run) == before


def test_a_corpus_that_has_moved_is_still_the_same_text(tmp_path: Path, tiny_text: str):
    run, whole = tmp_path / "run", tmp_path / "whole"
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(tiny_text, encoding="utf-8")
    charlm.train(config(corpus), out=whole)
    with pytest.raises(Interrupted):
        charlm.train(config(corpus), out=run, observer=StopAt(7))
    moved = corpus.rename(tmp_path / "moved.txt")
    charlm.train(resume=True, out=run, corpus=moved)
    old, new = outcome(whole), outcome(run)
    assert str(moved) in new.pop("config.yaml").decode()
    assert (new.pop("info")["identity"]["corpus"], new) == (old.pop("info")["identity"]["corpus"], new)
    assert old.pop("config.yaml")
    assert new == old


def test_a_file_to_validate_on_may_move_and_must_stay_the_same_text(tmp_path: Path, tiny_text: str):
    run, corpus, new = tmp_path / "run", tmp_path / "corpus.txt", tmp_path / "new.txt"
    corpus.write_text(tiny_text, encoding="utf-8")
    new.write_text("the boat likes a miller.\n", encoding="utf-8")
    started = config(corpus)
    started["corpus"]["validation"] = str(new)
    with pytest.raises(Interrupted):
        charlm.train(started, out=run, observer=StopAt(7))
    moved = new.rename(tmp_path / "moved.txt")
    with pytest.raises(CorpusError, match=rf"^corpus\.validation: {new}: no such file"):
        charlm.train(resume=True, out=run)
    lm = charlm.train(resume=True, out=run, overrides={"corpus.validation": str(moved)})
    assert lm.config.corpus.validation == str(moved)
    moved.write_text("the boat likes a heron.\n", encoding="utf-8")
    with pytest.raises(RunError, match="the corpus is not the one"):
        charlm.train(resume=True, out=run, budget="60 steps")


class Told(StopAt):
    """Stops a training that has found out how its text is framed."""

    def on_note(self, note: str) -> None:
        assert note.startswith(("framing: lines (", "validation: 10% of the lines"))


def test_a_run_goes_on_with_the_framing_that_was_found(tmp_path: Path, tiny_corpus: Path):
    found = config(tiny_corpus)
    del found["corpus"]["framing"], found["corpus"]["split"]
    run, whole = tmp_path / "run", tmp_path / "whole"
    lm = charlm.train(found, out=whole)
    assert (lm.config.corpus.framing, lm.vocabulary.framing) == ("lines", "lines")
    with pytest.raises(Interrupted):
        charlm.train(found, out=run, observer=Told(7))
    charlm.train(found, resume=True, out=run)
    assert outcome(run) == outcome(whole)


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
