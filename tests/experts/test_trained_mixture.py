"""A run with `model.ngram`: one distribution wherever it is asked for, and it is the mixture."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import charlm
from charlm.config import SamplingConfig
from charlm.errors import RunError
from charlm.experts.mixture import Mixture
from charlm.experts.ngram import NgramModel
from charlm.experts.torch_network import copy_for_torch
from charlm.sampling import write
from charlm.scoring.evaluation import evaluate
from charlm.scoring.log_probs import text_log_probs
from charlm.text.corpus import load_corpus
from charlm.training.reports import load_metrics

CONFIG = {
    "model": {"hidden_size": 12, "ngram": 4},
    "training": {"budget": "60 steps", "batch_size": 4, "sequence_length": 16, "evaluate_every": "30 steps"},
    "sampling": {"length": 20},
}


@pytest.fixture(scope="module", params=["stream", "lines"])
def run(request: pytest.FixtureRequest, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mixture") / request.param
    config = {**CONFIG, "corpus": {"path": str(tiny_corpus), "framing": request.param}}
    charlm.train(config, out=out)
    return out


def test_its_log_probabilities_are_those_of_the_mixture_by_its_formula(run: Path) -> None:
    lm = charlm.load(run)
    network, powers = copy_for_torch(lm.mixture)[0], lm.mixture.powers
    _, ngram = lm.mixture.experts
    assert isinstance(ngram, NgramModel)
    assert (powers[:, 1] > 0.05).any()  # or this test tells nothing
    ids = lm.vocabulary.encode_sentence("the boat has bread")
    inputs = np.concatenate(([lm.vocabulary.boundary_id], ids[:-1]))
    V, places = len(lm.vocabulary), range(len(ids))
    every = [np.append(ids[:i], w).astype(np.int32) for i in places for w in range(V)]
    theirs = np.array([log_probs[-1] for log_probs in ngram.sequence_log_probs(every)]).reshape(-1, V)
    kinds = ngram.context(ngram.advance(inputs[:, None], ngram.initial_state(1))[0][:, 0])
    assert kinds[:2].tolist() == [9, 10]  # the text has just begun
    with torch.inference_mode():
        logits, _ = network(torch.from_numpy(inputs)[:, None], network.initial_state(1))
    own = torch.log_softmax(logits[:, 0].double(), 1).numpy()
    a, b = powers.astype(np.float64)[kinds].T[:, :, None]
    p = np.exp(own) ** a * np.exp(theirs) ** b
    expected = np.log(p / p.sum(1, keepdims=True))[places, ids]
    score = lm.score(["the boat has bread"])[0]
    np.testing.assert_allclose([c.logprob for c in score.chars[: len(ids)]], expected, atol=1e-5)


def test_training_reports_what_the_saved_model_reaches(run: Path) -> None:
    lm = charlm.load(run)
    best = min(row["validation_loss"] for row in load_metrics(run))
    assert lm.evaluate().nats_per_character == pytest.approx(best, abs=1e-4)
    corpus = load_corpus(lm.config.corpus)
    alone = Mixture(lm.mixture.network)
    assert evaluate(alone, lm.vocabulary, corpus.validation).nats_per_character > best


def test_a_text_and_its_continuation_add_up(run: Path) -> None:
    lm = charlm.load(run)
    whole = lm.score(["the boat has bread"])[0].logprob
    head = lm.score(["the boat "], eos=False)[0].logprob
    tail = lm.score(["has bread"], context="the boat ", bos=True)[0].logprob
    assert head + tail == pytest.approx(whole, abs=1e-4)


def test_symbol_by_symbol_it_writes_from_the_same_distribution(run: Path) -> None:
    lm = charlm.load(run)
    rng = np.random.default_rng(0)
    ids = rng.integers(len(lm.vocabulary), size=(9, 3))
    step = lm.mixture.make_step(lm.mixture.initial_state(3))
    readings, _ = lm.mixture.advance(ids, lm.mixture.initial_state(3))  # (T, B, ·)
    for t, symbols in enumerate(ids):
        expected = lm.mixture.logits([reading[t] for reading in readings])  # (B, V)
        np.testing.assert_allclose(step(symbols), expected, rtol=1e-4, atol=1e-4)
    rule = SamplingConfig(length=10, temperature=0.8)
    pieces = write(lm.mixture, lm.vocabulary, [0, 1], rule, prompt="the ")
    assert "".join(piece[0] for piece in pieces) == next(lm.sample(prompt="the ", length=10, temperature=0.8))[4:]


def test_dynamic_evaluation_adapts_the_network_in_the_mixture(run: Path) -> None:
    lm = charlm.load(run)
    found = lm.evaluate(dynamic=True, learning_rate=1e-12, decay=0.0)
    assert found.dynamic_nats_per_character == pytest.approx(found.nats_per_character, abs=1e-3)


def test_long_texts_are_read_as_in_one_pass(run: Path) -> None:
    lm = charlm.load(run)
    text = lm.vocabulary.encode("the boat has bread.\n" * 300)
    parts = dict(text_log_probs(lm.mixture, lm.vocabulary, text))
    assert sum(len(p) for p in parts.values()) == len(text)
    assert all(np.isfinite(p).all() for p in parts.values())


def test_a_lost_or_foreign_table_is_named(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    charlm.train({**CONFIG, "corpus": charlm.load(run).config.corpus.model_dump()}, out=copy)
    table = copy / "ngram.safetensors"
    content = bytearray(table.read_bytes())
    content[-5] ^= 1
    table.write_bytes(bytes(content))
    with pytest.raises(RunError, match=r"ngram\.safetensors: damaged"):
        charlm.load(copy)
    table.unlink()
    with pytest.raises(RunError, match=r"ngram\.safetensors is missing"):
        charlm.load(copy)


def test_a_table_counted_with_another_vocabulary_is_refused(run: Path, tmp_path: Path, tiny_text: str) -> None:
    (other := tmp_path / "other.txt").write_text(tiny_text.replace("lamp", "palm") + tiny_text, encoding="utf-8")
    copy = tmp_path / "copy"
    charlm.train({**CONFIG, "corpus": {"path": str(other)}}, out=copy)
    assert len(charlm.load(copy).vocabulary) == len(charlm.load(run).vocabulary)  # nothing else would tell
    shutil.copyfile(run / "ngram.safetensors", copy / "ngram.safetensors")
    with pytest.raises(RunError, match=r"not the vocabulary that ngram\.safetensors was trained with"):
        charlm.load(copy)


def test_a_loaded_model_does_not_change_with_its_file(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    lm = charlm.load(copy)
    before = lm.score(["the boat has bread"])
    with open(copy / "ngram.safetensors", "r+b") as file:
        file.truncate(9)  # in place: what is mapped of it is gone
    assert lm.score(["the boat has bread"]) == before


def test_a_run_that_goes_on_ends_as_if_it_had_never_stopped(run: Path, tmp_path: Path) -> None:
    steady = {"training.schedule": "constant", "training.warmup": 0.0}
    config = {**CONFIG, "corpus": charlm.load(run).config.corpus.model_dump()}
    charlm.train(config, out=tmp_path / "whole", overrides=steady)
    charlm.train(config, out=tmp_path / "parts", overrides=steady, budget="30 steps")
    charlm.train(resume=True, out=tmp_path / "parts", budget="60 steps")
    for name in ("model.safetensors", "ngram.safetensors"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
