"""`charlm config`: write, complete and check configuration files."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from charlm.cli import options
from charlm.cli.help import Command, Group
from charlm.cli.layout import fit_fields, terminal_width
from charlm.cli.render import format_duration, note, printable, remark_lines
from charlm.system.counts import count_of, format_size, parse_size

if TYPE_CHECKING:
    from charlm.run import Preflight

_PAYS = 1.05  # times as fast as one process: less than this is lost in noise

app = typer.Typer(
    cls=Group, help="Write, complete and check configuration files.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("list", cls=Command)
def list_() -> None:
    """List the configurations that come with charlm.

    Write `config:NAME` wherever a command takes a configuration file.

    \b
    $ charlm config list
    name           what
    ...
    quickstart     A first English model in a minute, on the shipped corpus.
    ...
    """
    from charlm.config import shipped_configs

    print("\n".join(fit_fields([("name", "what"), *shipped_configs().items()], terminal_width(sys.stdout))))


@app.command(cls=Command)
def init(
    corpus: Annotated[str, typer.Argument(metavar="CORPUS", help="The text to train on.")] = "corpus.txt",
    assign: options.SetOption = None,
) -> None:
    """Print a configuration file that explains every key.

    \b
    $ charlm config init my.txt | head -3
    # The text to train on, and how it is encoded.
    corpus:
      # The text to train on: a text file, a folder, a glob, ...
    """
    from charlm.config import load_config, to_yaml

    text = to_yaml(load_config(None, {"corpus.path": corpus, **options.parse_assignments(assign)}), comments=True)
    print(text, end="")


@app.command(cls=Command)
def show(
    config: options.ConfigArgument,
    corpus: options.CorpusOption = None,
    budget: options.BudgetOption = None,
    assign: options.SetOption = None,
) -> None:
    """Print a configuration with all defaults filled in.

    \b
    $ charlm config show config:quickstart --set model.cell=gru | grep cell
      cell: gru
    """
    from charlm.config import load_config, to_yaml

    print(to_yaml(load_config(config, options.configuration_overrides(corpus, budget, assign))), end="")


@app.command(cls=Command)
def check(
    config: options.ConfigArgument,
    corpus: options.CorpusOption = None,
    budget: options.BudgetOption = None,
    assign: options.SetOption = None,
    at: Annotated[
        str | None,
        options.hardware_option(
            "--at",
            metavar="SIZE",
            help="Also compute what training on a text of this size would take, for example 100GB.",
        ),
    ] = None,
    devices: Annotated[
        int | None,
        options.hardware_option(
            "--devices",
            metavar="N",
            min=1,
            max=65536,
            help="Compute it for N processes, each as fast as the measured one.",
        ),
    ] = None,
) -> None:
    """Check a configuration, and measure what training with it takes.

    A few training steps measure the speed and the memory; nothing is written. With torchrun, all of its processes
    are measured and compared with one process.

    \b
    $ charlm config check config:quickstart
    training text  142,953 characters
    validation     15,884 characters, 0.00% of them unknown
    ...
    speed          54,107 characters per second, measured
    budget         60s: about 1:00, 22.7 epochs
    $ charlm config check config:quickstart --at 100GB | tail -5
    computed for   100.0 GB of such text, 1 process
    ...
    """
    from charlm.config import load_config
    from charlm.run import preflight

    size = _read_size(at)
    p = preflight(load_config(config, options.configuration_overrides(corpus, budget, assign)), note=note)
    t = p.config.training
    rare = f"{count_of(len(p.rare), 'character occurs', 'characters occur')} once or twice"
    if p.rare:
        rare += ": " + " ".join(printable(char) for char, _ in p.rare[:20]) + (" ..." if len(p.rare) > 20 else "")
    memory = "not known, because this system does not report it"
    if p.memory_bytes is not None:
        memory = f"{format_size(p.memory_bytes)} at most, measured over a few steps"
    each = f" for each of {networks} networks" if (networks := p.config.model.networks) > 1 else ""
    rows = [
        ("training text", count_of(p.train_characters, "character")),
        ("validation", f"{count_of(p.validation_characters, 'character')}, {p.unknown_share:.2%} of them unknown"),
        ("test", count_of(p.test_characters, "character")),
        ("vocabulary", f"{count_of(p.vocabulary_size, 'symbol')}; {rare}"),
        ("windows", f"{p.windows_per_epoch:,} of {t.batch_size} x {t.sequence_length} per epoch"),
        ("parameters", f"{p.parameters:,}{each}"),
        ("memory", memory),
        ("kernels", p.kernels),
        ("speed", f"{p.characters_per_second:,.0f} characters per second, measured"),
        *_process_rows(p),
        ("budget", f"{t.budget}: about {format_duration(p.seconds)}, {p.epochs:.1f} epochs{each}"),
        *(_forecast_rows(p, size, devices) if size or devices else []),
    ]
    print("\n".join(fit_fields(rows, terminal_width(sys.stdout))))
    for remark in p.notes:
        print("\n".join(remark_lines(remark, terminal_width(sys.stderr))), file=sys.stderr)


def _read_size(text: str | None) -> float | None:
    from charlm.errors import InputError

    try:
        return None if text is None else parse_size(text)
    except ValueError as error:
        raise InputError(f"--at {error}") from None


def _process_rows(p: Preflight) -> list[tuple[str, str]]:
    """Returns how fast the processes are that torchrun has started, and whether they pay."""
    m = p.measured
    if p.together is None:
        return []
    times = p.together / p.characters_per_second
    verdict = "worth it" if times > _PAYS else "one process with all cores is as good"
    return [
        (
            "processes",
            f"{m.processes}: {p.together:,.0f} characters per second, {times:.2f} times one process; {verdict}",
        ),
        ("a step", f"{1000 * m.step_seconds:.1f} ms, of which {1000 * m.sum_seconds:.1f} ms add up gradients"),
    ]


def _forecast_rows(p: Preflight, size: float | None, devices: int | None) -> list[tuple[str, str]]:
    """Returns what a text of this size and so many processes would take; all of it is computed."""
    from charlm.training.forecast import forecast

    m = p.measured
    text_bytes = size or p.train_characters / m.symbols_per_byte
    N = devices or m.processes
    f = forecast(m, text_bytes, N)
    if f.step_seconds is None or f.pass_seconds is None:
        time = (
            "not known; start this command with torchrun and 2 processes to measure how long they add up gradients"
        )
    else:
        time = f"{format_duration(f.pass_seconds)} for one pass, {1000 * f.step_seconds:.1f} ms a step"
    memory = "not known, because this system does not report it"
    if f.memory_bytes is not None and f.follower_bytes is not None:
        others = f", {format_size(f.follower_bytes)} in each other one" if N > 1 else ""
        memory = f"{format_size(f.memory_bytes)} in the first process{others}"
    return [
        ("computed for", f"{format_size(text_bytes)} of such text, {count_of(N, 'process', 'processes')}"),
        ("  time", time),
        ("  memory", memory),
        ("  disk", f"{format_size(f.text_disk_bytes)} for the text, {format_size(f.run_disk_bytes)} for the run"),
        ("  traffic", f"{format_size(f.sent_bytes)} sent by each process in each step"),
    ]


@app.command(cls=Command)
def schema() -> None:
    """Print the JSON Schema of configuration files, for editors.

    \b
    $ charlm config schema | head -2
    {
      "$defs": {
    """
    from charlm.config import json_schema

    print(json.dumps(json_schema(), indent=2))
