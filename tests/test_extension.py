"""What CONTRIBUTING.md says is enough to add a cell or an expert: both are added to a copy of charlm and used."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import charlm

pytestmark = pytest.mark.slow

PACKAGE = Path(charlm.__file__).parent

CELL = '''
"""The leaky cell: s_t = (s_{t-1} + tanh(U x_t + W s_{t-1} + b)) / 2."""

import torch

GATES = 1
STATES = 1


def step(x, state, weight_hh, bias_hh):
    (s,) = state
    a = x + s @ weight_hh.t()
    return ((s + torch.tanh(a if bias_hh is None else a + bias_hh)) / 2,)


def sequence(x, state, weight_hh, bias_hh, *, dtype=None):
    states = []
    for x_t in x:
        state = step(x_t, state, weight_hh, bias_hh)
        states.append(state[0])
    return torch.stack(states), state
'''

EXPERT = '''
"""The skip expert: counts what followed the symbol before the last one."""

import numpy as np


class SkipModel:
    name = "skip"
    contexts = 2  # whether there is a symbol before the last one
    beginning = 0  # no more is told apart after the beginning of a text

    def context_names(self):
        return ["first", "later"]

    def __init__(self, counts):
        self.counts = counts  # (V, V)
        p = counts + 1.0
        self.table = np.log(p / p.sum(1, keepdims=True)).astype(np.float32)

    @classmethod
    def is_wanted(cls, config):
        return True

    @classmethod
    def count(cls, config, sequences, vocabulary):
        counts = np.zeros((len(vocabulary), len(vocabulary)), np.int64)
        for ids in sequences:
            np.add.at(counts, (ids[:-2], ids[2:]), 1)
        return cls(counts)

    def arrays(self):
        return {"counts": self.counts}

    @classmethod
    def from_arrays(cls, config, arrays, vocabulary_size, first_id):
        if set(arrays) != {"counts"} or arrays["counts"].shape != (vocabulary_size, vocabulary_size):
            raise ValueError("not the counts of this vocabulary")
        return cls(arrays["counts"].copy())

    def initial_state(self, batch_size):
        return np.full((batch_size, 1), -1)

    def join(self, states):
        return np.concatenate(states)

    def take(self, state, rows):
        return state[rows]

    def advance(self, ids, state):
        read = np.concatenate([state.T, ids])[:-1, :, None]  # what stands before each symbol, (T, B, 1)
        return read, ids[-1, :, None]

    def log_probs(self, reading):
        return self.table[reading[:, 0]] * (reading >= 0)

    def context(self, reading):
        return (reading[:, 0] >= 0).astype(np.int64)

    def make_step(self, state):
        def step(ids):
            nonlocal state
            reading, state = self.advance(ids[None], state)
            return self.log_probs(reading[0]), self.context(reading[0])

        return step
'''

Charlm = Callable[..., subprocess.CompletedProcess[str]]


def replace_once(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{path.name} has changed; change what CONTRIBUTING.md says, and this test"
    path.write_text(text.replace(old, new), encoding="utf-8")


def run_in(folder: Path, corpus: Path) -> Charlm:
    """Returns a function that runs the copy of charlm in a folder, as a user runs charlm."""
    config = {
        "corpus": {"path": str(corpus), "framing": "lines"},
        "model": {"hidden_size": 8},
        "training": {"batch_size": 4, "sequence_length": 8, "budget": "12 steps", "evaluate_every": "4 steps"},
    }
    (folder / "config.yaml").write_text(json.dumps(config))  # which is YAML

    def charlm(*args: object, **environment: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", **environment}
        command = [sys.executable, "-m", "charlm", *map(str, args)]
        return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)

    return charlm


def answer(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def with_cell(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path) -> tuple[Path, Charlm]:
    folder = tmp_path_factory.mktemp("cell")
    copy = shutil.copytree(PACKAGE, folder / "charlm", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "cells" / "leaky.py").write_text(CELL, encoding="utf-8")
    cells, schema = copy / "cells" / "__init__.py", copy / "config" / "schema.py"
    replace_once(cells, "from charlm.cells import compiled, ", "from charlm.cells import leaky, compiled, ")
    replace_once(
        cells,
        '        Cell("gru-before"',
        '        Cell("leaky", leaky.GATES, leaky.STATES, leaky.step, leaky.sequence),\n        Cell("gru-before"',
    )
    replace_once(schema, 'Literal["rnn", ', 'Literal["leaky", "rnn", ')
    return folder, run_in(folder, tiny_corpus)


@pytest.mark.parametrize("compiler", ["here", "none"])
@pytest.mark.parametrize("kernel", ["auto", "python", "compiled", "fused"])
def test_an_added_cell_is_trained_resumed_and_used(
    with_cell: tuple[Path, Charlm], kernel: str, compiler: str, tmp_path: Path
):
    folder, charlm = with_cell
    environment = {} if compiler == "here" else {"CC": "/nonexistent", "CHARLM_CACHE": str(tmp_path)}
    out = folder / f"{kernel}-{compiler}"
    asked = (
        "train",
        "config.yaml",
        "--out",
        out,
        "--set",
        "model.cell=leaky",
        "--set",
        f"training.kernel={kernel}",
    )
    if kernel in ("compiled", "fused"):
        refused = charlm(*asked, **environment)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert f"\ncharlm: training.kernel {kernel}: " in refused.stderr
        assert "leaky" in refused.stderr
        return
    answer(charlm(*asked, **environment))
    answer(charlm("train", "--resume", "--out", out, "--budget", "16 steps", **environment))
    assert answer(charlm("sample", out, "--length", 20, **environment))
    scored = json.loads(answer(charlm("score", out, "the boat sees", "--format", "jsonl", **environment)))
    assert -100 < scored["logprob"] < 0


def test_an_added_expert_is_counted_stored_and_mixed_in(tmp_path: Path, tiny_corpus: Path):
    copy = shutil.copytree(PACKAGE, tmp_path / "charlm", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "experts" / "skip.py").write_text(EXPERT, encoding="utf-8")
    registry = copy / "experts" / "__init__.py"
    replace_once(registry, "WordModel, FurtherNetworks)", "WordModel, FurtherNetworks, SkipModel)")
    replace_once(
        registry,
        "from charlm.experts.ngram import NgramModel\n",
        "from charlm.experts.ngram import NgramModel\nfrom charlm.experts.skip import SkipModel\n",
    )
    charlm, out = run_in(tmp_path, tiny_corpus), tmp_path / "run"
    answer(charlm("train", "config.yaml", "--out", out, "--set", "model.ngram=3"))
    answer(charlm("train", "--resume", "--out", out, "--budget", "16 steps"))
    assert {path.name for path in out.glob("*.safetensors")} == {
        "model.safetensors", "ngram.safetensors", "skip.safetensors",
    }  # fmt: skip
    shown = answer(charlm("inspect", out)).splitlines()
    head = next(i for i, line in enumerate(shown) if line.startswith("known"))
    assert shown[head].split() == ["known", "network", "ngram", "skip"]
    powers = [line.split() for line in itertools.takewhile(bool, shown[head + 1 :])]
    known = ["0", "1", "2", "0 early", "1 early", "2 early", "0 in all", "1 in all"]
    kinds = [f"{kind} {place}" for kind in known for place in ("first", "later")]
    assert [" ".join(row[:-3]) for row in powers] == kinds  # each kind of context of the one with each of the other
    assert any(float(row[-1]) > 0.05 for row in powers)
    assert answer(charlm("sample", out, "--length", 20, "--count", 2))
    scored = json.loads(answer(charlm("score", out, "the boat sees", "--format", "jsonl")))
    measured = json.loads(answer(charlm("eval", out, "--dynamic", "--format", "json")))
    assert -100 < scored["logprob"] < 0
    assert measured["dynamic_nats_per_character"] < measured["nats_per_character"] + 0.5
    (out / "skip.safetensors").unlink()
    refused = charlm("score", out, "the boat")
    assert (refused.returncode, "skip.safetensors is missing" in refused.stderr) == (2, True)
