"""What the benchmarks share: speeds, the machine's peak, alternating rounds, rivals elsewhere, plain tables."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection

import torch

Act = Callable[[], float]  # does something, and returns how much of it
Speed = Callable[[float], float]  # seconds to measure → how much is done in a second


def per_second(act: Act, seconds: float) -> float:
    """How much of what `act` returns (characters, say) is done in a second; called once before the clock starts."""
    act()
    start, done = time.perf_counter(), 0.0
    while time.perf_counter() - start < seconds:
        done += act()
    return done / (time.perf_counter() - start)


def here(act: Act) -> Speed:
    """Measures an act in this process."""
    return partial(per_second, act)


class Elsewhere:
    """Measures an act in a process of its own, which has nothing of charlm's settings: torch as it comes.

    It sleeps while others have their turn.

    Args:
        factory: a function of a module, which makes the act there.
        args: for it.
    """

    def __init__(self, factory: Callable[..., Act], *args: object) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        settings = {name: os.environ.pop(name) for name in ("GOMP_SPINCOUNT",) if name in os.environ}
        context.Process(target=_serve, args=(theirs, factory, args), daemon=True).start()
        os.environ.update(settings)

    def __call__(self, seconds: float) -> float:
        self._connection.send(seconds)
        return float(self._connection.recv())


def _serve(connection: Connection, factory: Callable[..., Act], args: tuple[object, ...]) -> None:
    torch.manual_seed(0)
    act = factory(*args)
    with contextlib.suppress(EOFError):  # when the benchmark has ended
        while True:
            connection.send(per_second(act, connection.recv()))


def peak(seconds: float = 1.0) -> float:
    """The machine's float32 matrix-multiply peak in GFLOP/s, at 1024³: the best of five."""
    a, b, out = torch.randn(3, 1024, 1024)

    def product() -> float:
        torch.mm(a, b, out=out)
        return 2 * 1024**3 / 1e9

    return max(per_second(product, seconds / 5) for _ in range(5))


def alternately(speeds: Sequence[Speed], rounds: int, seconds: float) -> list[float]:
    """The median of each speed; in each round all have their turn, so that a noisy moment hits all alike."""
    found = [[speed(seconds) for speed in speeds] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*found, strict=True)]


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Prints rows as a table in Markdown; the first row is the head."""
    head, *rest = rows
    for row in (head, ["---", *["---:"] * (len(head) - 1)], *rest):
        print("| " + " | ".join(row) + " |", flush=True)


def machine() -> str:
    """Names what the figures are of."""
    with open("/proc/cpuinfo") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return f"{names[0] if names else 'unknown'}, {torch.get_num_threads()} threads, torch {torch.__version__}"
