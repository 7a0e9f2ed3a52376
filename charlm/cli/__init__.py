"""The command line: each command has a thin module that parses options, calls the API once and prints the result.

Nothing here imports torch before a command needs it.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from charlm import __version__
from charlm.cli import config, corpus, evaluate, inspect, pairs, rerank, sample, score, train
from charlm.cli.help import Command
from charlm.cli.render import escape_control_characters
from charlm.errors import CharlmError


class _Commands(TyperGroup):
    """Turns charlm's errors into one message and an exit code, and exits quietly when a pipe is closed."""

    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except CharlmError as error:
            # The message may quote a file, whose control characters must not reach the terminal.
            typer.echo(escape_control_characters(f"charlm: {error}"), err=True)
            raise typer.Exit(error.exit_code) from None
        return result


app = typer.Typer(
    name="charlm",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"charlm {__version__}")
        raise typer.Exit


@app.callback()
def charlm(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Train character-level recurrent language models, score sentences and write text.

    \b
    $ charlm train configs/quickstart.yaml       train a model
    $ charlm sample runs/quickstart              write text with it
    $ charlm score runs/quickstart "a sentence"  measure how likely a sentence is
    """


for name, function in (
    ("train", train.train),
    ("sample", sample.sample),
    ("score", score.score),
    ("rerank", rerank.rerank),
    ("pairs", pairs.pairs),
    ("eval", evaluate.evaluate),
    ("inspect", inspect.inspect),
):
    app.command(name, cls=Command)(function)
app.add_typer(config.app, name="config")
app.add_typer(corpus.app, name="corpus")


def main() -> None:
    """Runs the `charlm` program; its output is UTF-8, whatever the locale says."""
    # torch's threads wait for each other in busy loops, which starve each other when other programs compute. This
    # limit costs nothing when charlm runs alone; two trainings at once on two cores run 1.6 times as fast.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    app()
