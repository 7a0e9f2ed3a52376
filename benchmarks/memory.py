"""Does memory grow with the corpus? Trains a tiny model for a few steps on texts of growing size.

Each training is a process of its own. Shown are the seconds from the call of `charlm.train` to the end of the first
step, and the most memory that the process held of its own (RssAnon of Linux: what is mapped from a file does not
count, since the system takes it back when it needs it); each for a text that is read for the first time, and again.

    python benchmarks/memory.py [--megabytes 10 100 1000] [--framings stream lines] [--folder /tmp]

The folder needs room for three times the largest text; everything in it is removed at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from measure import print_table


def write_text(path: Path, megabytes: int) -> None:
    """Writes lines of words of an invented language."""
    rng = random.Random(0)
    words = [
        "".join(rng.choices("etaoinshrdlucmfwypvbgkqjxz", range(26, 0, -1), k=rng.randint(1, 9)))
        for _ in range(5000)
    ]
    lines = [" ".join(rng.choices(words, k=rng.randint(3, 20))).capitalize() + ".\n" for _ in range(15_000)]
    block = "".join(lines).encode("ascii")[: 10**6 - 1] + b"\n"
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(block)


def own_megabytes() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024 / 1e6


class Watch:
    """Notes the first step and, in a thread, the most memory."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.first_step: float | None = None
        self.peak = 0.0
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while True:
            self.peak = max(self.peak, own_megabytes())
            time.sleep(0.005)

    def on_step(self, report: object) -> None:
        if self.first_step is None:
            self.first_step = time.perf_counter() - self.began

    def on_evaluation(self, metrics: object, sample: str, is_best: bool) -> None:
        pass


def train(path: str, framing: str) -> None:
    import charlm

    config = {
        "corpus": {"path": path, "framing": framing, "validation": 0.01},
        "model": {"cell": "gru", "hidden_size": 16},
        "training": {"budget": "50 steps", "batch_size": 64, "sequence_length": 32, "device": "cpu"},
    }
    with tempfile.TemporaryDirectory() as out:
        charlm.train({**config}, out=Path(out) / "run", threads=1, observer=(watch := Watch()))
    print(json.dumps({"first_step": watch.first_step, "peak": watch.peak}))


def measured(path: Path, framing: str) -> dict[str, float]:
    environment = {**os.environ, "CHARLM_CACHE": str(path.parent), "TMPDIR": str(path.parent)}
    command = [sys.executable, __file__, "--train", str(path), framing]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--framings", nargs="+", default=["stream", "lines"])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--train", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        return train(*options.train)
    rows = [("text, framing", "first step after", "memory", "again: first step after", "memory")]
    for megabytes in options.megabytes:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            path = Path(folder) / "text.txt"
            write_text(path, megabytes)
            for framing in options.framings:
                found = [measured(path, framing) for _ in ("new", "again")]
                cells = [cell for f in found for cell in (f"{f['first_step']:.1f} s", f"{f['peak']:.0f} MB")]
                rows.append((f"{megabytes} MB, {framing}", *cells))
    print_table(rows)
    return None


if __name__ == "__main__":
    main()
