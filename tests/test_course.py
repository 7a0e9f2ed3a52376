"""The programs that the course prints run as they stand there and print what stands below them."""

import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CHAPTERS = [*sorted((ROOT / "docs/course").glob("*.md")), *sorted((ROOT / "docs/zh/course").glob("*.md"))]
PROGRAM = re.compile(r"^( *)```python\n(.*?)^ *```\n\n *```text\n(.*?)^ *```$", re.S | re.M)


def programs(path: Path) -> list[tuple[str, str]]:
    """The programs of a chapter and their outputs, without those that need a run which the reader has trained."""
    found = PROGRAM.findall(path.read_text(encoding="utf-8"))
    pairs = [(textwrap.dedent(program), textwrap.dedent(output)) for _, program, output in found]
    return [(program, output) for program, output in pairs if "runs/" not in program]


@pytest.mark.slow
@pytest.mark.parametrize("path", CHAPTERS, ids=[str(path.relative_to(ROOT / "docs")) for path in CHAPTERS])
def test_the_programs_of_a_chapter_print_what_it_says(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for program, output in programs(path):
        exec(compile(program, path.name, "exec"), {"__name__": "__main__"})  # the whole of a file, as in the course
        assert capsys.readouterr().out.rstrip() == output.rstrip()


def test_the_chapters_that_derive_the_cells_have_programs() -> None:
    for folder in ("docs/course", "docs/zh/course"):
        for number in ("03", "05", "06"):
            (path,) = (ROOT / folder).glob(f"{number}-*.md")
            assert programs(path), path
