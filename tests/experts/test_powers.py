"""How far a mixture trusts each of its experts."""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from charlm.config import ModelConfig
from charlm.experts.mixture import Mixture
from charlm.experts.ngram import NgramModel
from charlm.experts.powers import PIECE_SYMBOLS, PRIOR, _sample_beginnings, derivatives, find_powers, fit_powers
from charlm.scoring.log_probs import cut_sequences, text_log_probs
from charlm.text.vocabulary import Ids, Vocabulary
from models import make_mixture

framings = st.sampled_from(["stream", "lines"])
numbers_of_experts = pytest.mark.parametrize("orders", [(4,), (4, 2)], ids=["two-experts", "three-experts"])


def text_of(seed: int, lines: int) -> str:
    """Words of four letters, some of them often; no line is empty."""
    rng = np.random.default_rng(seed)
    words = ["abba", "daca", "bcbd", "adda", "cabd"]
    return "".join(" ".join(rng.choice(words, p=[0.4, 0.3, 0.1, 0.1, 0.1], size=4)) + "\n" for _ in range(lines))


def count_ngrams(vocabulary: Vocabulary, text: str, order: int) -> NgramModel:
    sequences = cut_sequences(vocabulary, vocabulary.encode(text))
    return NgramModel.count(ModelConfig(ngram=order), sequences, vocabulary)


def mixture_of(vocabulary: Vocabulary, text: str, seed: int, orders: tuple[int, ...] = (4,)) -> Mixture:
    """A network that knows nothing, but thinks it does, and n-grams of these orders."""
    others = [count_ngrams(vocabulary, text, order) for order in orders]
    mixture = make_mixture(len(vocabulary), *others, seed=seed, hidden_size=7)
    mixture.network.trained.output.weight.data.mul_(3)
    return mixture


def nats(mixture: Mixture, vocabulary: Vocabulary, ids: Ids) -> float:
    """What the fit makes small: with the pull towards equal trust, and in a stream what follows each boundary."""
    off = mixture.powers.astype(np.float64) - 1 / len(mixture.experts)
    sequences = [ids]
    if vocabulary.framing == "stream":
        sequences += _sample_beginnings(vocabulary, ids, mixture.beginning, len(ids))
    scored = [text_log_probs(mixture, vocabulary, sequence) for sequence in sequences]
    total = -sum(float(log_probs.sum()) for each in scored for _, log_probs in each)
    return total + PRIOR / 2 * float((off * off).sum())


@numbers_of_experts
@settings(max_examples=20, deadline=None)
@given(framings, st.integers(0, 99), st.integers(1, 20))
def test_no_other_trust_is_likelier(orders: tuple[int, ...], framing: str, seed: int, lines: int) -> None:
    text = text_of(seed, 40)
    vocabulary = Vocabulary.build(text, framing=framing)
    mixture = mixture_of(vocabulary, text, seed, orders)
    held_out = vocabulary.encode(text_of(seed + 100, lines))[: 2 * PIECE_SYMBOLS]  # all of it is looked at
    fit_powers(mixture, vocabulary, held_out)
    least = nats(mixture, vocabulary, held_out)
    found = mixture.powers.copy()
    rng = np.random.default_rng(seed)
    for size in (0.01, 0.1, 1.0):
        mixture.powers[:] = np.maximum(found + size * rng.standard_normal(found.shape), 0)
        assert nats(mixture, vocabulary, held_out) > least
    for alone in np.eye(len(mixture.experts)):
        mixture.powers[:] = alone
        assert least <= nats(mixture, vocabulary, held_out)


@numbers_of_experts
@pytest.mark.parametrize("framing", ["stream", "lines"])
def test_pieces_of_a_long_text_stand_for_it(framing: str, orders: tuple[int, ...]) -> None:
    text = text_of(1, 40)
    vocabulary = Vocabulary.build(text, framing=framing)
    held_out = vocabulary.encode(text_of(2, 600))
    found = []
    for most in (len(held_out), 8192):
        mixture = mixture_of(vocabulary, text, 3, orders)
        fit_powers(mixture, vocabulary, held_out, most=most)
        found.append(nats(mixture, vocabulary, held_out) / len(held_out))
    whole, some = found
    assert whole <= some < whole + 0.002


def test_a_network_that_says_nothing_is_not_listened_to() -> None:
    text = text_of(5, 200)
    vocabulary = Vocabulary.build(text, framing="stream")
    mixture = mixture_of(vocabulary, text, 0)
    mixture.network.trained.output.weight.data.zero_()  # all trust in it is alike, so it stays where it was
    fit_powers(mixture, vocabulary, vocabulary.encode(text_of(6, 200)))
    np.testing.assert_allclose(mixture.powers[:, 0], 0.5, rtol=1e-5, atol=1e-5)
    assert mixture.powers[3, 1] == pytest.approx(1, abs=0.1)


def test_two_experts_that_are_the_same_share_the_trust_that_one_of_them_has() -> None:
    text = text_of(7, 200)
    vocabulary = Vocabulary.build(text, framing="stream")
    held_out = vocabulary.encode(text_of(8, 200))
    one, two = (mixture_of(vocabulary, text, 0, orders) for orders in ((3,), (3, 3)))
    for mixture in (one, two):
        fit_powers(mixture, vocabulary, held_out)
    shared = two.powers[2 * two.experts[1].contexts + 2]  # both know the last two symbols
    assert shared[1] == pytest.approx(shared[2], abs=1e-4)
    assert shared[1] + shared[2] == pytest.approx(one.powers[2, 1], abs=0.05)


def test_a_network_alone_has_no_trust_to_be_fitted() -> None:
    text = text_of(9, 20)
    vocabulary = Vocabulary.build(text, framing="stream")
    mixture = make_mixture(len(vocabulary), hidden_size=7)
    fit_powers(mixture, vocabulary, vocabulary.encode(text))
    np.testing.assert_array_equal(mixture.powers, [[1]])


def test_no_power_is_negative_on_a_text_that_is_unlike_what_was_counted() -> None:
    vocabulary = Vocabulary.build("abcd\n", framing="lines")
    for counted, held_out in (("ab", "dc"), ("abba", "dddd"), ("a" * 9, "bcd")):
        for orders in ((4,), (5, 2)):
            mixture = mixture_of(vocabulary, f"{counted}\n" * 200 + "abcd\n", 0, orders)
            fit_powers(mixture, vocabulary, vocabulary.encode(f"{held_out}\n" * 100))
            assert (mixture.powers >= 0).all()
            assert np.isfinite(mixture.powers).all()


def test_what_is_unknown_does_not_count() -> None:
    text = text_of(1, 60)
    vocabulary = Vocabulary.build(text, framing="stream")
    known = text_of(2, 30)
    found = []
    for held_out in (known, known + "§" * 900, "§" * 900):
        mixture = mixture_of(vocabulary, text, 3)
        fit_powers(mixture, vocabulary, vocabulary.encode(held_out))
        found.append(mixture.powers)
    np.testing.assert_allclose(found[1], found[0], atol=1e-4)
    np.testing.assert_array_equal(found[2], mixture_of(vocabulary, text, 3).powers)  # nothing to be fitted to
    assert np.abs(found[0] - found[2]).max() > 0.3


def test_what_follows_a_beginning_is_a_kind_of_its_own_and_trusted_by_what_follows_beginnings() -> None:
    lines = [f"{'abcd'[i % 4]}{'abcd'[i % 3]}{'abcd'[i % 2]}c" for i in range(400)]
    rng = np.random.default_rng(0)
    held_out = "".join(f"{lines[i]}\n" for i in rng.permutation(400))
    vocabulary = Vocabulary.build(held_out, framing="stream")
    mixture = mixture_of(vocabulary, held_out, 0)
    fit_powers(mixture, vocabulary, vocabulary.encode(held_out))
    names = mixture.kind_names()
    assert names == [
        "0",
        "1",
        "2",
        "3",
        "0 early",
        "1 early",
        "2 early",
        "3 early",
        "0 in all",
        "1 in all",
        "2 in all",
    ]
    # Rare contexts hardly come in this text, so short ones stay where they were; what follows a beginning is known.
    np.testing.assert_allclose(mixture.powers[[0, 1, 2, 4, 5, 6]], 0.5, atol=0.01)
    assert (np.abs(mixture.powers[[3, 7, 9, 10]] - 0.5).max(1) > 0.05).all()


# --------------------------------------------------------------------------------- three experts, made up

V, KINDS, PLACES = 6, 3, 1500  # more places than the fit looks at together
TRUTH = np.array([[0.8, 0.3, 0.1], [0.1, 0.6, 0.5], [0.4, -0.2, 1.2]])  # the powers that drew, one negative


def made_up(seed: int) -> tuple[list[NDArray[np.float64]], NDArray[np.int64], NDArray[np.int64]]:
    """Logits of three experts, the kind of each context, and symbols drawn from a product of the experts."""
    rng = np.random.default_rng(seed)
    features = [rng.normal(0, scale, (PLACES, V)) for scale in (1, 1.5, 0.7)]
    kinds = rng.integers(KINDS, size=PLACES)
    powers = TRUTH[kinds]  # (N, 3)
    z = sum(power[:, None] * f for power, f in zip(powers.T, features, strict=True))
    y = (z + rng.gumbel(size=z.shape)).argmax(1)  # drawn from softmax z
    return features, kinds, y


def numeric_derivative(
    function: Callable[[NDArray[np.float64]], NDArray[np.float64]], at: NDArray[np.float64], size: float
) -> NDArray[np.float64]:
    """∂ function / ∂ at, by central differences: the shape of the result, then the last axis of `at`.

    Entries of different rows of `at` do not touch each other's result, so that all rows are moved together.
    """
    columns = []
    for e in range(at.shape[1]):
        step = np.zeros_like(at)
        step[:, e] = size
        columns.append((function(at + step) - function(at - step)) / (2 * size))
    return np.stack(columns, -1)


@pytest.mark.parametrize("seed", range(3))
def test_gradient_and_hessian_for_three_experts_are_the_numerical_ones(seed: int) -> None:
    features, kinds, y = made_up(seed)
    # Powers and steps that float32 holds exactly, since that is what the powers are rounded to.
    powers = np.random.default_rng(seed).integers(-32, 64, (KINDS, 3)) / 64
    size = 2.0**-10

    nats, gradient, hessian = derivatives(powers, features, kinds, y)

    numeric_gradient = numeric_derivative(lambda a: derivatives(a, features, kinds, y)[0], powers, size)
    numeric_hessian = numeric_derivative(lambda a: derivatives(a, features, kinds, y)[1], powers, size)
    assert nats.shape == (KINDS,)
    np.testing.assert_allclose(gradient, numeric_gradient, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(hessian, numeric_hessian, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(hessian, hessian.swapaxes(1, 2), rtol=1e-9)
    assert (np.linalg.eigvalsh(hessian) >= PRIOR * 0.999).all()  # convex, and the prior makes the minimum one


def test_the_cross_entropy_is_the_softmaxs_and_the_prior_is_added_to_it() -> None:
    features, kinds, y = made_up(4)
    powers = np.random.default_rng(4).integers(-32, 64, (KINDS, 3)) / 64
    z = sum(power[:, None] * f for power, f in zip(powers[kinds].T, features, strict=True))
    losses = np.log(np.exp(z).sum(1)) - z[np.arange(PLACES), y]
    expected = np.bincount(kinds, losses) + PRIOR / 2 * ((powers - 1 / 3) ** 2).sum(1)
    np.testing.assert_allclose(derivatives(powers, features, kinds, y)[0], expected, rtol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_a_product_of_three_is_fitted_no_worse_than_each_pair(seed: int) -> None:
    features, kinds, y = made_up(seed)

    def cost(powers: NDArray[np.float64]) -> NDArray[np.float64]:
        return derivatives(powers, features, kinds, y)[0]

    def cross_entropy(powers: NDArray[np.float64]) -> NDArray[np.float64]:
        return cost(powers) - PRIOR / 2 * ((powers - 1 / 3) ** 2).sum(1)

    three = find_powers(features, kinds, y, KINDS)
    for pair in combinations(range(3), 2):
        two = np.zeros((KINDS, 3))  # the third expert has no say
        two[:, pair] = find_powers([features[e] for e in pair], kinds, y, KINDS)
        assert (cost(three) <= cost(two)).all()
        assert (cross_entropy(three) <= cross_entropy(two) + 1).all()  # of hundreds of nats, for the prior
        assert cross_entropy(three).sum() < cross_entropy(two).sum()


@pytest.mark.parametrize("seed", range(3))
def test_powers_that_drew_a_text_are_found_in_it(seed: int) -> None:
    features, kinds, y = made_up(seed)
    found = find_powers(features, kinds, y, KINDS)
    _, gradient, hessian = derivatives(found, features, kinds, y)
    free = found > 0
    assert (gradient[~free] > 0).all()  # only a negative power would be likelier than 0
    assert (~free).tolist() == (TRUTH < 0).tolist()
    for kind in range(KINDS):
        inner = hessian[kind][np.ix_(free[kind], free[kind])]
        left = gradient[kind, free[kind]] @ np.linalg.solve(inner, gradient[kind, free[kind]]) / 2
        assert left < 0.01  # nats that another of Newton's steps would gain
    np.testing.assert_allclose(found, np.maximum(TRUTH, 0), atol=0.25)


def test_a_kind_of_context_that_never_came_keeps_equal_trust() -> None:
    features, kinds, y = made_up(5)
    found = find_powers(features, kinds, y, KINDS + 1)
    np.testing.assert_allclose(found[KINDS], 1 / 3)
    np.testing.assert_allclose(found[:KINDS], find_powers(features, kinds, y, KINDS), atol=1e-3)


def test_a_kind_that_never_came_keeps_the_trust_it_is_given_and_a_strong_prior_leaves_all_there() -> None:
    features, kinds, y = made_up(6)
    trust = np.random.default_rng(6).uniform(0, 1, (KINDS + 1, 3))
    before = trust.copy()
    found = find_powers(features, kinds, y, KINDS + 1, trust=trust)
    np.testing.assert_allclose(found[KINDS], trust[KINDS])
    np.testing.assert_allclose(found[:KINDS], find_powers(features, kinds, y, KINDS), atol=0.1)
    held = find_powers(features, kinds, y, KINDS + 1, trust=trust, prior=1e9)
    np.testing.assert_allclose(held, trust, atol=1e-4)
    np.testing.assert_array_equal(trust, before)
    _, gradient, hessian = derivatives(trust, features, kinds, y, trust=trust, prior=7.0)
    np.testing.assert_allclose(hessian[KINDS], 7 * np.eye(3))
    np.testing.assert_allclose(gradient[KINDS], 0)
