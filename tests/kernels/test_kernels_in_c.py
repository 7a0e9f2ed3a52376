"""`kernels.c` and `ngrams.c`, tested as C is: built in every way, under sanitizers, against a scalar reference.

A driver makes the comparisons. Here it is compiled: by each compiler that is installed, for this processor, for one
with AVX2 and for any x86-64, with the flags that charlm compiles with and with each sanitizer.
"""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from charlm import kernels

DRIVER = Path(__file__).with_name("kernels_driver.c")
NGRAMS_DRIVER = Path(__file__).with_name("ngrams_driver.c")
WARNINGS = ("-Wall", "-Wextra", "-Wshadow", "-Werror")
SANITIZED = ("-std=gnu11", "-O1", "-g", "-fno-sanitize-recover=all")
LINKED = ("-lm", "-lpthread")
# The processors to build for, and what a processor must have to run the build.
PROCESSORS = {
    "native": set[str](),
    "haswell": {"avx2", "fma", "bmi1", "bmi2", "movbe", "abm"},
    "x86-64": set[str](),
}
CANNOT = 77  # the driver's exit status where the machine lacks what a test needs
SECONDS = 300.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the driver is written for Linux"),
]
every_compiler = pytest.mark.parametrize("compiler", ["gcc", "clang"])
every_processor = pytest.mark.parametrize("processor", PROCESSORS)


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    # The driver counts the kernels' memory itself; the leak detector needs ptrace, which containers may forbid.
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=environment)


@functools.cache
def lacks(compiler: str, sanitizer: str) -> str | None:
    """Says why a compiler cannot build and run a program with a sanitizer; None if it can."""
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder) / "probe.c", Path(folder) / "probe"
        source.write_text("int main(void) { return 0; }\n")
        built = run(compiler, *SANITIZED, f"-fsanitize={sanitizer}", source, "-o", program)
        tried = run(program) if built.returncode == 0 else built
    lines = tried.stderr.strip().splitlines()
    return None if tried.returncode == 0 else lines[-1] if lines else f"exit status {tried.returncode}"


def build(
    folder: Path, compiler: str, processor: str, flags: tuple[str, ...], sanitizer: str = "", driver: Path = DRIVER
) -> Path:
    """Compiles a driver, and with it the kernels, without a warning; skips the test where that cannot be."""
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    if processor != "native" and platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("not an x86-64 machine")
    if sanitizer and (reason := lacks(compiler, sanitizer)):
        pytest.skip(f"{compiler} has no {sanitizer} sanitizer here: {reason}")
    program = folder / "driver"
    sanitize = (f"-fsanitize={sanitizer}",) if sanitizer else ()
    made = run(compiler, *flags, f"-march={processor}", *sanitize, *WARNINGS, driver, "-o", program, *LINKED)
    assert made.returncode == 0, made.stderr
    return program


def drive(program: Path, processor: str, *arguments: str) -> None:
    """Runs the driver, which compares; skips the test where the processor cannot run what was built."""
    if missing := PROCESSORS[processor] - processor_flags():
        pytest.skip(f"built; this processor cannot run it without {', '.join(sorted(missing))}")
    done = run(program, *arguments)
    if done.returncode == CANNOT:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stderr}"


def processor_flags() -> set[str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return set(next((line for line in lines if line.startswith("flags")), "").split())


@every_processor
@every_compiler
def test_as_shipped_it_builds_without_a_warning_and_gives_the_numbers_of_the_equations(
    compiler: str, processor: str, tmp_path: Path
) -> None:
    flags = tuple(flag for flag in kernels._FLAGS if flag not in ("-march=native", "-shared", "-fPIC"))
    program = build(tmp_path, compiler, processor, flags)
    drive(program, processor, "values", "200")


@every_processor
@every_compiler
def test_it_touches_no_memory_but_its_own_and_does_nothing_undefined(
    compiler: str, processor: str, tmp_path: Path
) -> None:
    program = build(tmp_path, compiler, processor, SANITIZED, "address,undefined")
    drive(program, processor, "values", "100")


@every_processor
@every_compiler
def test_ngrams_as_shipped_and_under_sanitizers_are_what_their_tables_say(
    compiler: str, processor: str, tmp_path: Path
) -> None:
    shipped = tuple(flag for flag in kernels._FLAGS if flag not in ("-march=native", "-shared", "-fPIC"))
    drive(build(tmp_path, compiler, processor, shipped, driver=NGRAMS_DRIVER), processor, "5000")
    sanitized = build(tmp_path, compiler, processor, SANITIZED, "address,undefined", NGRAMS_DRIVER)
    drive(sanitized, processor, "2000")


def test_ngrams_read_nothing_that_was_never_written(tmp_path: Path) -> None:
    drive(build(tmp_path, "clang", "native", SANITIZED, "memory", NGRAMS_DRIVER), "native", "2000")


def test_it_reads_nothing_that_was_never_written(tmp_path: Path) -> None:
    drive(build(tmp_path, "clang", "native", SANITIZED, "memory"), "native", "values", "40")


@every_compiler
def test_threads_on_shared_weights_do_not_race_and_give_the_numbers_of_one(compiler: str, tmp_path: Path) -> None:
    drive(build(tmp_path, compiler, "native", SANITIZED, "thread"), "native", "threads")


def test_an_array_may_hold_more_numbers_than_an_int_counts(tmp_path: Path) -> None:
    compiler = next((name for name in ("gcc", "clang") if shutil.which(name)), "gcc")
    flags = ("-std=gnu11", "-O3", "-fno-sanitize-recover=all")
    drive(build(tmp_path, compiler, "native", flags, "signed-integer-overflow"), "native", "large")
