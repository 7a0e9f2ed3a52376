"""The trainings of `charlm compare`, each in a process of its own, so that its memory is its own.

Such a process is `charlm train`, with its progress on standard error. A signal to stop is passed on to it, so that
it saves its work; and it stops when the comparison is gone, however that ended: a pipe between the two closes then.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import typer

from charlm.analysis.comparison import PlannedTraining, check_unchanged, read_memory, record_memory
from charlm.cli.render import note
from charlm.config import to_yaml
from charlm.errors import InputError, Interrupted
from charlm.store.run_folder import write_atomically
from charlm.system.portable import in_bytes
from charlm.training.signals import Requests, catch_signals

_POLL_SECONDS = 0.05


def run_trainings(planned: Sequence[PlannedTraining], *, threads: int | None, quiet: bool) -> None:
    """Runs what is not complete yet of some trainings, one after the other; goes on with what is begun.

    Raises:
        InputError: the system is Windows.
        RunError: a folder holds a run with other settings; nothing is trained then.
        Interrupted: a signal stopped a training; its work is saved.
        typer.Exit: a training failed, and has said why.
    """
    if not hasattr(os, "wait4"):
        raise InputError(
            "`charlm compare` cannot train on this system; train each cell with "
            "`charlm train` and give their run folders to `charlm compare`, or use Linux, macOS or WSL"
        )
    for training in planned:
        check_unchanged(training)
    with catch_signals() as requests:
        requests.begun = True  # from here on a signal does not stop this process at once, but is passed on
        for number, training in enumerate(planned, 1):
            model = training.config.model
            what = f"{training.name} ({number} of {len(planned)}), hidden size {model.hidden_size}"
            complete = read_memory(training.folder) is not None
            if not quiet:
                begun = "training continues" if training.folder.holds_run else "training begins"
                note(f"{what}: {f'taken from {training.folder.path}' if complete else begun}")
            if not complete:
                _run(training, requests, threads, quiet)
            if requests.stop is not None:
                raise Interrupted(requests.stop, "the comparison was stopped; run the same command to continue it")


def _run(training: PlannedTraining, requests: Requests, threads: int | None, quiet: bool) -> None:
    """Trains in a process of its own, and records that it is complete, unless a signal has stopped it."""
    folder = training.folder.path
    folder.parent.mkdir(parents=True, exist_ok=True)
    config = folder.with_name(f"{folder.name}.yaml")
    write_atomically(config, to_yaml(training.config).encode())
    words = ["train", str(config), "--out", str(folder)]
    words += ["--resume"] if training.folder.holds_run else []
    words += ["--threads", str(threads)] if threads is not None else []
    words += ["--quiet"] if quiet else []
    code, memory_bytes = _wait_for([sys.executable, "-m", __spec__.name, *words], requests)
    if code == 0:
        record_memory(training.folder, memory_bytes)
    elif requests.stop is None:
        note(f"the comparison ended at {folder}; run the same command to continue it")
        raise typer.Exit(code if code > 0 else 1)


def _wait_for(command: Sequence[str], requests: Requests) -> tuple[int, int]:
    """Runs a command, which a signal stops; returns its exit code and the most memory that it has held, in bytes.

    It has a process group of its own: from a terminal Ctrl-C would come twice otherwise, and twice stops at once.
    """
    passed_on = False
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, process_group=0) as process:
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            if requests.stop is not None and not passed_on:
                process.terminate()  # whichever signal came: it ends a process quietly that is still loading
                passed_on = True
            time.sleep(_POLL_SECONDS)
        process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, in_bytes(usage.ru_maxrss)


def _stop_when_alone() -> None:
    """Waits until the comparison is gone, and then has the training of this process save its work and stop."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    from charlm.cli import main

    threading.Thread(target=_stop_when_alone, daemon=True).start()
    main()
