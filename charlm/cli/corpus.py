"""`charlm corpus`: corpora that charlm knows, and what is in a text."""

from __future__ import annotations

from typing import Annotated

import typer

from charlm.cli.render import columns, console, printable, size

app = typer.Typer(help="Find, fetch and look at corpora.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
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
                "" if known.size_bytes is None else size(known.size_bytes),
                known.licence,
                (known.sha256 or "")[:16],
                known.description,
            )
        )
    print("\n".join(columns(rows, "<><<<")))


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `charlm corpus list` shows it.")],
    source: Annotated[str | None, typer.Option(metavar="URL", help="A mirror to download from.")] = None,
) -> None:
    """Bring a known corpus onto this machine and print where it is.

    A broken download goes on where it stopped; the checksum is verified. In a configuration, `corpus:NAME` stands
    for the file.

    \b
    $ charlm corpus fetch tiny-shakespeare
    /home/me/.cache/charlm/corpora/tiny-shakespeare.txt
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from charlm.text import library

    screen = console(stderr=True)
    with Progress(
        TextColumn(name),
        BarColumn(),
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


@app.command()
def stats(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Files, folders, globs, .gz, or -.")],
) -> None:
    """Count characters, lines, vocabulary, rare characters and long lines of a text.

    \b
    $ charlm corpus stats data/english.txt
    characters     158,837
    bytes          158,837
    ...
    """
    from charlm.text.corpus import statistics
    from charlm.text.reading import read_text

    s = statistics(read_text(paths))

    def listed(pairs: list[tuple[str, int]], most: int) -> str:
        shown = "  ".join(f"{printable(char) if char != ' ' else '␣'} {n:,}" for char, n in pairs[:most])
        return shown + ("  ..." if len(pairs) > most else "")

    rows = [
        ("characters", f"{s.characters:,}"),
        ("bytes", f"{s.bytes:,}"),
        ("lines", f"{s.lines:,}"),
        ("vocabulary", f"{s.vocabulary:,} different characters"),
        ("frequent", listed(s.frequent, 10)),
        ("rare", f"{len(s.rare):,} occur once or twice: {listed(s.rare, 10)}"),
        ("longest lines", "  ".join(f"{n:,} characters (line {line:,})" for line, n in s.longest[:3])),
    ]
    print("\n".join(columns(rows, "<<")))
