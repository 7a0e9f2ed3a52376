"""`charlm config`: write, complete and check configuration files."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from charlm.cli import options
from charlm.cli.help import Command, Group
from charlm.cli.layout import fit_fields, terminal_width
from charlm.cli.render import format_duration, printable, remark_lines
from charlm.system.counts import count_of, format_size

app = typer.Typer(
    cls=Group, help="Write, complete and check configuration files.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("list", cls=Command)
def list_() -> None:
    """List the configurations that come with charlm.

    Wherever a command takes a configuration file, `config:NAME` stands for one of these.

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
      # a text file, folder, glob, .gz, `-` for standard input, ...
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
) -> None:
    """Check a configuration, and measure what training with it takes.

    A few training steps measure speed and memory; nothing is written.

    \b
    $ charlm config check config:quickstart
    training text  142,953 characters
    validation     15,884 characters, 0.00% of them unknown
    ...
    speed          54,107 characters per second, measured
    budget         60s: about 1:00, 22.7 epochs
    """
    from charlm.config import load_config
    from charlm.run import preflight

    p = preflight(load_config(config, options.configuration_overrides(corpus, budget, assign)))
    t = p.config.training
    rare = f"{count_of(len(p.rare), 'character occurs', 'characters occur')} once or twice"
    if p.rare:
        rare += ": " + " ".join(printable(char) for char, _ in p.rare[:20]) + (" ..." if len(p.rare) > 20 else "")
    memory = "this system does not tell"
    if p.memory_bytes is not None:
        memory = f"{format_size(p.memory_bytes)} at most, measured over a few steps"
    rows = [
        ("training text", count_of(p.train_characters, "character")),
        ("validation", f"{count_of(p.validation_characters, 'character')}, {p.unknown_share:.2%} of them unknown"),
        ("test", count_of(p.test_characters, "character")),
        ("vocabulary", f"{count_of(p.vocabulary_size, 'symbol')}; {rare}"),
        ("windows", f"{p.windows_per_epoch:,} of {t.batch_size} x {t.sequence_length} per epoch"),
        ("parameters", f"{p.parameters:,}"),
        ("memory", memory),
        ("kernels", p.kernels),
        ("speed", f"{p.characters_per_second:,.0f} characters per second, measured"),
        ("budget", f"{t.budget}: about {format_duration(p.seconds)}, {p.epochs:.1f} epochs"),
    ]
    print("\n".join(fit_fields(rows, terminal_width(sys.stdout))))
    for remark in p.notes:
        print("\n".join(remark_lines(remark, terminal_width(sys.stderr))), file=sys.stderr)


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
