"""A run folder from a stranger is data: whatever is in it, it is refused by name, in bounded time and memory."""

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

import charlm
from charlm.cli import app
from charlm.errors import RunError
from charlm.language_model import load_metrics
from charlm.model import CharacterModel
from charlm.text.vocabulary import Vocabulary
from charlm.training.weights import LARGEST_WEIGHT

Bounds = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def run(tmp_path: Path, tiny_run: Path) -> Path:
    """A run that a test may damage."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


Attack = Callable[[Path], object]


def swap(name: str, *changes: tuple[str, str]) -> Attack:
    """Replaces texts in a file."""

    def act(run: Path) -> None:
        text = (run / name).read_text(encoding="utf-8")
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        (run / name).write_text(text, encoding="utf-8")

    return act


def put(name: str, content: str | bytes | Callable[[], str | bytes]) -> Attack:
    """Replaces a file."""

    def act(run: Path) -> None:
        data = content() if callable(content) else content
        (run / name).write_bytes(data if isinstance(data, bytes) else data.encode())

    return act


def in_place(name: str, kind: str) -> Attack:
    """Puts something else than a file there."""

    def act(run: Path) -> None:
        path = run / name
        path.unlink()
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        elif kind == "terabyte":
            path.touch()
            os.truncate(path, 10**12)
        else:
            path.symlink_to(kind)

    return act


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Attack:
    """Rewrites the weights after a change."""

    def act(run: Path) -> None:
        path = run / "model.safetensors"
        weights = safetensors.torch.load(path.read_bytes())
        change(weights)
        path.write_bytes(safetensors.torch.save(weights, {"charlm_format": "1"}))

    return act


def header(change: Callable[[str], str]) -> Attack:
    """Rewrites the text of the header of the weights, its length put right."""

    def act(run: Path) -> None:
        path = run / "model.safetensors"
        content = path.read_bytes()
        size = struct.unpack("<Q", content[:8])[0]
        new = change(content[8 : 8 + size].decode()).encode()
        path.write_bytes(struct.pack("<Q", len(new)) + new + content[8 + size :])

    return act


def claim(name: str, shape: list[int], *, offsets: list[int] | None = None) -> Attack:
    """Makes the header say that a tensor has another shape, and the place of its bytes fit or not."""

    def change(text: str) -> str:
        data = json.loads(text)
        begin, end = data[name]["data_offsets"]
        data[name] = {"dtype": "F32", "shape": shape, "data_offsets": offsets or [begin, end]}
        return json.dumps(data)

    return header(change)


def a_terabyte_that_fits_its_config(run: Path) -> None:
    """A file full of holes, whose header and size are just what its configuration asks for."""
    swap("config.yaml", ("hidden_size: 16", "hidden_size: 16384"), ("num_layers: 1", "num_layers: 16"))(run)
    vocabulary = Vocabulary.from_json((run / "vocabulary.json").read_text(encoding="utf-8"))
    with torch.device("meta"):
        model = CharacterModel(len(vocabulary), hidden_size=16384, num_layers=16)
    data: dict[str, Any] = {"__metadata__": {"charlm_format": "1"}}
    at = 0
    for name, value in model.state_dict().items():
        data[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [at, at + value.nbytes]}
        at += value.nbytes
    text = json.dumps(data).encode()
    (run / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    os.truncate(run / "model.safetensors", 8 + len(text) + at)


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
    "billion laughs": (put("config.yaml", LAUGHS), "aliases .* are not used here"),
    "a call in YAML": (put("config.yaml", "corpus: {path: !!python/object/apply:os.system [exit]}"), "the tag"),
    "brackets": (put("config.yaml", "corpus: " + "[" * 500_000), "nested too deeply"),
    "a key twice": (swap("config.yaml", ("  cell: lstm", "  cell: lstm\n  cell: lstm")), "model.cell stands twice"),
    "another framing": (swap("config.yaml", ("framing: stream", "framing: lines")),
                        "framing is 'stream' in vocabulary.json, 'lines' in config.yaml"),
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
    "a JSON key twice": (swap("vocabulary.json", ('"level"', '"boundary": "a", "level"')), "key 'boundary' stands"),
    "a symbol that is a number": (swap("vocabulary.json", ('"a",', "7,")), "characters holds something else"),
    "a count that is a text": (swap("vocabulary.json", (': [0', ': ["0"')), "counts holds something else"),
    "a count beyond all numbers": (swap("vocabulary.json", (': [0', ': [1' + "0" * 400)), "counts do not match"),
    "a wrong vocabulary size": (
        swap("vocabulary.json", ('"<unk>",', '"<unk>", "Ω",'), ('"counts": [0,', '"counts": [0, 1,')),
        "the configuration asks for"),
    "vocabulary is a FIFO": (in_place("vocabulary.json", "fifo"), "not an ordinary file"),
    "vocabulary has a terabyte": (in_place("vocabulary.json", "terabyte"), "larger than"),
    # the weights
    "a header of exabytes": (put("model.safetensors", struct.pack("<Q", 1 << 60)), "a header of 1,152,921,"),
    "a header of many megabytes": (
        put("model.safetensors", lambda: struct.pack("<Q", 50_000_000) + b" " * 50_000_000),
        "at most 4,194,304 are read"),
    "a header that claims terabytes": (claim("output.weight", [1 << 20, 1 << 20]), "damaged"),
    "a header that claims terabytes and their place": (
        claim("output.weight", [1 << 20, 1 << 20], offsets=[0, 1 << 42]), "damaged"),
    "a shape that overflows": (claim("output.weight", [1 << 62, 1 << 62]), "damaged"),
    "a shape below zero": (claim("output.weight", [-1, 16]), "damaged"),
    "two tensors in one place": (claim("output.weight", [4, 4], offsets=[0, 64]), "damaged"),
    "a tensor twice": (header(lambda text: '{"output.bias": {},' + text[1:]), "'output.bias' stands twice"),
    "a header with brackets": (header(lambda text: "[" * 500_000), "nested too deeply"),
    "a name that leads elsewhere": (tensors(lambda w: w.update({"../../etc/passwd": torch.ones(1)})), "passwd"),
    "NaN": (tensors(lambda w: w["output.bias"].fill_(float("nan"))), "output.bias holds numbers"),
    "one infinity": (tensors(lambda w: w["output.weight"][0].fill_(-torch.inf)), "output.weight holds numbers"),
    "a number beyond all use": (tensors(lambda w: w["recurrent.weight_hh_l0"][3].fill_(2e15)), "hh_l0 holds"),
    "half precision": (tensors(lambda w: w.update({"output.bias": w["output.bias"].half()})), "is float16"),
    "complex numbers": (tensors(lambda w: w.update({"output.bias": w["output.bias"].cfloat()})), "is complex64"),
    "weights are a FIFO": (in_place("model.safetensors", "fifo"), "not an ordinary file"),
    "weights are a device": (in_place("model.safetensors", "/dev/zero"), "not an ordinary file"),
    "weights of a terabyte": (in_place("model.safetensors", "terabyte"), "GB of memory"),
    "a terabyte of holes that fits": (a_terabyte_that_fits_its_config, "133 GB, this machine"),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_run_is_refused_by_name_in_bounded_time_and_memory(name: str, run: Path, bounds: Bounds):
    attack, complaint = ATTACKS[name]
    attack(run)
    with bounds(), pytest.raises(RunError, match=complaint) as caught:
        charlm.load(run)
    assert str(run) in str(caught.value)
    assert len(str(caught.value)) < 1000


def metrics(**changes: Any) -> str:
    row: dict[str, Any] = {
        "step": 1, "characters": 9, "epoch": 0.1, "seconds": 1.0, "train_loss": 2.0, "validation_loss": None,
        "bits_per_character": 3.0, "learning_rate": 0.1, "gradient_norm": 1.0, "characters_per_second": 9.0,
    }  # fmt: skip
    return json.dumps({**row, **changes})


@pytest.mark.parametrize(
    "line",
    ["[]", '{"step": 1}', metrics(train_loss="low"), metrics(seconds=float("nan")), metrics(step=True),
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


def test_a_run_of_links_to_ordinary_files_is_a_run(run: Path, tiny_run: Path):
    for name in ("config.yaml", "vocabulary.json", "model.safetensors"):
        (run / name).unlink()
        (run / name).symlink_to(tiny_run / name)
    assert charlm.load(run).score(["the boat"]) == charlm.load(tiny_run).score(["the boat"])


@pytest.mark.parametrize("framing", ["tiny_run", "tiny_lines_run"])
@pytest.mark.parametrize("sign", [-1, 1, 0])
def test_the_largest_weights_that_are_accepted_never_give_nan(
    framing: str, sign: int, run: Path, request: pytest.FixtureRequest
):
    shutil.rmtree(run)
    shutil.copytree(request.getfixturevalue(framing), run)

    def enlarge(weights: dict[str, torch.Tensor]) -> None:
        for weight in weights.values():
            weight.copy_((sign or weight.sign()) * LARGEST_WEIGHT)

    tensors(enlarge)(run)
    lm = charlm.load(run)
    scores = lm.score(["the boat has bread.", "xyz!", "", "the " * 50])
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
