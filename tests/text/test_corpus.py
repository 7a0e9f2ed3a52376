"""Corpora: what is read from where, what is refused and why, and how a text is split."""

import gzip
import io
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm.errors import CorpusError
from charlm.text import library
from charlm.text.corpus import load_corpus, load_held_out, read_text, statistics
from charlm.text.vocabulary import Vocabulary

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


def refused(path: str | list[str], level: str = "character") -> str:
    """The message with which paths are refused."""
    with pytest.raises(CorpusError) as caught:
        read_text([path] if isinstance(path, str) else path, level=level)
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
    assert refused(str(tmp_path)) == f"{tmp_path}: no files in this folder"


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
    assert refused(name).endswith(f"for the known corpus of this name write corpus:{name.rpartition('/')[2]}")


# --- What cannot be read


def test_a_file_that_is_missing_empty_or_unreadable_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = str(tmp_path / "missing.txt")
    assert refused(missing) == f"{missing}: no such file or folder"
    assert refused("a\0b") == "a\0b: no such file or folder"
    empty = [save(tmp_path / "empty", ""), save(tmp_path / "newlines", "\n\r\n")]
    assert refused(empty) == f"{empty[0]}, {empty[1]}: the corpus is empty"

    def deny(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", deny)
    assert refused(empty[0]) == f"{empty[0]}: cannot be read: Permission denied"


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
def test_a_fault_in_utf_8_is_told_with_file_byte_offset_and_line(
    tmp_path: Path, mark: bytes, newline: bytes
) -> None:
    before = mark + "画".encode() + newline + newline + b"caf"
    path = save(tmp_path / "latin1.txt", before + b"\xe9 au lait\n\xff")
    message = refused(path)
    assert message.startswith(f"{path}: not UTF-8: byte 0xe9 at offset {len(before)} (line 3); convert it")
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


# --- How a text is split

SHARES = st.floats(0, 0.999) | st.floats(1e-12, 1e-3) | st.sampled_from([0.0, 0.1, 0.05, 1 / 3])


@given(st.integers(1, 3000), SHARES, SHARES, st.sampled_from(["stream", "lines"]))
def test_the_parts_are_the_text_cut_in_three_of_the_shares_asked_for_unless_one_has_nothing(
    tmp_path_factory: pytest.TempPathFactory, total: int, validation: float, test: float, framing: str
) -> None:
    units = [f"{i}\n" if framing == "lines" else chr(0x4E00 + i) for i in range(total)]  # no two are the same
    path = save(tmp_path_factory.getbasetemp() / "split.txt", "".join(units))
    shares = (1 - validation - test, validation, test)
    try:
        corpus = load_corpus(path, framing=framing, validation=validation, test=test, level="byte")
    except CorpusError:
        corpus = None
    if corpus is None:
        assert shares[0] <= 0 or any(share and share * total < 1 + 1e-6 for share in shares)
        return
    parts = [bytes(part.ids.tolist()).decode() for part in (corpus.train, corpus.validation, corpus.test)]
    assert "".join(parts) == "".join(units)
    for part, share in zip(parts, shares, strict=True):
        size = part.count("\n") if framing == "lines" else len(part)
        assert abs(size - total * share) < 2 + 1e-6
        assert bool(size) == bool(share)
        assert framing == "stream" or part[-1:] in ("", "\n")


@pytest.mark.parametrize(
    ("text", "validation", "test", "expected"),
    [
        ("ab", 0.5, 0.5, "corpus.validation 0.5 and corpus.test 0.5 leave nothing to train on"),
        ("ab", 0.9, 0.0, "the corpus has only 2 characters, too little to train on after the split"),
        ("ab", 0.01, 0.01, "the corpus has only 2 characters: corpus.validation of 0.01 leaves none for it"),
        ("ab" * 9, 0.5, 1e-6, ""),
        ("ab", 1e-12, 0.0, "corpus.validation of 1e-12 leaves none for it"),
    ],
)
def test_a_text_too_small_for_its_split_is_refused_with_what_to_change(
    tmp_path: Path, text: str, validation: float, test: float, expected: str
) -> None:
    path = save(tmp_path / "small.txt", text)
    if expected:
        with pytest.raises(CorpusError, match=re.escape(expected)):
            load_corpus(path, validation=validation, test=test)
    else:
        assert len(load_corpus(path, validation=validation, test=test).test.ids) == 1


def test_a_corpus_of_lines_is_split_between_lines_and_leaves_out_empty_ones(tmp_path: Path) -> None:
    path = save(tmp_path / "lines.txt", "\n\nlonger first\nb\n\nc\n d\n\n\ne")
    corpus = load_corpus(path, framing="lines", validation=0.2, test=0.2)
    assert corpus.train.ids.tolist() == corpus.vocabulary.encode("longer first\nb\nc\n").tolist()
    assert [part.characters for part in (corpus.train, corpus.validation, corpus.test)] == [17, 3, 2]
    assert corpus.test.ids.tolist() == [corpus.vocabulary.symbols.index("e"), corpus.vocabulary.boundary_id]


def test_overlong_lines_are_left_out_with_a_note(tmp_path: Path) -> None:
    path = save(tmp_path / "lines.txt", "abc\n\nabcd\nab\nabcde\n")
    corpus = load_corpus(path, framing="lines", validation=0, max_line_length=3)
    assert corpus.train.ids.tolist() == corpus.vocabulary.encode("abc\nab\n").tolist()
    assert corpus.notes == ["2 of 4 lines are longer than 3 characters and are left out"]
    assert load_corpus(path, framing="lines", validation=0, max_line_length=5).notes == []
    with pytest.raises(CorpusError, match=r"no line is as short as .*: 1; raise it"):
        load_corpus(path, framing="lines", validation=0, max_line_length=1)


def test_what_only_the_later_parts_hold_is_unknown(tmp_path: Path) -> None:
    corpus = load_corpus(save(tmp_path / "a", "abab" + "xb" + "yb"), validation=0.25, test=0.25)
    assert corpus.vocabulary.symbols == ("<unk>", "a", "b")
    assert corpus.vocabulary.counts == (0, 2, 2)
    assert [part.ids.tolist() for part in (corpus.train, corpus.validation, corpus.test)] == [
        [1, 2, 1, 2],
        [0, 2],
        [0, 2],
    ]


def test_a_text_is_normalised_before_it_is_counted_and_the_vocabulary_remembers_how(tmp_path: Path) -> None:
    path = save(tmp_path / "a", "E\u0301E\u0301ﬁ\n")
    corpus = load_corpus(path, validation=0, normalization="nfkc", lowercase=True, min_count=2)
    assert corpus.vocabulary.symbols == ("<unk>", "é")
    assert corpus.vocabulary.counts == (3, 2)
    assert (corpus.train.characters, corpus.train.bytes) == (5, 7)
    assert corpus.vocabulary.normalize("É") == "é"


def test_at_byte_level_a_part_has_fewer_characters_than_symbols(tmp_path: Path) -> None:
    path = save(tmp_path / "a", "画在\n".encode() + b"\xff")
    train = load_corpus(path, validation=0, level="byte").train
    assert (len(train.ids), train.characters, train.bytes) == (8, 4, 8)


def test_held_out_text_is_framed_and_normalised_as_the_model_was_trained(tmp_path: Path) -> None:
    path = save(tmp_path / "a", "A\n\nb")
    lines = Vocabulary.build("ab\n", framing="lines", lowercase=True)
    stream = Vocabulary.build("ab\n")
    assert load_held_out(path, lines).ids.tolist() == lines.encode("a\nb\n").tolist()
    assert load_held_out([path, path], stream).ids.tolist() == stream.encode("A\n\nb\nA\n\nb").tolist()
    assert load_held_out(path, stream).characters == 4


def test_statistics_count_what_matters_before_training() -> None:
    found = statistics("画bb\naaaa\n\naaab")
    assert (found.characters, found.bytes, found.lines, found.vocabulary) == (14, 16, 4, 4)
    assert found.frequent == [("a", 7), ("b", 3), ("\n", 3), ("画", 1)]
    assert found.rare == [("画", 1)]
    assert found.longest == [(2, 4), (4, 4), (1, 3), (3, 0)]


@given(st.text(min_size=1))
def test_statistics_agree_with_a_plain_count(text: str) -> None:
    found = statistics(text)
    lines = text.removesuffix("\n").split("\n")
    assert (found.characters, found.lines, found.vocabulary) == (len(text), len(lines), len(set(text)))
    counts = [text.count(char) for char, _ in found.frequent]
    assert counts == [count for _, count in found.frequent] == sorted(map(text.count, set(text)), reverse=True)[:10]
    assert sorted(found.rare) == sorted((char, text.count(char)) for char in set(text) if text.count(char) <= 2)
    assert [count for _, count in found.rare] == sorted(count for _, count in found.rare)
    assert [len(lines[number - 1]) for number, _ in found.longest] == sorted(map(len, lines), reverse=True)[:5]
