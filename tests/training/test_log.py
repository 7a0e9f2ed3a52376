"""`training.log`: TensorBoard and trackio read what training wrote, and nothing that they do matters to it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import charlm
from charlm.store.run_folder import RunFolder
from charlm.training.log import SCALARS, log_folder
from charlm.training.reports import Metrics, StepReport, load_metrics, read_samples
from commands import refused, run
from runs import StopAt, config, outcome


def needs(library: str) -> None:
    """Skips a test where a library is not installed; in CI it must be."""
    if "CI" not in os.environ:
        pytest.importorskip(library, reason=f"{library} is not installed: pip install -c constraints.txt {library}")


class Notes:
    """An observer that keeps what it is told, and the folder's own remark on the text aside."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def on_step(self, report: StepReport) -> None:
        pass

    def on_evaluation(self, metrics: Metrics, sample: str, is_best: bool) -> None:
        pass

    def on_note(self, note: str) -> None:
        if not note.startswith("validation: "):
            self.notes.append(note)


def train(corpus: Path, out: Path, log: str | None, **options: Any) -> list[str]:
    """Trains, and returns what was noted."""
    observer = Notes()
    charlm.train(config(corpus, log=log), out=out, **{"observer": observer, **options})
    return observer.notes


def without_key(run: Path) -> dict[str, Any]:
    """What a run folder holds, but for the key itself."""
    found = outcome(run)
    del found["config.yaml"], found["info"]["identity"]["config"]["training"]["log"]
    return found


def expected(run: Path) -> dict[str, list[tuple[int, float]]]:
    rows = load_metrics(run)
    assert len(rows) > 3
    return {name: [(row["step"], pytest.approx(row[name], rel=1e-6)) for row in rows] for name in SCALARS}


# ------------------------------------------------------------------------------------------------- TensorBoard


def tensorboard_scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard's own reader finds below a run folder, as `tensorboard --logdir RUN` does."""
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer

    found = EventMultiplexer().AddRunsFromDirectory(str(run))
    found.Reload()
    (name,) = found.Runs()
    assert name == "log/tensorboard"
    tags = [tag for tag in found.Runs()[name]["tensors"] if tag != "sample"]
    return {
        tag: [(event.step, event.tensor_proto.float_val[0]) for event in found.Tensors(name, tag)] for tag in tags
    }


def tensorboard_samples(run: Path) -> list[tuple[int, str]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(log_folder(run, "tensorboard")))
    found.Reload()
    return [(event.step, event.tensor_proto.string_val[0].decode()) for event in found.Tensors("sample")]


def indented(samples: list[tuple[int, str]]) -> list[tuple[int, str]]:
    return [(step, "".join("    " + line for line in text.splitlines(keepends=True))) for step, text in samples]


def test_tensorboard_reads_back_what_training_wrote(tiny_corpus: Path, tmp_path: Path) -> None:
    needs("tensorboard")
    assert train(tiny_corpus, tmp_path / "run", "tensorboard") == []
    assert tensorboard_scalars(tmp_path / "run") == expected(tmp_path / "run")
    samples = read_samples(tmp_path / "run")
    assert [step for step, _ in samples] == [row["step"] for row in load_metrics(tmp_path / "run")]
    assert tensorboard_samples(tmp_path / "run") == indented(samples)


def test_a_run_that_was_stopped_has_each_step_once_and_is_bit_for_bit_the_run_without_a_log(
    plain: dict[str, Any], tiny_corpus: Path, tmp_path: Path
) -> None:
    needs("tensorboard")
    logged = tmp_path / "run"
    for step in (7, 10):
        with pytest.raises(charlm.Interrupted):
            train(tiny_corpus, logged, "tensorboard", observer=StopAt(step), resume=logged.exists())
    with RunFolder(logged).metrics.open("a") as file:  # as a kill leaves it: beyond the last checkpoint
        file.write(json.dumps({**load_metrics(logged)[-1], "step": 13, "train_loss": 9.0}) + "\n")
    assert train(tiny_corpus, logged, "tensorboard", resume=True) == []
    assert tensorboard_scalars(logged) == expected(logged)
    assert without_key(logged) == plain


def test_a_log_can_begin_late_and_holds_what_was_before(tiny_corpus: Path, tmp_path: Path) -> None:
    needs("tensorboard")
    with pytest.raises(charlm.Interrupted):
        train(tiny_corpus, tmp_path / "run", None, observer=StopAt(12))
    train(tiny_corpus, tmp_path / "run", "tensorboard", resume=True)
    assert tensorboard_scalars(tmp_path / "run") == expected(tmp_path / "run")


# ----------------------------------------------------------------------------------------------------- trackio

WATCH_THE_NETWORK = """
import os, sys
def look(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.bind", "socket.sendto"):
        with open(os.environ["SEEN"], "a") as file:
            file.write(f"{event} {arguments}\\n")
sys.addaudithook(look)
"""
READ_TRACKIO = """
import json
from trackio.sqlite_storage import SQLiteStorage
print(json.dumps(SQLiteStorage.get_logs("charlm", "run")))
"""


def trackio_logs(run: Path) -> list[dict[str, Any]]:
    environment = {**os.environ, "TRACKIO_DIR": str(log_folder(run, "trackio"))}
    done = subprocess.run(
        [sys.executable, "-c", READ_TRACKIO], env=environment, capture_output=True, text=True, check=True
    )
    return list(json.loads(done.stdout))


def test_trackio_reads_back_what_training_wrote_and_nothing_goes_to_the_network(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    needs("trackio")
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch/sitecustomize.py").write_text(WATCH_THE_NETWORK)
    search = os.pathsep.join(filter(None, [str(tmp_path / "watch"), os.environ.get("PYTHONPATH")]))
    for name, value in {
        "PYTHONPATH": search,
        "SEEN": str(tmp_path / "seen"),
        "TRACKIO_SPACE_ID": "someone/space",  # somebody whose other programs log there
        "TRACKIO_DIR": str(tmp_path / "elsewhere"),
        "HOME": str(tmp_path / "home"),
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(charlm.Interrupted):
        train(tiny_corpus, tmp_path / "run", "trackio", observer=StopAt(10))
    assert train(tiny_corpus, tmp_path / "run", "trackio", resume=True) == []
    logs = trackio_logs(tmp_path / "run")
    assert {name: [(row["step"], row[name]) for row in logs] for name in SCALARS} == expected(tmp_path / "run")
    samples = [(row["step"], row["sample"]["_value"]) for row in logs]
    assert samples == indented(read_samples(tmp_path / "run"))
    assert capfd.readouterr() == ("", "")
    subprocess.run(
        [sys.executable, "-c", "import socket; socket.socket().connect_ex(('127.0.0.1', 1))"], check=True
    )
    assert len((tmp_path / "seen").read_text().splitlines()) == 1  # the watch works, and saw nothing before
    assert not (tmp_path / "elsewhere").exists()
    assert not (tmp_path / "home").exists()


# ---------------------------------------------------------------------------------------- libraries that fail


def test_a_library_that_is_missing_is_named_before_any_work(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)  # to import it fails
    arguments = ["train", "--corpus", tiny_corpus, "--set", "training.log=trackio", "--out", tmp_path / "run"]
    message = refused(*arguments)
    assert "training.log: trackio is not installed; run `pip install 'charlm[trackio]'`" in message
    assert not (tmp_path / "run").exists()


def test_another_name_is_refused_with_those_that_are_known(tiny_corpus: Path, tmp_path: Path) -> None:
    arguments = ["train", "--corpus", tiny_corpus, "--set", "training.log=wandb", "--out", tmp_path / "run"]
    done = run(*arguments)
    assert done.exit_code == 2
    assert "training.log" in done.stderr
    assert "tensorboard, trackio" in done.stderr


FAULTS = {
    "cannot be imported": "raise ImportError('no protobuf')",
    "cannot begin": "class EventFileWriter:\n    def __init__(self, folder): raise OSError(28, 'No space left')",
    "dies": "import os\nclass EventFileWriter:\n    def __init__(self, folder): os._exit(3)",
    "fails at the end": "class EventFileWriter:\n    def __init__(self, folder): pass\n"
    "    def add_event(self, event): pass\n    def flush(self): pass\n"
    "    def close(self): raise ValueError('never\\nmind')",
}


def fake_tensorboard(folder: Path, code: str) -> None:
    """Writes a package that has the names that charlm uses."""
    for name, content in {
        "summary/writer/event_file_writer": code,
        "compat/proto/event_pb2": "Event = dict",
        "compat/proto/summary_pb2": "class Summary(dict):\n    Value = dict",
        "plugins/text/summary_v2": "text_pb = dict.fromkeys",
    }.items():
        path = folder / "tensorboard" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (folder / "tensorboard/__init__.py").write_text("")


@pytest.fixture(scope="module")
def plain(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the run without a log holds."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    train(tiny_corpus, folder, None)
    return without_key(folder)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_library_that_fails_is_noted_once_and_changes_nothing(
    fault: str, plain: dict[str, Any], tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tensorboard(tmp_path / "fake", FAULTS[fault])
    search = os.pathsep.join(filter(None, [str(tmp_path / "fake"), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", search)
    monkeypatch.setattr("charlm.run.check_log", lambda kind: None)  # this process does not need it
    (note,) = train(tiny_corpus, tmp_path / "run", "tensorboard")
    assert note.startswith("training.log: tensorboard failed, and training continues without it: ")
    said = {"cannot be imported": "no protobuf", "dies": "exit code 3", "cannot begin": "No space left"}
    assert note.endswith(said.get(fault, "never mind"))
    assert without_key(tmp_path / "run") == plain


def test_a_link_in_the_run_folder_leads_nowhere(tiny_corpus: Path, tmp_path: Path) -> None:
    needs("tensorboard")
    with pytest.raises(charlm.Interrupted):
        train(tiny_corpus, tmp_path / "run", None, observer=StopAt(10))
    (tmp_path / "mine/tensorboard").mkdir(parents=True)
    (tmp_path / "mine/tensorboard/kept").touch()
    (tmp_path / "run/log").symlink_to(tmp_path / "mine")
    (note,) = train(tiny_corpus, tmp_path / "run", "tensorboard", resume=True)
    assert "run/log: a link" in note
    assert [path.name for path in (tmp_path / "mine").rglob("*")] == ["tensorboard", "kept"]


@pytest.mark.slow
def test_a_log_goes_on_after_the_kill_of_its_training(tiny_corpus: Path, tmp_path: Path) -> None:
    needs("tensorboard")
    code = (
        "import sys, charlm; sys.path.insert(0, sys.argv[3]); import runs, signal\n"
        "charlm.train(runs.config(sys.argv[1], log='tensorboard'), out=sys.argv[2],\n"
        f"             observer=runs.StopAt(15, {int(signal.SIGKILL)}))"
    )
    program = [sys.executable, "-c", code, tiny_corpus, tmp_path / "run", Path(__file__).parents[1]]
    assert subprocess.run(program, check=False, timeout=60).returncode == -signal.SIGKILL
    train(tiny_corpus, tmp_path / "run", "tensorboard", resume=True)
    assert tensorboard_scalars(tmp_path / "run") == expected(tmp_path / "run")


def test_a_log_process_whose_training_is_gone_leaves_the_log_to_the_next_one(
    tiny_run: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    program = [sys.executable, "-m", "charlm.training.log", "tensorboard", run, "1"]
    done = subprocess.run(program, input="10\n", text=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not log_folder(run, "tensorboard").exists()


def test_the_command_prints_the_run_folder_alone(tiny_corpus: Path, tmp_path: Path) -> None:
    needs("tensorboard")
    settings = ["--set", "training.log=tensorboard", "--budget", "5 steps", "--set", "model.hidden_size=4"]
    done = run("train", "--corpus", tiny_corpus, "--out", tmp_path / "run", "--quiet", *settings)
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"{tmp_path / 'run'}\n", "")
    assert tensorboard_scalars(tmp_path / "run")["train_loss"]


def test_samples_are_read_back_as_they_were_written(tiny_corpus: Path, tmp_path: Path) -> None:
    train(tiny_corpus, tmp_path / "run", None)
    folder = RunFolder(tmp_path / "run")
    steps = [row["step"] for row in load_metrics(tmp_path / "run")]
    texts = ["\n\n--- step 3\n\n", "", "a\n--- step 10\n", "\n", "plain \ud800", "b"]
    entries = [f"--- step {step}\n{text}\n\n" for step, text in zip(steps, texts, strict=False)]
    folder.samples.write_text("".join(entries), errors="replace")
    assert read_samples(tmp_path / "run") == [
        (step, text.replace("\ud800", "?")) for step, text in zip(steps, texts, strict=False)
    ]
