"""The command line: one thin file a command, each parsing, calling the API once, and rendering.

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
from charlm.cli import config, corpus, evaluate, inspect, pairs, render, rerank, sample, score, train
from charlm.errors import CharlmError


class _Commands(TyperGroup):
    """Turns our errors into one message and an exit code, and lets a closed pipe end quietly."""

    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except CharlmError as error:
            # What is quoted from a file must not speak to the terminal.
            typer.echo(render.tame(f"charlm: {error}"), err=True)
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


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"charlm {__version__}")
        raise typer.Exit


@app.callback()
def charlm(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Character-level recurrent language models: train, score, write.

    \b
    $ charlm train configs/quickstart.yaml       train a model into runs/quickstart
    $ charlm sample runs/quickstart              let it write
    $ charlm score runs/quickstart "a sentence"  ask how likely a sentence is
    """


app.command("train")(train.train)
app.command("sample")(sample.sample)
app.command("score")(score.score)
app.command("rerank")(rerank.rerank)
app.command("pairs")(pairs.pairs)
app.command("eval")(evaluate.evaluate)
app.command("inspect")(inspect.inspect)
app.add_typer(config.app, name="config")
app.add_typer(corpus.app, name="corpus")


def main() -> None:
    """The `charlm` program; text goes out as UTF-8, whatever the terminal says."""
    # torch's threads wait for each other by spinning, which starves them beside any other busy program. This many
    # turns cost nothing alone; two trainings side by side on two cores run 1.6 times as fast.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    app()
