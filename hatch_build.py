"""Compiles charlm's kernels into a wheel, for all processors of a kind; the program chooses among them.

Where they cannot be compiled, the wheel holds Python alone, and fits every system. With an editable installation
they are compiled when they are first needed.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class KernelsHook(BuildHookInterface[Any]):
    """The build hook of hatchling that `pyproject.toml` names."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the libraries to a wheel, and says in its tag which systems they are for."""
        if version == "editable":
            return
        compiling = _load(Path(self.root, "charlm", "kernels", "compiling.py"))
        if (compiler := compiling.find_compiler()) is None:
            self._leave_out("there is no C compiler")
            return
        self._scratch = Path(tempfile.mkdtemp())
        try:
            machine = _linux_machine(compiler)
            builds = compiling.BUILDS.get(machine, ())
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                made = [self._scratch / compiling.file_name(build) for build in builds]
                flags = [(*build.flags, "-s") for build in builds]  # -s: without the names of internal functions
                list(pool.map(compiling.compile_library, [compiler] * len(builds), flags, made))
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", None) or b""
            self._leave_out(f"{error}\n{said.decode(errors='replace')}".strip())
            return
        if not builds:
            self._leave_out(f"{compiler} compiles for another system than Linux on x86-64 or aarch64")
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-linux_{machine}"  # of no Python: they are loaded by ctypes
        build_data["force_include"] |= {str(path): f"charlm/kernels/{path.name}" for path in made}

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Removes what the libraries were made in."""
        if hasattr(self, "_scratch"):
            shutil.rmtree(self._scratch)

    def _leave_out(self, why: str) -> None:
        self.app.display_warning(f"the wheel carries no compiled kernels: {why}")


def _linux_machine(compiler: str) -> str:
    """Returns the machine that a compiler makes code for; empty unless it is for Linux."""
    told = subprocess.run([compiler, "-dumpmachine"], check=True, capture_output=True, text=True).stdout
    machine, *system = told.strip().split("-")
    return machine if "linux" in system else ""


def _load(path: Path) -> ModuleType:
    """Loads a module that needs nothing of its package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.dont_write_bytecode = True  # what lies in the source tree goes into the wheel
    spec.loader.exec_module(module)
    return module
