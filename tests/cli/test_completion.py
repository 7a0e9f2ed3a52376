"""Completion in bash, zsh and fish: the installed program answers what their scripts ask it, without torch."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).with_name("charlm")
SHELLS = ["bash", "zsh", "fish"]

pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="the program is not installed beside this Python")


def ask(instruction: str, *, python: tuple[str, ...] = (), **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the program as the script of a shell does."""
    environment = {**os.environ, "_CHARLM_COMPLETE": instruction, **environment}
    return subprocess.run(
        [*python, str(PROGRAM)], env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def complete(shell: str, words: list[str]) -> str:
    """Returns what a shell is answered when the last word is being typed."""
    typed = " ".join(words)
    if shell == "bash":
        done = ask("complete_bash", COMP_WORDS="\n".join(words), COMP_CWORD=str(len(words) - 1))
    elif shell == "zsh":
        done = ask("complete_zsh", _TYPER_COMPLETE_ARGS=typed)
    else:
        done = ask("complete_fish", _TYPER_COMPLETE_FISH_ACTION="get-args", _TYPER_COMPLETE_ARGS=typed)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def values(shell: str, answer: str) -> list[str]:
    """Returns the completions without their explanations."""
    if shell == "zsh":
        answer = answer.strip().removeprefix("_arguments '*: :((").removesuffix("))'")
        return [line.split('"')[1] for line in answer.splitlines()]
    return [line.partition("\t")[0] for line in answer.splitlines() if line]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("sc", ["score"]),
        ("score --per-", ["--per-char", "--per-word"]),
        ("score RUN --measure ", ["logprob", "mean", "penlp", "slor"]),
    ],
)
def test_commands_options_and_their_values_are_completed(shell: str, typed: str, expected: list[str]) -> None:
    assert values(shell, complete(shell, ["charlm", *typed.split(" ")])) == expected


def test_where_charlm_has_nothing_to_offer_the_shell_completes_files() -> None:
    typed = ["charlm", "score", "runs/"]
    assert complete("bash", typed).strip() == ""
    assert complete("zsh", typed).strip() == "_files"
    asked = ask("complete_fish", _TYPER_COMPLETE_FISH_ACTION="is-args", _TYPER_COMPLETE_ARGS=" ".join(typed))
    assert asked.returncode == 1
    assert "complete -o default -F" in ask("source_bash").stdout


def test_completion_does_not_import_torch() -> None:
    asked = ask(
        "complete_fish",
        python=(sys.executable, "-X", "importtime"),
        _TYPER_COMPLETE_FISH_ACTION="get-args",
        _TYPER_COMPLETE_ARGS="charlm score RUN --measure ",
    )
    imported = {line.rpartition("|")[2].strip() for line in asked.stderr.splitlines()}
    assert "charlm.cli.score" in imported
    assert "torch" not in imported


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_for_a_shell_is_accepted_by_it(shell: str, tmp_path: Path) -> None:
    script = ask(f"source_{shell}").stdout
    assert f"_CHARLM_COMPLETE=complete_{shell}" in script
    if found := shutil.which(shell):
        (tmp_path / "script").write_text(script)
        subprocess.run([found, "-n", str(tmp_path / "script")], check=True, capture_output=True, timeout=60)


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash here")
def test_bash_itself_completes_with_the_script() -> None:
    lines = [
        'eval "$(_CHARLM_COMPLETE=source_bash charlm)"',
        "COMP_WORDS=(charlm score '\"a run\"' --measure '') COMP_CWORD=4",
        "_charlm_completion charlm",
        'echo "${COMPREPLY[@]}"',
    ]
    environment = {**os.environ, "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", "\n".join(lines)], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["logprob", "mean", "penlp", "slor"]
