"""What a checkpoint says, held against the training that is to go on with it, before any of it is used.

A checkpoint may come from a stranger as weights may (`weights`): counters are numbers that a training can reach,
and of tensors every name, shape and dtype, and then every number, is looked at.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from charlm.errors import RunError
from charlm.model.network import CharacterModel
from charlm.store.tensors import check_tensors, check_weights, unusable
from charlm.training.optimization import kept_by

T = TypeVar("T")

_LARGEST_COUNT = 2**53  # of steps, characters or seconds: the largest that is exact in every reader of JSON
_MAY_BE_NEGATIVE = ("exp_avg", "momentum_buffer")  # of what optimisers keep


def parts_of(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Sorts the tensors of a checkpoint by what they belong to: `model`, `optimizer`, `state` and `rng`."""
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in ("model", "optimizer", "state", "rng")}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = value
    return parts


def counters(kind: type[T], data: Any) -> T:
    """Makes a dataclass of counters from what stood in JSON.

    Raises:
        ValueError: one is missing, not a number of its type, or not one that a training can reach.
    """
    names = {field.name: type(field.default) for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if not isinstance(data, dict) or set(data) != set(names):
        raise ValueError(f"not the counters {', '.join(names)}")
    for name, number in names.items():
        unset = name == "best_loss" and data[name] == float("inf")
        if type(data[name]) is not number or not (0 <= data[name] <= _LARGEST_COUNT or unset):
            raise ValueError(f"{name} is {str(data[name])[:50]}")
    return kind(**data)


def check_parts(
    parts: Mapping[str, Mapping[str, Tensor]],
    model: CharacterModel,
    optimizer: torch.optim.Optimizer,
    *,
    begun: bool,
    rows: int | None,
    source: Path,
) -> None:
    """Checks the tensors of a checkpoint.

    Args:
        parts: see `parts_of`.
        model: that they are for.
        optimizer: that they are for.
        begun: whether the training had made a step, so that there are a state and what the optimiser keeps.
        rows: of the next window, if the state is carried into it; else the state is of any number of rows.
        source: the file.

    Raises:
        RunError: a tensor is missing, superfluous, of another shape or dtype, or has impossible numbers.
    """
    check_weights(model, parts["model"], source)
    kept, state = parts["optimizer"], parts["state"]
    if rows is None:
        rows = max([1, *(value.shape[0] for value in state.values() if value.dim())])
    layers = enumerate(model.initial_state(1)) if begun else ()
    like = {f"{layer}.{i}": part.expand(rows, -1) for layer, of in layers for i, part in enumerate(of)}
    check_tensors(state, like, source)
    check_tensors(kept, kept_by(optimizer) if begun else {}, source)
    bad = unusable(state)
    for name, value in kept.items():
        low, high = torch.aminmax(value)
        least = -torch.inf if name.endswith(_MAY_BE_NEGATIVE) else 0.0
        if not (low >= least and bool(low.isfinite()) and bool(high.isfinite())):
            bad = f"optimizer.{name}"
    if bad:
        raise RunError(f"{source}: damaged checkpoint: {bad} holds numbers that no training reaches")
