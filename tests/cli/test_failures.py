"""What a user can cause is one message with an exit code; a bug stays a bug."""

import json
import sys
from pathlib import Path

import pytest
import torch

from charlm.cli.failures import describe_failure
from charlm.errors import InputError, Interrupted
from commands import refused


def raised_by(action):
    try:
        action()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def recurse():
    recurse()


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [
        (InputError("no"), "no", 2),
        (Interrupted(15, "stopped"), "stopped", 143),
        (OSError(28, "No space left on device", "a/file"), "a/file: No space left on device", 1),
        (OSError(5, "Input/output error"), "Input/output error", 1),
        (MemoryError(), "there is not enough memory; use a smaller model", 1),
        (raised_by(lambda: torch.empty(1 << 60)), "not enough memory (", 1),
        (raised_by(lambda: json.loads("[" * 200_000)), "nested too deeply", 2),
        (raised_by(lambda: b"\xff".decode()), "not valid Unicode", 2),
        (raised_by(lambda: int("9" * (sys.get_int_max_str_digits() + 1))), "more digits", 2),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_a_user_can_cause_is_one_message(error: Exception, said: str, code: int) -> None:
    found = describe_failure(error)
    assert found is not None
    assert said in found[0]
    assert found[1] == code


@pytest.mark.parametrize(
    "error", [raised_by(recurse), RuntimeError("a shape"), ValueError("x"), KeyError("x"), OSError("no number")]
)
def test_a_bug_is_not_hidden(error: Exception) -> None:
    assert describe_failure(error) is None


def test_a_command_to_type_names_the_program_as_it_was_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/lib/charlm/__main__.py", "score"])
    monkeypatch.setattr(sys, "orig_argv", [".venv/bin/python", "-m", "charlm", "score"])
    assert "; `.venv/bin/python -m charlm train` creates run folders" in refused("score", tmp_path / "none", "a")
