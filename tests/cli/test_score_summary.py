"""What `charlm score` says of all sentences together: the figures of a file, and its unknown characters."""

import json
import math
from pathlib import Path

import pytest

import charlm
import commands

# ------------------------------------------------------------------------------------------- unknown characters


def test_unknown_characters_are_listed_on_standard_error_by_their_number(tiny_run: Path) -> None:
    result = commands.score(tiny_run, "船 船 the", "船\x1b", "--format", "jsonl")
    assert result.stderr.splitlines()[:3] == [
        "unknown characters: 4 of 9",
        "  '船' (U+8239) 3 times, in sentences 1, 2",
        r"  '\x1b' (U+001B) 1 time, in sentence 2",
    ]
    assert commands.score(tiny_run, "the boat").stderr == ""


@pytest.mark.parametrize("source", ["file", "stdin"])
def test_unknown_characters_of_a_file_are_named_with_their_lines(
    source: str, tiny_run: Path, tmp_path: Path
) -> None:
    text = "".join(("船\n" if number in (3, 1500) else "boat\n") for number in range(1, 2001))
    (tmp_path / "lines.txt").write_text(text, encoding="utf-8")
    more = ["--file", tmp_path / "lines.txt"] if source == "file" else []
    result = commands.score(tiny_run, *more, "--format", "tsv", input=text)
    assert "  '船' (U+8239) 2 times, in lines 3, 1500\n" in result.stderr
    assert "船" in commands.score(tiny_run, *more, input=text).stdout.rpartition("unknown characters: 2 of")[2]


def test_unknown_characters_of_the_context_are_named_on_standard_error(tiny_run: Path) -> None:
    result = commands.score(tiny_run, "the boat", "--context", "河 ß the ", "--format", "jsonl")
    assert result.stderr == (
        "the context has characters that the model has never seen: '河' (U+6CB3), 'ß' (U+00DF); they are read as "
        "<unk> and not scored\n"
    )
    assert json.loads(result.stdout)["unknown"] == 0
    assert commands.score(tiny_run, "the boat", "--context", "the ").stderr == ""


@pytest.mark.parametrize(
    ("context", "options", "said"),
    [("河\n", [], "the context has a newline"), ("河", ["--unknown", "error"], "has never seen '河'")],
)
def test_a_context_that_is_refused_is_not_noted_too(
    context: str, options: list[str], said: str, tiny_lines_run: Path
) -> None:
    assert said in commands.refused("score", tiny_lines_run, "boat", "--context", context, *options)


def test_the_report_says_what_unknown_characters_count(tiny_run: Path) -> None:
    known = len(json.loads((tiny_run / "vocabulary.json").read_text(encoding="utf-8"))["characters"]) - 1
    assert f"1/{0x110000 - known:,} of the probability of <unk>" in commands.score(tiny_run, "船").stdout
    skipped = commands.score(tiny_run, "a 船", "--unknown", "skip", "--format", "jsonl")
    assert "they are not scored" in skipped.stderr
    row, score = json.loads(skipped.stdout), charlm.load(tiny_run).score(["a 船"], unknown="skip")[0]
    assert (row["unknown"], row["logprob"]) == (1, pytest.approx(score.logprob))


@pytest.mark.parametrize(("source", "name"), [("file", None), ("stdin", "standard input"), ("words", "sentence 3")])
def test_the_first_unknown_character_can_end_it_and_those_before_are_answered(
    source: str, name: str | None, tiny_run: Path, tmp_path: Path
) -> None:
    lines = ["boat", "heron", "b船at", "miller"]
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    more = {"file": ["--file", str(path)], "stdin": [], "words": lines}[source]
    options = ["--format", "jsonl", "--unknown", "error"]
    result = commands.run("score", tiny_run, *more, *options, input=path.read_bytes())
    assert result.exit_code == 2
    where = f"{name or path}{'' if source == 'words' else ', line 3'}"
    assert result.stderr == f"charlm: {where}: the model has never seen '船' (U+8239)\n"
    assert [json.loads(line)["text"] for line in result.stdout.splitlines()] == ["boat", "heron"]


# ------------------------------------------------------------------------------------------------------ summary


def test_a_files_figures_follow_its_sentences_in_the_table_and_go_to_standard_error_else(tiny_run: Path) -> None:
    text = "the boat sees\na miller\n"
    rows = commands.scores(tiny_run, input=text)
    total, n = sum(row["logprob"] for row in rows), sum(row["characters"] + 1 for row in rows)
    expected = {
        "sentences": "2",
        "characters": "21",
        "words": "5",
        "unknown": "0",
        "logprob": f"{total:,.4f}",
        "perplexity": f"{math.exp(-total / n):,.4f}",
        "perplexity_excluding_unknown": f"{math.exp(-total / n):,.4f}",
        "perplexity_per_word": f"{math.exp(-total / 7):,.4f}",
        "bits_per_character": f"{-total / n / math.log(2):,.4f}",
        "bits_per_byte": f"{-total / n / math.log(2):,.4f}",
    }
    shown = commands.score(tiny_run, input=text).stdout.partition("\n\n")[2]
    for said in (shown, commands.score(tiny_run, "--format", "tsv", input=text).stderr):
        assert dict(line.split() for line in said.splitlines()) == expected


def test_a_text_without_spaces_has_no_perplexity_per_word(tiny_run: Path) -> None:
    assert "word" not in commands.score(tiny_run, input="boat\nheron\n").stdout


def test_the_figures_are_not_shown_for_sentences_of_the_command_line_or_for_nothing(tiny_run: Path) -> None:
    assert "bits_per_byte" not in commands.score(tiny_run, "the boat sees").output
    nothing = commands.score(tiny_run, input="")
    assert (nothing.stdout, nothing.stderr) == ("", "standard input: there are no sentences to score\n")
