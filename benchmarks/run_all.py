"""Runs the benchmarks of speed and memory and writes what they print into docs/performance.md.

There each table stands between `<!-- NAME.py -->` and `<!-- end -->`. It takes eleven minutes, in which
nothing else should run.

    python benchmarks/run_all.py [--only sampling_speed]
"""

from __future__ import annotations

import argparse
import datetime
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "performance.md"
BENCHMARKS: dict[str, list[str]] = {
    "training_speed": [],
    "profile_step": [],
    "dropout_speed": [],
    "sampling_speed": [],
    "scoring_speed": [],
    "startup": [],
    "busy_machine": ["--rounds", "2", "--seconds", "2.5"],
    "memory": ["--megabytes", "10", "100"],
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="a part of the names of those to run")
    options = parser.parse_args()
    environment = {**os.environ, "GOMP_SPINCOUNT": "1000"}  # as the command-line program has it
    for name, arguments in BENCHMARKS.items():
        if options.only not in name:
            continue
        start = time.perf_counter()
        command = [sys.executable, str(HERE / f"{name}.py"), *arguments]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
        print(f"{name}: {time.perf_counter() - start:.0f} s\n{printed}", flush=True)
        page = PAGE.read_text(encoding="utf-8")
        head, mark, rest = page.partition(f"<!-- {name}.py -->\n")
        if not mark:
            raise SystemExit(f"{PAGE}: has no place for {name}")
        _, end, tail = rest.partition("<!-- end -->")
        page = f"{head}{mark}{datetime.date.today()}: {printed.strip()}\n{end}{tail}"
        PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
