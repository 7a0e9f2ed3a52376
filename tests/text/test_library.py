"""Known corpora: what is listed, where it lies, and the one that is made of Python's own sources."""

import hashlib
import re
import sys
import sysconfig
from pathlib import Path

import pytest

from charlm.errors import CorpusError
from charlm.system import files
from charlm.system.files import cache_folder
from charlm.text.library import fetch, find, known_corpora

pytestmark = pytest.mark.usefixtures("folder")


# --- Python's own sources -------------------------------------------------------------------------


@pytest.fixture
def stdlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small standard library."""
    root = tmp_path / "test" / "lib"  # `test` above the library leaves nothing out
    for name, content in {
        "b.py": b"b = 2\n",
        "a.py": b"a = 1",  # no end of line
        "json/decoder.py": "é = 3\n".encode(),
        "empty.py": b"",
        "latin.py": "# é\n".encode("latin-1"),
        "notes.txt": b"not Python\n",
        "site-packages/x.py": b"left out\n",
        "test/x.py": b"left out\n",
        "json/tests/x.py": b"left out\n",
        "idlelib/idle_test/x.py": b"left out\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    paths = {"stdlib": str(root)}
    monkeypatch.setattr(sysconfig, "get_path", paths.__getitem__)
    return root


def test_python_is_joined_in_order_without_tests_and_packages(stdlib: Path, folder: Path):
    path = fetch("python")
    version = "{}.{}.{}".format(*sys.version_info[:3])
    assert path == folder / f"python-{version}.txt"
    assert path.read_text(encoding="utf-8") == "a = 1\nb = 2\né = 3\n"
    assert list(folder.iterdir()) == [path]


def test_python_is_built_once(stdlib: Path):
    before = fetch("python").read_bytes()
    (stdlib / "c.py").write_text("c = 4\n")
    assert fetch("python").read_bytes() == before


def test_a_python_without_sources_is_an_error(stdlib: Path):
    for file in stdlib.rglob("*.py"):
        file.unlink()
    with pytest.raises(CorpusError, match="no library sources"):
        fetch("python")


def test_the_real_standard_library_is_in_the_python_corpus():
    text = fetch("python").read_text(encoding="utf-8")
    assert "def namedtuple(typename, field_names, *" in text
    assert "def file_digest(" in text
    python = next(corpus for corpus in known_corpora() if corpus.name == "python")
    assert python.size_bytes == len(text.encode("utf-8"))


# --- the list ------------------------------------------------------------------------------------


def test_find_builds_python_and_knows_no_other_names(stdlib: Path):
    assert find("python") == fetch("python")
    assert find("no-such-corpus") is None


@pytest.mark.parametrize("place", ["charlm/data", "data"])
def test_shipped_texts_come_first_with_size_and_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
):
    data = tmp_path / place
    data.mkdir(parents=True)
    (data / "chinese.txt").write_bytes("床前明月光\n".encode())
    monkeypatch.setattr(files, "__file__", str(tmp_path / "charlm" / "system" / "files.py"))
    first, second, *_ = known_corpora()
    assert (first.name, first.kind, first.size_bytes) == ("chinese", "shipped", 16)
    assert first.sha256 == hashlib.sha256("床前明月光\n".encode()).hexdigest()
    assert first.licence == "MIT, written for charlm"
    assert second.name == "python"
    assert find("chinese") == fetch("chinese") == data / "chinese.txt"
    assert find("english") is None


def test_every_public_corpus_can_be_checked():
    public = [corpus for corpus in known_corpora() if corpus.kind == "public"]
    assert {"tiny-shakespeare", "names", "text8", "enwik8"} <= {corpus.name for corpus in public}
    for corpus in public:
        assert re.fullmatch(r"[0-9a-f]{64}", corpus.sha256 or ""), corpus.name
        assert (corpus.url or "").startswith(("http://", "https://")), corpus.name
        assert corpus.size_bytes, corpus.name
        assert (corpus.member is not None) == (corpus.url or "").endswith(".zip"), corpus.name
    assert len({corpus.name for corpus in known_corpora()}) == len(known_corpora())


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("CHARLM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "charlm"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    assert cache_folder() == tmp_path / "home" / ".cache" / "charlm"
