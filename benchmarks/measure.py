"""What the benchmarks share: speeds, the machine's peak, alternating rounds, plain tables."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch


def per_second(act: Callable[[], float], seconds: float) -> float:
    """How much of what `act` returns (characters, say) is done in a second; called once before the clock starts."""
    act()
    start, done = time.perf_counter(), 0.0
    while time.perf_counter() - start < seconds:
        done += act()
    return done / (time.perf_counter() - start)


def peak(seconds: float = 1.0) -> float:
    """The machine's float32 matrix-multiply peak in GFLOP/s, at 1024³."""
    a, b, out = torch.randn(3, 1024, 1024)

    def product() -> float:
        torch.mm(a, b, out=out)
        return 2 * 1024**3 / 1e9

    return per_second(product, seconds)


def alternately(acts: Sequence[Callable[[], float]], rounds: int, seconds: float) -> list[float]:
    """The median speed of each act; in each round all have their turn, so that a noisy moment hits all alike."""
    speeds = [[per_second(act, seconds) for act in acts] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*speeds, strict=True)]


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Prints rows in columns, the first to the left, the others to the right; the first row is the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        first, *others = (cell.ljust(w) if i == 0 else cell.rjust(w)
                          for i, (cell, w) in enumerate(zip(row, widths, strict=True)))  # fmt: skip
        print("  ".join([first, *others]).rstrip(), flush=True)


def machine() -> str:
    return f"{torch.get_num_threads()} threads, torch {torch.__version__}"
