"""What every command promises: help with an example, quick; bad input gets exit code 2 and one clear message."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.cells import cell_len
from typer.testing import CliRunner, Result

from charlm import __version__
from charlm.cli import app


def charlm(*args: object, **options: Any) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args], **options)


def refused(*args: object, **options: Any) -> str:
    """Runs a command that must be refused as wrong use; returns its message."""
    result = charlm(*args, **options)
    assert isinstance(result.exception, SystemExit), f"not caught: {result.exception!r}"
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    ours = [line for line in result.stderr.splitlines() if line.startswith("charlm: ")]
    usage = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(ours) + len(usage) == 1, f"not one message: {result.stderr}"
    return result.stderr


def leaf_commands(group: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaf_commands(command, (*before, name))
        else:
            yield (*before, name)


COMMANDS = list(leaf_commands(typer.main.get_command(app)))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text("the boat sees the river\n" * 40)
    return path


# ------------------------------------------------------------------------------------------------ help, version


def test_the_commands_of_the_design_are_there() -> None:
    names = {" ".join(command) for command in COMMANDS}
    assert names >= {"train", "sample", "score", "eval", "inspect"}
    assert names >= {"config init", "config show", "config check", "config schema"}
    assert names >= {"corpus list", "corpus fetch", "corpus stats"}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_of_each_command_holds_an_example_of_it(command: tuple[str, ...]) -> None:
    result = charlm(*command, "--help")
    assert result.exit_code == 0
    assert f"$ charlm {' '.join(command)}" in result.stdout


@pytest.mark.parametrize("command", [(), ("config",), ("corpus",), *COMMANDS], ids=" ".join)
def test_help_fits_80_columns_and_is_not_cut(command: tuple[str, ...]) -> None:
    lines = charlm(*command, "--help", env={"COLUMNS": "80"}).stdout.splitlines()
    assert max(map(cell_len, lines)) <= 80
    if "Commands:" in lines:
        listed = lines[lines.index("Commands:") + 1 :]
        assert all(re.search(r"[^.]\.$", line) for line in listed), listed


def test_on_a_narrow_terminal_what_a_command_does_is_wrapped_and_not_cut() -> None:
    shown = " ".join(charlm("--help", env={"COLUMNS": "50"}).stdout.split())
    for command in typer.main.get_command(app).commands.values():
        first = command.help.partition("\n")[0]
        assert first.replace("-", "") in shown.replace("- ", "").replace("-", "")


def test_at_40_columns_help_fits_but_for_its_examples() -> None:
    ours, theirs = os.openpty()
    code = "from charlm.cli import main; main()"
    command = [sys.executable, "-c", code, "config", "init", "--help"]
    process = subprocess.Popen(command, stdout=theirs, env={**os.environ, "COLUMNS": "40"})
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # a terminal that nobody writes to any more
        while data := os.read(ours, 4096):
            shown += data
    assert process.wait() == 0
    lines = [line.rstrip() for line in shown.decode().split("\n")]
    text, options = (
        lines[: lines.index("  $ charlm config init my.txt | head -3")],
        lines[lines.index("Arguments:") :],
    )
    assert max(map(cell_len, [*text, *options])) <= 40
    os.close(ours)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_each_option_is_explained_by_sentences(command: tuple[str, ...]) -> None:
    found = typer.main.get_command(app)
    for name in command:
        found = found.commands[name]
    assert found.help.partition("\n")[0].endswith(".")
    for parameter in found.params:
        assert parameter.help[0].isupper(), parameter.name
        assert parameter.help.endswith("."), parameter.name


def test_help_groups_options_by_purpose() -> None:
    sections = re.split(r"^(\S.*):$", charlm("score", "--help").stdout, flags=re.M)
    listed = {
        title: re.findall(r"^  (?:-\w, )?(--[\w-]+)", text, re.M)
        for title, text in zip(sections[1::2], sections[2::2], strict=True)
    }
    assert listed == {
        "Arguments": [],
        "Input": ["--file", "--field", "--separator", "--encoding"],
        "Output": [
            *("--format", "--per-char", "--per-word", "--space"),
            *("--alternatives", "--rank", "--measure", "--log-base"),
        ],
        "Scoring": ["--context", "--document", "--no-bos", "--no-eos", "--unknown"],
        "Hardware": ["--device", "--threads"],
        "Options": ["--help"],
    }


@pytest.mark.parametrize("group", [(), ("config",), ("corpus",)], ids=["charlm", "config", "corpus"])
def test_help_of_a_group_lists_all_its_commands(group: tuple[str, ...]) -> None:
    result = charlm(*group, "--help")
    assert result.exit_code == 0
    listed = result.stdout.partition("Commands:")[2]
    for command in COMMANDS:
        if command[: len(group)] == group:
            assert f"\n  {command[len(group)]}" in listed
    assert group or "charlm train" in result.stdout  # the first page shows how to begin


def test_help_does_not_import_torch(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    program = [sys.executable, "-m", "charlm", "--help"]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "charlm train" in done.stdout


def test_help_of_each_command_does_not_import_torch() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from charlm.cli import app\n"
        f"for command in {COMMANDS!r}:\n"
        "    assert CliRunner().invoke(app, [*command, '--help']).exit_code == 0\n"
        "    assert 'torch' not in sys.modules, command\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_version_is_that_of_the_package() -> None:
    result = charlm("--version")
    assert (result.exit_code, result.stdout) == (0, f"charlm {__version__}\n")


def test_no_command_shows_the_help() -> None:
    result = charlm()
    assert result.exit_code == 2
    assert charlm("--help").stdout.strip() in result.output


def test_an_unknown_command_is_named() -> None:
    assert "trian" in refused("trian")


# -------------------------------------------------------------------------------------------------- bad corpora


@pytest.mark.parametrize("command", ["train", "config check", "eval", "corpus stats"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file"),
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"ab\0cd\n", "NUL byte at offset 2"),
        (b"good\nb\xe9d\n", "not UTF-8: byte 0xe9 at offset 6 (line 2)"),
    ],
    ids=["missing", "empty", "newlines", "binary", "latin1"],
)
def test_a_corpus_that_is_no_text_is_refused(
    command: str, content: bytes | None, said: str, tiny_run: Path, tmp_path: Path
) -> None:
    path, out = tmp_path / "odd.txt", tmp_path / "run"
    if content is not None:
        path.write_bytes(content)
    config = tmp_path / "config.yaml"
    config.write_text(f"corpus: {{path: {path}}}")
    arguments = {
        "train": ["train", "--corpus", path, "--out", out],
        "config check": ["config", "check", config],
        "eval": ["eval", tiny_run, path],
        "corpus stats": ["corpus", "stats", path],
    }
    message = refused(*arguments[command])
    assert str(path) in message
    assert said in message
    assert not out.exists()


def test_a_corpus_too_small_for_the_batch_names_the_key(corpus: Path, tmp_path: Path) -> None:
    message = refused("train", "--corpus", corpus, "--set", "training.batch_size=5000", "--out", tmp_path / "run")
    assert "training.batch_size: 5000" in message


def test_a_corpus_too_small_to_split_names_the_key(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("one line\n")
    arguments = ["--corpus", tmp_path / "one.txt", "--set", "corpus.framing=lines", "--out", tmp_path / "run"]
    assert "corpus.validation" in refused("train", *arguments)


def test_an_unknown_corpus_name_is_told_from_one_that_only_needs_fetching(tmp_path: Path) -> None:
    environment = {"CHARLM_CACHE": str(tmp_path)}
    message = refused("train", "--corpus", "corpus:tiny-shakespear", "--out", tmp_path / "run", env=environment)
    assert "tiny-shakespear" in message
    assert "charlm corpus fetch tiny-shakespear`" not in message  # that would fail as well
    message = refused("train", "--corpus", "corpus:names", "--out", tmp_path / "run", env=environment)
    assert "charlm corpus fetch names" in message


def test_fetching_an_unknown_corpus_suggests_the_nearest(tmp_path: Path) -> None:
    message = refused("corpus", "fetch", "tiny-shakespear", env={"CHARLM_CACHE": str(tmp_path)})
    assert "'tiny-shakespear'" in message
    assert "did you mean 'tiny-shakespeare'" in message


# ------------------------------------------------------------------------------------------- bad configurations


@pytest.mark.parametrize("command", [["train"], ["config", "show"], ["config", "check"]], ids=" ".join)
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("corpus: {path: a}\nmodel: {hiden_size: 8}", ["model.hiden_size", "(line 2)", "model.hidden_size"]),
        ("corpus: {path: a}\nmodle: {}", ["modle", "unknown key", "model"]),
        ("corpus: {path: a}\nhidden_size: 8", ["hidden_size", "did you mean model.hidden_size"]),
        ("corpus: {path: a}\nmodel: {hidden_size: big}", ["model.hidden_size", "'big'", "an integer"]),
        ("corpus: {path: a}\nmodel: {hidden_size: 0}", ["model.hidden_size (line 2) = 0", "at least 1"]),
        ("corpus: {path: a}\nmodel: {cell: gruu}", ["model.cell", "'gruu'", "rnn, lstm, gru"]),
        ("corpus: {path: a}\nmodel: 3", ["model", "section"]),
        ("model: {hidden_size: 8}", ["corpus"]),
        (
            "corpus: {path: 3}\nmodel: {bias: 1}\ntraining: {seed: x}",
            ["corpus.path", "model.bias", "training.seed"],
        ),
        ("corpus: {path: a}\ntraining: {budget: soon}", ["training.budget", "'soon'", "3m"]),
        ("corpus: {path: [a, b}", ["bad.yaml, line 1", "YAML"]),
        ("corpus:\n\tpath: a", ["bad.yaml, line 2", "YAML"]),
        ("corpus: {path: a}\ncorpus: {path: b}", ["bad.yaml, line 2", "corpus is given twice"]),
        ("corpus: &x {path: a}\nmodel: *x", ["bad.yaml, line 2", "aliases"]),
        ("just words", ["bad.yaml", "not a configuration"]),
        (b"corpus: {path: \xff}", ["bad.yaml", "not UTF-8"]),
        (None, ["bad.yaml", "No such file"]),
    ],
)
def test_a_faulty_configuration_names_each_fault(
    command: list[str], text: str | bytes | None, said: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "bad.yaml"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    message = refused(*command, path)
    for part in said:
        assert part in message


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("model.hidden_size", "--set model.hidden_size"),
        ("=3", "--set =3"),
        ("model.hidden_size=[1", "--set model.hidden_size=[1"),
        ("model.hidden_size=1.5", "model.hidden_size = 1.5"),
        ("model.size=3", "model.size"),
        ("model=3", "model = 3"),
    ],
)
def test_a_faulty_assignment_is_named(assignment: str, said: str, corpus: Path, tmp_path: Path) -> None:
    assert said in refused("train", "--corpus", corpus, "--set", assignment, "--out", tmp_path / "run")


def test_nothing_to_train_on_is_said() -> None:
    assert "--corpus" in refused("train")
