"""Runs the benchmarks of speed and memory and writes their tables into docs/explanation/performance.md.

On that page, each table stands between `<!-- NAME.py -->` and `<!-- end -->`. The whole run takes about ten
minutes, during which nothing else should run on the machine.

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
BENCHMARKS: dict[str, list[str]] = {  # the name of a script, and its arguments
    "training_speed": [],
    "sampling_speed": [],
    "page": [],
    "scoring_speed": [],
    "startup": [],
    "busy_machine": ["--rounds", "2", "--seconds", "2.5"],
    "memory": ["--megabytes", "10", "100"],
}


def replace_table(page: str, name: str, table: str) -> str:
    """The page with the table of one benchmark replaced. Raises ValueError if the page has no place for it."""
    before, mark, rest = page.partition(f"<!-- {name}.py -->\n")
    _, end, after = rest.partition("<!-- end -->")
    if not mark or not end:
        raise ValueError(
            f"{PAGE} has no place for {name}: the marks <!-- {name}.py --> and <!-- end --> are missing"
        )
    return f"{before}{mark}{table}\n{end}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="run only benchmarks whose name contains this")
    options = parser.parse_args()
    chosen = {name: arguments for name, arguments in BENCHMARKS.items() if options.only in name}
    for name in chosen:  # better now than after minutes of measuring
        replace_table(PAGE.read_text(encoding="utf-8"), name, "")
    environment = {**os.environ, "GOMP_SPINCOUNT": "1000"}  # as the command-line program sets it
    for name, arguments in chosen.items():
        start = time.perf_counter()
        command = [sys.executable, str(HERE / f"{name}.py"), *arguments]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
        print(f"{name}: {time.perf_counter() - start:.0f} s\n{printed}", flush=True)
        table = f"{datetime.date.today()}: {printed.strip()}"
        PAGE.write_text(replace_table(PAGE.read_text(encoding="utf-8"), name, table), encoding="utf-8")


if __name__ == "__main__":
    main()
