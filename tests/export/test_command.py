"""`charlm export`: what it writes, what it says, and one message where it cannot."""

import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import charlm
from charlm.errors import InputError
from charlm.export.network import exported_config, measure_figures
from charlm.language_model import LanguageModel
from commands import refused, run
from exported import make_model

FIGURE = r"\d\.\d{4} nats per character of the validation split"


@pytest.fixture
def copied(tiny_mixture_run: Path, tmp_path: Path) -> Path:
    """A run that an export may be written into."""
    return Path(shutil.copytree(tiny_mixture_run, tmp_path / "mine"))


def require_onnx() -> None:
    pytest.importorskip("onnx", reason="onnx is not installed: pip install -c constraints.txt onnx")


def test_an_onnx_file_is_written_into_the_run_and_its_path_printed(copied: Path) -> None:
    require_onnx()
    result = run("export", copied, "--to", "onnx")
    assert (result.exit_code, result.stdout) == (0, f"{copied / 'model.onnx'}\n")
    measuring, said = result.stderr.splitlines()
    assert measuring == "measuring the network alone on the validation split"
    assert re.fullmatch(rf"only the network was exported; it has {FIGURE}, and the mixture has \d\.\d{{4}}", said)
    assert (copied / "model.onnx").read_bytes()
    charlm.load(copied)  # the run is still a run


def test_a_folder_is_written_where_it_is_asked_for_and_nothing_beside_it(copied: Path, tmp_path: Path) -> None:
    out = tmp_path / "elsewhere" / "model"
    out.parent.mkdir()
    result = run("export", copied, "--to", "hf", "--out", out, "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{out}\n", "")
    assert sorted(path.name for path in out.parent.rglob("*") if path.is_file()) == [
        *("README.md", "config.json", "configuration_charlm.py", "generation_config.json", "model.safetensors"),
        *("modeling_charlm.py", "tokenization_charlm.py", "tokenizer_config.json", "vocab.json"),
    ]
    assert [path.name for path in out.parent.iterdir()] == ["model"]


def test_the_loss_of_a_network_without_a_mixture_is_told(tiny_run: Path, tmp_path: Path) -> None:
    result = run("export", tiny_run, "--to", "hf", "--out", tmp_path / "model")
    assert re.fullmatch(rf"the network was exported; it has {FIGURE}\n", result.stderr)


def test_an_export_needs_neither_torch_nor_transformers(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert run("export", copied, "--to", "hf", "--out", tmp_path / "model").exit_code == 0


def test_without_its_corpus_a_mixture_is_exported_without_the_figure(copied: Path, tmp_path: Path) -> None:
    config = (copied / "config.yaml").read_text()
    (copied / "config.yaml").write_text(re.sub(r"path: .*", f"path: {tmp_path / 'gone.txt'}", config, count=1))
    result = run("export", copied, "--to", "hf")
    assert result.exit_code == 0
    told, said = result.stderr.splitlines()
    assert "gone.txt: no such file" in told
    assert said == (
        "the network alone was exported; its loss was not measured, because "
        "the run's corpus is gone, or has changed since the training"
    )
    card = (copied / "hf/README.md").read_text(encoding="utf-8")
    assert "| this network |" not in card
    assert "| the mixture that it is a part of |" in card
    assert "gone.txt" not in card


def test_without_a_validation_split_there_is_no_figure(tmp_path: Path, tiny_corpus: Path) -> None:
    config = {
        "corpus": {"path": str(tiny_corpus), "framing": "stream", "validation": 0.0},
        "model": {"hidden_size": 3},
        "training": {"budget": "2 steps", "batch_size": 2, "sequence_length": 8, "device": "cpu"},
    }
    charlm.train(config, out=tmp_path / "run")
    figures = measure_figures(charlm.load(tmp_path / "run"))
    assert (figures.network, figures.missing) == (None, "the run has no validation split")
    result = run("export", tmp_path / "run", "--to", "hf")
    assert (
        result.stderr
        == "the network was exported; its loss was not measured, because the run has no validation split\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{empty}", "--to", "hf"], "not a run folder"),
        (["{empty}/nothing", "--to", "hf"], "no such run folder"),
        (["{run}", "--to", "hf", "--out", "{there}"], "already exists; remove it, or give another name with --out"),
        (["{run}", "--to", "hf", "--out", "{run}/config.yaml"], "already exists"),
        (["{run}", "--to", "hf", "--out", "{empty}/no/model"], "no such folder: {empty}/no"),
        (["{run}", "--to", "onnx", "--out", "{there}"], "already exists"),
    ],
)
def test_what_cannot_be_exported_is_refused_before_any_work(
    arguments: list[str], said: str, tiny_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    places = {"run": tiny_run, "empty": tmp_path, "there": tmp_path / "there"}
    message = refused("export", *(argument.format(**places) for argument in arguments))
    assert said.format(**places) in message
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_link_to_nowhere_is_not_replaced(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "model").symlink_to(tmp_path / "nowhere")
    assert "already exists" in refused("export", tiny_run, "--to", "hf", "--out", tmp_path / "model")


def test_what_must_be_said_is_asked_for(tiny_run: Path) -> None:
    result = run("export", tiny_run)
    assert result.exit_code == 2
    assert "--to" in result.stderr
    result = run("export", tiny_run, "--to", "gguf")
    assert result.exit_code == 2
    assert "onnx" in result.stderr


def test_without_the_package_it_is_said_how_to_have_it(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert "pip install 'charlm[onnx]'" in refused("export", tiny_run, "--to", "onnx")


def test_a_cell_that_no_other_runtime_has_is_refused() -> None:
    lm = make_model()
    model = lm.config.model.model_copy(update={"cell": "mogrifier"})
    config = lm.config.model_copy(update={"model": model})
    with pytest.raises(
        InputError, match="no other runtime has the cell 'mogrifier'; rnn, lstm, gru, gru-before can"
    ):
        exported_config(LanguageModel(replace(lm.trained, config=config)))


def test_a_folder_that_cannot_be_finished_leaves_nothing(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from charlm.export import hugging_face

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device", "model.safetensors")

    monkeypatch.setattr(hugging_face, "replace_file", fail)
    result = run("export", tiny_run, "--to", "hf", "--out", tmp_path / "model")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.endswith("charlm: model.safetensors: No space left on device\n")
    assert list(tmp_path.iterdir()) == []
