"""Parquet tables: one column of them is a corpus, read a batch of rows at a time."""

import sys
from pathlib import Path
from typing import Any

import pytest

from charlm.config import CorpusConfig
from charlm.errors import CorpusError
from charlm.text.cache import Cache
from charlm.text.columns import read_records
from charlm.text.corpus import Corpus, load_corpus
from charlm.text.parquet import is_parquet, read_parquet
from commands import run

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

TEXTS = ["one", None, "two 画\nlines", "", *(f"text {number}" for number in range(3000))]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = {"id": list(range(len(TEXTS))), "text": TEXTS, "data": [{"lang": "en", "body": text} for text in TEXTS]}
    path = tmp_path / "table.parquet"
    parquet.write_table(pyarrow.table(rows), path, row_group_size=100)
    return path


def load(path: Path, cache: Cache | None = None, **settings: Any) -> Corpus:
    settings = {"validation": 0, "framing": "stream", **settings}
    return load_corpus(CorpusConfig(path=str(path), **settings), cache=cache or Cache())


def text_of(corpus: Corpus) -> str:
    return corpus.vocabulary.decode(corpus.train.ids.tolist())


EXPECTED = "".join(text + "\n" for text in TEXTS if text is not None)


@pytest.mark.parametrize("field", ["text", 2, "data.body"])
def test_the_texts_of_a_column_are_a_corpus(table: Path, field: str | int) -> None:
    corpus = load(table, field=field)
    assert text_of(corpus) == EXPECTED
    assert any("1 record without a value" in note for note in corpus.notes)


def test_a_large_table_is_read_as_a_small_one_is(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARLM_CACHE", str(tmp_path / "cache"))
    for framing in ("stream", "lines", "auto"):
        small, large = (
            load(table, Cache(memory_bytes=size), field="text", framing=framing) for size in (1 << 24, 1)
        )
        assert (large.key, large.notes) == (small.key, small.notes)


def test_tables_in_a_folder_are_read_where_a_column_is_and_skipped_where_none_is(table: Path) -> None:
    (table.parent / "other.jsonl").write_text('{"text": "json"}\n')
    assert text_of(load(table.parent, field="text")) == "json\n" + EXPECTED
    corpus = load(table.parent)
    assert text_of(corpus) == '{"text": "json"}\n'
    assert any("table.parquet (a Parquet table)" in note for note in corpus.notes)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (None, "table.parquet: a Parquet table, not a text; name the column to read with corpus.field"),
        ("body", "table.parquet: there is no column 'body'; the columns are 'id', 'text', 'data'"),
        (4, "table.parquet: there is no column 4; the columns are numbered from 1 to 3"),
        ("id", "table.parquet, row 1: 'id' is not a text: 0"),
        ("data", "table.parquet, row 1: 'data' is not a text: .*; did you mean data.lang"),
        ("data.title", "the corpus is empty"),
    ],
)
def test_a_table_that_gives_no_texts_is_refused_with_the_way_out(
    table: Path, field: str | int | None, message: str
) -> None:
    with pytest.raises(CorpusError, match=message):
        load(table, field=field)


def test_a_damaged_table_is_refused(table: Path) -> None:
    data = bytearray(table.read_bytes())
    data[10:2000] = bytes(1990)
    table.write_bytes(data)
    with pytest.raises(CorpusError, match=r"table\.parquet: damaged Parquet file: .*; copy or download it again"):
        load(table, field="text")
    table.write_bytes(data[:-9])
    assert not is_parquet(table)
    with pytest.raises(CorpusError, match="a Parquet table, not a text"):
        load(table, field="text")


def test_without_pyarrow_it_is_said_what_to_install(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(CorpusError, match=r"table\.parquet: .*pip install 'charlm\[parquet\]'"):
        next(read_parquet(table, "text", "table.parquet"))


def test_the_command_line_counts_a_column(table: Path) -> None:
    result = run("corpus", "stats", "--field", "text", table)
    assert f"characters     {len(EXPECTED):,}\n" in result.stdout
    assert "1 record without a value for 'text' is left out" in result.stderr
    result = run("corpus", "stats", table)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--field" in result.stderr


def test_a_record_of_a_table_is_that_of_a_json_line(table: Path) -> None:
    lines = [['{"text": "one"}', '{"text": null}']]
    expected = [record.text for record in read_records(lines, "text", "a.jsonl", [])]
    assert [record.text for record in read_parquet(table, "text", "table")][:2] == expected
