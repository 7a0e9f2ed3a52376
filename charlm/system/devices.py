"""Where to compute, and with how many threads."""

from __future__ import annotations

import torch

from charlm.errors import InputError

_MAX_THREADS = 1024  # far more than that crash the process


def find_device(name: str) -> torch.device:
    """Returns the device; `auto` is CUDA where there is one, else the CPU.

    Raises:
        InputError: this machine, or this build of torch, has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(name, False):
        there = ", ".join(key for key, yes in available.items() if yes)
        raise InputError(f"device {name}: not on this machine; there is: {there}")
    return torch.device(name)


def set_threads(threads: int | None) -> None:
    """Sets how many CPU threads torch uses; None changes nothing.

    Raises:
        InputError: there cannot be so many.
    """
    if threads is not None:
        if not 1 <= threads <= _MAX_THREADS:
            raise InputError(f"threads {threads}: must be from 1 to {_MAX_THREADS}")
        torch.set_num_threads(threads)
