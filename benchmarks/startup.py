"""How long does the command line take to answer, compared with `python -c "import torch"`?

Measures the seconds of whole commands: `charlm --help`, and `charlm score` of one sentence and `charlm sample` of
60 characters with what `charlm train --corpus` makes by default, here an LSTM of 256 units mixed with 9-grams
and word contexts of charlm's corpus `english`. None of them loads torch. The commands and the import run
alternately; the medians of the rounds are printed, and beside them their ratio to the import.

    python benchmarks/startup.py [--rounds 7]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import describe_machine, print_table, train_default

HELP_TARGET_SECONDS = 0.35
ANSWER_TARGET_SECONDS = 0.6


def wall_seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        train_default(256, run)
        program = str(Path(sys.executable).with_name("charlm"))
        commands = {
            'python -c "import torch"': ([sys.executable, "-c", "import torch"], None),
            "charlm --help": ([program, "--help"], HELP_TARGET_SECONDS),
            'charlm score RUN "one sentence"': ([program, "score", str(run), "the river"], ANSWER_TARGET_SECONDS),
            "charlm sample RUN --length 60": (
                [program, "sample", str(run), "--length", "60"],
                ANSWER_TARGET_SECONDS,
            ),
        }
        rounds = [[wall_seconds(command) for command, _ in commands.values()] for _ in range(options.rounds)]
    medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
    print(describe_machine() + "\n")
    rows = [("command", "seconds", "target", 'of `python -c "import torch"`')]
    for (name, (_, target)), seconds in zip(commands.items(), medians, strict=True):
        rows.append((name, f"{seconds:.2f}", f"{target:.2f}" if target else "", f"{seconds / medians[0]:.2f}"))
    print_table(rows)


if __name__ == "__main__":
    main()
