"""`charlm train`: the run folder on standard output, progress on standard error, a run that tells what it is."""

import io
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.cells import cell_len
from typer.testing import CliRunner, Result

import charlm
import commands
from charlm.cli import app
from charlm.cli.render import format_duration
from charlm.cli.train import _Display
from charlm.training.reports import Metrics, StepReport

SMALL = [
    "--set",
    "model.hidden_size=8",
    "--set",
    "training.evaluate_every=5 steps",
    "--set",
    "training.batch_size=4",
]


def train(*args: object, **options: Any) -> Result:
    result = CliRunner().invoke(app, ["train", *map(str, args)], **options)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.stderr
    return result


def settings(run: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    return loaded


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


# ------------------------------------------------------------------------------------------------ what it prints


def test_standard_output_is_the_run_folder_and_standard_error_the_progress(
    tiny_corpus: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    result = train("--corpus", tiny_corpus, "--budget", "10 steps", "--out", run, *SMALL)
    assert result.stdout == f"{run}\n"
    for row in metrics(run):
        assert f"step {row['step']} " in result.stderr
        assert f"train {row['train_loss']:.4f}" in result.stderr
        assert f"validation {row['validation_loss']:.4f}" in result.stderr
        assert f"{row['bits_per_character']:.3f} bits/char" in result.stderr
    assert "\x1b" not in result.stderr
    best = min(row["validation_loss"] for row in metrics(run))
    assert f"best validation loss: {best:.4f} nats" in result.stderr
    assert f"charlm sample {run}" in result.stderr


def test_without_validation_the_training_loss_is_shown(tiny_corpus: Path, tmp_path: Path) -> None:
    more = ["--budget", "5 steps", "--out", tmp_path / "run", "--set", "corpus.validation=0.0"]
    result = train("--corpus", tiny_corpus, *more, *SMALL)
    row = metrics(tmp_path / "run")[0]
    assert row["validation_loss"] is None
    assert not re.search(r"validation \d", result.stderr)
    assert f"best training loss: {row['train_loss']:.4f} nats" in result.stderr


def test_the_command_to_try_next_is_quoted_for_the_shell(tiny_corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "my run's; ls"
    result = train("--corpus", tiny_corpus, "--budget", "5 steps", "--out", run, *SMALL)
    last = result.stderr.splitlines()[-1]
    assert shlex.split(last.removeprefix("try: ")) == ["charlm", "sample", str(run)]


class _Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [20, 40, 80, 120])
def test_on_a_terminal_every_line_fits_and_time_and_loss_are_always_seen(
    columns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = _Screen()
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "dumb")  # lines alone, without a bar
    monkeypatch.setattr(sys, "stderr", screen)
    metrics = Metrics(123_456, 10**9, 21.5, 183_000.0, 1.2345, 1.3456, 1.941, 1e-3, 0.5, 93_000.0)
    with _Display(quiet=False) as display:
        for note in ("text: 29,887 characters to train on, 1,232 symbols", "no labels here, " * 8):
            display.on_note(note)
        display.on_evaluation(metrics, "我在河边看见白鹅。" * 20 + "\n" + "e\u0301" * 300, True)
        display.on_evaluation(metrics, "", False)
    lines = screen.getvalue().splitlines()
    assert all(cell_len(line) <= columns for line in lines)
    evaluations = [line for line in lines if line.startswith("2 d 2 h")]
    assert len(evaluations) == 2
    if columns >= 40:
        assert all("validation 1.3456" in line for line in evaluations)
        assert evaluations[0].endswith("*best")
    if columns >= 80:
        assert "train 1.2345" in evaluations[0]
    assert sum(line.endswith("…") for line in lines) >= 2  # both lines of the sample


@pytest.mark.parametrize(
    ("columns", "seconds_left", "seen"),
    [
        (20, 86_399, []),
        (40, 86_399, ["50%"]),
        (40, 750, ["50%", "loss"]),
        (80, 86_399, ["50%", "loss", "bits/char", "char/s"]),
        (120, 86_399, ["50%", "loss", "bits/char", "char/s", "lr", "|g|"]),
    ],
)
def test_the_progress_keeps_its_bar_and_the_time_left(
    columns: int, seconds_left: float, seen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = _Screen()
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stderr", screen)
    with _Display(quiet=False) as display:
        display.on_step(StepReport(100, 0.5, 2.5, 1.234, 1e-3, 0.5, 93_000.0, seconds_left))
    line = re.split(r"[\r\n]|\x1b\[[0-9;?]*[A-Za-z]", screen.getvalue())
    shown = next(part for part in reversed(line) if "left" in part)
    assert cell_len(shown) <= columns
    assert "━" in shown
    assert f"{format_duration(seconds_left)} left" in shown
    assert all(word in shown for word in seen)


@pytest.mark.parametrize("dumb", [True, False])
def test_where_no_bar_can_be_drawn_lines_tell_the_time_left(dumb: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    screen, seconds = _Screen() if dumb else io.StringIO(), 0.0
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "dumb" if dumb else "xterm")
    monkeypatch.setattr(sys, "stderr", screen)
    with _Display(quiet=False, clock=lambda: seconds) as display:
        for step in range(100):
            seconds = float(step)
            display.on_step(StepReport(step, step / 100, 2.5, 1.234, 1e-3, 0.5, 93_000.0, 100 - seconds))
    lines = screen.getvalue().splitlines()
    assert [re.findall(r"([\d:]+(?: s)?) left", line) for line in lines] == [["1:30"], ["1:00"], ["30 s"]]
    assert all("loss 1.234" in line for line in lines)
    assert not dumb or all(cell_len(line) <= 40 for line in lines)


def test_a_budget_of_two_words_is_told_to_be_one(tiny_corpus: Path) -> None:
    message = commands.refused("train", "--corpus", tiny_corpus, "--budget", 60, "steps")
    assert "put an amount with a space in quotes: --budget '60 steps'" in message


def test_in_a_pipe_a_sample_is_not_cut_and_notes_are_not_wrapped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    metrics = Metrics(123_456, 10**9, 21.5, 183_000.0, 1.2345, 1.3456, 1.941, 1e-3, 0.5, 93_000.0)
    with _Display(quiet=False) as display:
        display.on_note("many words " * 20)
        display.on_evaluation(metrics, "x" * 300, True)
    note, line, sample = capsys.readouterr().err.splitlines()
    assert note == "many words " * 20
    assert "epoch 21.50" in line
    assert "93,000 char/s" in line
    assert sample.endswith("x" * 300)


def test_quiet_says_nothing_but_the_folder(tiny_corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = train("--corpus", tiny_corpus, "--budget", "10 steps", "--out", run, "--quiet", *SMALL)
    assert (result.stdout, result.stderr) == (f"{run}\n", "")


def test_samples_that_could_harm_a_terminal_are_escaped_in_the_progress(tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("\x1b]m" * 200)
    more = ["--budget", "5 steps", "--out", tmp_path / "run", "--set", "sampling.temperature=1.0"]
    result = train("--corpus", tmp_path / "corpus.txt", *more, *SMALL)
    assert "\x1b" in (tmp_path / "run" / "samples.txt").read_text()
    assert "\x1b" not in result.stderr
    assert r"\x1b" in result.stderr


# ---------------------------------------------------------------------------------------------- where it trains


def test_a_corpus_alone_is_enough_and_names_the_run(
    tiny_text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my book.en.txt").write_text(tiny_text)
    result = train("--corpus", "my book.en.txt", "--budget", "2 steps")
    run = Path("runs", "my book")
    assert result.stdout == f"{run}\n"
    assert settings(run)["corpus"]["path"] in (path := str(tmp_path / "my book.en.txt"), [path])
    assert settings(run)["training"]["budget"] == "2 steps"
    assert charlm.load(run).score(["the boat"])[0].unknown == 0


def test_a_configuration_names_the_run_and_its_paths_are_relative_to_it(
    tiny_text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    (tmp_path / "there" / "text.txt").write_text(tiny_text)
    config = {"corpus": {"path": "text.txt"}, "model": {"hidden_size": 8}, "training": {"budget": "2 steps"}}
    (tmp_path / "there" / "tiny.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path / "here")
    result = train("../there/tiny.yaml", "--set", "training.batch_size=4")
    assert result.stdout == "runs/tiny\n"
    assert (tmp_path / "here" / "runs" / "tiny" / "model.safetensors").is_file()
    assert settings(Path("runs/tiny"))["model"]["hidden_size"] == 8


def test_several_corpora_are_one_text(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(f"{name}\n" * 100)
    more = ["--budget", "2 steps", "--out", tmp_path / "run", *SMALL]
    train("--corpus", tmp_path / "a.txt", "--corpus", tmp_path / "b.txt", *more)
    assert [score.unknown for score in charlm.load(tmp_path / "run").score(["ab", "c"])] == [0, 1]


def test_a_corpus_can_come_from_standard_input(tiny_text: str, tmp_path: Path) -> None:
    train("--corpus", "-", "--budget", "2 steps", "--out", tmp_path / "run", *SMALL, input=tiny_text)
    assert charlm.load(tmp_path / "run").score(["the boat"])[0].unknown == 0


def test_set_and_budget_win_over_the_configuration(tiny_corpus: Path, tmp_path: Path) -> None:
    text = f"corpus: {{path: {tiny_corpus}}}\nmodel: {{cell: rnn}}\ntraining: {{budget: 1h, batch_size: 4}}\n"
    (tmp_path / "config.yaml").write_text(text)
    assign = [
        "model.cell=gru-before",
        "model.hidden_size=9",
        "model.hidden_size=8",
        "model.bias=false",
    ]
    assign += ["training.learning_rate=1e-3", "training.clip_norm=null"]
    options = [part for assignment in assign for part in ("--set", assignment)]
    train(tmp_path / "config.yaml", "--budget", "3 steps", "--out", tmp_path / "run", *options)
    found = settings(tmp_path / "run")
    assert found["model"]["cell"] == "gru-before"
    assert found["model"]["hidden_size"] == 8  # the last one wins
    assert found["model"]["bias"] is False
    assert found["training"]["learning_rate"] == 0.001
    assert found["training"]["clip_norm"] is None
    assert found["training"]["budget"] == "3 steps"
    assert found["training"]["batch_size"] == 4
    assert metrics(tmp_path / "run")[-1]["step"] == 3


# -------------------------------------------------------------------------------------------------- the run folder


def test_the_run_keeps_its_whole_configuration(tiny_corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train("--corpus", tiny_corpus, "--budget", "2 steps", "--out", run, *SMALL)
    shown = CliRunner().invoke(app, ["config", "show", str(run / "config.yaml")])
    assert shown.exit_code == 0
    assert shown.stdout == (run / "config.yaml").read_text(encoding="utf-8")


def test_the_run_holds_what_the_contract_names_and_no_pickle(tiny_run: Path) -> None:
    files = {str(path.relative_to(tiny_run)) for path in tiny_run.rglob("*") if path.is_file()}
    named = {"config.yaml", "vocabulary.json", "model.safetensors", "metrics.jsonl", "samples.txt"}
    assert {file for file in files if "/" not in file} == named
    assert any(file.startswith("last/") for file in files)
    assert {Path(file).suffix for file in files - {"last/lock"}} <= {
        ".yaml", ".json", ".jsonl", ".txt", ".safetensors",
    }  # fmt: skip


def test_each_line_of_the_metrics_has_the_fields_of_the_contract(tiny_run: Path) -> None:
    names = ["step", "characters", "epoch", "seconds", "train_loss", "validation_loss", "bits_per_character"]
    names += ["learning_rate", "gradient_norm", "characters_per_second"]
    assert [list(row) for row in metrics(tiny_run)] == [names] * 4
    assert [row["step"] for row in metrics(tiny_run)] == [10, 20, 30, 40]


# --------------------------------------------------------------------------------------------------------- resume


def test_resume_with_the_folder_alone_goes_on_to_a_new_budget(tiny_corpus: Path, tmp_path: Path) -> None:
    run, whole = tmp_path / "run", tmp_path / "whole"
    constant = ["--set", "training.schedule=constant", "--set", "training.warmup=0.0", "--set", "model.dropout=0.0"]
    train("--corpus", tiny_corpus, "--budget", "10 steps", "--out", run, *SMALL, *constant)
    result = train("--resume", "--out", run, "--set", "training.budget=20 steps")
    assert result.stdout == f"{run}\n"
    assert "step 15 " in result.stderr
    train("--corpus", tiny_corpus, "--budget", "20 steps", "--out", whole, *SMALL, *constant)
    kept = ("step", "characters", "train_loss", "validation_loss", "gradient_norm")
    assert [[row[name] for name in kept] for row in metrics(run)] == [
        [row[name] for name in kept] for row in metrics(whole)
    ]
    assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_resuming_a_run_that_is_done_changes_nothing(tiny_corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train("--corpus", tiny_corpus, "--budget", "10 steps", "--out", run, *SMALL)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert train("--resume", "--out", run).stdout == f"{run}\n"
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_resuming_with_another_model_names_the_difference(tiny_corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train("--corpus", tiny_corpus, "--budget", "5 steps", "--out", run, *SMALL)
    before = (run / "config.yaml").read_bytes()
    result = CliRunner().invoke(app, ["train", "--resume", "--out", str(run), "--set", "model.hidden_size=9"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "model.hidden_size: 8 in the run, 9 now" in result.stderr
    assert (run / "config.yaml").read_bytes() == before


def test_resuming_on_another_text_is_refused(tiny_text: str, tmp_path: Path) -> None:
    run, text = tmp_path / "run", tmp_path / "text.txt"
    text.write_text(tiny_text)
    train("--corpus", text, "--budget", "5 steps", "--out", run, *SMALL)
    text.write_text(tiny_text.replace("boat", "goat"))
    budget = ["--set", "training.budget=10 steps"]
    result = CliRunner().invoke(app, ["train", "--resume", "--out", str(run), *budget])
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{run}: the corpus is not the one" in result.stderr
    assert charlm.load(run).score(["the boat"])[0].unknown == 0  # the old run is still whole
