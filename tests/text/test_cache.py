"""The cache: a large corpus is encoded once, and what lies on disk is believed only if it is whole."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from charlm.config import CorpusConfig
from charlm.errors import CorpusError
from charlm.text.cache import Cache
from charlm.text.corpus import Corpus, load_corpus

TEXT = "".join(f"line {i} 画\n" for i in range(40))


def test_a_disk_without_room_is_found_before_the_text_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    size = text.stat().st_size
    for free, notes in ((2 * size, []), (2 * size - 1, ["encoding needs up to"]), (size, ["encoding needs up to"])):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: shutil._ntuple_diskusage(9**9, 9**9, free))
        found = [note[:20] for note in load(text, max_bytes=free, framing="stream").notes]
        assert found == notes
        shutil.rmtree(tmp_path / "cache")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9**9, 9**9, size - 1))
    with pytest.raises(CorpusError, match=f"no room to encode .*{tmp_path / 'cache'}.* free.*; make room"):
        load(text)


def test_a_disk_without_room_for_the_ids_is_found_before_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("".join(map(chr, range(0x4E00, 0x4E00 + 300))) + "a" * 9000)  # ids take two bytes each
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9**9, 9**9, 18_599))
    with pytest.raises(
        CorpusError, match=rf"no room to encode .*the encoded text needs 18.6 kB, but {tmp_path / 'cache'}.* free"
    ):
        load(text, validation=0)
    assert kept(tmp_path) == {}


def load(path: Path | list[str], *, max_bytes: int = 1 << 30, **settings: Any) -> Corpus:
    """Reads a corpus with a cache to which every text is large."""
    paths = path if isinstance(path, list) else str(path)
    return load_corpus(
        CorpusConfig(path=paths, **{"split": "tail", **settings}), cache=Cache(memory_bytes=1, max_bytes=max_bytes)
    )


@pytest.fixture(autouse=True)
def an_empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARLM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def kept(tmp_path: Path) -> dict[str, int]:
    """The files of the cache with their inodes: what is written again has another one."""
    return {file.name: file.stat().st_ino for file in (tmp_path / "cache" / "encoded").iterdir()}


def read(corpus: Corpus) -> str:
    parts = (corpus.train, corpus.validation, corpus.test)
    return "".join(corpus.vocabulary.decode(part.ids.tolist()) for part in parts)


def test_a_corpus_is_encoded_once_and_mapped(tmp_path: Path, text: Path) -> None:
    first = load(text)
    files = kept(tmp_path)
    again = load(text)
    assert len(files) == 1
    assert kept(tmp_path) == files
    assert read(first) == read(again) == TEXT
    assert isinstance(again.train.ids.base.base, np.memmap)


def test_a_copy_of_the_text_is_the_same_text(tmp_path: Path, text: Path) -> None:
    load(text)
    files = kept(tmp_path)
    (tmp_path / "copy.txt").write_bytes(text.read_bytes())
    load([str(tmp_path / "copy.txt")])
    assert kept(tmp_path) == files


def test_a_text_that_changed_is_encoded_anew_even_if_its_size_and_date_did_not(tmp_path: Path, text: Path) -> None:
    load(text)
    date = text.stat().st_mtime_ns
    text.write_text(TEXT.replace("7", "8"), encoding="utf-8")
    os.utime(text, ns=(date, date))
    assert read(load(text)) == TEXT.replace("7", "8")
    assert len(kept(tmp_path)) == 2


def test_each_setting_has_an_encoding_of_its_own(tmp_path: Path, text: Path) -> None:
    settings: list[dict[str, Any]] = [
        {}, {"framing": "lines"}, {"level": "byte"}, {"validation": 0.2}, {"test": 0.1}, {"normalization": "nfc"},
        {"lowercase": True}, {"min_count": 2}, {"framing": "lines", "max_line_length": 8},
    ]  # fmt: skip
    for changed in settings:
        load(text, **changed)
    assert len(kept(tmp_path)) == len(settings)


@pytest.mark.parametrize("place", [0, 9, 20, 40, -1, -30, "empty", "cut", "longer"])
def test_a_damaged_file_is_made_again(tmp_path: Path, text: Path, place: int | str) -> None:
    load(text)
    files = kept(tmp_path)
    path = tmp_path / "cache" / "encoded" / next(iter(files))
    whole = path.read_bytes()
    if isinstance(place, int):
        damaged = bytearray(whole)
        damaged[place] ^= 1
    else:
        damaged = bytearray({"empty": b"", "cut": whole[:-5], "longer": whole + b"x"}[place])
    path.write_bytes(damaged)
    assert read(load(text)) == TEXT
    assert path.read_bytes() == whole


def test_without_a_folder_to_write_to_a_temporary_file_takes_its_place(
    tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CHARLM_CACHE", str(tmp_path / "file" / "below"))
    corpus = load(text)
    assert read(corpus) == TEXT
    assert isinstance(corpus.train.ids.base.base, np.memmap)


def test_a_corpus_that_is_refused_leaves_nothing_behind(tmp_path: Path, text: Path) -> None:
    text.write_bytes(TEXT.encode() + b"\xff")
    with pytest.raises(CorpusError, match="not UTF-8"):
        load(text)
    assert kept(tmp_path) == {}


def test_what_was_not_used_for_longest_is_removed_when_there_is_too_much(tmp_path: Path, text: Path) -> None:
    for number, share in enumerate((0.1, 0.2, 0.3)):
        load(text, validation=share)
        for path in (tmp_path / "cache" / "encoded").iterdir():
            if path.stat().st_mtime > 1000:
                os.utime(path, (number, number))
                size = path.stat().st_size
    oldest_but_used = load(text, validation=0.1)
    before = kept(tmp_path)
    load(text, validation=0.4, max_bytes=2 * size + size // 2)
    left = kept(tmp_path)
    assert len(before) == 3
    assert len(left) == 2
    assert read(oldest_but_used) == TEXT  # what is mapped stays readable, removed or not
    load(text, validation=0.1)
    assert kept(tmp_path) == left


def test_one_corpus_larger_than_the_bound_is_kept_alone(tmp_path: Path, text: Path) -> None:
    for share in (0.1, 0.2):
        load(text, validation=share, max_bytes=1)
        assert len(kept(tmp_path)) == 1


def test_what_a_killed_program_left_is_removed_after_a_minute_or_if_another_one_has_its_number_after_a_day(
    tmp_path: Path, text: Path
) -> None:
    folder = tmp_path / "cache" / "encoded"
    folder.mkdir(parents=True)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    now = time.time()
    written = {
        f"old.ids.{os.getpid()}.tmp": now - 100_000,
        f"at work.ids.{os.getpid()}.tmp": now - 120,
        f"killed.ids.{ended.pid}.tmp": now - 120,
        f"on another machine.ids.{ended.pid}.tmp": now - 1,
    }
    for name, date in written.items():
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (date, date))
    load(text)
    left = {name.partition(".")[0] for name in kept(tmp_path) if name.endswith(".tmp")}
    assert left == {"at work", "on another machine"}


def test_programs_that_encode_the_same_corpus_at_once_do_not_disturb_each_other(tmp_path: Path, text: Path) -> None:
    program = (
        "import sys\nfrom charlm.config import CorpusConfig\nfrom charlm.text.cache import Cache\n"
        "from charlm.text.corpus import load_corpus\n"
        "print(load_corpus(CorpusConfig(path=sys.argv[1], split='tail'), cache=Cache(memory_bytes=1)).key)"
    )
    command = [sys.executable, "-c", program, str(text)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    keys = {process.communicate(timeout=60)[0].strip() for process in running}
    assert keys == {load(text).key}
    assert len(kept(tmp_path)) == 1
