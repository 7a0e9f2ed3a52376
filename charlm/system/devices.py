"""Where to compute."""

from __future__ import annotations

import torch

from charlm.errors import InputError


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
