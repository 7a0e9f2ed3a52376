"""Which library of a wheel a processor gets, and what is passed over."""

import platform
import shutil
from pathlib import Path

import pytest

from charlm import kernels
from charlm.kernels.compiling import BUILDS, choose, file_name, processor_features

V2 = {"cx16", "lahf_lm", "pni", "popcnt", "sse4_1", "sse4_2", "ssse3"}
HASWELL = V2 | {"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"}
SKYLAKE = HASWELL | {"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"}
ZEN_4 = SKYLAKE | {"avx512_bf16", "avx512_vnni"}

compiler = pytest.mark.skipif(kernels.library() is None, reason="no C compiler")


@pytest.mark.parametrize(
    ("machine", "features", "names"),
    [
        ("x86_64", set[str](), ["x86-64"]),  # an old one, or one of which nothing is known
        ("x86_64", V2 | {"avx"}, ["x86-64"]),
        ("x86_64", HASWELL, ["x86-64-v3", "x86-64"]),
        ("x86_64", HASWELL - {"fma"}, ["x86-64"]),  # as a virtual machine may hide it
        ("x86_64", HASWELL | {"avx512f"}, ["x86-64-v3", "x86-64"]),  # the first Xeon Phi
        ("x86_64", SKYLAKE, ["x86-64-v4", "x86-64-v3", "x86-64"]),
        ("x86_64", ZEN_4, ["x86-64-v4-bfloat16", "x86-64-v4", "x86-64-v3", "x86-64"]),
        ("aarch64", {"fp", "asimd", "bf16"}, ["aarch64"]),
        ("riscv64", set[str](), []),
    ],
)
def test_a_processor_gets_the_fastest_of_what_it_can_run(
    machine: str, features: set[str], names: list[str]
) -> None:
    assert [build.name for build in choose(machine, features)] == names


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="Linux alone says what a processor has")
def test_the_system_says_what_the_processor_has() -> None:
    assert processor_features() & {"sse2", "asimd", "fp"}


def test_builds_of_other_flags_have_files_of_other_names() -> None:
    names = [file_name(build) for builds in BUILDS.values() for build in builds]
    assert len(set(names)) == len(names)
    assert file_name(BUILDS["aarch64"][0]) != file_name(BUILDS["aarch64"][0]._replace(flags=("-O0",)))


@compiler
@pytest.mark.skipif(platform.machine() not in BUILDS, reason="no library of a wheel is for this machine")
def test_what_does_not_load_or_is_of_other_sources_is_passed_over(tmp_path: Path) -> None:
    machine, features = platform.machine(), processor_features()
    assert kernels.load_shipped(tmp_path, machine, features) is None
    made = Path(kernels.library()._name)  # type: ignore[union-attr]
    shutil.copy(made, tmp_path / "x86-64.0123456789abcdef.so")
    assert kernels.load_shipped(tmp_path, machine, features) is None
    fastest, *others = choose(machine, features)
    (tmp_path / file_name(fastest)).write_bytes(b"no library")
    assert kernels.load_shipped(tmp_path, machine, features) is None
    for build in others:
        shutil.copy(made, tmp_path / file_name(build))
        found = kernels.load_shipped(tmp_path, machine, features)
        assert found is not None
        assert Path(found._name).name == file_name(others[0])
    assert kernels.load_shipped(tmp_path, "riscv64", features) is None
