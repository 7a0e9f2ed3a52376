"""From YAML, dictionaries and `--set` to a valid configuration."""

from __future__ import annotations

import itertools
import os.path
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from charlm.config.messages import problems_in, section_problems, shorten
from charlm.config.schema import Config
from charlm.config.shipped import find_config, suggest_shipped
from charlm.errors import ConfigError, InputError
from charlm.system.counts import count_of
from charlm.system.shell import quote_path
from charlm.system.untrusted import YamlLoader

MAX_CONFIG_BYTES = 1_000_000

_MOST_PROBLEMS = 50  # named in one message


def load_config(
    source: str | Path | Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    content: str | None = None,
) -> Config:
    """Reads and validates a configuration.

    Args:
        source: a YAML file, or `config:NAME` for one that comes with charlm; or the same as nested dictionaries; or
            None for defaults.
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
        path = find_config(source) if content is None else Path(source)
        try:
            data = _parse_yaml(path, _read_text(path) if content is None else content, lines)
        except ConfigError as error:
            if _looks_like_text(path):
                raise ConfigError(_not_a_configuration(path)) from None
            raise error from None
        if data and not data.keys() & Config.model_fields.keys() and _looks_like_text(path):
            raise ConfigError(_not_a_configuration(path))
        _anchor_paths(data, path.resolve().parent)
    for key, value in (overrides or {}).items():
        lines.pop(key, None)
        _assign(data, key, value)
    _anchor_paths(data, Path.cwd())
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        problems = list(itertools.islice(problems_in(error, lines), _MOST_PROBLEMS + 1))
        count = count_of(len(problems), "problem")
        if len(problems) > _MOST_PROBLEMS:
            count, problems[-1] = f"more than {_MOST_PROBLEMS} problems", "..."
        raise ConfigError(f"{name}: {count}\n  " + "\n  ".join(problems)) from None


Section = TypeVar("Section", bound=BaseModel)


def change_section(section: Section, values: Mapping[str, Any]) -> Section:
    """Returns a section of a configuration with some of its values replaced, by key.

    Raises:
        InputError: there is no such key, or a value is not allowed; the message names every problem.
    """
    try:
        return type(section).model_validate({**section.model_dump(), **values})
    except ValidationError as error:
        raise InputError("; ".join(section_problems(error, type(section)))) from None


def parse_assignment(text: str) -> tuple[str, Any]:
    """Reads one `--set key.path=value`; the value is YAML, so numbers, true and null mean what they say.

    Raises:
        ConfigError: there is no `=` or the value is not YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text}: must have the form section.key=value")
    try:
        return key.strip(), yaml.load(value, Loader=YamlLoader)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(f"--set {text[:100]}: the value is not valid YAML: {error}") from None


def _read_text(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        hint = suggest_shipped(path) if isinstance(error, FileNotFoundError) else ""
        raise ConfigError(f"{path}: cannot read the configuration: {error.strerror or error}{hint}") from None
    if len(raw) > MAX_CONFIG_BYTES:
        raise ConfigError(
            f"{path}: this file is larger than the {MAX_CONFIG_BYTES:,} bytes that a configuration may have"
        )
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: not UTF-8 text (the first invalid byte is at offset {error.start}); save it as UTF-8"
        ) from None


def _looks_like_text(path: Path) -> bool:
    """Says whether a path names what is there to be trained on, rather than a configuration."""
    return path.is_file() and path.suffix.lower() not in (".yaml", ".yml", ".json")


def _not_a_configuration(path: Path) -> str:
    return (
        f"{path}: not a configuration, which is a YAML file with a section `corpus:`; to train on this file as a "
        f"text, run `charlm train --corpus {quote_path(path)}`"
    )


def _parse_yaml(path: Path, text: str, lines: dict[str, int]) -> dict[str, Any]:
    """Returns the mapping in a YAML text and notes the line of each dotted key in `lines`."""
    try:
        loader = YamlLoader(text.removeprefix("\ufeff"))
        node = loader.get_single_node()
        if node is None:
            return {}
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(
                f"{path}: not a configuration; it must contain sections such as `corpus:` and `model:`, as "
                "`charlm config init` prints them"
            )
        return dict(_mapping(loader, node, "", lines, path))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{path}{where}: cannot be read as YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {shorten(str(error).splitlines()[0])}") from None
    except RecursionError:
        raise ConfigError(f"{path}: the YAML is nested too deeply") from None


def _mapping(
    loader: YamlLoader, node: yaml.MappingNode, prefix: str, lines: dict[str, int], path: Path
) -> Iterator[tuple[str, Any]]:
    seen: set[str] = set()
    for key_node, value_node in node.value:
        key = prefix + str(key_node.value)
        line = key_node.start_mark.line + 1
        if key in seen:
            raise ConfigError(
                f"{path}, line {line}: {shorten(key)} is given twice (first in line {lines[key]}); remove one of "
                "them"
            )
        seen.add(key)
        lines[key] = line
        if isinstance(value_node, yaml.MappingNode):
            value: Any = dict(_mapping(loader, value_node, f"{key}.", lines, path))
        else:
            value = loader.construct_object(value_node, deep=True)
        yield str(key_node.value), value


def _anchor_paths(data: dict[str, Any], folder: Path) -> None:
    """Makes the relative paths of the `corpus` section absolute, below `folder`."""

    def anchor(path: Any) -> Any:
        if not isinstance(path, str) or path in ("", "-") or path.startswith("corpus:"):
            return path
        return os.path.normpath(folder / os.path.expanduser(path))

    corpus = data.get("corpus")
    if isinstance(corpus, dict) and "path" in corpus:
        path = corpus["path"]
        paths = [anchor(p) for p in (path if isinstance(path, list) else [path])]
        corpus["path"] = paths[0] if len(paths) == 1 else paths
    if isinstance(corpus, dict):
        corpus |= {key: anchor(corpus[key]) for key in ("validation", "test") if key in corpus}


def _assign(data: dict[str, Any], dotted: str, value: Any) -> None:
    *sections, key = dotted.split(".")
    for section in sections:
        inner = data.get(section)
        if not isinstance(inner, dict):
            inner = data[section] = {}
        data = inner
    data[key] = value
