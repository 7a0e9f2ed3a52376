"""How results look: columns, numbers for people, curves, and text that cannot harm a terminal."""

import io
import math
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from charlm.cli.layout import (
    align_columns,
    cut,
    fit_fields,
    fit_table,
    keep_most_important,
    terminal_width,
    wrap,
    wrap_lines,
)
from charlm.cli.render import (
    SHADES,
    WORST_STYLE,
    console,
    draw_curve,
    format_duration,
    printable,
    program_name,
    shade_bounds,
    shade_by_surprisal,
    shade_legend,
)

# ------------------------------------------------------------------------------------------------------ columns


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert align_columns([("a", "1", "x"), ("bcd", "22", "yy")], "<><") == ["a     1  x", "bcd  22  yy"]


def test_a_chinese_character_takes_two_places() -> None:
    lines = align_columns([("河边", "1", "a"), ("abcdef", "船", "b"), ("", "", "c")], "<><")
    assert lines == ["河边     1  a", "abcdef  船  b", "            c"]
    assert {cell_len(line) for line in lines} == {13}


@pytest.mark.parametrize("width", [8, 20, 40, 80])
@pytest.mark.parametrize(
    "text",
    [
        "the river was high in the morning and nobody crossed it before noon, not even the ferry",
        "今天我们在河边的大树下面看见了一只很大很大的白鹅，它不怕人。" * 2,
        "e\u0301" * 90,
        "a" * 90,
        "河 boat 船 " * 12,
    ],
)
def test_a_long_text_is_cut_or_wrapped_to_its_cells(text: str, width: int) -> None:
    shown = cut(text, width)
    assert cell_len(shown) in (width - 1, width)
    assert shown.endswith("…")
    assert text.startswith(shown[:-1])
    assert text[len(shown) - 1] != "\u0301"  # a mark stays with its letter
    lines = wrap(text, width, 2)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_in_a_pipe_nothing_is_cut_or_wrapped() -> None:
    text = "long " * 100
    assert cut(text, None) == text
    assert wrap(text, None) == [text]
    assert wrap_lines(text, None) == text
    assert fit_fields([("name", text)], None) == [f"name  {text}".rstrip()]
    assert len(fit_table([[text] * 20], "<" * 20, None)) == 1
    assert keep_most_important([(1, text), (2, text)], None) == f"{text}  {text}"


def test_words_stay_whole_and_further_lines_are_indented() -> None:
    assert wrap("one two three four", 16, 2) == ["one two three", "four"]
    assert wrap("alpha beta gamma delta epsilon zeta", 20, 2) == ["alpha beta gamma", "  delta epsilon zeta"]
    assert fit_fields([("a", "x y"), ("name", "one two three four five")], 22) == [
        "a     x y",
        "name  one two three",
        "      four five",
    ]


def test_the_least_important_parts_of_a_line_are_left_out() -> None:
    parts = [(3, "12%"), (1, "loss 1.2"), (2, "3 char/s"), (4, "5 s left")]
    assert keep_most_important(parts, 80) == "12%  loss 1.2  3 char/s  5 s left"
    assert keep_most_important(parts, 26) == "12%  3 char/s  5 s left"
    assert keep_most_important(parts, 12) == "5 s left"
    assert keep_most_important(parts, 5) == "5 s …"


def test_a_wide_table_has_its_names_cut_or_its_columns_in_groups() -> None:
    rows = [["the name of a group", "pairs", "right"], ["x", "1", "2"]]
    assert fit_table(rows, "<>>", 80) == align_columns(rows, "<>>")
    assert fit_table(rows, "<>>", 30) == ["the name of a g…  pairs  right", "x                     1      2"]
    assert fit_table(rows, "<>>", 28, min_name=None) == [
        "the name of a group  pairs",
        "x                        1",
        "",
        "the name of a group  right",
        "x                        2",
    ]


def test_the_width_of_a_pipe_is_none_and_columns_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    assert terminal_width(screen) is None
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.delenv("COLUMNS", raising=False)
    assert terminal_width(screen) == 80
    monkeypatch.setenv("COLUMNS", "40")
    assert terminal_width(screen) == 40


# ------------------------------------------------------------------------------------------------ commands to copy


def test_the_program_is_named_as_it_was_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert program_name() == "charlm"  # from Python
    (tmp_path / "my tools").mkdir()
    script = tmp_path / "my tools" / "charlm"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(script), "train"])
    assert program_name() == f"'{script}'"
    monkeypatch.setenv("PATH", str(script.parent), prepend=":")
    assert program_name() == "charlm"
    monkeypatch.setattr(sys, "argv", ["/lib/charlm/__main__.py", "train"])
    monkeypatch.setattr(sys, "orig_argv", [".venv/bin/python", "-X", "utf8", "-m", "charlm", "train"])
    assert program_name() == ".venv/bin/python -X utf8 -m charlm"


def test_lines_do_not_end_in_spaces() -> None:
    assert align_columns([("a", "long"), ("b", "")], "<<") == ["a  long", "b"]


# ------------------------------------------------------------------------------------------- numbers for people


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (45, "45 s"),
        (59.4, "59 s"),
        (59.6, "1:00"),
        (125, "2:05"),
        (3599.6, "1:00:00"),
        (11400, "3:10:00"),
        (86400 - 1, "23:59:59"),
        (2 * 86400 + 4 * 3600 + 1800, "2 d 4 h"),
        (math.inf, "?"),
    ],
)
def test_duration(seconds: float, said: str) -> None:
    assert format_duration(seconds) == said


# -------------------------------------------------------------------------------------------------------- curves


def dots(line: str) -> str:
    return line.split("┤")[1]


EMPTY = "\u2800"


def test_a_falling_curve_goes_from_the_upper_left_to_the_lower_right() -> None:
    drawn = draw_curve([(0, 3.0), (500, 1.5), (1000, 1.25)], width=20, height=5)
    assert [line.split("┤")[0].strip() for line in drawn] == ["3.000", "", "", "", "1.250"]
    assert {len(dots(line)) for line in drawn} == {20}
    assert dots(drawn[0])[0] != EMPTY
    assert dots(drawn[0])[-1] == EMPTY
    assert dots(drawn[-1])[-1] != EMPTY
    assert dots(drawn[-1])[0] == EMPTY
    assert all(any(row[column] != EMPTY for row in map(dots, drawn)) for column in range(20))  # without a gap


def test_a_rising_curve_goes_from_the_lower_left_to_the_upper_right() -> None:
    drawn = draw_curve([(10, 1.0), (20, 2.0)], width=8, height=3)
    assert dots(drawn[-1])[0] != EMPTY
    assert dots(drawn[0])[-1] != EMPTY
    assert dots(drawn[0])[0] == dots(drawn[-1])[-1] == EMPTY


@pytest.mark.parametrize("points", [[(5, 2.0)], [(5, 2.0), (9, 2.0)]], ids=["one point", "a level line"])
def test_a_curve_without_height_is_drawn_at_its_label(points: list[tuple[float, float]]) -> None:
    drawn = draw_curve(points, width=8, height=3)
    assert drawn[-1].split("┤")[0].strip() == "2.000"
    assert dots(drawn[-1]).strip(EMPTY)
    assert not "".join(map(dots, drawn[:-1])).strip(EMPTY)


# ------------------------------------------------------------------------------------------------ harmless text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("a\x00b\x07", r"a\x00b\x07"),
        ("\x7f", r"\x7f"),
        ("\x9b31m", r"\x9b31m"),
        ("a\tb\r\n", r"a\tb\r\n"),
        ("a\u202eb\u2066", r"a\u202eb\u2066"),
        ("\u200f\u061c", r"\u200f\u061c"),
        ("\u2028\u2029\x85", r"\u2028\u2029\x85"),
        ("\udce9\ud800", r"\udce9\ud800"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_what_a_terminal_would_obey_or_hide_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(text).isprintable()


@pytest.mark.parametrize(
    "text", ["", "The river was high.", "河边的船，很安静。", "naïve Ωμέγα 🦀", "back\\slash [red]"]
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert printable(text) == text


# ------------------------------------------------------------------------------------------------------- colours


def test_each_character_is_coloured_by_its_surprisal() -> None:
    surprisals = [0.5 * most for most, _ in SHADES[:1]] + [most + 0.1 for most, _ in SHADES]
    text = shade_by_surprisal(
        (char, -surprisal, False) for char, surprisal in zip("abcde", surprisals, strict=True)
    )
    assert text.plain == "abcde"
    styles = {text.plain[span.start]: str(span.style) for span in text.spans}
    expected = [style for _, style in SHADES] + [WORST_STYLE]
    assert {char: style for char, style in zip("abcde", expected, strict=True) if style} == styles


def test_the_end_of_a_sentence_and_control_characters_are_shown() -> None:
    assert shade_by_surprisal([("\x1b", -1.0, True), ("</s>", -2.0, False)]).plain == r"\x1b⏎"


def test_the_legend_names_every_bound() -> None:
    said = shade_legend().plain
    for most, _ in SHADES:
        assert f"-{most:g} " in said
    assert f"over {SHADES[-1][0]:g}" in said


def test_where_characters_are_many_more_surprisal_is_ordinary_and_the_legend_says_so() -> None:
    assert shade_by_surprisal([("画", -4.1, False)]).spans
    assert not shade_by_surprisal([("画", -4.1, False)], 6.4).spans
    assert [most for most, _ in shade_bounds(6.4)] == [most + 3.5 for most, _ in SHADES]
    assert shade_legend(unigram_entropy=6.4).plain.endswith(
        f" over {SHADES[-1][0] + 3.5:g}   unknown  by frequency alone: 6.4"
    )


@pytest.mark.parametrize("ordinary", [0.7, 2.8, 3.2])
def test_few_characters_leave_the_shades_as_they_are(ordinary: float) -> None:
    assert shade_bounds(ordinary) == list(SHADES)
    assert "frequency" not in shade_legend(unigram_entropy=ordinary).plain


def test_the_legend_counts_in_the_unit_that_is_asked_for() -> None:
    said = shade_legend("bits", math.log(2)).plain
    assert said.startswith("surprisal in bits")
    assert f"over {SHADES[-1][0] / math.log(2):.3g}" in said


def test_an_unknown_character_has_a_style_of_its_own_that_the_legend_shows() -> None:
    styles = {str(span.style) for span in shade_by_surprisal([("x", -0.1, True)]).spans}
    explained = shade_legend()
    assert styles == {
        str(span.style) for span in explained.spans if "unknown" in explained.plain[span.start : span.end]
    }


def test_a_console_neither_wraps_nor_reads_marks(capsys: pytest.CaptureFixture[str]) -> None:
    console().print("[red]x[/red] :smile: " + "long " * 60 + "42")
    assert capsys.readouterr().out == "[red]x[/red] :smile: " + "long " * 60 + "42\n"
