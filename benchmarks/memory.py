"""Does the memory of a training grow with the length of its text?

Trains a tiny network (GRU of 16 units, windows of 64 x 32, no n-grams) for 50 steps on texts of growing size, each
in a process of its own, and prints three numbers: the seconds from the call of `charlm.train` to the end of the
first step; the most memory that the process held of its own at any time (Linux's RssAnon: pages mapped from a file
do not count, since the system takes them back when it needs them); and the most that was resident, mapped pages
included, beyond what was when torch had been loaded (VmRSS). Each text is measured twice: when it is read for the
first time, and again when its encoding is already in the cache. There is no rival: each text stands beside the
smaller ones.

    python benchmarks/memory.py [--megabytes 10 100 1000] [--framings stream lines] [--threads 1] [--folder /tmp]

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


def megabytes_of(name: str) -> float:
    """Memory of this process: `RssAnon`, or `VmRSS`."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition(f"{name}:")[2].split()[0]) * 1024 / 1e6


class MemoryWatch:
    """Observes a training: when its first step ended, and in a thread of its own the peak of its memory."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.first_step_seconds: float | None = None
        self.own_megabytes = self.resident_megabytes = 0.0
        self._before = megabytes_of("VmRSS")
        threading.Thread(target=self._poll, daemon=True).start()

    def _poll(self) -> None:
        while True:
            self.own_megabytes = max(self.own_megabytes, megabytes_of("RssAnon"))
            self.resident_megabytes = max(self.resident_megabytes, megabytes_of("VmRSS") - self._before)
            time.sleep(_POLL_SECONDS)

    def on_step(self, report: object) -> None:
        if self.first_step_seconds is None:
            self.first_step_seconds = time.perf_counter() - self.start

    def on_evaluation(self, metrics: object, sample: str, is_best: bool) -> None:
        pass

    def on_note(self, note: str) -> None:
        pass


def train(path: str, framing: str, threads: str) -> None:
    import charlm
    import charlm.run  # loads torch

    config = {
        "corpus": {"path": path, "framing": framing, "validation": 0.01},
        "model": {"cell": "gru", "hidden_size": 16},
        "training": {
            "budget": "50 steps",
            "evaluate_every": "50 steps",  # of the largest text, an evaluation takes minutes
            "batch_size": 64,
            "sequence_length": 32,
            "device": "cpu",
        },
    }
    with tempfile.TemporaryDirectory() as out:
        charlm.train({**config}, out=Path(out) / "run", threads=int(threads), observer=(watch := MemoryWatch()))
    found = {"seconds": watch.first_step_seconds, "own": watch.own_megabytes, "resident": watch.resident_megabytes}
    print(json.dumps(found))


def measure_training(path: Path, framing: str, threads: int) -> dict[str, float]:
    environment = {**os.environ, "CHARLM_CACHE": str(path.parent), "TMPDIR": str(path.parent)}
    command = [sys.executable, __file__, "--train", str(path), framing, str(threads)]
    process = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, float] = json.loads(process.stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--framings", nargs="+", default=["stream", "lines"])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--train", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        return train(*options.train)
    print(f"{describe_machine()}; threads of each training: {options.threads}\n")
    columns = ("first step after", "memory", "resident beyond torch")
    rows = [("text, framing", *(f"{text} text: {column}" for text in ("new", "encoded") for column in columns))]
    for megabytes in options.megabytes:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            path = Path(folder) / "text.txt"
            write_text(path, megabytes)
            for framing in options.framings:
                cells = []
                for _ in ("new", "encoded"):
                    found = measure_training(path, framing, options.threads)
                    cells += [f"{found['seconds']:.1f} s", f"{found['own']:.0f} MB", f"{found['resident']:.0f} MB"]
                rows.append((f"{megabytes} MB, {framing}", *cells))
    print_table(rows)
    return None


if __name__ == "__main__":
    main()
