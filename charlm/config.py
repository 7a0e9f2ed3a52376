"""What a configuration may say: every key with its type, default, bounds and one line of help.

Validation, `charlm config init`, `charlm config schema` and the messages are all drawn from the four sections
below. Nothing here imports torch. What the values *do* is left to the builders, which take plain values.
"""

from __future__ import annotations

import difflib
import itertools
import math
import os.path
import re
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from charlm.errors import ConfigError

MAX_CONFIG_BYTES = 1_000_000
MAX_VALUE_LENGTH = 10_000  # no path is as long

_MOST_PROBLEMS = 50  # named in one message

# ----------------------------------------------------------------------------------------------------------
# Amounts: "90s", "1h30m", "20 epochs", "5000 steps", "10M characters", and for intervals also "10%"

_TIME = re.compile(r"(?:(?P<d>[\d.]+)d)?(?:(?P<h>[\d.]+)h)?(?:(?P<m>[\d.]+)m)?(?:(?P<s>[\d.]+)s)?")
_COUNT = re.compile(r"(?P<number>[\d_.]+)\s*(?P<scale>[kKMG]?)\s*(?P<unit>epoch|step|character)s?")
_PERCENT = re.compile(r"(?P<number>[\d.]+)\s*%")
_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_SCALE = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}


def parse_amount(text: str) -> tuple[str, float]:
    """Reads an amount of training.

    Args:
        text: for example `3m`, `1h30m`, `20 epochs`, `5000 steps`, `10M characters` or `10%`.

    Returns:
        The unit, one of `seconds`, `epochs`, `steps`, `characters` and `percent`, and a positive number.

    Raises:
        ValueError: the text is none of these.
    """
    text = text.strip()
    unit, amount = "", 0.0
    try:
        if match := _COUNT.fullmatch(text):
            unit = match["unit"] + "s"
            amount = float(match["number"].replace("_", "")) * _SCALE[match["scale"]]
        elif match := _PERCENT.fullmatch(text):
            unit, amount = "percent", float(match["number"])
        elif text and (match := _TIME.fullmatch(text)):
            unit = "seconds"
            amount = sum(float(n) * _SECONDS[u] for u, n in match.groupdict().items() if n)
    except ValueError:
        amount = 0.0
    if not 0 < amount < math.inf:
        raise ValueError("write for example 3m, 90s, 20 epochs, 5000 steps or 10M characters")
    return unit, amount


def _budget(text: str) -> str:
    if parse_amount(text)[0] == "percent":
        raise ValueError("a budget is a time, epochs, steps or characters, not a percentage")
    return text


def _interval(text: str) -> str:
    parse_amount(text)
    return text


# ----------------------------------------------------------------------------------------------------------
# The four sections


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


_Path = Annotated[str, Field(min_length=1)]


class CorpusConfig(_Section):
    """The text to learn from, and how it becomes numbers."""

    path: _Path | list[_Path] = Field(
        min_length=1,
        description="text file, folder, glob, .gz, `-` for standard input, `corpus:NAME` for a known corpus; "
        "or a list of these",
    )
    framing: Literal["stream", "lines"] = Field(
        "stream", description="stream: one running text; lines: each line a sentence of its own"
    )
    level: Literal["character", "byte"] = Field("character", description="what one symbol is")
    validation: float = Field(0.1, ge=0, lt=1, description="share held out at the end to choose the best weights")
    test: float = Field(0.0, ge=0, lt=1, description="share after that, never looked at in training")
    normalization: Literal["none", "nfc", "nfkc"] = Field(
        "none", description="Unicode normalisation, in training and in scoring"
    )
    lowercase: bool = Field(False, description="turn all letters into small ones")
    min_count: int = Field(1, ge=1, description="rarer characters of the training text become <unk>")
    max_line_length: int | None = Field(
        None, ge=1, description="in lines framing, leave out lines longer than this many characters"
    )


class ModelConfig(_Section):
    """The network: one-hot input, recurrent layers, softmax output."""

    cell: Literal["rnn", "lstm", "gru"] = Field("lstm", description="the recurrent cell")
    hidden_size: int = Field(256, ge=1, le=16384, description="units in each layer (H)")
    num_layers: int = Field(1, ge=1, le=16, description="recurrent layers on top of each other (L)")
    reset: Literal["after", "before"] = Field(
        "after",
        description="GRU only: the reset gate acts after W_h s (as PyTorch) or before (Cho et al.)",
    )
    bias: bool = Field(True, description="biases in the cells and at the output")
    embedding_size: int | None = Field(
        None, ge=1, le=16384, description="factors the input matrix through this width; null: one-hot"
    )
    output_rank: int | None = Field(
        None, ge=1, le=16384, description="factors the output matrix through this width; null: one matrix"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="dropped share between layers and before the output")
    recurrent_dropout: float = Field(
        0.0, ge=0, lt=1, description="dropped share of the recurrent weights W, drawn anew for each window"
    )
    ngram: int | None = Field(
        None,
        ge=2,
        le=16,
        description="mixes in an n-gram model of this order, counted in seconds; null: the network alone",
    )
    forget_bias: float = Field(
        1.0, ge=-100, le=100, description="LSTM only: where the bias of the forget gate starts"
    )
    recurrent_init: Literal["orthogonal", "uniform"] = Field(
        "orthogonal", description="how the recurrent matrices W start"
    )


class TrainingConfig(_Section):
    """How long, how fast and how carefully to learn."""

    budget: Annotated[str, AfterValidator(_budget)] = Field(
        "3m", description="when to stop: 3m, 1h30m, 20 epochs, 5000 steps, 10M characters"
    )
    batch_size: int = Field(16, ge=1, le=65536, description="sequences side by side (B)")
    sequence_length: int = Field(
        64, ge=1, le=65536, description="steps of truncated backpropagation through time (T)"
    )
    optimizer: Literal["sgd", "rmsprop", "adam", "adamw"] = Field(
        "adamw", description="how a gradient becomes a step"
    )
    learning_rate: float = Field(4e-3, gt=0, le=1e3, description="the highest learning rate of the schedule")
    momentum: float = Field(0.0, ge=0, lt=1, description="for sgd and rmsprop; 0 is the plain textbook rule")
    beta2: float = Field(0.99, ge=0, lt=1, description="decay of the squared gradients (adam, adamw, rmsprop)")
    weight_decay: float = Field(0.01, ge=0, le=1e3, description="of adamw, on matrices; biases are left alone")
    schedule: Literal["linear", "cosine", "constant", "step"] = Field(
        "linear", description="learning rate over the budget; all but constant come down by its end"
    )
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the budget in which the rate rises from zero")
    clip_norm: float | None = Field(1.0, gt=0, description="longest gradient, as a norm; null: never clipped")
    evaluate_every: Annotated[str, AfterValidator(_interval)] = Field(
        "10%", description="validation, sample and checkpoint: 10% of the budget, 30s, 1 epoch, ..."
    )
    early_stopping: int | None = Field(
        None, ge=1, description="stop after so many evaluations without a better validation loss"
    )
    keep: int = Field(
        1, ge=1, description="checkpoints of so many evaluations stay, to go back to; 1: the newest only"
    )
    backend: Literal["auto", "derived", "compiled", "fused", "bfloat16"] = Field(
        "auto",
        description="derived: by hand, in PyTorch; compiled: the same in C, where there is a C compiler; fused: "
        "PyTorch's (LSTM; with CUDA all but reset before); bfloat16: products in bfloat16; auto: the fastest here",
    )
    seed: int = Field(1, ge=0, lt=2**32, description="the same seed gives the same run")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where to compute")


class SamplingConfig(_Section):
    """What the samples written during training look like, and the defaults of `charlm sample`."""

    length: int = Field(200, ge=1, le=1_000_000, description="characters of a sample")
    temperature: float = Field(0.8, ge=0, le=100, description="0: always the likeliest character")
    top_k: int | None = Field(None, ge=1, description="draw from the K likeliest characters only")
    top_p: float | None = Field(
        None, gt=0, le=1, description="draw from the likeliest characters that hold this share"
    )
    min_p: float | None = Field(
        None, ge=0, le=1, description="leave out what is rarer than this times the likeliest"
    )


class Config(_Section):
    """A whole configuration, valid."""

    corpus: CorpusConfig
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    sampling: SamplingConfig = SamplingConfig()


# ----------------------------------------------------------------------------------------------------------
# Reading


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 4e-3 as a number, as YAML 1.2 does, and refuses what a configuration has no use for.

    Aliases can explode, tags (`!!int x`) crash PyYAML's own conversions, and a long enough `1:1:1` is a number to
    base 60 that takes for ever.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        problem = None
        if isinstance(event, yaml.AliasEvent):
            problem = "aliases (*name) are not used here; write the value out"
        elif getattr(event, "tag", None) is not None:
            problem = f"the tag {event.tag} is not used here"
        elif isinstance(event, yaml.ScalarEvent) and len(event.value) > MAX_VALUE_LENGTH:
            problem = f"a value of {len(event.value):,} characters; at most {MAX_VALUE_LENGTH:,} are read"
        if problem:
            raise yaml.composer.ComposerError(problem=problem, problem_mark=event.start_mark)
        return super().compose_node(parent, index)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"), list("-+0123456789")
)


def load_config(
    source: str | Path | Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    content: str | None = None,
) -> Config:
    """Reads and validates a configuration.

    Args:
        source: a YAML file; or the same as nested dictionaries; or None for defaults.
        overrides: values by dotted key, such as `{"model.hidden_size": 128}`; they win over `source`. A relative
            `corpus.path` in a file is relative to the file, in an override to the working folder.
        content: what stands in the YAML file, from a caller who has read it already.

    Returns:
        The valid configuration, `corpus.path` absolute.

    Raises:
        ConfigError: one message that lists every problem.
    """
    lines: dict[str, int] = {}
    data: dict[str, Any] = {}
    name = "configuration"
    if isinstance(source, Mapping):
        data = {k: dict(v) if isinstance(v, Mapping) else v for k, v in source.items()}
        _anchor_paths(data, Path.cwd())
    elif source is not None:
        name = str(source)
        path = Path(source)
        data = _parse_yaml(path, _read_text(path) if content is None else content, lines)
        _anchor_paths(data, Path(source).resolve().parent)
    for key, value in (overrides or {}).items():
        lines.pop(key, None)
        _assign(data, key, value)
    _anchor_paths(data, Path.cwd())
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        problems = list(itertools.islice(_problems(error, lines), _MOST_PROBLEMS + 1))
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        if len(problems) > _MOST_PROBLEMS:
            count, problems[-1] = f"more than {_MOST_PROBLEMS} problems", "..."
        raise ConfigError(f"{name}: {count}\n  " + "\n  ".join(problems)) from None


def parse_assignment(text: str) -> tuple[str, Any]:
    """Reads one `--set key.path=value`; the value is YAML, so numbers, true and null mean what they say.

    Raises:
        ConfigError: there is no `=` or the value is not YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text}: write --set section.key=value")
    try:
        return key.strip(), yaml.load(value, Loader=_Loader)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(f"--set {text[:100]}: the value is not valid YAML: {error}") from None


def _read_text(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the configuration: {error.strerror or error}") from None
    if len(raw) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{path}: larger than a configuration can be ({MAX_CONFIG_BYTES} bytes)")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})") from None


def _parse_yaml(path: Path, text: str, lines: dict[str, int]) -> dict[str, Any]:
    """Returns the mapping in a YAML text and notes the line of each dotted key in `lines`."""
    try:
        loader = _Loader(text.removeprefix("\ufeff"))
        node = loader.get_single_node()
        if node is None:
            return {}
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{path}: not a configuration; it should begin like `corpus:` and `model:`")
        return dict(_mapping(loader, node, "", lines, path))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{path}{where}: YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ConfigError(f"{path}: YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply") from None


def _mapping(
    loader: _Loader, node: yaml.MappingNode, prefix: str, lines: dict[str, int], path: Path
) -> Iterator[tuple[str, Any]]:
    seen: set[str] = set()
    for key_node, value_node in node.value:
        key = prefix + str(key_node.value)
        line = key_node.start_mark.line + 1
        if key in seen:
            raise ConfigError(f"{path}, line {line}: {_short(key)} stands twice (before in line {lines[key]})")
        seen.add(key)
        lines[key] = line
        if isinstance(value_node, yaml.MappingNode):
            value: Any = dict(_mapping(loader, value_node, f"{key}.", lines, path))
        else:
            value = loader.construct_object(value_node, deep=True)
        yield str(key_node.value), value


def _anchor_paths(data: dict[str, Any], folder: Path) -> None:
    """Makes the relative paths of `corpus.path` absolute, below `folder`."""

    def anchor(path: Any) -> Any:
        if not isinstance(path, str) or path in ("", "-") or path.startswith("corpus:"):
            return path
        return os.path.normpath(folder / os.path.expanduser(path))

    corpus = data.get("corpus")
    if isinstance(corpus, dict) and "path" in corpus:
        path = corpus["path"]
        paths = [anchor(p) for p in (path if isinstance(path, list) else [path])]
        corpus["path"] = paths[0] if len(paths) == 1 else paths


def _assign(data: dict[str, Any], dotted: str, value: Any) -> None:
    *sections, key = dotted.split(".")
    for section in sections:
        inner = data.get(section)
        if not isinstance(inner, dict):
            inner = data[section] = {}
        data = inner
    data[key] = value


# ----------------------------------------------------------------------------------------------------------
# Saying what is wrong


def _problems(error: ValidationError, lines: Mapping[str, int]) -> Iterator[str]:
    fields = dict(keys())
    told: set[str] = set()
    for item in error.errors(include_url=False):
        # The first two parts name the section and the key; later ones are branches of a union or list items.
        dotted = ".".join(str(part) for part in item["loc"][:2])
        if dotted in told:
            continue
        told.add(dotted)
        where = f" (line {lines[dotted]})" if dotted in lines else ""
        field = fields.get(dotted)
        value = _shown(item["input"])
        key = _short(dotted)
        if item["type"] == "extra_forbidden":
            yield f"{key}{where}: unknown key{_nearest(dotted)}"
        elif item["type"] == "missing":
            yield f"{key}: missing; give {field.description if field else 'this section'}"
        elif field is None:
            yield f"{key}{where} = {value}: must be a section of keys and values"
        elif item["type"] == "value_error":
            yield f"{key}{where} = {value}: {item['ctx']['error']}"
        else:
            yield f"{key}{where} = {value}: must be {allowed(field)}"


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python does not write integers of more than 4,300 digits
        return "a very long number"
    return _short(text)


def _short(text: str) -> str:
    return text if len(text) <= 100 else text[:97] + "..."


def _nearest(dotted: str) -> str:
    """Suggests the likeliest spelling, or the right place of a key that stands elsewhere."""
    name = dotted.rpartition(".")[2]
    places = {key.rpartition(".")[2]: key for key, _ in keys()}
    if dotted == places.get(name):  # written with its dot in a file
        section = dotted.partition(".")[0]
        return f"; write {name} below {section}:"
    if "." not in dotted:
        places |= {section: section for section in Config.model_fields}
    close = difflib.get_close_matches(name, places, n=1)
    return f"; did you mean {places[close[0]]}?" if close else ""


def keys() -> Iterator[tuple[str, FieldInfo]]:
    """Yields every dotted key of a configuration with its field, in order."""
    for section, field in Config.model_fields.items():
        assert isinstance(field.annotation, type)
        assert issubclass(field.annotation, BaseModel)
        for name, inner in field.annotation.model_fields.items():
            yield f"{section}.{name}", inner


def allowed(field: FieldInfo) -> str:
    """Says in words what a key may hold, for example `an integer, at least 1, or null`."""
    words: list[str] = []
    for branch in _branches(field.annotation):
        kind = get_args(branch)[0] if get_origin(branch) is Annotated else branch
        if get_origin(kind) is Literal:
            words.append("one of " + ", ".join(map(str, get_args(kind))))
        else:
            words.append(_WORDS.get(kind, "a list of texts"))
    bounds = [
        f"{word} {bound:g}" if isinstance(bound, float) else f"{word} {bound}"
        for meta in field.metadata
        for name, word in (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below"))
        if (bound := getattr(meta, name, None)) is not None
    ]
    words[0] = ", ".join([words[0], *bounds])
    return " or ".join(words)


_WORDS: dict[Any, str] = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "a text",
    type(None): "null",
}


def _branches(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) in (Union, types.UnionType):
        return get_args(annotation)
    return (annotation,)


# ----------------------------------------------------------------------------------------------------------
# Writing


def to_yaml(config: Config, *, comments: bool = False) -> str:
    """Writes a configuration as YAML, with `comments` as a manual of every key."""
    sections: list[str] = []
    for section, field in Config.model_fields.items():
        model = getattr(config, section)
        out = [f"{section}:"]
        if comments:
            assert isinstance(field.annotation, type)
            out.insert(0, f"# {(field.annotation.__doc__ or '').strip()}")
        for name, info in type(model).model_fields.items():
            if comments:
                out.append(f"  # {info.description}; {allowed(info)}")
            out.append(f"  {name}: {_scalar(getattr(model, name))}")
        sections.append("\n".join(out) + "\n")
    return "\n".join(sections)


def _scalar(value: Any) -> str:
    texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    readable = all(text.isprintable() for text in texts)  # else written with escapes
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=readable, width=float("inf")).strip()
    return text.removesuffix("...").strip()


def json_schema() -> dict[str, Any]:
    """Returns the JSON Schema of a configuration file, for editors that complete and check YAML."""
    schema = Config.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "charlm configuration"
    return schema
