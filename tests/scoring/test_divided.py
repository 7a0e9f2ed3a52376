"""`score`, `rerank` and `eval` divide their work among the processes that torchrun starts, and answer as one."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import charlm
from charlm.cli import main
from charlm.scoring.log_probs import text_log_probs
from charlm.system.distributed import Ranks
from charlm.text.vocabulary import Vocabulary
from models import make_mixture
from ranks import Ended, together

LINES = ["the boat is old.", "", "a river", "the old man had a boat and a dog.", "x", "we saw the sea", "é"] * 20


def run_together(size: int, arguments: Sequence[object], out: Path, stdin: str = "") -> tuple[Ended, str]:
    """Runs a command with so many processes; returns how they ended and what they printed."""
    source = out.with_suffix(".in")
    source.write_text(stdin, encoding="utf-8")

    def act() -> None:
        os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
        if os.environ["RANK"] == "0":  # the others must not read what rank 0 does
            sys.stdin = source.open(encoding="utf-8")
        sys.argv = ["charlm", *map(str, arguments)]
        main()

    ended = together(size, act)
    return ended, out.read_text(encoding="utf-8")


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("options", [[], ["--context", "the ", "--no-eos"], ["--no-bos", "--unknown", "skip"]])
def test_sentences_have_their_scores_and_their_order(
    tiny_run: Path, tmp_path: Path, size: int, options: list[str]
) -> None:
    (tmp_path / "lines.txt").write_text("\n".join(LINES) + "\n", encoding="utf-8")
    arguments = ["score", tiny_run, "--file", tmp_path / "lines.txt", "--format", "jsonl", *options]
    ended, printed = run_together(size, arguments, tmp_path / "together")
    assert ended.codes == [0] * size
    assert ended.said.count("the model has never seen") == 1 if "--no-bos" not in options else True
    alone, alone_printed = run_together(1, arguments, tmp_path / "alone")
    assert alone.codes == [0]
    assert alone.said == ended.said
    rows, expected = ([json.loads(line) for line in text.splitlines()] for text in (printed, alone_printed))
    assert [row["text"] for row in rows] == [row["text"] for row in expected] == LINES
    for row, other in zip(rows, expected, strict=True):
        assert row["logprob"] == pytest.approx(other["logprob"], abs=1e-5 * (len(row["text"]) + 1))


def test_standard_input_is_read_once(tiny_run: Path, tmp_path: Path) -> None:
    arguments = ["score", tiny_run, "--format", "tsv"]
    ended, printed = run_together(2, arguments, tmp_path / "together", stdin="the boat\nthe sea\n")
    assert ended.codes == [0, 0]
    assert [line.split("\t")[0] for line in printed.splitlines()] == ["text", "the boat", "the sea"]


def test_a_line_that_is_refused_ends_all_processes_with_one_message(tiny_run: Path, tmp_path: Path) -> None:
    arguments = ["score", tiny_run, "--unknown", "error", "--format", "tsv"]
    ended, printed = run_together(2, arguments, tmp_path / "together", stdin="the boat\nthé sea\n")
    assert ended.codes == [2, 0]
    assert ended.said.count("charlm:") == 1
    assert "line 2" in ended.said
    assert printed.count("\n") == 2


def test_a_run_that_is_not_there_is_told_once(tmp_path: Path) -> None:
    ended, _ = run_together(2, ["score", tmp_path / "nothing", "the boat"], tmp_path / "together")
    assert ended.codes == [2, 2]
    assert ended.said.count("charlm:") == 1


def test_an_n_best_list_is_ranked_as_by_one_process(tiny_run: Path, tmp_path: Path) -> None:
    rows = [f"{i // 7} ||| {line} ||| lm= -1 ||| -{i % 5}" for i, line in enumerate(LINES)]
    (tmp_path / "nbest").write_text("\n".join(rows) + "\n", encoding="utf-8")
    ended, printed = run_together(2, ["rerank", tiny_run, tmp_path / "nbest"], tmp_path / "together")
    assert ended.codes == [0, 0]
    lm = charlm.load(tiny_run)
    texts = [line.split(" ||| ")[1] for line in lm.rerank(rows)]
    assert [line.split(" ||| ")[1] for line in printed.splitlines()] == texts


@pytest.mark.parametrize("paths", [["corpus:english"], ["-"], []])
def test_an_evaluation_has_the_figures_of_one_process(tiny_run: Path, tmp_path: Path, paths: list[str]) -> None:
    arguments = ["eval", tiny_run, *paths, "--format", "json"]
    stdin = "the boat is old.\nthe sea was high.\n" * 300
    found = []
    for size in (1, 2):
        ended, printed = run_together(size, arguments, tmp_path / f"by{size}", stdin=stdin)
        assert ended.codes == [0] * size, ended.said
        found.append(json.loads(printed))
    one, two = found
    assert two == pytest.approx(one, rel=1e-6)
    assert (two["characters"], two["unknown"]) == (one["characters"], one["unknown"])


@pytest.mark.parametrize("option", [["--dynamic"], ["--baseline"], ["--samples", "3"]])
def test_what_is_not_divided_is_refused_once(tiny_run: Path, tmp_path: Path, option: list[str]) -> None:
    ended, printed = run_together(2, ["eval", tiny_run, *option], tmp_path / "together")
    assert (ended.codes, printed) == ([2, 2], "")
    assert ended.said.count("cannot be divided among several processes") == 1
    assert option[0] in ended.said


@settings(max_examples=20)
@given(
    length=st.integers(1, 400),
    size=st.integers(1, 5),
    rows=st.integers(1, 8),
    framing=st.sampled_from(["lines", "stream"]),
)
def test_each_symbol_of_a_text_is_scored_by_one_process(length: int, size: int, rows: int, framing: str) -> None:
    vocabulary = Vocabulary.build("abc\n" * 9, framing=framing)
    mixture = make_mixture(len(vocabulary))
    ids = np.random.default_rng(length).integers(1, len(vocabulary), length).astype(np.int32)
    if framing == "lines":
        ids[-1] = vocabulary.boundary_id
    scored = np.zeros(length, int)
    for rank in range(size):
        shape = {"lines": 2, "min_row": 20, "max_rows": rows, "warm_up": 8, "window": 16, "group": 3}
        for start, log_probs in text_log_probs(mixture, vocabulary, ids, ranks=Ranks(rank, size), **shape):
            scored[start : start + len(log_probs)] += 1
    assert scored.tolist() == [1] * length
