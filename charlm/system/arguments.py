"""Arguments of the Python API, refused by name where they are of another kind than they must be."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from numbers import Integral, Real
from typing import Any

from charlm.errors import InputError

_MAX_QUOTED_CHARACTERS = 80


def check_text(value: Any, name: str) -> None:
    """Raises an InputError unless the value is a string."""
    if not isinstance(value, str):
        raise InputError(f"{name} must be a string, not {_describe(value)}")


def check_integer(value: Any, name: str) -> None:
    """Raises an InputError unless the value is an integer."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InputError(f"{name} must be an integer, not {_describe(value)}")


def check_number(value: Any, name: str) -> None:
    """Raises an InputError unless the value is a number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(f"{name} must be a number, not {_describe(value)}")


def check_path(value: Any, name: str) -> None:
    """Raises an InputError unless the value is a path of a file or folder."""
    if not isinstance(value, (str, os.PathLike)):
        raise InputError(f"{name} must be a path, not {_describe(value)}")


def each_of(values: Any, name: str) -> Iterator[Any]:
    """Returns an iterator over values; an InputError if they are none that can be iterated over, or one string."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise InputError(f"{name} must be a list or another iterable, not {_describe(values)}")
    return iter(values)


def each_text(values: Any, name: str) -> Iterator[str]:
    """Yields strings; an InputError at the first value that is none."""

    def check(found: Iterator[Any]) -> Iterator[str]:
        for number, value in enumerate(found, 1):
            check_text(value, f"{name}: number {number}")
            yield value

    return check(each_of(values, name))


def _describe(value: Any) -> str:
    if value is None:
        return "None"
    shown = repr(value)
    shown = shown if len(shown) <= _MAX_QUOTED_CHARACTERS else shown[: _MAX_QUOTED_CHARACTERS - 3] + "..."
    return f"{shown} ({type(value).__name__})"
