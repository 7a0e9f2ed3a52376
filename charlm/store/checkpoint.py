"""What a checkpoint holds, checked before training goes on from it and any of it is used.

A checkpoint may come from a stranger as weights may (`tensors`): counters are numbers that a training can reach,
and of tensors every name, shape and dtype, and then every number, is looked at.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from charlm.errors import RunError
from charlm.store.tensors import Array, check_tensors, check_weights, unusable

T = TypeVar("T")
Parts = dict[str, dict[str, Array]]

_LARGEST_COUNT = 2**53  # of steps, characters or seconds: the largest that is exact in every reader of JSON
_MAY_BE_NEGATIVE = ("exp_avg", "momentum_buffer")  # of what optimisers store


def join_parts(parts: Mapping[str, Mapping[str, T]]) -> dict[str, T]:
    """Names the tensors of all parts for one file: PART.NAME."""
    return {f"{part}.{name}": value for part, tensors in parts.items() for name, value in tensors.items()}


def split_parts(tensors: Mapping[str, Array]) -> Parts:
    """Sorts the tensors of a checkpoint by what they belong to: `model`, `optimizer`, `state` and `rng`."""
    parts: Parts = {part: {} for part in ("model", "optimizer", "state", "rng")}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = value
    return parts


def read_counters(kind: type[T], data: Any) -> T:
    """Makes a dataclass of counters from what stood in JSON.

    Raises:
        ValueError: one is missing, not a number of its type, or not one that a training can reach.
    """
    names = {field.name: type(field.default) for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if not isinstance(data, dict) or set(data) != set(names):
        raise ValueError(f"it does not have the counters {', '.join(names)}")
    for name, number in names.items():
        unset = name == "best_loss" and data[name] == float("inf")
        if type(data[name]) is not number or not (0 <= data[name] <= _LARGEST_COUNT or unset):
            raise ValueError(f"{name} is {str(data[name])[:50]}")
    return kind(**data)


def check_parts(parts: Parts, expected: Mapping[str, Mapping[str, Array]], source: Path) -> None:
    """Checks the tensors of a checkpoint.

    Args:
        parts: see `split_parts`.
        expected: of `model`, `optimizer` and `state` the tensors that training has there, as shapes.
        source: the file.

    Raises:
        RunError: a tensor is missing, superfluous, of another shape or dtype, or has impossible numbers.
    """
    check_weights(parts["model"], expected["model"], source)
    check_tensors(parts["state"], expected["state"], source)
    check_tensors(parts["optimizer"], expected["optimizer"], source)
    bad = unusable(parts["state"])
    for name, value in parts["optimizer"].items():
        low, high = value.min(), value.max()
        least = -np.inf if name.endswith(_MAY_BE_NEGATIVE) else 0.0
        if not (low >= least and np.isfinite(low) and np.isfinite(high)):
            bad = f"optimizer.{name}"
    if bad:
        raise RunError(f"{source}: damaged checkpoint: {bad} has numbers that no training can reach")
