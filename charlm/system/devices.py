"""Where to compute."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from charlm.errors import InputError

if TYPE_CHECKING:
    import torch

_ACCELERATORS = ("/dev/nvidiactl", "/dev/nvmap", "/dev/dxg", "/dev/kfd")  # of Linux, which torch could use


def find_device(name: str) -> torch.device:
    """Returns the device; `auto` is CUDA where there is one, else the CPU.

    Raises:
        InputError: this machine, or this build of torch, has no such device.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(name, False):
        there = ", ".join(key for key, yes in available.items() if yes)
        raise InputError(f"device {name}: not available on this machine; available devices: {there}")
    return torch.device(name)


def find_device_name(name: str) -> str:
    """Returns the name of the device, as `find_device`; without loading torch where only a CPU can be meant."""
    has_none = sys.platform.startswith("linux") and not any(map(os.path.exists, _ACCELERATORS))
    if name == "cpu" or (name == "auto" and (has_none or sys.platform == "darwin")):
        return "cpu"
    return find_device(name).type
