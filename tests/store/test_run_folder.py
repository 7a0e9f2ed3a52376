"""Files of a run are replaced whole or not at all, and a run folder that is not whole is named, never trusted."""

import builtins
import errno
import io
import json
import os
import pickle
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.errors import InputError, RunError, TrainingError
from charlm.experts.mixture import POWERS, Mixture
from charlm.experts.ngram import NgramModel
from charlm.store.run_folder import RunFolder, write_atomically
from charlm.system.run_format import RUN_FORMAT, FormatError
from models import make_mixture

few = settings(max_examples=25)
OLD, NEW = b"old content", b"new content" * 10_000
HEADER = {"charlm_format": str(RUN_FORMAT)}

Tensors = dict[str, torch.Tensor]


def model(hidden_size: int = 4, **settings: Any) -> Mixture:
    return make_mixture(5, hidden_size=hidden_size, **settings)


def model_with_ngrams() -> Mixture:
    return make_mixture(5, NgramModel([np.array([1, 2, 3, 4])], 5, 0, order=3), hidden_size=4)


def saved_run(parent: Path) -> RunFolder:
    """A run folder with weights and a checkpoint."""
    folder = RunFolder(parent / "run")
    folder.create("config", "vocabulary")
    folder.save_model(model())
    folder.save_last({"a": np.arange(3.0)}, {"step": 7})
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return saved_run(tmp_path)


# --- writing --------------------------------------------------------------------------------------


def no_space(*_: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fill_disk(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Makes one call of writing fail as on a full disk."""
    if place in ("write", "flush"):
        monkeypatch.setattr(builtins, "open", type("Full", (io.FileIO,), {place: no_space}))
    elif place == "open":
        monkeypatch.setattr(builtins, "open", no_space)
    else:
        monkeypatch.setattr(os, place, no_space)


@few
@given(st.binary(max_size=2000), st.binary(max_size=2000))
def test_a_file_holds_what_was_written_last_and_nothing_lies_beside_it(
    tmp_path_factory: pytest.TempPathFactory, first: bytes, second: bytes
):
    folder = tmp_path_factory.mktemp("write")
    for content in (first, second):
        write_atomically(folder / "file", content)
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == {"file": content}


@pytest.mark.parametrize("before", [OLD, None])
@pytest.mark.parametrize("place", ["open", "write", "flush", "fsync", "replace"])
def test_a_disk_that_fills_up_leaves_the_old_content_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, before: bytes | None
):
    path = tmp_path / "file"
    if before is not None:
        path.write_bytes(before)
    with monkeypatch.context() as patch:
        fill_disk(patch, place)
        with pytest.raises(TrainingError) as caught:
            write_atomically(path, NEW)
    assert caught.value.exit_code == 1
    assert f"{path}: cannot be written: {os.strerror(errno.ENOSPC)}" in str(caught.value)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == ({"file": before} if before else {})
    write_atomically(path, NEW)  # once there is room again
    assert path.read_bytes() == NEW


def test_content_is_on_the_disk_before_it_takes_the_place_of_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    calls: list[str] = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, real=real: calls.append(name) or real(*a))
    write_atomically(tmp_path / "file", NEW)
    assert calls[:2] == ["fsync", "replace"]


def test_what_a_killed_process_left_beside_the_file_does_not_matter(tmp_path: Path):
    (tmp_path / "file.new").write_bytes(NEW * 2)
    write_atomically(tmp_path / "file", NEW)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"file": NEW}


def test_a_link_beside_the_file_leads_nowhere(tmp_path: Path):
    (elsewhere := tmp_path / "elsewhere").write_bytes(OLD)
    (tmp_path / "file.new").symlink_to(elsewhere)
    write_atomically(tmp_path / "file", NEW)
    assert elsewhere.read_bytes() == OLD
    assert not (tmp_path / "file").is_symlink()
    assert (tmp_path / "file").read_bytes() == NEW


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A real disk of 64 kB."""
    disk = tempfile.mkdtemp()  # not below tmp_path, which pytest clears while a killed test's disk is still there
    try:
        command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("mounting is not permitted here")
        yield Path(disk)
        subprocess.run(["umount", "-l", disk], check=True)
    finally:
        os.rmdir(disk)


def test_a_real_disk_that_is_full_keeps_the_old_weights(small_disk: Path):
    folder = RunFolder(small_disk / "run")
    folder.create("config", "vocabulary")
    folder.save_model(model())
    before = folder.model.read_bytes()
    with pytest.raises(TrainingError, match="what was saved before is intact"):
        folder.save_model(model(hidden_size=128))
    assert folder.model.read_bytes() == before
    assert not list(folder.path.rglob("*.new"))


@few
@given(st.text(max_size=50), st.text(max_size=50), st.text(max_size=50))
def test_append_cuts_what_the_last_checkpoint_does_not_know_of(
    tmp_path_factory: pytest.TempPathFactory, kept: str, beyond: str, added: str
):
    folder = RunFolder(tmp_path_factory.mktemp("append"))
    folder.make()
    folder.append(folder.metrics, kept)
    folder.save_last({}, {})
    folder.append(folder.metrics, beyond)
    assert folder.metrics.read_bytes() == (kept + beyond).encode()
    later = RunFolder(folder.path)
    later.load_last()
    later.append(later.metrics, added)
    assert folder.metrics.read_bytes() == (kept + added).encode()


def test_a_folder_that_cannot_be_made_is_wrong_input(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot create the run folder") as caught:
        RunFolder(tmp_path / "file" / "run").create("config", "vocabulary")
    assert caught.value.exit_code == 2


# --- reading --------------------------------------------------------------------------------------


def test_weights_and_checkpoint_come_back_as_they_were_saved(folder: RunFolder):
    loaded = model()
    torch.nn.init.zeros_(loaded.network.trained.output.weight)
    folder.load_model(loaded)
    assert same(loaded, model())
    tensors, info = folder.load_last()
    assert np.array_equal(tensors["a"], np.arange(3.0))
    assert info == {"step": 7}


def same(one: Mixture, other: Mixture) -> bool:
    ours, theirs = one.arrays(), other.arrays()
    return ours.keys() == theirs.keys() and all(np.array_equal(value, theirs[name]) for name, value in ours.items())


def test_the_powers_of_a_mixture_come_back_with_the_weights(folder: RunFolder):
    saved, loaded = model_with_ngrams(), model_with_ngrams()
    saved.powers[:] = np.random.default_rng(1).random(saved.powers.shape)
    folder.save_model(saved)
    assert safetensors.torch.load(folder.model.read_bytes())[POWERS].shape == (8, 2)
    folder.load_model(loaded)
    assert same(loaded, saved)
    with pytest.raises(RunError, match=f"has tensors that this model does not have: {POWERS}"):
        folder.load_model(model())
    folder.save_model(model())
    with pytest.raises(RunError, match=f"the tensor {POWERS} is missing"):
        folder.load_model(loaded)


@pytest.mark.parametrize(
    ("powers", "complaint"),
    [
        (torch.ones(3, 3), r"is float32 \(3, 3\), but the configuration asks for float32 \(8, 2\)"),
        (torch.ones(2, 2), r"is float32 \(2, 2\)"),
        (torch.ones(8, 2).double(), "is float64"),
        (torch.full((8, 2), torch.nan), "has numbers that are not finite"),
        (
            torch.tensor([[1.0, 0.0], [1.0, -torch.inf]] + 6 * [[1.0, 0.0]]),
            "has numbers that are not finite",
        ),
        (
            torch.tensor([[1.0, 0.0], [1.0, 1e16]] + 6 * [[1.0, 0.0]]),
            "has numbers that are not finite or are larger than",
        ),
    ],
)
def test_powers_that_no_mixture_can_use_are_refused_by_name_and_change_nothing(
    folder: RunFolder, powers: torch.Tensor, complaint: str
):
    folder.save_model(saved := model_with_ngrams())
    tensors = safetensors.torch.load(folder.model.read_bytes()) | {POWERS: powers}
    folder.model.write_bytes(safetensors.torch.save(tensors, HEADER))
    with pytest.raises(RunError, match=f"{folder.model}: {POWERS} {complaint}"):
        folder.load_model(mine := model_with_ngrams())
    assert same(mine, saved)


def test_before_the_first_evaluation_there_are_no_weights_and_loading_says_how_to_go_on(tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    folder.create("config", "vocabulary")
    assert folder.read_metrics() == []
    with pytest.raises(RunError, match="--resume"):
        folder.load_model(model())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda t: t.pop("output.bias") is None or t, "output.bias is missing"),
        (lambda t: t | {"more": torch.zeros(1)}, "does not have: more"),
        (lambda t: t | {"output.bias": torch.zeros(6)}, r"output.bias is float32 \(6,\).*asks for float32 \(5,\)"),
        (lambda t: t | {"output.bias": torch.zeros(5).double()}, "output.bias is float64"),
        (lambda t: {}, "is missing"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name_and_change_nothing(
    folder: RunFolder, change: Callable[[Tensors], Tensors], complaint: str
):
    tensors = change(safetensors.torch.load(folder.model.read_bytes()))
    folder.model.write_bytes(safetensors.torch.save(tensors, HEADER))
    mine = model()
    torch.nn.init.ones_(mine.network.trained.recurrent.weight_hh_l0)
    with pytest.raises(RunError, match=complaint) as caught:
        folder.load_model(mine)
    assert str(folder.model) in str(caught.value)
    assert bool((mine.network.trained.recurrent.weight_hh_l0 == 1).all())


@pytest.mark.parametrize("other", [{"hidden_size": 5}, {"cell": "gru"}, {"num_layers": 2}, {"bias": False}])
def test_weights_of_another_model_are_refused(folder: RunFolder, other: dict[str, Any]):
    with pytest.raises(RunError):
        folder.load_model(model(**other))


Reader = Callable[[RunFolder], object]
READERS = {"model": lambda folder: folder.load_model(model()), "last": lambda folder: folder.load_last()}
readers = pytest.mark.parametrize(("name", "read"), READERS.items(), ids=READERS)


@readers
@few
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, read: Reader, share: float
):
    folder = saved_run(tmp_path_factory.mktemp("cut"))
    path: Path = getattr(folder, name)
    os.truncate(path, int(share * path.stat().st_size))
    with pytest.raises(RunError, match="damaged"):
        read(folder)


@readers
@few
@given(data=st.data())
def test_a_damaged_header_is_never_more_than_a_run_error(
    tmp_path_factory: pytest.TempPathFactory, name: str, read: Reader, data: st.DataObject
):
    folder = saved_run(tmp_path_factory.mktemp("damage"))
    path: Path = getattr(folder, name)
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, 7 + int.from_bytes(content[:8], "little")))
    content[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[at]))
    path.write_bytes(content)
    try:
        read(folder)
    except RunError as error:
        assert str(path) in str(error)  # noqa: PT017
    else:
        assert at >= 8  # a length that is not the header's can never be read


@readers
@pytest.mark.parametrize("header", [None, {}, {"charlm_format": "soon"}])
def test_a_file_of_another_program_is_refused(folder: RunFolder, name: str, read: Reader, header: Any):
    getattr(folder, name).write_bytes(safetensors.numpy.save(model().arrays(), header))
    with pytest.raises(RunError, match="not written by charlm"):
        read(folder)


@readers
def test_a_newer_format_is_refused_with_what_to_do(folder: RunFolder, name: str, read: Reader):
    header = {"charlm_format": str(RUN_FORMAT + 1), "info": json.dumps({})}
    getattr(folder, name).write_bytes(safetensors.numpy.save(model().arrays(), header))
    with pytest.raises(RunError, match=rf"newer charlm \(format {RUN_FORMAT + 1}\); install"):
        read(folder)


@readers
def test_an_older_format_is_refused_with_what_to_do(folder: RunFolder, name: str, read: Reader):
    header = {"charlm_format": str(RUN_FORMAT - 1), "info": json.dumps({})}
    getattr(folder, name).write_bytes(safetensors.numpy.save(model().arrays(), header))
    with pytest.raises(FormatError, match=rf"format {RUN_FORMAT - 1}\).*; train the model again: .*config\.yaml"):
        read(folder)


class Bomb:
    """What a pickle may run when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.mark, "executed"))


@readers
@pytest.mark.parametrize("dump", [lambda bomb, path: path.write_bytes(pickle.dumps(bomb)), torch.save])
def test_a_pickle_is_refused_and_not_executed(
    folder: RunFolder, tmp_path: Path, name: str, read: Reader, dump: Callable[[Bomb, Path], object]
):
    dump(Bomb(tmp_path / "mark"), getattr(folder, name))
    with pytest.raises(RunError, match="not a safetensors file"):
        read(folder)
    assert not (tmp_path / "mark").exists()


def test_a_metrics_line_that_is_not_json_is_named(folder: RunFolder):
    folder.metrics.write_text('{"step": 1}\n{"step": \n')
    with pytest.raises(RunError, match=r"metrics.jsonl, line 2"):
        folder.read_metrics()


def test_a_run_folder_holds_its_files_and_nothing_else(tiny_run: Path):
    assert {str(file.relative_to(tiny_run)) for file in tiny_run.rglob("*") if file.is_file()} == {
        "config.yaml", "vocabulary.json", "model.safetensors", "metrics.jsonl", "samples.txt",
        "last/checkpoint.safetensors", "last/lock",
    }  # fmt: skip
