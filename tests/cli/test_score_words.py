"""`charlm score --per-word`: a line for each word in TSV, a list in JSON, numbers below words for people."""

import csv
import io
import math
from functools import partial
from pathlib import Path

import pytest
from rich.cells import cell_len

import charlm
import commands
from commands import on_a_terminal

FIELDS = ["sentence_id", "word_id", "word", "start", "end", "logprob", "surprisal", "unknown"]
TEXTS = ["the boat sees the river.", "", 'a  "miller" ß', "\\t\tNA "]

refused = partial(commands.refused, "score")


def table(*args: object, input: str | None = None) -> list[dict[str, str]]:
    """Returns the lines of the TSV by the names of its columns, read as pandas, R and spreadsheets do."""
    output = commands.score(*args, "--format", "tsv", "--per-word", input=input).stdout
    rows = csv.DictReader(io.StringIO(output, newline="\n"), dialect=csv.excel_tab, strict=True)
    return list(rows)


@pytest.mark.parametrize("space", ["after", "before"])
@pytest.mark.parametrize(("base", "nats"), [("e", 1.0), ("2", math.log(2)), ("10", math.log(10))])
def test_tsv_has_a_line_for_each_word_and_they_add_up_to_the_sentences(
    space: str, base: str, nats: float, tiny_run: Path
) -> None:
    rows = table(tiny_run, *TEXTS, "--space", space, "--log-base", base)
    assert list(rows[0]) == FIELDS
    expected = charlm.load(tiny_run).word_scores(TEXTS, space=space)
    numbered = [(str(s), str(w), word) for s, words in enumerate(expected, 1) for w, word in enumerate(words, 1)]
    for row, (sentence_id, word_id, word) in zip(rows, numbered, strict=True):
        assert (row["sentence_id"], row["word_id"]) == (sentence_id, word_id)
        assert row["word"] == word.word.replace("\\", "\\\\")
        assert (int(row["start"]), int(row["end"]), int(row["unknown"])) == (word.start, word.end, word.unknown)
        assert float(row["logprob"]) == pytest.approx(word.logprob / nats, abs=1e-4)
        assert float(row["surprisal"]) == -float(row["logprob"])
    for number, sentence in enumerate(commands.scores(tiny_run, *TEXTS, "--log-base", base), 1):
        mine = [float(row["logprob"]) for row in rows if row["sentence_id"] == str(number)]
        assert math.fsum(mine) == pytest.approx(sentence["logprob"])


def test_the_space_after_a_word_is_its_own_unless_asked_otherwise(tiny_run: Path) -> None:
    assert table(tiny_run, "the boat") == table(tiny_run, "the boat", "--space", "after")
    assert [row["word"] for row in table(tiny_run, "the boat")] == ["the", "boat"]
    assert [row["word"] for row in table(tiny_run, "the boat", "--space", "before")] == ["the", "boat", "</s>"]


def test_cells_with_quotes_are_quoted_and_every_line_is_one_word(tiny_run: Path) -> None:
    lines = 'id\t"say ""it"""\ttext\n""""\tx\ta "b" c\n8\t\t"\n'
    output = commands.score(tiny_run, "--field", "text", "--per-word", "--format", "tsv", input=lines).stdout
    assert [line.split("\t")[:5] for line in output.splitlines()] == [
        ["id", '"say ""it"""', "sentence_id", "word_id", "word"],
        ['""""', "x", "1", "1", "a"],
        ['""""', "x", "1", "2", '"""b"""'],
        ['""""', "x", "1", "3", "c"],
        ["8", "", "2", "1", '""""'],
    ]
    rows = table(tiny_run, "--separator", "|", "a \tb|the", "--space", "before")
    assert [row["word"] for row in rows] == ["a \\tb", "the", "</s>"]


def test_other_columns_stand_before_the_words_and_give_way_to_their_names(tiny_run: Path) -> None:
    lines = "item,word,text\n7,x,the boat\n9,y,a miller\n"
    rows = table(tiny_run, "--field", "text", input=lines)
    assert list(rows[0]) == ["item", "input_word", *FIELDS]
    assert [(row["item"], row["input_word"], row["sentence_id"], row["word"]) for row in rows] == [
        ("7", "x", "1", "the"),
        ("7", "x", "1", "boat"),
        ("9", "y", "2", "a"),
        ("9", "y", "2", "miller"),
    ]


def test_jsonl_has_the_words_beside_the_fields_of_the_sentence(tiny_run: Path) -> None:
    for row in commands.scores(tiny_run, *TEXTS, "--per-word", "--per-char", "--rank"):
        assert list(row)[-4:] == ["score", "rank", "chars", "words"]
        assert [list(word) for word in row["words"]] == [FIELDS[2:]] * len(row["words"])
        assert sum(word["logprob"] for word in row["words"]) == pytest.approx(row["logprob"])
        assert sum(word["unknown"] for word in row["words"]) == row["unknown"]
        for word in row["words"]:
            assert word["word"] in (row["text"][word["start"] : word["end"]], "</s>")


@pytest.mark.parametrize("source", ["arguments", "file"])
@pytest.mark.parametrize("more", [[], ["--unknown", "error"]], ids=["any", "known"])
def test_separators_are_not_scored(source: str, more: list[str], tiny_run: Path, tmp_path: Path) -> None:
    lines = ["the boat | sees | the river.", "a miller |likes |bread."]
    (path := tmp_path / "lines.txt").write_text("\n".join(lines))
    given = lines if source == "arguments" else ["--file", path]
    result = commands.score(
        tiny_run, *given, *more, "--per-word", "--separator", "|", "--format", "jsonl", "--no-eos"
    )
    rows = commands.scores(tiny_run, *given, *more, "--per-word", "--separator", "|")
    joined = ["the boat sees the river.", "a miller likes bread."]
    assert [row["text"] for row in rows] == joined
    assert [[word["word"] for word in row["words"]] for row in rows] == [
        ["the boat", "sees", "the river."],
        ["a miller", "likes", "bread."],
    ]
    assert [row["logprob"] for row in rows] == pytest.approx(
        [row["logprob"] for row in commands.scores(tiny_run, *joined)], abs=1e-4
    )
    assert "CSV" not in result.stderr


def test_a_separator_that_never_occurs_is_noted(tiny_run: Path) -> None:
    said = "the separator '/' occurs in none of the texts, so each text counts as one word\n"
    output = ["--per-word", "--separator", "/", "--format", "jsonl"]
    assert said in commands.score(tiny_run, "the boat", "a miller", *output).stderr
    assert said not in commands.score(tiny_run, "the / boat", "a miller", *output).stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--space", "before"], "--space can only be used with --per-word; add it"),
        (["--separator", "|"], "--separator can only be used with --per-word; add it"),
        (["--separator", "", "--per-word"], "--separator is empty; leave it out"),
        (["--per-word", "--format", "kenlm"], "--format kenlm does not support --per-word; use --format tsv"),
        (["--per-word", "--format", "kaldi"], "--format kaldi does not support --per-word"),
        (["--per-word", "--format", "tsv", "--rank"], "--per-word does not support --rank; use --format jsonl"),
        (["--per-word", "--format", "tsv", "--per-char"], "does not support --per-char; use --format jsonl"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(options: list[str], said: str, tiny_run: Path) -> None:
    assert said in refused(tiny_run, "the boat", *options)


# ------------------------------------------------------------------------------------------------------- for people


def test_the_table_sets_the_surprisal_below_each_word(tiny_run: Path) -> None:
    shown = commands.score(tiny_run, "the boat ß", "", "--per-word").stdout.splitlines()
    words = charlm.load(tiny_run).word_scores(["the boat ß", ""])
    assert shown[2].split() == ["the", "boat", "ß?"]
    assert [float(number) for number in shown[3].split()] == pytest.approx(
        [word.surprisal for word in words[0]], abs=0.006
    )
    assert shown[5].split() == ["</s>"]
    assert shown[7] == "surprisal in nats below each word, including the space after it; ? unknown characters"
    before = commands.score(tiny_run, "the boat", "--per-word", "--space", "before", "--log-base", "2").stdout
    assert "surprisal in bits below each word, including the space before it" in before


@pytest.mark.parametrize("columns", [40, 80])
def test_words_fit_the_terminal(columns: int, tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sentence = f"the boat sees {'the river ' * 20}{'河' * 60} a\x1b"
    shown = on_a_terminal(monkeypatch, [tiny_run, sentence, "--per-word"], COLUMNS=str(columns), NO_COLOR="1")
    assert max(map(cell_len, shown.splitlines())) <= columns
    assert "\x1b" not in shown
    assert shown.count("river") > 15
