"""Drawing one symbol from the softmax: which ones may be drawn, and how often each is."""

import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from charlm.config import SamplingConfig, change_section
from charlm.errors import InputError
from charlm.sampling import choose

few = settings(max_examples=25, deadline=None)


def probabilities(logits: list[float], rule: SamplingConfig) -> np.ndarray:
    """The distribution that the rules describe, one rule after the other."""
    scaled = np.array(logits) / rule.temperature
    p = np.exp(scaled - scaled.max())
    p /= p.sum()
    if rule.top_k is not None:
        p[np.argsort(-p)[rule.top_k :]] = 0
        p /= p.sum()
    if rule.top_p is not None:
        held = 0.0
        for i in np.argsort(-p):
            assume(abs(held - rule.top_p) > 1e-9)  # where rounding decides
            share = p[i]
            p[i] *= held < rule.top_p
            held += share
        p /= p.sum()
    if rule.min_p is not None:
        assume((np.abs(np.delete(p, p.argmax()) - rule.min_p * p.max()) > 1e-9).all() or rule.min_p == 0)
        p[p < rule.min_p * p.max()] = 0
        p /= p.sum()
    return p


distinct_logits = st.lists(st.integers(-30, 30), min_size=1, max_size=10, unique=True).map(
    lambda quarters: [q / 4 for q in quarters]
)
rules = st.builds(
    SamplingConfig,
    temperature=st.floats(0.1, 100),
    top_k=st.none() | st.integers(1, 12),
    top_p=st.none() | st.floats(0.01, 1),
    min_p=st.none() | st.floats(0, 1),
)


@settings(max_examples=100, deadline=None)
@given(logits=distinct_logits, rule=rules)
def test_symbols_are_drawn_as_often_as_the_rules_say_and_no_others(
    logits: list[float], rule: SamplingConfig
) -> None:
    p = probabilities(logits, rule)
    N = 1000
    uniform = (np.arange(N) + 0.5) / N
    rows = np.tile(logits, (N, 1))

    drawn = choose(rule, rows, uniform)

    counts = np.bincount(drawn, minlength=len(logits))
    assert (counts[p == 0] == 0).all()
    np.testing.assert_allclose(counts / N, p, rtol=0, atol=1.01 / N)
    ends = choose(rule, rows[:2], np.array([0.0, np.nextafter(1.0, 0.0)]))
    assert (p[ends] > 0).all()


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        *[({"top_k": k}, k) for k in (1, 2, 3, 4)],
        *[({"top_p": p}, kept) for p, kept in ((0.49, 1), (0.51, 2), (0.79, 2), (0.81, 3), (0.94, 3), (0.96, 4))],
        *[({"min_p": p}, kept) for p, kept in ((0.09, 4), (0.11, 3), (0.29, 3), (0.31, 2), (0.59, 2), (0.61, 1))],
        ({"top_k": 2, "top_p": 0.6}, 1),  # of 0.8 that top-k leaves, 0.5 is more than 0.6
        ({"top_p": 0.81, "min_p": 0.29}, 3),
    ],
    ids=str,
)
def test_of_shares_of_50_30_15_and_5_percent_a_rule_keeps_so_many(settings: dict[str, float], kept: int) -> None:
    logits = np.tile(np.log([0.15, 0.5, 0.05, 0.3]), (400, 1))
    drawn = choose(SamplingConfig(temperature=1.0, **settings), logits, np.arange(400) / 400)
    assert set(drawn.tolist()) == set([1, 3, 0, 2][:kept])


def test_equal_symbols_share_the_numbers_from_0_to_1_equally() -> None:
    drawn = choose(SamplingConfig(temperature=1.0), np.zeros((8, 2)), np.arange(8) / 8)
    assert sorted(drawn.tolist()) == [0] * 4 + [1] * 4


@few
@given(logits=distinct_logits, seed=st.integers(0, 99))
def test_what_has_no_probability_is_never_drawn(logits: list[float], seed: int) -> None:
    rows = np.tile(np.roll([*logits, -np.inf], seed), (500, 1))
    uniform = np.random.default_rng(seed).random(500)
    uniform[0], uniform[-1] = 0.0, np.nextafter(1.0, 0.0)
    plain = [SamplingConfig(temperature=temperature) for temperature in (100.0, 1.0, 0.0)]
    for rule in (*plain, SamplingConfig(temperature=1.0, top_p=1.0, min_p=0.0, top_k=len(logits) + 1)):
        assert np.isfinite(rows[0, choose(rule, rows, uniform)]).all()
        assert np.isfinite(rows[0, [choose(rule, rows[:1], uniform[[k]])[0] for k in (0, -1)]]).all()


@few
@given(rows=st.lists(st.tuples(*[st.floats(-9, 9)] * 4), min_size=1, max_size=6), rule=rules, data=st.data())
def test_each_row_is_drawn_by_its_own_logits_and_its_own_number(
    rows: list[tuple[float, ...]], rule: SamplingConfig, data: st.DataObject
) -> None:
    numbers = data.draw(st.lists(st.floats(0, 1, exclude_max=True), min_size=len(rows), max_size=len(rows)))
    logits, uniform = np.array(rows), np.array(numbers)
    before = logits.copy()

    together = choose(rule, logits, uniform)

    alone = [int(choose(rule, logits[i : i + 1], uniform[i : i + 1])[0]) for i in range(len(rows))]
    assert together.tolist() == alone
    np.testing.assert_array_equal(logits, before)


@pytest.mark.parametrize("temperature", [0.0, 1e-3, 1e-300, 1e-310, 5e-324])
def test_the_lower_the_temperature_the_surer_the_likeliest(temperature: float) -> None:
    logits = np.array([[-np.inf, 1.0, 5.0, -3.0], [-np.inf, -1.0, -5.0, -3.0]])
    uniform = np.array([0.99, 0.99])
    assert choose(SamplingConfig(temperature=temperature), logits, uniform).tolist() == [2, 1]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("temperature", value) for value in (-0.1, 100.1, float("inf"), float("nan"))],
        *[("top_k", value) for value in (0, -1)],
        *[("top_p", value) for value in (0.0, -0.1, 1.1, float("nan"))],
        *[("min_p", value) for value in (-0.1, 1.1, float("nan"))],
    ],
)
def test_a_rule_out_of_range_is_refused_by_name_and_value(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"{name.replace('_', '-')} {re.escape(str(value))}: must be"):
        change_section(SamplingConfig(), {name: value})
