"""What do two trainings side by side on the same cores leave each other?

The same training alone and twice at once, as `charlm train` sets the threads (GOMP_SPINCOUNT=1000), and as torch
comes (threads that spin at barriers until they are let go on). The middle of the rounds.

    python benchmarks/busy_machine.py [--rounds 3] [--seconds 4]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

from measure import machine, print_table

SHAPES = [("lstm", 256, 16, 64), ("gru", 256, 16, 64)]
PROGRAM = """
import sys, numpy as np
from training_speed import FLOAT32, own
from measure import per_second
from charlm.system.allocator import keep_freed_memory
keep_freed_memory()
cell, hidden, batch, length, seconds = sys.argv[1], *map(float, sys.argv[2:])
print(per_second(own(cell, int(hidden), 1, int(batch), int(length), FLOAT32), seconds))
"""


def start(shape: tuple[object, ...], seconds: float, spin: str | None) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"}
    environment["PYTHONPATH"] = os.path.dirname(os.path.abspath(__file__))
    if spin:
        environment["GOMP_SPINCOUNT"] = spin
    command = [sys.executable, "-c", PROGRAM, *map(str, shape), str(seconds)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def speeds(count: int, shape: tuple[object, ...], seconds: float, spin: str | None) -> list[float]:
    running = [start(shape, seconds, spin) for _ in range(count)]
    return [float(process.communicate()[0]) for process in running]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    print(machine() + "\n")
    rows = [("cell, H, B x T", "alone char/s", "torch's threads alone", "two at once, each", "of alone", "target",
             "torch's threads, each", "of alone")]  # fmt: skip
    for cell, hidden, batch, length in SHAPES:
        shape = cell, hidden, batch, length
        found: list[list[float]] = [[], [], [], []]
        for _ in range(options.rounds):
            found[0] += speeds(1, shape, options.seconds, "1000")
            found[1] += speeds(1, shape, options.seconds, None)
            found[2].append(min(speeds(2, shape, options.seconds, "1000")))
            found[3].append(min(speeds(2, shape, options.seconds, None)))
        alone, plain, two, plain_two = map(statistics.median, found)
        rows.append(
            (f"{cell} {hidden}, {batch} x {length}", f"{alone:,.0f}", f"{plain:,.0f}", f"{two:,.0f}",
             f"{two / alone:.0%}", "35%", f"{plain_two:,.0f}", f"{plain_two / plain:.0%}")
        )  # fmt: skip
    print_table(rows)


if __name__ == "__main__":
    main()
