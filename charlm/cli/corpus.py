"""`charlm corpus`: list and download known corpora, and count what a text contains."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.cells import cell_len

from charlm.cli import options
from charlm.cli.help import Command, Group
from charlm.cli.layout import align_columns, fit_fields, terminal_width, wrap
from charlm.cli.render import console, note, printable
from charlm.system.counts import count_of, format_size

app = typer.Typer(
    cls=Group, help="Find, download and inspect corpora.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("list", cls=Command)
def list_() -> None:
    """List the corpora that charlm knows by name.

    \b
    $ charlm corpus list
    name                  size  licence                  sha256            what
    english           158.8 kB  MIT, written for charlm  ...               ...
    """
    from charlm.text.library import known_corpora

    rows = [("name", "size", "licence", "sha256", "what")]
    for known in known_corpora():
        rows.append(
            (
                known.name,
                "" if known.size_bytes is None else format_size(known.size_bytes),
                known.licence,
                (known.sha256 or "")[:16],
                known.description,
            )
        )
    print("\n".join(_list_lines(rows, "<><<<", terminal_width(sys.stdout))))


@app.command(cls=Command)
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name that `charlm corpus list` shows.")],
    source: Annotated[str | None, typer.Option(metavar="URL", help="Download from this mirror.")] = None,
) -> None:
    """Download a known corpus and print its path.

    An interrupted download continues where it stopped, and the checksum is verified. Write `corpus:NAME` wherever a
    text is named.

    \b
    $ charlm corpus fetch tiny-shakespeare
    /home/me/.cache/charlm/corpora/tiny-shakespeare.txt
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from charlm.text import library

    screen = console(stderr=True)
    with Progress(
        TextColumn(name),
        BarColumn(min(40, max(4, screen.width - 45))),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=screen,
        transient=True,
        disable=not screen.is_terminal,
    ) as bar:
        task = bar.add_task(name, total=None, visible=False)
        path = library.fetch(
            name,
            progress=lambda done, total: bar.update(task, completed=done, total=total, visible=True),
            source=source,
        )
    print(path)


@app.command(cls=Command)
def stats(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH", help="Files, folders, globs or packed files; - is standard input."),
    ],
    field: options.FieldOption = None,
    encoding: options.EncodingOption = "utf-8",
) -> None:
    """Count the characters, lines and vocabulary of a text.

    The most frequent characters, the rare ones and the longest lines are shown too. With --field, the text of each
    record is counted with a newline after it, as in training.

    \b
    $ charlm corpus stats corpus:english
    characters     158,837
    bytes          158,837
    ...
    """
    from charlm.text.columns import Columns, parse_field
    from charlm.text.decoding import OPTION
    from charlm.text.progress import Progress
    from charlm.text.reading import find_files, read_pieces, text_bytes
    from charlm.text.statistics import statistics

    notes: list[str] = []
    columns = Columns(None if field is None else parse_field(field), False, notes, "--field")
    files = find_files(paths, encoding=encoding, tables=field is not None, note=note)
    progress = Progress("counting", text_bytes(files), note)
    read = read_pieces(paths, files=files, encoding=encoding, remedy=OPTION, note=note, columns=columns)
    s = statistics(progress.watch(read))
    for remark in notes:
        note(remark)

    def list_counts(counts: list[tuple[str, int]], most: int = 10) -> str:
        items = "  ".join(f"{printable(char) if char != ' ' else '␣'} {n:,}" for char, n in counts[:most])
        return items + ("  ..." if len(counts) > most else "")

    rows = [
        ("characters", f"{s.characters:,}"),
        ("bytes", f"{s.bytes:,}"),
        ("lines", f"{s.lines:,}"),
        ("vocabulary", count_of(s.vocabulary, "different character")),
        ("frequent", list_counts(s.frequent)),
        (
            "rare",
            f"{count_of(len(s.rare), 'occurs', 'occur')} once or twice: {list_counts(s.rare)}",
        ),
        ("longest lines", "  ".join(f"{count_of(n, 'character')} (line {line:,})" for line, n in s.longest[:3])),
    ]
    print("\n".join(fit_fields(rows, terminal_width(sys.stdout))))


def _list_lines(rows: Sequence[tuple[str, ...]], align: str, width: int | None) -> list[str]:
    """Aligns the cells of rows; the last columns, if they do not fit the terminal, follow below each row."""
    lines = align_columns(rows, align)
    columns = len(align)
    while width is not None and columns > 1 and max(map(cell_len, lines)) > width:
        columns -= 1
        lines = align_columns([row[:columns] for row in rows], align[:columns])
    if columns == len(align):
        return lines
    below: list[str] = []
    for line, row in zip(lines, rows, strict=True):
        below += [line, *wrap("    " + "; ".join(filter(None, row[columns:])), width, 4)]
    return below
