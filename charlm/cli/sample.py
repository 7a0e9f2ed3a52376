"""`charlm sample`: write text with a model."""

from __future__ import annotations

import sys
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from charlm.cli import options
from charlm.cli.render import for_terminal, json_line, note

if TYPE_CHECKING:
    from charlm.text.vocabulary import Vocabulary

_text_option = options.option_group("Text")


class Format(StrEnum):
    """An output format."""

    TEXT = "text"
    JSONL = "jsonl"


def sample(
    run: options.RunArgument,
    prompt: Annotated[str | None, _text_option(help="Continue this text.")] = None,
    prompt_file: Annotated[
        Path | None,
        _text_option(metavar="FILE", help="Continue the text of this file."),
    ] = None,
    prompts: Annotated[
        Path | None,
        _text_option(
            metavar="FILE|-",
            help="Continue each line of this file, as many times as --count says; - is standard input.",
        ),
    ] = None,
    length: Annotated[int | None, _text_option(min=1, help="Write this many characters.")] = None,
    stop: Annotated[str | None, _text_option(metavar="TEXT", help="Stop after writing this text.")] = None,
    only_new: Annotated[bool, _text_option("--only-new", help="Leave out the prompt and the stop text.")] = False,
    count: Annotated[int, _text_option(min=1, help="Write this many samples.")] = 1,
    novel: Annotated[
        bool,
        _text_option("--novel", help="Skip samples that occur in the corpus of the run."),
    ] = False,
    memory: Annotated[
        bool,
        _text_option("--memory", help="Remember what each text has said so far, so that names occur again."),
    ] = False,
    temperature: options.TemperatureOption = None,
    top_k: options.TopKOption = None,
    top_p: options.TopPOption = None,
    min_p: options.MinPOption = None,
    seed: Annotated[
        int,
        options.sampling_option(min=0, help="Seed the random numbers; the same seed gives the same text."),
    ] = 0,
    output: Annotated[
        Format,
        options.output_option("--format", help="Print plain text, or one JSON object on each line."),
    ] = Format.TEXT,
    field: options.FieldOption = None,
    encoding: options.EncodingOption = "utf-8",
    device: options.DeviceOption = None,
    threads: options.ThreadsOption = None,
) -> None:
    """Write text in the style of the corpus.

    Sample k depends only on the seed and on k. Settings that are not given come from the configuration of the run.
    With --format jsonl each line has the prompt, the whole text, and the reason why it ended: length, stop or line.
    With --novel, a sample is skipped if the corpus contains it (in lines framing, as a whole line). The other
    samples keep their numbers, and a message tells how many were skipped.

    \b
    $ charlm sample runs/quickstart --prompt "The river " --length 60 --seed 1
    The river had the lantern benny, and I have no people begin with his f
    $ charlm sample runs/quickstart --count 100 --format jsonl > samples.jsonl
    $ charlm sample runs/quickstart --prompts openings.txt --stop . --only-new
    $ charlm sample runs/quickstart --count 20 --length 60 --novel
    """
    from charlm import load
    from charlm.cli.score_input import read_text
    from charlm.errors import InputError
    from charlm.system.counts import count_of

    if sum(source is not None for source in (prompt, prompt_file, prompts)) > 1:
        raise InputError("give only one of --prompt, --prompt-file and --prompts")
    if field is not None and prompts is None:
        raise InputError("--field chooses a column of the file of --prompts; give --prompts as well")
    if prompt_file is not None:
        prompt = read_text(prompt_file, encoding, what="the prompt")
    model = load(run, device=device or "auto", threads=threads)
    if prompt_file is not None and model.vocabulary.framing == "lines":
        prompt = (prompt or "").removesuffix("\n")  # editors end a file with a newline
    settings: dict[str, Any] = {
        "seed": seed,
        "stop": stop,
        "only_new": only_new,
        "memory": memory,
        "length": length,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
    }
    if output is Format.TEXT and prompts is None and count == 1 and not novel:
        for piece in model.stream(prompt=prompt or "", **settings):
            sys.stdout.write(for_terminal(piece))
            sys.stdout.flush()
        print()
        return
    openings = [prompt or ""] if prompts is None else _read_prompts(prompts, model.vocabulary, encoding, field)
    separator = "" if output is Format.JSONL or model.vocabulary.framing == "lines" else "---\n"
    written = tried = 0
    for opening in openings:
        for text in model.sample(count, prompt=opening, novel=novel, **settings):
            if written:
                sys.stdout.write(separator)
            written += 1
            if output is Format.JSONL:
                row = {"sample": text.number, "seed": seed, "prompt": opening, "text": text, "ended": text.ended}
                print(json_line(row))
            else:
                print(for_terminal(text))
        tried += text.number + 1
    if novel:
        refused = tried - written
        note(f"--novel: {refused:,} of {count_of(tried, 'sample')} were skipped, because they occur in the corpus")


def _read_prompts(file: Path, vocabulary: Vocabulary, encoding: str, field: str | None) -> list[str]:
    """Reads a prompt from each line or each record, and checks all of them before anything is written.

    Raises:
        InputError: the file cannot be read, has no lines, or has a prompt that the model cannot go on from.
    """
    from charlm.cli.score_input import number_lines, read_field
    from charlm.errors import InputError
    from charlm.sampling import check_writable
    from charlm.text.columns import parse_field
    from charlm.text.lines import name_of, read_line_batches

    path = None if str(file) == "-" else file
    name = name_of(path)
    lines = read_line_batches(path, vocabulary.level, encoding, note=note)
    one_line = vocabulary.framing == "lines"
    batches = (
        number_lines(lines) if field is None else read_field(lines, parse_field(field), name, one_line=one_line)
    )
    prompts = list(chain.from_iterable(batches))
    if not prompts:
        raise InputError(f"{name}: there are no prompts; write one on each line")
    for prompt in prompts:
        check_writable(
            vocabulary, vocabulary.normalize(prompt.text or ""), f"{name}, line {prompt.line}: the prompt"
        )
    return [prompt.text or "" for prompt in prompts]
