"""Minimal pairs: verdicts, intervals and p-values against what is had by another way, and what files may say."""

import json
import math
from collections.abc import Iterable, Sequence
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm.errors import InputError
from charlm.ranking.minimal_pairs import MinimalPair, judge, mcnemar, read_pairs, wilson
from charlm.scoring.measures import Score


def score_of(text: str, logprob: float) -> Score:
    """A score whose mean is minus the log-probability, so that one can see by which it was judged."""
    return Score(text, len(text), 0, len(text), logprob, -logprob, 1.0, 0.0, logprob, 0.0, ())


def by_number(texts: Sequence[str]) -> Iterable[Score]:
    """Scores sentences that are numbers by the number."""
    return [score_of(text, float(text)) for text in texts]


def by_its_negative(texts: Sequence[str]) -> Iterable[Score]:
    return [score_of(text, -float(text)) for text in texts]


# ---------------------------------------------------------------------------------------------------- verdicts


def test_a_pair_is_right_wrong_or_a_tie() -> None:
    [overall] = judge([("-1", "-2"), ("-1", "-3"), ("-4", "-2"), ("-5", "-5")], by_number, "logprob")
    assert (overall.pairs, overall.right, overall.wrong, overall.ties) == (4, 2, 1, 1)
    assert overall.accuracy == 0.5
    assert (overall.group, overall.against) == (None, None)


def test_what_rounding_may_have_done_is_a_tie_and_no_more() -> None:
    [overall] = judge([("-30", "-30.0001"), ("-30", "-30.01"), ("-30.01", "-30")], by_number, "logprob")
    assert (overall.right, overall.wrong, overall.ties) == (1, 1, 1)


def test_the_measure_decides() -> None:
    pairs = [("-1", "-2")] * 3
    assert judge(pairs, by_number, "logprob")[0].right == 3
    assert judge(pairs, by_number, "mean")[0].wrong == 3
    assert judge(pairs, by_number, "slor")[0].ties == 3
    with pytest.raises(InputError, match="measure 'likelihood'"):
        judge(pairs, by_number, "likelihood")


def test_groups_are_counted_by_themselves_in_their_order_and_pairs_without_one_in_the_total_only() -> None:
    pairs = [("2", "1", "b"), ("1", "2", "a"), ("2", "1", "b"), ("1", "1"), ("2", "1", None)]
    results = judge(pairs, by_number, "logprob")
    assert [(r.group, r.pairs, r.right, r.wrong, r.ties) for r in results] == [
        (None, 5, 3, 1, 1),
        ("b", 2, 2, 0, 0),
        ("a", 1, 0, 1, 0),
    ]


def test_more_pairs_than_one_batch_are_all_judged() -> None:
    [overall] = judge((("2", "1") if i % 3 else ("1", "2") for i in range(3000)), by_number, "logprob")
    assert (overall.right, overall.wrong) == (2000, 1000)


def test_two_models_are_compared_on_the_pairs_where_they_differ() -> None:
    pairs = [("2", "1")] * 5 + [("1", "2")] * 2 + [("1", "1")]
    [overall] = judge(pairs, by_number, "logprob", by_its_negative)
    other = overall.against
    assert other is not None
    assert (other.right, other.wrong, other.ties, other.accuracy) == (2, 5, 1, 0.25)
    assert (other.only_first, other.only_second) == (5, 2)
    assert (other.p_exact, other.p_mid) == mcnemar(5, 2)


def test_a_tie_of_one_model_is_not_right_beside_the_other() -> None:
    def undecided(texts: Sequence[str]) -> Iterable[Score]:
        return [score_of(text, 0.0) for text in texts]

    [overall] = judge([("2", "1")] * 4, by_number, "logprob", undecided)
    assert overall.against is not None
    assert (overall.against.only_first, overall.against.only_second, overall.against.ties) == (4, 0, 4)


def test_no_pairs_are_refused() -> None:
    with pytest.raises(InputError, match="no pairs"):
        judge([], by_number, "logprob")


# -------------------------------------------------------------------------------------------------- statistics


@given(st.integers(1, 500), st.data())
def test_wilsons_ends_are_the_shares_that_the_count_just_contradicts(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    low, high = wilson(k, n)
    assert 0 <= low <= k / n <= high <= 1
    for end, at_its_limit in ((low, k == 0), (high, k == n)):
        distance = abs(k / n - end)
        if not at_its_limit:  # there the end is the share itself
            assert distance == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / n), rel=1e-5)


def test_wilson_agrees_with_a_published_example() -> None:
    # Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for k, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718)):  # fmt: skip  # noqa: E501
        assert wilson(k, n) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("b", "c"), [*product(range(5), repeat=2), (9, 2), (1, 10)])
def test_mcnemar_counts_the_ways_in_which_coins_fall_as_far_apart(b: int, c: int) -> None:
    n, apart = b + c, abs(b - c)
    farther = equal = 0
    for coins in product((1, -1), repeat=n):
        farther += abs(sum(coins)) > apart
        equal += abs(sum(coins)) == apart
    exact, mid = mcnemar(b, c)
    assert exact == pytest.approx((farther + equal) / 2**n)
    assert mid == pytest.approx((farther + equal / 2) / 2**n if apart else 1.0)


def test_mcnemar_stays_exact_for_very_many_pairs() -> None:
    exact, mid = mcnemar(5000, 5300)
    normal = math.erfc(300 / math.sqrt(2 * 10300))  # two-sided, without and with the correction for continuity
    corrected = math.erfc(299 / math.sqrt(2 * 10300))
    assert mid == pytest.approx(normal, rel=1e-3)
    assert exact == pytest.approx(corrected, rel=1e-3)
    assert mcnemar(0, 5000) == (0.0, 0.0)
    assert mcnemar(0, 0) == (1.0, 1.0)


# ------------------------------------------------------------------------------------------------------- files


def read(*lines: str, group_key: str | None = None) -> list[MinimalPair]:
    return list(read_pairs(lines, "pairs", group_key=group_key))


def test_tsv_has_two_columns_and_may_name_a_group() -> None:
    assert read("good one\tbad one", "a \t b\tspaces", "\tnothing against something", "c\td\t") == [
        ("good one", "bad one", None),
        ("a ", " b", "spaces"),
        ("", "nothing against something", None),
        ("c", "d", None),
    ]


@pytest.mark.parametrize("header", ["good\tbad", "Good\tBad\tGroup", "sentence_good\tsentence_bad\tfield"])
def test_a_header_and_blank_lines_are_no_pairs(header: str) -> None:
    assert read("", header, "a\tb", "  ", "good\tbad") == [("a", "b", None), ("good", "bad", None)]


BLIMP = {
    "sentence_good": "Katherine can't help herself.",
    "sentence_bad": "Katherine can't help himself.",
    "field": "morphology",
    "linguistics_term": "anaphor_agreement",
    "UID": "anaphor_gender_agreement",
    "pairID": 0,
}


@pytest.mark.parametrize(
    ("dropped", "group_key", "group"),
    [
        ((), None, "anaphor_agreement"),
        (("linguistics_term",), None, "anaphor_gender_agreement"),
        (("linguistics_term", "UID"), None, "morphology"),
        (("linguistics_term", "UID", "field"), None, None),
        ((), "field", "morphology"),
        ((), "pairID", "0"),
    ],
)
def test_blimps_lines_are_read_as_they_are(
    dropped: tuple[str, ...], group_key: str | None, group: str | None
) -> None:
    row = {key: value for key, value in BLIMP.items() if key not in dropped}
    assert read(json.dumps(row), "", group_key=group_key) == [(row["sentence_good"], row["sentence_bad"], group)]


def test_a_sentence_that_begins_with_a_brace_is_no_json() -> None:
    assert read("{ x; }\t{ x; ") == [("{ x; }", "{ x; ", None)]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["a\tb", "only one"], "pairs, line 2: this line has 0 tabs"),
        (["a\tb\tc\td"], "line 1: this line has 3 tabs"),
        ([json.dumps(BLIMP), "a\tb"], "line 2: not JSON"),
        ([json.dumps(BLIMP), "[1]"], "line 2: this line is not a JSON object"),
        (['{"sentence_good": "a"}'], "line 1: sentence_bad is missing"),
        (['{"sentence_good": 3, "sentence_bad": "a"}'], "line 1: sentence_good is not a string"),
    ],
)
def test_a_line_that_is_no_pair_is_named(lines: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(*lines)


def test_a_key_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(
        InputError, match=r"line 1: there is no key 'phenomenon'; the keys are 'sentence_good', .*'UID'"
    ):
        read(json.dumps(BLIMP), group_key="phenomenon")
