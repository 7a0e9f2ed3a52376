"""Every shipped configuration loads, builds, and says why its values are what they are."""

from pathlib import Path

import pytest
import torch

from charlm.config import Config, load_config, shipped_configs
from charlm.errors import ConfigError
from charlm.text.corpus import load_corpus
from charlm.training.choice import make_network
from charlm.training.step import TrainingStep, make_batches, measure_speed
from commands import answer, refused, run

FOLDER = Path(__file__).parents[2] / "configs"
ALL = sorted(FOLDER.glob("*.yaml"))


def test_the_seven_configurations_are_there() -> None:
    names = {path.stem for path in ALL}
    assert names == {
        *("quickstart", "english", "chinese", "python"),
        *(f"textbook-{cell}" for cell in ("rnn", "lstm", "gru")),
    }


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_a_shipped_configuration_has_a_name_that_stands_for_its_file(path: Path) -> None:
    assert load_config(f"config:{path.stem}") == load_config(path)
    assert load_config(Path(f"config:{path.stem}"), {"model.hidden_size": 3}).model.hidden_size == 3


def test_the_list_describes_every_shipped_configuration_in_a_line() -> None:
    assert list(shipped_configs()) == [path.stem for path in ALL]
    rows = answer("config", "list").splitlines()
    assert [row.split()[0] for row in rows] == ["name", *shipped_configs()]
    for row, description in zip(rows[1:], shipped_configs().values(), strict=True):
        assert row.endswith(f"  {description}")
        assert description.endswith(".")
        assert len(row) <= 80


@pytest.mark.parametrize("name", ["quikstart", "", "../configs/quickstart", "quickstart.yaml", "/etc/passwd"])
def test_a_name_that_is_not_shipped_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(ConfigError, match="known ones are chinese, english, python, quickstart"):
        load_config(f"config:{name}")
    if name.startswith("quik"):
        assert "did you mean 'quickstart'?" in refused("config", "show", f"config:{name}")


@pytest.mark.parametrize("path", ["quickstart", "configs/quickstart.yaml", "configs/python.yml"])
def test_a_missing_file_with_the_name_of_a_shipped_configuration_is_told_its_name(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"`config:{Path(path).stem}`" in refused("config", "show", path)
    assert "config:" not in refused("config", "show", "quickstart.txt")
    assert "config:" not in refused("config", "show", "mine.yaml")


def test_a_run_folder_whose_name_begins_like_a_configuration_is_read_from_its_files(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("train", "--corpus", tiny_corpus, "--budget", "1 steps", "--out", "config:mine").exit_code == 0
    assert "tiny" in answer("inspect", "config:mine")


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
