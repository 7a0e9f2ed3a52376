"""`charlm compare`: cells that are trained side by side, and runs that exist."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.cells import cell_len

import charlm
import runs
from charlm.store.run_folder import RunFolder
from commands import answer, on_a_terminal, refused, run

PATIENCE = 60  # seconds; only a hanging program meets it


@pytest.fixture
def config(tiny_corpus: Path, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    settings = runs.config(tiny_corpus, budget="60 steps", evaluate_every="20 steps")
    path.write_text(yaml.safe_dump(settings))
    return path


# ----------------------------------------------------------------------------------------------- existing runs


def test_a_table_of_runs_shows_their_figures_and_what_they_write(tiny_run: Path, tiny_mixture_run: Path) -> None:
    shown = answer("compare", tiny_run, tiny_mixture_run, "--prompt", "the ")
    head, *lines = shown.splitlines()
    assert head.split() == ["cell", "hidden", "parameters", "char/s", "time", "nats", "bits", "half-life"]
    assert [line.split()[0] for line in lines[:2]] == [str(tiny_run), str(tiny_mixture_run)]
    lm = charlm.load(tiny_run, device="cpu")
    (written,) = lm.sample(prompt="the ", length=50, only_new=True)
    assert written.rstrip().replace("\n", "\\n") in shown


def test_names_of_runs_are_whole_on_a_narrow_terminal(
    tiny_run: Path, tiny_mixture_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = on_a_terminal(monkeypatch, [tiny_run, tiny_mixture_run], "compare", COLUMNS="40")
    for name in (tiny_run, tiny_mixture_run):
        assert (
            sum(line.split()[:1] == [str(name)] for line in shown.splitlines()) >= 2
        )  # beside each group of columns


def test_json_has_the_learning_curves_and_tsv_one_line_for_each_run(tiny_run: Path, tiny_mixture_run: Path) -> None:
    result = json.loads(answer("compare", tiny_run, tiny_mixture_run, "--format", "json"))
    assert [row["name"] for row in result["rows"]] == [str(tiny_run), str(tiny_mixture_run)]
    for row in result["rows"]:
        (only,) = row["runs"]
        assert [point["characters"] for point in only["curve"]] == [
            line["characters"] for line in RunFolder(row["name"]).read_metrics()
        ]
    table = answer("compare", tiny_run, tiny_mixture_run, "--format", "tsv")
    read = list(csv.DictReader(io.StringIO(table), delimiter="\t", quoting=csv.QUOTE_NONE))
    for line, row in zip(read, result["rows"], strict=True):
        assert float(line["nats_per_character"]) == row["nats_per_character"]
        assert line["peak_memory_bytes"] == ""


def test_two_runs_on_one_text_are_compared_character_by_character(
    tiny_run: Path, tiny_mixture_run: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the heron\tsees 船\na miller")
    arguments = ["compare", tiny_run, tiny_mixture_run, "--text", text]
    difference = json.loads(answer(*arguments, "--format", "json"))["difference"]
    assert "".join(char["char"] for char in difference["chars"]) == text.read_text()
    total = sum(char["difference"] for char in difference["chars"])
    assert total == pytest.approx(difference["difference"], abs=1e-6)
    assert total == pytest.approx(difference["first"] - difference["second"], abs=1e-6)
    assert f"{total:+,.2f} nats" in answer(*arguments)
    lines = answer(*arguments, "--format", "tsv").split("\n")
    assert len(lines) == 2 + len(text.read_text())
    assert sum(float(line.split("\t")[3]) for line in lines[1:-1]) == pytest.approx(total, abs=1e-6)


def test_runs_on_unlike_texts_are_compared_with_a_note(
    tiny_run: Path, tiny_lines_run: Path, tiny_corpus: Path
) -> None:
    result = run("compare", tiny_run, tiny_lines_run)
    assert result.exit_code == 0
    assert "the validation losses cannot be compared, because corpus.framing" in result.stderr
    assert "measure both on one text with --text" in result.stderr
    assert "with --text" not in run("compare", tiny_run, tiny_lines_run, "--text", tiny_corpus).stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["RUN"], "two or more"),
        (["RUN", "RUN"], "two or more"),
        (["RUN", "--cells", "gru"], "config.yaml"),
        (["RUN", "MIXTURE", "--budget", "3s"], "--budget"),
        (["RUN", "config:quickstart"], "config:quickstart: a configuration is compared alone"),
        (["CONFIG", "RUN", "--budget", "3s"], "a configuration is compared alone"),
        (["RUN", "MIXTURE", "--text", "TMP/binary"], "; name a file of text"),
        (["RUN", "TMP"], "not a run folder"),
        (["RUN", "TMP/nothing"], "no such run folder"),
        (["TMP/nothing.yaml"], "No such file"),
        (["RUN", "MIXTURE", "--prompt", "船"], "船"),
        (["RUN", "MIXTURE", "--text", "TMP/nothing"], "no such file"),
        (["RUN", "MIXTURE", "LINES", "--text", "CORPUS"], "two runs"),
        (["CONFIG", "--text", "CORPUS"], "two cells and one seed"),
        (["CONFIG", "--cells", "gru,lsmt"], "'lsmt'"),
        (["CONFIG", "--cells", "gru,gru"], "each cell once"),
        (["CONFIG", "--cells", ""], "''"),
        (["CONFIG", "--corpus", "-"], "standard input"),
        (["CONFIG", "--corpus", "TMP/nothing", "--match", "parameters"], "no such file"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    arguments: list[str],
    said: str,
    tiny_run: Path,
    tiny_mixture_run: Path,
    tiny_lines_run: Path,
    tiny_corpus: Path,
    config: Path,
    tmp_path: Path,
) -> None:
    named = {
        "RUN": tiny_run,
        "MIXTURE": tiny_mixture_run,
        "LINES": tiny_lines_run,
        "CORPUS": tiny_corpus,
        "CONFIG": config,
    }
    (tmp_path / "binary").write_bytes(b"GIF\0")
    words = [str(named.get(word, word.replace("TMP", str(tmp_path)))) for word in arguments]
    assert said in refused("compare", *words).replace("\n  ", " ")


# ---------------------------------------------------------------------------------------------------- trainings


def outcome(folder: Path) -> dict[str, Any]:
    return {name: runs.outcome(folder / name) for name in ("rnn", "gru")}


def command(config: Path, out: Path) -> list[str]:
    words = [sys.executable, "-m", "charlm", "compare", str(config), "--cells", "rnn,gru", "--out", str(out)]
    return [*words, "--threads", "1", "--format", "json", "--match", "parameters"]


def compared(config: Path, out: Path) -> tuple[dict[str, Any], str]:
    done = subprocess.run(command(config, out), capture_output=True, text=True, timeout=PATIENCE, check=True)
    return json.loads(done.stdout), done.stderr


@pytest.mark.slow
def test_cells_are_trained_in_turn_and_what_is_complete_is_taken_as_it_is(config: Path, tmp_path: Path) -> None:
    result, progress = compared(config, tmp_path / "out")
    assert [row["name"] for row in result["rows"]] == ["rnn", "gru"]
    assert all(row["peak_memory_bytes"] > 50_000_000 for row in result["rows"])
    assert "gru (2 of 2), hidden size 6: training begins" in progress
    assert "best validation loss" in progress
    before = runs.contents(tmp_path / "out")
    again, progress = compared(config, tmp_path / "out")
    assert again == result
    assert "gru (2 of 2), hidden size 6: taken from" in progress
    assert runs.contents(tmp_path / "out") == before
    config.write_text(config.read_text().replace("60 steps", "70 steps"))
    done = subprocess.run(command(config, tmp_path / "out"), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "training.budget: '60 steps' in the run, '70 steps' now" in done.stderr
    assert runs.contents(tmp_path / "out") == before


def wait_for(path: Path) -> None:
    ends = time.monotonic() + PATIENCE
    while not path.exists() and time.monotonic() < ends:
        time.sleep(0.01)
    assert path.exists()


@pytest.fixture(scope="module")
def whole(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """A comparison that nobody stops: its configuration, its folder and its result."""
    folder = tmp_path_factory.mktemp("whole")
    settings = runs.config(tiny_corpus, budget="800 steps", evaluate_every="100 steps")
    settings["model"] = {**settings["model"], "ngram": None}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder / "config.yaml", folder / "out", compared(folder / "config.yaml", folder / "out")[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "where"),
    [
        (signal.SIGINT, "rnn/metrics.jsonl"),  # during a training
        (signal.SIGTERM, "rnn/memory.json"),  # between two
        (signal.SIGKILL, "rnn/metrics.jsonl"),
        (signal.SIGKILL, "gru/last/checkpoint.safetensors"),
    ],
)
def test_a_comparison_that_was_stopped_goes_on_and_ends_as_if_it_was_not(
    number: signal.Signals, where: str, whole: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    config, undisturbed, expected = whole
    out = tmp_path / "out"
    with subprocess.Popen(command(config, out), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_for(out / where)
        process.send_signal(number)
        _, message = process.communicate(timeout=PATIENCE)  # ends when the training's process has ended too
    assert b"Traceback" not in message
    if number is not signal.SIGKILL:
        assert process.returncode == 128 + number
        assert b"run the same command to continue it" in message
    assert process.returncode in (-number, 128 + number)
    assert not (out / "gru/memory.json").exists()
    result, _ = compared(config, out)
    assert outcome(out) == outcome(undisturbed)
    for row, other in zip(result["rows"], expected["rows"], strict=True):
        assert row["nats_per_character"] == other["nats_per_character"]


@pytest.mark.slow
def test_a_training_that_fails_ends_the_comparison_with_its_message_and_code(config: Path, tmp_path: Path) -> None:
    words = [*command(config, tmp_path / "out"), "--set", "training.batch_size=5000"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "training.batch_size: 5000" in done.stderr
    assert done.stderr.count("charlm: ") == 1


@pytest.mark.slow
def test_a_comparison_of_seeds_fits_80_columns_on_a_terminal(config: Path, tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    words = [sys.executable, "-m", "charlm", "compare", str(config), "--cells", "rnn,gru-before", "--seeds", "2"]
    words += ["--out", str(tmp_path / "out"), "--quiet", "--prompt", "the "]
    process = subprocess.Popen(words, stdout=theirs, env={**os.environ, "COLUMNS": "80"})
    os.close(theirs)
    shown = b""
    while True:
        try:
            data = os.read(ours, 4096)
        except OSError:  # a terminal that nobody writes to any more
            break
        if not data:
            break
        shown += data
    os.close(ours)
    assert process.wait(timeout=PATIENCE) == 0
    head, *lines = shown.decode().replace("\r", "").splitlines()
    assert head.split() == ["hidden", "parameters", "char/s", "memory", "time", "nats", "spread", "bits"]
    assert max(map(cell_len, [head, *lines])) <= 80
    assert [line.split()[0] for line in lines[:2]] == ["rnn", "gru-before"]
    assert all(re.search(r" MB  .*  0\.\d{4}  0\.\d{4}  0\.\d{3}$", line) for line in lines[:2])
