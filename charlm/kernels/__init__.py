"""Recurrences (kernels.c), n-grams (ngrams.c) and words (words.c) as machine code: shipped, or compiled here once.

A window is one call, without Python's lock, where the same in PyTorch or NumPy is some ten calls a step: for small
layers those cost more than their arithmetic. Where there is neither a library nor a C compiler, nothing is lost but
speed.

Training calls the recurrences with tensors (`cells.compiled`), scoring with arrays (`model.inference`); the n-grams
are called by `experts.ngram_kernel`.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import stat
import subprocess
import tempfile
from collections.abc import Sequence, Set
from contextlib import suppress
from pathlib import Path

from charlm.kernels.compiling import (
    SOURCES,
    choose,
    compile_library,
    digest,
    file_name,
    find_compiler,
    processor_features,
)
from charlm.system.files import cache_folder, replace_file

# Of each cell that kernels.c knows: its name there, and how many numbers it saves for each unit and step.
_KERNELS = {"rnn": ("rnn", 0), "lstm": ("lstm", 6), "gru": ("gru_after", 4), "gru-before": ("gru_before", 4)}


@functools.cache
def library() -> ctypes.CDLL | None:
    """Returns the kernels as machine code; None where they cannot be had.

    A wheel that was built where there is a C compiler carries them; see `load_shipped`. Otherwise they are compiled
    here, and lie in the cache, in a folder that nobody else may write to.
    """
    shipped = load_shipped(SOURCES[0].parent, platform.machine(), processor_features())
    return _compile_here() if shipped is None else shipped


def load_shipped(folder: Path, machine: str, features: Set[str]) -> ctypes.CDLL | None:
    """Loads the fastest library of a folder that a processor can run; None where there is none.

    One that was built of other sources has another name, and is passed over like one that does not load.
    """
    for build in choose(machine, features):
        with suppress(OSError):
            return ctypes.CDLL(str(folder / file_name(build)))
    return None


def _compile_here() -> ctypes.CDLL | None:
    if (compiler := find_compiler()) is None:
        return None
    try:
        folder = cache_folder() / "kernels"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        owner = folder.stat()
        if owner.st_uid != os.getuid() or owner.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return None
        # Another processor, for which the compiler makes different code, has a file of its own.
        key = digest(compiler, platform.machine(), platform.processor(), *sorted(processor_features()))
        if not (target := folder / f"{key}.so").exists():
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                made = Path(scratch) / target.name
                try:
                    compile_library(compiler, ("-march=native",), made)
                except subprocess.CalledProcessError:  # compilers for Arm may not know this flag
                    compile_library(compiler, (), made)
                with replace_file(target, shared=True) as file:
                    file.write(made.read_bytes())
        return ctypes.CDLL(str(target))
    except (OSError, RuntimeError, subprocess.SubprocessError):  # RuntimeError: no home to keep a cache in
        return None


def describe() -> str:
    """Says where the kernels come from, or why there are none."""
    if (found := library()) is None:
        return f"no compiled kernels: {why_missing()}"
    path = Path(found._name)
    if path.parent == SOURCES[0].parent:
        return f"shipped with charlm, for {path.name.partition('.')[0]}"
    return f"built here by {find_compiler()}"


def why_missing() -> str:
    """Says why there are no compiled kernels, and what helps."""
    if (compiler := find_compiler()) is None:
        name = os.environ.get("CC") or "cc"
        return f"no C compiler {name} (install gcc or clang, for example by `apt install gcc`, or name one in CC)"
    return f"the C compiler {compiler} could not build the kernels, or they cannot be stored in the cache folder"


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
