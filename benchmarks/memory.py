"""Does the memory of a training grow with the length of its text?

Trains a tiny network (GRU of 16 units, windows of 64 x 32, one thread, no n-grams) for 50 steps on texts of
growing size, each in a process of its own, and prints two numbers: the seconds from the call of `charlm.train`
to the end of the first step, and the most memory that the process held of its own at any time. Memory is
Linux's RssAnon: pages mapped from a file do not count, since the system takes them back when it needs them.
Each text is measured twice: when it is read for the first time, and again when its encoding is already in the
cache. There is no rival: each text stands beside the smaller ones.

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

from measure import describe_machine, print_table

_POLL_SECONDS = 0.005


def write_text(path: Path, megabytes: int) -> None:
    """Writes lines of words from an invented language."""
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


def private_megabytes() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024 / 1e6


class MemoryWatch:
    """Observes a training: when its first step ended, and in a thread of its own the peak of its memory."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.first_step_seconds: float | None = None
        self.peak_megabytes = 0.0
        threading.Thread(target=self._poll, daemon=True).start()

    def _poll(self) -> None:
        while True:
            self.peak_megabytes = max(self.peak_megabytes, private_megabytes())
            time.sleep(_POLL_SECONDS)

    def on_step(self, report: object) -> None:
        if self.first_step_seconds is None:
            self.first_step_seconds = time.perf_counter() - self.start

    def on_evaluation(self, metrics: object, sample: str, is_best: bool) -> None:
        pass

    def on_note(self, note: str) -> None:
        pass


def train(path: str, framing: str) -> None:
    import charlm

    config = {
        "corpus": {"path": path, "framing": framing, "validation": 0.01},
        "model": {"cell": "gru", "hidden_size": 16},
        "training": {"budget": "50 steps", "batch_size": 64, "sequence_length": 32, "device": "cpu"},
    }
    with tempfile.TemporaryDirectory() as out:
        charlm.train({**config}, out=Path(out) / "run", threads=1, observer=(watch := MemoryWatch()))
    print(json.dumps({"seconds": watch.first_step_seconds, "megabytes": watch.peak_megabytes}))


def measure_training(path: Path, framing: str) -> dict[str, float]:
    environment = {**os.environ, "CHARLM_CACHE": str(path.parent), "TMPDIR": str(path.parent)}
    command = [sys.executable, __file__, "--train", str(path), framing]
    process = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, float] = json.loads(process.stdout)
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
    print(f"{describe_machine()}; each training has one thread\n")
    rows = [("text, framing", "new text: first step after", "memory", "encoded text: first step after", "memory")]
    for megabytes in options.megabytes:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            path = Path(folder) / "text.txt"
            write_text(path, megabytes)
            for framing in options.framings:
                results = [measure_training(path, framing) for _ in ("new", "encoded")]
                cells = [cell for r in results for cell in (f"{r['seconds']:.1f} s", f"{r['megabytes']:.0f} MB")]
                rows.append((f"{megabytes} MB, {framing}", *cells))
    print_table(rows)
    return None


if __name__ == "__main__":
    main()
