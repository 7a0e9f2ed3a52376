"""A wheel that was built with a C compiler trains, scores and writes as fast where there is none.

It carries a library for each kind of processor. Their numbers are those of the library that is compiled here.
"""

import ctypes
import json
import os
import platform
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from charlm import kernels
from charlm.experts.ngram import NgramModel
from charlm.kernels.compiling import BUILDS, choose, file_name, find_compiler, processor_features
from models import CELLS, make_network, randomize
from packages import NO_COMPILER, ROOT, build, install

MACHINE = platform.machine()
T, B, H, V = 5, 9, 40, 20

pytestmark = pytest.mark.slow
carries = pytest.mark.skipif(
    find_compiler() is None or sys.platform != "linux" or MACHINE not in BUILDS,
    reason="no such wheel is built here",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"), find_compiler() or NO_COMPILER)


def libraries(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if name.endswith(".so")}


@carries
def test_it_has_a_library_for_each_kind_of_processor_and_fits_every_python(wheel: Path) -> None:
    assert wheel.stem.endswith(f"-py3-none-linux_{MACHINE}")
    assert libraries(wheel) == {f"charlm/kernels/{file_name(build)}" for build in BUILDS[MACHINE]}


@pytest.mark.parametrize("system", ["no compiler", "a compiler that fails", "arm64-apple-darwin24.0.0"])
def test_without_a_compiler_for_linux_it_has_none_and_fits_every_system(system: str, tmp_path: Path) -> None:
    compiler = {"no compiler": NO_COMPILER, "a compiler that fails": "false"}.get(system)
    if compiler is None:
        compiler = str(tmp_path / "cc")
        Path(compiler).write_text(f"#!/bin/sh\necho {system}\n")
        Path(compiler).chmod(0o755)
    wheel = build(ROOT, "wheel", tmp_path, compiler)
    assert wheel.stem.endswith("-py3-none-any")
    assert not libraries(wheel)


def network_numbers(precision: str) -> list[NDArray[np.float32]]:
    """Logits and gradients of small networks, by the kernels that there are."""
    rng = torch.Generator().manual_seed(0)
    ids = torch.randint(V, (T, B), generator=rng)
    found = []
    for cell in CELLS:
        network = make_network(V, cell=cell, hidden_size=H, num_layers=2, kernel="compiled", precision=precision)
        features, _ = randomize(network, std=0.15).features(ids, network.initial_state(B), rng)
        (logits := network.logits(features)).square().mean().backward()
        gradients = [parameter.grad for parameter in network.parameters()]
        found += [part.detach().numpy() for part in (logits, *gradients) if part is not None]
    return found


def ngram_numbers() -> NDArray[np.float32]:
    """What n-grams predict, by the kernels that there are."""
    rng = np.random.default_rng(0)
    ngrams = NgramModel([rng.zipf(1.5, 2000).astype(np.int32) % V], V, 0, 6)
    readings, _ = ngrams.advance(rng.integers(V, size=(T, B)), ngrams.initial_state(B))
    return ngrams.log_probs(readings.reshape(T * B, -1))


@carries
def test_each_that_this_processor_can_run_gives_the_numbers_of_the_one_compiled_here(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    in_float32, in_bfloat16 = network_numbers("float32"), None
    if kernels.has_bfloat16():
        in_bfloat16 = network_numbers("bfloat16")
    of_ngrams = ngram_numbers()
    for each in choose(MACHINE, processor_features()):
        shipped = ctypes.CDLL(str(tmp_path / "charlm" / "kernels" / file_name(each)))
        monkeypatch.setattr(kernels, "library", lambda library=shipped: library)
        assert kernels.has_bfloat16() == ("bfloat16" in each.name)
        for found, expected in zip(network_numbers("float32"), in_float32, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
        if kernels.has_bfloat16() and in_bfloat16 is not None:
            for found, expected in zip(network_numbers("bfloat16"), in_bfloat16, strict=True):
                assert np.linalg.norm(found - expected) < 0.03 * np.linalg.norm(expected)
        np.testing.assert_allclose(ngram_numbers(), of_ngrams, rtol=1e-6, atol=1e-6)


@carries
def test_without_compiler_cache_or_leave_to_write_it_trains_scores_and_writes_with_its_kernels(
    wheel: Path, tmp_path: Path, tiny_corpus: Path
) -> None:
    package = install(wheel, tmp_path / "environment")
    charlm = tmp_path / "environment" / "bin" / "charlm"
    files = {path: path.stat().st_mtime_ns for path in package.rglob("*")}
    for path in [*files, package]:
        path.chmod(path.stat().st_mode & ~0o222)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment |= {"PATH": str(charlm.parent), "CC": NO_COMPILER, "CHARLM_CACHE": f"{os.devnull}/cache"}

    def run(*words: str | Path) -> str:
        done = subprocess.run([charlm, *words], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "no C compiler" not in done.stderr
        return done.stdout

    fastest = next(choose(MACHINE, processor_features()))
    settings = "model: {hidden_size: 16}\ntraining: {kernel: compiled, batch_size: 4, budget: 20 steps}\n"
    (tmp_path / "tiny.yaml").write_text(f"corpus: {{path: {tiny_corpus}}}\n{settings}", encoding="utf-8")
    told = run("config", "check", tmp_path / "tiny.yaml")
    assert f"compiled, in float32; shipped with charlm, for {fastest.name}" in " ".join(told.split())
    run("train", tmp_path / "tiny.yaml", "--out", tmp_path / "run")
    assert json.loads(run("score", tmp_path / "run", "the boat", "--format", "jsonl"))["logprob"] < 0
    assert len(run("sample", tmp_path / "run", "--length", "50", "--seed", "1")) > 50
    assert {path: path.stat().st_mtime_ns for path in package.rglob("*")} == files
