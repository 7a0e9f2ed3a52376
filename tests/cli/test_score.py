"""`charlm score`: each sentence answered, in order, in three forms that people and programs can read."""

import io
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from typer.testing import CliRunner, Result

import charlm
from charlm.cli import app

FIELDS = ["text", "characters", "unknown", "logprob", "mean_logprob", "perplexity", "bits_per_character", "penlp", "slor"]  # fmt: skip  # noqa: E501
PLAIN = {"NO_COLOR": None, "FORCE_COLOR": None, "COLORTERM": None, "TTY_COMPATIBLE": None, "TERM": "xterm-256color"}
SENTENCES = [
    "the boat sees the river.",
    "a miller",
    "",
    "the heron likes bread. the heron has a lamp.",
    "河边的船很安静。",
]
NASTY = "a\tb\\c\\n\nd\r\x1b[31m\u202e"
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def run_score(*args: object, env: dict[str, str | None] | None = None, input: str | bytes = "") -> Result:
    result = CliRunner().invoke(app, ["score", *map(str, args)], env={**PLAIN, **(env or {})}, input=input)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.stderr
    return result


def jsonl(*args: object, **options: Any) -> list[dict[str, Any]]:
    lines = run_score("--format", "jsonl", *args, **options).stdout.split("\n")
    assert lines.pop() == ""
    return [json.loads(line) for line in lines]


def tsv(*args: object, **options: Any) -> list[list[str]]:
    lines = run_score(*args, "--format", "tsv", **options).stdout.removesuffix("\n").split("\n")
    return [line.split("\t") for line in lines]


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, args: Sequence[object], **environment: str) -> str:
    """Returns what the command shows on a terminal."""
    screen = io.StringIO()
    with monkeypatch.context() as context:
        for name in PLAIN:
            context.delenv(name, raising=False)
        for name, value in {"TERM": "xterm-256color", **environment}.items():
            context.setenv(name, value)
        context.setattr(screen, "isatty", lambda: True)
        context.setattr(sys, "stdout", screen)
        app(["score", *map(str, args)], standalone_mode=False)
    return screen.getvalue()


# ------------------------------------------------------------------------------------------------------- jsonl


def test_jsonl_has_the_fields_of_the_contract_in_their_order(tiny_run: Path) -> None:
    rows = jsonl(tiny_run, *SENTENCES)
    assert [list(row) for row in rows] == [FIELDS] * len(SENTENCES)
    assert [row["text"] for row in rows] == SENTENCES
    assert [row["characters"] for row in rows] == [len(sentence) for sentence in SENTENCES]
    assert [row["unknown"] for row in rows] == [0, 0, 0, 0, 8]


@pytest.mark.parametrize("framing", ["tiny_run", "tiny_lines_run"])
def test_jsonl_per_char_spells_each_sentence_out_to_its_end(framing: str, request: pytest.FixtureRequest) -> None:
    for row in jsonl(request.getfixturevalue(framing), *SENTENCES, "--per-char"):
        assert list(row) == [*FIELDS, "chars"]
        assert [list(char) for char in row["chars"]] == [["char", "logprob", "unknown"]] * (row["characters"] + 1)
        assert "".join(char["char"] for char in row["chars"]) == row["text"] + "</s>"
        assert sum(char["unknown"] for char in row["chars"]) == row["unknown"]
        assert sum(char["logprob"] for char in row["chars"]) == pytest.approx(row["logprob"])


def test_the_numbers_are_those_of_the_python_interface(tiny_run: Path) -> None:
    scores = charlm.load(tiny_run).score(SENTENCES)
    for row, header_and_cells, score in zip(
        jsonl(tiny_run, *SENTENCES), tsv(tiny_run, *SENTENCES)[1:], scores, strict=True
    ):
        for name, cell in zip(FIELDS[1:], header_and_cells[1:], strict=True):
            assert row[name] == pytest.approx(getattr(score, name), abs=1e-4)
            assert float(cell) == pytest.approx(getattr(score, name), abs=1e-4)


def test_control_characters_come_back_raw_from_jsonl_and_are_never_printed_raw(tiny_run: Path) -> None:
    output = run_score(tiny_run, NASTY, "--format", "jsonl").stdout
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


# ------------------------------------------------------------------------------------------------------- table


def test_table_is_aligned_and_without_colour_in_a_pipe(tiny_run: Path) -> None:
    lines = run_score(tiny_run, *SENTENCES, "x" * 200).stdout.splitlines()
    assert len(lines) == len(SENTENCES) + 2
    header = lines[0]
    assert header.split() == ["logprob", "mean", "ppl", "bits", "penlp", "slor", "unk", "text"]
    ends = [match.end() for match in re.finditer(r"\S+", header)][:-1]
    start = header.index("text")
    for line, sentence in zip(lines[1:], [*SENTENCES, "x" * 200], strict=True):
        assert [match.end() for match in re.finditer(r"\S+", line[:start])] == ends
        assert line[start:] == sentence  # never wrapped or cut


def test_table_shows_the_numbers_of_jsonl(tiny_run: Path) -> None:
    line = run_score(tiny_run, SENTENCES[0]).stdout.splitlines()[1]
    row = jsonl(tiny_run, SENTENCES[0])[0]
    names = ["logprob", "mean_logprob", "perplexity", "bits_per_character", "penlp", "slor", "unknown"]
    assert [float(n) for n in line.split()[:7]] == pytest.approx([row[name] for name in names], abs=0.006)


def test_wide_characters_do_not_move_the_columns(tiny_run: Path) -> None:
    lines = run_score(tiny_run, "河边的船", "the boat").stdout.splitlines()
    starts = {cell_len(lines[1].partition("河")[0]), lines[2].index("the boat"), lines[0].index("text")}
    assert len(starts) == 1


def test_per_char_in_a_pipe_spells_out_every_character_without_colour(tiny_run: Path) -> None:
    output = run_score(tiny_run, "boat河", "--per-char").stdout
    chars = jsonl(tiny_run, "boat河", "--per-char")[0]["chars"]
    assert "\x1b" not in output
    spelt = [f"{c['char']}{'?' if c['unknown'] else ''} {c['logprob']:.2f}" for c in chars]
    assert output.splitlines()[2].split("  ") == ["", "", *spelt]


def test_per_char_on_a_terminal_is_coloured_and_explained(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = on_a_terminal(monkeypatch, [tiny_run, "the boat河", "--per-char"])
    assert "\x1b[" in shown
    assert "the boat河" in ANSI.sub("", shown)
    assert "surprisal in nats" in ANSI.sub("", shown)
    assert "\x1b[" not in on_a_terminal(monkeypatch, [tiny_run, "the boat河"])


def test_force_color_colours_a_pipe(tiny_run: Path) -> None:
    assert "\x1b[" in run_score(tiny_run, "the boat", "--per-char", env={"FORCE_COLOR": "1"}).stdout


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=["NO_COLOR", "dumb"])
def test_a_terminal_without_colour_still_gets_each_characters_number(
    environment: dict[str, str], tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = on_a_terminal(monkeypatch, [tiny_run, "boat", "--per-char"], **environment)
    assert not re.search(r"\x1b\[[0-9;]*[34][0-9;]*m", shown)
    for char in jsonl(tiny_run, "boat", "--per-char")[0]["chars"]:
        assert f"{char['char']} {char['logprob']:.2f}" in shown


@pytest.mark.parametrize("options", [[], ["--per-char"]], ids=["plain", "per-char"])
def test_an_escape_sequence_in_a_sentence_is_shown_and_not_obeyed(
    options: list[str], tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    piped = run_score(tiny_run, NASTY, *options).stdout
    assert "\x1b" not in piped
    for output in (piped, ANSI.sub("", on_a_terminal(monkeypatch, [tiny_run, NASTY, *options]))):
        assert not {"\x1b", "\r", "\t", "\u202e"} & set(output)
        assert r"\x1b[31m\u202e" in output


# -------------------------------------------------------------------------------------------- where lines come from


@pytest.mark.parametrize("source", ["file", "dash", "stdin"])
def test_three_thousand_lines_come_back_in_their_order(source: str, tiny_run: Path, tmp_path: Path) -> None:
    lines = [f"boat {'the heron ' * (number % 7)}{number}" for number in range(3000)]
    text = "".join(line + "\n" for line in lines)
    (tmp_path / "lines.txt").write_text(text)
    more = {"file": ["--file", tmp_path / "lines.txt"], "dash": ["--file", "-"], "stdin": []}[source]
    rows = jsonl(tiny_run, *more, input="" if source == "file" else text)
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
    assert [row["text"] for row in jsonl(tiny_run, "--file", tmp_path / "lines.txt")] == texts
    assert [row["text"] for row in jsonl(tiny_run, input=content)] == texts


def test_an_argument_that_begins_with_a_dash_is_scored_after_two_dashes(tiny_run: Path) -> None:
    assert [row["text"] for row in jsonl(tiny_run, "--", "-x", "")] == ["-x", ""]


# ------------------------------------------------------------------------------------------- unknown characters


def test_unknown_characters_are_listed_on_standard_error_by_their_number(tiny_run: Path) -> None:
    result = run_score(tiny_run, "船 船 the", "船\x1b", "--format", "jsonl")
    assert "'船' (U+8239) 3 times" in result.stderr
    assert r"'\x1b' (U+001B) 1 times" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert run_score(tiny_run, "the boat").stderr == ""


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
    result = run_score(tmp_path / "bytes", "--file", tmp_path / "lines.bin", "--format", output)
    lines = result.stdout.splitlines()[0 if output == "jsonl" else 1 :]
    assert len(lines) == 2
    if output == "jsonl":
        assert [json.loads(line)["text"] for line in lines] == ["b\udce9d", "boat"]
