"""`charlm inspect --follow`: a training is watched from its files alone, whatever becomes of it."""

import io
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from rich.cells import cell_len

import charlm
import runs
from charlm.cli.inspect_follow import follow_training
from charlm.errors import RunError, TrainingError
from charlm.store.lock import hold_lock
from charlm.store.run_folder import RunFolder
from commands import PLAIN, refused, run
from runs import StopAt, config, contents

FOLLOW = ["inspect", "--follow"]


def stopped(corpus: Path, out: Path, step: int) -> Path:
    """The folder of a run of 24 steps, evaluated every 5, that was stopped behind this one."""
    with pytest.raises(charlm.Interrupted):
        charlm.train(config(corpus), out=out, observer=StopAt(step))
    return out


def trained_meanwhile(folder: Path, then: Callable[[], object]) -> Callable[[], None]:
    """What waiting does: at the second time the training ends as `then` says; until then somebody trains."""
    held = ExitStack()
    held.enter_context(hold_lock(RunFolder(folder).lock))
    times = iter((lambda: None, lambda: (held.close(), then())))
    return lambda: (next(times)(), None)[1]


# ------------------------------------------------------------------------------------------ without a terminal


def test_a_finished_run_shows_its_evaluations_and_its_end_and_stays_as_it_was(tiny_run: Path) -> None:
    before = contents(tiny_run)
    result = run(*FOLLOW, tiny_run)
    assert result.exit_code == 0
    assert [re.findall(r"step (\d+)", line) for line in result.stdout.splitlines()] == [
        ["10"],
        ["20"],
        ["30"],
        ["40"],
    ]
    assert all(
        re.search(r"train \d\.\d+  validation \d\.\d+  \d\.\d+ bits/char", row)
        for row in result.stdout.splitlines()
    )
    assert result.stderr.startswith(f"{tiny_run}: finished after ")
    assert contents(tiny_run) == before


def test_a_training_is_followed_from_before_its_first_evaluation_to_its_end(
    tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = stopped(tiny_corpus, tmp_path / "run", 2)
    assert not RunFolder(folder).metrics.exists()

    def finish() -> None:
        charlm.train(out=folder, resume=True)

    follow_training(folder, wait=trained_meanwhile(folder, finish))
    shown, said = capsys.readouterr()
    assert re.findall(r"step (\d+)", shown) == ["5", "10", "15", "20", "24"]
    first, last = said.splitlines()
    assert re.search(r"run: training \(process \d+ on \S+\), 8% done, .+ left$", first)
    assert "run: finished after " in last


def test_a_run_that_is_only_being_prepared_is_waited_for(
    tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    RunFolder(folder).make()

    def train() -> None:
        charlm.train(config(tiny_corpus), out=folder)

    follow_training(folder, wait=trained_meanwhile(folder, train))
    shown, said = capsys.readouterr()
    assert shown.count("\n") == 5
    assert "starting (process " in said


def test_a_training_that_was_stopped_says_how_to_go_on(tiny_corpus: Path, tmp_path: Path) -> None:
    folder = stopped(tiny_corpus, tmp_path / "a run", 12)
    result = run(*FOLLOW, folder)
    assert result.exit_code == 1
    assert result.stdout.count("\n") == 2
    assert result.stderr.endswith(
        f"charlm: {folder}: no process is training this run, which stopped at step 12; "
        f"continue it with `charlm train --resume --out '{folder}'`\n"
    )


@pytest.mark.slow
def test_a_training_that_was_killed_says_so_too(tiny_corpus: Path, tmp_path: Path) -> None:
    code = (
        "import sys, charlm; sys.path.insert(0, sys.argv[3]); import runs\n"
        f"charlm.train(runs.config(sys.argv[1]), out=sys.argv[2], observer=runs.StopAt(12, {int(signal.SIGKILL)}))"
    )
    program = [sys.executable, "-c", code, tiny_corpus, tmp_path / "run", Path(runs.__file__).parent]
    assert subprocess.run(program, check=False, timeout=60).returncode == -signal.SIGKILL
    assert (tmp_path / "run/last/lock").read_text()  # it could not tidy up
    result = run(*FOLLOW, tmp_path / "run")
    assert result.exit_code == 1
    assert "no process is training this run, which stopped at step 10" in result.stderr


def test_a_run_folder_that_vanishes_is_named(tiny_corpus: Path, tmp_path: Path) -> None:
    folder = stopped(tiny_corpus, tmp_path / "run", 7)
    with pytest.raises(RunError, match="run: the run folder was removed"):
        follow_training(folder, wait=trained_meanwhile(folder, lambda: shutil.rmtree(folder)))


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    assert "no such run folder" in refused(*FOLLOW, tmp_path / "none")
    assert "not a run folder" in refused(*FOLLOW, tmp_path)
    assert "give only one of --follow and --gradients" in refused(*FOLLOW, tmp_path, "--gradients")


def test_damaged_files_are_named(tiny_run: Path, tmp_path: Path) -> None:
    for name, content, said in (
        ("metrics.jsonl", b'{"step": "x"}\n', "line 1"),
        ("metrics.jsonl", b"\0\n", "line 1"),
        ("last/checkpoint.safetensors", b"rubbish", "damaged"),
    ):
        copy = shutil.copytree(tiny_run, tmp_path / "copy", dirs_exist_ok=True)
        (copy / name).write_bytes(content)
        message = refused(*FOLLOW, copy)
        assert name in message
        assert said in message


def test_ctrl_c_ends_watching_quietly_and_the_training_goes_on(tiny_corpus: Path, tmp_path: Path) -> None:
    folder = stopped(tiny_corpus, tmp_path / "run", 7)
    with hold_lock(RunFolder(folder).lock):
        command = [sys.executable, "-m", "charlm", *FOLLOW, folder]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert "step 5 " in process.stdout.readline()
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
            assert process.stderr.read().count("\n") == 1  # what it said at its beginning


# ------------------------------------------------------------------------------------------------ at a terminal


@pytest.mark.parametrize("columns", [80, 40])
@pytest.mark.parametrize("lines", [40, 24, 8])
def test_what_is_shown_fits_the_terminal(
    columns: int, lines: int, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = stopped(tiny_corpus, Path("run"), 22)
    screen = io.StringIO()
    for name in PLAIN:
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", "COLUMNS": columns, "LINES": lines}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", screen)
    with pytest.raises(TrainingError):
        follow_training(folder, wait=trained_meanwhile(folder, lambda: None))
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", screen.getvalue())
    frames = plain.replace("\r", "\n").split("run: ")[1:]
    assert len(frames) == 4  # two while somebody trains, and one at the end, drawn twice
    shown = plain.replace("\r", "\n").split("\n")
    assert max(map(cell_len, shown)) <= columns
    assert all(frame.rstrip("\n").count("\n") < lines for frame in frames)
    first = " ".join(frames[0].split())
    assert "training (process" in first
    assert "step 22" in first
    assert re.search(r"validation \d\.\d{4}", first)
    if lines > 20:
        assert "validation loss, nats per character" in first
        assert "written at step 20:" in first
        assert "Ctrl-C stops watching" in first
    assert "stopped after" in " ".join(frames[-1].split())
