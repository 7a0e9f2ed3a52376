"""`training.log`: losses and samples also for TensorBoard or trackio, in RUN/log.

A process of its own writes them, from metrics.jsonl and samples.txt: whatever those libraries do, fail at or wait
for, training neither stops nor changes. It is told the number of a step after each evaluation, and writes what it
has not written yet; it ends when the training does. Where training goes on after a stop or a kill, the log is made
anew, so that no step is missing or stands there twice.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from charlm.errors import InputError
from charlm.store.run_folder import RunFolder
from charlm.system.portable import lock_file
from charlm.training.reports import Metrics, Observer, StepReport, load_metrics, read_samples

SCALARS = (
    *("train_loss", "validation_loss", "bits_per_character"),
    *("learning_rate", "gradient_norm", "characters_per_second"),
)
_CLOSE_SECONDS = 30.0  # for what is still to be written when training has ended
_PROJECT = "charlm"  # in trackio, which sorts runs into projects


# ---------------------------------------------------------------------------------------------------- the libraries


class Writer(Protocol):
    """Writes evaluations in the format of a library."""

    def write(self, step: int, when: float, scalars: Mapping[str, float], sample: str | None) -> None:
        """Writes an evaluation, which took place `when` (in seconds since 1970)."""

    def close(self) -> None:
        """Writes what is still held back."""


class _TensorBoard:
    def __init__(self, folder: Path, name: str) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._events = EventFileWriter(str(folder))

    def write(self, step: int, when: float, scalars: Mapping[str, float], sample: str | None) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.text.summary_v2 import text_pb

        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._events.add_event(Event(step=step, wall_time=when, summary=Summary(value=values)))
        if sample is not None:
            self._events.add_event(
                Event(step=step, wall_time=when, summary=text_pb("sample", _as_markdown(sample)))
            )
        self._events.flush()

    def close(self) -> None:
        self._events.close()


class _Trackio:
    def __init__(self, folder: Path, name: str) -> None:
        for variable in [variable for variable in os.environ if variable.startswith("TRACKIO_")]:
            del os.environ[variable]  # such as those that have it send everything to a server
        os.environ |= {"TRACKIO_DIR": str(folder), "HF_HUB_OFFLINE": "1", "SYSTEM": ""}
        import trackio

        self._markdown = trackio.Markdown
        self._run = trackio.init(_PROJECT, name, embed=False, auto_log_gpu=False, auto_log_cpu=False)

    def write(self, step: int, when: float, scalars: Mapping[str, float], sample: str | None) -> None:
        text = {} if sample is None else {"sample": self._markdown(_as_markdown(sample))}
        self._run.log({**scalars, **text}, step=step)

    def close(self) -> None:
        self._run.finish()


# Each is made with the folder to write into and the name of the run.
_WRITERS: dict[str, Callable[[Path, str], Writer]] = {"tensorboard": _TensorBoard, "trackio": _Trackio}


def _as_markdown(sample: str) -> str:
    """Returns a block of code: nothing in a sample is markup."""
    return "\n".join("    " + line for line in sample.split("\n"))


def check_log(kind: str | None) -> None:
    """Checks that the library for a log is there.

    Raises:
        InputError: it is not, or the system lacks what lets training go on while the log is written.
    """
    if kind is None:
        return
    if not hasattr(os, "set_blocking"):  # Windows
        raise InputError(f"training.log: {kind} needs Linux, macOS or WSL; add --set training.log=null")
    spec = importlib.util.find_spec(kind)
    if spec is None or spec.origin is None:
        raise InputError(
            f"training.log: {kind} is not installed; run `pip install 'charlm[{kind}]'`, or add "
            "--set training.log=null"
        )


# ------------------------------------------------------------------------------------------------ in the training


class _LoggingObserver:
    """Tells the process that writes the log of each evaluation, after it has told the observer."""

    def __init__(self, kind: str, folder: RunFolder, observer: Observer) -> None:
        self._kind = kind
        self._observer = observer
        self._process: subprocess.Popen[bytes] | None = None
        # Found wherever this charlm is, and nothing of the working directory.
        program = [sys.executable, "-P", "-m", "charlm.training.log"]
        paths = [*filter(None, [os.environ.get("PYTHONPATH")]), str(Path(__file__).parents[2])]
        try:
            self._process = subprocess.Popen(
                [*program, kind, str(folder.path.absolute()), str(os.getpid())],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for the training alone
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            )
            assert self._process.stdin is not None
            os.set_blocking(self._process.stdin.fileno(), False)
        except (OSError, ValueError) as error:
            self._warn(str(error))

    def on_step(self, report: StepReport) -> None:
        self._observer.on_step(report)

    def on_evaluation(self, metrics: Metrics, sample: str, is_best: bool) -> None:
        self._observer.on_evaluation(metrics, sample, is_best)
        self.tell(metrics.step)

    def on_note(self, note: str) -> None:
        self._observer.on_note(note)

    def tell(self, step: int) -> None:
        """Has everything up to a step written; a full pipe loses nothing, as the next number includes this one."""
        if self._process is None or self._process.stdin is None:
            return
        try:
            self._process.stdin.write(b"%d\n" % step)
        except OSError:
            self.close()

    def close(self) -> None:
        """Lets the process write what it still has to, and end."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            _, said = process.communicate(timeout=_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            self._warn(f"it did not end within {_CLOSE_SECONDS:.0f} seconds")
        else:
            if process.returncode:
                lines = said.decode(errors="replace").strip().splitlines()
                self._warn(lines[-1] if lines else f"exit code {process.returncode}")

    def _warn(self, problem: str) -> None:
        self._observer.on_note(
            f"training.log: {self._kind} failed, and training continues without it: {problem[:300]}"
        )


@contextmanager
def log_evaluations(kind: str | None, folder: RunFolder, step: int, observer: Observer) -> Iterator[Observer]:
    """Has evaluations logged beside what an observer hears of.

    Args:
        kind: `tensorboard` or `trackio`; None: the observer is given back as it is.
        folder: the run.
        step: where training begins or goes on: the log begins with the evaluations up to there.
        observer: hears of everything; and, once, that the log failed, if it does.

    Yields:
        The observer for the training.
    """
    if kind is None:
        yield observer
        return
    logging = _LoggingObserver(kind, folder, observer)
    logging.tell(step)
    try:
        yield logging
    finally:
        logging.close()


# ------------------------------------------------------------------------------------ in the process that writes


def log_folder(run: Path, kind: str) -> Path:
    """Returns where the log of a run is."""
    return run / "log" / kind


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Waits until no other such process writes into a folder, and keeps others out; where there are locks."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            lock_file(descriptor, wait=True)
        yield
    finally:
        os.close(descriptor)


def main(kind: str, run: Path, training: int) -> None:
    """Writes the log of a run anew: up to each step whose number comes in, a line each, until no more come.

    Args:
        kind: of log.
        run: the run folder.
        training: the number of the process that trains, the parent of this one.
    """
    folder = log_folder(run, kind)
    for path in (folder.parent, folder):
        if path.is_symlink():
            raise InputError(f"{path}: a link, which could lead anywhere; remove it")
    folder.parent.mkdir(exist_ok=True)
    with _alone_in(folder.parent):
        if os.getppid() != training:  # killed meanwhile; another training may be going on with the run
            return
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)
        folder.mkdir()
        _write_evaluations(kind, run, folder)


def _write_evaluations(kind: str, run: Path, folder: Path) -> None:
    writer: Writer | None = None
    written, began = -1, 0.0
    for line in sys.stdin:
        step = int(line)
        rows = [row for row in load_metrics(run) if written < row["step"] <= step]
        if writer is None:
            writer = _WRITERS[kind](folder, run.name)
            began = time.time() - (rows[-1]["seconds"] if rows else 0.0)
        samples = dict(read_samples(run)) if rows else {}
        for row in rows:
            scalars = {name: float(row[name]) for name in SCALARS if row[name] is not None}
            writer.write(row["step"], began + row["seconds"], scalars, samples.get(row["step"]))
        written = step
    if writer is not None:
        writer.close()


def _run_as_program(arguments: list[str]) -> None:
    """Says in one line what went wrong: libraries can fail in any way, and training shows that line."""
    kind, run, training = arguments
    try:
        main(kind, Path(run), int(training))
    except Exception as error:
        sys.exit(" ".join(str(error).split()) or type(error).__name__)


if __name__ == "__main__":
    _run_as_program(sys.argv[1:])
