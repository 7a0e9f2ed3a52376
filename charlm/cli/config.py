"""`charlm config`: write, complete and check configurations."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from charlm.cli import options
from charlm.cli.render import columns, duration, note, printable, size

app = typer.Typer(help="Write, complete and check configurations.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def init(
    corpus: Annotated[str, typer.Argument(metavar="[CORPUS]", help="The text to learn from.")] = "corpus.txt",
    assign: options.Set = None,
) -> None:
    """Print a configuration with every key explained.

    \b
    $ charlm config init my.txt | head -3
    # The text to learn from, and how it becomes numbers.
    corpus:
      # text file, folder, glob, .gz, `-` for standard input, ...
    """
    from charlm.config import load_config, to_yaml

    text = to_yaml(load_config(None, {"corpus.path": corpus, **options.assignments(assign)}), comments=True)
    print(text, end="")


@app.command()
def show(
    config: options.Config, assign: options.Set = None, corpus: options.Corpus = None, budget: options.Budget = None
) -> None:
    """Print a configuration with all defaults filled in.

    \b
    $ charlm config show configs/quickstart.yaml --set model.cell=gru | grep cell
      cell: gru
    """
    from charlm.config import load_config, to_yaml

    print(to_yaml(load_config(config, _changes(assign, corpus, budget))), end="")


@app.command()
def check(
    config: options.Config, assign: options.Set = None, corpus: options.Corpus = None, budget: options.Budget = None
) -> None:
    """Look before you train: corpus, vocabulary, model, memory and time.

    Takes a few steps of training to measure the speed; writes nothing.

    \b
    $ charlm config check configs/quickstart.yaml
    training text  142,953 characters
    validation     15,884 characters, 0.00% of them unknown
    ...
    speed          54,107 characters a second, measured
    budget         60s: about 1:00, 22.7 epochs
    """
    from charlm.config import load_config
    from charlm.run import preflight

    p = preflight(load_config(config, _changes(assign, corpus, budget)))
    t = p.config.training
    rare = f"{len(p.rare)} characters occur once or twice"
    if p.rare:
        rare += ": " + " ".join(printable(char) for char, _ in p.rare[:20]) + (" ..." if len(p.rare) > 20 else "")
    rows = [
        ("training text", f"{p.train_characters:,} characters"),
        ("validation", f"{p.validation_characters:,} characters, {p.unknown_share:.2%} of them unknown"),
        ("test", f"{p.test_characters:,} characters"),
        ("vocabulary", f"{p.vocabulary_size:,} symbols; {rare}"),
        ("windows", f"{p.windows_per_epoch:,} of {t.batch_size} x {t.sequence_length} in an epoch"),
        ("parameters", f"{p.parameters:,}"),
        ("memory", f"{size(p.memory_bytes)} at most, measured over a few steps"),
        ("speed", f"{p.characters_per_second:,.0f} characters a second, measured"),
        ("budget", f"{t.budget}: about {duration(p.seconds)}, {p.epochs:.1f} epochs"),
    ]
    print("\n".join(columns(rows, "<<")))
    for remark in p.notes:
        note(f"note: {remark}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of a configuration, for editors.

    \b
    $ charlm config schema | head -2
    {
      "$defs": {
    """
    from charlm.config import json_schema

    print(json.dumps(json_schema(), indent=2))


def _changes(assign: list[str] | None, corpus: list[str] | None, budget: str | None) -> dict[str, object]:
    changes: dict[str, object] = options.assignments(assign)
    if corpus:
        changes["corpus.path"] = corpus
    if budget:
        changes["training.budget"] = budget
    return changes
