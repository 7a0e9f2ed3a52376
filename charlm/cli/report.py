"""`charlm report`: one HTML file that shows what a run does, and carries its network."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from charlm.cli import options
from charlm.cli.layout import cut, terminal_width
from charlm.cli.render import console, format_duration, printable
from charlm.errors import InputError

_ENDINGS = (".html", ".htm")
_LEAST_SHARE = 0.05  # of the work, from which on the time that is left can be told


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="The run folders that `charlm train` wrote, one or more.")
    ],
    out: Annotated[
        Path | None,
        options.output_option(
            "--out", metavar="FILE", help="Write to this HTML file (default: report.html in the first run folder)."
        ),
    ] = None,
    redact: Annotated[
        bool,
        options.output_option(
            "--redact", help="Leave out all text of the corpus, long quotations from it, and file paths."
        ),
    ] = False,
    quiet: Annotated[
        bool, options.output_option("--quiet", "-q", help="Print errors only, without progress.")
    ] = False,
    threads: options.ThreadsOption = None,
) -> None:
    """Make a web page that contains the model and shows what it has learnt.

    The page is one HTML file that any browser opens from the disk, without a network connection. With several runs,
    the page lets the reader choose one.

    \b
    $ charlm report runs/quickstart --quiet
    runs/quickstart/report.html
    $ charlm report runs/mine runs/letters --redact --out both.html
    """
    path = out or runs[0] / "report.html"
    if len({run.resolve() for run in runs}) < len(runs):
        raise InputError("a run is named twice; name each run once")
    if path.suffix.lower() not in _ENDINGS:
        raise InputError(f"--out {path}: the report is an HTML page; give a name that ends in .html")
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise InputError(
            f"--out {out}: {'this is a folder, not a file' if out.is_dir() else 'there is no such folder'}"
        )
    from charlm import load
    from charlm.system.threads import set_threads

    if threads is not None:
        set_threads(threads)
    models = [load(run, device="cpu") for run in runs]  # a run that is none speaks up before any work
    from charlm.report.contents import gather, name_runs
    from charlm.report.page import write_report

    names = name_runs(models, redact=redact)
    with _Display(quiet, len(models)) as display:
        found = [
            gather(lm, redact=redact, progress=display.part(number), name=name)
            for number, (lm, name) in enumerate(zip(models, names, strict=True))
        ]
        write_report(path, found)
    typer.echo(str(path))


class _Display:
    """Shows what is being measured, and how long it will take: a line that changes, or in a pipe a line each."""

    def __init__(self, quiet: bool, runs: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._quiet, self._runs, self._clock = quiet, runs, clock
        self._console = console(stderr=True)
        self._changes = sys.stderr.isatty() and not self._console.is_dumb_terminal
        self._began = clock()

    def __enter__(self) -> _Display:
        return self

    def __exit__(self, *_: object) -> None:
        if self._changes and not self._quiet:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def part(self, number: int) -> Callable[[str, float], None]:
        """Returns what the measuring of one run tells: what comes next, and the share of its work that is done."""

        def tell(what: str, share: float) -> None:
            if not self._quiet:
                self._tell(f"run {number + 1} of {self._runs}, {what}" if self._runs > 1 else what, number + share)

        return tell

    def _tell(self, what: str, done: float) -> None:
        share, line = done / self._runs, f"{done / self._runs:4.0%}  {printable(what)}"
        if share >= _LEAST_SHARE:
            left = (self._clock() - self._began) * (1 - share) / share
            line += f", about {format_duration(left)} left"
        if self._changes:
            width = terminal_width(sys.stderr)
            print(f"\r{cut(line, width - 1 if width else None)}\x1b[K", end="", file=sys.stderr, flush=True)
        else:
            self._console.print(line)
