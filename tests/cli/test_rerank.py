"""`charlm rerank`: n-best lists from files and pipes; and tuning, whose answer is the command's own options."""

import gzip
import shlex
import sys
from functools import partial
from pathlib import Path

import pytest

import charlm
import commands

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
NBEST = """\
0 ||| the boat likes the river. ||| LM0= -9.1 TM0= -2 -1.5 ||| -3.25
0 ||| the river. boat the likes ||| LM0= -9.5 TM0= -2 -1.0 ||| -3.1
0 |||  ||| LM0= -1 TM0= -20 -11 ||| -30
3 ||| a miller has bread. ||| LM0= -7 TM0= -1 -1 ||| -2 ||| 0-0 1-1
3 ||| miller a bread. has ||| LM0= -7 TM0= -1 -1 ||| -1.9 ||| 0-1 1-0
"""


run, answer, refused = (partial(f, "rerank") for f in (commands.run, commands.answer, commands.refused))


@pytest.fixture
def nbest(tmp_path: Path) -> Path:
    path = tmp_path / "list.nbest"
    path.write_text(NBEST)
    return path


# ---------------------------------------------------------------------------------------------------- ranking


@pytest.mark.parametrize("measure", ["logprob", "mean", "penlp", "slor"])
def test_the_feature_is_the_measure_and_the_total_what_is_promised(
    measure: str, tiny_run: Path, nbest: Path
) -> None:
    lines = answer(tiny_run, nbest, "--weight", 0.5, "--length-bonus", 0.25, "--measure", measure).splitlines()
    assert len(lines) == 5
    model = charlm.load(tiny_run)
    old = {tuple(line.split(" ||| ")[:2]): float(line.split(" ||| ")[3]) for line in NBEST.splitlines()}
    for line in lines:
        name, text, features, total, *_ = line.split(" ||| ")
        value = float(features.rpartition(" charlm= ")[2])
        assert value == pytest.approx(model.score([text])[0].measure(measure), abs=1e-4)
        assert float(total) == pytest.approx(old[name, text] + 0.5 * value + 0.25 * len(text))


def test_the_likelier_hypothesis_rises_within_its_id(tiny_run: Path, nbest: Path) -> None:
    lines = [line.split(" ||| ") for line in answer(tiny_run, nbest, "--weight", 0.2).splitlines()]
    assert [line[0] for line in lines] == ["0", "0", "0", "3", "3"]
    assert [lines[0][1], lines[3][1]] == ["the boat likes the river.", "a miller has bread."]
    assert lines[3][4] == "0-0 1-1"


def test_weight_0_ranks_by_the_old_totals(tiny_run: Path, nbest: Path) -> None:
    lines = answer(tiny_run, nbest, "--weight", 0).splitlines()
    assert [line.split(" ||| ")[3] for line in lines] == ["-3.1", "-3.25", "-30", "-1.9", "-2"]


def test_a_weight_of_1_and_no_bonus_are_the_default(tiny_run: Path, nbest: Path) -> None:
    assert answer(tiny_run, nbest) == answer(tiny_run, nbest, "--weight", 1, "--length-bonus", 0)


def test_files_archives_and_pipes_give_the_same(tiny_run: Path, nbest: Path, tmp_path: Path) -> None:
    (tmp_path / "list.gz").write_bytes(gzip.compress(NBEST.encode()))
    expected = answer(tiny_run, nbest)
    assert answer(tiny_run, tmp_path / "list.gz") == expected
    assert answer(tiny_run, "-", input=NBEST) == expected
    assert answer(tiny_run, "-", input=NBEST.removesuffix("\n")) == expected
    empty = commands.run("rerank", tiny_run, "-", input="")
    assert (empty.exit_code, empty.stdout, empty.stderr) == (
        0,
        "",
        "standard input: there are no hypotheses to rerank\n",
    )


def test_a_list_longer_than_a_batch_keeps_its_ids_in_order(tiny_run: Path) -> None:
    lines = [f"{i} ||| the boat {'has ' * k} ||| ||| {-k}\n" for i in range(400) for k in range(4)]
    ranked = answer(tiny_run, "-", "--weight", 0, input="".join(lines)).splitlines()
    assert [line.split(" ||| ")[:2] for line in ranked] == [line.split(" ||| ")[:2] for line in lines]


def test_python_gives_the_same_lines(tiny_run: Path, nbest: Path) -> None:
    model = charlm.load(tiny_run)
    expected = answer(tiny_run, nbest, "--weight", 0.3, "--measure", "mean")
    with nbest.open() as lines:
        assert "\n".join(model.rerank(lines, weight=0.3, measure="mean")) + "\n" == expected


def test_bytes_that_are_no_text_come_out_as_they_went_in(tiny_corpus: Path, tmp_path: Path) -> None:
    corpus = {"path": str(tiny_corpus), "level": "byte"}
    config = {"corpus": corpus, "model": {"hidden_size": 4}, "training": {"budget": "1 steps"}}
    charlm.train(config, out=tmp_path / "bytes")
    result = run(tmp_path / "bytes", "-", input=b"0 ||| b\xe9d \xff ||| ||| 0\n")
    assert result.stdout_bytes.startswith(b"0 ||| b\xe9d \xff ||| charlm= -")


def test_unknown_characters_of_the_hypotheses_are_named_as_score_names_them(tiny_run: Path, tmp_path: Path) -> None:
    texts = ["the 船 船", "the boat", "", "ß船"]
    lines = [f"{k // 2} ||| {text} ||| 船= 0 ||| -{k}\n" for k, text in enumerate(texts)]
    scored = commands.score(tiny_run, "--format", "jsonl", input="".join(text + "\n" for text in texts)).stderr
    expected = scored[scored.index("unknown characters: 4 of 17\n") :]
    assert "'船' (U+8239) 3 times, in lines 1, 4\n" in expected
    result = run(tiny_run, "-", input="".join(lines))
    assert (result.stdout.count("\n"), result.stderr) == (4, expected)
    (tmp_path / "references").write_text("the boat\n\n")
    assert run(tiny_run, "-", "--tune", tmp_path / "references", input="".join(lines)).stderr.endswith(expected)


def test_lines_are_numbered_on_from_batch_to_batch(tiny_run: Path) -> None:
    lines = [f"{k} ||| {'船' if k in (3, 1999) else 'boat'} ||| ||| 0\n" for k in range(2000)]
    assert "2 times, in lines 4, 2000\n" in run(tiny_run, "-", input="".join(lines)).stderr


# ------------------------------------------------------------------------------------------------------ tuning


def test_tuning_prints_options_that_rerank_takes(tiny_run: Path, nbest: Path, tmp_path: Path) -> None:
    references = tmp_path / "references"
    references.write_text("the boat likes the river.\n\n\na miller has bread.\n")
    result = run(tiny_run, nbest, "--tune", references)
    assert result.exit_code == 0
    options = shlex.split(result.stdout)
    assert (options[0], options[2], len(options)) == ("--weight", "--length-bonus", 4)
    assert float(options[1]) > 0
    best = {line.split(" ||| ")[0]: line for line in reversed(answer(tiny_run, nbest, *options).splitlines())}
    assert [line.split(" ||| ")[1] for line in best.values()] == [
        "a miller has bread.",
        "the boat likes the river.",
    ]
    assert result.stderr.splitlines()[0].startswith("2 sentences, chrF2|nrefs:1|")
    assert [line.split()[-1] for line in result.stderr.splitlines()[2:3]] == ["100.00"]


def test_tuning_says_which_measure_its_weight_is_for_and_takes_more_references(
    tiny_run: Path, nbest: Path, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text("the boat likes the river.\n\n\na miller has bread.\n")
    more = ["--tune", tmp_path / "one", "--tune", tmp_path / "two", "--measure", "mean", "--metric", "bleu"]
    result = run(tiny_run, nbest, *more)
    assert result.stdout.endswith(" --measure mean\n")
    assert "BLEU|nrefs:2|" in result.stderr


def test_the_example_of_the_documents_can_be_tuned(tiny_run: Path) -> None:
    result = run(tiny_run, EXAMPLES / "river.nbest", "--tune", EXAMPLES / "river.ref")
    assert result.exit_code == 0
    assert result.stderr.startswith("12 sentences, ")
    assert "each half tuned on the other" in result.stderr


# ------------------------------------------------------------------------------------------------------- wrong


def test_wrong_lines_are_named_with_their_file(tiny_run: Path, nbest: Path) -> None:
    nbest.write_text(NBEST + "a line of text\n")
    assert f"{nbest}, line 6: this line has 0 of the three |||" in refused(tiny_run, nbest)
    assert "standard input, line 1: " in refused(tiny_run, "-", input="x\n")


def test_an_id_without_a_reference_is_named(tiny_run: Path, nbest: Path, tmp_path: Path) -> None:
    (tmp_path / "references").write_text("one\ntwo\n")
    assert "id 3 has no reference" in refused(tiny_run, nbest, "--tune", tmp_path / "references")


@pytest.mark.parametrize("option", ["--weight", "--length-bonus"])
def test_weights_are_given_or_tuned_and_finite(option: str, tiny_run: Path, nbest: Path) -> None:
    assert "not both" in refused(tiny_run, nbest, "--tune", nbest, option, 1)
    for number in ("nan", "inf"):
        assert f"{option[2:].replace('-', ' ')} {number}: must be a finite number" in refused(
            tiny_run, nbest, option, number
        )


def test_a_metric_without_tuning_is_refused(tiny_run: Path, nbest: Path) -> None:
    assert "--metric can only be used with --tune" in refused(tiny_run, nbest, "--metric", "bleu")


def test_files_that_cannot_be_read_are_named(tiny_run: Path, nbest: Path, tmp_path: Path) -> None:
    assert f"{tmp_path}/none" in refused(tiny_run, tmp_path / "none")
    assert f"{tmp_path}/none" in refused(tiny_run, nbest, "--tune", tmp_path / "none")
    for name, content in (("plain.gz", b"no archive"), ("cut.gz", gzip.compress(NBEST.encode())[:-12])):
        (tmp_path / name).write_bytes(content)
        result = run(tiny_run, tmp_path / name)
        assert result.exit_code == 2
        assert f"charlm: {tmp_path}/{name}: " in result.stderr


def test_tuning_without_sacrebleu_says_what_to_install(
    tiny_run: Path, nbest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    assert "pip install 'charlm[tune]'" in refused(tiny_run, nbest, "--tune", nbest)
