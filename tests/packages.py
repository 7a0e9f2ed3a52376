"""What tests of the packages share: they are built without a network, and installed into an environment."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
NO_COMPILER = "no-such-compiler"


def build(source: Path, kind: str, folder: Path, compiler: str = NO_COMPILER) -> Path:
    """Builds a `wheel` or an `sdist` of a source tree; a wheel has the kernels that the compiler makes for it."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, env={**os.environ, "CC": compiler})
    (package,) = folder.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return package


def install(wheel: Path, environment: Path) -> Path:
    """Installs a wheel into a new environment, which sees the libraries of the one that runs the tests.

    Returns:
        The folder that holds charlm there.
    """
    venv.create(environment, symlinks=True)
    command = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python")]
    subprocess.run([*command, "install", "--no-deps", "--no-index", str(wheel)], check=True, capture_output=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": str(environment)}))
    libraries = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "libraries.pth").write_text("\n".join(libraries) + "\n")  # its own packages come before these
    return site / "charlm"
