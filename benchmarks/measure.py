"""What the benchmarks share: alternating measurements, rivals in a clean process, default models, tables, texts."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import torch

import charlm

Workload = Callable[[], float]  # does some work and returns the amount done (characters, for example)
Meter = Callable[[float], float]  # given seconds to measure for, returns the amount of work done per second

_PEAK_MATRIX_SIZE = 1024
_PEAK_TRIALS = 5


def throughput(workload: Workload, seconds: float) -> float:
    """The amount of work done per second. The workload runs once before the clock starts, to warm up."""
    workload()
    start, done = time.perf_counter(), 0.0
    while time.perf_counter() - start < seconds:
        done += workload()
    return done / (time.perf_counter() - start)


def in_this_process(workload: Workload) -> Meter:
    """Measures a workload in this process, with charlm's settings for memory and threads."""
    return partial(throughput, workload)


class InCleanProcess:
    """Measures a workload in a process of its own, which has none of charlm's settings: plain torch.

    The process sleeps while it is not being measured.

    Args:
        factory: a function at the top of a module that builds the workload; it is called in the new process.
        args: arguments for the factory.
    """

    def __init__(self, factory: Callable[..., Workload], *args: object) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, child_connection = context.Pipe()
        settings = {name: os.environ.pop(name) for name in ("GOMP_SPINCOUNT",) if name in os.environ}
        context.Process(target=_serve, args=(child_connection, factory, args), daemon=True).start()
        os.environ.update(settings)

    def __call__(self, seconds: float) -> float:
        self._connection.send(seconds)
        return float(self._connection.recv())


def _serve(connection: Connection, factory: Callable[..., Workload], args: tuple[object, ...]) -> None:
    torch.manual_seed(0)
    workload = factory(*args)
    with contextlib.suppress(EOFError):  # raised when the benchmark has ended
        while True:
            connection.send(throughput(workload, connection.recv()))


def matmul_peak_gflops(seconds: float = 1.0) -> float:
    """The machine's float32 matrix-multiply peak in GFLOP/s for 1024 x 1024 matrices: the best of five trials."""
    size = _PEAK_MATRIX_SIZE
    a, b, out = torch.randn(3, size, size)

    def multiply() -> float:
        torch.mm(a, b, out=out)
        return 2 * size**3 / 1e9

    return max(throughput(multiply, seconds / _PEAK_TRIALS) for _ in range(_PEAK_TRIALS))


def alternating_medians(meters: Sequence[Meter], rounds: int, seconds: float) -> list[float]:
    """The median speed of each meter. Every round runs all of them, so that a slow moment affects all alike."""
    speeds = [[meter(seconds) for meter in meters] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*speeds, strict=True)]


def train_default(hidden_size: int, folder: Path) -> charlm.LanguageModel:
    """Trains for one step what `charlm train --corpus english` makes: an LSTM with 9-grams and word contexts.

    The step leaves the weights as they are: the learning rate begins at zero. The n-grams are counted on the first
    nine tenths of the text, and the last tenth decides how far each of the two is trusted.
    """
    config = {
        "corpus": {"path": "corpus:english"},
        "model": {"hidden_size": hidden_size, "ngram": 9, "words": True},  # what the recipe mixes in
        "training": {"budget": "1 steps", "device": "cpu"},
        "sampling": {"length": 1},
    }
    return charlm.train(config, out=folder)


def default_model(hidden_size: int) -> charlm.LanguageModel:
    """Returns the model that `train_default` makes, without its run folder."""
    with tempfile.TemporaryDirectory() as folder:
        return train_default(hidden_size, Path(folder) / "run")


def shuffle_lines(source: Path, held_out_lines: int, target: Path) -> float:
    """Writes the lines of a text in random order; returns which share of them the last `held_out_lines` are."""
    lines = source.read_text(encoding="utf-8").splitlines()
    random.Random(0).shuffle(lines)
    target.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return held_out_lines / len(lines)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Prints rows as a Markdown table; the first row is the header."""
    header, *body = rows
    for row in (header, ["---", *["---:"] * (len(header) - 1)], *body):
        print("| " + " | ".join(row) + " |", flush=True)


def describe_machine() -> str:
    """The processor, the number of threads and the version of torch that the figures belong to."""
    with open("/proc/cpuinfo") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return f"{names[0] if names else 'unknown'}, {torch.get_num_threads()} threads, torch {torch.__version__}"
