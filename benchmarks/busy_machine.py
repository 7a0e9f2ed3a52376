"""How much of its speed does a training keep while a second one runs on the same cores?

Measures whole training steps as `charlm train` makes them by default, in characters per second: one training
alone and two at once, with the threads as `charlm train` sets them (GOMP_SPINCOUNT=1000) and beside that with
torch's default (threads spin at barriers). All four run in each round; the medians, and the share of its speed
alone that each of two trainings keeps, are printed.

    python benchmarks/busy_machine.py [--rounds 3] [--seconds 4]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

from measure import describe_machine, print_table

SHAPES = [("lstm", 256, 16, 64), ("gru", 256, 16, 64)]  # cell, H, B, T
SPIN_COUNT = "1000"  # as the command-line program sets it
SHARE_TARGET = 0.35
PROGRAM = """
import sys
from training_speed import charlm_training, measure_speed
from charlm.system.allocator import keep_freed_memory
keep_freed_memory()
cell, hidden, batch, length, seconds = sys.argv[1], *map(float, sys.argv[2:])
print(measure_speed(*charlm_training(cell, int(hidden), 1, int(batch), int(length)), seconds))
"""


def start_training(shape: tuple[object, ...], seconds: float, spin_count: str | None) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"}
    here = os.path.dirname(os.path.abspath(__file__))
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    if spin_count:
        environment["GOMP_SPINCOUNT"] = spin_count
    command = [sys.executable, "-c", PROGRAM, *map(str, shape), str(seconds)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def speeds_at_once(count: int, shape: tuple[object, ...], seconds: float, spin_count: str | None) -> list[float]:
    running = [start_training(shape, seconds, spin_count) for _ in range(count)]
    return [float(process.communicate()[0]) for process in running]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    print(describe_machine() + "\n")
    rows = [("cell, H, B x T", "one training, char/s", "two at once, each", "share", "target",
             "torch's default threads: one, char/s", "two at once, each", "share")]  # fmt: skip
    for cell, hidden, batch, length in SHAPES:
        shape = cell, hidden, batch, length
        found: list[list[float]] = [[], [], [], []]
        for _ in range(options.rounds):
            found[0] += speeds_at_once(1, shape, options.seconds, SPIN_COUNT)
            found[1].append(min(speeds_at_once(2, shape, options.seconds, SPIN_COUNT)))
            found[2] += speeds_at_once(1, shape, options.seconds, None)
            found[3].append(min(speeds_at_once(2, shape, options.seconds, None)))
        one, two, default_one, default_two = map(statistics.median, found)
        rows.append(
            (f"{cell} {hidden}, {batch} x {length}", f"{one:,.0f}", f"{two:,.0f}",
             f"{two / one:.0%}", f"{SHARE_TARGET:.0%}",
             f"{default_one:,.0f}", f"{default_two:,.0f}", f"{default_two / default_one:.0%}")
        )  # fmt: skip
    print_table(rows)


if __name__ == "__main__":
    main()
