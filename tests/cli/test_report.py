"""`charlm report`: a page of one or several runs, and one message where there can be none."""

import re
import shutil
from pathlib import Path

import pytest

import commands
from commands import refused


@pytest.fixture(scope="module")
def copied(tiny_mixture_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that a page may be written into."""
    return Path(shutil.copytree(tiny_mixture_run, tmp_path_factory.mktemp("run") / "mine"))


def test_the_page_is_written_into_the_run_and_its_path_printed(copied: Path) -> None:
    result = commands.run("report", copied, "--quiet")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{copied / 'report.html'}\n"
    page = (copied / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "<h1>tiny.txt</h1>" in page
    assert not list(copied.glob("*.new"))


def test_progress_says_what_is_measured_and_how_long_it_will_take(copied: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    result = commands.run("report", copied, "--out", out)
    assert result.exit_code == 0
    assert result.stdout == f"{out}\n"
    lines = result.stderr.splitlines()
    assert lines[0] == "  0%  reading the corpus"
    assert lines[-1].startswith("100%  writing the page")
    assert any(re.search(r"about \d.* left$", line) for line in lines)
    assert all(len(line) <= 80 for line in lines)


def test_several_runs_make_one_page(copied: Path, tiny_lines_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "both.html"
    result = commands.run("report", copied, tiny_lines_run, "--out", out)
    assert result.exit_code == 0
    page = out.read_text(encoding="utf-8")
    assert page.count('role="tab"') == page.count('role="tabpanel"') == 2
    assert "run 2 of 2, gradients" in result.stderr


def test_a_redacted_page_names_neither_the_run_nor_its_text(copied: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    assert commands.run("report", copied, "--redact", "--quiet", "--out", out).exit_code == 0
    page = out.read_text(encoding="utf-8")
    assert "tiny.txt" not in page
    assert str(copied) not in page
    assert "This page is redacted" in page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{empty}"], "not a run folder"),
        (["{run}/nothing"], "no such run folder"),
        (["{run}", "{run}/../mine"], "name each run once"),
        (["{run}", "--out", "{empty}/page.pdf"], "give a name that ends in .html"),
        (["{run}", "--out", "{empty}/no/page.html"], "no such folder"),
        (["{run}", "--out", "{empty}/folder.html"], "is a folder"),
    ],
)
def test_what_cannot_be_reported_is_refused_before_any_work(
    arguments: list[str], said: str, copied: Path, tmp_path: Path
) -> None:
    (tmp_path / "folder.html").mkdir()
    places = {"run": copied, "empty": tmp_path}
    assert said in refused("report", *(argument.format(**places) for argument in arguments))
    assert [path.name for path in tmp_path.iterdir()] == ["folder.html"]


def test_a_corpus_that_is_gone_costs_the_parts_that_need_it(copied: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(copied, tmp_path / "run"))
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(re.sub(r"path: .*", f"path: {tmp_path / 'gone.txt'}", config, count=1))
    result = commands.run("report", run, "--quiet")
    assert (result.exit_code, result.stderr) == (0, "")
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Not on this page:" in page
    assert "gone.txt: no such file" in page
