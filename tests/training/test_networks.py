"""Several networks: each is trained as it would be alone, and stopping between or within them changes nothing."""

import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch

import charlm
from charlm.config import load_config
from charlm.errors import ConfigError, Interrupted, RunError
from charlm.store.run_folder import RunFolder
from charlm.store.tensors import pack_tensors
from charlm.system.distributed import Ranks
from charlm.training.choice import divide
from charlm.training.reports import Metrics, StepReport
from runs import config, outcome

KIND = "stream-rnn-networks"


class StopIn:
    """Sends this process a signal behind a step of one of the networks, the first of which is 1."""

    def __init__(self, network: int, step: int) -> None:
        self.network, self.step, self.now = network, step, 0

    def on_step(self, report: StepReport | Metrics, *_: object) -> None:
        if (self.now, report.step) == (self.network, self.step):
            signal.raise_signal(signal.SIGINT)

    on_evaluation = on_step

    def on_note(self, note: str) -> None:
        self.now = int(note.split()[1]) if note.startswith("network ") else self.now


def three(corpus: Path) -> dict[str, Any]:
    settings = config(corpus, KIND, budget="36 steps")
    settings["model"] = settings["model"] | {"networks": 3}
    return settings


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path) -> Path:
    path = tmp_path_factory.mktemp("several") / "run"
    charlm.train(three(tiny_corpus), out=path)
    return path


def test_each_network_is_what_it_would_be_alone(run: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    (further,) = (expert for expert in charlm.load(run).mixture.others if expert.name == "networks")
    found = [charlm.load(run).mixture.network.arrays(), *(member.arrays() for member in further.members)]
    for number, seed in enumerate((1, 2, 3)):
        settings = config(tiny_corpus, KIND, budget="12 steps", seed=seed)
        settings["model"] = settings["model"] | {"networks": 1, "ngram": None}
        alone = charlm.train(settings, out=tmp_path / str(seed)).mixture.network.arrays()
        if number:  # the weights of the last are chosen by the loss of the mixture
            assert all(np.array_equal(value, alone[name]) for name, value in found[number].items())
    assert not (run / "networks").exists()
    assert charlm.load(run).mixture.parameters == sum(value.size for arrays in found for value in arrays.values())


def test_the_loss_of_a_run_is_that_of_all_networks_together(run: Path) -> None:
    lm = charlm.load(run)
    best = min(row["validation_loss"] for row in RunFolder(run).read_metrics())
    assert lm.evaluate().nats_per_character == pytest.approx(best, abs=2e-4)


@pytest.mark.parametrize(("network", "step"), [(1, 5), (2, 12), (3, 1), (3, 7)])
def test_stopped_in_any_of_them_and_resumed_it_equals_the_uninterrupted_run(
    network: int, step: int, run: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    stopped = tmp_path / "a run"
    with pytest.raises(Interrupted) as caught:  # a signal behind the last step of a network is heeded in the next
        charlm.train(three(tiny_corpus), out=stopped, observer=StopIn(network, step))
    assert f"continue it with `charlm train --resume --out '{stopped}'`" in str(caught.value)
    assert caught.value.exit_code == 130
    if network < 3:
        with pytest.raises(
            RunError, match=r"incomplete, because .*; continue it with `charlm train --resume --out"
        ):
            charlm.load(stopped)
    charlm.train(None, out=stopped, resume=True)
    assert outcome(stopped) == outcome(run)
    assert not (stopped / "networks").exists()


def test_networks_that_a_stranger_made_are_refused(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    for change, said in (
        (lambda a: a["1.output.bias"].fill(np.nan), "1.output.bias has numbers that are not finite"),
        (
            lambda a: a["2.output.weight"].fill(1e30),
            "2.output.weight has numbers that are not finite, or too large",
        ),
        (lambda a: a.pop("2.output.bias"), "2.output.bias is missing"),
    ):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(run, copy)
        arrays = safetensors.numpy.load_file(copy / "networks.safetensors")
        change(arrays)
        (copy / "networks.safetensors").write_bytes(pack_tensors(arrays, {}))
        with pytest.raises(RunError, match=f"networks.safetensors: damaged: {said}"):
            charlm.load(copy)


def test_going_on_from_a_run_trains_one_network(run: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    notes: list[str] = []

    class Listening(StopIn):
        def on_note(self, note: str) -> None:
            notes.append(note)

    lm = charlm.train(
        None, corpus=tiny_corpus, budget="2 steps", from_run=run, out=tmp_path / "run", observer=Listening(0, 0)
    )
    assert lm.config.model.networks == 1
    assert any(note.startswith("networks: one") for note in notes)


def test_several_processes_refuse_several_networks(tiny_corpus: Path) -> None:
    class Two(Ranks):
        size = 2

        def __init__(self) -> None:
            pass

    with pytest.raises(ConfigError, match=r"model\.networks is 3, but several processes train only one network"):
        divide(load_config(three(tiny_corpus)), torch.device("cpu"), Two())
