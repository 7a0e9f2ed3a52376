"""`charlm sample`: let a model write."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from charlm.cli import options
from charlm.cli.render import for_terminal, json_line
from charlm.text.lines import LONGEST


class Format(StrEnum):
    """How samples are printed."""

    TEXT = "text"
    JSONL = "jsonl"


def sample(
    run: options.Run,
    prompt: Annotated[str | None, typer.Option(help="Text to go on from.")] = None,
    prompt_file: Annotated[Path | None, typer.Option(metavar="FILE", help="The same, from a UTF-8 file.")] = None,
    length: Annotated[int | None, typer.Option(min=1, help="Characters to write.")] = None,
    count: Annotated[int, typer.Option(min=1, help="How many samples.")] = 1,
    temperature: Annotated[float | None, typer.Option(help="0: always the likeliest character.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Only the K likeliest characters.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Only the likeliest that hold this share.")] = None,
    min_p: Annotated[float | None, typer.Option(help="Only those at least this times the likeliest.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same text.")] = 0,
    stop: Annotated[str | None, typer.Option(metavar="TEXT", help="End at this text.")] = None,
    output: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TEXT,
    device: options.DeviceOption = None,
    threads: options.Threads = None,
) -> None:
    """Write text in the corpus's style.

    Sample k depends only on the seed and k. Settings that are not given are those of the run's configuration.

    \b
    $ charlm sample runs/quickstart --prompt "The river " --length 60 --seed 2
    The river is not touch that boards And what but he was exemptioned it.
    $ charlm sample runs/quickstart --count 100 --format jsonl > samples.jsonl
    """
    from charlm import load
    from charlm.errors import InputError

    if prompt is not None and prompt_file is not None:
        raise InputError("give --prompt or --prompt-file, not both")
    if prompt_file is not None:
        prompt = _read_prompt(str(prompt_file))
    model = load(run, device=device or "auto", threads=threads)
    if prompt_file is not None and model.vocabulary.framing == "lines":
        prompt = (prompt or "").removesuffix("\n")  # the one that editors put at the end of a file
    settings = {
        "prompt": prompt or "",
        "length": length,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "seed": seed,
        "stop": stop,
    }
    if output is Format.JSONL:
        for k, text in enumerate(model.sample(count, **settings)):  # type: ignore[arg-type]
            print(json_line({"sample": k, "seed": seed, "text": text}))
    elif count == 1:
        for piece in model.stream(**settings):  # type: ignore[arg-type]
            sys.stdout.write(for_terminal(piece))
            sys.stdout.flush()
        print()
    else:
        lines = model.vocabulary.framing == "lines"
        for k, text in enumerate(model.sample(count, **settings)):  # type: ignore[arg-type]
            if k and not lines:
                print("---")
            print(for_terminal(text))


def _read_prompt(path: str) -> str:
    from charlm.errors import InputError
    from charlm.text.reading import read_pieces

    prompt = ""
    for piece in read_pieces([path]):
        prompt += piece
        if len(prompt) > LONGEST:
            raise InputError(
                f"{path}: a prompt of more than {LONGEST:,} characters; take its end, for example by `tail`"
            )
    return prompt
