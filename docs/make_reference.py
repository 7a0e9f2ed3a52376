"""Writes the pages of docs/reference from the code, so that they say what the code does.

    python docs/make_reference.py

Commands come from the command line's own help, configuration keys from the schema, fields and Python names from
their docstrings. What stands here is only the frame: the sentences that connect them. `make docs` runs this script,
and a test compares its result with the pages.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import typer.main
from pydantic_core import PydanticUndefined

import charlm
from charlm import errors
from charlm.analysis.comparison import CurvePoint, Row, RunResult
from charlm.analysis.differences import Difference
from charlm.cli import app, failures, score_formats
from charlm.config.messages import describe_allowed
from charlm.config.schema import RETIRED, Config
from charlm.ranking.minimal_pairs import Accuracy, Comparison
from charlm.scoring.evaluation import Evaluation
from charlm.scoring.measures import CharacterScore, Score
from charlm.scoring.states import StatefulModel
from charlm.scoring.summary import Summary
from charlm.scoring.words import WordScore
from charlm.store import run_folder
from charlm.system.files import cache_folder
from charlm.system.run_format import RUN_FORMAT
from charlm.text.vocabulary import Vocabulary
from charlm.training.reports import Metrics
from charlm.writing.figures import WritingEvaluation, WritingFigures

FOLDER = Path(__file__).parent / "reference"
_HEAD = "<!-- Written by docs/make_reference.py from the code: change the code, then run `make docs`. -->\n\n"
_SIGNATURE_CHARACTERS = 88  # a longer signature has a line for each argument
_PLACEHOLDERS = {"int": "N", "int range": "N", "float": "X", "path": "PATH", "str": "TEXT"}
_SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises")


# ------------------------------------------------------------------------------------------------- Markdown


def escape(text: str) -> str:
    """Escapes what Markdown would read as a mark, outside of `code`."""
    parts = re.sub(r"(?<![\w`'-])(--[a-z][\w-]*)(?![^`]*`(?:[^`]*`[^`]*`)*[^`]*$)", r"`\1`", text).split("`")
    parts[::2] = [
        re.sub(r"([*|])", r"\\\1", part.replace("&", "&amp;").replace("<", "&lt;")) for part in parts[::2]
    ]
    return "`".join(parts)


def code(text: str) -> str:
    """Returns code that may stand in a table, whose cells `|` separates."""
    escaped = text.replace("|", r"\|")
    return f"`{escaped}`"


def sentence(text: str) -> str:
    """Begins a text with a capital and ends it with a full stop; a word that is explained stays as it is."""
    text = " ".join(text.split())
    if not re.match(r"[\w-]+:", text):
        text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Returns a table."""
    head = list(head)
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, ["---"] * len(head), *rows]) + "\n"


def fence(text: str, language: str = "") -> str:
    """Returns a block of code."""
    return f"```{language}\n{text.strip(chr(10))}\n```\n\n"


def paragraphs(text: str) -> str:
    """Returns Markdown that is written in the lines of this file, each paragraph as one line."""
    return "".join(f"{' '.join(part.split())}\n\n" for part in inspect.cleandoc(text).split("\n\n"))


# ------------------------------------------------------------------------------------------------- docstrings


def docstring(thing: Any) -> tuple[str, dict[str, list[tuple[str, str]]]]:
    """Splits a docstring into its text and its sections, each a list of names and what is said of them.

    What a section says without a name, such as the result of a function, has the name "".
    """
    text, found = [], dict[str, list[tuple[str, str]]]()
    section: list[tuple[str, str]] | None = None
    for line in (inspect.getdoc(thing) or "").splitlines():
        if line.rstrip(":") in _SECTIONS and line.endswith(":"):
            section = found.setdefault(line.rstrip(":"), [])
        elif section is None or (line and not line.startswith(" ")):
            text.append(line)
            section = None
        elif item := re.match(r"    (\*{0,2}\w+): (.*)", line):
            section.append((item[1], item[2]))
        elif line.strip():
            name, before = section.pop() if section else ("", "")
            section.append((name, f"{before} {line.strip()}".strip()))
    return "\n".join(text).strip(), found


def prose(text: str) -> str:
    """Returns the text of a docstring as Markdown; what is indented there becomes a block of code."""
    out = []
    for block in re.split(r"\n\n+", text):
        if not block:
            continue
        if all(line.startswith("    ") for line in block.splitlines()):
            out.append(fence(inspect.cleandoc(block), "text"))
        else:
            out.append(escape(" ".join(block.split())) + "\n\n")
    return "".join(out)


def explain(thing: Any, *, leave_out: Iterable[str] = ()) -> str:
    """Returns a docstring as Markdown, its sections as lists."""
    text, sections = docstring(thing)
    out = prose(text)
    titles = {"Args": "Arguments"}
    for title, items in sections.items():
        if title in leave_out:
            continue
        out += f"*{titles.get(title, title)}:*\n\n"
        for name, words in items:
            out += f"- `{name}`: {escape(words)}\n" if name else f"{sentence(escape(words))}\n"
        out += "\n"
    return out


def fields(kind: type, names: Iterable[str] | None = None) -> list[tuple[str, str]]:
    """Returns the fields and properties of a class, each with what the docstrings say of it."""
    said: dict[str, str] = {}
    for own in reversed([own for own in kind.__mro__ if own.__module__.startswith("charlm.")]):
        said |= docstring(own)[1].get("Attributes", [])
        for name, value in vars(own).items():
            if isinstance(value, property) and not name.startswith("_"):
                said[name] = " ".join((inspect.getdoc(value) or "").split())
    listed = list(said) if names is None else list(names)
    return [(name, said[name]) for name in listed]


def field_table(kind: type, names: Iterable[str] | None = None) -> str:
    """Returns the fields of a class as a table."""
    return table(
        ["Field", "Meaning"], [(code(name), sentence(escape(words))) for name, words in fields(kind, names)]
    )


# ------------------------------------------------------------------------------------------------- commands


def commands() -> str:
    """Returns the page of all commands, with their arguments and options."""
    found = list(_commands(typer.main.get_command(app), "charlm", None))
    out = paragraphs(
        """
        # Commands

        RUN is a run folder, which `charlm train` creates. Results go to standard output; progress, notes and errors
        go to standard error. Each command has a help text: `charlm train --help` prints what is written here.
        """
    )
    rows = []
    for path, command, _ in found:
        if not hasattr(command, "commands"):
            rows.append((f"[`{path}`](#{path.replace(' ', '-')})", escape(command.help.partition("\n")[0])))
    out += table(["Command", "What it does"], rows)
    for path, command, context in found:
        if path == "charlm" or not hasattr(command, "commands"):
            out += f"## {path}\n\n{_usage(command, context)}{_help(command.help)}{_options(command, context)}"
    return out


def _commands(command: Any, name: str, parent: Any) -> Iterator[tuple[str, Any, Any]]:
    context = command.context_class(command, info_name=name, parent=parent)
    yield context.command_path, command, context
    for inner, child in getattr(command, "commands", {}).items():
        yield from _commands(child, inner, context)


def _usage(command: Any, context: Any) -> str:
    return fence(" ".join([context.command_path, *command.collect_usage_pieces(context)]), "text")


def _help(text: str) -> str:
    """Returns what a command says of itself; \\b marks examples, which stay as they are."""
    out = ""
    for block in re.split(r"\n\n+", inspect.cleandoc(text)):
        if block.startswith("\b"):
            out += fence(block.removeprefix("\b"), "console" if "\n$ " in block else "text")
        else:
            out += escape(" ".join(block.split())) + "\n\n"
    return out


def _options(command: Any, context: Any) -> str:
    sections: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and (parameter.name != "help" or context.parent is None):
            title = "Arguments" if parameter.param_type_name == "argument" else "General"
            title = getattr(parameter, "rich_help_panel", None) or title
            sections.setdefault(title, []).append(_option(*record))
    head = {"Arguments": "Argument"}
    return "".join(
        f"**{title}**\n\n{table([head.get(title, 'Option'), 'Meaning'], rows)}" for title, rows in sections.items()
    )


def _option(names: str, words: str) -> tuple[str, str]:
    """Returns an option and its meaning; its choices, bounds and default become sentences."""
    said = []
    if choices := re.search(r" <(.*)>$", names):
        names = names[: choices.start()]
        kinds = choices[1].split("|")
        if len(kinds) > 1:
            said.append(f"One of {', '.join(f'`{kind}`' for kind in kinds)}.")
        elif names.startswith("-"):
            names += f" {_PLACEHOLDERS.get(kinds[0], kinds[0])}"
    if notes := re.search(r"\s+\[([^][]*)\]$", words):
        words = words[: notes.start()]
        for part in notes[1].split("; "):
            said.append(_note(part))
    return ", ".join(code(name) for name in names.split(", ")), " ".join([escape(words), *said])


def _note(text: str) -> str:
    if text.startswith("default: "):
        return f"Default: `{text.removeprefix('default: ')}`."
    if bounds := re.fullmatch(r"(\d+)<=x<=(\d+)", text):
        return f"From {bounds[1]} to {bounds[2]}."
    if bound := re.fullmatch(r"x>=(\d+)", text):
        return f"At least {bound[1]}."
    return sentence(text)


# ------------------------------------------------------------------------------------------------- configuration


def configuration() -> str:
    """Returns the page of all configuration keys."""
    out = paragraphs(
        """
        # Configuration

        A configuration is a YAML file of four sections. Every key may be left out, except `corpus.path`.
        `charlm config init` writes a file with all keys, and `charlm config check` checks one. On the command line
        `--set model.hidden_size=128` sets one key.

        The defaults below hold where a configuration file is given. `charlm train --corpus my.txt` without a file
        chooses some of the values from the text, the budget and the machine instead;
        [Recipes](../explanation/recipes.md) says which and why.

        An amount of training is a time (`3m`, `1h30m`, `90 seconds`), a number of epochs (`20 epochs`), of steps
        (`5000 steps`) or of characters (`10M characters`). `training.evaluate_every` may also be a share of the
        budget (`10%`).
        """
    )
    for name, field in Config.model_fields.items():
        section: Any = field.annotation
        rows = [
            (
                code(f"{name}.{key}"),
                _default(info),
                _meaning(info),
            )
            for key, info in section.model_fields.items()
        ]
        out += f"## {name}\n\n{prose(inspect.getdoc(section) or '')}"
        out += table(["Key", "Default", "Meaning"], rows)
    out += paragraphs(
        """
        ## Keys of earlier versions

        These keys are refused. The message says what to write instead.
        """
    )
    return out + table(
        ["Key", "What to do"], [(code(key), sentence(escape(words))) for key, words in RETIRED.items()]
    )


def _default(info: Any) -> str:
    if info.default is PydanticUndefined:
        return "none: it must be given"
    return code(str(info.default) if isinstance(info.default, str) else json.dumps(info.default))


def _meaning(info: Any) -> str:
    """Returns what a key is for and what it may be."""
    allowed = describe_allowed(info)
    choices = allowed.removeprefix("one of ").removesuffix(" or null").split(", ") if "one of" in allowed else []
    said = sentence(escape(info.description or ""))
    listed = re.sub(r"\b(null|true|false)\b", r"`\1`", allowed)
    if choices:
        names = [f"`{choice}`" for choice in [*choices, *(["null"] if allowed.endswith(" or null") else [])]]
        listed = f"{', '.join(names[:-1])} or {names[-1]}"
    return f"{said} Allowed: {listed}."


# ------------------------------------------------------------------------------------------------- fields


def fields_and_exit_codes() -> str:
    """Returns the page of what commands print for programs, and of exit codes."""
    return "".join(
        part if part.startswith("|") else paragraphs(part)
        for part in (
            """
            # Fields and exit codes

            Output for programs uses the same names everywhere: in JSON, in the header of TSV, and as attributes in
            [Python](python.md). Logarithms are natural, in nats, unless `--log-base` says otherwise. None in Python
            is `null` in JSON.

            ## Scores

            `charlm score --format jsonl` prints one object for each sentence; `--format tsv` prints the same as
            columns. [Scoring](../explanation/scoring.md) defines each figure.
            """,
            field_table(Score, score_formats.FIELDS),
            """
            With `--measure` there is also `score`, the measure that was asked for, and with `--rank` also `rank`,
            which is 1 for the best sentence. With `--per-char` there is `chars`, a list with an object for each
            character:
            """,
            field_table(CharacterScore),
            """
            With `--alternatives` each of them also has `alternatives`, a list of objects with `char` and `logprob`.

            With `--per-word` there is `words`, a list with an object for each word. In TSV each word has a line of
            its own, and `sentence_id` and `word_id` stand before these columns:
            """,
            field_table(WordScore, score_formats.WORD_FIELDS),
            """
            If a column of the input has one of these names, it is printed with `input_` before its name.

            ### A whole file

            After the sentences of a file, `charlm score` prints figures of all of them:
            """,
            field_table(Summary, score_formats.FIGURES),
            """
            ## Evaluations

            `charlm eval --format json` prints one object. It has the fields that begin with `memory` and `dynamic`
            only with `--dynamic`, and the last one only with `--baseline`.
            """,
            field_table(Evaluation),
            """
            ### What a model writes

            `charlm eval --samples 100 --format json` compares samples of the model with held-out text:
            """,
            field_table(WritingEvaluation),
            "`written` and `held_out` are objects with these fields:",
            field_table(WritingFigures),
            """
            ## Minimal pairs

            `charlm pairs --format json` prints one object. It has `measure`, the fields below for all pairs, and
            `groups`, a list with an object for each group, which has the same fields and `group`.
            """,
            field_table(Accuracy),
            """
            With `--against` there is also `against`, an object that holds the figures of the second model:
            """,
            field_table(Comparison),
            """
            ## Training

            `metrics.jsonl` in the run folder holds one object for each evaluation during training:
            """,
            field_table(Metrics),
            """
            ## Comparisons

            `charlm compare --format json` prints `prompt` and `rows`, a list with an object for each line of the
            table:
            """,
            field_table(Row),
            "Each of `runs` has these fields:",
            field_table(RunResult),
            "`curve` is a list of objects with these fields:",
            field_table(CurvePoint),
            "With `--text` there is also `difference`:",
            field_table(Difference),
            """
            ## Exit codes
            """,
            table(["Code", "Meaning"], _exit_codes()),
            """
            Bad input never ends in a traceback. One message on standard error names the file, the line, the key or
            the character, and says what to do.
            """,
        )
    )


def _exit_codes() -> list[tuple[str, str]]:
    found = re.findall(r"^(\d+) +(.*)$", inspect.getdoc(failures) or "", re.M)
    return [(number, sentence(escape(words))) for number, words in found]


# ------------------------------------------------------------------------------------------------- Python


def python() -> str:
    """Returns the page of all public Python names."""
    names = [name for name in charlm.__all__ if name != "__version__"]
    values = {name: getattr(charlm, name) for name in names}
    functions = [name for name, value in values.items() if inspect.isfunction(value)]
    failing = [name for name, value in values.items() if inspect.isclass(value) and issubclass(value, Exception)]
    enums = [name for name, value in values.items() if inspect.isclass(value) and issubclass(value, enum.Enum)]
    models = ["LanguageModel"]
    data = [name for name in names if name not in {*functions, *failing, *enums, *models}]
    out = "# Python\n\n"
    out += prose((inspect.getdoc(charlm) or "").partition("\n\n")[0])
    out += fence(
        inspect.cleandoc((inspect.getdoc(charlm) or "").split("\n\n", 1)[1].rpartition("\n\n")[0]), "python"
    )
    out += (
        "These are all public names. Other modules are charlm's own and may change; the adapters for decoders, "
        "`charlm.decoders`, are described in [Decoders](../explanation/decoders.md). "
        "`charlm.__version__` is the version.\n\n"
    )
    out += "## Functions\n\n" + "".join(f"### {n}\n\n{_function(f'charlm.{n}', values[n])}" for n in functions)
    out += "## The model\n\n### LanguageModel\n\n" + explain(charlm.LanguageModel, leave_out=["Args"])
    for name, value in [*_methods(charlm.LanguageModel), *_methods(StatefulModel)]:
        out += f"#### {name}\n\n{_function(name, value)}"
    out += "## Results and settings\n\n" + "".join(f"### {name}\n\n{_data(values[name])}" for name in data)
    out += "## Choices\n\nArguments that take one of these also accept its text.\n\n"
    for name in enums:
        choices = ", ".join(f"`{choice.value}`" for choice in values[name])
        out += f"### {name}\n\n{explain(values[name])}One of {choices}.\n\n"
    out += "## Exceptions\n\n" + prose(
        "The command line prints the message of an exception and exits with its code. In Python they are ordinary "
        "exceptions, and `exit_code` is their attribute."
    )
    rows = []
    for name in sorted(failing, key=lambda name: (len(values[name].__mro__), name)):
        kind = values[name]
        exit_code = str(kind.exit_code) if kind is not errors.Interrupted else "128 + the signal"
        rows.append(
            (code(name), code(kind.__base__.__name__), exit_code, escape(docstring(kind)[0].split("\n")[0]))
        )
    out += table(["Exception", "Is a", "Exit code", "Meaning"], rows)
    return out


def _methods(kind: type) -> list[tuple[str, Any]]:
    found = [(name, value) for name, value in vars(kind).items() if not name.startswith("_")]
    return [(n, v) for n, v in found if inspect.isfunction(v) or isinstance(v, (property, classmethod))]


def _function(name: str, value: Any) -> str:
    if isinstance(value, property):
        return fence(f"{name}: {inspect.signature(value.fget or _function).return_annotation}", "python") + explain(
            value
        )
    return fence(signature(name, value), "python") + explain(value)


def _data(kind: type) -> str:
    """Returns the description of a class whose objects hold values."""
    out = ""
    if dataclasses.is_dataclass(kind) and all(_has_default(field) for field in dataclasses.fields(kind)):
        out += fence(signature(f"charlm.{kind.__name__}", kind).removesuffix(" -> None"), "python")
    out += explain(kind, leave_out=["Attributes", "Args"])
    said = fields(kind)
    if said:
        out += table(["Attribute", "Meaning"], [(code(name), sentence(escape(words))) for name, words in said])
    for name, value in _methods(kind):
        if inspect.isfunction(value):
            out += f"#### {kind.__name__}.{name}\n\n{_function(name, value)}"
    return out


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def signature(name: str, function: Callable[..., Any]) -> str:
    """Returns a function's arguments, types and result as Python would have them written."""
    found = inspect.signature(function)
    parts: list[str] = []
    keyword_only = False
    for parameter in found.parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            parts.append("*")
        part = f"**{parameter.name}" if parameter.kind is parameter.VAR_KEYWORD else parameter.name
        if parameter.annotation is not parameter.empty:
            part += f": {parameter.annotation}"
        if parameter.default is not parameter.empty:
            part += f" = {_written(parameter.default)}"
        parts.append(part)
    result = f" -> {found.return_annotation}"
    line = f"{name}({', '.join(parts)}){result}"
    if len(line) <= _SIGNATURE_CHARACTERS:
        return line
    return f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){result}"


def _written(value: Any) -> str:
    """Returns a default as it is written in code."""
    if isinstance(value, enum.Enum):
        return _written(value.value)
    if callable(value) or repr(value) == "<factory>" or " object at " in repr(value):
        return "..."
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


# ------------------------------------------------------------------------------------------------- files


def files() -> str:
    """Returns the page of the files of a run folder."""
    text = inspect.getdoc(run_folder) or ""
    entries: list[list[str]] = []
    for line in text.splitlines():
        if found := re.match(r" *(RUN/\S+) +(.*)", line):
            entries.append([found[1], found[2]])
        elif entries and line.startswith("        "):
            entries[-1][1] += f" {line.strip()}"
    said = {"format": f"the number of the format, {RUN_FORMAT}", **dict(docstring(Vocabulary)[1]["Args"])}
    said["characters"] = said.pop("symbols")
    keys = json.loads(Vocabulary(["<unk>", "\n", "a"], [0, 1, 1]).to_json())
    return "".join(
        (
            paragraphs(
                """
                # Files of a run folder

                `charlm train` writes everything that it makes into one folder, and prints its name. You can move,
                copy and rename this folder.
                """
            ),
            table(["File", "What it holds"], [(code(name), sentence(escape(words))) for name, words in entries]),
            prose(text.rpartition("\n\n")[2]),
            paragraphs(
                f"""
                Scoring and writing read `config.yaml`, `vocabulary.json` and the `.safetensors` files beside them:
                send these to share a model. `RUN/last` is needed only to continue training. `charlm report` makes a
                page of a run, and `charlm export` a file or folder for other programs.

                The number of this format is {RUN_FORMAT}. It stands in `vocabulary.json` as `format`, and in the
                header of each `.safetensors` file as `charlm_format`. A run of another format is refused, and the
                message says what to do.

                ## config.yaml

                The complete configuration, with every key; [Configuration](configuration.md) explains them. It can
                be used to train again: `charlm train RUN/config.yaml`.

                ## vocabulary.json

                One JSON object:
                """
            ),
            table(["Key", "Meaning"], [(code(key), sentence(escape(said[key]))) for key in keys]),
            paragraphs(
                """
                ## model.safetensors

                The weights as safetensors, with the names that PyTorch gives them, such as
                `recurrent.weight_ih_l0`, and the powers of the mixture. `charlm inspect RUN` lists the names and
                shapes. The header holds a checksum of the tensors and one of the vocabulary.

                ## metrics.jsonl

                Each line is a JSON object with the fields under [Training](fields-and-exit-codes.md#training).

                ## samples.txt

                Each evaluation has a line `--- step N`, the text that the model wrote, and an empty line.

                ## The cache

                Files that charlm can make again are kept in a cache folder, not in the run folder. If you remove
                it, charlm makes them again when they are needed.
                """
            ),
            prose((inspect.getdoc(cache_folder) or "").partition("\n\n")[2]),
        )
    )


PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands,
    "configuration.md": configuration,
    "fields-and-exit-codes.md": fields_and_exit_codes,
    "python.md": python,
    "files.md": files,
}


def make_page(name: str) -> str:
    """Returns the page of this name."""
    return f"{_HEAD}{PAGES[name]().rstrip()}\n"


def main() -> None:
    """Writes all pages."""
    FOLDER.mkdir(exist_ok=True)
    for name in PAGES:
        (FOLDER / name).write_text(make_page(name), encoding="utf-8")


if __name__ == "__main__":
    main()
