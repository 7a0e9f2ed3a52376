"""Columns: which texts are read of JSON lines, CSV, TSV and Kaldi text, what stands beside them."""

import contextlib
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm.config import CorpusConfig
from charlm.errors import CorpusError
from charlm.text import json_lines
from charlm.text.column_formats import describe_columns
from charlm.text.columns import Columns, Field, Record, parse_field, read_record_batches
from charlm.text.corpus import load_corpus


def records(text: str, field: Field) -> list[tuple[Any, ...]]:
    """All records of a file: text, other columns, line."""
    batches = read_record_batches([text.removesuffix("\n").split("\n")], field, "file", [])
    return [tuple(record) for batch in batches for record in batch]


def texts(text: str, field: Field) -> list[str]:
    return [record[0] for record in records(text, field)]


def refused(text: str, field: Field) -> str:
    with pytest.raises(CorpusError) as caught:
        records(text, field)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---------------------------------------------------------------------------------------------------- what is read


@pytest.mark.parametrize("field", ["text", 2])
def test_a_quoted_cell_with_newlines_is_one_text_and_its_id_stands_beside_it(field: Field) -> None:
    table = 'id,text\n1,"the boat, old\nand ""grey"""\n\n2,bread\n'
    expected = [Record('the boat, old\nand "grey"', {"id": "1"}, 2), Record("bread", {"id": "2"}, 5)]
    assert records(table, field) == expected


@pytest.mark.parametrize(
    ("text", "field", "expected"),
    [
        ("id;text\n1;a,b\n", "text", ["a,b"]),
        ("id|text\n1|a,b\n", "text", ["a,b"]),
        ("text\nplain\n\"a,b\"\n", "text", ["plain", "a,b"]),
        ("\ufefftext,id\na,1\n", "text", ["a"]),
        ("id, text\n1,a\n", "text", ["a"]),
        (",text\n0,a\n", "text", ["a"]),
        ("1,a\n2,b\n", 2, ["a", "b"]),
        ("one\ntwo\n", 1, ["one", "two"]),
        ("LJ001-0001|Printing, in the only sense|x\nLJ001-0002|in being \"the first\", so|y\n", 2,
         ["Printing, in the only sense", 'in being "the first", so']),
        ('1\t"Hello" he said\n2\tx\n', 2, ['"Hello" he said', "x"]),
        ('1\t"one\n2\ttwo"\n', 2, ['"one', 'two"']),
        ('1\t"one\ntwo"\n2\tx\n', 2, ["one\ntwo", "x"]),
        ('{"id": 1, "text": "a\\nb"}\n\n{"text": "c"}\n', "text", ["a\nb", "c"]),
        ('[1, "a"]\n[2, "b"]\n', 2, ["a", "b"]),
        ('{"data": {"text": "a", "n": [1]}}\n{"data": {"text": "b"}}\n', "data.text", ["a", "b"]),
        ('{"data.text": "a", "data": {"text": "b"}}\n', "data.text", ["a"]),
        ('{"a.b": {"c.d": "x", "c": {"d": "y"}}, "a": {"b": {"c": {"d": "z"}}}}\n', "a.b.c.d", ["x"]),
        ('{"turns": [{"say": "hello"}, {"say": "you"}]}\n', "turns.2.say", ["you"]),
        ('[7, {"text": "a"}]\n', "2.text", ["a"]),
        ("id,data.text\n1,a\n", "data.text", ["a"]),
        ("utt-1 yes, he\nutt-2\nutt-3  no \n", "text", ["yes, he", "", "no"]),
        ("utt-1 yes, he\nutt-2 no, she\n", 2, ["yes, he", "no, she"]),
        ("84-121123-0000\ta b\n84-121123-0001\tc\n", 2, ["a b", "c"]),
        ("", "text", []),
        ("\n \n", 1, []),
    ],
)  # fmt: skip
def test_texts_are_those_of_the_column(text: str, field: Field, expected: list[str]) -> None:
    assert texts(text, field) == expected


@pytest.mark.parametrize(("delimiter", "named"), [(",", True), (";", True), ("\t", True), (",", False)])
@given(
    rows=st.lists(
        st.tuples(*2 * [st.text(st.characters(exclude_characters="\r\0\ufeff", codec="utf-8"))]), min_size=1
    )
)
def test_what_the_csv_module_writes_is_read_back(delimiter: str, named: bool, rows: list[tuple[str, str]]) -> None:
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerows([("id", "text"), *rows])
    if delimiter == "\t" and any({"\t", "\n"} & set("".join(row)) for row in rows):
        with contextlib.suppress(CorpusError):  # in TSV a newline beside a tab is no part of a cell
            records(file.getvalue(), "text" if named else 2)
    else:
        found = records(file.getvalue(), "text" if named else 2)
        assert [(row[1]["id"], row[0]) for row in found] == rows


def test_a_record_comes_as_soon_as_it_is_complete() -> None:
    def batches() -> Iterator[list[str]]:
        yield ["id,text", '1,"a']
        yield ['b"', "2,c", ""]
        raise EOFError  # nobody may ask for more before these are answered

    found = read_record_batches(batches(), "text", "file", [])
    assert next(found) == [Record("a\nb", {"id": "1"}, 2), Record("c", {"id": "2"}, 4)]
    with pytest.raises(EOFError):
        next(found)


def test_a_field_of_digits_is_a_number() -> None:
    assert [parse_field(value) for value in ("2", "text", "2nd", "²", "9" * 5000)] == [
        2,
        "text",
        "2nd",
        "²",
        "9" * 5000,
    ]


# --------------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("text", "field", "said"),
    [
        ("id,text\n1,a\n", "body", "line 1: there is no column 'body'; the columns are 'id', 'text'"),
        ("id,text\n1,a\n", 3, "line 1: there is no column 3; the columns are numbered from 1 to 2"),
        ("1,a\n2,b\n", 0, "line 1: there is no column 0"),
        ("text,text\n1,a\n", "text", "two columns are named 'text'"),
        (
            "id,text\n1,yes, he\n",
            "text",
            "line 2: this row has 3 cells and the first row has 2; a cell that contains a comma",
        ),
        ("id,text,x\n1\n", "text", "line 2: this record has no value for 'text'; add one, or leave the record out"),
        ('id,text\n1,"a\n2,b\n', "text", "line 2: a quoted cell of this row is never closed"),
        ('id,text\n1,"a" b\n', "text", "line 2: text follows the closing quote"),
        ('{"a": "b"}\n{"a": 3}\n', "a", "line 2: 'a' is not a text: 3"),
        (
            '{"a": "b"}\n{"a": null}\n',
            "a",
            "line 2: this record has no value for 'a'; add one, or leave the record out",
        ),
        ('{"a": "b"}\nx\n', "a", "line 2: not JSON: "),
        ('{"a": "b"}\n3\n', "a", "line 2: this line is neither a JSON object nor a list"),
        ('{"a": 1, "a": 2}\n', "a", "the key 'a' appears twice"),
        ('{"a":' * 200_000 + "\n", "a", "line 1: not JSON: nested too deeply"),
        ('{"a":' + "1" * 5000 + "}\n", "a", "more than 4,300 digits"),
        ('{\n"a": 1\n}\n', "a", "jq -c"),
        (
            '[\n{"a": 1}\n]\n',
            "a",
            "this is one JSON list, not JSON lines; `jq -c '.[]' file` writes one object on each line",
        ),
        ('[{"a": "x"}, {"a": "y"}]\n', "a", "jq -c '.[]'"),
        ('[\n  {\n    "a": "x"\n  }\n]\n', "a", "jq -c '.[]'"),
        (
            '{"id": 1, "data": {"text": "a"}}\n',
            "data.txt",
            "there is no column 'data.txt'; the columns are 'id', 'data.text'",
        ),
        (
            '{"id": 1, "data": {"text": "a"}}\n',
            "data",
            "'data' is not a text: {'text': 'a'}; did you mean data.text?",
        ),
        (
            '{"data": {"text": "a"}}\n{"data": "b"}\n',
            "data.text",
            "line 2: this record has no value for 'data.text'; add one, or leave the record out",
        ),
    ],
)
def test_what_is_no_record_is_named_in_one_message(text: str, field: Field, said: str) -> None:
    assert said in refused(text, field)


def test_what_a_path_leads_to_is_the_text_and_all_else_stays_beside_it() -> None:
    line = '{"id": 1, "data": {"text": "a", "n": {"m": 2}}}\n'
    assert records(line, "data.text") == [Record("a", {"id": 1, "data": {"n": {"m": 2}}}, 1)]


@given(
    st.recursive(st.text(max_size=3), lambda inner: st.dictionaries(st.text("a.", max_size=4), inner), max_leaves=9)
)
def test_every_text_of_an_object_is_found_by_its_keys_unless_another_path_is_written_alike(value: Any) -> None:
    def values(inner: Any, path: list[str]) -> Iterator[tuple[str, Any]]:
        yield ".".join(path), inner
        for key, each in inner.items() if isinstance(inner, dict) else ():
            yield from values(each, [*path, key])

    found = list(values(value, ["root"]))
    for path, text in found:
        if isinstance(text, str):
            taken = json_lines.take(json.loads(json.dumps({"root": value})), path)
            assert taken in [other for written, other in found if written == path]


def test_a_key_of_kaldi_that_stands_twice_is_named() -> None:
    notes: list[str] = []
    lines = [f"utt-{i} a" for i in range(30)]
    lines[25] = "utt-7 b"
    found = [record.text for batch in read_record_batches([lines], 2, "text", notes) for record in batch]
    assert found == ["a"] * 25 + ["b"] + ["a"] * 4
    assert notes == ["text, line 26: the key 'utt-7' appears twice, first in line 8; perhaps other keys do too"]


# ----------------------------------------------------------------------------------------------- what it looks like


@pytest.mark.parametrize(
    ("lines", "name", "kind"),
    [
        (['{"a": 1}'], "x", "JSON lines"),
        (["id,text", "1,a"], "x", "CSV"),
        (["id\ttext", "1\ta"], "x", "TSV"),
        (["1,a", "2,b"], "x.csv.gz", "CSV"),
        (["utt-1 a", "utt-2 b"], "text", "Kaldi's `utt-id text`"),
        (["[", "  {", '    "a": 1'], "x", "one JSON document"),
        (['[{"a": 1}, {"a": 2}]'], "x", "one JSON document"),
        (["{", '  "a": {', '    "b": 1'], "x", "one JSON document"),
        (["{", "  x = 1;", "}"], "x", None),
        (["[", "chorus", "]"], "x", None),
        (["Hello, world", "this, too"], "x", None),
        (["The name, the first", "and, so"], "x", None),
        (["[12:01] hi", "[12:02] ho"], "x", None),
        (["2020-01-01 a", "2020-01-02 b"], "x", None),
        (["{ x; }", "{ y; }"], "x", None),
        (["", " "], "x", None),
    ],
)
def test_files_that_look_like_columns_are_told_from_plain_text(
    lines: list[str], name: str, kind: str | None
) -> None:
    assert describe_columns(lines, name) == kind


# ---------------------------------------------------------------------------------------------------------- corpora


def read(pieces: list[str], field: Field | None, *, one_line: bool = False) -> tuple[str, list[str]]:
    columns = Columns(field, one_line, [])
    return "".join(columns.select(pieces, "file")), columns.notes


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_corpus_is_the_texts_each_with_a_newline_however_the_file_is_cut(size: int) -> None:
    table = 'id,text\n1,"a\nb"\n2,c'
    pieces = [table[i : i + size] for i in range(0, len(table), size)]
    assert read(pieces, "text") == ("a\nb\nc\n", [])
    text, notes = read(pieces, "text", one_line=True)
    assert text == "a b\nc\n"
    [note] = notes
    assert note.startswith("file: 1 text of several lines; in lines framing")
    assert note.endswith("read as a space")


def test_records_without_a_text_are_left_out_and_counted() -> None:
    text, notes = read(['{"a": "x"}\n{"a": null}\n{}\n{"a": "y"}\n'], "a")
    assert (text, notes) == ("x\ny\n", ["file: 2 records without a value for 'a' are left out"])


def test_without_a_field_a_file_passes_as_it_is_and_columns_are_noted_once() -> None:
    columns = Columns(None, one_line=True, notes=[])
    lines = '{"a": "x"}\n{"a": "y"}\n'
    assert "".join(columns.select([lines[:3], lines[3:]], "one")) == lines
    assert columns.notes == []  # the first piece does not tell
    for name in ("one", "two"):
        assert "".join(columns.select([lines], name)) == lines
    [note] = columns.notes
    assert note.startswith("one, two: look like JSON lines and are read with all columns")
    assert "corpus.field" in note
    "".join(columns.select(["id,text\n1,a\n"], "three"))
    for number in range(5):
        "".join(columns.select([lines], str(number)))
    assert [note.split(":")[0] for note in columns.notes] == ["one, two, 0, 1, 2 and 2 more", "three"]


def test_a_corpus_of_a_field_has_no_character_of_the_other_columns(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text("".join(json.dumps({"Z": "Q", "text": f"one {'ab'[i % 2]}"}) + "\n" for i in range(40)))
    corpus = load_corpus(CorpusConfig(path=str(path), field="text"))
    assert set(corpus.vocabulary.characters) == set("one ab\n")
    assert corpus.train.characters + corpus.validation.characters == 40 * 6
    assert corpus.notes == ["framing: lines (each record is a separate text)"]
    assert "looks like JSON lines" in load_corpus(CorpusConfig(path=str(path))).notes[0]
