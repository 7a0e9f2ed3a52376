"""`benchmarks/gpu.py` runs as a whole where there is no GPU: on the CPU, in sizes that say nothing."""

import json
import math
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parent.parent


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    import gpu as module

    threads, path = torch.get_num_threads(), list(sys.path)
    yield module
    torch.set_num_threads(threads)
    sys.path[:] = path


def options(**changed: Any) -> Namespace:
    given = {"device": "cpu", "small": True, "threads": [1, 10_000], "minutes": 0.02}
    return Namespace(**(given | changed))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["equality", "moving", "speed", "wide", "writing", "threads", "curve"])
def test_every_part_finds_what_it_looks_for(gpu: ModuleType, name: str, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the heron sees the boat and the miller\n" * 100, encoding="utf-8")
    rows = list(gpu.PARTS[name].run(options(corpus=str(text)), time.monotonic() + 120))
    measured = [row for row in rows if "skipped" not in row]
    assert measured
    assert not any("failed" in row for row in rows)
    assert all(row.get("ok", True) for row in rows)
    speeds = [row[column] for row in measured for column in row if column.endswith("char/s")]
    assert all(speed > 0 for speed in speeds)
    assert bool(speeds) is (name not in ("equality", "moving", "curve"))
    if name == "curve":
        assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)
    if name == "equality":
        assert {row["cell"] for row in measured} == {"rnn", "lstm", "gru", "gru-before"}
        assert all(0 < row["gradients"] < row["tolerance"] for row in measured if row["precision"] == "bfloat16")
    if name == "threads":
        skipped = [row["skipped"] for row in rows if row["threads"] == 10_000]
        assert len(skipped) == 2
        assert all(reason.startswith("this machine has ") for reason in skipped)


def test_a_difference_between_device_and_cpu_is_seen(gpu: ModuleType) -> None:
    comparison = gpu.Comparison("gru", None, 16, (11, 16, 8, 4))
    assert max(comparison.differences(torch.device("cpu"), "python", "float32")) == 0
    comparison.weights["projection.weight"][0, 0] += 0.1
    values, gradients, evaluation = comparison.differences(torch.device("cpu"), "python", "float32")
    assert min(values, gradients, evaluation) > gpu.TOLERANCES["float32"]
    comparison.weights["projection.weight"][0, 0] = math.nan
    assert all(map(math.isnan, comparison.differences(torch.device("cpu"), "python", "float32")))
    assert math.isnan(gpu.largest([1.0, math.nan]))


@pytest.mark.slow
def test_the_command_writes_tables_and_lines_of_json_and_names_what_failed(tmp_path: Path) -> None:
    out, text = tmp_path / "new" / "gpu.jsonl", tmp_path / "text.txt"
    text.write_text("short", encoding="utf-8")
    command = [sys.executable, str(ROOT / "benchmarks/gpu.py"), "--device", "cpu", "--small"]
    command += ["--only", "threads", "curve"]
    command += ["--threads", "1", "10000", "--out", str(out), "--corpus", str(text), "--minutes", "0.02"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "| cell | H | threads | char/s | by | times the first |" in done.stdout
    assert "skipped: cell gru, H 16, threads 10000: this machine has " in done.stdout
    assert "failed: the training ended with exit code 2" in done.stdout
    assert "charlm: " in done.stderr
    machine, *rows = map(json.loads, out.read_text(encoding="utf-8").splitlines())
    assert machine["cores"] >= 1
    assert [row["part"] for row in rows] == ["threads"] * 4 + ["curve"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_the_command_says_what_it_skips_and_why(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["gpu.py", "--only", "equality", "curve", "--out", str(tmp_path / "gpu.jsonl")]
    monkeypatch.setattr(sys, "argv", command)
    assert gpu.main() == 0
    assert capsys.readouterr().out.count("skipped: PyTorch finds no CUDA device on this machine") == 2
    monkeypatch.setattr(sys, "argv", [*command, "--device", "cpu", "--limit", "1"])
    assert gpu.main() == 0
    assert capsys.readouterr().out.count("skipped: the 1 seconds of --limit are spent") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--corpus", "missing.txt"), "--corpus missing.txt: no such file or folder"),
        (("--threads", "0"), "argument --threads: 0: must be a number above 0"),
        (("--limit", "nan"), "argument --limit: nan: must be a number above 0"),
        (("--out", "/dev/null/gpu.jsonl"), "--out /dev/null/gpu.jsonl: cannot be written: "),
    ],
)
def test_wrong_arguments_are_refused_before_any_work(
    gpu: ModuleType,
    arguments: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments])
    with pytest.raises(SystemExit) as error:
        gpu.main()
    assert error.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_part_is_stopped_at_its_limit(gpu: ModuleType) -> None:
    assert list(gpu.run_part("equality", options(), 0.2)) == [{"skipped": "the rest: stopped after 0 seconds"}]
