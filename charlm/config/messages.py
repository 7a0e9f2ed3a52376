"""The messages for an invalid configuration: each problem with its key, its value and what is allowed."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from charlm.config.schema import RETIRED, Config, keys

_MAX_QUOTED_CHARACTERS = 100
_TYPE_NAMES: dict[Any, str] = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "a string",
    type(None): "null",
}


def problems_in(error: ValidationError, lines: Mapping[str, int]) -> Iterator[str]:
    """Yields a message for each invalid key; `lines` holds the line numbers of the keys that stand in a file."""
    fields = dict(keys())
    reported: set[str] = set()
    for item in error.errors(include_url=False):
        # The first two parts are the section and the key; further ones are members of a union or list items.
        dotted = ".".join(str(part) for part in item["loc"][:2])
        if dotted in reported:
            continue
        reported.add(dotted)
        where = f" (line {lines[dotted]})" if dotted in lines else ""
        field = fields.get(dotted)
        value = _format_value(item["input"])
        key = shorten(dotted)
        if item["type"] == "extra_forbidden":
            retired = f"this key no longer exists; {RETIRED[dotted]}" if dotted in RETIRED else ""
            yield f"{key}{where}: {retired or f'unknown key{_suggestion(dotted)}'}"
        elif item["type"] == "missing":
            yield f"{key}: missing" + (
                f". {field.description}" if field else "; add this section, with corpus.path, the text to train on"
            )
        elif field is None:
            yield f"{key}{where} = {value}: must be a section that contains keys and values"
        elif item["type"] == "value_error":
            yield f"{key}{where} = {value}: {item['ctx']['error']}"
        else:
            yield f"{key}{where} = {value}: must be {describe_allowed(field)}"


def section_problems(error: ValidationError, section: type[BaseModel]) -> Iterator[str]:
    """Yields what is wrong with single values of a section: the key in words, its value and what is allowed."""
    for item in error.errors(include_url=False):
        name = str(item["loc"][0])
        field = section.model_fields.get(name)
        what = f"must be {describe_allowed(field)}" if field else "there is no such setting"
        yield f"{name.replace('_', '-')} {_format_value(item['input'])}: {what}"


def list_changes(before: Mapping[str, Any], now: Mapping[str, Any], keys: Iterable[str]) -> str:
    """Returns a line for each of these keys: its value in a run, and what is asked for now."""
    return "".join(f"\n  {key}: {before[key]!r} in the run, {now[key]!r} now" for key in keys)


def _format_value(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python refuses to format integers of more than 4,300 digits
        return "a very long number"
    return shorten(text)


def shorten(text: str) -> str:
    """Cuts a text to a length that suits a message."""
    return text if len(text) <= _MAX_QUOTED_CHARACTERS else text[: _MAX_QUOTED_CHARACTERS - 3] + "..."


def _suggestion(dotted: str) -> str:
    """Suggests the likeliest spelling of a key, or its place if it stands in the wrong section."""
    name = dotted.rpartition(".")[2]
    places = {key.rpartition(".")[2]: key for key, _ in keys()}
    if dotted == places.get(name):  # a file writes the dotted key as one key
        section = dotted.partition(".")[0]
        return f"; write {name} inside the section {section}:"
    if "." not in dotted:
        places |= {section: section for section in Config.model_fields}
    close = difflib.get_close_matches(name, places, n=1)
    return f"; did you mean {places[close[0]]}?" if close else ""


def describe_allowed(field: FieldInfo) -> str:
    """Describes the values that a key accepts, for example `an integer, at least 1 or null`."""
    words: list[str] = []
    for member in _union_members(field.annotation):
        kind, *own = get_args(member) if get_origin(member) is Annotated else (member,)
        metadata = [meta for more in own for meta in getattr(more, "metadata", ())]
        if get_origin(kind) is Literal:
            words.append("one of " + ", ".join(map(str, get_args(kind))))
        else:
            words.append(", ".join([_TYPE_NAMES.get(kind, "a list of strings"), *_describe_bounds(metadata)]))
    words[0] = ", ".join([words[0], *_describe_bounds(field.metadata)])
    return " or ".join(words)


def _describe_bounds(metadata: Iterable[Any]) -> Iterator[str]:
    for meta in metadata:
        for name, word in (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below")):
            if (bound := getattr(meta, name, None)) is not None:
                yield f"{word} {bound:g}" if isinstance(bound, float) else f"{word} {bound}"


def _union_members(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) in (Union, types.UnionType):
        return get_args(annotation)
    return (annotation,)
