"""JSON lines: an object or a list on each line, and a value in one by its path, such as `data.text`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from charlm.errors import CorpusError
from charlm.system.shell import quote_path
from charlm.system.untrusted import parse_json

MISSING = object()


def parse_json_line(line: str, where: str) -> Any:
    """Parses one line of JSON.

    Raises:
        CorpusError: it is not JSON, nested too deeply, has a key twice, or an integer of thousands of digits.
    """
    try:
        return parse_json(line)
    except ValueError as error:
        problem = str(error)
        if "integer string conversion" in problem:
            problem = "an integer has more than 4,300 digits"
        hint = "" if len(line) > 2 else "; in JSON lines each line is a complete object, as `jq -c .` writes it"
        raise CorpusError(f"{where}: not JSON: {problem[:200]}{hint}") from None


def parse_row(line: str, where: str) -> dict[str, Any]:
    """Returns the values of an object, or those of a list by their numbers, from 1.

    Raises:
        CorpusError: the line is neither; see `parse_json_line` too.
    """
    values = _values(parse_json_line(line, where))
    if values is None:
        raise CorpusError(f"{where}: this line is neither a JSON object nor a list")
    return values


def is_row(line: str) -> bool:
    """Says whether a line is an object or a list of JSON."""
    try:
        return _values(parse_json(line.removeprefix("\ufeff"))) is not None
    except ValueError:
        return False


def is_document(lines: Sequence[str]) -> bool:
    """Says whether the first lines of a file, without blank ones, begin one list of objects, or a spread object."""
    start = "".join(line.strip() for line in lines[:3]).removeprefix("\ufeff")
    if re.match(r'\[\{ *(?:"|\})', start):
        return True
    return lines[0].strip("\ufeff \t") == "{" and re.match(r'\{"[^"]*" *:', start) is not None


def document_advice(name: str) -> str:
    """Returns what to do with a file that is one JSON document."""
    return f"`jq -c '.[]' {quote_path(name)}` writes one object on each line"


def take(values: dict[str, Any], path: str) -> Any:
    """Takes the value at a path out of an object; `MISSING` if there is none.

    Keys may hold dots themselves: the longest that fits wins. Places in a list are numbers, from 1.
    """
    if path in values:
        return values.pop(path)
    for dot in reversed([match.start() for match in re.finditer(r"\.", path)]):
        inner = _values(values.get(path[:dot]))
        if inner is not None and (found := take(inner, path[dot + 1 :])) is not MISSING:
            return found
    return MISSING


def paths(values: dict[str, Any]) -> Iterator[str]:
    """Yields the names of the values, those of inner objects as paths."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from (f"{key}.{inner}" for inner in value)
        else:
            yield key


def _values(value: Any) -> dict[str, Any] | None:
    if isinstance(value, list):
        return {str(number): item for number, item in enumerate(value, 1)}
    return value if isinstance(value, dict) else None
