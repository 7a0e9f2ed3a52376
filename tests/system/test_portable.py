"""Where a system lacks what POSIX has, charlm goes on without it, or says in one message what is missing."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from charlm.system import portable
from packages import NO_COMPILER

# Hides from charlm what Windows lacks; what other modules take of it here, they have taken by then.
HIDE = """
import os, signal, subprocess, sys, tempfile, uuid
for name in ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty"):
    sys.modules[name] = None
for name in (
    "fork", "getuid", "getgid", "pread", "pwrite", "register_at_fork", "sched_getaffinity", "set_blocking",
    "sysconf", "wait4", "WNOHANG", "O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY",
):
    delattr(os, name)
for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGPIPE"):
    delattr(signal, name)
hidden = {number.name for number in signal.Signals} - {"SIGINT", "SIGTERM", "SIGABRT"}
for name in hidden:
    del signal.Signals._member_map_[name]
sys.argv[0] = "charlm"
"""


# Runs commands one after the other, and says how each has ended.
RUN = """
import json
from charlm.cli import main
for words in json.loads(sys.argv.pop()):
    sys.argv[1:] = words
    try:
        main()
    except SystemExit as end:
        print("exit code", end.code, flush=True)
"""


def without_posix(code: str, *arguments: str) -> str:
    """Runs a program where what Windows lacks is hidden, and returns what it prints."""
    environment = {**os.environ, "CC": NO_COMPILER}  # no library is compiled on Windows
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_without_the_modules_of_posix_charlm_is_imported_and_shows_its_help() -> None:
    shown = without_posix(f"{HIDE}\nimport charlm.store.lock, charlm.system.threads\n{RUN}", '[["--help"]]')
    assert "Commands:" in shown
    assert shown.endswith("exit code 0\n")


@pytest.mark.slow
def test_without_them_it_trains_resumes_scores_and_writes_and_compare_says_what_it_cannot_do(
    tmp_path: Path, tiny_corpus: Path
) -> None:
    config, run = tmp_path / "tiny.yaml", tmp_path / "run"
    settings = "model: {hidden_size: 8}\ntraining: {batch_size: 4, budget: 20 steps}\n"
    config.write_text(f"corpus: {{path: {tiny_corpus}}}\n{settings}", encoding="utf-8")
    commands = [
        ["train", config, "--out", run],
        ["train", "--resume", "--out", run, "--budget", "40 steps"],
        ["score", run, "the boat"],
        ["sample", run, "--length", "20"],
        ["config", "check", config],
        ["compare", config, "--cells", "rnn,gru", "--budget", "5 steps", "--out", tmp_path / "compared"],
        ["train", config, "--out", tmp_path / "logged", "--set", "training.log=tensorboard"],
    ]
    # Torch takes what it needs before: on Windows it does without.
    shown = without_posix(f"import torch\n{HIDE}\n{RUN}", json.dumps([[*map(str, words)] for words in commands]))
    codes = re.findall(r"^exit code (\d+)$", shown, re.M)
    assert codes == ["0", "0", "0", "0", "0", "2", "2"], shown
    assert shown.count("cannot lock files; make sure that no other training writes here") == 2
    assert "memory         not known, because this system does not report it" in shown
    assert "give their run folders to `charlm compare`" in shown.replace("\n", " ")
    assert "training.log: tensorboard needs Linux, macOS or WSL" in shown


def test_where_a_question_would_end_the_process_it_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(os, "kill", lambda *arguments: asked.append(arguments))
    monkeypatch.setattr(sys, "platform", "win32")
    assert portable.is_running(os.getpid())
    assert not asked


def test_a_process_runs_until_it_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert portable.is_running(process.pid)
        process.communicate(b"\n")
    assert not portable.is_running(process.pid)
    assert portable.is_running(2**70)  # no process has such a number, which cannot even be asked for
