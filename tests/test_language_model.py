"""The Python API: train from whatever describes a training, load what is whole, and use it."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import charlm
from charlm.config import SamplingConfig, load_config
from charlm.errors import ConfigError, CorpusError, InputError, RunError
from charlm.language_model import LanguageModel
from charlm.run import default_out, preflight, resolve_config
from charlm.sampling import write_texts
from charlm.scoring.alternatives import alternatives
from charlm.scoring.conditions import Conditions
from charlm.scoring.evaluation import evaluate
from charlm.scoring.measures import rank
from charlm.scoring.sentences import score_batches
from charlm.system.run_format import RUN_FORMAT
from charlm.text.corpus import load_corpus, load_held_out
from charlm.training.reports import load_metrics

SENTENCES = ["the boat has bread.", "xyz!", "", "a miller sees the lamp.", "ÄÖ 我"]
SMALL = {"model.hidden_size": 6, "training.batch_size": 4, "training.sequence_length": 16,
         "training.evaluate_every": "50%", "training.device": "cpu", "sampling.length": 10}  # fmt: skip


def small(path: Path, **corpus: Any) -> dict[str, Any]:
    """A configuration as dictionaries."""
    config: dict[str, Any] = {"corpus": {"path": str(path), **corpus}, "training": {"budget": "4 steps"}}
    for key, value in SMALL.items():
        section, name = key.split(".")
        config.setdefault(section, {})[name] = value
    return config


@pytest.fixture(params=["tiny_run", "tiny_lines_run", "tiny_mixture_run"])
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    """A model of either framing, and one with n-grams."""
    return charlm.load(request.getfixturevalue(request.param))


@pytest.fixture
def copy(tmp_path: Path, tiny_run: Path) -> Path:
    """A run that a test may damage."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


# --- train ----------------------------------------------------------------------------------------


def test_a_yaml_dictionaries_and_a_config_train_the_same_model(tmp_path: Path, tiny_corpus: Path):
    yaml = tmp_path / "config.yaml"
    yaml.write_text(json.dumps(small(tiny_corpus)))  # JSON is YAML
    sources: list[Any] = [yaml, str(yaml), small(tiny_corpus), load_config(small(tiny_corpus))]
    trained = [charlm.train(source, out=tmp_path / str(i)) for i, source in enumerate(sources)]
    for lm in trained:
        assert lm.config == trained[0].config
        assert lm.score(SENTENCES) == trained[0].score(SENTENCES)


def test_arguments_win_over_the_configuration_and_are_written_into_the_run(tmp_path: Path, tiny_text: str):
    (mine := tmp_path / "mine.txt").write_text(tiny_text.upper())
    lm = charlm.train(
        small(tmp_path / "none.txt"), corpus=mine, budget="2 steps", device="cpu", out=tmp_path / "run",
        overrides={"model.hidden_size": 3, "model.cell": "gru"},
    )  # fmt: skip
    assert lm.config == load_config(tmp_path / "run" / "config.yaml")
    assert (lm.config.corpus.path, lm.config.training.budget, lm.config.model.cell) == (str(mine), "2 steps", "gru")
    assert (lm.mixture.network.network.config.hidden_size, "T" in lm.vocabulary.symbols) == (3, True)


def test_a_relative_corpus_is_beside_its_yaml_or_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_text: str
):
    for folder, text in (("configs", tiny_text), ("work", tiny_text.upper())):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "text.txt").write_text(text)
    yaml = tmp_path / "configs" / "my.yaml"
    yaml.write_text(json.dumps(small(Path("text.txt"))))
    monkeypatch.chdir(tmp_path / "work")
    assert "t" in charlm.train(yaml).vocabulary.symbols
    assert "T" in charlm.train(corpus="text.txt", budget="2 steps", overrides=SMALL).vocabulary.symbols
    assert {path.name for path in (tmp_path / "work" / "runs").iterdir()} == {"my", "text"}


@pytest.mark.parametrize(
    ("config", "corpus", "name"),
    [("configs/quick.yaml", "a/b.txt", "quick"), (Path("x.y.yaml"), "a/b.txt", "x.y"), (None, "a/b.txt.gz", "b"),
     ({}, "a/folder", "folder"), (None, ["a/one.txt", "two.txt"], "one"), (None, "corpus:english", "english"),
     (None, "texts/*", "run"), (None, "-", "run"), ("config:quickstart", "a/b.txt", "quickstart"),
     (Path("config:textbook-rnn"), "a/b.txt", "textbook-rnn")],
)  # fmt: skip
def test_without_out_the_run_is_named_after_the_configuration_or_the_corpus(config: Any, corpus: Any, name: str):
    settings = load_config({"corpus": {"path": corpus}})
    assert default_out(config, settings) == Path("runs") / name


def test_a_folder_that_holds_a_run_is_refused_and_left_alone(copy: Path, tiny_corpus: Path):
    before = {file: file.read_bytes() for file in copy.rglob("*") if file.is_file()}
    with pytest.raises(InputError, match=f"^{copy}: this folder already contains a run"):
        charlm.train(small(tiny_corpus), out=copy)
    assert {file: file.read_bytes() for file in copy.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(
    ("error", "arguments"),
    [(ConfigError, {"overrides": {"model.hiden_size": 3}}), (ConfigError, {"budget": "soon"}),
     (ConfigError, {"config": None}), (CorpusError, {"corpus": "none.txt"}),
     (CorpusError, {"overrides": {"training.batch_size": 5000}}), (InputError, {"threads": 0}),
     (InputError, {"config": None, "out": None, "resume": True})],  # which run?
)  # fmt: skip
def test_nothing_is_made_where_the_training_cannot_start(
    tmp_path: Path, tiny_corpus: Path, error: type[Exception], arguments: dict[str, Any]
):
    with pytest.raises(error):
        charlm.train(**({"config": small(tiny_corpus), "out": tmp_path / "run"} | arguments))
    assert not (tmp_path / "run").exists()


def test_a_corpus_given_as_a_list_of_one_is_the_same_corpus(tmp_path: Path, tiny_corpus: Path):
    charlm.train(small(tiny_corpus), out=tmp_path / "run")
    charlm.train(small(tiny_corpus), out=tmp_path / "run", corpus=[tiny_corpus], resume=True, budget="6 steps")
    assert load_metrics(tmp_path / "run")[-1]["step"] == 6


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there_is_refused(tmp_path: Path, tiny_corpus: Path, tiny_run: Path):
    with pytest.raises(InputError, match="device cuda: not available on this machine; available devices: cpu"):
        charlm.load(tiny_run, device="cuda")
    with pytest.raises(InputError, match="device cuda"):
        charlm.train(small(tiny_corpus), device="cuda", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_threads_are_set_only_when_asked_for(tmp_path: Path, tiny_corpus: Path, tiny_run: Path):
    before = torch.get_num_threads()
    try:
        charlm.load(tiny_run)
        assert torch.get_num_threads() == before
        charlm.load(tiny_run, threads=3)
        assert torch.get_num_threads() == 3
        charlm.train(small(tiny_corpus), out=tmp_path / "run", threads=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_random_numbers_of_the_caller_are_untouched(tmp_path: Path, tiny_corpus: Path, tiny_run: Path):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    charlm.train(small(tiny_corpus), overrides={"model.dropout": 0.5}, out=tmp_path / "run")
    list(charlm.load(tiny_run).sample(2, length=10))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("framing", ["stream", "lines"])
def test_train_returns_the_best_model_by_the_validation_loss_that_evaluate_gives(tmp_path: Path, framing: str):
    (tmp_path / "text.txt").write_text("abc\n" * 300 + "cab\n" * 33)  # what is learnt soon misleads
    changes = {"training.learning_rate": 0.05, "training.evaluate_every": "10%"}
    config = small(tmp_path / "text.txt", framing=framing, split="tail")
    lm = charlm.train(config, out=tmp_path / "run", budget="40 steps", overrides=changes)
    losses = [row["validation_loss"] for row in load_metrics(tmp_path / "run")]
    assert min(losses) < losses[-1]
    assert min(losses) == evaluate(lm.mixture, lm.vocabulary, lm.corpus().validation).nats_per_character


# --- load -----------------------------------------------------------------------------------------


def test_what_was_trained_and_what_is_loaded_give_the_same_scores(tmp_path: Path, tiny_corpus: Path):
    trained = charlm.train(small(tiny_corpus), out=tmp_path / "run")
    loaded = charlm.load(str(tmp_path / "run"))
    assert loaded.score(SENTENCES) == trained.score(SENTENCES)
    assert list(loaded.sample(2, seed=3)) == list(trained.sample(2, seed=3))
    assert (loaded.config, loaded.folder) == (trained.config, trained.folder)


def edit(name: str, *changes: tuple[str, str]) -> Callable[[Path], object]:
    """Damage that replaces texts in a file."""

    def act(run: Path) -> None:
        text = (run / name).read_text(encoding="utf-8")
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (run / name).write_text(text, encoding="utf-8")

    return act


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [(shutil.rmtree, "no such run folder"),
     (lambda run: [file.unlink() for file in run.rglob("*") if file.is_file()], "not a run folder"),
     (lambda run: (run / "model.safetensors").unlink(), "because training has not reached its first"),
     (lambda run: (run / "vocabulary.json").unlink(), "this run is incomplete, because vocabulary.json is missing"),
     (lambda run: (run / "config.yaml").unlink(), "this run is incomplete, because config.yaml is missing"),
     (lambda run: (run / "vocabulary.json").write_bytes(b"\xff"), "vocabulary.json: cannot be read"),
     (lambda run: (run / "model.safetensors").write_bytes(b""), "model.safetensors: damaged"),
     (edit("vocabulary.json", (f'"format": {RUN_FORMAT}', '"format": 99')),
      "vocabulary.json: written by a newer charlm"),
     (edit("vocabulary.json", (f'"format": {RUN_FORMAT}', '"format": 2')),
      "vocabulary.json: written by an older charlm .*; train the model again: .* give it to `charlm train`"),
     (edit("vocabulary.json", ('"framing": "stream"', '"framing": "bag"')), "vocabulary.json: not a vocabulary"),
     (edit("vocabulary.json", ('"counts": [0, ', '"counts": [')), "counts do not match"),
     (edit("vocabulary.json", ('"<unk>",', '"<unk>", "Ω",'), ('"counts": [0,', '"counts": [0, 1,')),
      r"model.safetensors: .* is float32 \(\d+,.* the configuration asks for"),
     (edit("config.yaml", ("hidden_size: 16", "hidden_size: 17")), "model.safetensors: .*weight.* asks for"),
     (edit("config.yaml", ("cell: lstm", "cell: transformer")), r"damaged configuration: [^$]*model.cell")],
)  # fmt: skip
def test_a_run_that_is_not_whole_is_refused_by_name(copy: Path, damage: Callable[[Path], object], complaint: str):
    damage(copy)
    with pytest.raises(RunError, match=complaint) as caught:
        charlm.load(copy)
    assert caught.value.exit_code == 2
    assert str(copy) in str(caught.value)


# --- use ------------------------------------------------------------------------------------------


def test_scores_are_those_of_the_inference_functions(lm: LanguageModel):
    (expected,) = score_batches(lm.mixture, lm.vocabulary, [SENTENCES], Conditions())
    assert lm.score(SENTENCES) == lm.score(iter(SENTENCES)) == list(lm.score_stream(SENTENCES)) == expected
    assert list(lm.score_batches(iter([SENTENCES, []]))) == [expected, []]
    assert [score.text for score in expected] == SENTENCES
    assert lm.score([]) == []


def test_settings_by_name_are_the_conditions_and_win_over_those_given(lm: LanguageModel):
    conditions = Conditions(context="the ", bos=False, eos=False, unknown="skip")
    settings = dataclasses.asdict(conditions)
    (expected,) = score_batches(lm.mixture, lm.vocabulary, [SENTENCES], conditions)
    assert lm.score(SENTENCES, conditions) == lm.score(SENTENCES, **settings) == expected
    assert lm.score(SENTENCES, Conditions(context="a "), **settings) == expected
    assert list(lm.score_batches([SENTENCES], **settings)) == [expected]
    assert lm.rank(SENTENCES, "mean", conditions) == lm.rank(SENTENCES, "mean", **settings)
    assert lm.rank(SENTENCES, "mean", conditions) == rank(expected, "mean")
    some = alternatives(lm.mixture, lm.vocabulary, "boat", 2, conditions)
    assert lm.alternatives("boat", 2, conditions) == lm.alternatives("boat", 2, **settings) == some
    with pytest.raises(TypeError, match="contxt"):
        lm.score(SENTENCES, contxt="the ")


def test_one_sentence_as_a_string_is_refused(lm: LanguageModel):
    with pytest.raises(InputError, match="must be a list of strings"):
        lm.score("one string")


DRAWS: list[dict[str, Any]] = [{}, {"temperature": 0.0}, {"top_k": 2}, {"top_p": 0.5, "min_p": 0.1, "seed": 9}]


@pytest.mark.parametrize("settings", DRAWS, ids=str)
def test_samples_are_those_of_the_inference_functions_with_the_defaults_of_the_run(
    lm: LanguageModel, settings: dict[str, Any]
):
    rule = {"temperature": 0.7, "length": 40} | {key: value for key, value in settings.items() if key != "seed"}
    arguments = {"prompt": "the ", "seed": settings.get("seed", 0)}
    expected = list(write_texts(lm.mixture, lm.vocabulary, 3, SamplingConfig(**rule), **arguments))
    assert list(lm.sample(3, prompt="the ", **settings)) == expected
    pieces = list(lm.stream(prompt="the ", **settings))
    assert "".join(pieces) == expected[0]
    assert len(pieces) > 1 or len(expected[0]) < 10  # it comes as it is written


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"length": 0}, "length 0: must be at least 1"), ({"temperature": -1.0}, "temperature -1.0: must be"),
     ({"top_k": 0}, "top-k 0: must be"), ({"top_p": 1.5}, "top-p 1.5: must be"),
     ({"min_p": -0.1}, "min-p -0.1: must be"), ({"seed": -1}, "seed -1: must be"),
     ({"prompt": "Ω"}, r"'Ω' \(U\+03A9\)"), ({"tempature": 1.0}, "tempature 1.0: there is no such setting"),
     ({"top_k": 0, "min_p": 2.0}, "top-k 0: must be.*; min-p 2.0: must be")],
    ids=str,
)  # fmt: skip
def test_wrong_settings_of_a_sample_are_wrong_input(lm: LanguageModel, wrong: dict[str, Any], said: str):
    for write in (lm.sample, lm.stream):
        with pytest.raises(InputError, match=said):
            next(iter(write(**wrong)))


def test_a_sample_may_be_longer_than_those_that_training_writes(lm: LanguageModel):
    with pytest.raises(ConfigError, match=r"sampling\.length"):
        load_config({"corpus": {"path": "text.txt"}, "sampling": {"length": 1_000_001}})
    assert next(lm.stream(length=1_000_001)) == next(lm.stream(length=1))


def test_an_evaluation_is_that_of_the_inference_function(lm: LanguageModel, tmp_path: Path):
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for path in paths:
        path.write_text("a miller has bread.\nÄ boat sees.\n" * 5, encoding="utf-8")
    split = load_held_out([str(path) for path in paths], lm.vocabulary)
    assert lm.evaluate(paths) == evaluate(lm.mixture, lm.vocabulary, split)
    assert lm.evaluate(paths).unknown == 10
    assert lm.evaluate(paths[0]) == lm.evaluate(str(paths[0])) == lm.evaluate([paths[0]])
    with pytest.raises(CorpusError):
        lm.evaluate(tmp_path / "none.txt")


# --- preflight ------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["stream", "lines"])
def test_a_preflight_tells_what_the_run_will_be_and_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_corpus: Path, framing: str
):
    monkeypatch.chdir(tmp_path)
    config = resolve_config(small(tiny_corpus, framing=framing, test=0.1), budget="1 epochs")
    state = torch.get_rng_state()
    told = preflight(config, measure_seconds=0.05)
    assert torch.equal(torch.get_rng_state(), state)
    assert list(tmp_path.iterdir()) == []

    lm = charlm.train(config, out="run")
    last, data = load_metrics("run")[-1], load_corpus(config.corpus)
    assert (told.parameters, told.vocabulary_size) == (
        sum(w.size for w in lm.mixture.network.arrays().values()),
        len(lm.vocabulary),
    )
    assert (told.windows_per_epoch, told.train_characters) == (last["step"], last["characters"])
    assert (told.validation_characters, told.test_characters) == (len(data.validation.ids), len(data.test.ids))
    assert told.epochs == pytest.approx(1)
    assert told.seconds == pytest.approx(told.train_characters / told.characters_per_second)
    assert told.memory_bytes > 10**7


def test_a_preflight_names_rare_and_unknown_characters(tmp_path: Path):
    (tmp_path / "text.txt").write_text("QXX" + "the text " * 100 + "Ω" * 100, encoding="utf-8")
    told = preflight(resolve_config(small(tmp_path / "text.txt", split="tail")), measure_seconds=0.05)
    assert dict(told.rare) == {"Q": 1, "X": 2}
    assert told.unknown_share == pytest.approx(100 / told.validation_characters)
