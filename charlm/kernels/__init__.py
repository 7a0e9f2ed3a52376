"""Recurrences (`kernels.c`) and n-grams (`ngrams.c`) as machine code, compiled once where there is a C compiler.

A window is one call, without Python's lock, where the same in PyTorch or NumPy is some ten calls a step: for small
layers those cost more than their arithmetic. Where there is no compiler, nothing is lost but speed.

Training calls the recurrences with tensors (`cells.compiled`), scoring with arrays (`model.inference`); the n-grams
are called by `experts.ngram_kernel`.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from charlm.system.files import cache_folder, replace_file

_SOURCES = [Path(__file__).with_name(name) for name in ("kernels.c", "ngrams.c", "words.c")]
_FLAGS = ("-O3", "-march=native", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
# Of each cell that kernels.c knows: its name there, and how many numbers it saves for each unit and step.
_KERNELS = {"rnn": ("rnn", 0), "lstm": ("lstm", 6), "gru": ("gru_after", 4), "gru-before": ("gru_before", 4)}
_SECONDS = 60.0


@functools.cache
def library() -> ctypes.CDLL | None:
    """Returns the compiled kernels; None where they cannot be had.

    They lie in the cache, in a folder that nobody else may write to, and are compiled again for another machine.
    """
    if (compiler := _compiler()) is None:
        return None
    try:
        source = b"".join(path.read_bytes() for path in _SOURCES)
        key = hashlib.sha256(source + repr((_FLAGS, _machine(), compiler)).encode()).hexdigest()[:16]
        folder = cache_folder() / "kernels"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        owner = folder.stat()
        if owner.st_uid != os.getuid() or owner.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return None
        if not (target := folder / f"{key}.so").exists():
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                made = Path(scratch) / target.name
                command = [compiler, *_FLAGS, "-o", str(made), *map(str, _SOURCES)]
                subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)
                with replace_file(target, shared=True) as file:
                    file.write(made.read_bytes())
        return ctypes.CDLL(str(target))
    except (OSError, RuntimeError, subprocess.SubprocessError):  # RuntimeError: no home to keep a cache in
        return None


def _compiler() -> str | None:
    return shutil.which(os.environ.get("CC") or "cc") if os.name == "posix" else None


def why_missing() -> str:
    """Says why there are no compiled kernels, and what helps."""
    if _compiler() is None:
        name = os.environ.get("CC") or "cc"
        return f"no C compiler {name} (install gcc or clang, for example by `apt install gcc`, or name one in CC)"
    return f"the C compiler {_compiler()} could not make the kernels, or the cache folder cannot hold them"


def _machine() -> str:
    """Tells machines apart for which the compiler makes different code."""
    try:
        flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    except (OSError, StopIteration):
        flags = platform.processor()
    return f"{platform.machine()} {flags}"


def has_bfloat16() -> bool:
    """Says whether the kernels multiply bfloat16 by the processor's own instructions."""
    found = library()
    return found is not None and bool(found.charlm_bfloat16())


def has_kernel(cell: str) -> bool:
    """Says whether `kernels.c` has a cell of this name."""
    return cell in _KERNELS


def saved_numbers(cell: str) -> int:
    """Returns how many numbers the forward pass of a cell saves for each unit and step."""
    return _KERNELS[cell][1]


def call(cell: str, direction: str, shape: Sequence[int], addresses: Sequence[int | None]) -> None:
    """Runs all steps of a layer.

    Args:
        cell: its name; `has_kernel` says whether there is one, and `library` whether there are any.
        direction: `forward` or `backward`.
        shape: the integers that the function in `kernels.c` takes, T, B and H first.
        addresses: of the contiguous arrays that it takes, in its order; None: there is none.

    Raises:
        MemoryError: there is no room for the packed weights.
    """
    found = library()
    assert found is not None
    pointers = [None if address is None else ctypes.c_void_p(address) for address in addresses]
    if not found[f"charlm_{_KERNELS[cell][0]}_{direction}"](*map(int, shape), *pointers):
        raise MemoryError(f"no memory for the weights of a {cell} layer with {shape[2]} hidden units")
