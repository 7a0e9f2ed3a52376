"""What the documents say is true: commands, options, files and make targets exist."""

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from charlm.cli import app

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "data/README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
IDS = [str(path.relative_to(ROOT)) for path in DOCUMENTS]


@pytest.mark.parametrize("path", DOCUMENTS, ids=IDS)
def test_every_charlm_command_in_a_document_exists_with_its_options(path: Path) -> None:
    root = typer.main.get_command(app)
    text = path.read_text(encoding="utf-8")
    quoted = [
        line.removeprefix("$ ")
        for block in re.findall(r"```\w*\n(.*?)```", text, re.S)
        for line in block.splitlines()
    ] + re.findall(r"`([^`\n]+)`", text)
    lines = [line for line in quoted if re.match(r"charlm [a-z]", line)]
    assert lines or path.name != "README.md"
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        command = root
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        assert command is not root, f"{line}: no such command"
        known = {name for parameter in command.params for name in parameter.opts}
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0] in known, f"{line}: no such option"


@pytest.mark.parametrize("path", DOCUMENTS, ids=IDS)
def test_every_link_and_every_named_file_is_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    for link in links:
        assert (path.parent / link).exists(), link
    for name in re.findall(r"`((?:charlm|configs|tests|data|benchmarks)/[\w./-]+\.\w+)`", text):
        assert (ROOT / name).exists(), name


def test_the_makefile_explains_every_target_that_the_readme_names() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.M))
    assert {"demo", "test"} <= named
    for target in named:
        assert re.search(rf"^{target}:.*##", makefile, re.M), target


def test_ci_calls_the_checks_that_the_readme_names() -> None:
    assert "make check" in (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert re.search(r"^check:.*\btest\b", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
