"""`charlm pairs`: accuracies as a table and as JSON, by group, and of two models beside each other."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import charlm
import commands

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
PAIRS = """\
the boat has a book.\tthe boat has book a.\torder
a miller likes bread.\ta miller bread likes.\torder
the heron sees the river.\tthe heron sees teh river.\tletters
the lamp.\tthe lamp.\tletters
vkpvkpvkpvkpvkpvkpvkpvkpvkpvkp\tthe boat has a book.\tno group at all
"""


run, answer = partial(commands.run, "pairs"), partial(commands.answer, "pairs")


def as_json(*args: object, **options: Any) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(answer("--format", "json", *args, **options))
    return parsed


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.tsv"
    path.write_text(PAIRS)
    return path


def test_json_has_all_pairs_and_each_group(tiny_run: Path, pairs: Path) -> None:
    row = as_json(tiny_run, pairs)
    counts = ["pairs", "right", "wrong", "ties"]
    assert list(row) == ["measure", *counts, "accuracy", "low", "high", "groups"]
    assert (row["measure"], *(row[name] for name in counts)) == ("logprob", 5, 3, 1, 1)
    assert (row["accuracy"], row["low"] < 0.6 < row["high"]) == (0.6, True)
    assert [[group[name] for name in ("group", *counts)] for group in row["groups"]] == [
        ["order", 2, 2, 0, 0],
        ["letters", 2, 1, 0, 1],
        ["no group at all", 1, 0, 1, 0],
    ]


def test_the_table_ends_with_all_pairs(tiny_run: Path, pairs: Path) -> None:
    lines = answer(tiny_run, pairs).splitlines()
    assert lines[0].split() == ["group", "pairs", "right", "ties", "accuracy", "95%"]
    assert [line.split()[:-5] for line in lines[1:]] == [
        ["order"],
        ["letters"],
        ["no", "group", "at", "all"],
        ["all"],
    ]
    assert lines[-1].split() == ["all", "5", "3", "1", "60.0%", "23.1-88.2"]
    assert len({len(line) for line in lines}) == 1


def test_python_gives_the_same_numbers(tiny_run: Path, pairs: Path) -> None:
    rows = [line.split("\t") for line in PAIRS.splitlines()]
    overall, *groups = charlm.load(tiny_run).pairs([(row[0], row[1], row[2]) for row in rows])
    row = as_json(tiny_run, pairs)
    assert (overall.right, overall.ties, overall.low) == (row["right"], row["ties"], row["low"])
    assert [group.group for group in groups] == [group["group"] for group in row["groups"]]


def test_the_measure_can_be_chosen(tiny_run: Path, tmp_path: Path) -> None:
    long = "the boat has a lamp. " * 5
    (tmp_path / "pairs").write_text(f"{long}\tvkp\n")  # a short one is likelier, whatever it says
    assert as_json(tiny_run, tmp_path / "pairs")["wrong"] == 1
    row = as_json(tiny_run, tmp_path / "pairs", "--measure", "mean")
    assert (row["measure"], row["right"]) == ("mean", 1)


def test_two_runs_are_compared_on_the_same_pairs(tiny_run: Path, tiny_lines_run: Path, pairs: Path) -> None:
    row = as_json(tiny_run, pairs, "--against", tiny_lines_run)
    alone = as_json(tiny_lines_run, pairs)
    for name in ("pairs", "right", "wrong", "ties", "accuracy", "low", "high"):
        assert row["against"][name] == alone[name]
    first, second = row["against"]["only_first"], row["against"]["only_second"]
    assert first - second == row["right"] - alone["right"]
    assert 0 < row["against"]["p_mid"] <= row["against"]["p_exact"] <= 1
    table = answer(tiny_run, pairs, "--against", tiny_lines_run).splitlines()
    assert table[0].split("  ")[-1].strip() == "mid-p"
    assert len({len(line) for line in table}) == 1


def test_a_run_beside_itself_differs_nowhere(tiny_run: Path) -> None:
    result = run(tiny_run, EXAMPLES / "pairs.tsv", "--against", tiny_run, "--format", "json")
    other = json.loads(result.stdout)["against"]
    assert (other["only_first"], other["only_second"], other["p_exact"], other["p_mid"]) == (0, 0, 1.0, 1.0)


def test_json_lines_are_read_from_several_files_and_standard_input(tiny_run: Path, tmp_path: Path) -> None:
    def line(**more: str) -> str:
        return json.dumps({"sentence_good": "the boat.", "sentence_bad": "teh baot.", **more}) + "\n"

    (tmp_path / "a.jsonl").write_text(line(UID="x", field="f") * 2)
    (tmp_path / "b.jsonl").write_text(line(UID="y", field="f"))
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl", "-"]
    piped = "good\tbad\nthe boat.\tteh baot.\n"
    row = as_json(tiny_run, *files, input=piped)
    assert (row["pairs"], row["right"]) == (4, 4)
    assert [(group["group"], group["pairs"]) for group in row["groups"]] == [("x", 2), ("y", 1)]
    row = as_json(tiny_run, *files[:2], "--by", "field")
    assert [(group["group"], group["pairs"]) for group in row["groups"]] == [("f", 3)]


def test_unknown_characters_are_named_by_their_line(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("good\tbad\n\nthe 船\tteh 船\nboat\tbaot\n", encoding="utf-8")
    result = run(tiny_run, tmp_path / "a.tsv", "--format", "json")
    assert json.loads(result.stdout)["pairs"] == 2
    report = result.stderr.splitlines()
    assert report[:2] == ["unknown characters: 2 of 18", "  '船' (U+8239) 2 times, in line 3"]
    assert report[2].endswith("every character of Unicode that the model has never seen")
    assert len(report) == 3


def test_unknown_characters_of_several_files_and_models_are_named_by_both(
    tiny_run: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    config = {"corpus": {"path": str(tiny_corpus), "level": "byte"}, "model": {"hidden_size": 4}}
    charlm.train({**config, "training": {"budget": "1 steps"}}, out=tmp_path / "bytes")
    for name, text in (("a.tsv", "the ß\tteh ß\n"), ("b.tsv", "boat\tbaot\nßa\taß\n")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    files = [tmp_path / "a.tsv", tmp_path / "b.tsv"]
    result = run(tiny_run, *files, "--against", tiny_run)
    report = [
        f"{tiny_run}: unknown characters: 4 of 22",
        f"  'ß' (U+00DF) 4 times, in {files[0]}:1, {files[1]}:2",
    ]
    assert [line for line in result.stderr.splitlines() if "of the probability" not in line] == report * 2
    result = run(tmp_path / "bytes", *files, "--against", tiny_run)
    assert result.stderr.splitlines()[:2] == report  # bytes are never unknown


@pytest.mark.parametrize(
    ("content", "more", "said"),
    [
        ("a\tb\nonly one\n", [], "pairs.tsv, line 2: this line has 0 tabs"),
        ("", [], "pairs.tsv: there are no pairs"),
        ("good\tbad\n", [], "pairs.tsv: there are no pairs"),
        (
            '{"sentence_good": "a", "sentence_bad": "b"}\n',
            ["--by", "UID"],
            "pairs.tsv, line 1: there is no key 'UID'",
        ),
        ("a\tb\tc\n", ["--by", "UID"], "pairs.tsv, line 1: this line is not JSON and has no key 'UID'"),
    ],
)
def test_a_file_without_pairs_is_refused(
    content: str, more: list[str], said: str, tiny_run: Path, pairs: Path
) -> None:
    pairs.write_text(content)
    result = run(tiny_run, pairs, *more)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
