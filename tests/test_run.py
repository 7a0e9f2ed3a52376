"""A training that begins with a trained model: characters are matched, and what is new is said."""

import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import charlm
from charlm.errors import InputError, Interrupted, RunError
from charlm.store.run_folder import RunFolder
from charlm.training.reports import Metrics, StepReport

NEW_TEXT = 8 * "Der Müller hat ein Boot.\n"
HARDLY = {"training.learning_rate": 1e-9, "training.batch_size": 4}  # so that the weights stay where they begin


class Listener:
    """Remembers the notes, and can stop the training behind a step."""

    def __init__(self, stop_at: int = -1) -> None:
        self.stop_at, self.notes = stop_at, list[str]()

    def on_step(self, report: StepReport) -> None:
        if report.step == self.stop_at:
            signal.raise_signal(signal.SIGINT)

    def on_evaluation(self, metrics: Metrics, sample: str, is_best: bool) -> None:
        pass

    def on_note(self, note: str) -> None:
        self.notes.append(note)


@pytest.fixture
def new_corpus(tmp_path: Path) -> Path:
    path = tmp_path / "new.txt"
    path.write_text(NEW_TEXT, encoding="utf-8")
    return path


@pytest.fixture(params=["stream", "lines"])
def old_run(request: pytest.FixtureRequest, tiny_run: Path, tiny_lines_run: Path) -> Path:
    return tiny_run if request.param == "stream" else tiny_lines_run


def goes_on(run: Path, corpus: Path, out: Path, **more: Any) -> charlm.LanguageModel:
    overrides = HARDLY | more.pop("overrides", {})
    return charlm.train(from_run=run, corpus=corpus, out=out, budget="2 steps", overrides=overrides, **more)


def test_new_and_unused_characters_are_named_and_both_are_known_afterwards(
    tmp_path: Path, old_run: Path, new_corpus: Path
):
    heard = Listener()
    old = charlm.load(old_run)
    lm = goes_on(old_run, new_corpus, tmp_path / "run", observer=heard)
    added = sorted(set(NEW_TEXT) - set(old.vocabulary.characters))
    unused = [c for c in old.vocabulary.characters if c not in NEW_TEXT]
    _, note = heard.notes  # what is held out comes first
    assert lm.config.corpus.framing == old.config.corpus.framing
    assert note.startswith(f"from {old_run}: {len(old.vocabulary.characters) - len(unused)} characters known; ")
    assert f"; {len(added)} new: {', '.join(f'{c!r} (U+{ord(c):04X})' for c in added)}; " in note
    assert note.endswith(f"; {len(unused)} no longer used: {', '.join(f'{c!r} (U+{ord(c):04X})' for c in unused)}")
    assert lm.vocabulary.symbols == (*old.vocabulary.symbols, *added)
    assert [score.unknown for score in lm.score([NEW_TEXT.strip("\n").partition("\n")[0], "a book"])] == [0, 0]


def test_what_the_model_knew_it_still_knows(tmp_path: Path, old_run: Path, new_corpus: Path):
    sentences = ["the boat sees the river.", "a miller has bread."]
    old = charlm.load(old_run)
    lm = goes_on(old_run, new_corpus, tmp_path / "run")
    share = len(old.vocabulary) / len(lm.vocabulary)
    for before, after in zip(old.score(sentences), lm.score(sentences), strict=True):
        # The new characters take their part of the probability, at most n/(V + n) at each place.
        most = -(before.characters + 1) * torch.tensor(share).log().item()
        assert 0 <= before.logprob - after.logprob <= most + 1e-3


def test_the_same_text_again_begins_where_the_weights_are(tmp_path: Path, old_run: Path, tiny_corpus: Path):
    heard = Listener()
    lm = goes_on(old_run, tiny_corpus, tmp_path / "run", observer=heard)
    best = min(row["validation_loss"] for row in RunFolder(old_run).read_metrics())
    assert RunFolder(tmp_path / "run").read_metrics()[0]["validation_loss"] == pytest.approx(best, abs=1e-4)
    assert lm.vocabulary.to_json() == charlm.load(old_run).vocabulary.to_json()
    assert heard.notes[-1].endswith("characters known; 0 new; 0 no longer used")


def test_rare_characters_of_the_new_text_are_unknown_but_never_those_the_model_knows(
    tmp_path: Path, old_run: Path, new_corpus: Path
):
    new_corpus.write_text(NEW_TEXT + "éz" + NEW_TEXT, encoding="utf-8")
    lm = goes_on(old_run, new_corpus, tmp_path / "run", overrides={"corpus.min_count": 3})
    assert "é" not in lm.vocabulary.symbols
    assert "z" not in lm.vocabulary.symbols
    assert set(charlm.load(old_run).vocabulary.symbols) <= set(lm.vocabulary.symbols)


def test_a_stopped_run_goes_on_exactly_though_the_model_it_began_with_is_gone(
    tmp_path: Path, old_run: Path, new_corpus: Path
):
    copy = Path(shutil.copytree(old_run, tmp_path / "old"))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    config = {"corpus": {"path": str(new_corpus), "framing": "lines"}, "model": charlm.load(copy).config.model}
    config["training"] = {"budget": "6 steps", "batch_size": 4, "evaluate_every": "3 steps", "device": "cpu"}
    config["model"] = config["model"].model_dump() | {"dropout": 0.2}
    charlm.train(config, from_run=copy, out=whole)
    with pytest.raises(Interrupted):
        charlm.train(config, from_run=copy, out=parts, observer=Listener(stop_at=1))
    shutil.rmtree(copy)
    charlm.train(config, resume=True, out=parts)
    for name in ("model.safetensors", "vocabulary.json", "samples.txt", "config.yaml"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes()
    ours, theirs = RunFolder(parts).load_last()[0], RunFolder(whole).load_last()[0]
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(value, theirs[name]) for name, value in ours.items())


def test_another_model_is_refused_with_what_differs_and_how_to_take_the_runs(
    tmp_path: Path, tiny_lines_run: Path, new_corpus: Path
):
    config = {"corpus": {"path": str(new_corpus)}, "model": {"hidden_size": 17, "bias": False}}
    config["model"] |= {"dropout": 0.3, "recurrent_dropout": 0.1, "ngram": 3, "words": True}  # which may all differ
    with pytest.raises(RunError) as caught:
        charlm.train(config, from_run=tiny_lines_run, out=tmp_path / "run")
    assert str(caught.value).splitlines() == [
        f"{tiny_lines_run}: its weights do not fit the model that you ask for:",
        "  model.cell: 'gru-before' in the run, 'lstm' now",
        "  model.hidden_size: 16 in the run, 17 now",
        "  model.bias: True in the run, False now",
        "to use the settings of the run, add --set model.cell=gru-before --set model.hidden_size=16 --set "
        "model.bias=true",
    ]
    assert not (tmp_path / "run").exists()


def test_characters_and_bytes_do_not_mix(tmp_path: Path, tiny_run: Path, new_corpus: Path):
    with pytest.raises(RunError, match=r"corpus\.level: 'character' in the run, 'byte' now"):
        goes_on(tiny_run, new_corpus, tmp_path / "run", overrides={"corpus.level": "byte"})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "give the new text with --corpus"),
        ({"corpus": "new.txt", "resume": True}, "one of the two"),
        ({"corpus": "new.txt", "from_run": "nowhere"}, "nowhere: no such run folder"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(tiny_run: Path, arguments: dict[str, Any], said: str):
    with pytest.raises(InputError, match=said):
        charlm.train(**({"from_run": tiny_run} | arguments))


def test_training_begins_with_the_frequencies_of_the_text(tiny_corpus: Path, tmp_path: Path) -> None:
    config = {
        "corpus": {"path": str(tiny_corpus)},
        "model": {"hidden_size": 4},
        "training": {"budget": "1 steps", "learning_rate": 1e-9},
    }
    lm = charlm.train(config, out=tmp_path / "run")
    bias = lm.mixture.network.arrays()["output.bias"]
    np.testing.assert_allclose(bias, lm.vocabulary.unigram_log_probs, atol=1e-6)
