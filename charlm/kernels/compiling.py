"""How the kernels become libraries: for this machine, or for all of its kind in a wheel, which then chooses.

`hatch_build.py` loads this file by its path while a wheel is built, where nothing of charlm is installed. So it
imports the standard library alone.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Set
from pathlib import Path
from typing import NamedTuple

SOURCES = [Path(__file__).with_name(name) for name in ("kernels.c", "ngrams.c", "words.c")]
FLAGS = ("-O3", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
_SECONDS = 60.0


class Build(NamedTuple):
    """A library that a wheel carries.

    Attributes:
        name: of the processors that it is for.
        flags: those of the compiler that say so.
        needs: what a processor must have to run it, in the words of /proc/cpuinfo.
    """

    name: str
    flags: tuple[str, ...]
    needs: frozenset[str]


_V2 = frozenset({"cx16", "lahf_lm", "pni", "popcnt", "sse4_1", "sse4_2", "ssse3"})
_V3 = _V2 | {"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"}
_V4 = _V3 | {"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"}

# By the name of the machine, the fastest first. The levels v3 and v4 of x86-64 are those of its psABI.
BUILDS = {
    "x86_64": (
        Build("x86-64-v4-bfloat16", ("-march=x86-64-v4", "-mavx512bf16"), _V4 | {"avx512_bf16"}),
        Build("x86-64-v4", ("-march=x86-64-v4",), _V4),
        Build("x86-64-v3", ("-march=x86-64-v3",), _V3),
        Build("x86-64", ("-march=x86-64",), frozenset()),
    ),
    "aarch64": (Build("aarch64", ("-march=armv8-a",), frozenset()),),
}


def choose(machine: str, features: Set[str]) -> Iterator[Build]:
    """Yields what a processor with these features can run, the fastest first."""
    yield from (build for build in BUILDS.get(machine, ()) if build.needs <= features)


def processor_features() -> frozenset[str]:
    """Returns what Linux says that the processor has, and lets programs use; elsewhere nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    words = (line.partition(":") for line in lines)
    return frozenset(next((found.split() for key, _, found in words if key.strip() in ("flags", "Features")), ()))


def find_compiler() -> str | None:
    """Returns the path of the C compiler; None where there is none."""
    return shutil.which(os.environ.get("CC") or "cc") if os.name == "posix" else None


def compile_library(compiler: str, flags: tuple[str, ...], target: Path) -> None:
    """Compiles the kernels into a library.

    Raises:
        OSError: the compiler cannot be run.
        subprocess.SubprocessError: it fails, or takes a minute.
    """
    command = [compiler, *FLAGS, *flags, "-o", str(target), *map(str, SOURCES)]
    subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)


def file_name(build: Build) -> str:
    """Returns the name of a build's file, which no build of other sources or flags has."""
    return f"{build.name}.{digest(*build.flags)}.so"


def digest(*words: str) -> str:
    """Returns a short hash of the sources, the flags, and some words."""
    source = b"".join(path.read_bytes() for path in SOURCES)
    return hashlib.sha256(source + repr((FLAGS, words)).encode()).hexdigest()[:16]
