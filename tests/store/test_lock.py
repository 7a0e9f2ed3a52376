"""One training at a time writes into a run folder, and a process that is gone keeps nobody out."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import charlm
from charlm.errors import InputError
from charlm.store.lock import find_holder, hold_lock
from charlm.training.reports import Metrics, StepReport

HOLD = """
import sys, time
from pathlib import Path
from charlm.store.lock import hold_lock
with hold_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    (tmp_path / "run" / "last").mkdir(parents=True)
    return tmp_path / "run" / "last" / "lock"


def test_a_lock_is_held_until_it_is_given_back(lock: Path):
    with hold_lock(lock) as locked:
        assert locked
        with (
            pytest.raises(InputError, match=f"another training .process {os.getpid()} on .*--out"),
            hold_lock(lock),
        ):
            pass
    assert lock.read_bytes() == b""
    with hold_lock(lock) as locked:
        assert locked


def test_the_holder_is_named_and_its_death_frees_the_lock_whatever_the_file_still_says(lock: Path):
    command = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=f"{lock.parent.parent}: .*process {other.pid} on"), hold_lock(lock):
            pass
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert f"process {other.pid}" in lock.read_text()
    with hold_lock(lock) as locked:
        assert locked
        assert f"process {os.getpid()} " in lock.read_text()


@pytest.mark.parametrize("content", [b"\x1b]0;title\x07", b"\xff\xfe", b"process 1 on \x1b[2J"])
def test_what_a_lock_says_is_shown_only_where_it_is_a_process(lock: Path, content: bytes):
    with hold_lock(lock):
        lock.write_bytes(content)
        with pytest.raises(InputError, match="another training is writing into this run folder"), hold_lock(lock):
            pass


def test_a_link_in_the_place_of_the_lock_is_refused_and_what_it_leads_to_is_left_alone(lock: Path):
    (elsewhere := lock.with_name("elsewhere")).write_text("dear to someone")
    lock.symlink_to(elsewhere)
    with pytest.raises(InputError, match=r"lock: .*it is a link; remove it"), hold_lock(lock):
        pass
    assert elsewhere.read_text() == "dear to someone"


def test_a_fifo_in_the_place_of_the_lock_is_refused_at_once(lock: Path):
    os.mkfifo(lock)
    with pytest.raises(InputError, match="lock: not an ordinary file; remove it"), hold_lock(lock):
        pass


class Notes:
    def __init__(self) -> None:
        self.notes: list[str] = []

    def on_step(self, report: StepReport) -> None:
        pass

    def on_evaluation(self, metrics: Metrics, sample: str, is_best: bool) -> None:
        pass

    def on_note(self, note: str) -> None:
        self.notes.append(note)


def test_a_file_system_without_locks_is_told_and_does_not_stop_a_training(
    tmp_path: Path, tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch
):
    def no_locks(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    heard = Notes()
    small = {"model.hidden_size": 8, "training.batch_size": 4}
    charlm.train(corpus=tiny_corpus, budget="2 steps", out=tmp_path / "run", overrides=small, observer=heard)
    assert heard.notes[-1:] == [
        f"{tmp_path / 'run'}: this file system cannot lock files; make sure that no other training writes here"
    ]


def test_a_folder_in_use_is_refused_before_anything_in_it_changes(tmp_path: Path, tiny_corpus: Path):
    run = tmp_path / "run"
    small = {"model.hidden_size": 8, "training.batch_size": 4}
    charlm.train(corpus=tiny_corpus, budget="2 steps", out=run, overrides=small)
    with hold_lock(run / "last" / "lock"):
        before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
        with pytest.raises(InputError, match="another training"):
            charlm.train(resume=True, out=run, budget="4 steps")
        assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


def test_who_watches_sees_the_holder_and_keeps_nobody_out(lock: Path):
    assert find_holder(lock) is None  # no such file
    with hold_lock(lock):
        assert str(find_holder(lock)).startswith(f"process {os.getpid()} on ")
    assert find_holder(lock) is None
    with hold_lock(lock):
        pass


@pytest.mark.parametrize(
    "content", ["", "rubbish", "process 999999999 on {host}", "process {pid} on {host}", "process 1 on elsewhere"]
)
def test_a_lock_file_that_nobody_holds_names_no_holder(content: str, lock: Path):
    lock.write_text(content.format(pid=os.getpid(), host=socket.gethostname()))
    assert find_holder(lock) is None


def test_a_lock_file_that_is_no_file_names_no_holder(lock: Path):
    os.mkfifo(lock)
    assert find_holder(lock) is None


def test_where_there_are_no_locks_the_holder_is_believed(lock: Path, monkeypatch: pytest.MonkeyPatch):
    def flock(*_: Any) -> None:
        raise OSError(errno.ENOTSUP, "not here")

    monkeypatch.setattr(fcntl, "flock", flock)
    with hold_lock(lock) as locked:
        assert not locked
        assert str(find_holder(lock)).startswith(f"process {os.getpid()} on ")
    assert find_holder(lock) is None
