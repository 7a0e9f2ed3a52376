"""N-best lists: what is kept byte for byte, what is added, and in which order lines come out."""

import re
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm.errors import InputError
from charlm.ranking.nbest import Hypothesis, NbestFormat, _SeenIds, read_groups, reranked, score_groups
from charlm.scoring.measures import Score


def score_by_length(texts: Sequence[str]) -> Iterable[Score]:
    """-1 nat a character, and as the mean 7."""
    return [Score(text, len(text), 0, len(text), -float(len(text)), 7.0, 1.0, 0.0, 0.0, 0.0, ()) for text in texts]


def rerank(*lines: str, weight: float = 1.0, bonus: float = 0.0, measure: str = "logprob") -> list[str]:
    return [
        line
        for groups in read_groups([lines], "list")
        for group in score_groups(groups, score_by_length, measure)
        for line in reranked(group, weight, bonus)
    ]


# -------------------------------------------------------------------------------------------------- one line


def test_a_line_gains_the_feature_behind_the_others_and_the_new_total() -> None:
    [line] = rerank("0 ||| abcd ||| LM0= -3 -4.50 TM0= -1e-3 ||| -2.5", weight=0.5, bonus=0.1)
    assert line == "0 ||| abcd ||| LM0= -3 -4.50 TM0= -1e-3 charlm= -4.0 ||| -4.1"


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("0 ||| ab |||  ||| 1", "0 ||| ab ||| charlm= -2.0 ||| -1"),
        ("0 ||| ab ||| ||| 1", "0 ||| ab ||| charlm= -2.0 ||| -1"),
        ("0|||ab||||||1", "0|||ab||| charlm= -2.0 |||-1"),
        ("0 |||  ||| b= 1  a= 2 ||| 1.50 ", "0 |||  ||| b= 1  a= 2 charlm= 0.0 ||| 1.5 "),
        ("7 ||| ab ||| a= 1 ||| -1 ||| 0-0 ||| |0-1| ", "7 ||| ab ||| a= 1 charlm= -2.0 ||| -3 ||| 0-0 ||| |0-1| "),
        ("s12 ||| \u3000ab\t ||| a= 1 ||| -inf", "s12 ||| \u3000ab\t ||| a= 1 charlm= -4.0 ||| -inf"),
    ],
    ids=["no features", "one space", "no spaces", "empty hypothesis", "more fields", "odd"],
)  # fmt: skip
def test_all_else_stays_as_it_was(line: str, answer: str) -> None:
    assert rerank(line) == [answer]


@given(
    st.text(st.characters(exclude_characters="|\n\r", codec="utf-8")),
    st.lists(st.tuples(st.sampled_from(["LM0= ", "TM0= ", "d: ", "x= 1 "]), st.floats(width=16))),
    st.floats(-1e9, 1e9),
)
def test_taking_out_what_was_added_gives_the_line_back(
    text: str, features: list[tuple[str, float]], total: float
) -> None:
    line = f"3 ||| {text} ||| {' '.join(name + str(value) for name, value in features)} ||| {total}"
    [answer] = rerank(line)
    fields, new = line.split("|||"), answer.split("|||")
    assert (new[0], new[1]) == (fields[0], fields[1])
    characters = len(text.strip(" "))
    added = f" charlm= {0.0 - characters} "
    assert new[2] == fields[2].rstrip(" ") + added
    assert float(new[3]) == pytest.approx(total - characters, rel=1e-9)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "0 of the three"),
        ("just words", "0 of the three"),
        ("0 ||| ab ||| a= 1", "2 of the three"),
        (" ||| ab ||| a= 1 ||| 2", "no id"),
        ("0 ||| ab ||| a= 1 ||| ", "not a number: ''"),
        ("0 ||| ab ||| a= 1 ||| high", "not a number: 'high'"),
        ("0 ||| ab ||| a= 1 ||| nan", "not a number: 'nan'"),
        ("0 ||| a ||| b ||| a= 1 ||| 2", "not a number: 'a= 1'"),
        ("0 ||| ab ||| charlm= 1 ||| 2", "already has a feature charlm="),
        ("0 ||| ab ||| a= 1 charlm= 1 b= 2 ||| 2", "already has a feature charlm="),
    ],
)
def test_a_line_that_is_none_of_an_nbest_list_is_named(line: str, said: str) -> None:
    with pytest.raises(InputError, match=f"list, line 2: .*{said}"):
        rerank("0 ||| ab ||| a= 1 ||| 2", line)


def test_a_feature_of_a_like_name_is_another() -> None:
    assert rerank("0 ||| ab ||| charlm1= 1 xcharlm= 2 ||| 2")[0].endswith("charlm= -2.0 ||| 0")


# ---------------------------------------------------------------------------------------------------- ranking


def test_each_id_is_ranked_by_itself_and_ids_keep_their_order() -> None:
    lines = ["5 ||| aaa ||| ||| 0", "5 ||| a ||| ||| 0", "2 ||| aaaa ||| ||| 0", "2 ||| aa ||| ||| 0"]
    assert [line.split(" ||| ")[:2] for line in rerank(*lines)] == [["5", "a"], ["5", "aaa"], ["2", "aa"], ["2", "aaaa"]]  # fmt: skip  # noqa: E501


def test_equals_keep_their_order() -> None:
    lines = [f"0 ||| {text} ||| n= {i} ||| 1" for i, text in enumerate(["bb", "a", "cc", "a", "dd"])]
    assert [line.split()[4] + line.split()[5] for line in rerank(*lines)] == ["n=1", "n=3", "n=0", "n=2", "n=4"]


@pytest.mark.parametrize(
    ("weight", "bonus", "measure", "first"),
    [
        (0.0, 0.0, "logprob", "long hypothesis"),
        (1.0, 0.0, "logprob", "short"),
        (1.0, 2.0, "logprob", "long hypothesis"),
        (1.0, 0.0, "mean", "long hypothesis"),
    ],
)
def test_weight_bonus_and_measure_decide(weight: float, bonus: float, measure: str, first: str) -> None:
    lines = ["0 ||| long hypothesis ||| ||| -1", "0 ||| short ||| ||| -2"]
    assert rerank(*lines, weight=weight, bonus=bonus, measure=measure)[0].split(" ||| ")[1] == first


def test_a_total_is_what_its_own_line_adds_up_to() -> None:
    def thirds(texts: Sequence[str]) -> Iterable[Score]:
        return [Score(t, len(t), 0, len(t), -len(t) / 3, 0.0, 1.0, 0.0, 0.0, 0.0, ()) for t in texts]

    [groups] = read_groups([["0 ||| abcde ||| a= 1 ||| -2.25"]], "list")
    [group] = score_groups(groups, thirds, "logprob")
    [line] = reranked(group, 0.7, 0.3)
    _, text, features, total = line.split(" ||| ")
    assert float(total) == pytest.approx(-2.25 + 0.7 * float(features.split()[-1]) + 0.3 * len(text), rel=1e-9)


# ---------------------------------------------------------------------------------------------------- streaming


def group_texts(groups: list[list[Hypothesis]]) -> list[list[str]]:
    return [[hypothesis.text for hypothesis in group] for group in groups]


def test_an_id_comes_out_as_soon_as_the_next_one_begins() -> None:
    def batches() -> Iterable[list[str]]:
        yield ["0 ||| a ||| ||| 0", "0 ||| b ||| ||| 0"]
        yield ["0 ||| c ||| ||| 0"]
        yield ["1 ||| d ||| ||| 0", "4 ||| e ||| ||| 0"]
        raise EOFError  # nobody may ask for more before these are answered

    answers = read_groups(batches(), "list")
    assert group_texts(next(answers)) == [["a", "b", "c"], ["d"]]
    with pytest.raises(EOFError):
        next(answers)


def test_the_last_id_comes_out_at_the_end_and_nothing_from_nothing() -> None:
    assert [group_texts(g) for g in read_groups([["0 ||| a ||| ||| 0"], ["0 ||| b ||| ||| 0"]], "list")] == [
        [["a", "b"]]
    ]
    assert list(read_groups([], "list")) == []


def test_an_id_that_comes_again_after_another_is_refused() -> None:
    with pytest.raises(InputError, match=r"list, line 3: id 0 comes again after another id; .* sort -s -n"):
        rerank("0 ||| a ||| ||| 0", "1 ||| a ||| ||| 0", "0 ||| a ||| ||| 0")


@pytest.mark.parametrize(
    "ids",
    [["0", "1", "2", "0"], ["7", "8", "9", "8"], ["5", "2", "3", "2"], ["s1", "s2", "s1"], ["1", "0", "2", "1"]],
)
def test_whatever_the_ids_look_like_one_that_comes_again_is_named(ids: list[str]) -> None:
    lines = [f"{name} ||| a ||| ||| 0" for name in ids]
    with pytest.raises(InputError, match=f"list, line {len(ids)}: id {ids[-1]} comes again"):
        rerank(*lines)
    assert len(rerank(*lines[:-1])) == len(ids) - 1


def test_ids_that_look_alike_are_others() -> None:
    assert len(rerank(*(f"{name} ||| a ||| ||| 0" for name in ("7", "8", "07", "008", "x7", "9")))) == 6


def test_ids_that_count_up_are_not_kept_in_memory() -> None:
    ids = _SeenIds()
    for i in range(10, 100_010):
        assert str(i) not in ids
        ids.add(str(i))
    assert ids._others == set()
    assert "10" in ids
    assert "9" not in ids


def test_a_text_that_stands_several_times_is_scored_once() -> None:
    asked: list[str] = []

    def score(texts: Sequence[str]) -> Iterable[Score]:
        asked.extend(texts)
        return score_by_length(texts)

    [groups] = read_groups([[f"0 ||| {text} ||| ||| 0" for text in ["a", "b", "a", "a"]]], "list")
    score_groups(groups, score, "logprob")
    assert asked == ["a", "b"]


# ---------------------------------------------------------------------------------------------- other decoders


def rerank_list(*lines: str, input_format: str = "auto", batch: int = 1000, weight: float = 1.0) -> list[str]:
    """All lines that come out, those around the hypotheses included."""
    batches = [lines[i : i + batch] for i in range(0, len(lines), batch)]
    found = [group for groups in read_groups(batches, "list", NbestFormat(input_format)) for group in groups]
    scored = score_groups(found, score_by_length, "logprob")
    return [
        line
        for group, hypotheses in zip(found, scored, strict=True)
        for line in [*group.before, *reranked(hypotheses, weight, 0.0), *group.after]
    ]


def test_scores_of_nematus_that_are_costs_stay_costs() -> None:
    lines = ["0 ||| abcd ||| 1.5", "0 ||| a ||| 2.25", "1 ||| b ||| 0.5 ||| 0.1 0.2"]
    assert rerank_list(*lines) == ["0 ||| a ||| 3.25", "0 ||| abcd ||| 5.5", "1 ||| b ||| 1.5 ||| 0.1 0.2"]
    assert rerank_list(*lines, weight=0) == [
        "0 ||| abcd ||| 1.5",
        "0 ||| a ||| 2.25",
        "1 ||| b ||| 0.5 ||| 0.1 0.2",
    ]


def test_three_fields_with_log_probabilities_stay_log_probabilities() -> None:
    assert rerank_list("0 ||| abcd ||| -1.5", "0 ||| a ||| -2") == ["0 ||| a ||| -3", "0 ||| abcd ||| -5.5"]
    with pytest.raises(
        InputError, match=r"list, line 2: the score -1 is negative, but an earlier score was positive"
    ):
        rerank_list("0 ||| a ||| 1", "0 ||| a ||| -1")


FAIRSEQ = [
    "2020-10-01 12:00:00 | INFO | fairseq_cli.generate | loading",
    "S-12\tquelle",
    "T-12\tziel",
    "H-12\t-0.5\tab@@ cd",
    "D-12\t-0.5\tabcd",
    "P-12\t-0.1 -0.2",
    "H-12\t-0.75\ta",
    "D-12\t-0.75\ta",
    "P-12\t-0.3",
    "S-3\tx",
    "H-3\t-1\t",
    "2020-10-01 12:00:01 | INFO | done",
    "Generate test with beam=2: BLEU4 = 1.0",
]


@pytest.mark.parametrize("batch", [1, 2, 1000])
def test_fairseqs_lines_move_with_their_hypothesis_and_the_others_stay(batch: int) -> None:
    assert (
        rerank_list(*FAIRSEQ, batch=batch)
        == [
            *FAIRSEQ[:3],
            "H-12\t-1.75\ta",
            "D-12\t-1.75\ta",
            "P-12\t-0.3",
            "H-12\t-4.5\tab@@ cd",  # its D- line is scored
            "D-12\t-4.5\tabcd",
            "P-12\t-0.1 -0.2",
            "S-3\tx",
            "H-3\t-1\t",
            *FAIRSEQ[-2:],
        ]
    )


def test_hypotheses_of_fairseq_alone_will_do() -> None:
    assert rerank_list("H-0\t-1\tabc", "H-0\t-2\ta") == ["H-0\t-3\ta", "H-0\t-4\tabc"]


def test_kaldis_lines_are_ranked_by_the_model_alone_and_kept() -> None:
    lines = ["utt-a-1 abc d ", "utt-a-2 ab", "utt-a-10", "utt-b-1 x"]
    assert rerank_list(*lines) == ["utt-a-10", "utt-a-2 ab", "utt-a-1 abc d ", "utt-b-1 x"]


@pytest.mark.parametrize(
    ("lines", "input_format", "said"),
    [
        (["0 ||| a ||| x"], "nematus", "line 1: the score, after the second |||, is not a number: 'x'"),
        (["0 ||| a"], "nematus", "line 1: this line has 1 of the two"),
        (["0 ||| a ||| 1"], "moses", "line 1: this line has 2 of the three"),
        (["0 ||| a ||| 1"], "fairseq", "no hypotheses of fairseq"),
        (["D-0\t-1\ta", "H-0\t-1\ta"], "auto", "line 1: D-0 comes before its H-0"),
        (["H-0\tx\ta"], "auto", "line 1: this line does not have the form H-id<TAB>score<TAB>hypothesis"),
        (["H-0\t-1\ta", "H-1\t-1\ta", "H-0\t-1\ta"], "auto", "line 3: id 0 comes again"),
        (["u-1 a", "v-1 b", "u-2 c"], "auto", "line 3: id u comes again"),
        (["u-1 a", "v b"], "kaldi", "line 2: the key 'v' does not have the form KEY-n"),
        (["u-1 a", "v b"], "auto", "line 1: this line has 0 of the three"),
    ],
)
def test_lines_of_another_format_are_named(lines: list[str], input_format: str, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        rerank_list(*lines, input_format=input_format)
