"""What tests of commands share: a command is run in this process, and its answer or its refusal is handed back."""

import io
import json
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from charlm.cli import app

# What is scored: a line of each kind, and one of characters that would spoil a table or a terminal.
SENTENCES = [
    "the boat sees the river.",
    "a miller",
    "",
    "the heron likes bread. the heron has a lamp.",
    "河边的船很安静。",
]
NASTY = "a\tb\\c\\n\nd\r\x1b[31m\u202e"

# Nothing of the machine that runs the tests decides how the output looks.
PLAIN = {"NO_COLOR": None, "FORCE_COLOR": None, "COLORTERM": None, "TTY_COMPATIBLE": None, "TERM": "xterm-256color"}


def run(*args: object, **options: Any) -> Result:
    """Runs a command to its end, whatever that is; a bug in it comes through as its exception."""
    result = CliRunner().invoke(app, [str(arg) for arg in args], **options)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def answer(*args: object, **options: Any) -> str:
    """Returns standard output; standard error must be empty."""
    result = run(*args, **options)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout_bytes.decode()  # `stdout` has every line end made a newline


def refused(*args: object, **options: Any) -> str:
    """Returns the one message of a command that is refused as wrong use, with no answer at all."""
    result = run(*args, **options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("charlm: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def score(*args: object, env: dict[str, str | None] | None = None, **options: Any) -> Result:
    """Runs `charlm score`, which must answer; what it says on standard error is the caller's to judge."""
    result = run("score", *args, env={**PLAIN, **(env or {})}, **options)
    assert result.exit_code == 0, result.stderr
    return result


def scores(*args: object, **options: Any) -> list[dict[str, Any]]:
    """Returns what `charlm score --format jsonl` says of each sentence."""
    lines = score("--format", "jsonl", *args, **options).stdout.split("\n")
    assert lines.pop() == ""
    return [json.loads(line) for line in lines]


def on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, args: Sequence[object], command: str = "score", **environment: str
) -> str:
    """Returns what a command shows on a terminal."""
    screen = io.StringIO()
    with monkeypatch.context() as context:
        for name in PLAIN:
            context.delenv(name, raising=False)
        for name, value in {"TERM": "xterm-256color", **environment}.items():
            context.setenv(name, value)
        context.setattr(screen, "isatty", lambda: True)
        context.setattr(sys, "stdout", screen)
        app([command, *map(str, args)], standalone_mode=False)
    return screen.getvalue()
