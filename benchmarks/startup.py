"""How long does the command line take to answer, compared with `python -c "import torch"`?

Measures the seconds of whole commands: `charlm --help`, and `charlm score` of one sentence with what `charlm
train --corpus` makes by default, here an LSTM of 256 units mixed with 9-grams of charlm's corpus `english`. The
commands and the import run alternately; the medians of the rounds are printed, and beside the import their
ratio and their difference.

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
SCORE_TARGET_SECONDS = 0.6  # more than `import torch`


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
        commands = [
            [program, "--help"],
            [sys.executable, "-c", "import torch"],
            [program, "score", str(run), "the river"],
        ]
        rounds = [[wall_seconds(command) for command in commands] for _ in range(options.rounds)]
    help_seconds, torch_seconds, score_seconds = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(describe_machine() + "\n")
    header = ("command", "seconds", "target", 'of `python -c "import torch"`', "seconds more", "target")
    rows = [header, ('python -c "import torch"', f"{torch_seconds:.2f}", "", "", "", "")]
    for command, seconds, target, more_target in (
        ("charlm --help", help_seconds, f"{HELP_TARGET_SECONDS:.2f}", ""),
        ('charlm score RUN "one sentence"', score_seconds, "", f"{SCORE_TARGET_SECONDS:.2f}"),
    ):
        beside = f"{seconds / torch_seconds:.2f}", f"{seconds - torch_seconds:+.2f}"
        rows.append((command, f"{seconds:.2f}", target, *beside, more_target))
    print_table(rows)


if __name__ == "__main__":
    main()
