"""What is said of a configuration that is not valid: every problem, with its key, its value and what is allowed."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from charlm.config.schema import Config, keys


def problems_in(error: ValidationError, lines: Mapping[str, int]) -> Iterator[str]:
    """Yields one sentence for each key that is wrong; `lines` holds the line of each key that a file names."""
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
        key = shorten(dotted)
        if item["type"] == "extra_forbidden":
            yield f"{key}{where}: unknown key{_suggestion(dotted)}"
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
    return shorten(text)


def shorten(text: str) -> str:
    """Cuts a text to at most 100 characters, for a message."""
    return text if len(text) <= 100 else text[:97] + "..."


def _suggestion(dotted: str) -> str:
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
