"""How long until charlm answers? Alternately with `python -c "import torch"`, the middle of the rounds.

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

from measure import machine, print_table

import charlm

TEXT = "the river was high in the morning and the boat was gone.\n" * 100


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        corpus, run = Path(folder) / "text.txt", Path(folder) / "run"
        corpus.write_text(TEXT)
        config = {"corpus": {"path": str(corpus)}, "model": {"hidden_size": 256}, "training": {"budget": "2 steps"}}
        charlm.train(config, out=run)
        program = str(Path(sys.executable).with_name("charlm"))
        commands = [
            [program, "--help"],
            [sys.executable, "-c", "import torch"],
            [program, "score", str(run), "the river"],
        ]
        rounds = [[seconds(command) for command in commands] for _ in range(options.rounds)]
    help_, torch_, score = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(machine() + "\n")
    print_table(
        [
            ("command", "seconds", "target"),
            ("charlm --help", f"{help_:.2f}", "0.35"),
            ('python -c "import torch"', f"{torch_:.2f}", ""),
            ('charlm score RUN "one sentence"', f"{score:.2f}", f"{torch_ + 0.6:.2f}"),
        ]
    )


if __name__ == "__main__":
    main()
