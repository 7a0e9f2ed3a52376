"""Words of commands to copy: the shell gives them to the program as they are."""

import subprocess

import pytest

from charlm.system.shell import quote_for_shell, quote_path


@pytest.mark.parametrize(
    ("word", "quoted"),
    [
        ("runs/mine", "runs/mine"),
        ("my run's", "'my run'\"'\"'s'"),
        ("$(rm x)", "'$(rm x)'"),
        ("河边", "'河边'"),
        ("a\nb", r"$'a\x0ab'"),
        ("\x1b'\\", r"$'\x1b\x27\x5c'"),
    ],
)
def test_a_quoted_word_is_the_word_to_the_shell(word: str, quoted: str) -> None:
    assert quote_for_shell(word) == quoted
    shown = subprocess.run(["bash", "-c", f"printf %s {quoted}"], capture_output=True, check=True).stdout
    assert shown.decode() == word


@pytest.mark.parametrize(
    ("path", "quoted"),
    [("-o x", "'./-o x'"), ("--out", "./--out"), ("a-b", "a-b"), ("/-a", "/-a"), ("it's", "'it'\"'\"'s'")],
)
def test_a_path_is_never_taken_for_an_option(path: str, quoted: str) -> None:
    assert quote_path(path) == quoted
