"""The scripts of `benchmarks/` and `dev/` use charlm's public parts, and measure what they say they measure."""

import ast
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import charlm
from charlm.config import load_config
from charlm.experts.ngram import NgramModel
from charlm.text.corpus import load_corpus
from charlm.training.reports import load_metrics
from charlm.training.step import measure_speed

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted([*ROOT.glob("benchmarks/*.py"), *ROOT.glob("dev/*.py")])
IDS = [str(path.relative_to(ROOT)) for path in SCRIPTS]


@pytest.fixture(autouse=True)
def import_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("GOMP_SPINCOUNT", "1000")  # which some scripts set else
    for folder in ("benchmarks", "dev"):
        monkeypatch.syspath_prepend(ROOT / folder)
    yield
    for path in SCRIPTS:
        sys.modules.pop(path.stem, None)


def load(name: str) -> ModuleType:
    return importlib.import_module(name)


@pytest.mark.parametrize("path", SCRIPTS, ids=IDS)
def test_every_script_finds_what_it_imports(path: Path) -> None:
    assert load(path.stem).__file__ == str(path)


@pytest.mark.parametrize("path", SCRIPTS, ids=IDS)
def test_no_script_reaches_into_charlm_or_patches_it(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.module != "unittest.mock"
            if (node.module or "").startswith("charlm"):
                assert not [name.name for name in node.names if name.name.startswith("_")]
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            allowed = node.attr == "_replace" or ast.unparse(node.value) in ("self", "torch")  # of a named tuple
            assert allowed, f"{path}:{node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_the_step_whose_speed_is_measured_trains_in_the_precision_asked_for(
    precision: str, dtype: torch.dtype
) -> None:
    step, batches = load("training_speed").charlm_training("lstm", 16, 1, 4, 8, precision=precision)
    assert step.network.plan.dtype == dtype
    before = step.network.output.weight.detach().clone()
    assert measure_speed(step, batches, 1e-3) > 0
    assert not step.network.output.weight.equal(before)


def test_the_model_that_benchmarks_call_the_default_is_what_the_recipe_makes(tmp_path: Path) -> None:
    model = load("measure").train_default(16, tmp_path / "measured")
    recipe = charlm.train(corpus="corpus:english", budget="1 steps", out=tmp_path / "recipe")
    measured, by_default = model.mixture.experts, recipe.mixture.experts
    assert [expert.name for expert in measured] == [expert.name for expert in by_default]
    assert [expert.contexts for expert in measured] == [expert.contexts for expert in by_default]
    assert isinstance(measured[1], NgramModel)
    assert np.all(model.mixture.powers[-1] != (1, 0, 0))  # fitted
    assert model.config.model.cell == recipe.config.model.cell


def test_every_idea_trains_and_the_one_that_changes_nothing_equals_charlm(tmp_path: Path) -> None:
    ideas = load("ideas")
    small = {
        "model.hidden_size": 16,
        "model.dropout": 0.1,
        "training.budget": "1500 characters",
        "training.evaluate_every": "100%",
        "training.batch_size": 4,
        "training.sequence_length": 16,
        "sampling.length": 1,
    }
    source = {"corpus": {"path": "corpus:english", "validation": 0.02}}
    every = ideas.ideas("shakespeare")
    losses = {}
    for name, idea in every.items():
        config = load_config(source, {**small, **idea.settings, "model.hidden_size": 16})
        corpus = load_corpus(config.corpus)
        network, _ = ideas.train(config, corpus, idea)
        losses[name] = ideas.validation_loss(network, corpus)
    assert len(set(losses.values())) == len(losses)  # each changes something
    charlm.train(source, out=tmp_path / "run", overrides=small)
    assert losses["nothing"] == pytest.approx(load_metrics(tmp_path / "run")[-1]["validation_loss"], abs=1e-6)
