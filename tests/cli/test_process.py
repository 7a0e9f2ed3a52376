"""Where the process itself matters: pipes that close or wait, signals, and a disk that is full."""

import contextlib
import errno
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from typer.testing import CliRunner

import charlm
from charlm.cli import app
from charlm.store.run_folder import RunFolder

pytestmark = pytest.mark.slow

PATIENCE = 30  # seconds; only a hanging program meets it


@contextlib.contextmanager
def program(*args: object) -> Iterator[subprocess.Popen[bytes]]:
    """Runs `charlm` with pipes, as buffered as a shell would; kills it if a test fails."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "charlm", *map(str, args)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment) as process:
        guard = threading.Timer(PATIENCE, process.kill)
        guard.start()
        try:
            yield process
        finally:
            guard.cancel()
            process.kill()


def end_of(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Waits for the exit code and all of standard error, standard input being left open."""
    assert process.stderr is not None
    message = process.stderr.read().decode()
    return process.wait(), message


class Lines:
    """Lines of a pipe, with an end to patience."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._lines: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=lambda: [self._lines.put(line) for line in pipe], daemon=True).start()

    def next(self) -> bytes:
        return self._lines.get(timeout=PATIENCE)


def ask(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(line)
    process.stdin.flush()


# ------------------------------------------------------------------------------------------------ closed pipes


@pytest.mark.parametrize("command", ["sample", "score"])
def test_a_reader_that_leaves_after_the_first_line_ends_the_program_quietly(
    command: str, tiny_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "many.txt").write_text("a sentence\n" * 20_000)
    more = {"sample": ["--length", 10**9, "--count", 1], "score": ["--file", tmp_path / "many.txt"]}[command]
    with program(command, tiny_run, *more) as process:
        assert process.stdout is not None
        assert process.stdout.readline().endswith(b"\n")
        process.stdout.close()
        assert end_of(process) == (0, "")


@pytest.mark.parametrize("command", [["--help"], ["train", "--help"], ["config", "init"]], ids=" ".join)
def test_output_that_nobody_reads_brings_no_complaint(command: list[str]) -> None:
    with program(*command) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert end_of(process)[1] == ""


# ------------------------------------------------------------------------------------------------- a coprocess


@pytest.mark.parametrize("output", ["jsonl", "tsv"])
def test_who_writes_a_line_and_waits_gets_its_answer(output: str, tiny_run: Path) -> None:
    with program("score", tiny_run, "--format", output) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        answers = Lines(process.stdout)
        for number in range(3):
            ask(process, b"sentence %d\n" % number)
            if number == 0 and output != "jsonl":
                assert b"text" in answers.next()  # the header
            assert b"sentence %d" % number in answers.next()
        ask(process, b"the last, without a newline")
        process.stdin.close()
        assert b"the last, without a newline" in answers.next()
        assert end_of(process)[0] == 0


def test_a_coprocess_ends_quietly_when_its_reader_goes_before_its_writer(tiny_run: Path) -> None:
    with program("score", tiny_run, "--format", "jsonl") as process:
        assert process.stdout is not None
        ask(process, b"one\n")
        assert json.loads(process.stdout.readline())["text"] == "one"
        process.stdout.close()
        ask(process, b"two\n")
        code, message = end_of(process)
        assert "Fatal" not in message
        assert code == 0


def test_a_coprocess_refuses_a_bad_line_at_once(tiny_run: Path) -> None:
    with program("score", tiny_run, "--format", "jsonl") as process:
        ask(process, b"b\xe9d\n")
        code, message = end_of(process)
        (message,) = message.splitlines()
        assert message.startswith("charlm: standard input: not UTF-8: byte 0xe9 at offset 1 (line 1); it is ")
        assert "--encoding" in message
        assert code == 2


# ----------------------------------------------------------------------------------------------------- signals


def test_ctrl_c_ends_a_program_that_waits_for_sentences(tiny_run: Path) -> None:
    with program("score", tiny_run, "--format", "jsonl") as process:
        assert process.stdout is not None
        ask(process, b"one\n")
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        code, message = end_of(process)
        assert "Fatal" not in message
        assert "Traceback" not in message
        assert code == 130


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_training_that_is_stopped_saves_its_work_and_can_go_on(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    (tmp_path / "corpus.txt").write_text("the boat sees the river\n" * 100)
    run = tmp_path / "run"
    settings = ["--set", "training.evaluate_every=1 steps", "--set", "model.hidden_size=8"]
    with program(
        "train", "--corpus", tmp_path / "corpus.txt", "--budget", "99999 epochs", "--out", run, *settings
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        assert any(b"step 1 " in line for line in process.stderr)
        process.send_signal(number)
        left, message = end_of(process)
        assert left == code
        assert "saved" in message
        assert f"--out {run}" in message
        assert process.stdout.read() == b""
    steps = len((run / "metrics.jsonl").read_text().splitlines())
    budget = f"training.budget={steps + 2} steps"
    result = CliRunner().invoke(app, ["train", "--resume", "--out", str(run), "--set", budget])
    assert (result.exit_code, result.stdout) == (0, f"{run}\n")
    assert json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["step"] == steps + 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("begun", ["importing", "reading"])
def test_a_signal_before_the_first_step_ends_training_quietly(
    begun: str, number: signal.Signals, code: int, tmp_path: Path
) -> None:
    os.mkfifo(corpus := tmp_path / "corpus")  # reading it waits
    with program("train", "--corpus", corpus, "--out", tmp_path / "run", "-q") as process:
        wait_until_it_catches(process, signal.SIGUSR1)
        if begun == "reading":
            writer = os.open(corpus, os.O_WRONLY)  # opens when charlm does
        process.send_signal(signal.SIGUSR1)
        process.send_signal(number)
        left, message = end_of(process)
        if begun == "reading":
            os.close(writer)
    assert left == code
    assert message.count("\n") <= 1
    assert "Traceback" not in message
    assert not (tmp_path / "run").exists()


def wait_until_it_catches(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        status = Path(f"/proc/{process.pid}/status").read_text()
        if int(status.partition("SigCgt:")[2].split()[0], 16) >> (number - 1) & 1:
            return
        time.sleep(0.01)
    raise TimeoutError


def test_ctrl_c_twice_ends_training_quietly(corpus: Path, tmp_path: Path) -> None:
    settings = ["--set", "training.evaluate_every=1 steps", "--set", "model.hidden_size=8"]
    out = tmp_path / "run"
    with program("train", "--corpus", corpus, "--budget", "99999 epochs", "--out", out, *settings) as process:
        assert process.stderr is not None
        assert any(b"step 1 " in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        code, message = end_of(process)
    assert code == 130
    assert "Traceback" not in message


# --------------------------------------------------------------------------------------------------- full disk


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "command",
    [
        ["--help"], ["score", "--help"], ["--version"], ["sample", "RUN"], ["sample", "RUN", "--count", "3"],
        ["score", "RUN", "the boat"], ["score", "RUN", "the boat", "--format", "jsonl"], ["eval", "RUN"],
        ["inspect", "RUN"], ["config", "init"], ["config", "schema"], ["corpus", "list"],
        ["rerank", "RUN", "NBEST"], ["pairs", "RUN", "PAIRS"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_output_for_which_there_is_no_room_is_one_message(
    command: list[str], unbuffered: str, tiny_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "NBEST").write_text("0 ||| the boat ||| f= 1 ||| 1\n")
    (tmp_path / "PAIRS").write_text("the boat\tboat the\n")
    names = {"RUN": tiny_run, "NBEST": tmp_path / "NBEST", "PAIRS": tmp_path / "PAIRS"}
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "charlm", *(str(names.get(part, part)) for part in command)],
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert done.stderr.splitlines()[-1] == "charlm: standard output: cannot be written: No space left on device"
    assert "Traceback" not in done.stderr
    assert done.returncode == 1


def train_arguments(corpus: Path, run: Path, steps: int) -> list[str]:
    settings = ["training.evaluate_every=10 steps", "model.hidden_size=64", "training.batch_size=4"]
    options = [part for setting in settings for part in ("--set", setting)]
    return ["train", "--corpus", str(corpus), "--budget", f"{steps} steps", "--out", str(run), *options]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text("the boat sees the river\n" * 40)
    return path


@pytest.fixture
def small_disk(corpus: Path, tmp_path: Path) -> Iterator[Path]:
    """A disk with room for one checkpoint and half of the next."""
    rehearsal = tmp_path / "rehearsal"
    assert CliRunner().invoke(app, train_arguments(corpus, rehearsal, 10)).exit_code == 0
    sizes = {path: -(-path.stat().st_size // 4096) * 4 for path in rehearsal.rglob("*") if path.is_file()}
    disk = tmp_path / "disk"
    disk.mkdir()
    room = sum(sizes.values()) + max(sizes.values()) // 2 + 20  # KiB; 20 for folders and the rounding of names
    mount = ["mount", "-t", "tmpfs", "-o", f"size={room}k", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)  # weights that are still mapped keep it busy


def test_a_full_disk_is_named_and_the_last_checkpoint_stays_whole(
    small_disk: Path, corpus: Path, tmp_path: Path
) -> None:
    run = small_disk / "run"
    result = CliRunner().invoke(app, train_arguments(corpus, run, 1000))
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert f"{run}/last/checkpoint.safetensors: cannot be written: No space left on device" in result.stderr
    assert charlm.load(run).score(["the boat"])[0].characters == 8
    saved = RunFolder(run).load_last()
    assert saved[1]["progress"]["step"] >= 10
    assert not list(run.rglob("*.new"))
    shutil.copytree(run, tmp_path / "elsewhere")
    more = ["train", "--resume", "--out", str(tmp_path / "elsewhere"), "--set", "training.budget=40 steps"]
    assert CliRunner().invoke(app, more).exit_code == 0


def test_a_disk_that_fails_in_the_middle_of_an_evaluation_costs_only_the_work_since_the_checkpoint(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    sync, samples = os.fsync, run / "samples.txt"

    def full_once_there_are_samples(descriptor: int) -> None:
        if samples.exists() and not os.path.isdir(descriptor):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full_once_there_are_samples)
    result = CliRunner().invoke(app, train_arguments(corpus, run, 1000))
    assert result.exit_code == 1
    assert "cannot be written: No space left on device" in result.stderr
    assert str(run) in result.stderr
    assert result.stdout == ""
    saved = RunFolder(run).load_last()
    assert saved[1]["progress"]["step"] == 0
    assert charlm.load(run).score(["the boat"])[0].characters == 8
