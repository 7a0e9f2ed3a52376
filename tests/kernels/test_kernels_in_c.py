"""`kernels.c` and `ngrams.c`, tested as C is: built in every way, under sanitizers, against a scalar reference.

A driver makes the comparisons. Here it is compiled: by each compiler that is installed, for this processor and for
those that a wheel has libraries for, with the flags that charlm compiles with and with each sanitizer. Where there
are a compiler for aarch64 and qemu-user, it is driven on that, too.
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

from charlm.kernels.compiling import BUILDS, FLAGS, processor_features

DRIVER = Path(__file__).with_name("kernels_driver.c")
NGRAMS_DRIVER = Path(__file__).with_name("ngrams_driver.c")
WARNINGS = ("-Wall", "-Wextra", "-Wshadow", "-Werror")
SANITIZED = ("-std=gnu11", "-O1", "-g", "-fno-sanitize-recover=all")
LINKED = ("-lm", "-lpthread")
SHIPPED = tuple(flag for flag in FLAGS if flag not in ("-shared", "-fPIC"))
# The processors to build for: the flags, and what a processor must have to run the build.
PROCESSORS = {build.name: (build.flags, build.needs) for build in BUILDS["x86_64"]}
PROCESSORS["native"] = (("-march=native",), frozenset())
CROSS_COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
CANNOT = 77  # the driver's exit status where the machine lacks what a test needs
SECONDS = 300.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the driver is written for Linux"),
]
every_compiler = pytest.mark.parametrize("compiler", ["gcc", "clang"])
every_processor = pytest.mark.parametrize("processor", PROCESSORS)
every_width = pytest.mark.parametrize("processor", ["native", "x86-64-v3", "x86-64"])  # of vectors


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
    made = run(compiler, *flags, *PROCESSORS[processor][0], *sanitize, *WARNINGS, driver, "-o", program, *LINKED)
    assert made.returncode == 0, made.stderr
    return program


def drive(program: Path, processor: str, *arguments: str) -> None:
    """Runs the driver, which compares; skips the test where the processor cannot run what was built."""
    if missing := PROCESSORS[processor][1] - processor_features():
        pytest.skip(f"built; this processor cannot run it without {', '.join(sorted(missing))}")
    done = run(program, *arguments)
    if done.returncode == CANNOT:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stderr}"


@every_processor
@every_compiler
def test_as_shipped_it_builds_without_a_warning_and_gives_the_numbers_of_the_equations(
    compiler: str, processor: str, tmp_path: Path
) -> None:
    program = build(tmp_path, compiler, processor, SHIPPED)
    drive(program, processor, "values", "200")


@every_width
@every_compiler
def test_it_touches_no_memory_but_its_own_and_does_nothing_undefined(
    compiler: str, processor: str, tmp_path: Path
) -> None:
    program = build(tmp_path, compiler, processor, SANITIZED, "address,undefined")
    drive(program, processor, "values", "100")


@every_width
@every_compiler
def test_ngrams_as_shipped_and_under_sanitizers_are_what_their_tables_say(
    compiler: str, processor: str, tmp_path: Path
) -> None:
    drive(build(tmp_path, compiler, processor, SHIPPED, driver=NGRAMS_DRIVER), processor, "5000")
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


@pytest.mark.skipif(
    any(shutil.which(program) is None for program in (CROSS_COMPILER, EMULATOR)),
    reason=f"{CROSS_COMPILER} or {EMULATOR} is not installed",
)
@pytest.mark.parametrize(
    ("driver", "arguments"), [(DRIVER, ["values", "60"]), (DRIVER, ["threads"]), (NGRAMS_DRIVER, ["5000"])]
)
def test_on_aarch64_it_gives_the_numbers_of_the_equations(
    driver: Path, arguments: list[str], tmp_path: Path
) -> None:
    (library,) = BUILDS["aarch64"]
    program = tmp_path / "driver"
    made = run(CROSS_COMPILER, *SHIPPED, *library.flags, *WARNINGS, "-static", driver, "-o", program, *LINKED)
    assert made.returncode == 0, made.stderr
    done = run(EMULATOR, program, *arguments)
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stderr}"
