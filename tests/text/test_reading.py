"""Reading: what is read from where, in pieces that nobody notices, and what is refused and why."""

import gzip
import io
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm.errors import CorpusError
from charlm.text import library
from charlm.text.reading import content_key, read_text

BOM = b"\xef\xbb\xbf"


def save(path: Path, content: str | bytes) -> str:
    """Writes a file, and the folders above it, and returns its path as a text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> str:
    """Puts something on standard input and returns its name."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    return "-"


def refused(path: str | list[str], **settings: Any) -> str:
    """The message with which paths are refused."""
    with pytest.raises(CorpusError) as caught:
        read_text([path] if isinstance(path, str) else path, **settings)
    return str(caught.value)


# --- Where a text comes from


def test_files_are_joined_in_the_order_given_with_a_newline_where_one_lacks_its_own(tmp_path: Path) -> None:
    contents = {"b": "one", "a": "two\n", "empty": "", "c": "three"}
    paths = [save(tmp_path / name, content) for name, content in contents.items()]
    assert read_text(paths[:1]) == "one"
    assert read_text(paths) == "one\ntwo\nthree"
    assert read_text(paths, level="byte") == "one\ntwo\nthree"


def test_a_folder_is_all_files_below_in_order_of_their_paths_but_hidden_ones(tmp_path: Path) -> None:
    folder = tmp_path / ".cache" / "corpus"  # a hidden folder above it hides nothing
    for name in ("b.txt", "a/z.txt", "a/y/x.txt", ".hidden", ".git/config", "a/.swp"):
        save(folder / name, f"{name}\n")
    save(folder / "c.txt.gz", gzip.compress(b"zipped"))
    assert read_text([str(folder)]).split() == ["a/y/x.txt", "a/z.txt", "b.txt", "zipped"]


def test_a_folder_without_visible_files_is_refused(tmp_path: Path) -> None:
    save(tmp_path / ".hidden", "text")
    assert refused(str(tmp_path)) == f"{tmp_path}: there are no files in this folder"


def test_a_glob_is_every_file_that_matches_in_order(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "c.md", "deep/er/d.txt", "folder.txt/e"):
        save(tmp_path / name, f"{name}\n")
    assert read_text([f"{tmp_path}/*.txt"]).split() == ["a.txt", "b.txt"]
    assert read_text([f"{tmp_path}/**/*.txt"]).split() == ["a.txt", "b.txt", "deep/er/d.txt"]
    assert refused(f"{tmp_path}/*.csv") == f"{tmp_path}/*.csv: no file matches this pattern"


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    save(tmp_path / "a1.txt", "other")
    assert read_text([save(tmp_path / "a[1].txt", "this")]) == "this"


def test_a_gz_file_is_unpacked(tmp_path: Path) -> None:
    assert read_text([save(tmp_path / "a.txt.gz", gzip.compress("画\r\n".encode()))]) == "画\n"


def test_a_dash_is_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save(tmp_path / "a", "file")
    assert read_text([file, stdin(monkeypatch, "在\r\n".encode())]) == "file\n在\n"
    assert read_text([stdin(monkeypatch, b"\xff\r\n")], level="byte") == "\udcff\r\n"


def test_a_known_corpus_is_read_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "found.txt"
    save(file, "known text")
    monkeypatch.setattr(library, "find", {"names": file}.get)
    assert read_text(["corpus:names"]) == "known text"
    assert "run `charlm corpus fetch text8`" in refused("corpus:text8")


def test_a_misspelt_known_corpus_is_answered_with_the_right_name() -> None:
    assert "english" in refused("corpus:englsh")


@pytest.mark.parametrize("name", ["tiny-shakespeare", "missing/names"])
def test_a_missing_file_with_the_name_of_a_known_corpus_is_answered_with_how_to_write_it(name: str) -> None:
    assert refused(name).endswith(f"for the known corpus of this name, write corpus:{name.rpartition('/')[2]}")


PIECES = st.sampled_from(
    [b"a", b"\n", b"\r", b"\r\n", "é".encode(), "画".encode(), "😀".encode(), "\ufeff".encode(), b"\xe7", b"\xff"]
)


def decoded(raw: bytes, level: str) -> str:
    """A whole file by the definition."""
    if level == "byte":
        return raw.decode("utf-8", "surrogateescape")
    return raw.removeprefix(BOM).decode().replace("\r\n", "\n").replace("\r", "\n")


@given(st.lists(PIECES).map(b"".join), st.integers(1, 5), st.sampled_from(["character", "byte"]), st.booleans())
def test_a_text_is_the_same_in_whatever_pieces_it_is_read(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes, chunk: int, level: str, packed: bool
) -> None:
    name = "pieces.txt.gz" if packed else "pieces.txt"
    path = save(tmp_path_factory.getbasetemp() / name, gzip.compress(raw) if packed else raw)
    settings: dict[str, Any] = {"level": level, "read_bytes": chunk}
    try:
        expected = decoded(raw, level)
    except UnicodeDecodeError as error:
        at = error.start + 3 * raw.startswith(BOM)
        line = len(re.findall(b"\r\n|\r|\n", raw[:at])) + 1
        place = f"byte 0x{raw[at]:02x} at offset {at} (line {line})"
        assert place in refused(path, **settings)
        return
    if expected.strip("\n"):
        assert read_text([path], **settings) == expected
    else:
        assert refused(path, **settings) == f"{path}: the corpus is empty; name a file that holds text"


def test_what_files_hold_has_a_key_whatever_they_are_called(tmp_path: Path) -> None:
    def key(*contents: str, suffix: str = ".txt") -> str:
        files = [tmp_path / f"{len(list(tmp_path.iterdir()))}{suffix}" for _ in contents]
        return content_key([save(file, content) for file, content in zip(files, contents, strict=True)])

    assert key("ab", "c") == key("ab", "c")
    assert len({key("ab", "c"), key("a", "bc"), key("abc"), key("c", "ab"), key("abc", suffix=".gz")}) == 5


# --- What cannot be read


def test_a_file_that_is_missing_empty_or_unreadable_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = str(tmp_path / "missing.txt")
    assert refused(missing) == f"{missing}: no such file or folder"
    assert refused("a\0b") == "a\0b: no such file or folder"
    empty = [save(tmp_path / "empty", ""), save(tmp_path / "newlines", "\n\r\n")]
    assert refused(empty) == f"{empty[0]}, {empty[1]}: the corpus is empty; name a file that holds text"

    def deny(self: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)
    assert refused(empty[0]) == f"{empty[0]}: cannot be read: Permission denied"


def test_a_gzip_file_that_would_fill_the_disk_is_refused(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"read_bytes": 1000, "max_unpacked_bytes": 100_000}
    bomb = save(tmp_path / "bomb.gz", gzip.compress(b"a" * 10_000_000))
    assert refused(bomb, **settings).startswith(f"{bomb}: this file unpacks to more than ")
    same = save(tmp_path / "same.gz", gzip.compress(b"a" * 100_000))
    assert len(read_text([same], **settings)) == 100_000  # small: allowed
    text = "".join(f"{number} bottles\n" for number in range(20_000)).encode()
    packed = save(tmp_path / "text.gz", gzip.compress(text))
    assert read_text([packed], **settings).encode() == text  # large: as text unpacks


@pytest.mark.parametrize("damage", ["cut off", "another block", "another checksum", "no gzip"])
def test_a_damaged_gzip_file_is_named(tmp_path: Path, damage: str) -> None:
    packed = gzip.compress(b"a long enough text " * 9)
    damaged = {
        "cut off": packed[:-9],
        "another block": packed[:10] + b"\xff" + packed[11:],
        "another checksum": packed[:-8] + bytes(4) + packed[-4:],
        "no gzip": b"text",
    }
    path = save(tmp_path / "a.gz", damaged[damage])
    assert refused(path).startswith(f"{path}: ")


@pytest.mark.parametrize("mark", [b"", BOM], ids=["no-BOM", "BOM"])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("chunk", [1, 2, 5, 1000])
def test_a_fault_in_utf_8_is_told_with_file_byte_offset_and_line(
    tmp_path: Path, mark: bytes, newline: bytes, chunk: int
) -> None:
    before = mark + "画".encode() + newline + newline + b"caf"
    path = save(tmp_path / "latin1.txt", before + b"\xe9 au lait\n\xff")
    message = refused(path, read_bytes=chunk)
    assert message.startswith(f"{path}: not UTF-8: byte 0xe9 at offset {len(before)} (line 3); ")
    assert "iconv -f " in message
    assert "`--set corpus.encoding=" in message
    assert "corpus.level: byte" in message


def test_a_nul_byte_is_refused_in_characters_and_taken_in_bytes(tmp_path: Path) -> None:
    path = save(tmp_path / "utf16.txt", b"ab\0c")
    message = refused(path)
    assert message.startswith(f"{path}: not a text file (a NUL byte at offset 2)")
    assert "corpus.level: byte" in message
    assert read_text([path], level="byte") == "ab\0c"


def test_a_byte_order_mark_and_the_ends_of_lines_are_made_plain_in_characters_and_kept_in_bytes(
    tmp_path: Path,
) -> None:
    raw = BOM + b"a\r\nb\rc\n\r\n"
    path = save(tmp_path / "windows.txt", raw)
    assert read_text([path, path]) == "a\nb\nc\n\n" * 2  # the mark of the second file goes too
    assert read_text([path], level="byte").encode() == raw
