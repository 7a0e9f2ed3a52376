"""Runs the benchmarks of speed and memory and writes their tables into the performance pages, in both languages.

On these pages, each table stands between `<!-- NAME.py -->` and `<!-- end -->`. The whole run takes about ten
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
DOCS = HERE.parent / "docs"
PAGES = [DOCS / "explanation/performance.md", DOCS / "zh/explanation/performance.md"]
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
    """Returns the text of a page with the table of one benchmark replaced.

    Raises:
        ValueError: the page has no place for it.
    """
    before, mark, rest = page.partition(f"<!-- {name}.py -->\n")
    _, end, after = rest.partition("<!-- end -->")
    if not mark or not end:
        raise ValueError(f"no place for {name}: the marks <!-- {name}.py --> and <!-- end --> are missing")
    return f"{before}{mark}{table}\n{end}{after}"


def with_table(path: Path, name: str, table: str) -> str:
    """Returns what `replace_table` makes of the page as it is now; ends the program if there is no place."""
    try:
        return replace_table(path.read_text(encoding="utf-8"), name, table)
    except ValueError as error:
        sys.exit(f"{path}: {error}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="run only benchmarks whose name contains this")
    options = parser.parse_args()
    chosen = {name: arguments for name, arguments in BENCHMARKS.items() if options.only in name}
    for name in chosen:  # better now than after minutes of measuring
        for page in PAGES:
            with_table(page, name, "")
    environment = {**os.environ, "GOMP_SPINCOUNT": "1000"}  # as the command-line program sets it
    for name, arguments in chosen.items():
        start = time.perf_counter()
        command = [sys.executable, str(HERE / f"{name}.py"), *arguments]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
        print(f"{name}: {time.perf_counter() - start:.0f} s\n{printed}", flush=True)
        table = f"{datetime.date.today()}: {printed.strip()}"
        for page in PAGES:
            page.write_text(with_table(page, name, table), encoding="utf-8")


if __name__ == "__main__":
    main()
