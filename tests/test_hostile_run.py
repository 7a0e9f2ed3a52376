"""A run folder from a stranger is data: whatever is in it, it is refused by name, in bounded time and memory."""

import json
import math
import os
import pickle
import shutil
import struct
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import charlm
from charlm.cli import app
from charlm.config import ModelConfig
from charlm.errors import RunError
from charlm.experts.memory import CONTEXTS, LARGEST_POWER
from charlm.experts.mixture import MEMORY_POWERS, POWERS, Mixture
from charlm.experts.ngram import NgramModel
from charlm.experts.torch_network import TorchNetworkExpert
from charlm.model.network import CharacterModel
from charlm.store.tensors import LARGEST_WEIGHT
from charlm.text.vocabulary import Vocabulary
from charlm.training.reports import load_metrics
from hostile import OURS, Attack, Bounds, check_refused, claim, header, in_place, joined, put, tensors

WEIGHTS, NGRAM = "model.safetensors", "ngram.safetensors"


@pytest.fixture
def run(tmp_path: Path, tiny_mixture_run: Path) -> Path:
    """A run that a test may damage."""
    return Path(shutil.copytree(tiny_mixture_run, tmp_path / "run"))


def swap(name: str, *changes: tuple[str, str]) -> Attack:
    """Replaces texts in a file."""

    def act(run: Path) -> None:
        text = (run / name).read_text(encoding="utf-8")
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        (run / name).write_text(text, encoding="utf-8")

    return act


def put_holes(path: Path, tensors: dict[str, tuple[str, Sequence[int], int]], begin: bytes = b"") -> None:
    """Writes tensors given by dtype, shape and bytes: behind what they begin with zeros, which take no room."""
    data: dict[str, Any] = {"__metadata__": OURS}
    at = 0
    for name, (dtype, shape, size) in tensors.items():
        data[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    header = joined(json.dumps(data).encode(), b"")
    path.write_bytes(header + begin)
    os.truncate(path, len(header) + at)


def a_terabyte_that_fits_its_config(run: Path) -> None:
    """A file full of holes, whose header and size are just what its configuration asks for."""
    swap("config.yaml", ("hidden_size: 16", "hidden_size: 16384"), ("num_layers: 1", "num_layers: 16"))(run)
    vocabulary = Vocabulary.from_json((run / "vocabulary.json").read_text(encoding="utf-8"))
    with torch.device("meta"):
        network = CharacterModel(len(vocabulary), ModelConfig(hidden_size=16384, num_layers=16))
    mixture = Mixture(TorchNetworkExpert(network), [NgramModel([], len(vocabulary), 0, order=3)])
    put_holes(run / WEIGHTS, {name: ("F32", v.shape, v.nbytes) for name, v in mixture.arrays().items()})


def ngrams_of_holes(count: int) -> Attack:
    """Fits so many single symbols that are all the same to each other."""
    shapes = {"counts.1": ("U8", [count], count)}
    return lambda run: put_holes(run / NGRAM, shapes)


def pairs_of_holes(run: Path) -> None:
    """Fits a table of single symbols that is right, and more pairs than there is memory for, all the same."""
    V, each = 20_000, 10_000
    symbols = {"characters": ["<unk>", *map(chr, range(0x20000, 0x20000 + V - 1))], "counts": [0, *[1] * (V - 1)]}
    vocabulary = WHOLE | symbols | {"boundary": symbols["characters"][1]}
    (run / "vocabulary.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    pairs = V * each
    written = np.ones(V, np.uint8).tobytes() + np.full(V, each, np.uint16).tobytes()
    shapes = {
        "counts.1": ("U8", [V], V),
        "children.2": ("U16", [V], 2 * V),
        "symbols.2": ("U16", [pairs], 2 * pairs),
        "counts.2": ("U8", [pairs], pairs),
    }
    put_holes(run / NGRAM, shapes, written)


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Attack:
    """Rewrites the weights after a change."""
    return tensors(WEIGHTS, change)


def tables(change: Callable[[dict[str, torch.Tensor]], object]) -> Attack:
    """Rewrites the tables of n-grams after a change."""
    return tensors(NGRAM, change)


LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
MANY = 1_200_000  # more than Unicode has room for
WHOLE = json.loads(Vocabulary.build("ab\n").to_json())

ATTACKS: dict[str, tuple[Attack, str]] = {
    # the configuration
    "a size beyond all bounds": (swap("config.yaml", ("hidden_size: 16", "hidden_size: 10000000")),
                                 "model.hidden_size .* = 10000000: must be"),
    "sizes that are allowed and would take 137 GB": (
        swap("config.yaml", ("hidden_size: 16", "hidden_size: 16384"), ("num_layers: 1", "num_layers: 16")),
        r"is float32 \(64, .*asks for float32 \(65536, "),
    "billion laughs": (put("config.yaml", LAUGHS), "aliases .* are not allowed here"),
    "a call in YAML": (put("config.yaml", "corpus: {path: !!python/object/apply:os.system [exit]}"), "the tag"),
    "brackets": (put("config.yaml", "corpus: " + "[" * 500_000), "nested too deeply"),
    "a key twice": (swap("config.yaml", ("  cell: lstm", "  cell: lstm\n  cell: lstm")), "cell is given twice"),
    "another framing": (swap("config.yaml", ("framing: stream", "framing: lines")),
                        "framing is 'stream' in vocabulary.json, but 'lines' in config.yaml"),
    "config is a FIFO": (in_place("config.yaml", "fifo"), "config.yaml: .*not an ordinary file"),
    "config is a device": (in_place("config.yaml", "/dev/zero"), "config.yaml: .*not an ordinary file"),
    "config is a folder": (in_place("config.yaml", "folder"), "config.yaml: .*not an ordinary file"),
    "config has a terabyte": (in_place("config.yaml", "terabyte"), "config.yaml: .*larger than"),
    # the vocabulary
    "a pickle": (put("vocabulary.json", pickle.dumps(os.system)), "cannot be read"),
    "JSON brackets": (put("vocabulary.json", "[" * 500_000), "nested too deeply"),
    "a gigabyte of lists": (put("vocabulary.json", lambda: "[" + "[]," * 11_000_000 + "0]"), "nested too deeply"),
    "more symbols than there are": (
        put("vocabulary.json", lambda: json.dumps(WHOLE | {"characters": ["<unk>"] * MANY, "counts": [1] * MANY})),
        "not one character"),
    "a JSON key twice": (swap("vocabulary.json", ('"level"', '"boundary": "a", "level"')), "'boundary' appears"),
    "a symbol that is a number": (swap("vocabulary.json", ('"a",', "7,")), "characters has an element that is not"),
    "a count that is a text": (swap("vocabulary.json", (': [0', ': ["0"')), "counts has an element that is not"),
    "a count beyond all numbers": (swap("vocabulary.json", (': [0', ': [1' + "0" * 400)), "counts do not match"),
    "a wrong vocabulary size": (
        swap("vocabulary.json", ('"<unk>",', '"<unk>", "Ω",'), ('"counts": [0,', '"counts": [0, 1,')),
        "ngram.safetensors: damaged: it has 20 symbols, but the vocabulary has 21"),
    "vocabulary is a FIFO": (in_place("vocabulary.json", "fifo"), "not an ordinary file"),
    "vocabulary has a terabyte": (in_place("vocabulary.json", "terabyte"), "larger than"),
    # the weights
    "a header of exabytes": (put(WEIGHTS, struct.pack("<Q", 1 << 60)), "its header has 1,152,921,"),
    "a header of many megabytes": (
        put(WEIGHTS, lambda: struct.pack("<Q", 50_000_000) + b" " * 50_000_000),
        "at most 4,194,304 are allowed"),
    "a header that claims terabytes": (claim(WEIGHTS, "output.weight", [1 << 20, 1 << 20]), "damaged"),
    "a header that claims terabytes and their place": (
        claim(WEIGHTS, "output.weight", [1 << 20, 1 << 20], offsets=[0, 1 << 42]), "damaged"),
    "a shape that overflows": (claim(WEIGHTS, "output.weight", [1 << 62, 1 << 62]), "damaged"),
    "a shape below zero": (claim(WEIGHTS, "output.weight", [-1, 16]), "damaged"),
    "two tensors in one place": (claim(WEIGHTS, "output.weight", [4, 4], offsets=[0, 64]), "damaged"),
    "a tensor twice": (header(WEIGHTS, lambda text: '{"output.bias": {},' + text[1:]), "'output.bias' appears"),
    "a header with brackets": (header(WEIGHTS, lambda text: "[" * 500_000), "nested too deeply"),
    "a name that leads elsewhere": (weights(lambda w: w.update({"../../etc/passwd": torch.ones(1)})), "passwd"),
    "NaN": (weights(lambda w: w["output.bias"].fill_(float("nan"))), "output.bias has numbers"),
    "one infinity": (weights(lambda w: w["output.weight"][0].fill_(-torch.inf)), "output.weight has numbers"),
    "a number beyond all use": (weights(lambda w: w["recurrent.weight_hh_l0"][3].fill_(2e15)), "hh_l0 has numbers"),
    "powers that are NaN": (weights(lambda w: w[POWERS][1].fill_(math.nan)), "mixture.powers has numbers"),
    "an infinite power": (weights(lambda w: w[POWERS][0, 1].fill_(math.inf)), "mixture.powers has numbers"),
    "a power beyond all use": (weights(lambda w: w[POWERS][2, 0].fill_(-2e15)), "mixture.powers has numbers"),
    "powers of another expert": (weights(lambda w: w.update({POWERS: torch.ones(3, 3)})), r"\(3, 3\), but the"),
    "powers of more contexts": (weights(lambda w: w.update({POWERS: torch.ones(5, 2)})), r"\(5, 2\), but the"),
    "powers in half precision": (weights(lambda w: w.update({POWERS: w[POWERS].half()})), "powers is float16"),
    "memory trusted beyond all use": (weights(lambda w: w[MEMORY_POWERS][3, 1].fill_(101)), "memory_powers has"),
    "memory trusted less than never": (weights(lambda w: w[MEMORY_POWERS][3, 1].fill_(-1)), "memory_powers has"),
    "memory trusted by NaN": (weights(lambda w: w[MEMORY_POWERS][3, 1].fill_(math.nan)), "memory_powers has"),
    "memory of more contexts": (weights(lambda w: w.update({MEMORY_POWERS: torch.ones(9, 2)})), r"\(9, 2\), but"),
    "no powers": (weights(lambda w: w.pop(POWERS)), "the tensor mixture.powers is missing"),
    "half precision": (weights(lambda w: w.update({"output.bias": w["output.bias"].half()})), "is float16"),
    "complex numbers": (
        weights(lambda w: w.update({"output.bias": w["output.bias"].cfloat()})), "has the unsupported type C64"),
    "weights are a FIFO": (in_place(WEIGHTS, "fifo"), "not an ordinary file"),
    "weights are a device": (in_place(WEIGHTS, "/dev/zero"), "not an ordinary file"),
    "weights of a terabyte": (in_place(WEIGHTS, "terabyte"), "GB of memory"),
    "a terabyte of holes that fits": (a_terabyte_that_fits_its_config, "133 GB, but this machine"),
    # the n-grams
    "n-grams are a FIFO": (in_place(NGRAM, "fifo"), "ngram.safetensors: .*not an ordinary file"),
    "n-grams are a device": (in_place(NGRAM, "/dev/zero"), "ngram.safetensors: .*not an ordinary file"),
    "n-grams of a terabyte": (in_place(NGRAM, "terabyte"), "ngram.safetensors: .*GB of memory"),
    "n-grams with a header of exabytes": (put(NGRAM, struct.pack("<Q", 1 << 60)), "its header has 1,152,921,"),
    "n-grams in a pickle": (put(NGRAM, pickle.dumps(os.system)), "ngram.safetensors: damaged"),
    "n-grams that claim terabytes": (claim(NGRAM, "counts.3", [1 << 40]), "ngram.safetensors: damaged"),
    "n-grams in one place": (claim(NGRAM, "counts.3", [4], offsets=[0, 4]), "ngram.safetensors: damaged"),
    "n-grams beyond all counting": (ngrams_of_holes((1 << 24) + 1), "16777217 symbols, but the vocabulary"),
    "n-grams beyond all memory": (pairs_of_holes, "the 2-grams are not in order"),
    "more n-grams than there can be": (
        tables(lambda t: t.update({"symbols.2": torch.arange(9999).byte(), "counts.2": torch.ones(9999).byte()})),
        "2-grams do not fit"),
    "more n-grams than can be mapped": (ngrams_of_holes(1 << 32), "not enough memory to load this file"),
    "more symbols than the vocabulary has": (ngrams_of_holes(1 << 26), "67108864 symbols, but the vocabulary"),
    "n-grams of no length": (tables(lambda t: t.update({"symbols.3": t["symbols.3"][:0]})), "3-grams do not fit"),
    "n-grams in rows": (tables(lambda t: t.update({"symbols.3": t["symbols.3"][None]})), "its types are wrong"),
    "n-grams without their contexts": (tables(lambda t: t.pop("children.2")), "children.2 is missing"),
    "n-grams too long": (
        tables(lambda t: t.update({f"{name}.4": t[f"{name}.3"] + 0 for name in ("counts", "symbols", "children")})),
        "a table of 4-grams is not expected"),
    "n-grams under a name that leads elsewhere": (
        tables(lambda t: t.update({"../../etc/passwd": torch.ones(1)})), "incomplete"),
    "n-grams with signs": (tables(lambda t: t.update({"counts.2": t["counts.2"].int()})), "its types are wrong"),
    "n-grams in bfloat16": (
        tables(lambda t: t.update({"counts.2": t["counts.2"].bfloat16()})), "ngram.safetensors"),
    "n-grams in half precision": (tables(lambda t: t.update({"counts.2": t["counts.2"].half()})), "types are"),
    "n-grams of unknown characters": (tables(lambda t: t["symbols.2"][-1].fill_(255)), "2-grams are not in order"),
    "n-grams twice": (tables(lambda t: t["symbols.3"].fill_(1)), "3-grams are not in order"),
    "n-grams of a vocabulary too large": (
        tables(lambda t: t.update({"counts.1": torch.ones(99).byte()})), "99 symbols"),
    "n-grams of other contexts": (tables(lambda t: t["children.3"].copy_(t["children.3"].flip(0))), "3-grams"),
    "more n-grams than contexts have": (tables(lambda t: t["children.2"].add_(1)), "2-grams do not fit"),
    "n-grams beyond all numbers": (
        tables(lambda t: t.update({"children.2": torch.full_like(t["children.2"], -1, dtype=torch.uint32)})),
        "ngram.safetensors"),
    "n-grams that were never counted": (tables(lambda t: t["counts.3"][2].fill_(0)), "never counted"),
    "beginnings that were never counted": (tables(lambda t: t["opening_counts.2"].fill_(0)), "never counted"),
    "more beginnings than there are": (
        tables(lambda t: t.update({"opening_counts.2": torch.ones(9999).byte()})), "beginnings do not fit"),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_run_is_refused_by_name_in_bounded_time_and_memory(name: str, run: Path, bounds: Bounds):
    attack, complaint = ATTACKS[name]
    attack(run)
    check_refused(charlm.load, run, complaint, bounds)


def test_a_vocabulary_that_is_larger_than_the_weights_is_refused(run: Path, tiny_run: Path, bounds: Bounds):
    shutil.rmtree(run)
    shutil.copytree(tiny_run, run)
    ATTACKS["a wrong vocabulary size"][0](run)
    check_refused(
        charlm.load, run, r"model.safetensors: .* is float32 .*20.*the configuration asks for .*21", bounds
    )


def test_tables_of_holes_take_no_memory_before_they_are_refused(run: Path):
    pairs_of_holes(run)
    tracemalloc.start()
    try:
        with pytest.raises(RunError, match="the 2-grams are not in order"):
            charlm.load(run)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 100_000_000  # the file claims 400 MB


def metrics(**changes: Any) -> str:
    row: dict[str, Any] = {
        "step": 1, "characters": 9, "epoch": 0.1, "seconds": 1.0, "train_loss": 2.0, "validation_loss": None,
        "bits_per_character": 3.0, "learning_rate": 0.1, "gradient_norm": 1.0, "characters_per_second": 9.0,
    }  # fmt: skip
    return json.dumps({**row, **changes})


@pytest.mark.parametrize(
    "line",
    ["[]", '{"step": 1}', metrics(train_loss="low"), metrics(seconds=math.nan), metrics(step=True),
     metrics(characters=10**400), metrics()[:-1] + ', "step": 2}', "[" * 99_999],
    ids=lambda line: line[:20],
)  # fmt: skip
def test_a_curve_that_is_none_is_refused_by_its_line(line: str, run: Path, bounds: Bounds):
    put("metrics.jsonl", f"{metrics()}\n{line}\n")(run)
    with bounds(), pytest.raises(RunError, match=r"metrics.jsonl, line 2: "):
        load_metrics(run)


def test_the_path_of_the_corpus_is_never_opened(run: Path, tmp_path: Path, bounds: Bounds):
    os.mkfifo(tmp_path / "pipe")  # who opens it waits for ever
    config = (run / "config.yaml").read_text(encoding="utf-8")
    path = next(line for line in config.splitlines() if line.startswith("  path: "))
    swap("config.yaml", (path, f"  path: [{tmp_path}/pipe, '-', /dev/zero, 'corpus:text8', ~root/x]"))(run)
    with bounds():
        lm = charlm.load(run)
        assert lm.score(["the boat"])[0].logprob < 0
        assert len(next(lm.sample(length=5))) == 5


def test_a_run_of_links_to_ordinary_files_is_a_run(run: Path, tiny_mixture_run: Path):
    for name in ("config.yaml", "vocabulary.json", WEIGHTS, NGRAM):
        (run / name).unlink()
        (run / name).symlink_to(tiny_mixture_run / name)
    assert charlm.load(run).score(["the boat"]) == charlm.load(tiny_mixture_run).score(["the boat"])


@pytest.fixture(scope="module")
def factored_mixture_run(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path) -> Path:
    """A run whose predictions are the product of three of its numbers: two matrices at the output, and a power."""
    run = tmp_path_factory.mktemp("factored") / "run"
    model = {"hidden_size": 16, "embedding_size": 8, "output_rank": 16, "ngram": 3}
    corpus = {"path": str(tiny_corpus), "framing": "stream"}
    charlm.train({"corpus": corpus, "model": model}, budget="1 steps", out=run)
    return run


@pytest.mark.parametrize("framing", ["tiny_run", "tiny_lines_run", "tiny_mixture_run", "factored_mixture_run"])
@pytest.mark.parametrize("sign", [-1, 1, 0])
def test_the_largest_weights_that_are_accepted_never_give_nan(
    framing: str, sign: int, run: Path, request: pytest.FixtureRequest
):
    shutil.rmtree(run)
    shutil.copytree(request.getfixturevalue(framing), run)

    def enlarge(values: dict[str, torch.Tensor]) -> None:
        for name, weight in values.items():
            weight.copy_((sign or weight.sign()) * LARGEST_WEIGHT)
            if name == MEMORY_POWERS:
                weight.fill_(LARGEST_POWER)
                weight[::CONTEXTS, 1] = 0

    weights(enlarge)(run)
    lm = charlm.load(run)
    texts = ["the boat has bread.", "xyz!", "", "the " * 50]
    scores = [*lm.score(texts), *lm.score(texts, document="the boat\nthe boat\n")]
    assert np.isfinite([[s.logprob, s.mean_logprob, s.bits_per_character, s.slor] for s in scores]).all()
    text = next(lm.sample(length=20, temperature=1.0))
    assert len(text) == 20 or framing == "tiny_lines_run"  # where a line may end at once


@pytest.mark.parametrize("command", ["inspect", "score"])
def test_what_a_run_says_of_itself_does_not_speak_to_the_terminal(command: str, run: Path):
    path = next(line for line in (run / "config.yaml").read_text().splitlines() if line.startswith("  path: "))
    if command == "inspect":
        swap("config.yaml", (path, r'  path: "/x\e]0;owned\a\u202e"'))(run)
    else:
        swap("config.yaml", (path, path + '\n  "\\e]0;owned\\a\\u202e": 1'))(run)
    result = CliRunner().invoke(app, [command, str(run), *(["text"] if command == "score" else [])])
    assert r"\x1b]0;owned\x07\u202e" in result.output
    assert not set("\x1b\a\u202e") & set(result.output)
