"""Every shipped configuration loads, builds, and says why its values are what they are."""

from pathlib import Path

import pytest
import torch

from charlm.config import Config, load_config
from charlm.text.corpus import load_corpus
from charlm.training.choice import make_network
from charlm.training.step import TrainingStep, make_batches, measure_speed

FOLDER = Path(__file__).parents[2] / "configs"
ALL = sorted(FOLDER.glob("*.yaml"))


def test_the_seven_configurations_are_there() -> None:
    names = {path.stem for path in ALL}
    assert names == {
        *("quickstart", "english", "chinese", "python"),
        *(f"textbook-{cell}" for cell in ("rnn", "lstm", "gru")),
    }


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_a_configuration_builds_and_makes_a_step(path: Path, tmp_path: Path) -> None:
    overrides = {}
    if path.stem == "python":  # 12 MB: a few lines of it are enough here
        source = tmp_path / "some.py"
        source.write_text("def f(x):\n    return x\n" * 1000, encoding="utf-8")
        overrides["corpus.path"] = str(source)
    config = load_config(path, overrides)
    corpus = load_corpus(config.corpus)
    assert len(corpus.validation.ids) > 0
    batches = make_batches(corpus, config.training)
    assert next(batches.epoch(0)).inputs.shape[0] == config.training.batch_size
    network = make_network(config, len(corpus.vocabulary), torch.device("cpu"))
    assert measure_speed(TrainingStep(network, config.training), batches, 0.01) > 0
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_each_value_that_is_set_differs_from_its_default_and_says_why(path: Path) -> None:
    defaults = Config(corpus={"path": "x"}).model_dump()  # type: ignore[arg-type]
    config = load_config(path).model_dump()
    section = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") or not line.strip():
            continue
        if not line.startswith(" "):
            section = line.partition(":")[0]
            continue
        key = line.strip().partition(":")[0]
        if key in ("path", "budget", "cell"):  # what each file is about
            continue
        assert config[section][key] != defaults[section][key], f"{key} is the default"
        assert "  # " in line, f"{key} does not say why"


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_the_textbook_configurations_are_the_classical_equations_and_nothing_more(cell: str) -> None:
    config = load_config(FOLDER / f"textbook-{cell}.yaml")
    assert config.model.cell == {"gru": "gru-before"}.get(cell, cell)
    assert (config.model.num_layers, config.model.bias) == (1, False)
    assert config.model.embedding_size is None
    assert config.model.dropout == 0
    assert (config.training.optimizer, config.training.momentum) == ("sgd", 0)
    assert config.corpus.framing == "lines"
