"""Imports run downward only: what lies lower never knows what is built on it."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import charlm
import charlm.config

ROOT = Path(charlm.__file__).parent
# A module imports from its own group and from those before it.
ORDER = [
    "errors", "system", "kernels", "config", "text", "cells", "model", "experts", "scoring", "sampling", "writing",
    "ranking", "store", "training", "language_model", "analysis", "decoders", "notebook", "run", "report",
    "export", "lm_eval", "cli",
]  # fmt: skip
MAY_KNOW_THE_CONFIGURATION = {"config", "language_model", "analysis", "report", "export", "run", "lm_eval", "cli"}
# These read a run's configuration and hand it on, section by section.
MAY_KNOW_THE_WHOLE = {
    "store/trained.py", "training/agreement.py", "training/choice.py", "training/job.py", "training/together.py",
}  # fmt: skip
# Any other module sees the section of its group, or none at all.
OWN_SECTION = {
    "text": "CorpusConfig",
    "model": "ModelConfig",
    "experts": "ModelConfig",
    "store": "ModelConfig",
    "sampling": "SamplingConfig",
    "writing": "SamplingConfig",
    "training": "TrainingConfig",
}
HANDS_ON = {"training/evaluator.py": "SamplingConfig"}  # a section that is not the group's own
NO_SECTION = {"parse_amount"}  # of what charlm.config offers
# Training computes with torch, and what shares its networks or looks at its gradients; everything else does
# without, and is there at once.
MAY_IMPORT_TORCH = {"cells", "training", "analysis", "run", "report"}
MODULES_THAT_IMPORT_TORCH = {
    "model/network.py", "model/exchange.py", "model/transfer.py", "experts/torch_network.py",
    "experts/ngram_tables.py", "scoring/dynamic.py", "system/devices.py", "export/hf_files/modeling_charlm.py",
    "system/distributed.py",
}  # fmt: skip
EXEMPT = {"__init__.py", "__main__.py"}  # the lazy public API, and `python -m charlm`


def group_of(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


MODULES = [path for path in sorted(ROOT.rglob("*.py")) if str(path.relative_to(ROOT)) not in EXEMPT]


def modules(*groups: str) -> pytest.MarkDecorator:
    """Runs a test for each module of these groups."""
    paths = [path for path in MODULES if group_of(path) in groups]
    return pytest.mark.parametrize("path", paths, ids=lambda path: str(path.relative_to(ROOT)))


def imports(source: str, package: str) -> Iterator[str]:
    """Yields the full names that a module imports, wherever in it; `from a import b` gives `a.b`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: -(node.level - 1) or None] if node.level else []
            yield from (".".join([*above, *filter(None, [node.module]), alias.name]) for alias in node.names)


def imported_by(path: Path) -> set[str]:
    return set(imports(path.read_text(encoding="utf-8"), ".".join(["charlm", *path.relative_to(ROOT).parts[:-1]])))


def groups_used_by(path: Path) -> set[str]:
    """The groups of charlm that a module imports from; a name of the package itself comes from the public API."""
    names = [name.split(".") for name in imported_by(path) if name.split(".")[0] == "charlm"]
    there = {group_of(other) for other in MODULES}
    return {name[1] if len(name) > 1 and name[1] in there else "run" for name in names}


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import a.b, c", {"a.b", "c"}),
        ("from a.b import c as d, e", {"a.b.c", "a.b.e"}),
        ("def f():\n    if x:\n        from a import b", {"a.b"}),
        ("from . import a", {"charlm.text.a"}),
        ("from .a import b", {"charlm.text.a.b"}),
        ("from ..model import b", {"charlm.model.b"}),
    ],
)
def test_imports_are_found_wherever_they_stand(source: str, names: set[str]):
    assert set(imports(source, "charlm.text")) == names


def test_every_group_has_its_place_and_every_place_its_group():
    assert {group_of(path) for path in MODULES} == set(ORDER), "give a new module of charlm its place in ORDER"


@modules(*ORDER)
def test_a_module_imports_only_from_groups_below_it(path: Path):
    allowed = set(ORDER[: ORDER.index(group_of(path)) + 1])
    assert groups_used_by(path) - allowed == set()


@modules(*sorted(set(ORDER) - MAY_KNOW_THE_CONFIGURATION))
def test_a_component_sees_only_its_own_section_of_the_configuration(path: Path):
    name = str(path.relative_to(ROOT))
    names = {OWN_SECTION.get(group_of(path)), HANDS_ON.get(name), *NO_SECTION}
    seen = {name for name in imported_by(path) if name.split(".")[:2] == ["charlm", "config"]}
    if name in MAY_KNOW_THE_WHOLE:
        assert "charlm.config.Config" in seen, "take it from the list: it does not need the whole"
    else:
        assert seen <= {f"charlm.config.{name}" for name in names}


def test_every_section_is_the_section_of_a_component():
    sections = {name for name in charlm.config.__all__ if name.endswith("Config")} - {"Config"}
    assert set(OWN_SECTION.values()) == sections
    assert set(OWN_SECTION) < set(ORDER) - MAY_KNOW_THE_CONFIGURATION


@modules(*sorted(set(ORDER) - MAY_IMPORT_TORCH))
def test_torch_is_imported_by_what_trains_alone(path: Path):
    uses_torch = "torch" in {name.split(".")[0] for name in imported_by(path)}
    assert uses_torch == (str(path.relative_to(ROOT)) in MODULES_THAT_IMPORT_TORCH)


PAIRS, NBEST = "the boat\tboat the\n", "0 ||| the boat ||| a= 1 ||| -1\n0 ||| boat the ||| a= 1 ||| -2\n"


@pytest.mark.parametrize(
    ("command", "arguments", "text"),
    [
        ("score", ["the boat", "boat the", "--rank"], ""),
        ("score", ["--file", "-", "--format", "jsonl", "--per-char"], "the boat\nboat the\n"),
        ("sample", ["--count", "2", "--length", "9", "--prompt", "the "], ""),
        ("pairs", ["-"], PAIRS),
        ("rerank", ["-"], NBEST),
        ("eval", [], ""),
        ("inspect", [], ""),
        ("inspect", ["--follow"], ""),
    ],
)
@pytest.mark.parametrize("run", ["tiny_mixture_run", "tiny_lines_run"])
def test_a_trained_model_is_used_on_a_cpu_without_torch(
    command: str, arguments: list[str], text: str, run: str, request: pytest.FixtureRequest
):
    code = "import sys; sys.modules['torch'] = None; import charlm.cli; charlm.cli.main()"  # to import it fails
    folder = str(request.getfixturevalue(run))
    process = [sys.executable, "-c", code, command, folder, *arguments]
    done = subprocess.run(process, input=text, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    assert done.stdout.strip()


def test_help_loads_neither_torch_nor_what_reads_configurations():
    code = "import sys; sys.modules.update(torch=None, pydantic=None); import charlm.cli; charlm.cli.main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "rerank" in done.stdout
