"""Wrong requests of a run, and runs that are not whole: exit code 2, and what is wrong by its name."""

import io
import json
import os
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner, Result

from charlm import kernels
from charlm.cli import app

SNOWMAN = "☃"  # in no corpus of these tests


def charlm(*args: object, **options: Any) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args], **options)


def refused(*args: object, **options: Any) -> str:
    """Runs a command that must be refused as wrong use; returns its message."""
    result = charlm(*args, **options)
    assert isinstance(result.exception, SystemExit), f"not caught: {result.exception!r}"
    assert result.exit_code == 2
    assert result.stdout == ""
    return result.stderr


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text("the boat sees the river\n" * 40)
    return path


# -------------------------------------------------------------------------------------------------- bad requests


@pytest.mark.parametrize("shape", [[], ["--count", "2"], ["--format", "jsonl"]], ids=["text", "several", "jsonl"])
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("temperature", "-0.1"),
        ("temperature", "101"),
        ("temperature", "nan"),
        ("top-k", "0"),
        ("top-p", "0"),
        ("top-p", "1.01"),
        ("top-p", "nan"),
        ("min-p", "-0.1"),
        ("min-p", "1.01"),
        ("length", "0"),
        ("seed", "-1"),
        ("seed", str(2**70)),
        ("threads", "0"),
    ],
)
def test_sampling_settings_out_of_range_are_named(
    option: str, value: str, shape: list[str], tiny_run: Path
) -> None:
    assert option in refused("sample", tiny_run, f"--{option}", value, *shape)


def test_a_count_below_one_is_named(tiny_run: Path) -> None:
    assert "--count" in refused("sample", tiny_run, "--count", 0)


@pytest.mark.parametrize("command", ["sample", "score"])
def test_more_threads_than_any_machine_has_are_refused(
    command: str, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)  # really asked for, they crash the process
    message = refused(command, tiny_run, "--threads", 1_000_000, *(["text"] if command == "score" else []))
    assert "threads" in message
    assert asked == []


@pytest.mark.parametrize("shape", [[], ["--count", "2"], ["--format", "jsonl"]], ids=["text", "several", "jsonl"])
def test_unknown_characters_of_a_prompt_are_named(shape: list[str], tiny_run: Path) -> None:
    message = refused("sample", tiny_run, "--prompt", f"e{SNOWMAN}e\x1b", *shape)
    assert f"'{SNOWMAN}' (U+2603)" in message
    assert r"'\x1b' (U+001B)" in message


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "no such file"), (b"", "empty"), (b"\xff", "not UTF-8"), (SNOWMAN.encode(), "U+2603")],
)
def test_a_prompt_file_that_cannot_be_used_is_named(
    content: bytes | None, said: str, tiny_run: Path, tmp_path: Path
) -> None:
    path = tmp_path / "prompt.txt"
    if content is not None:
        path.write_bytes(content)
    message = refused("sample", tiny_run, "--prompt-file", path)
    assert said in message
    assert str(path) in message or "U+" in message


@pytest.mark.parametrize(("content", "said"), [(None, "no such file"), (b"", "empty"), (b"\xff", "not UTF-8")])
def test_a_document_that_cannot_be_used_is_named(
    content: bytes | None, said: str, tiny_run: Path, tmp_path: Path
) -> None:
    path = tmp_path / "document.txt"
    if content is not None:
        path.write_bytes(content)
    message = refused("score", tiny_run, "the boat", "--document", path)
    assert said in message
    assert str(path) in message


def test_a_document_and_the_sentences_are_not_both_standard_input(tiny_run: Path) -> None:
    assert "cannot both come from standard input" in refused("score", tiny_run, "--file", "-", "--document", "-")


def test_a_model_of_lines_has_nothing_to_remember_while_writing(tiny_lines_run: Path) -> None:
    assert "a memory has nothing to remember" in refused("sample", tiny_lines_run, "--memory")


def test_a_prompt_comes_from_one_place(tiny_run: Path, tmp_path: Path) -> None:
    message = refused("sample", tiny_run, "--prompt", "e", "--prompt-file", tmp_path / "prompt.txt")
    assert "--prompt, --prompt-file" in message


def test_sentences_come_from_one_place(tiny_run: Path, tmp_path: Path) -> None:
    assert "--file" in refused("score", tiny_run, "a sentence", "--file", tmp_path / "text")


@pytest.mark.parametrize("output", ["table", "tsv", "jsonl"])
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "No such file"),
        ("folder", "Is a directory"),
        ("latin1", "not UTF-8: byte 0xe9 at offset 3 (line 1)"),
    ],
)
def test_a_file_of_sentences_that_cannot_be_read_is_named(
    kind: str, said: str, output: str, tiny_run: Path, tmp_path: Path
) -> None:
    path = tmp_path / "sentences.txt"
    if kind == "folder":
        path.mkdir()
    elif kind == "latin1":
        path.write_bytes(b"caf\xe9\n")
    message = refused("score", tiny_run, "--file", path, "--format", output)
    assert str(path) in message
    assert said in message


@pytest.mark.parametrize("source", ["file", "standard input"])
def test_a_line_that_is_not_utf8_is_named_by_its_number_and_those_before_it_are_answered(
    source: str, tiny_run: Path, tmp_path: Path
) -> None:
    content = b"one\ntwo\nb\xe9d\nfour\n"
    path = tmp_path / "sentences.txt"
    path.write_bytes(content)
    name = str(path) if source == "file" else source
    more = ["--file", path] if source == "file" else ["--file", "-"]
    result = charlm("score", tiny_run, "--format", "jsonl", *more, input=content)
    assert result.exit_code == 2
    assert f"{name}: not UTF-8: byte 0xe9 at offset 9 (line 3); it is perhaps cp1252" in result.stderr
    assert "`--encoding cp1252`" in result.stderr
    assert [line.split('"')[3] for line in result.stdout.splitlines()] == ["one", "two"]


def test_nothing_to_score_is_said_instead_of_waiting_at_a_terminal(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keyboard = io.StringIO()
    monkeypatch.setattr(keyboard, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", keyboard)
    assert app(["score", str(tiny_run)], standalone_mode=False) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "nothing to score" in printed.err


@pytest.mark.parametrize("command", ["score", "sample", "eval"])
def test_an_unknown_format_is_named(command: str, tiny_run: Path) -> None:
    assert "xml" in refused(command, tiny_run, *(["text"] if command != "sample" else []), "--format", "xml")


# ------------------------------------------------------------------------------------------------ bad run folders


def _mark_weights(number: int, run: Path) -> None:
    weights = safetensors.torch.load_file(run / "model.safetensors")
    safetensors.torch.save_file(weights, run / "model.safetensors", {"charlm_format": str(number)})


def _mark_vocabulary(number: int, run: Path) -> None:
    vocabulary = json.loads((run / "vocabulary.json").read_text(encoding="utf-8"))
    (run / "vocabulary.json").write_text(json.dumps({**vocabulary, "format": number}), encoding="utf-8")


FAULTS = {
    "missing": (shutil.rmtree, "no such run folder"),
    "empty": (lambda run: [shutil.rmtree(run), run.mkdir()], "not a run folder"),
    "a file": (lambda run: [shutil.rmtree(run), run.write_text("text")], "a file, not a run folder"),
    "no weights": (lambda run: (run / "model.safetensors").unlink(), "run is incomplete"),
    "no vocabulary": (lambda run: (run / "vocabulary.json").unlink(), "vocabulary.json is missing"),
    "no config": (lambda run: (run / "config.yaml").unlink(), "config.yaml is missing"),
    "newer weights": (partial(_mark_weights, 999), "model.safetensors: written by a newer charlm (format 999)"),
    "newer vocabulary": (partial(_mark_vocabulary, 999), "vocabulary.json: written by a newer charlm (format 999)"),
    "older weights": (partial(_mark_weights, 1), "model.safetensors: written by an older charlm (format 1)"),
    "older vocabulary": (partial(_mark_vocabulary, 1), "vocabulary.json: written by an older charlm (format 1)"),
    "cut weights": (lambda run: os.truncate(run / "model.safetensors", 500), "model.safetensors: damaged"),
    "odd config": (lambda run: (run / "config.yaml").write_text("model: {cell: 5}"), "damaged configuration"),
    "odd vocabulary": (lambda run: (run / "vocabulary.json").write_text("[]"), "vocabulary.json: not a vocabulary"),
}  # fmt: skip


@pytest.mark.parametrize("command", ["score", "sample", "eval", "inspect"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_that_is_no_whole_run_is_refused(
    fault: str, command: str, tiny_run: Path, corpus: Path, tmp_path: Path
) -> None:
    run = tmp_path / "damaged"
    shutil.copytree(tiny_run, run)
    spoil, said = FAULTS[fault]
    spoil(run)
    more = {"score": ["text"], "eval": [corpus]}.get(command, [])
    message = refused(command, run, *more)
    assert str(run) in message
    assert said in message


def test_a_run_in_the_output_folder_is_never_overwritten(tiny_run: Path, corpus: Path) -> None:
    before = {path: path.read_bytes() for path in tiny_run.rglob("*") if path.is_file()}
    message = refused("train", "--corpus", corpus, "--out", tiny_run)
    assert str(tiny_run) in message
    assert "--resume" in message
    assert {path: path.read_bytes() for path in tiny_run.rglob("*") if path.is_file()} == before


def test_an_output_folder_that_cannot_be_made_is_named(corpus: Path) -> None:
    assert f"{corpus}/run: cannot create" in refused("train", "--corpus", corpus, "--out", corpus / "run")


@pytest.mark.parametrize("content", [None, "nothing"], ids=["no folder", "an empty folder"])
def test_resuming_nothing_names_the_folder(content: str | None, corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "never-begun"
    if content:
        run.mkdir()
    assert str(run) in refused("train", "--resume", "--out", run)
    assert str(run) in refused("train", "--corpus", corpus, "--resume", "--out", run)
    assert "--out" in refused("train", "--resume")


def test_a_device_that_is_not_there_is_named(
    tiny_run: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "device cuda" in refused("train", "--corpus", corpus, "--device", "cuda", "--out", tmp_path / "run")
    for command in (["score", tiny_run, "text"], ["sample", tiny_run], ["eval", tiny_run, corpus]):
        assert "device cuda" in refused(*command, "--device", "cuda")
        assert "tpu" in refused(*command, "--device", "tpu")


def test_an_endless_line_is_refused_by_its_number_after_the_lines_before_it(tiny_run: Path, tmp_path: Path):
    (text := tmp_path / "text").write_text("the boat\n\n" + "a" * 5_000_000 + "\nthe lamp\n")
    result = CliRunner().invoke(app, ["score", str(tiny_run), "--file", str(text), "--format", "jsonl"])
    assert result.exit_code == 2
    assert result.stdout.count("\n") == 2
    assert f"{text}, line 3: this line is longer than 4,194,304 bytes" in result.stderr


@pytest.mark.parametrize(
    ("command", "option", "what"),
    [(["sample"], "--prompt-file", "prompt"), (["score", "the boat"], "--document", "document")],
)
def test_an_endless_prompt_is_refused(command: list[str], option: str, what: str, tiny_run: Path, tmp_path: Path):
    (text := tmp_path / "text").write_text("the boat\n" * 500_000)
    result = CliRunner().invoke(app, [command[0], str(tiny_run), *command[1:], option, str(text)])
    assert result.exit_code == 2
    assert f"{text}: the {what} has more than 4,194,304 characters" in result.stderr


# ------------------------------------------------------------------------- before anything is read or measured


@pytest.mark.parametrize(
    "content", ["ACT I\nHamlet: to be\n\tor not\n", "Hamlet: to be\n", "words alone\n", b"\xff"]
)
def test_a_text_where_a_configuration_is_expected_says_how_to_train_on_it(
    content: str | bytes, tmp_path: Path
) -> None:
    path = tmp_path / "my play.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    message = refused("train", path)
    assert f"{path}: not a configuration" in message
    assert f"`charlm train --corpus '{path}'`" in message


@pytest.mark.parametrize("below", ["file", "/proc"])
def test_a_run_folder_that_cannot_be_made_is_named_before_the_corpus_is_read(below: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / below / "run"
    message = refused("train", "--corpus", tmp_path / "missing", "--out", out)
    assert f"{out}: cannot create the run folder" in message


def test_a_disk_without_room_for_the_run_is_named_with_what_is_needed(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 100_000))
    config = ["--corpus", corpus, "--budget", "1 step", "--set", "model.hidden_size=256"]
    result = charlm("train", *config, "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert f"{tmp_path / 'run'}: this run needs" in result.stderr
    assert "this disk has 100.0 kB free" in result.stderr


def test_a_run_that_goes_on_needs_room_for_one_more_checkpoint_and_no_more(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    sizes = ["--set", "model.hidden_size=64", "--set", "training.keep=1"]
    assert charlm("train", "--corpus", corpus, "--budget", "1 step", *sizes, "--out", run).exit_code == 0
    checkpoint = (run / "last" / "checkpoint.safetensors").stat().st_size
    for free, code in ((checkpoint, 0), (checkpoint // 2, 1)):
        monkeypatch.setattr(
            shutil, "disk_usage", lambda path, free=free: shutil._ntuple_diskusage(9**9, 9**9, free)
        )
        result = charlm("train", "--resume", "--out", run, "--budget", "2 steps")
        assert result.exit_code == code, result.stderr
        assert ("this run needs" in result.stderr) == bool(code)
    assert "move the folder to another disk" in result.stderr


@pytest.mark.parametrize(
    "command", ["train --corpus - --corpus", "eval RUN -", "pairs RUN -", "rerank RUN - --tune"]
)
def test_standard_input_is_named_once(command: str, tiny_run: Path) -> None:
    words = [str(tiny_run) if word == "RUN" else word for word in command.split()]
    assert "standard input is named twice" in refused(*words, "-", input="text")


def test_a_missing_compiler_is_said_with_what_it_costs_and_how_to_get_one(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    kernels.library.cache_clear()
    try:
        result = charlm("train", "--corpus", corpus, "--budget", "1 step", "--out", tmp_path / "run")
    finally:
        kernels.library.cache_clear()
    assert result.exit_code == 0
    assert "no C compiler no-such-compiler (install gcc or clang" in result.stderr
    assert "by almost half with a GRU" in result.stderr


def test_a_sentence_that_begins_with_a_dash_is_told_its_place(tiny_run: Path) -> None:
    for sentence in ("- he said", "--he said"):
        assert "charlm score RUN -- '- no'" in refused("score", tiny_run, sentence)
        assert charlm("score", tiny_run, "--format", "tsv", "--", sentence).exit_code == 0


def test_the_name_of_a_file_that_is_scored_as_a_sentence_is_noted(tiny_run: Path, corpus: Path) -> None:
    result = charlm("score", tiny_run, corpus)
    assert result.exit_code == 0
    assert f"note: {corpus} is scored as a sentence, but there is a file of this name; use --file {corpus}" in (
        result.stderr
    )
