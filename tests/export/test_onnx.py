"""The network in ONNX, run by onnxruntime, is the network in charlm."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

if "CI" not in os.environ:  # there they must be installed
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install -c constraints.txt {package}")

import onnxruntime

import charlm
from charlm.errors import InputError
from charlm.export.network import Figures, measure_figures
from charlm.export.onnx_model import make_onnx, write_onnx
from charlm.language_model import LanguageModel
from charlm.scoring.evaluation import evaluate
from charlm.scoring.log_probs import window_log_probs
from charlm.system.files import shipped_folder
from charlm.training.reports import load_metrics
from exported import LINES, PAGE, all_networks, all_texts, make_model, network_alone, program

TOLERANCE = 1e-4  # nats a character
UNKNOWN_FIGURES = Figures(None, None, "", "not measured")


class Session:
    """A file that onnxruntime has loaded."""

    def __init__(self, lm: LanguageModel) -> None:
        self._session = onnxruntime.InferenceSession(make_onnx(lm, UNKNOWN_FIGURES).SerializeToString())
        self._config = lm.config.model

    def zero_state(self, batch: int) -> dict[str, NDArray[np.float32]]:
        shape = (self._config.num_layers, batch, self._config.hidden_size)
        return {node.name: np.zeros(shape, np.float32) for node in self._session.get_inputs()[2:]}

    def run(self, ids: Any, targets: Any, state: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
        """Returns log_probs, target_log_probs and the last state."""
        found = self._session.run(None, {"ids": np.int64(ids), "targets": np.int64(targets), **state})
        return found[0], found[1], dict(zip(state, found[2:], strict=True))


def random_ids(lm: LanguageModel, batch: int, length: int) -> NDArray[np.int64]:
    return np.random.default_rng(0).integers(len(lm.vocabulary), size=(batch, length))


@all_networks
def test_batches_of_any_size_are_scored_as_by_charlm(cell: str, settings: dict[str, Any]) -> None:
    lm = make_model(cell=cell, **settings)
    session = Session(lm)
    for batch, length in ((1, 1), (1, 40), (5, 17)):
        ids = random_ids(lm, batch, length + 1)
        log_probs, found, _ = session.run(ids[:, :-1], ids[:, 1:], session.zero_state(batch))
        expected, _ = window_log_probs(lm.mixture, ids[:, :-1], ids[:, 1:], lm.mixture.initial_state(batch))
        assert found == pytest.approx(expected, abs=TOLERANCE)
        assert np.take_along_axis(log_probs, ids[:, 1:, None], 2)[:, :, 0] == pytest.approx(found, abs=1e-6)
        assert np.exp(log_probs).sum(2) == pytest.approx(np.ones((batch, length)), abs=1e-5)


@all_networks
def test_steps_that_hand_their_state_on_are_the_whole_sequence(cell: str, settings: dict[str, Any]) -> None:
    lm = make_model(cell=cell, **settings)
    session = Session(lm)
    ids = random_ids(lm, 3, 12)
    whole, _, last = session.run(ids, ids, session.zero_state(3))
    state, parts = session.zero_state(3), []
    for window in (ids[:, :1], ids[:, 1:2], ids[:, 2:9], ids[:, 9:]):
        log_probs, _, state = session.run(window, window, state)
        parts.append(log_probs)
    assert np.concatenate(parts, 1) == pytest.approx(whole, abs=1e-5)
    for name, value in last.items():
        assert state[name] == pytest.approx(value, abs=1e-6)


def read_in_python(lm: LanguageModel, lines: list[str], folder: Path) -> list[float]:
    """Runs the reader of docs/explanation/export.md, as it stands there."""
    (folder / "score.py").write_text(program("python"), encoding="utf-8")
    (folder / "model.onnx").write_bytes(make_onnx(lm, UNKNOWN_FIGURES).SerializeToString())
    command = [sys.executable, "-W", "error", "-X", "utf8", "score.py", "model.onnx", *lines]
    done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found = [line.split("\t", 1) for line in done.stdout.removesuffix("\n").split("\n")]
    assert [text for _, text in found] == lines
    return [float(log_prob) for log_prob, _ in found]


@all_texts
def test_the_reader_in_python_reads_text_as_charlm_does(text: dict[str, Any], tmp_path: Path) -> None:
    lm = make_model(text)
    expected = [score.logprob for score in lm.score(LINES)]
    assert read_in_python(lm, LINES, tmp_path) == pytest.approx(expected, abs=TOLERANCE)


def test_a_text_that_marks_no_ends_of_lines_has_none_in_the_reader(tmp_path: Path) -> None:
    lm = make_model(corpus="the boat sees the river " * 9)
    lines = ["the boat", "a heron"]
    expected = [score.logprob for score in lm.score(lines)]
    assert not lm.vocabulary.ends_sentences
    assert read_in_python(lm, lines, tmp_path) == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize(("name", "cell"), [("english", "lstm"), ("chinese", "gru")])
def test_a_thousand_lines_have_the_prices_of_charlm(name: str, cell: str, tmp_path: Path) -> None:
    text = (shipped_folder("data") / f"{name}.txt").read_text(encoding="utf-8")
    lines = [line for line in text.split("\n") if line][-1000:]
    lm = make_model({"framing": "lines"}, corpus=text[: len(text) // 2], cell=cell, hidden_size=32)
    scores = lm.score(lines)
    assert len(scores) == 1000
    for found, score in zip(read_in_python(lm, lines, tmp_path), scores, strict=True):
        assert found / score.n == pytest.approx(score.mean_logprob, abs=TOLERANCE)


# ----------------------------------------------------------------------------------------------------- the metadata


def metadata(run: Path) -> dict[str, Any]:
    lm = charlm.load(run)
    (pair,) = make_onnx(lm, measure_figures(lm)).metadata_props
    assert pair.key == "charlm"
    found: dict[str, Any] = json.loads(pair.value)
    return found


def test_the_metadata_say_how_text_becomes_symbols(tiny_lines_run: Path) -> None:
    found, vocabulary = metadata(tiny_lines_run), charlm.load(tiny_lines_run).vocabulary
    assert found["format"] == 1
    assert found["symbols"] == list(vocabulary.symbols)
    assert (found["level"], found["framing"]) == ("character", "lines")
    assert (found["normalization"], found["lowercase"]) == ("none", False)
    assert (found["symbols"][found["boundary"]], found["unknown"]) == ("\n", 0)
    assert (found["cell"], found["hidden_size"], found["num_layers"]) == ("gru-before", 16, 1)


def test_every_key_of_the_metadata_is_explained(tiny_run: Path) -> None:
    table = PAGE.read_text(encoding="utf-8").partition("the metadata `charlm`")[2].partition("###")[0]
    assert set(metadata(tiny_run)) - {"charlm"} == set(re.findall(r"`([a-z_]+)`(?=[^|]*\|[^|]*\|$)", table, re.M))


def test_a_network_that_is_the_whole_model_has_its_validation_loss(tiny_run: Path) -> None:
    found = metadata(tiny_run)
    best = min(row["validation_loss"] for row in load_metrics(tiny_run))
    assert (found["nats_per_character"], found["mixture_nats_per_character"]) == (best, None)


def test_the_network_of_a_mixture_has_its_own_figure(tiny_mixture_run: Path) -> None:
    lm, found = charlm.load(tiny_mixture_run), metadata(tiny_mixture_run)
    held_out = lm.corpus().validation
    for model, name in ((network_alone(lm), "nats_per_character"), (lm, "mixture_nats_per_character")):
        expected = evaluate(model.mixture, lm.vocabulary, held_out).nats_per_character
        assert found[name] == pytest.approx(expected)
    assert found["nats_per_character"] > found["mixture_nats_per_character"]


def test_nothing_of_the_text_and_no_path_travels(tiny_mixture_run: Path, tiny_corpus: Path) -> None:
    lm = charlm.load(tiny_mixture_run)
    content = make_onnx(lm, measure_figures(lm)).SerializeToString()
    for telling in (str(tiny_corpus), tiny_corpus.name, str(tiny_mixture_run), "the boat", "heron"):
        assert telling.encode() not in content


def test_the_same_run_makes_the_same_file(tiny_run: Path, tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        write_onnx(charlm.load(tiny_run), UNKNOWN_FIGURES, tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_weights_that_no_file_holds_are_refused(tiny_run: Path) -> None:
    with pytest.raises(InputError, match=r"the weights take [0-9,]+ bytes, and an ONNX file holds 1,000"):
        make_onnx(charlm.load(tiny_run), UNKNOWN_FIGURES, max_bytes=1000)
