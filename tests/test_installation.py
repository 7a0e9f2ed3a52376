"""What README and help tell a new user to type works: in a checkout, and after an installation from the wheel.

The wheel is built without a network and installed into an environment of its own, which sees the libraries of the
environment that runs the tests. Commands are run in an empty folder with nothing but a user's own files; only their
budgets are made smaller. The wheel holds Python alone; `tests/test_shipped_kernels.py` installs one with kernels.
"""

import os
import re
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from packages import build, install

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BUDGET = "30 steps"

pytestmark = pytest.mark.slow

# What README and help call a user's own files. All other files that they name must be there after an installation.
OWN_FILES = {
    "my.txt": (ROOT / "data/english.txt").read_text(encoding="utf-8")[:20_000],  # README: a copy of it
    "openings.txt": "the boat\nthe miller\n",
    "letters.txt": "dear miller, the river is high again.\n" * 100,
    "held_out.txt": "the heron sees the boat.\n" * 20,
    "sentences.txt": "the boat is old.\nthe baot is old.\n",
    "pairs.tsv": "the boat is old.\tthe baot is old.\n",
    "nbest.txt": "0 ||| the river ||| lm= -1 ||| -1\n0 ||| the rievr ||| lm= -2 ||| -2\n",
    "dev.nbest": "0 ||| the river ||| lm= -1 ||| -1\n0 ||| the rievr ||| lm= -2 ||| -2\n",
    "dev.ref": "the river\n",
}
NEEDS_NETWORK = re.compile(r"^charlm corpus fetch (tiny-shakespeare)$")


# ------------------------------------------------------------------------------------------------- the packages


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source tree that the source archive unpacks to."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(build(ROOT, "sdist", folder)) as archive:
        archive.extractall(folder, filter="data")
    return next(path for path in folder.iterdir() if path.is_dir())


def test_the_wheel_holds_the_package_its_data_and_its_configurations(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    files = [path for path in (ROOT / "charlm").rglob("*") if path.is_file() and path.parent.name != "__pycache__"]
    code = {f"{path.relative_to(ROOT)}" for path in files}
    assert "charlm/report/assets/model.js" in code
    assert names >= code | {"charlm/py.typed"}
    for folder in ("data", "configs"):
        assert {f"charlm/{path.relative_to(ROOT)}" for path in (ROOT / folder).iterdir()} <= names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests", "dev", "benchmarks")) or "__pycache__" in name]


def test_the_source_archive_holds_what_the_documents_point_to_and_builds_the_same_wheel(
    wheel: Path, unpacked: Path, tmp_path: Path
) -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    for name in [*links, "Makefile", "constraints.txt", ".ci/run", "tests/test_installation.py"]:
        assert (unpacked / name).exists(), name
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(build(unpacked, "wheel", tmp_path)) as other:
        assert {name: one.read(name) for name in one.namelist()} == {
            name: other.read(name) for name in other.namelist()
        }


# ------------------------------------------------------------------------------------------- the installed program


class User:
    """Someone who has installed charlm, in a folder that holds the user's own files and the environment `.venv`."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder = folder
        for name, content in OWN_FILES.items():
            (folder / name).write_text(content, encoding="utf-8")
        self.environment = folder / ".venv"
        install(wheel, self.environment)

    def run(self, command: str) -> str:
        """Runs a command line in a shell and returns standard output and error together."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL"))}
        environment["PATH"] = f"{self.environment / 'bin'}{os.pathsep}{environment['PATH']}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", shorten(command)],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            timeout=300,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        return done.stdout


@pytest.fixture
def user(wheel: Path, tmp_path: Path) -> User:
    return User(tmp_path, wheel)


def shorten(command: str) -> str:
    """Makes the budget of a training, or of each that is compared, small; what is resumed goes on for a little."""
    if not re.match(r"\S*charlm (train|compare config:\w+) ", command):
        return command
    small = "40 steps" if "--resume" in command else BUDGET
    command, replaced = re.subn(r"--budget ('[^']*'|\S+)", f"--budget '{small}'", command)
    return command if replaced else f"{command} --budget '{small}'"


def words(text: str) -> set[str]:
    """The words of an output; its figures differ from machine to machine, and so does what a model writes."""
    return set(re.findall(r"[^\W\d_]{2,}", text))


def blocks(language: str) -> Iterator[str]:
    yield from re.findall(rf"^```{language}\n(.*?)^```$", README, re.S | re.M)


def examples(text: str) -> Iterator[tuple[str, str]]:
    """Yields each command after a `$ ` with its output. A command goes on after a `|` or a backslash at its end."""
    for part in re.split(r"^ *\$ ", text, flags=re.M)[1:]:
        lines = part.splitlines()
        end = next(i for i, line in enumerate(lines, 1) if not line.endswith(("|", "\\")))
        yield "\n".join(lines[:end]), "\n".join(lines[end:])


def test_the_installed_program_is_that_of_the_wheel(user: User) -> None:
    found = user.run("python -c 'import charlm; print(charlm.__file__)'").strip()
    assert Path(found).is_relative_to(user.environment)
    assert (
        user.run("charlm --version")
        == user.run(".venv/bin/charlm --version")
        == user.run("python -m charlm --version")
    )
    assert "config:" not in user.run("charlm config show config:quickstart")
    assert Path(user.run("charlm corpus fetch english").strip()).is_relative_to(user.environment)


def test_the_commands_of_the_readme_work_in_the_order_in_which_they_stand(user: User) -> None:
    shell = re.sub(r"^```sh\n(pip|make) .*?^```$", "", README, flags=re.S | re.M)  # tested below
    number = 0
    for language, block in re.findall(r"^```(sh|console|python)\n(.*?)^```$", shell, re.S | re.M):
        if language == "python":
            (user.folder / "example.py").write_text(re.sub(r'budget="\w+"', f'budget="{BUDGET}"', block))
            assert len([line for line in block.splitlines() if line]) == 8
            assert float(user.run("python example.py").split()[-1]) > 0
        elif language == "sh":
            for command in block.splitlines():
                user.run(command)
                number += 1
        else:
            for command, expected in examples(block):
                output = user.run(command)
                number += 1
                if not command.startswith("charlm sample"):
                    # What more time than here lets the recipe choose.
                    chosen = r"\(the largest for this text\)|and \d further networks?$|^network \d of .*$"
                    assert words(re.sub(chosen, "", expected, flags=re.M)) <= words(output), command
    assert number > 10


def test_the_examples_of_all_helps_work(user: User) -> None:
    helps = [user.run("charlm --help")]
    for command in re.findall(r"^  (\w+)  ", helps[0].partition("Commands:")[2], re.M):
        text = user.run(f"charlm {command} --help")
        inner = re.findall(r"^  (\w+)  ", text.partition("Commands:")[2], re.M)
        helps += [user.run(f"charlm {command} {name} --help") for name in inner] or [text]
    commands = list(dict.fromkeys(command for text in helps for command, _ in examples(text)))
    assert len(commands) > 15
    for command in commands:
        if network := NEEDS_NETWORK.match(command):
            assert network[1] in user.run("charlm corpus list")
        else:
            user.run(command)


def test_the_help_of_the_program_shows_the_commands_that_the_readme_begins_with(user: User) -> None:
    shown = [command for command, _ in examples(user.run("charlm --help"))]
    assert shown == [command for block in blocks("console") for command, _ in examples(block)]


# ------------------------------------------------------------------------------------------------------ a checkout


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_runs_what_the_readme_says(user: User) -> None:
    assert [
        line.split("#")[0].strip() for line in "".join(blocks("sh")).splitlines() if line.startswith("make")
    ] == [
        "make demo",
        "make check",
    ]

    def recipe(target: str) -> list[str]:
        made = subprocess.run(  # -o: the environment is taken as it is
            ["make", "-n", "-s", "-o", ".venv/.ready", "-o", ".venv/.tools", target],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        )
        return made.stdout.replace("\\\n", " ").splitlines()

    (user.folder / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
    demo = [line for line in recipe("demo") if "charlm" in line]
    assert [line.split()[:2] for line in demo] == [
        [".venv/bin/charlm", command] for command in ("train", "sample", "score")
    ]
    for line in demo:
        user.run(line)
    user.run("source .venv/bin/activate && charlm inspect runs/quickstart")
    assert "charlm inspect" not in "".join(recipe("check"))
    tools = {line.partition(".venv/bin/")[2].split()[0] for line in recipe("check") if ".venv/bin/" in line}
    assert tools == {"ruff", "mypy", "pytest"}
