"""Command lines made at random end with a documented exit code and a message, never with a traceback."""

from pathlib import Path

import pytest

from generated import run_generated


@pytest.mark.slow
def test_no_command_line_ends_in_a_traceback(tiny_mixture_run: Path) -> None:
    assert run_generated(tiny_mixture_run, 400) == []
