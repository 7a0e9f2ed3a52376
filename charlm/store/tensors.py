"""Weights from a file to a model: safetensors, checked before memory is taken and before a number is used.

The file is untrusted. `charlm.system.untrusted` maps it into memory; names, shapes and dtypes are compared with the
model's; and only then is memory allocated, which is therefore never more than the size of the file.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from charlm.errors import RunError
from charlm.system.run_format import RUN_FORMAT, check_format
from charlm.system.untrusted import map_safetensors

Array = NDArray[Any]

# Weights, and powers of a mixture, beyond this have diverged. Below it nothing that the model computes can overflow
# float32: every state lies between -1 and 1 or, in the cell of the LSTM, grows by at most 1 a step, and the largest
# number is a logit from a factored output, to a power: 16384 · 1e9 · 16384 · 1e9 · 1e9 < 3.4e38. So a model that
# was loaded never gives NaN.
LARGEST_WEIGHT = 1e9


def read_tensors(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """Maps the tensors of an untrusted file into memory, without allocating any yet.

    Returns:
        The tensors by name, and the texts beside them in the header.

    Raises:
        RunError: the file is missing, damaged, of another program or from a newer charlm.
    """
    try:
        tensors, header = map_safetensors(path)
        form = header.get("charlm_format", "")
        if not (form.isascii() and form.isdecimal() and len(form) < 10):
            raise RunError(f"{path}: not written by charlm")
        check_format(path, int(form))
        return tensors, header
    except (OSError, ValueError, MemoryError) as error:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
            raise RunError(f"{path}: there is not enough memory to load this file") from None
        raise RunError(f"{path}: damaged or not a safetensors file: {str(error)[:200]}") from None


def pack_tensors(tensors: Mapping[str, Array], header: Mapping[str, str]) -> bytes:
    """Returns a safetensors file with a checksum; the same tensors and header give the same bytes."""
    flat = {name: np.ascontiguousarray(value).reshape(value.shape) for name, value in tensors.items()}
    header = {"charlm_format": str(RUN_FORMAT), **header}
    content = safetensors.numpy.save(flat, {**header, "sha256": _checksum(flat, header)})
    # The library writes the header's texts in any order.
    end = 8 + int.from_bytes(content[:8], "little")
    head = json.loads(content[8:end])
    head["__metadata__"] = dict(sorted(head["__metadata__"].items()))
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, memoryview(content)[end:]])


def check_whole(tensors: Mapping[str, Array], header: Mapping[str, str], source: Path) -> None:
    """Compares what `read_tensors` gave with its checksum; files that other programs have made have none.

    Raises:
        RunError: they do not match.
    """
    texts = dict(header)
    checksum = texts.pop("sha256", None)
    if checksum is not None and checksum != _checksum(tensors, texts):
        raise RunError(f"{source}: damaged: its content does not match its checksum")


def _checksum(tensors: Mapping[str, Array], texts: Mapping[str, str]) -> str:
    """Sums up all that a safetensors file means, so that no flipped bit is taken for a weight."""
    digest = hashlib.sha256(json.dumps(dict(texts), sort_keys=True).encode())
    for name in sorted(tensors):
        value = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} torch.{value.dtype} {tensors[name].shape}".encode())  # as torch names its dtypes
        digest.update(value.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def check_tensors(tensors: Mapping[str, Array], expected: Mapping[str, Array], source: Path) -> None:
    """Compares every name, shape and dtype with those expected, of which no number is looked at.

    Raises:
        RunError: a tensor is missing, superfluous, or of another shape or dtype.
    """
    for name, value in expected.items():
        if name not in tensors:
            raise RunError(f"{source}: the tensor {name} is missing")
        if tensors[name].shape != value.shape or tensors[name].dtype != value.dtype:
            raise RunError(
                f"{source}: {name} is {_describe(tensors[name])}, but the configuration asks for {_describe(value)}"
            )
    if extra := sorted(set(tensors) - set(expected)):
        raise RunError(f"{source}: has tensors that this model does not have: {', '.join(extra[:5])[:200]}")


def check_weights(tensors: Mapping[str, Array], expected: Mapping[str, Array], source: Path) -> None:
    """Checks that tensors are the weights that are expected, of which the shapes alone are looked at.

    Raises:
        RunError: see `check_tensors`; or a tensor has numbers that no model can use.
    """
    check_tensors(tensors, expected, source)
    if bad := unusable(tensors):
        raise RunError(
            f"{source}: {bad} has numbers that are not finite or are larger than {LARGEST_WEIGHT:g}; "
            "the training has diverged or the file is damaged"
        )


def unusable(tensors: Mapping[str, Array]) -> str | None:
    """Returns the name of a tensor with NaN, infinite or absurdly large numbers; None if there is none."""
    for name, value in tensors.items():
        low, high = value.min(), value.max()  # NaN where there is one, and no copy is made
        if not (low >= -LARGEST_WEIGHT and high <= LARGEST_WEIGHT):
            return name
    return None


def _describe(tensor: Array) -> str:
    return f"{tensor.dtype} {tensor.shape}"
