"""Shards: a large text is read part by part, by several processes, and what was read outlasts a kill."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.config import CorpusConfig
from charlm.errors import CorpusError
from charlm.text import shards
from charlm.text.cache import Cache
from charlm.text.corpus import load_corpus
from charlm.text.reading import read_files
from charlm.text.shards import (
    Facts,
    Reading,
    cut_files,
    drop_empty_lines,
    find_shard,
    make_shards,
    shard_path,
)
from charlm.text.source import Span, cut_file
from charlm.text.stored import join

STREAM = Reading(
    level="character", encoding="utf-8", strict=False, field=None, framing="stream", max_line_length=None,
    normalization="none", lowercase=False, piece_size=1 << 20,
)  # fmt: skip
LINES = Reading(**{**vars(STREAM), "framing": "lines", "normalization": "nfc", "lowercase": True})


def text_of(folder: Path, count: int) -> str:
    return "".join(
        shard_path(folder, number).read_bytes().decode("utf-8", "surrogatepass") for number in range(count)
    )


def stored(paths: list[Path], reading: Reading, folder: Path, span_bytes: int, **options: Any) -> tuple[str, Facts]:
    """The text of files that is made of shards, and its facts."""
    folder.mkdir(exist_ok=True)
    spans = cut_files(paths, reading, span_bytes)
    facts = make_shards(reading, spans, folder, **options)
    files = [shard_path(folder, number) for number in range(len(spans))]
    sources, whole = join(facts, [not span.begin for span in spans], files)
    parts = [
        source if isinstance(source, str) else source.read_bytes().decode("utf-8", "surrogatepass")
        for source in sources
    ]
    for file in folder.iterdir():
        file.unlink()
    return "".join(parts), whole


# --- Parts of files


@given(st.binary(max_size=60), st.integers(1, 30), st.integers(1, 5))
def test_parts_are_cut_behind_newlines_and_together_are_the_file(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, span: int, searched: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.txt"
    path.write_bytes(data)
    spans = list(cut_file(path, span, searched_bytes=searched))
    begins = [part.begin for part in spans]
    assert [part.end for part in spans] == [*begins[1:], None]
    assert begins[0] == 0
    assert all(data[begin - 1 : begin] == b"\n" for begin in begins[1:])


def test_a_packed_file_a_column_and_an_encoding_of_two_bytes_are_not_cut(tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.txt", tmp_path / "a.gz"
    plain.write_bytes(b"line\n" * 99)
    packed.write_bytes(b"\x1f\x8b\n" + b"line\n" * 99)
    assert len(cut_files([plain], STREAM, 50)) > 5
    assert cut_files([packed], STREAM, 50) == [Span(packed)]
    for changed in ({"field": "text"}, {"encoding": "utf-16"}):
        assert cut_files([plain], Reading(**{**vars(STREAM), **changed}), 50) == [Span(plain)]


TEXTS = st.lists(st.text(st.sampled_from("aÉ\u0301é画Σσς\n\n\r\ufeff😀 "), max_size=40), min_size=1, max_size=3)


@settings(max_examples=40)
@given(TEXTS, st.integers(1, 30), st.sampled_from([STREAM, LINES]), st.booleans())
def test_the_text_of_shards_is_that_of_the_files_read_at_once(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], span: int, reading: Reading, byte: bool
) -> None:
    folder = tmp_path_factory.getbasetemp()
    paths = [folder / f"{number}.txt" for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_bytes(text.encode() + b"\xff\n" * byte)
    reading = Reading(**{**vars(reading), "level": "byte" if byte else "character"})
    found, facts = stored(paths, reading, folder / "shards", span)
    whole = read_files(paths, level=reading.level, encoding="utf-8", skipped=None)
    expected = "".join(reading.frame(reading.normalize(whole), Facts()))
    assert found == expected
    assert (facts.characters, facts.lines, facts.size) == (
        len(found), found.count("\n"), len(found.encode("utf-8", "surrogatepass"))
    )  # fmt: skip
    assert {chr(point): int(count) for point, count in enumerate(facts.found()) if count} == {
        char: found.count(char) for char in found
    }


@given(st.lists(st.text("a\n", max_size=5), max_size=6))
def test_empty_lines_are_left_out_wherever_pieces_are_cut(pieces: list[str]) -> None:
    lines = [line for line in "".join(pieces).split("\n") if line]
    assert "".join(drop_empty_lines(filter(None, pieces))) == "".join(f"{line}\n" for line in lines)


# --- Processes


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("".join(f"line {number} 画了\n" for number in range(3000)), encoding="utf-8")
    return path


def test_several_processes_make_the_shards_that_one_makes(tmp_path: Path, text: Path) -> None:
    told: list[int] = []
    alone = stored([text, text], STREAM, tmp_path / "alone", 4096, processes=1)
    several = stored([text, text], STREAM, tmp_path / "several", 4096, processes=3, tell=told.append)
    assert several == alone
    assert sum(told) == several[1].size


def test_shards_that_are_there_are_not_made_again_unless_they_are_damaged(tmp_path: Path, text: Path) -> None:
    spans = cut_files([text], STREAM, 4096)
    facts = make_shards(STREAM, spans, tmp_path)
    expected = text_of(tmp_path, len(spans))
    dates = [shard_path(tmp_path, number).stat().st_mtime_ns for number in range(len(spans))]
    shard_path(tmp_path, 1).write_bytes(b"damaged")
    (tmp_path / "000002.json").write_text("{}")
    (tmp_path / "000003.json").unlink()
    kept: list[int] = []
    assert make_shards(STREAM, spans, tmp_path, keep=kept.append) == facts
    assert text_of(tmp_path, len(spans)) == expected
    assert len(kept) == len(spans) - 3
    again = [shard_path(tmp_path, number).stat().st_mtime_ns for number in range(len(spans))]
    assert [number for number in range(len(spans)) if dates[number] != again[number]] == [1, 2, 3]
    assert find_shard(tmp_path / "000999") is None


@pytest.mark.parametrize("processes", [1, 2])
def test_what_is_wrong_late_in_a_file_is_told_with_its_line(tmp_path: Path, text: Path, processes: int) -> None:
    place = text.stat().st_size
    text.write_bytes(text.read_bytes() + b"\xff\n")
    with pytest.raises(CorpusError, match=rf"text.txt: not UTF-8: byte 0xff at offset {place} \(line 3001\)"):
        make_shards(STREAM, cut_files([text], STREAM, 4096), tmp_path, processes=processes)


def test_a_process_that_ends_is_done_without(tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    alone = stored([text], STREAM, tmp_path / "alone", 4096, processes=1)
    assert stored([text], STREAM, tmp_path / "several", 4096, processes=2) == alone


# --- Whole corpora


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHARLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "encoded"


PROGRAM = """
import sys
from charlm.config import CorpusConfig
from charlm.text import corpus
from charlm.text import shards
from charlm.text.cache import Cache

def wait(*_):
    print("made", flush=True)
    sys.stdin.read()

corpus.join = wait  # all shards are there
corpus.load_corpus(CorpusConfig(path=sys.argv[1], framing="lines"), cache=Cache(memory_bytes=1))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_reading_that_was_killed_goes_on_with_what_it_had(
    cache: Path, text: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", PROGRAM, str(text)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    assert process.stdout.readline() == b"made\n"
    process.send_signal(number)
    process.communicate(timeout=60)
    assert [file.suffix for file in cache.iterdir()] == [".shards"]
    monkeypatch.setattr(shards, "make_shard", lambda *_: pytest.fail("it was there"))
    corpus = load_corpus(CorpusConfig(path=str(text), framing="lines"), cache=Cache(memory_bytes=1))
    assert [file.suffix for file in cache.iterdir()] == [".ids"]
    assert corpus.train.characters + corpus.validation.characters == len(text.read_text(encoding="utf-8"))


def test_while_another_process_has_the_shards_a_text_is_read_without(cache: Path, text: Path) -> None:
    config = CorpusConfig(path=str(text), framing="stream")
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.replace('"lines"', '"stream"'), str(text)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"made\n"
    key = load_corpus(config, cache=Cache(memory_bytes=1)).key
    assert [file.suffix for file in cache.iterdir() if file.is_dir()] == [".shards"]  # it is still there
    process.kill()
    process.communicate(timeout=60)
    assert load_corpus(config, cache=Cache()).key == key


def test_shards_that_nobody_went_on_with_are_removed_after_a_day(cache: Path, text: Path) -> None:
    for name, age in (("old.shards", 90_000), ("new.shards", 3600)):
        (cache / name).mkdir(parents=True)
        (cache / name / "000000.text").write_bytes(b"text")
        os.utime(cache / name, (time.time() - age,) * 2)
    load_corpus(CorpusConfig(path=str(text)), cache=Cache(memory_bytes=1))
    assert sorted(file.name for file in cache.iterdir() if file.is_dir()) == ["new.shards"]


def test_a_share_that_is_chosen_by_the_size_of_a_text_is_found_without_reading_it_again(
    cache: Path, text: Path
) -> None:
    sizes = []

    def choose(characters: int) -> float:
        sizes.append(characters)
        return 0.05

    config = CorpusConfig(path=str(text), framing="stream")
    found = [load_corpus(config, cache=Cache(memory_bytes=1), choose_validation=choose) for _ in range(2)]
    assert found[0].key == found[1].key == load_corpus(config.model_copy(update={"validation": 0.05})).key
    assert sizes == [found[0].train.characters + found[0].validation.characters] * 2
    assert sorted(file.suffix for file in cache.iterdir()) == [".ids", ".size"]


def test_notes_on_several_files_are_those_of_a_small_text(cache: Path, tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{number}.jsonl") for number in range(3)]
    for path in paths:
        Path(path).write_text('{"text": "one"}\n' * 30 + '{"other": 1}\n', encoding="utf-8")
    for changed in ({}, {"field": "text"}, {"framing": "lines", "max_line_length": 13}):
        config = CorpusConfig(path=paths, **changed)
        small, large = (load_corpus(config, cache=Cache(memory_bytes=size)) for size in (1 << 20, 1))
        assert sorted(large.notes) == sorted(small.notes)
        assert large.key == small.key
        assert small.notes
