"""`charlm score`: each sentence answered, in order, in three forms that people and programs can read."""

import io
import json
import math
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
    line = run_score(tiny_run, SENTENCES[0]).stdout.splitlines()[1]
    row = jsonl(tiny_run, SENTENCES[0])[0]
    names = ["logprob", "mean_logprob", "perplexity", "bits_per_character", "penlp", "slor", "unknown"]
    assert [float(n) for n in line.split()[:7]] == pytest.approx([row[name] for name in names], abs=0.006)


def test_wide_characters_do_not_move_the_columns(tiny_run: Path) -> None:
    lines = run_score(tiny_run, "河边的船", "the boat").stdout.splitlines()
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
    output = run_score(tiny_run, "the boat河", "--per-char").stdout
    chars = jsonl(tiny_run, "the boat河", "--per-char")[0]["chars"]
    assert "\x1b" not in output
    expected = [
        (c["char"].replace(" ", "␣") + "?" * c["unknown"], pytest.approx(-c["logprob"], abs=0.006)) for c in chars
    ]
    assert numbered(output.splitlines()[2:4]) == expected


@pytest.mark.parametrize("text", ["the boat " * 20, "河边的船很安静。" * 12], ids=["narrow", "wide"])
def test_per_char_is_wrapped_to_the_width_of_the_terminal(text: str, tiny_run: Path) -> None:
    lines = run_score(tiny_run, text, "--per-char", env={"COLUMNS": "60"}).stdout.splitlines()
    rows = [line for line in lines[2:] if line.startswith("   ") and "nats" not in line]
    assert max(map(cell_len, rows)) <= 60
    assert "".join(label.rstrip("?") for label, _ in numbered(rows)) == text.replace(" ", "␣") + "</s>"


def test_the_worst_places_are_named_with_their_surroundings_and_what_was_likelier(tiny_run: Path) -> None:
    text = "the boat sees the rixer."
    (row,) = jsonl(tiny_run, text, "--alternatives", "2")
    worst = sorted(range(len(row["chars"])), key=lambda i: row["chars"][i]["logprob"])[:3]
    spots = [
        line for line in run_score(tiny_run, text, "--alternatives", "2").stdout.splitlines() if "nats  " in line
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
    assert "\x1b[" in run_score(tiny_run, "the boat", "--per-char", env={"FORCE_COLOR": "1"}).stdout


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=["NO_COLOR", "dumb"])
def test_a_terminal_without_colour_still_gets_each_characters_number(
    environment: dict[str, str], tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = on_a_terminal(monkeypatch, [tiny_run, "boat", "--per-char"], **environment)
    assert not re.search(r"\x1b\[[0-9;]*[34][0-9;]*m", shown)
    chars = jsonl(tiny_run, "boat", "--per-char")[0]["chars"]
    assert numbered(shown.splitlines()[2:4]) == [
        (c["char"], pytest.approx(-c["logprob"], abs=0.006)) for c in chars
    ]


@pytest.mark.parametrize("options", [[], ["--per-char"]], ids=["plain", "per-char"])
def test_an_escape_sequence_in_a_sentence_is_shown_and_not_obeyed(
    options: list[str], tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    piped = run_score(tiny_run, NASTY, *options).stdout
    assert "\x1b" not in piped
    for output in (piped, ANSI.sub("", on_a_terminal(monkeypatch, [tiny_run, NASTY, *options]))):
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
        assert "\x1b[31m\u202e" in run_score(tiny_run, NASTY, "--format", form).stdout


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
    assert result.stderr.splitlines()[:3] == [
        "unknown characters: 4 of 9",
        "  '船' (U+8239) 3 times, in sentences 1, 2",
        r"  '\x1b' (U+001B) 1 time, in sentence 2",
    ]
    assert run_score(tiny_run, "the boat").stderr == ""


@pytest.mark.parametrize("source", ["file", "stdin"])
def test_unknown_characters_of_a_file_are_named_with_their_lines(
    source: str, tiny_run: Path, tmp_path: Path
) -> None:
    text = "".join(("船\n" if number in (3, 1500) else "boat\n") for number in range(1, 2001))
    (tmp_path / "lines.txt").write_text(text, encoding="utf-8")
    more = ["--file", tmp_path / "lines.txt"] if source == "file" else []
    result = run_score(tiny_run, *more, "--format", "tsv", input=text)
    assert "  '船' (U+8239) 2 times, in lines 3, 1500\n" in result.stderr
    assert "船" in run_score(tiny_run, *more, input=text).stdout.rpartition("unknown characters: 2 of")[2]


def test_unknown_characters_of_the_context_are_named_on_standard_error(tiny_run: Path) -> None:
    result = run_score(tiny_run, "the boat", "--context", "河 ß the ", "--format", "jsonl")
    assert result.stderr == (
        "the model has never seen '河' (U+6CB3), 'ß' (U+00DF), in the context; read as <unk>, not scored\n"
    )
    assert json.loads(result.stdout)["unknown"] == 0
    assert run_score(tiny_run, "the boat", "--context", "the ").stderr == ""


def test_the_report_says_what_unknown_characters_count(tiny_run: Path) -> None:
    known = len(json.loads((tiny_run / "vocabulary.json").read_text(encoding="utf-8"))["characters"]) - 1
    assert f"1/{0x110000 - known:,} of the probability of <unk>" in run_score(tiny_run, "船").stdout
    skipped = run_score(tiny_run, "a 船", "--unknown", "skip", "--format", "jsonl")
    assert "count nothing" in skipped.stderr
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
    result = CliRunner().invoke(
        app, ["score", str(tiny_run), *more, "--format", "jsonl", "--unknown", "error"], input=path.read_bytes()
    )
    assert result.exit_code == 2
    where = f"{name or path}{'' if source == 'words' else ', line 3'}"
    assert result.stderr == f"charlm: {where}: the model has never seen '船' (U+8239)\n"
    assert [json.loads(line)["text"] for line in result.stdout.splitlines()] == ["boat", "heron"]


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
    lines = result.stdout.partition("\n\n")[0].splitlines()[0 if output == "jsonl" else 1 :]
    assert len(lines) == 2
    if output == "jsonl":
        assert [json.loads(line)["text"] for line in lines] == ["b\udce9d", "boat"]


# ------------------------------------------------------------------------------------ measures, ranks, conditions


def test_the_best_sentence_comes_first_and_equal_ones_share_a_rank(tiny_run: Path) -> None:
    sentences = ["rxvxr", "the boat sees", "a miller", "the boat sees", "boat"]
    rows = jsonl(tiny_run, *sentences, "--rank", "--measure", "slor")
    assert [list(row) for row in rows] == [[*FIELDS, "score", "rank"]] * 5
    ranked = charlm.load(tiny_run).rank(sentences, "slor")
    assert [(row["rank"], row["text"]) for row in rows] == [(one.rank, one.score.text) for one in ranked]
    assert sorted((row["score"] for row in rows), reverse=True) == [row["score"] for row in rows]
    assert len({row["rank"] for row in rows if row["text"] == "the boat sees"}) == 1
    assert [row["rank"] for row in jsonl(tiny_run, *sentences, "--rank")] == [
        one.rank for one in charlm.load(tiny_run).rank(sentences, "mean")
    ]


def test_the_table_shows_the_rank_and_marks_its_measure(tiny_run: Path) -> None:
    lines = run_score(tiny_run, "rxvxr", "the boat", "--rank", "--measure", "penlp").stdout.splitlines()
    assert lines[0].split()[:1] + [name for name in lines[0].split() if "*" in name] == ["rank", "penlp*"]
    assert [line.split()[0] for line in lines[1:3]] == ["1", "2"]
    assert lines[1].endswith("the boat")


@pytest.mark.parametrize(
    ("measure", "field"), [("logprob", "logprob"), ("mean", "mean_logprob"), ("penlp", "penlp"), ("slor", "slor")]
)
def test_the_measure_that_is_asked_for_is_shown_as_score(measure: str, field: str, tiny_run: Path) -> None:
    (row,) = jsonl(tiny_run, "the boat", "--measure", measure)
    assert row["score"] == row[field]
    header, cells = tsv(tiny_run, "the boat", "--measure", measure, "--per-char")
    assert header == [*FIELDS, "score", "chars"]
    assert float(cells[-2]) == pytest.approx(row[field])


@pytest.mark.parametrize(("base", "nats"), [("e", 1.0), ("2", math.log(2)), ("10", math.log(10))])
def test_the_base_turns_every_logarithm_and_nothing_else(base: str, nats: float, tiny_run: Path) -> None:
    options = ["--per-char", "--alternatives", "2", "--measure", "penlp"]
    (row,) = jsonl(tiny_run, "boat", *options, "--log-base", base)
    (natural,) = jsonl(tiny_run, "boat", *options)
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
        (row,) = jsonl(tiny_run, "sees", "--alternatives", "2", *options)
        (score,) = lm.score(["sees"], **conditions)  # type: ignore[arg-type]
        assert row["logprob"] == pytest.approx(score.logprob)
        others = lm.alternatives("sees", 2, **conditions)  # type: ignore[arg-type]
        assert len(row["chars"]) == len(score.chars) == len(others)
        for char, expected in zip(row["chars"], others, strict=True):
            assert [a["char"] for a in char["alternatives"]] == [a.char for a in expected]


@pytest.mark.parametrize("run", ["tiny_run", "tiny_lines_run"])
def test_a_sentence_has_the_same_score_on_the_command_line_and_in_a_file(
    run: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(run)
    sentences = ["the boat sees the river.", "a miller", "boat", "a miller likes bread. the heron"]
    path = tmp_path / "file.txt"
    path.write_text("\n".join(sentences), encoding="utf-8")
    inside = jsonl(folder, "--file", path)
    for sentence, row in zip(sentences, inside, strict=True):
        assert row["logprob"] == pytest.approx(jsonl(folder, sentence)[0]["logprob"], abs=1e-4)


# ------------------------------------------------------------------------------------------------------ summary


def test_a_files_figures_follow_its_sentences_in_the_table_and_go_to_standard_error_else(tiny_run: Path) -> None:
    text = "the boat sees\na miller\n"
    rows = jsonl(tiny_run, input=text)
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
    shown = run_score(tiny_run, input=text).stdout.partition("\n\n")[2]
    for said in (shown, run_score(tiny_run, "--format", "tsv", input=text).stderr):
        assert dict(line.split() for line in said.splitlines()) == expected


def test_a_text_without_spaces_has_no_perplexity_per_word(tiny_run: Path) -> None:
    assert "word" not in run_score(tiny_run, input="boat\nheron\n").stdout


def test_the_figures_are_not_shown_for_sentences_of_the_command_line_or_for_nothing(tiny_run: Path) -> None:
    assert "bits_per_byte" not in run_score(tiny_run, "the boat sees").output
    assert run_score(tiny_run, input="").output == ""
