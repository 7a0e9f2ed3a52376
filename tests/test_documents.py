"""What the documents say is true: commands, options, files, scripts, tables and make targets exist."""

import ast
import re
import runpy
import shlex
from datetime import date
from pathlib import Path

import pytest
import typer.main

from charlm.cli import app
from charlm.config import shipped_configs
from charlm.text.library import known_corpora

ROOT = Path(__file__).parent.parent
READMES = [ROOT / "README.md", ROOT / "README.zh.md"]
TRANSLATED = ["course", "explanation", "how-to"]  # folders of docs/ that stand in docs/zh/ too
DOCUMENTS = [
    *READMES,
    ROOT / "CONTRIBUTING.md",
    ROOT / "data/README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
IDS = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
LOG = ROOT / "dev/LOG.md"
SCRIPTS = sorted({*ROOT.glob("benchmarks/*.py"), *ROOT.glob("dev/*.py")} - {ROOT / "benchmarks/measure.py"})


@pytest.mark.parametrize("path", DOCUMENTS, ids=IDS)
def test_every_charlm_command_in_a_document_exists_with_its_options(path: Path) -> None:
    root = typer.main.get_command(app)
    text = path.read_text(encoding="utf-8")
    quoted = [
        line.strip().removeprefix("$ ")
        for block in re.findall(r"```\w*\n(.*?)```", text, re.S)
        for line in block.splitlines()
    ] + re.findall(r"`([^`\n]+)`", text)
    lines = [line for line in quoted if re.match(r"charlm [a-z]", line)]
    assert lines or path not in READMES
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        command = root
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        assert command is not root, f"{line}: no such command"
        known = {"--help"} | {name for parameter in command.params for name in parameter.opts}
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0] in known, f"{line}: no such option"


@pytest.mark.parametrize("path", [*DOCUMENTS, LOG], ids=[*IDS, "dev/LOG.md"])
def test_every_link_is_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    for link in links:
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in _anchors(target), link


def _anchors(path: Path) -> set[str]:
    """What the headings of a document are called in links: lower case, hyphens for spaces, no punctuation."""
    text = re.sub(r"^ *```.*?^ *```", "", path.read_text(encoding="utf-8"), flags=re.S | re.M)
    return {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ +(.*)$", text, re.M)
    }


@pytest.mark.parametrize("folder", TRANSLATED)
def test_each_page_stands_in_both_languages_with_the_same_parts(folder: str) -> None:
    english, chinese = ROOT / "docs" / folder, ROOT / "docs/zh" / folder
    pages = sorted(english.glob("*.md"))
    assert pages
    assert [path.name for path in sorted(chinese.glob("*.md"))] == [path.name for path in pages]
    for path in pages:
        assert _parts(chinese / path.name) == _parts(path), path.name


def test_the_programs_of_the_page_on_exports_are_the_same_in_both_languages() -> None:
    pages = [ROOT / folder / "explanation/export.md" for folder in ("docs", "docs/zh")]
    english, chinese = (
        re.findall(r"^```(?:python|html)\n.*?^```$", path.read_text("utf-8"), re.M | re.S) for path in pages
    )
    assert len(english) == 3  # the readers, which other tests run, and the use in transformers
    assert chinese == english


@pytest.mark.parametrize("language", ["docs/how-to", "docs/zh/how-to"])
def test_each_how_to_is_short_and_stands_in_the_contents(language: str) -> None:
    contents = (ROOT / language / "README.md").read_text(encoding="utf-8")
    for path in sorted((ROOT / language).glob("*.md")):
        assert len(path.read_text(encoding="utf-8").splitlines()) < 80, path.name
        assert path.name == "README.md" or f"]({path.name})" in contents, path.name


def _parts(path: Path) -> dict[str, int]:
    """Counts headings, blocks of code and pictures of a page."""
    text = path.read_text(encoding="utf-8")
    patterns = {"headings": r"^## ", "pictures": r"!\[[^]]*\]\("}
    patterns |= {kind: rf"^ *```{kind}$" for kind in ("console", "python", "sh", "yaml")}
    return {name: len(re.findall(pattern, text, re.M)) for name, pattern in patterns.items()}


def test_the_reference_says_what_the_code_says() -> None:
    generator = runpy.run_path(str(ROOT / "docs/make_reference.py"))
    pages = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs/reference").glob("*.md")}
    assert sorted(pages) == sorted(generator["PAGES"])
    for name, page in pages.items():
        assert page == generator["make_page"](name), f"docs/reference/{name} is old: run make docs"


@pytest.mark.parametrize("path", DOCUMENTS, ids=IDS)  # the log may name files as they were on its days
def test_every_named_file_is_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:charlm|configs|tests|data|benchmarks|dev)/[\w./-]+\.\w+)`", text):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("path", DOCUMENTS, ids=IDS)
def test_every_configuration_and_corpus_that_is_called_by_its_name_comes_with_charlm(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert set(re.findall(r"\bconfig:([a-z][\w-]*)", text)) <= set(shipped_configs())
    assert set(re.findall(r"\bcorpus:([a-z][\w-]*)", text)) <= {corpus.name for corpus in known_corpora()}


@pytest.mark.parametrize("language", ["docs", "docs/zh"])
def test_the_map_of_the_architecture_names_every_module(language: str) -> None:
    page = (ROOT / language / "explanation/architecture.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```text\n(.*?)^```$", page, re.M | re.S)
    named, folder = set(), ""
    for line in block.splitlines():
        names = line.strip().partition("  ")[0].split(", ")
        folder = folder if line.startswith(" ") else names[0]
        named |= {folder + name for name in names} if line.startswith(" ") else {folder}
    package, there = ROOT / "charlm", set()
    for path in [*package.glob("[a-z]*"), *package.glob("*/[a-z]*")]:
        name = path.relative_to(package)
        if path.is_dir():
            there.add(f"{name}/")
        elif path.suffix in (".c", ".py"):
            is_module = path.suffix == ".py" and path.parent != package
            there.add(str(name.with_suffix("") if is_module else name))
    commands = {name for name in there if name.startswith("cli/") and name != "cli/"}
    assert named == there - commands


@pytest.mark.parametrize("path", READMES, ids=lambda path: path.name)
def test_each_readme_is_short_and_names_every_shipped_configuration(path: Path) -> None:
    readme = path.read_text(encoding="utf-8")
    assert len(readme.splitlines()) < 150
    assert set(re.findall(r"config:([\w-]+)", readme)) == set(shipped_configs())
    assert not re.search(r"\w://|www\.", readme)  # no host is named
    assert f"]({next(other.name for other in READMES if other != path)})" in readme


def _script_options(command: str) -> tuple[Path, set[str], set[str]]:
    """The script that a command line runs, the options it is given and the options it declares."""
    script = ROOT / re.findall(r"(?:benchmarks|dev)/\w+\.py", command)[0]
    declared = re.findall(r"add_argument\(\s*\"(--[\w-]+)\"", script.read_text(encoding="utf-8"))
    return script, set(re.findall(r"(--[\w-]+)", command)), set(declared)


@pytest.mark.parametrize("path", DOCUMENTS, ids=IDS)
def test_every_script_that_a_document_runs_exists_with_its_options(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for command in re.findall(r"python ((?:benchmarks|dev)/\w+\.py[^\n`]*)", text):
        _, given, declared = _script_options(command)
        assert given <= declared, command


@pytest.mark.parametrize("path", SCRIPTS, ids=[str(path.relative_to(ROOT)) for path in SCRIPTS])
def test_every_script_says_how_it_is_run(path: Path) -> None:
    description = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    commands = re.findall(r"^    python (.*)$", description, re.M)
    assert commands
    for command in commands:
        script, given, declared = _script_options(command)
        assert script == path
        assert given <= declared, command


def test_benchmarks_do_not_depend_on_experiments() -> None:
    experiments = {path.stem for path in ROOT.glob("dev/*.py")}
    for path in ROOT.glob("benchmarks/*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        imported |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
        assert not imported & experiments, path


@pytest.mark.parametrize("name", ["docs/explanation/performance.md", "docs/zh/explanation/performance.md"])
def test_each_benchmark_of_make_bench_has_one_table_on_each_performance_page(name: str) -> None:
    benchmarks = runpy.run_path(str(ROOT / "benchmarks/run_all.py"))
    assert ROOT / name in benchmarks["PAGES"]
    page = (ROOT / name).read_text(encoding="utf-8")
    scripts = list(benchmarks["BENCHMARKS"])
    assert re.findall(r"<!-- (\w+)\.py -->\n[^<]+<!-- end -->", page) == scripts
    for script in scripts:
        assert (ROOT / f"benchmarks/{script}.py").exists()
        changed = benchmarks["replace_table"](page, script, "new")
        assert f"<!-- {script}.py -->\nnew\n<!-- end -->" in changed
        assert changed.count("<!-- end -->") == len(scripts)
    with pytest.raises(ValueError, match="no place for nothing"):
        benchmarks["replace_table"](page, "nothing", "new")


def test_the_performance_pages_have_the_same_tables() -> None:
    paths = runpy.run_path(str(ROOT / "benchmarks/run_all.py"))["PAGES"]
    tables = [
        re.findall(r"<!-- \w+\.py -->\n[^<]+<!-- end -->", path.read_text(encoding="utf-8")) for path in paths
    ]
    assert tables[0] == tables[1]


def test_the_log_has_dated_entries_with_verdicts_newest_first() -> None:
    headings = re.findall(r"^## (.*)$", LOG.read_text(encoding="utf-8"), re.M)
    entries = [re.fullmatch(r"(\d{4}-\d\d-\d\d): \S.*\(([^()]+)\)", heading) for heading in headings]
    assert entries
    days = []
    for heading, entry in zip(headings, entries, strict=True):
        assert entry, heading
        assert re.match(r"(not |partly |mostly not )?kept|measured|fixed", entry[2]), heading
        days.append(date.fromisoformat(entry[1]))
    assert days == sorted(days, reverse=True)


def test_the_makefile_explains_every_target_that_the_readme_names() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.M))
    assert {"demo", "test", "check"} <= named
    for target in named:
        assert re.search(rf"^{target}:.*##", makefile, re.M), target


def test_ci_calls_the_checks_that_the_readme_names() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    command = re.findall(r"^(make \w+) +# run all checks", readme, re.M)
    assert command == ["make check"]
    assert command[0] in (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    assert re.search(r"^check:.*\btest\b", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
