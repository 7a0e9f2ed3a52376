"""A run from a stranger is gone on with only if its checkpoint is one that this training could have written."""

import json
import math
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch

import charlm
from charlm.errors import InputError, RunError
from charlm.store.run_folder import RunFolder
from hostile import OURS, Attack, Bounds, check_refused, in_place
from runs import StopAt, contents


@pytest.fixture
def run(tmp_path: Path, tiny_mixture_run: Path) -> Path:
    """A finished run that a test may damage."""
    return Path(shutil.copytree(tiny_mixture_run, tmp_path / "run"))


def resume(run: Path) -> None:
    """Goes on with a run for a step."""
    charlm.train(resume=True, out=run, budget="41 steps")


def rewrite(run: Path, change: Callable[[dict[str, torch.Tensor], dict[str, Any]], object]) -> None:
    """Rewrites the checkpoint after a change to its tensors and to what its header says, without a checksum."""
    path = RunFolder(run).last
    with safetensors.safe_open(path, "pt") as file:
        info = json.loads(file.metadata()["info"])
    tensors = {name: value.clone() for name, value in safetensors.torch.load_file(path).items()}
    change(tensors, info)
    info["tensors"] = sorted(tensors)
    path.write_bytes(safetensors.torch.save(tensors, OURS | {"info": json.dumps(info)}))


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Attack:
    return lambda run: rewrite(run, lambda tensors, info: change(tensors))


def info(change: Callable[[dict[str, Any]], object]) -> Attack:
    return lambda run: rewrite(run, lambda tensors, info: change(info))


def setting(key: str, value: Any) -> Attack:
    """Changes the configuration that the checkpoint remembers."""
    section, name = key.split(".")
    return info(lambda info: info["identity"]["config"][section].update({name: value}))


def counter(name: str, value: Any) -> Attack:
    return info(lambda info: info["progress"].update({name: value}))


def logs_of_a_terabyte(run: Path) -> None:
    in_place("samples.txt", "terabyte")(run)
    info(lambda info: info["logs"].update({"samples.txt": [10**12, "0" * 64]}))(run)


H = 16
LAST = "last/checkpoint.safetensors"
ATTACKS: dict[str, tuple[Attack, str]] = {
    # the file
    "a FIFO": (in_place(LAST, "fifo"), "not an ordinary file"),
    "a device": (in_place(LAST, "/dev/zero"), "not an ordinary file"),
    "a terabyte of holes": (in_place(LAST, "terabyte"), "GB of memory"),
    "a header of exabytes": (lambda run: (run / LAST).write_bytes(struct.pack("<Q", 1 << 60)), "header has"),
    # the weights
    "sizes that are allowed and would take 137 GB": (
        lambda run: [setting("model.hidden_size", 16384)(run), setting("model.num_layers", 16)(run)],
        r"asks for float32 \(65536, "),
    "NaN weights": (tensors(lambda t: t["model.output.bias"].fill_(math.nan)), "output.bias has numbers"),
    "a weight of another shape": (tensors(lambda t: t.update({"model.output.bias": torch.ones(3)})), "bias is"),
    "a weight too many": (tensors(lambda t: t.update({"model.../../x": torch.ones(1)})), "does not have"),
    # what the optimiser keeps
    "moments of another shape": (
        tensors(lambda t: t.update({"optimizer.0.exp_avg": torch.ones(1)})), r"0\.exp_avg is float32 \(1,\)"),
    "moments in half precision": (
        tensors(lambda t: t.update({"optimizer.0.exp_avg": t["optimizer.0.exp_avg"].half()})), "is float16"),
    "moments of a parameter too many": (tensors(lambda t: t.update({"optimizer.99.step": torch.ones(())})), "99"),
    "moments that are not finite": (tensors(lambda t: t["optimizer.1.exp_avg"].fill_(math.inf)), "1.exp_avg has"),
    "squares below zero": (tensors(lambda t: t["optimizer.1.exp_avg_sq"].fill_(-1)), "1.exp_avg_sq has"),
    "a step before the first": (tensors(lambda t: t["optimizer.0.step"].fill_(-1)), "0.step has"),
    # the carried state
    "a state of other units": (
        tensors(lambda t: t.update({f"state.0.{i}": torch.zeros(8, H + 1) for i in (0, 1)})), "0.0 is float32"),
    "a state of a layer too many": (tensors(lambda t: t.update({"state.1.0": torch.zeros(8, H)})), "1.0"),
    "a state that is not finite": (tensors(lambda t: t["state.0.1"].fill_(math.nan)), "0.1 has"),
    # random numbers
    "random numbers that are none": (tensors(lambda t: t["rng.cpu"].fill_(255)), "damaged checkpoint"),
    "few random numbers": (tensors(lambda t: t.update({"rng.cpu": t["rng.cpu"][:9].clone()})), "damaged"),
    # counters, and what the run began with
    "a step below zero": (counter("step", -1), "step is -1"),
    "a step that is true": (counter("step", True), "step is True"),
    "an epoch beyond all time": (counter("epoch", 10**300), "epoch is 1000"),
    "a window that is a word": (counter("window", "first"), "window is first"),
    "seconds without end": (counter("seconds", math.inf), "seconds is inf"),
    "a loss that is not a number": (counter("best_loss", math.nan), "best_loss is nan"),
    "a counter too many": (counter("__class__", 1), "does not have the counters"),
    "counters that are a list": (info(lambda info: info.update(progress=[])), "does not have the counters"),
    "a length without end": (info(lambda info: info["logs"].update({"samples.txt": [math.inf, ""]})), "checkpoint"),
    "logs of a terabyte": (logs_of_a_terabyte, "samples.txt: damaged"),
    "known characters that are lists": (info(lambda info: info["identity"].update(known=[[1]])), "known is not"),
    "a known character twice": (info(lambda info: info["identity"].update(known="aa")), "known is not"),
    "framing that is not known yet": (setting("corpus.framing", "auto"), "corpus.framing is 'auto'"),
    "threads without end": (info(lambda info: info["identity"].update(threads=math.inf)), "threads is inf"),
    "a size beyond all bounds": (setting("model.hidden_size", 10**7), "hidden_size"),
    # the files beside it
    "other best weights": (
        lambda run: (run / "model.safetensors").write_bytes(
            safetensors.torch.save({"x": torch.ones(1)}, OURS)), "model.safetensors: the tensor"),
    "metrics are a FIFO": (in_place("metrics.jsonl", "fifo"), "not an ordinary file"),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_checkpoint_is_refused_by_name_in_bounded_time_and_memory(name: str, run: Path, bounds: Bounds):
    attack, complaint = ATTACKS[name]
    attack(run)
    check_refused(resume, run, complaint, bounds)


def test_a_state_that_the_next_window_takes_up_must_have_its_rows(tmp_path: Path, tiny_run: Path, bounds: Bounds):
    run, few = tmp_path / "run", {"model.hidden_size": H, "training.batch_size": 8, "training.sequence_length": 8}
    path = charlm.load(tiny_run).config.corpus.path
    with pytest.raises(charlm.Interrupted):
        charlm.train(
            {"corpus": {"path": path, "framing": "stream"}},
            budget="9 steps",
            out=run,
            overrides=few,
            observer=StopAt(3),
        )
    tensors(lambda t: t.update({f"state.0.{i}": torch.zeros(3, H) for i in (0, 1)}))(run)
    with (
        bounds(),
        pytest.raises(RunError, match=r"0\.0 is float32 \(3, 16\), but the configuration asks for .*\(8, 16\)"),
    ):
        charlm.train(resume=True, out=run)


@pytest.mark.parametrize(
    "name",
    ["config.yaml", "vocabulary.json", "ngram.safetensors", "metrics.jsonl", "samples.txt", "last/lock", LAST],
)
def test_going_on_with_a_run_writes_only_into_its_folder(name: str, run: Path, tmp_path: Path, bounds: Bounds):
    (elsewhere := tmp_path / "elsewhere").write_bytes((run / name).read_bytes() if (run / name).exists() else b"")
    before = elsewhere.read_bytes()
    (run / name).unlink()
    (run / name).symlink_to(elsewhere)
    (run / (name + ".new")).symlink_to(elsewhere)
    with bounds():
        try:
            resume(run)
        except InputError as error:
            assert name == "last/lock", error  # noqa: PT017
    assert elsewhere.read_bytes() == before


@pytest.mark.parametrize("begins", [True, False])
def test_a_link_in_the_place_of_the_last_checkpoints_is_refused_and_what_it_leads_to_is_left_alone(
    begins: bool, run: Path, tmp_path: Path, tiny_corpus: Path
):
    elsewhere = (run / "last").rename(tmp_path / "elsewhere")
    if begins:
        for path in (run, elsewhere):
            shutil.rmtree(path)
            path.mkdir()
    (run / "last").symlink_to(elsewhere)
    before = contents(elsewhere), contents(run)
    what: dict[str, Any] = {"corpus": tiny_corpus} if begins else {"resume": True}
    with pytest.raises(InputError, match=f"^{run}/last: this is a link to another folder"):
        charlm.train(out=run, budget="41 steps", **what)
    assert (contents(elsewhere), contents(run)) == before


def test_a_run_reached_by_a_link_is_scored_and_gone_on_with(run: Path, tmp_path: Path):
    (latest := tmp_path / "latest").symlink_to("run")
    assert charlm.load(latest).score(["the boat"]) == charlm.load(run).score(["the boat"])
    resume(latest)
    assert latest.is_symlink()
    assert RunFolder(run).load_last()[1]["progress"]["step"] == 41


def test_a_configuration_file_that_would_be_waited_for_is_written_anew(run: Path, bounds: Bounds):
    in_place("config.yaml", "fifo")(run)
    with bounds():
        resume(run)
    assert charlm.load(run).score(["the boat"])[0].logprob < 0
