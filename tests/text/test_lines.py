"""Lines: what has arrived is passed on without waiting for more, and a line that is none is named."""

import gzip
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm.errors import InputError
from charlm.text.detection import detect_wide
from charlm.text.lines import MAX_LINE_BYTES, LineCounter, read_line_batches

BOM = b"\xef\xbb\xbf"


class Arriving(io.BytesIO):
    """Standard input from a slow writer: each read gets what has arrived, and is noted."""

    def __init__(self, chunks: list[bytes]) -> None:
        super().__init__()
        self.chunks = iter(chunks)
        self.reads = 0

    def read1(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        return next(self.chunks, b"")

    def read(self, size: int | None = -1, /) -> bytes:
        raise AssertionError("waits for more than there is")


def arriving(monkeypatch: pytest.MonkeyPatch, *chunks: bytes) -> Arriving:
    """Puts chunks on standard input."""
    source = Arriving(list(chunks))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(source))
    return source


def save(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def lines(path: Path, level: str = "character", encoding: str = "utf-8") -> list[str]:
    return [line for batch in read_line_batches(path, level, encoding) for line in batch]


def test_a_line_is_passed_on_before_the_next_has_arrived(monkeypatch: pytest.MonkeyPatch) -> None:
    source = arriving(monkeypatch, b"one\ntw", b"o\nthree\n", b"fo", b"ur")
    batches = read_line_batches(None, "character")
    assert [(next(batches), source.reads) for _ in range(3)] == [(["one"], 1), (["two", "three"], 2), (["four"], 5)]
    assert list(batches) == []


def test_a_batch_has_no_more_than_1024_lines(tmp_path: Path) -> None:
    path = save(tmp_path / "a", b"".join(b"%d\n" % i for i in range(2500)))
    batches: Iterator[list[str]] = read_line_batches(path, "character")
    assert [len(batch) for batch in batches] == [1024, 1024, 452]


PIECES = st.sampled_from([b"a", b"\n", b"\r", b"\r\n", "é".encode(), "画".encode(), "\ufeff".encode(), b"\0"])


@given(st.lists(PIECES).map(b"".join), st.booleans())
def test_lines_end_at_lf_crlf_and_cr_alone_and_a_byte_order_mark_goes(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes, packed: bool
) -> None:
    name = "lines.gz" if packed else "lines"
    path = save(tmp_path_factory.getbasetemp() / name, gzip.compress(raw) if packed else raw)
    at_bytes = raw.removesuffix(b"\n").split(b"\n") if raw else []
    assert lines(path, "byte") == [line.decode().removesuffix("\r") for line in at_bytes]
    if utf16 := detect_wide(raw):
        with pytest.raises(InputError, match=utf16.encoding):
            lines(path)
        return
    plain = raw.removeprefix(BOM).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert lines(path) == (plain.removesuffix(b"\n").decode().split("\n") if plain else [])


@pytest.mark.parametrize("chunks", [[b"a\r", b"\nb\rc\n", b"\r", b"\r\n"], [b"a\r\nb\rc\n\r\r\n"]])
def test_a_carriage_return_ends_a_line_wherever_it_arrives(
    monkeypatch: pytest.MonkeyPatch, chunks: list[bytes]
) -> None:
    arriving(monkeypatch, *chunks)
    assert [line for batch in read_line_batches(None, "character") for line in batch] == ["a", "b", "c", "", ""]


def test_a_line_that_ends_with_a_carriage_return_is_answered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    source = arriving(monkeypatch, b"one\r", b"\ntwo\r\n")
    batches = read_line_batches(None, "character")
    assert [(next(batches), source.reads) for _ in range(2)] == [(["one"], 1), (["two"], 2)]


def test_lines_before_a_fault_in_utf_8_come_first_and_it_is_named_by_its_line(tmp_path: Path) -> None:
    path = save(tmp_path / "a", BOM + b"good\nb\xe9d\nmore\n")
    batches = read_line_batches(path, "character")
    assert next(batches) == ["good"]
    with pytest.raises(InputError) as caught:
        next(batches)
    place = f"{path}: not UTF-8: byte 0xe9 at offset 9 (line 2); it is perhaps cp1252"
    assert str(caught.value).startswith(place)
    assert "a line then reads “béd”; if that is right, use `--encoding cp1252`, or convert" in str(caught.value)
    assert lines(path, encoding="cp1252")[1] == "béd"
    assert lines(path, "byte") == ["\ufeffgood", "b\udce9d", "more"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"text", "this is not a gzip file, although its name"),
        (gzip.compress(b"text\n" * 99, mtime=0)[:-9], "damaged gzip file: "),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, complaint: str) -> None:
    path = tmp_path / "lines.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=f"^{path}: .*{complaint}"):
        lines(path)


def test_a_packed_file_may_unpack_to_much_but_not_to_one_endless_line(tmp_path: Path) -> None:
    path = save(tmp_path / "lines.gz", gzip.compress(b"a" * MAX_LINE_BYTES + b"\n" + b"b" * MAX_LINE_BYTES))
    assert [line[0] for line in lines(path)] == ["a", "b"]
    path = save(tmp_path / "endless.gz", gzip.compress(b"a\n" + b"a" * (MAX_LINE_BYTES + 1)))
    with pytest.raises(InputError, match=r"line 2: this line is longer than 4,194,304 bytes"):
        lines(path)


def test_a_counter_knows_the_number_of_the_last_line() -> None:
    counted = LineCounter(["a", "b"])
    assert counted.number == 0
    assert [(line, counted.number) for line in counted] == [("a", 1), ("b", 2)]
