"""The numbers of one sentence: each measure is its formula, and has one name."""

import math

import pytest

from charlm.errors import InputError
from charlm.scoring.measures import CharacterScore, Measure, Score, rank


def score_of(*log_probs: float, unigram: float = -10.0) -> Score:
    """The score of a sentence whose last log-probability is that of its end."""
    chars = [CharacterScore("x", p, False) for p in log_probs[:-1]] + [CharacterScore("</s>", log_probs[-1], False)]
    n = len(chars)
    return Score.of("x" * (n - 1), chars, characters=n - 1, n=n, logprob=sum(log_probs), unigram=unigram)


def test_the_measures_are_the_fields_of_a_score() -> None:
    score = score_of(-1.0, -2.5, -0.5)
    assert [score.measure(name) for name in ("logprob", "mean", "penlp", "slor")] == [
        score.logprob,
        score.mean_logprob,
        score.penlp,
        score.slor,
    ]
    assert [score.measure(measure) for measure in Measure] == [score.measure(str(measure)) for measure in Measure]


def test_each_measure_is_its_formula() -> None:
    score = score_of(-1.0, -2.5, -0.5, unigram=-10.0)
    assert score.measure("logprob") == -4.0
    assert score.measure("mean") == pytest.approx(-4.0 / 3)
    assert score.measure("penlp") == pytest.approx(-4.0 / math.pow((5 + 3) / (5 + 1), 0.8))
    assert score.measure("slor") == pytest.approx((-4.0 - -10.0) / 3)


@pytest.mark.parametrize("name", ["mean_logprob", "", "LOGPROB", "slorr"])
def test_an_unknown_measure_is_refused_with_the_names_there_are(name: str) -> None:
    with pytest.raises(InputError, match=f"'{name}'.*logprob, mean, penlp, slor"):
        score_of(-1.0).measure(name)


# --------------------------------------------------------------------------------------------------------- rank


def test_the_best_come_first_and_those_that_tie_share_a_rank_in_their_order() -> None:
    scores = [score_of(p) for p in (-3.0, -1.0, -2.0, -1.0 - 1e-9, -2.0, -2.0, -5.0)]
    ranked = rank(scores, "logprob")
    assert [one.rank for one in ranked] == [1, 1, 3, 3, 3, 6, 7]
    assert [scores.index(one.score) for one in ranked] == [1, 3, 2, 2, 2, 0, 6]
    assert [one.value for one in ranked] == [one.score.logprob for one in ranked]


def test_a_chain_of_near_ties_is_no_tie_of_its_ends() -> None:
    scores = [score_of(-1.0 - step * 0.8e-5) for step in range(4)]
    assert [one.rank for one in rank(scores, "logprob")] == [1, 1, 3, 3]


def test_the_measure_decides_the_order() -> None:
    short, long = score_of(-2.0, -2.0), score_of(*[-1.0] * 6)
    assert [one.score for one in rank([long, short], "logprob")] == [short, long]
    assert [one.score for one in rank([short, long], "mean")] == [long, short]
    assert rank([], "mean") == []
