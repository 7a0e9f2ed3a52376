"""Tensors of torch as arrays, and back: files, scores and texts are made from arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]


def as_array(tensor: Tensor) -> Array:
    """Returns a tensor as an array, which shares its memory if that is on the CPU.

    A tensor of the meta device, which has a shape alone, becomes an array that takes no memory either.
    """
    if tensor.is_meta:
        dtype = str(tensor.dtype).removeprefix("torch.")
        return np.broadcast_to(np.zeros((), dtype), tuple(tensor.shape))
    return tensor.detach().cpu().numpy()


def as_arrays(tensors: Mapping[str, Tensor]) -> dict[str, Array]:
    """Returns tensors as arrays, see `as_array`."""
    return {name: as_array(tensor) for name, tensor in tensors.items()}


def copy_as_tensors(arrays: Mapping[str, Array]) -> dict[str, Tensor]:
    """Returns copies of arrays as tensors on the CPU."""
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
