"""`charlm sample`: write text with a model."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from charlm.cli import options
from charlm.cli.render import for_terminal, json_line

_MAX_PROMPT_CHARACTERS = 1 << 22

_text_option = options.option_group("Text")
_sampling_option = options.option_group("Sampling")


class Format(StrEnum):
    """An output format."""

    TEXT = "text"
    JSONL = "jsonl"


def sample(
    run: options.RunArgument,
    prompt: Annotated[str | None, _text_option(help="Continue this text.")] = None,
    prompt_file: Annotated[
        Path | None,
        _text_option(metavar="FILE", help="Continue the text of this UTF-8 file."),
    ] = None,
    length: Annotated[int | None, _text_option(min=1, help="Write this many characters.")] = None,
    stop: Annotated[str | None, _text_option(metavar="TEXT", help="Stop after writing this text.")] = None,
    count: Annotated[int, _text_option(min=1, help="Write this many samples.")] = 1,
    temperature: Annotated[
        float | None,
        _sampling_option(help="Divide the logits by this; 0 always selects the likeliest character."),
    ] = None,
    top_k: Annotated[int | None, _sampling_option(help="Draw from the K likeliest characters only.")] = None,
    top_p: Annotated[
        float | None,
        _sampling_option(help="Draw from the fewest characters whose probabilities add up to this."),
    ] = None,
    min_p: Annotated[
        float | None,
        _sampling_option(help="Draw from characters at least this fraction as likely as the likeliest."),
    ] = None,
    seed: Annotated[
        int,
        _sampling_option(min=0, help="Seed the random numbers; the same seed gives the same text."),
    ] = 0,
    output: Annotated[
        Format,
        options.output_option("--format", help="Print plain text or one JSON object a line."),
    ] = Format.TEXT,
    device: options.DeviceOption = None,
    threads: options.ThreadsOption = None,
) -> None:
    """Write text in the style of the corpus.

    Sample k depends only on the seed and k. The run's configuration holds the defaults of the other settings.

    \b
    $ charlm sample runs/quickstart --prompt "The river " --length 60 --seed 1
    The river had the lantern benny, and I have no people begin with his f
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
        prompt = (prompt or "").removesuffix("\n")  # editors end a file with a newline
    settings: dict[str, Any] = {
        "prompt": prompt or "",
        "seed": seed,
        "stop": stop,
        "length": length,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
    }
    if output is Format.JSONL:
        for k, text in enumerate(model.sample(count, **settings)):
            print(json_line({"sample": k, "seed": seed, "text": text}))
    elif count == 1:
        for piece in model.stream(**settings):
            sys.stdout.write(for_terminal(piece))
            sys.stdout.flush()
        print()
    else:
        lines = model.vocabulary.framing == "lines"
        for k, text in enumerate(model.sample(count, **settings)):
            if k and not lines:
                print("---")
            print(for_terminal(text))


def _read_prompt(path: str) -> str:
    from charlm.errors import InputError
    from charlm.text.reading import read_pieces

    prompt = ""
    for piece in read_pieces([path]):
        prompt += piece
        if len(prompt) > _MAX_PROMPT_CHARACTERS:
            raise InputError(
                f"{path}: the prompt has more than {_MAX_PROMPT_CHARACTERS:,} characters; keep its end, "
                "for example with `tail`"
            )
    return prompt
