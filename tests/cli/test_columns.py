"""Columns on the command line: `--field` in score and eval, ids beside the results, Kaldi's keys and costs."""

import json
from pathlib import Path

import pytest

import charlm
import commands
from charlm.text.corpus import load_held_out

TABLE = 'id,text,logprob\n7,"the boat has\na book.",x\n8,a miller,y\n'


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table"
    path.write_text(TABLE)
    return path


def test_the_other_columns_stand_before_the_results(tiny_run: Path, table: Path) -> None:
    expected = charlm.load(tiny_run).score(["the boat has\na book.", "a miller"])
    rows = commands.scores(tiny_run, "--file", table, "--field", "text")
    assert [list(row)[:3] for row in rows] == 2 * [["id", "input_logprob", "text"]]
    assert [(row["id"], row["input_logprob"], row["text"]) for row in rows] == [
        ("7", "x", expected[0].text),
        ("8", "y", expected[1].text),
    ]
    assert [row["logprob"] for row in rows] == pytest.approx([score.logprob for score in expected], abs=1e-3)
    head, *lines = commands.score(
        tiny_run, "--file", table, "--field", "text", "--format", "tsv"
    ).stdout.splitlines()
    assert head.split("\t")[:3] == ["id", "input_logprob", "text"]
    assert [line.split("\t")[:3] for line in lines] == [
        ["7", "x", "the boat has\\na book."],
        ["8", "y", "a miller"],
    ]


def test_json_values_keep_their_type_and_what_is_missing_is_an_empty_cell(tiny_run: Path) -> None:
    lines = '{"text": "a", "id": 1, "m": {"k": [true]}}\n{"text": "b", "more": 2}\n'
    rows = commands.scores(tiny_run, "--field", "text", input=lines)
    assert (rows[0]["id"], rows[0]["m"], rows[1]["more"]) == (1, {"k": [True]}, 2)
    assert "id" not in rows[1]
    tsv = commands.score(tiny_run, "--field", "text", "--format", "tsv", input=lines).stdout.splitlines()
    assert [line.split("\t")[:3] for line in tsv] == [
        ["id", "m", "text"],
        ["1", '{"k": [true]}', "a"],
        ["", "", "b"],
    ]


def test_ranked_sentences_keep_their_ids_even_if_they_are_equal(tiny_run: Path) -> None:
    lines = "id\ttext\n1\tvkpvkp\n2\tthe boat\n3\tthe boat\n"
    rows = commands.scores(tiny_run, "--field", "text", "--rank", input=lines)
    assert [(row["id"], row["rank"]) for row in rows] == [("2", 1), ("3", 1), ("1", 3)]


def test_a_model_of_lines_reads_each_newline_as_a_space_and_says_so(tiny_lines_run: Path, table: Path) -> None:
    result = commands.score(tiny_lines_run, "--file", table, "--field", 2, "--format", "jsonl")
    assert json.loads(result.stdout.splitlines()[0])["text"] == "the boat has a book."
    assert f"{table}: the first row is read as the names of the columns\n" in result.stderr
    assert f"{table}: 1 text of several lines" in result.stderr


def test_unknown_characters_are_named_by_their_records(tiny_run: Path) -> None:
    result = commands.score(tiny_run, "--field", "text", "--format", "jsonl", input='id,text\n1,"a\nb"\n2,船\n')
    assert "'船' (U+8239) 1 time, in record 2\n" in result.stderr
    refusal = commands.run(
        "score", tiny_run, "--field", "text", "--unknown", "error", input='id,text\n1,"a\nb"\n2,船\n'
    )
    assert "standard input, line 4: the model has never seen" in refusal.stderr


def test_a_file_that_looks_like_columns_is_read_raw_with_one_note(tiny_run: Path, table: Path) -> None:
    result = commands.score(tiny_run, "--file", table, "--format", "jsonl")
    assert result.stdout.count("\n") == TABLE.count("\n")
    assert result.stderr.count("looks like CSV") == 1
    assert "--field" in result.stderr
    evaluated = commands.run("eval", tiny_run, table, "--format", "json")
    assert evaluated.stderr.count("looks like CSV") == 1
    assert json.loads(evaluated.stdout)["characters"] == len(TABLE)


def test_eval_measures_the_texts_of_the_field(tiny_run: Path, table: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("the boat has\na book.\na miller\n")
    of_field = commands.answer("eval", tiny_run, table, "--field", "text")
    assert of_field == commands.answer("eval", tiny_run, tmp_path / "plain")
    assert "--field can only be used for a text that you name" in commands.refused(
        "eval", tiny_run, "--field", "text"
    )
    vocabulary = charlm.load(tiny_run).vocabulary
    assert load_held_out(str(table), vocabulary, field="text").characters == 30


def test_kaldis_costs_are_negative_natural_logarithms_under_their_keys(tiny_run: Path) -> None:
    result = commands.score(tiny_run, "--format", "kaldi", input="utt-1 the boat \nutt-2\nutt-3\ta  miller\n")
    scores = charlm.load(tiny_run).score(["the boat", "", "a  miller"])
    lines = [line.split(" ") for line in result.stdout.splitlines()]
    assert [key for key, _ in lines] == ["utt-1", "utt-2", "utt-3"]
    assert [float(cost) for _, cost in lines] == pytest.approx([-score.logprob for score in scores], abs=1e-3)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--format", "kaldi"], "standard input, line 2: there is no key"),
        (["--format", "kaldi", "--field", "2"], "leave out --field"),
        (["--format", "kaldi", "--rank"], "--format kaldi does not support --rank"),
        (["--format", "kaldi", "--log-base", "10"], "--format kaldi does not support --log-base 10"),
        (["--field", "0"], "no column 0"),
        (["a sentence", "--field", "text"], "leave out --field"),
    ],
)
def test_what_does_not_go_together_is_refused(more: list[str], said: str, tiny_run: Path) -> None:
    result = commands.run("score", tiny_run, *more, input="u-1 a\n\n")
    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("pairs", '{"sentence_good":' * 200_000),
        ("pairs", "[" * 200_000),
        ("pairs", '{"sentence_good": "a", "sentence_bad": "b", "UID": ' + "1" * 5000 + "}"),
        ("score", '{"text":' * 200_000),
        ("score", "[" * 200_000),
        ("score", '{"text": "a", "id": ' + "1" * 5000 + "}"),
        ("score", '{"text": "a", "text": "b"}'),
        ("rerank", "[" * 200_000),
        ("rerank", "1" * 5000),
    ],
)
def test_json_without_end_and_endless_numbers_are_one_message(command: str, line: str, tiny_run: Path) -> None:
    more = ["--field", "text"] if command == "score" else ["-"]
    message = commands.refused(command, tiny_run, *more, input=line + "\n")
    assert len(message) < 300


@pytest.mark.parametrize("list_line", ["{} ||| a ||| x= 1 ||| 1", "{} ||| a ||| -1", "H-{}\t-1\ta", "u-{} a"])
def test_ids_of_5000_digits_are_ids(list_line: str, tiny_run: Path) -> None:
    line = list_line.format("1" * 5000)
    assert commands.answer("rerank", tiny_run, "-", input=f"{line}\n").startswith(line[:5000])


# ----------------------------------------------------------------------------------------------------------- pairs


@pytest.mark.parametrize(
    ("content", "more"),
    [
        ('good,bad\n"the boat has a book.",vkp vkp vkp vkp\n', []),
        ("id;Bad;Good\n1;vkp vkp vkp vkp;the boat has a book.\n", []),
        ("id\tgrammatical\tungrammatical\n1\tthe boat has a book.\tvkp vkp vkp vkp\n", []),
        ("x,y\nvkp vkp vkp vkp,the boat has a book.\n", ["--good", "y", "--bad", "x"]),
        ("vkp vkp vkp vkp,the boat has a book.\n", ["--good", 2, "--bad", 1]),
        ('{"w": "vkp vkp vkp vkp", "r": "the boat has a book."}\n', ["--good", "r", "--bad", "w"]),
        ('good,bad\n"the boat has\na book.",vkp vkp vkp vkp\n', []),
        ('"the boat has a book.","vkp, vkp, vkp, vkp"\n', []),
    ],
)
def test_pairs_are_read_from_csv_and_from_any_columns(content: str, more: list[object], tiny_run: Path) -> None:
    row = json.loads(commands.run("pairs", tiny_run, "-", "--format", "json", *more, input=content).stdout)
    assert (row["pairs"], row["right"]) == (1, 1)


def test_without_a_header_the_first_row_is_a_pair(tiny_run: Path) -> None:
    for more, pairs in (([], 1), (["--no-header"], 2)):
        result = commands.run("pairs", tiny_run, "-", "--format", "json", *more, input="good\tbad\nthe boat\tvkp\n")
        assert json.loads(result.stdout)["pairs"] == pairs


def test_groups_come_from_the_column_of_a_header(tiny_run: Path) -> None:
    lines = "kind,good,bad,group\nk,the boat,x,g\n"
    for more, group in (([], "g"), (["--by", "kind"], "k")):
        result = commands.run("pairs", tiny_run, "-", "--format", "json", *more, input=lines)
        assert [row["group"] for row in json.loads(result.stdout)["groups"]] == [group]


@pytest.mark.parametrize(
    ("content", "more", "said"),
    [
        ("Yes, he did\n", [], "line 1: this line has 0 tabs"),
        (
            "a\tb\n",
            ["--good", "x", "--bad", "b"],
            "there are no columns of good and bad sentences; the columns are 'a', 'b'",
        ),
        ("a\tb\n", ["--good", "a"], "name both columns"),
        ("a\tb\n", ["--good", "0", "--bad", "1"], "columns are counted from 1"),
        ("a\tb\n", ["--good", "1", "--bad", "3"], "line 1: this row has 2 cells, but column 3 is to be read"),
        ("good,bad\na,b,c\n", [], "line 2: this row has 3 cells, but the header has 2"),
    ],
)
def test_tables_without_pairs_are_refused(content: str, more: list[str], said: str, tiny_run: Path) -> None:
    assert said in commands.refused("pairs", tiny_run, "-", *more, input=content)
