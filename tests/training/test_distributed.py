"""Several processes train one model: the same as one, resumed on any number of them, and ending together."""

import dataclasses
import functools
import itertools
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

import charlm
from charlm.cli import app, main
from charlm.errors import ConfigError, Interrupted, TrainingError
from charlm.store.run_folder import RunFolder
from charlm.system.distributed import Ranks, join_ranks, tree_sum
from charlm.text.batches import SHUFFLED_LINES
from charlm.training.forecast import Measured, forecast
from charlm.training.lanes import Lanes, group_count
from ranks import SECONDS, together, wait_for
from runs import STEPS, StopAt, config, outcome

# --- who computes what ------------------------------------------------------------------------------


@given(batch=st.integers(1, 200), data=st.data())
def test_every_lane_of_a_window_is_computed_once_in_the_order_of_the_ranks(batch: int, data: st.DataObject):
    sizes = [n for n in range(1, batch + 1) if batch % n == 0]
    size, lanes = data.draw(st.sampled_from(sizes)), data.draw(st.integers(1, batch))
    computed: list[int] = []
    for rank in range(size):
        own = Lanes(Ranks(rank, size), group_count(batch))
        rows = range(lanes)[own.rows(lanes)]
        assert own.sizes(lanes)[rank] == len(rows)
        computed += itertools.chain(*(rows[group] for group in own.group_rows(lanes)))
    assert computed == list(range(lanes))


@given(batch=st.integers(1, 4096))
def test_groups_divide_the_batch_evenly_and_are_large_enough_to_pay(batch: int):
    groups = group_count(batch)
    assert groups in (1, 2, 4, 8)
    assert batch % groups == 0
    assert groups == 1 or batch // groups >= 8


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=8, max_size=8), st.sampled_from([1, 2, 4, 8]))
def test_a_tree_of_pieces_gives_the_bits_of_the_whole_tree(values: list[float], pieces: int):
    whole = tree_sum([torch.tensor(value) for value in values])
    parts = [torch.tensor(values).chunk(pieces)[i].unbind() for i in range(pieces)]
    assert tree_sum([tree_sum(part) for part in parts]) == whole
    assert whole.item() == pytest.approx(math.fsum(values), abs=1.0)


def test_a_batch_that_cannot_be_shared_evenly_is_refused_with_both_ways_out():
    with pytest.raises(
        ConfigError, match=r"batch_size: 16 .* 6 processes; start 4 with torchrun, or .* multiple of 6"
    ):
        Lanes(Ranks(0, 6), 2).check(16)


# --- the same as one process ------------------------------------------------------------------------

Outcomes = Callable[[str, int, int], dict[str, Any]]


def train(corpus: Path, kind: str, run: Path, batch: int = 32, **extra: Any) -> Callable[[], object]:
    settings = config(corpus, kind, batch_size=batch, budget=f"{STEPS} steps")
    return lambda: charlm.train(settings, out=run, threads=1, **extra)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path) -> Outcomes:
    """Gives the outcome of a kind of training with a batch on so many ranks; 0: without torchrun."""

    @functools.cache
    def outcome_of(kind: str, ranks: int, batch: int = 32) -> dict[str, Any]:
        run = tmp_path_factory.mktemp("ranks") / "run"
        act = train(tiny_corpus, kind, run, batch)
        if ranks:
            ended = together(ranks, act)
            assert (set(ended.codes), ended.said) == ({0}, "")
        else:
            act()
        return outcome(run)

    return outcome_of


def test_two_ranks_come_to_the_same_bytes_as_one(trained: Outcomes):
    assert trained("stream-lstm-adam", 2, 32) == trained("stream-lstm-adam", 1, 32)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "ranks"),
    [("stream-lstm-adam", 4), ("lines-gru-adamw", 4), ("stream-gru-ngram", 2), ("lines-rnn-sgd", 2)],
)
def test_ranks_that_divide_the_groups_come_to_the_same_bytes(trained: Outcomes, kind: str, ranks: int):
    assert trained(kind, ranks, 32) == trained(kind, 1, 32)


def losses(outcome: dict[str, Any]) -> list[float]:
    return [row[key] for row in outcome["metrics"] for key in ("train_loss", "validation_loss") if row[key]]


@pytest.mark.slow
def test_ranks_that_divide_the_batch_but_not_its_groups_come_to_the_same_up_to_rounding(trained: Outcomes):
    two, three, alone = (trained("stream-lstm-adam", ranks, 6) for ranks in (2, 3, 0))
    assert two["model.safetensors"] != three["model.safetensors"]
    assert losses(two) == pytest.approx(losses(three), rel=1e-4)
    assert losses(two) != pytest.approx(losses(alone), rel=1e-4)  # which drops others: masks decide, and are equal


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["stream-gru-parts", "lines-rnn-sgd"])
def test_what_drops_nothing_is_the_same_without_torchrun_up_to_rounding(trained: Outcomes, kind: str):
    assert losses(trained(kind, 2, 32)) == pytest.approx(losses(trained(kind, 0, 32)), rel=1e-4)


# --- stopped and gone on with -----------------------------------------------------------------------


class StopRank(StopAt):
    """Sends a signal to another rank behind a step; rank 0 alone is told of steps."""

    def __init__(self, step: int, process: Callable[[], int]) -> None:
        super().__init__(step)
        self.process = process

    def on_step(self, report: Any, *_: object) -> None:
        if report.step == self.step:
            os.kill(self.process(), signal.SIGTERM)

    on_evaluation = on_step


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["stream-lstm-adam", "lines-gru-adamw"])
def test_a_run_stopped_on_two_ranks_goes_on_with_four_and_then_alone(
    tmp_path: Path, tiny_corpus: Path, trained: Outcomes, kind: str
):
    run = tmp_path / "run"
    for ranks, step in ((2, 7), (4, 16)):
        act = train(tiny_corpus, kind, run, observer=StopAt(step), resume=step != 7)
        ended = together(ranks, act)
        assert ended.codes == [130] * ranks
        # What is asked of rank 0 behind a step is told to all with the next.
        assert ended.said.startswith(
            f"charlm: training was stopped at step {step + 1} and saved; continue it with `charlm train"
        )
        assert ended.said.count("\n") == 1
    train(tiny_corpus, kind, run, resume=True)()
    assert outcome(run) == trained(kind, 1, 32)


@pytest.mark.slow
def test_a_run_begun_alone_goes_on_with_two_ranks(tmp_path: Path, tiny_corpus: Path, trained: Outcomes):
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        train(tiny_corpus, "stream-gru-parts", run, observer=StopAt(7))()
    assert together(2, train(tiny_corpus, "stream-gru-parts", run, resume=True)).codes == [0, 0]
    assert losses(outcome(run)) == pytest.approx(losses(trained("stream-gru-parts", 1, 32)), rel=1e-4)


def test_a_signal_to_any_rank_stops_all_of_them_behind_the_same_step(tmp_path: Path, tiny_corpus: Path):
    run, number = tmp_path / "run", tmp_path / "number"
    observer = StopRank(7, lambda: int(number.read_text()))

    def act() -> object:
        if os.environ["RANK"] == "1":
            number.write_text(str(os.getpid()))
        return train(tiny_corpus, "stream-gru-ngram", run, observer=observer)()

    ended = together(2, act)
    assert ended.codes == [143, 143]
    step = RunFolder(run).load_last()[1]["progress"]["step"]
    assert 8 <= step <= STEPS
    assert ended.said.count("\n") == 1
    assert f"stopped at step {step} and saved" in ended.said


def test_a_budget_of_time_ends_for_all_at_once(tmp_path: Path, tiny_corpus: Path):
    settings = config(tiny_corpus, batch_size=8, budget="1s", evaluate_every="30%")
    ended = together(2, lambda: charlm.train(settings, out=tmp_path / "run", threads=1))
    assert (ended.codes, ended.said) == ([0, 0], "")
    assert RunFolder(tmp_path / "run").load_last()[1]["progress"]["seconds"] == pytest.approx(1, abs=0.5)


# --- what goes wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        (
            {"training.batch_size": 15},
            2,
            "training.batch_size: 15 sequences cannot be divided evenly among 2 processes",
        ),
        ({"corpus.path": "/nowhere"}, 2, "/nowhere: no such file"),
        ({"training.learning_rate": -1.0}, 2, "training.learning_rate"),
    ],
)
def test_what_fails_is_said_once_and_ends_all_with_its_exit_code(
    tmp_path: Path, tiny_corpus: Path, changes: dict[str, Any], code: int, message: str
):
    ended = together(2, train(tiny_corpus, "lines-rnn-sgd", tmp_path / "run", overrides=changes))
    assert ended.codes == [code, code]
    assert ended.said.count("charlm: ") == 1
    assert message in ended.said


def test_a_failure_of_rank_0_in_an_evaluation_ends_all_with_its_message(
    tmp_path: Path, tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object) -> None:
        raise TrainingError("no room")

    monkeypatch.setattr(RunFolder, "save_model", fail)
    ended = together(2, train(tiny_corpus, "lines-rnn-sgd", tmp_path / "run"))
    assert (ended.codes, ended.said) == ([1, 1], "charlm: no room\n")


@pytest.mark.slow
@pytest.mark.parametrize("dead", [0, 2])
def test_a_rank_that_dies_ends_the_others_with_one_message_and_a_restart_goes_on_to_the_same_bytes(
    tmp_path: Path, tiny_corpus: Path, trained: Outcomes, dead: int
):
    kind, run = "stream-lstm-adam", tmp_path / "run"

    class Waiting(StopAt):
        """Waits behind a step, so that there is something left to do when another process dies."""

        def on_step(self, report: Any, *_: object) -> None:
            if report.step == self.step:
                (tmp_path / "reached").touch()
                wait_for(tmp_path / "dead")

        on_evaluation = on_step

    def kill(processes: Sequence[int]) -> None:
        wait_for(tmp_path / "reached")
        os.kill(processes[dead], signal.SIGKILL)
        (tmp_path / "dead").touch()

    ended = together(4, train(tiny_corpus, kind, run, observer=Waiting(7)), watch=kill)
    assert ended.codes == [-signal.SIGKILL if rank == dead else 1 for rank in range(4)]
    assert ended.said.count("charlm: ") == 1
    assert "another process of this command has ended; what was saved before is intact" in ended.said
    ended = together(4, train(tiny_corpus, kind, run), restarts=1)
    assert (ended.codes, ended.said) == ([0] * 4, "")
    assert outcome(run) == trained(kind, 1, 32)


@pytest.mark.slow
def test_torchrun_starts_a_training_again_that_lost_a_process_and_prints_its_folder_once(
    tmp_path: Path, tiny_corpus: Path
):
    settings = config(tiny_corpus, batch_size=8, budget="100 steps", evaluate_every="20 steps")
    whole, run, path = tmp_path / "whole", tmp_path / "run", tmp_path / "config.yaml"
    assert together(2, lambda: charlm.train(settings, out=whole, threads=1)).codes == [0, 0]
    path.write_text(yaml.safe_dump(settings))
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "--max-restarts=1",
    ]
    command = [*torchrun, "-m", "charlm", "train", str(path), "--out", str(run)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(RunFolder(run).metrics)
    os.kill(int(RunFolder(run).lock.read_text().split()[1]), signal.SIGKILL)
    out, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, out) == (0, f"{run}\n"), err
    assert err.count(f"{run}: torchrun restarted this training") == 1
    assert outcome(run) == outcome(whole)


# --- the text ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["in memory", "mapped", "mapped and gone"])
@pytest.mark.parametrize("piece_bytes", [1000, 1 << 20])
def test_each_rank_gets_the_symbols_and_maps_those_that_are_mapped(tmp_path: Path, kind: str, piece_bytes: int):
    ids = np.random.default_rng(1).integers(0, 60_000, 5000).astype(np.uint16)
    path = tmp_path / "ids"
    path.write_bytes(bytes(64) + ids.tobytes())

    def act() -> None:
        with join_ranks() as ranks:
            part = None
            if ranks.leads:
                part = ids[1000:4000]
                if kind != "in memory":
                    part = np.memmap(path, np.uint16, "r", 64).view(np.ndarray)[1000:4000]
                if kind == "mapped and gone":
                    path.unlink()
            found = ranks.share(part, "<u2", 3000, piece_bytes=piece_bytes)
            assert (found == ids[1000:4000]).all()
            base: Any = found
            while base is not None and not isinstance(base, np.memmap):
                base = getattr(base, "base", None)
            if kind == "mapped":
                assert Path(base.filename) == path
            elif not ranks.leads:
                assert (base is None) == (piece_bytes > 6000)  # in a temporary file of its own, or in memory

    ended = together(3, act)
    assert (ended.codes, ended.said) == ([0, 0, 0], "")


# --- measured before it begins ----------------------------------------------------------------------


def test_a_check_measures_all_processes_and_computes_what_more_would_take(
    tmp_path: Path, tiny_corpus: Path, capfd: pytest.CaptureFixture[str]
):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config(tiny_corpus, batch_size=8)))
    check = ["config", "check", str(path), "--at", "1GB", "--devices", "4"]
    ended = together(2, lambda: app(check, standalone_mode=False))
    assert ended.codes == [0, 0]
    rows = dict(line.split("  ", 1) for line in capfd.readouterr().out.splitlines() if not line.startswith("  "))
    assert rows["processes"].strip().startswith("2: ")
    assert "of which" in rows["a step"]
    assert rows["computed for"].strip() == "1.0 GB of such text, 4 processes"


def test_the_recipe_measures_all_processes_and_makes_the_batch_one_that_they_can_share(
    tmp_path: Path, tiny_corpus: Path
):
    run = tmp_path / "run"
    ended = together(3, lambda: charlm.train(corpus=tiny_corpus, budget="3 steps", out=run, threads=1))
    assert (ended.codes, ended.said) == ([0, 0, 0], "")
    assert charlm.load(run).config.training.batch_size % 3 == 0


def test_other_commands_are_refused_once(tiny_run: Path):
    def sample() -> None:
        sys.argv = ["charlm", "sample", str(tiny_run)]
        main()

    ended = together(2, sample)
    assert ended.codes == [2, 2]
    assert ended.said.count("charlm: sample is not divided among the processes that torchrun starts") == 1


def measured(processes: int, step: float, summing: float) -> Measured:
    return Measured(processes, step, summing, 1000, 0.5, 0.0, 1, 250_000, 10_000_000, 100_000_000)


def test_of_a_step_what_is_computed_is_shared_by_the_processes_and_what_is_sent_is_not():
    alone, eight = (forecast(measured(2, 0.050, 0.010), 1e9, devices) for devices in (1, 8))
    assert alone.step_seconds == pytest.approx(0.080)  # twice what each of two computes
    assert eight.step_seconds == pytest.approx(0.080 / 8 + 0.010 * 7 / 8 * 2)
    assert alone.pass_seconds == pytest.approx(0.080 * 500_000)
    assert (alone.sent_bytes, eight.sent_bytes) == (0, pytest.approx(2 * 7 / 8 * 1e6))
    assert eight.memory_bytes == pytest.approx(10e6 + 25 * 100e6)
    assert eight.follower_bytes == 10e6
    assert eight.text_disk_bytes == 1.5e9


def test_lines_take_memory_as_far_as_they_are_shuffled_together():
    lines = dataclasses.replace(measured(1, 0.050, 0.0), lines_per_byte=0.1)
    assert forecast(lines, 1e6, 1).follower_bytes == 10e6 + 20 * 0.1e6
    assert forecast(lines, 100e9, 1).follower_bytes == 10e6 + 20 * SHUFFLED_LINES


def test_without_a_second_process_nobody_knows_what_adding_up_takes():
    assert forecast(measured(1, 0.050, 0.0), 1e9, 1).step_seconds == pytest.approx(0.050)
    assert forecast(measured(1, 0.050, 0.0), 1e9, 2).step_seconds is None
