"""The command line: each command has a thin module that parses options, calls the API once and prints the result.

Nothing here imports torch before a command needs it.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from types import FrameType
from typing import Annotated, Any

# The threads of torch and of NumPy wait for each other in busy loops, which starve each other when other programs
# compute. These limits, which are read when the libraries are loaded, cost nothing when charlm runs alone; two
# trainings at once on two cores run 1.6 times as fast, and an evaluation takes half of the processor's time.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "16")  # 2^16 cycles, a fiftieth of a millisecond

import typer

from charlm import __version__
from charlm.cli import (
    compare,
    config,
    corpus,
    evaluate,
    export,
    inspect,
    pairs,
    report,
    rerank,
    sample,
    score,
    train,
)
from charlm.cli.failures import describe_failure, finish_output, prepare_streams
from charlm.cli.help import Command, Group
from charlm.cli.layout import terminal_width, wrap_lines
from charlm.cli.render import escape_control_characters, program_name
from charlm.errors import CharlmError, InputError
from charlm.system.distributed import is_follower, join_ranks, processes_together
from charlm.training.signals import exit_if_importing

_DIVIDED = ("train", "score", "rerank", "eval", "config")  # among processes that torchrun starts
_NARROW_CELLS = 52  # to a narrower terminal than this, help is fitted here


class _Commands(Group):
    """Turns what a user can cause into one message and an exit code, and exits quietly when a pipe is closed."""

    def main(self, *args: Any, **extra: Any) -> Any:
        width = terminal_width(sys.stdout)
        if width is not None and width < _NARROW_CELLS:
            extra.setdefault("terminal_width", width - 1)
        try:
            return super().main(*args, **extra)
        except (OSError, CharlmError) as error:  # of help and usage messages, printed before a command is invoked
            sys.exit(_tell_failure(error))

    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            finish_output()
            raise typer.Exit(0) from None
        except (CharlmError, OSError, MemoryError, RuntimeError, ValueError) as error:
            raise typer.Exit(_tell_failure(error)) from None
        return result


def _tell_failure(error: Exception) -> int:
    """Prints the message of an error that a user can cause, and returns the exit code; raises any other again."""
    failure = describe_failure(error)
    if failure is None:
        raise error
    message, exit_code = failure
    finish_output()
    message = message.replace("`charlm ", f"`{program_name()} ")  # commands to type, as this one was typed
    # The message may quote a file, whose control characters must not reach the terminal.
    text = escape_control_characters(f"charlm: {message}")
    typer.echo(wrap_lines(text, terminal_width(sys.stderr)), err=True)
    return exit_code


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
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Train character-level recurrent language models, score sentences and write text.

    \b
    $ charlm train --corpus my.txt --budget 1m --out runs/mine
    $ charlm sample runs/mine --prompt "The river " --length 100
    $ charlm score runs/mine "The river was high." "The rievr was high."
    """
    command = str(ctx.invoked_subcommand)
    if processes_together() > 1 and command not in _DIVIDED:
        if is_follower():
            raise typer.Exit(2)
        raise InputError(
            f"{command} is not divided among the processes that torchrun starts, and each would do all of it; "
            f"run it without torchrun, which can divide only {', '.join(_DIVIDED)}"
        )


class _Divided(Command):
    """A command that divides its work among the processes that torchrun starts; they are `ctx.obj` in it.

    `train` and `config` do so too, and join the processes by themselves.
    """

    def invoke(self, ctx: Any) -> Any:
        with join_ranks(remedy="run the command again") as ctx.obj:
            ctx.obj.set_threads(ctx.params["threads"])
            return super().invoke(ctx)


for name, function, kind in (
    ("train", train.train, Command),
    ("sample", sample.sample, Command),
    ("score", score.score, _Divided),
    ("rerank", rerank.rerank, _Divided),
    ("pairs", pairs.pairs, Command),
    ("eval", evaluate.evaluate, _Divided),
    ("compare", compare.compare, Command),
    ("inspect", inspect.inspect, Command),
    ("report", report.report, Command),
    ("export", export.export, Command),
):
    app.command(name, cls=kind)(function)
app.add_typer(config.app, name="config")
app.add_typer(corpus.app, name="corpus")


def _interrupt(number: int, frame: FrameType | None) -> None:
    exit_if_importing(number, frame)
    raise KeyboardInterrupt


def main() -> None:
    """Runs the `charlm` program; its output is UTF-8, whatever the locale says."""
    prepare_streams()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        app()
    finally:
        finish_output()
        # What other libraries do at the end is not to be interrupted by one more Ctrl-C: it would show a traceback.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
