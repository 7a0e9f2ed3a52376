"""What tests of hostile run folders share: things to put into one, and how it must be refused."""

import json
import os
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import safetensors.torch
import torch

from charlm.errors import RunError
from charlm.system.run_format import RUN_FORMAT

Bounds = Callable[[], AbstractContextManager[None]]
Attack = Callable[[Path], object]

OURS = {"charlm_format": str(RUN_FORMAT)}  # in the header of each file of tensors


def in_place(name: str, kind: str) -> Attack:
    """Puts something else than a file there: a FIFO, a folder, a terabyte of holes, or a link to what is named."""

    def act(run: Path) -> None:
        (path := run / name).unlink()
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        elif kind == "terabyte":
            path.touch()
            os.truncate(path, 10**12)
        else:
            path.symlink_to(kind)

    return act


def put(name: str, content: str | bytes | Callable[[], str | bytes]) -> Attack:
    """Replaces a file."""

    def act(run: Path) -> None:
        data = content() if callable(content) else content
        (run / name).write_bytes(data if isinstance(data, bytes) else data.encode())

    return act


def tensors(name: str, change: Callable[[dict[str, torch.Tensor]], object]) -> Attack:
    """Rewrites the tensors of a file after a change, without a checksum."""

    def act(run: Path) -> None:
        values = safetensors.torch.load((run / name).read_bytes())
        change(values)
        (run / name).write_bytes(safetensors.torch.save(values, OURS))

    return act


def split_header(content: bytes) -> tuple[bytes, bytes]:
    """Splits a safetensors file into its header and what comes behind."""
    size = struct.unpack("<Q", content[:8])[0]
    return content[8 : 8 + size], content[8 + size :]


def joined(header: bytes, rest: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + rest


def header(name: str, change: Callable[[str], str]) -> Attack:
    """Rewrites the text of the header of a file, its length put right."""

    def act(run: Path) -> None:
        text, rest = split_header((run / name).read_bytes())
        (run / name).write_bytes(joined(change(text.decode()).encode(), rest))

    return act


def claim(name: str, tensor: str, shape: list[int], *, offsets: list[int] | None = None) -> Attack:
    """Makes the header say that a tensor has another shape, and the place of its bytes fit or not."""

    def change(text: str) -> str:
        data = json.loads(text)
        data[tensor] |= {"shape": shape} | ({"data_offsets": offsets} if offsets else {})
        return json.dumps(data)

    return header(name, change)


def check_refused(act: Callable[[Path], object], run: Path, complaint: str, bounds: Bounds) -> None:
    """Checks that what is done with a run ends in one message that names it, in bounded time and memory."""
    with bounds(), pytest.raises(RunError, match=complaint) as caught:
        act(run)
    assert str(run) in str(caught.value)
    assert len(str(caught.value)) < 1000
