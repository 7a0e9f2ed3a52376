"""The numbers of one sentence: each measure is its formula, and has one name."""

import math

import pytest

from charlm.errors import InputError
from charlm.inference.measures import CharacterScore, Measure, Score


def score_of(*log_probs: float, unigram: float = -10.0) -> Score:
    """The score of a sentence whose last log-probability is that of its end."""
    chars = [CharacterScore("x", p, False) for p in log_probs[:-1]] + [CharacterScore("</s>", log_probs[-1], False)]
    return Score.of(
        "x" * (len(chars) - 1), chars, characters=len(chars) - 1, logprob=sum(log_probs), unigram=unigram
    )


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
