"""`charlm eval` and `charlm inspect`: what a model is worth, and what it is made of."""

import dataclasses
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch

import charlm
import commands
from charlm.experts.ngram import NgramModel
from charlm.text.corpus import load_held_out
from commands import answer, refused

FIELDS = [
    "characters",
    "bytes",
    "unknown",
    "nats_per_character",
    "bits_per_character",
    "bits_per_byte",
    "perplexity",
]
FIELDS += ["perplexity_excluding_unknown"]
TEXT = "the heron has bread.\na miller likes 船 and a boat.\nthe lamp\n"


def strict_json(text: str) -> dict[str, Any]:
    """Reads JSON as every other language does: NaN and Infinity are no part of it."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    loaded: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return loaded


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    path = tmp_path / "held_out.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


# -------------------------------------------------------------------------------------------------------- eval


@pytest.mark.parametrize("framing", ["tiny_run", "tiny_lines_run"])
def test_json_has_the_fields_of_the_contract_and_the_numbers_of_python(
    framing: str, held_out: Path, request: pytest.FixtureRequest
) -> None:
    run = request.getfixturevalue(framing)
    printed = answer("eval", run, held_out, "--format", "json")
    assert printed.count("\n") == 1
    found = strict_json(printed)
    assert list(found) == FIELDS
    assert found == {
        k: v for k, v in dataclasses.asdict(charlm.load(run).evaluate(held_out)).items() if k in FIELDS
    }


def test_the_numbers_fit_together(tiny_run: Path, held_out: Path) -> None:
    found = strict_json(answer("eval", tiny_run, held_out, "--format", "json"))
    assert found["characters"] == len(TEXT)
    assert found["bytes"] == len(TEXT.encode()) == len(TEXT) + 2
    assert found["unknown"] == sum(char not in charlm.load(tiny_run).vocabulary.symbols for char in TEXT) > 0
    assert found["bits_per_character"] == pytest.approx(found["nats_per_character"] / math.log(2))
    assert found["bits_per_byte"] == pytest.approx(found["bits_per_character"] * len(TEXT) / (len(TEXT) + 2))
    assert found["perplexity"] == pytest.approx(math.exp(found["nats_per_character"]))
    assert found["perplexity_excluding_unknown"] < found["perplexity"]


def test_the_table_has_the_same_names_and_numbers(tiny_run: Path, held_out: Path) -> None:
    lines = answer("eval", tiny_run, held_out).splitlines()
    found = strict_json(answer("eval", tiny_run, held_out, "--format", "json"))
    assert [line.split()[0] for line in lines] == FIELDS
    assert [float(line.split()[1]) for line in lines] == pytest.approx(list(found.values()), abs=1e-4)
    assert len({len(line) for line in lines}) == 1  # the numbers end in one column


def test_a_mean_of_nothing_is_null_in_json_and_a_dash_in_the_table(tiny_run: Path, tmp_path: Path) -> None:
    (unknown := tmp_path / "unknown.txt").write_text("船船船", encoding="utf-8")
    assert (
        strict_json(answer("eval", tiny_run, unknown, "--format", "json"))["perplexity_excluding_unknown"] is None
    )
    assert answer("eval", tiny_run, unknown).splitlines()[-1].split() == ["perplexity_excluding_unknown", "-"]
    result = commands.score(tiny_run, "--file", unknown, "--no-eos")
    assert re.search(r"perplexity_excluding_unknown +-\n", result.stdout)
    assert "nan" not in result.stdout


@pytest.mark.parametrize("framing", ["tiny_run", "tiny_lines_run"])
def test_samples_are_measured_as_python_does(framing: str, held_out: Path, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(framing)
    options = ["--samples", 9, "--temperature", 0.9, "--top-p", 0.8, "--top-k", 9, "--min-p", 0.01, "--seed", 3]
    found = strict_json(answer("eval", run, held_out, *options, "--format", "json"))
    own = charlm.load(run).evaluate_writing(9, held_out, temperature=0.9, top_p=0.8, top_k=9, min_p=0.01, seed=3)
    assert found == dataclasses.asdict(own)
    assert list(found["written"]) == list(found["held_out"])
    assert found["sampling"] == {"length": 40, "temperature": 0.9, "top_k": 9, "top_p": 0.8, "min_p": 0.01}
    lines = answer("eval", run, held_out, *options).splitlines()
    assert lines[0].split() == ["written", "held_out"]
    table = {name: figures for name, *figures in map(str.split, lines[1:10])}
    assert list(table) == list(found["written"])
    assert table["texts"] == ["9", str(found["held_out"]["texts"])]
    assert float(table["words_known"][0].rstrip("%")) == pytest.approx(100 * own.written.words_known, abs=0.01)
    assert table["copied"][1] == ("-" if found["held_out"]["copied"] is None else f"{own.held_out.copied:.2%}")
    assert lines[10].startswith("written: seed 3, length 40, temperature 0.9")


def test_options_of_samples_and_of_predictions_are_not_mixed(tiny_run: Path) -> None:
    assert "--samples" in refused("eval", tiny_run, "--temperature", 1)
    assert "--samples" in refused("eval", tiny_run, "--seed", 0)
    assert "give only one of them" in refused("eval", tiny_run, "--samples", 2, "--baseline")
    assert "temperature" in refused("eval", tiny_run, "--samples", 2, "--temperature", -1)


def test_large_counts_are_readable_in_the_table_and_plain_in_json(tiny_run: Path, tiny_corpus: Path) -> None:
    size = tiny_corpus.stat().st_size
    assert size >= 1000
    assert f"{size:,}" in answer("eval", tiny_run, tiny_corpus)
    assert f'"bytes": {size},' in answer("eval", tiny_run, tiny_corpus, "--format", "json")


@pytest.mark.parametrize("framing", ["tiny_run", "tiny_lines_run"])
def test_standard_input_and_files_are_one_text(
    framing: str, held_out: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    run = request.getfixturevalue(framing)
    whole = answer("eval", run, held_out, "--format", "json")
    assert answer("eval", run, "-", "--format", "json", input=TEXT) == whole
    lines = TEXT.splitlines(keepends=True)
    parts = [tmp_path / name for name in ("one.txt", "two.txt")]
    parts[0].write_text(lines[0], encoding="utf-8")
    parts[1].write_text("".join(lines[1:]), encoding="utf-8")
    assert answer("eval", run, *parts, "--format", "json") == whole
    assert answer("eval", run, *reversed(parts), "--format", "json") != whole or framing == "tiny_lines_run"


def test_a_text_of_unknown_characters_alone_is_still_json(tiny_run: Path) -> None:
    found = strict_json(answer("eval", tiny_run, "-", "--format", "json", input="船船"))
    assert found["unknown"] == found["characters"] == 2
    assert found["perplexity_excluding_unknown"] is None


@pytest.mark.parametrize("framing", ["tiny_run", "tiny_lines_run"])
def test_without_a_path_the_validation_split_of_the_run_is_measured(
    framing: str, request: pytest.FixtureRequest
) -> None:
    run = request.getfixturevalue(framing)
    found = strict_json(answer("eval", run, "--format", "json"))
    best = min(json.loads(line)["validation_loss"] for line in (run / "metrics.jsonl").read_text().splitlines())
    assert list(found) == FIELDS
    assert found["nats_per_character"] == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("framing", ["tiny_run", "tiny_lines_run"])
def test_the_baseline_has_learnt_from_the_training_split_and_is_measured_on_the_same_text(
    framing: str, held_out: Path, request: pytest.FixtureRequest
) -> None:
    run = request.getfixturevalue(framing)
    plain = strict_json(answer("eval", run, held_out, "--format", "json"))
    found = strict_json(answer("eval", run, held_out, "--baseline", "--format", "json"))
    nats = found.pop("baseline_nats_per_character")
    assert found == plain

    lm = charlm.load(run)
    vocabulary = lm.vocabulary
    split = load_held_out(str(held_out), vocabulary)
    lines = vocabulary.framing == "lines"
    train = lm.corpus().train.ids
    texts = [lines_of(ids) if lines else [ids] for ids in (train, split.ids)]
    log_probs = NgramModel(texts[0], len(vocabulary), vocabulary.boundary_id).sequence_log_probs(texts[1])
    assert nats == pytest.approx(-sum(part.sum() for part in log_probs) / len(TEXT))
    assert "baseline_nats_per_character" in answer("eval", run, "--baseline").splitlines()[-1]


def lines_of(ids: np.ndarray) -> list[np.ndarray]:
    """Cuts behind each newline; it has the smallest code point, and so the id 1."""
    return np.split(ids, np.flatnonzero(ids == 1) + 1)[:-1]


@pytest.mark.parametrize("framing", ["tiny_run", "tiny_lines_run"])
def test_dynamic_evaluation_stands_beside_the_static_figure(
    framing: str, held_out: Path, request: pytest.FixtureRequest
) -> None:
    run = request.getfixturevalue(framing)
    plain = strict_json(answer("eval", run, held_out, "--format", "json"))
    found = strict_json(answer("eval", run, held_out, "--dynamic", "--format", "json"))
    nats = [f"{kind}_nats_per_character" for kind in ("memory", "dynamic", "dynamic_memory")]
    assert list(found) == [*FIELDS, *nats, "dynamic_learning_rate", "dynamic_decay"]
    assert {name: found[name] for name in FIELDS} == plain
    rates = ["--learning-rate", found["dynamic_learning_rate"], "--decay", found["dynamic_decay"]]
    assert strict_json(answer("eval", run, held_out, "--dynamic", *rates, "--format", "json")) == found
    table = answer("eval", run, held_out, "--dynamic", "--learning-rate", "0", "--decay", "0.00001")
    static, memory, dynamic, both = re.findall(r"nats_per_character +([\d.]+)", table)
    assert static == dynamic == f"{plain['nats_per_character']:.4f}"
    assert float(both) == pytest.approx(float(memory), abs=0.1)  # without steps it is memory, its powers refitted
    assert re.search(r"^dynamic_decay +1e-05$", table, re.MULTILINE)


@pytest.mark.parametrize("framing", ["tiny_run", "tiny_lines_run", "tiny_mixture_run"])
def test_a_text_that_repeats_itself_is_remembered_and_learnt(
    framing: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("a lamp has the heron.\nboat! boat!\nthe book likes a boat.\n" * 30)
    run, rates = request.getfixturevalue(framing), ["--learning-rate", "0.002", "--decay", "0.01"]
    found = json.loads(answer("eval", run, text, "--dynamic", *rates, "--format", "json"))
    static, memory = found["nats_per_character"], found["memory_nats_per_character"]
    dynamic, both = found["dynamic_nats_per_character"], found["dynamic_memory_nats_per_character"]
    assert both < memory < dynamic < static - 0.3


def test_rates_belong_to_dynamic_evaluation_and_have_bounds(tiny_run: Path) -> None:
    assert "--dynamic" in refused("eval", tiny_run, "--decay", "0.1")
    assert "learning rate 2: must be from 0 to 1" in refused("eval", tiny_run, "--dynamic", "--learning-rate", "2")
    assert "decay nan: must be" in refused("eval", tiny_run, "--dynamic", "--decay", "nan")


def test_the_run_s_own_corpus_is_asked_for_only_where_it_is_needed(
    tmp_path: Path, tiny_text: str, held_out: Path
) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(tiny_text)
    config = {"corpus": {"path": str(corpus)}, "model": {"hidden_size": 4}, "training": {"budget": "1 steps"}}
    charlm.train(config, out=tmp_path / "run")
    corpus.write_text(tiny_text.replace("boat", "coat"))
    assert f"has changed since the training: {corpus}" in refused("eval", tmp_path / "run")
    corpus.unlink()
    for arguments in ([], [held_out, "--baseline"], [held_out, "--dynamic"]):
        message = refused("eval", tmp_path / "run", *arguments)
        assert f"corpus of this run is needed, but it cannot be read: {corpus}: no such file" in message
    assert answer("eval", tmp_path / "run", held_out)


def test_a_corpus_that_came_through_a_pipe_or_without_a_validation_split_says_so(
    tmp_path: Path, tiny_corpus: Path
) -> None:
    train = ["train", "--set", "model.hidden_size=4", "--budget", "1 steps", "--quiet", "--out", tmp_path / "run"]
    commands.run(*train, "--corpus", "-", input=tiny_corpus.read_text())
    assert "standard input, which cannot be read again; name a text in a file" in refused(
        "eval", tmp_path / "run", "--baseline"
    )
    train[-1] = tmp_path / "all"
    answer(*train, "--corpus", tiny_corpus, "--set", "corpus.validation=0")
    assert "without a validation split; name a text" in refused("eval", tmp_path / "all")


# ------------------------------------------------------------------------------------------------------ inspect


@pytest.mark.parametrize("framing", ["tiny_run", "tiny_lines_run"])
def test_every_tensor_is_listed_with_its_shape_and_count(framing: str, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(framing)
    printed = answer("inspect", run)
    tensors = safetensors.torch.load_file(run / "model.safetensors")
    del tensors["mixture.memory_powers"]  # no weight of the network
    for name, tensor in tensors.items():
        shape = re.escape(str(tuple(tensor.shape)))
        assert re.search(rf"^{re.escape(name)} +{shape} +{tensor.numel():,}$", printed, re.MULTILINE), name
    total = sum(tensor.numel() for tensor in tensors.values())
    assert re.search(rf"^all +{total:,}$", printed, re.MULTILINE)
    assert total == sum(weight.size for weight in charlm.load(run).mixture.network.arrays().values())


def test_the_architecture_is_said_in_words(tiny_run: Path, tiny_lines_run: Path, tiny_corpus: Path) -> None:
    size = len(charlm.load(tiny_run).vocabulary)
    stream, lines = (answer("inspect", run).splitlines()[:2] for run in (tiny_run, tiny_lines_run))
    assert stream[0] == f"LSTM, 1 layer, hidden size 16, one-hot input of {size}, softmax over {size}"
    assert stream[1] == f"framing stream, character level, trained on {tiny_corpus}"
    assert lines[0] == f"GRU-BEFORE, 1 layer, hidden size 16, one-hot input of {size}, softmax over {size}"
    assert lines[1].startswith("framing lines")


def test_layers_and_factors_are_said_and_counted(tiny_corpus: Path, tmp_path: Path) -> None:
    model = {"cell": "rnn", "hidden_size": 8, "num_layers": 2, "embedding_size": 3, "output_rank": 5, "bias": False}
    config = {"corpus": {"path": str(tiny_corpus)}, "model": model, "training": {"budget": "1 steps"}}
    size = len(charlm.train(config, out=tmp_path / "run").vocabulary)
    printed = answer("inspect", tmp_path / "run")
    assert printed.startswith(f"RNN, 2 layers, hidden size 8, embedding of 3, softmax of rank 5 over {size}\n")
    count = size * 3 + 8 * (3 + 8) + 8 * (8 + 8) + 5 * 8 + 5 * size
    assert re.search(rf"^all +{count:,}$", printed, re.MULTILINE)


def test_a_mixture_shows_how_far_each_of_its_models_is_trusted(tiny_corpus: Path, tmp_path: Path) -> None:
    config = {
        "corpus": {"path": str(tiny_corpus)},
        "model": {"hidden_size": 4, "ngram": 3},
        "training": {"budget": "2 steps"},
    }
    mixture = charlm.train(config, out=tmp_path / "run").mixture
    title, *table = answer("inspect", tmp_path / "run").split("\n\n")[2].splitlines()
    assert title == "mixture: the exponent of each expert, by the length of the known context"
    assert [row.split() for row in table] == [
        ["known", "network", "ngram"],
        *(
            [*known.split(), *(f"{power:.2f}" for power in row)]
            for known, row in zip(mixture.kind_names(), mixture.powers.tolist(), strict=True)
        ),
    ]


def test_the_curve_begins_with_the_first_loss_and_tells_the_best(tiny_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    row = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    losses = [3.25, 1.5, 2.125]
    rows = [
        {**row, "characters": 1000 * n, "seconds": 65.0 * n, "validation_loss": x} for n, x in enumerate(losses)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    printed = answer("inspect", run)
    assert "validation loss, nats per character, over 2,000 characters and 2:10" in printed
    drawn = [line for line in printed.splitlines() if "┤" in line]
    assert drawn[0].split("┤")[0].strip() == "3.250"
    assert drawn[-1].split("┤")[0].strip() == "1.500"
    assert drawn[0].split("┤")[1][0] != "\u2800"  # a dot at the first loss, on top at the left
    assert drawn[-1].split("┤")[1].strip("\u2800")
    assert "best 1.5000 nats, last 2.1250" in printed


def test_a_run_without_validation_shows_its_training_loss(tiny_corpus: Path, tmp_path: Path) -> None:
    config = {
        "corpus": {"path": str(tiny_corpus), "validation": 0.0},
        "model": {"hidden_size": 4},
        "training": {"budget": "2 steps", "evaluate_every": "1 steps"},
    }
    charlm.train(config, out=tmp_path / "run")
    printed = answer("inspect", tmp_path / "run")
    best = min(json.loads(line)["train_loss"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines())
    assert "training loss, nats per character" in printed
    assert f"best {best:.4f} nats" in printed


def test_a_run_without_metrics_is_shown_without_a_curve(tiny_run: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").unlink()
    printed = answer("inspect", tmp_path / "run")
    assert "output.weight" in printed
    assert "┤" not in printed
