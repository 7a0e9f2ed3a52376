"""`charlm score` for people: columns, shades and numbers for each character, on a terminal and in a pipe."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.cells import cell_len

import charlm
import commands
from commands import NASTY, SENTENCES, on_a_terminal

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def test_table_is_aligned_and_without_colour_in_a_pipe(tiny_run: Path) -> None:
    lines = commands.score(tiny_run, *SENTENCES, "x" * 200).stdout.splitlines()
    report = lines[len(SENTENCES) + 2 :]
    assert report[0].startswith("unknown characters: ")
    lines = lines[: -len(report)]
    header = lines[0]
    assert header.split() == ["logprob", "mean", "ppl", "bits", "penlp", "slor", "unk", "text"]
    ends = [match.end() for match in re.finditer(r"\S+", header)][:-1]
    start = header.index("text")
    for line, sentence in zip(lines[1:], [*SENTENCES, "x" * 200], strict=True):
        assert [match.end() for match in re.finditer(r"\S+", line[:start])] == ends
        assert line[start:] == sentence  # never wrapped or cut


def test_table_shows_the_numbers_of_jsonl(tiny_run: Path) -> None:
    line = commands.score(tiny_run, SENTENCES[0]).stdout.splitlines()[1]
    row = commands.scores(tiny_run, SENTENCES[0])[0]
    names = ["logprob", "mean_logprob", "perplexity", "bits_per_character", "penlp", "slor", "unknown"]
    assert [float(n) for n in line.split()[:7]] == pytest.approx([row[name] for name in names], abs=0.006)


def test_wide_characters_do_not_move_the_columns(tiny_run: Path) -> None:
    lines = commands.score(tiny_run, "河边的船", "the boat").stdout.splitlines()
    starts = {cell_len(lines[1].partition("河")[0]), lines[2].index("the boat"), lines[0].index("text")}
    assert len(starts) == 1


def numbered(lines: Sequence[str]) -> list[tuple[str, float]]:
    """Reads pairs of lines back, labels above their surprisals."""
    pairs = []
    for labels, numbers in zip(lines[::2], lines[1::2], strict=True):
        assert cell_len(labels) == cell_len(numbers)
        pairs += list(zip(labels.split(), map(float, numbers.split()), strict=True))
    return pairs


def test_per_char_in_a_pipe_sets_each_characters_surprisal_below_it_without_colour(tiny_run: Path) -> None:
    output = commands.score(tiny_run, "the boat河", "--per-char").stdout
    chars = commands.scores(tiny_run, "the boat河", "--per-char")[0]["chars"]
    assert "\x1b" not in output
    expected = [
        (c["char"].replace(" ", "␣") + "?" * c["unknown"], pytest.approx(-c["logprob"], abs=0.006)) for c in chars
    ]
    assert numbered(output.splitlines()[2:4]) == expected


@pytest.mark.parametrize("text", ["the boat " * 20, "河边的船很安静。" * 12], ids=["narrow", "wide"])
def test_per_char_is_wrapped_to_the_width_of_the_terminal(text: str, tiny_run: Path) -> None:
    lines = commands.score(tiny_run, text, "--per-char", env={"COLUMNS": "60"}).stdout.splitlines()
    rows = [line for line in lines[2:] if line.startswith("   ") and "nats" not in line]
    assert max(map(cell_len, rows)) <= 60
    assert "".join(label.rstrip("?") for label, _ in numbered(rows)) == text.replace(" ", "␣") + "</s>"


def test_the_worst_places_are_named_with_their_surroundings_and_what_was_likelier(tiny_run: Path) -> None:
    text = "the boat sees the rixer."
    (row,) = commands.scores(tiny_run, text, "--alternatives", "2")
    worst = sorted(range(len(row["chars"])), key=lambda i: row["chars"][i]["logprob"])[:3]
    spots = [
        line
        for line in commands.score(tiny_run, text, "--alternatives", "2").stdout.splitlines()
        if "nats  " in line
    ]
    assert len(spots) == 3
    for spot, i in zip(spots, worst, strict=True):
        char = row["chars"][i]
        assert f"{-char['logprob']:.2f} nats" in spot
        assert f"[{char['char']}]" in spot
        assert text[max(0, i - 12) : i] in spot
        for other in char["alternatives"]:
            assert f"{other['char'].replace(' ', '␣')} {100 * math.exp(other['logprob']):.2g}%" in spot


def test_per_char_on_a_terminal_is_coloured_and_explained(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = on_a_terminal(monkeypatch, [tiny_run, "the boat河", "--per-char"])
    assert "\x1b[" in shown
    assert "the boat河" in ANSI.sub("", shown)
    assert "surprisal in nats: " in ANSI.sub("", shown)
    assert "\x1b[" not in on_a_terminal(monkeypatch, [tiny_run, "the boat河"])


def test_a_character_of_thousands_is_shaded_by_what_is_usual_among_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text").write_text("".join(map(chr, range(0x4E00, 0x5200))))
    config = {"corpus": {"path": str(tmp_path / "text")}, "model": {"hidden_size": 4}}
    charlm.train({**config, "training": {"budget": "1 steps"}}, out=tmp_path / "run")
    shown = ANSI.sub("", on_a_terminal(monkeypatch, [tmp_path / "run", "一丁", "--per-char"]))
    assert " 0-5 " in shown
    assert "by frequency alone: 6.8" in shown


def test_force_color_colours_a_pipe(tiny_run: Path) -> None:
    assert "\x1b[" in commands.score(tiny_run, "the boat", "--per-char", env={"FORCE_COLOR": "1"}).stdout


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=["NO_COLOR", "dumb"])
def test_a_terminal_without_colour_still_gets_each_characters_number(
    environment: dict[str, str], tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = on_a_terminal(monkeypatch, [tiny_run, "boat", "--per-char"], **environment)
    assert not re.search(r"\x1b\[[0-9;]*[34][0-9;]*m", shown)
    chars = commands.scores(tiny_run, "boat", "--per-char")[0]["chars"]
    assert numbered(shown.splitlines()[2:4]) == [
        (c["char"], pytest.approx(-c["logprob"], abs=0.006)) for c in chars
    ]


@pytest.mark.parametrize("options", [[], ["--per-char"]], ids=["plain", "per-char"])
def test_an_escape_sequence_in_a_sentence_is_shown_and_not_obeyed(
    options: list[str], tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    piped = commands.score(tiny_run, NASTY, *options).stdout
    assert "\x1b" not in piped
    for output in (piped, ANSI.sub("", on_a_terminal(monkeypatch, [tiny_run, NASTY, *options], COLUMNS="120"))):
        assert not {"\x1b", "\r", "\t", "\u202e"} & set(output)
        assert r"\x1b[31m\u202e" in output


@pytest.mark.parametrize("form", ["tsv", "jsonl", "kenlm", "srilm"])
def test_forms_for_programs_are_harmless_on_a_terminal_too(
    form: str, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = on_a_terminal(monkeypatch, [tiny_run, NASTY, "--per-char", "--format", form])
    assert not {"\x1b", "\r", "\u202e"} & set(shown)
    if form == "tsv":  # in a file the text stands as it is
        assert r"\x1b[31m\u202e" in shown
        assert "\x1b[31m\u202e" in commands.score(tiny_run, NASTY, "--format", form).stdout
