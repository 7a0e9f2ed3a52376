"""`charlm score`: each sentence answered, in order, in forms that programs read, from wherever sentences come."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

import charlm
import commands
from commands import NASTY, SENTENCES

FIELDS = ["text", "characters", "unknown", "logprob", "mean_logprob", "perplexity", "bits_per_character", "penlp", "slor"]  # fmt: skip  # noqa: E501


def tsv(*args: object, **options: Any) -> list[list[str]]:
    lines = commands.score(*args, "--format", "tsv", **options).stdout.removesuffix("\n").split("\n")
    return [line.split("\t") for line in lines]


# ------------------------------------------------------------------------------------------------------- jsonl


def test_jsonl_has_the_fields_of_the_contract_in_their_order(tiny_run: Path) -> None:
    rows = commands.scores(tiny_run, *SENTENCES)
    assert [list(row) for row in rows] == [FIELDS] * len(SENTENCES)
    assert [row["text"] for row in rows] == SENTENCES
    assert [row["characters"] for row in rows] == [len(sentence) for sentence in SENTENCES]
    assert [row["unknown"] for row in rows] == [0, 0, 0, 0, 8]


@pytest.mark.parametrize("framing", ["tiny_run", "tiny_lines_run"])
def test_jsonl_per_char_spells_each_sentence_out_to_its_end(framing: str, request: pytest.FixtureRequest) -> None:
    for row in commands.scores(request.getfixturevalue(framing), *SENTENCES, "--per-char"):
        assert list(row) == [*FIELDS, "chars"]
        assert [list(char) for char in row["chars"]] == [["char", "logprob", "unknown"]] * (row["characters"] + 1)
        assert "".join(char["char"] for char in row["chars"]) == row["text"] + "</s>"
        assert sum(char["unknown"] for char in row["chars"]) == row["unknown"]
        assert sum(char["logprob"] for char in row["chars"]) == pytest.approx(row["logprob"])


def test_the_numbers_are_those_of_the_python_interface(tiny_run: Path) -> None:
    scores = charlm.load(tiny_run).score(SENTENCES)
    for row, header_and_cells, score in zip(
        commands.scores(tiny_run, *SENTENCES), tsv(tiny_run, *SENTENCES)[1:], scores, strict=True
    ):
        for name, cell in zip(FIELDS[1:], header_and_cells[1:], strict=True):
            assert row[name] == pytest.approx(getattr(score, name), abs=1e-4)
            assert float(cell) == pytest.approx(getattr(score, name), abs=1e-4)


def test_control_characters_come_back_raw_from_jsonl_and_are_never_printed_raw(tiny_run: Path) -> None:
    output = commands.score(tiny_run, NASTY, "--format", "jsonl").stdout
    assert json.loads(output)["text"] == NASTY
    assert "\x1b" not in output
    assert r"\u001b" in output
    assert output.count("\n") == 1


# --------------------------------------------------------------------------------------------------------- tsv


def test_tsv_has_a_header_and_one_line_a_sentence(tiny_run: Path) -> None:
    table = tsv(tiny_run, *SENTENCES)
    assert table[0] == FIELDS
    assert [row[0] for row in table[1:]] == SENTENCES
    assert {len(row) for row in table} == {len(FIELDS)}


def test_tsv_escapes_so_that_the_text_can_be_had_back(tiny_run: Path) -> None:
    sentences = [NASTY, "\\t", "\t", "\\\\n", "\\"]
    table = tsv(tiny_run, *sentences, "--per-char")
    assert table[0] == [*FIELDS, "chars"]
    assert {len(row) for row in table} == {len(FIELDS) + 1}
    meant = {"\\\\": "\\", "\\t": "\t", "\\n": "\n", "\\r": "\r"}
    assert [re.sub(r"\\.", lambda found: meant[found[0]], row[0]) for row in table[1:]] == sentences
    for row, sentence in zip(table[1:], sentences, strict=True):
        assert "".join(char["char"] for char in json.loads(row[-1])) == sentence + "</s>"


# -------------------------------------------------------------------------------------------- where lines come from


@pytest.mark.parametrize("source", ["file", "dash", "stdin"])
def test_three_thousand_lines_come_back_in_their_order(source: str, tiny_run: Path, tmp_path: Path) -> None:
    lines = [f"boat {'the heron ' * (number % 7)}{number}" for number in range(3000)]
    text = "".join(line + "\n" for line in lines)
    (tmp_path / "lines.txt").write_text(text)
    more = {"file": ["--file", tmp_path / "lines.txt"], "dash": ["--file", "-"], "stdin": []}[source]
    rows = commands.scores(tiny_run, *more, input="" if source == "file" else text)
    assert [row["text"] for row in rows] == lines
    picked = [0, 1023, 1024, 2999]  # both ends of a batch
    for row, score in zip([rows[i] for i in picked], charlm.load(tiny_run).score([lines[i] for i in picked]), strict=True):  # fmt: skip  # noqa: E501
        assert row["logprob"] == pytest.approx(score.logprob, abs=1e-3)


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"a\n\n\nb\n\n", ["a", "", "", "b", ""]),
        (b"a\nb", ["a", "b"]),
        (b"\xef\xbb\xbfa\nb\n", ["a", "b"]),
        (b"\n", [""]),
        (b"", []),
        ("a\x0bb\x0cc\x85d\u2028e\n".encode(), ["a\x0bb\x0cc\x85d\u2028e"]),
    ],
    ids=["crlf", "empty lines", "no final newline", "byte order mark", "one empty line", "nothing", "other breaks"],
)
def test_each_line_is_one_sentence(content: bytes, texts: list[str], tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_bytes(content)
    assert [row["text"] for row in commands.scores(tiny_run, "--file", tmp_path / "lines.txt")] == texts
    assert [row["text"] for row in commands.scores(tiny_run, input=content)] == texts


def test_an_argument_that_begins_with_a_dash_is_scored_after_two_dashes(tiny_run: Path) -> None:
    assert [row["text"] for row in commands.scores(tiny_run, "--", "-x", "")] == ["-x", ""]


@pytest.mark.parametrize("output", ["jsonl", "tsv", "table"])
def test_bytes_that_are_no_text_are_answered_by_a_byte_model(
    output: str, tiny_corpus: Path, tmp_path: Path
) -> None:
    config = {
        "corpus": {"path": str(tiny_corpus), "level": "byte"},
        "model": {"hidden_size": 4},
        "training": {"budget": "1 steps"},
    }
    charlm.train(config, out=tmp_path / "bytes")
    (tmp_path / "lines.bin").write_bytes(b"b\xe9d\nboat\n")
    result = commands.score(tmp_path / "bytes", "--file", tmp_path / "lines.bin", "--format", output)
    lines = result.stdout.partition("\n\n")[0].splitlines()[0 if output == "jsonl" else 1 :]
    assert len(lines) == 2
    if output == "jsonl":
        assert [json.loads(line)["text"] for line in lines] == ["b\udce9d", "boat"]


# ------------------------------------------------------------------------------------ measures, ranks, conditions


def test_the_best_sentence_comes_first_and_equal_ones_share_a_rank(tiny_run: Path) -> None:
    sentences = ["rxvxr", "the boat sees", "a miller", "the boat sees", "boat"]
    rows = commands.scores(tiny_run, *sentences, "--rank", "--measure", "slor")
    assert [list(row) for row in rows] == [[*FIELDS, "score", "rank"]] * 5
    ranked = charlm.load(tiny_run).rank(sentences, "slor")
    assert [(row["rank"], row["text"]) for row in rows] == [(one.rank, one.score.text) for one in ranked]
    assert sorted((row["score"] for row in rows), reverse=True) == [row["score"] for row in rows]
    assert len({row["rank"] for row in rows if row["text"] == "the boat sees"}) == 1
    assert [row["rank"] for row in commands.scores(tiny_run, *sentences, "--rank")] == [
        one.rank for one in charlm.load(tiny_run).rank(sentences, "mean")
    ]


def test_the_table_shows_the_rank_and_marks_its_measure(tiny_run: Path) -> None:
    lines = commands.score(tiny_run, "rxvxr", "the boat", "--rank", "--measure", "penlp").stdout.splitlines()
    assert lines[0].split()[:1] + [name for name in lines[0].split() if "*" in name] == ["rank", "penlp*"]
    assert [line.split()[0] for line in lines[1:3]] == ["1", "2"]
    assert lines[1].endswith("the boat")


@pytest.mark.parametrize(
    ("measure", "field"), [("logprob", "logprob"), ("mean", "mean_logprob"), ("penlp", "penlp"), ("slor", "slor")]
)
def test_the_measure_that_is_asked_for_is_shown_as_score(measure: str, field: str, tiny_run: Path) -> None:
    (row,) = commands.scores(tiny_run, "the boat", "--measure", measure)
    assert row["score"] == row[field]
    header, cells = tsv(tiny_run, "the boat", "--measure", measure, "--per-char")
    assert header == [*FIELDS, "score", "chars"]
    assert float(cells[-2]) == pytest.approx(row[field])


@pytest.mark.parametrize(("base", "nats"), [("e", 1.0), ("2", math.log(2)), ("10", math.log(10))])
def test_the_base_turns_every_logarithm_and_nothing_else(base: str, nats: float, tiny_run: Path) -> None:
    options = ["--per-char", "--alternatives", "2", "--measure", "penlp"]
    (row,) = commands.scores(tiny_run, "boat", *options, "--log-base", base)
    (natural,) = commands.scores(tiny_run, "boat", *options)
    for name in ("logprob", "mean_logprob", "penlp", "slor", "score"):
        assert row[name] == pytest.approx(natural[name] / nats)
    for name in ("perplexity", "bits_per_character"):
        assert row[name] == natural[name]
    for char, same in zip(row["chars"], natural["chars"], strict=True):
        assert char["logprob"] == pytest.approx(same["logprob"] / nats)
        assert [a["logprob"] * nats for a in char["alternatives"]] == pytest.approx(
            [a["logprob"] for a in same["alternatives"]]
        )


def test_context_and_boundaries_are_those_of_the_python_interface(tiny_run: Path) -> None:
    lm = charlm.load(tiny_run)
    for options, conditions in (
        (["--context", "the boat "], {"context": "the boat "}),
        (["--no-bos"], {"bos": False}),
        (["--no-eos", "--context", "a "], {"eos": False, "context": "a "}),
    ):
        (row,) = commands.scores(tiny_run, "sees", "--alternatives", "2", *options)
        (score,) = lm.score(["sees"], **conditions)  # type: ignore[arg-type]
        assert row["logprob"] == pytest.approx(score.logprob)
        others = lm.alternatives("sees", 2, **conditions)  # type: ignore[arg-type]
        assert len(row["chars"]) == len(score.chars) == len(others)
        for char, expected in zip(row["chars"], others, strict=True):
            assert [a["char"] for a in char["alternatives"]] == [a.char for a in expected]


@pytest.mark.parametrize("run", ["tiny_run", "tiny_lines_run", "tiny_mixture_run"])
def test_a_document_is_read_first_and_its_names_are_no_longer_odd(
    run: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder, sentences = request.getfixturevalue(run), ["eteo sees kobah.", "the boat sees ☃."]
    (document := tmp_path / "so_far.txt").write_text("kobah sees eteo.\neteo ☃ likes kobah.\n", encoding="utf-8")
    plain = commands.scores(folder, *sentences)
    arguments = ["score", folder, *sentences, "--format", "jsonl", "--document", document]
    result = commands.run(*arguments)
    assert "the document has characters that the model has never seen" in result.stderr
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert found[0]["logprob"] > plain[0]["logprob"] + 3
    expected = charlm.load(folder).score(sentences, document=document.read_text(encoding="utf-8"))
    assert [row["logprob"] for row in found] == pytest.approx([score.logprob for score in expected])
    assert "U+2603" in commands.refused(*arguments, "--unknown", "error")


@pytest.mark.parametrize("run", ["tiny_run", "tiny_lines_run"])
def test_a_sentence_has_the_same_score_on_the_command_line_and_in_a_file(
    run: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(run)
    sentences = ["the boat sees the river.", "a miller", "boat", "a miller likes bread. the heron"]
    path = tmp_path / "file.txt"
    path.write_text("\n".join(sentences), encoding="utf-8")
    inside = commands.scores(folder, "--file", path)
    for sentence, row in zip(sentences, inside, strict=True):
        assert row["logprob"] == pytest.approx(commands.scores(folder, sentence)[0]["logprob"], abs=1e-4)
