"""Memory as an expert: exact counts of what a text has said, forgotten in order, one for each text."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from charlm.experts.memory import CONTEXTS, LONGEST, Memory, MemoryExpert, known_lengths, log_probs, remember
from charlm.experts.mixture import Mixture
from models import make_mixture

V = 4
BEGIN = -1  # in a text: what follows begins anew
texts = st.lists(st.integers(-1, V - 1), max_size=60)


class SlowMemory:
    """The definition: every context of every symbol is written down, and the last `most` symbols are looked at."""

    def __init__(self, longest: int, most: int) -> None:
        self.longest = longest
        self.most = most
        self.read: list[tuple[tuple[int, ...], int]] = []  # what stood before a symbol, and the symbol
        self.before: tuple[int, ...] = ()

    def feed(self, symbol: int) -> None:
        if symbol == BEGIN:
            self.before = ()
            return
        self.read.append((self.before, symbol))
        self.before = (*self.before, symbol)[-self.longest :]

    def counts(self, context: tuple[int, ...]) -> Counter[int]:
        k = len(context)
        last = self.read[-self.most :]
        return Counter(
            symbol for before, symbol in last if len(before) >= k and before[len(before) - k :] == context
        )

    def predict(self) -> tuple[int, list[float]]:
        p, known = [1 / V] * V, 0
        for k in range(1, len(self.before) + 1):
            counts = self.counts(self.before[-k:])
            total = sum(counts.values())
            if not total:
                break
            gamma = 0.5 * len(counts) / total
            p = [max(counts[w] - 0.5, 0) / total + gamma * p[w] for w in range(V)]
            known = k
        return known, p


def feed(memory: Memory, symbols: Sequence[int]) -> None:
    for symbol in symbols:
        if symbol == BEGIN:
            memory.begin()
        else:
            memory.read(symbol)


def predicted(memory: Memory) -> tuple[int, NDArray[np.float32]]:
    recalled = [memory.recall()]
    return int(known_lengths(recalled)[0]), np.exp(log_probs(recalled, V)[0])


@settings(max_examples=150)
@given(texts, st.integers(1, 4), st.integers(1, 20), st.integers(0, 60))
def test_it_is_the_definition_symbol_by_symbol_copied_anywhere(
    text: list[int], longest: int, most: int, copied_at: int
) -> None:
    slow, memory = SlowMemory(longest, most), Memory(V, longest=longest, most=most)
    other = Memory(V)
    for place, symbol in enumerate(text):
        if place == copied_at:
            other, memory = memory, memory.copy()
        known, p = slow.predict()
        assert predicted(memory)[0] == known
        np.testing.assert_allclose(predicted(memory)[1], p, rtol=1e-5)
        slow.feed(symbol)
        feed(memory, [symbol])
        feed(other, [(symbol + 1) % V])  # what another copy reads is nothing to this one
    np.testing.assert_allclose(predicted(memory)[1].sum(), 1, rtol=1e-5)


@given(texts, texts, texts)
def test_copies_of_copies_go_on_by_themselves(first: list[int], second: list[int], third: list[int]) -> None:
    memory = Memory(V, longest=3, most=15)
    feed(memory, first)
    child = memory.copy()
    feed(child, second)
    grandchild = child.copy()
    feed(grandchild, third)
    feed(memory, third)
    for found, read in ((memory, first + third), (child, first + second), (grandchild, first + second + third)):
        alone = Memory(V, longest=3, most=15)
        feed(alone, read)
        assert predicted(found)[0] == predicted(alone)[0]
        np.testing.assert_array_equal(predicted(found)[1], predicted(alone)[1])


@given(texts, st.lists(st.integers(0, V - 1), min_size=12, max_size=30))
def test_what_was_forgotten_leaves_no_trace(before: list[int], text: list[int]) -> None:
    memories = [Memory(V, longest=3, most=9) for _ in range(2)]
    feed(memories[0], [*before, BEGIN])
    for memory in memories:
        feed(memory, text)
    one, two = memories
    assert one._own == two._own
    assert predicted(one)[0] == predicted(two)[0]


def test_memory_is_bounded() -> None:
    memory = Memory(V, longest=3, most=50)
    rng = np.random.default_rng(0)
    sizes = []
    for _ in range(20):
        feed(memory, rng.integers(V, size=100).tolist())
        sizes.append(len(memory._own))
        assert len(memory._symbols) == 50
    assert max(sizes) <= 3 * 50


def test_a_number_of_any_size_is_a_context() -> None:
    memory = Memory(100_000)
    feed(memory, [99_999] * 30)
    known, rest, symbols, p = memory.recall()
    assert known == LONGEST
    assert list(symbols) == [99_999]
    assert p[0] + 100_000 * rest == pytest.approx(1)


def test_in_pieces_and_in_batches_it_is_the_same() -> None:
    expert, ids = MemoryExpert(V), np.random.default_rng(1).integers(V, size=(40, 3))
    whole, _ = expert.advance(ids, expert.initial_state(3))
    state = expert.initial_state(3)
    for part in np.split(ids, [1, 7, 30]):
        pieces, state = expert.advance(part, state)
        start = next(t for t in range(40) if ids[t : t + len(part)].tolist() == part.tolist())
        np.testing.assert_array_equal(expert.log_probs(pieces[0]), expert.log_probs(whole[start]))
    for b in range(3):
        alone, _ = expert.advance(ids[:, b : b + 1], expert.initial_state(1))
        np.testing.assert_array_equal(expert.log_probs(alone[:, 0]), expert.log_probs(whole[:, b]))
        np.testing.assert_array_equal(expert.context(alone[:, 0]), expert.context(whole[:, b]))
    step = expert.make_step(expert.initial_state(3))
    for t, symbols in enumerate(ids):
        found, kinds = step(symbols)
        np.testing.assert_array_equal(found, expert.log_probs(whole[t]))
        np.testing.assert_array_equal(kinds, expert.context(whole[t]))
    assert len(expert.context_names()) == expert.contexts == CONTEXTS


def test_rows_are_taken_and_joined_as_copies() -> None:
    expert, ids = MemoryExpert(V), np.random.default_rng(2).integers(V, size=(30, 2))
    _, state = expert.advance(ids, expert.initial_state(2))
    taken = expert.take(state, np.array([1, 0, 1]))
    joined = expert.join([expert.take(state, np.array([1])), state])
    more = np.array([[0, 1, 2], [3, 3, 3]])
    of_taken, _ = expert.advance(more, taken)
    of_joined, _ = expert.advance(more, joined)
    for b, (row, other) in enumerate([(1, 1), (0, 0), (1, 1)]):
        text = np.concatenate([ids[:, row], more[:, b]])[:, None]
        alone, _ = expert.advance(text, expert.initial_state(1))
        np.testing.assert_array_equal(expert.log_probs(of_taken[-1])[b], expert.log_probs(alone[-1])[0])
        assert row == other
    assert expert.context(of_joined[-1]).shape == (3,)
    expert.advance(more[:, :2], state)  # it was copied only


def test_a_state_that_was_read_on_from_is_refused() -> None:
    expert, ids = MemoryExpert(V), np.zeros((2, 1), np.int32)
    state = expert.initial_state(1)
    expert.advance(ids, state)
    for use in (
        lambda: expert.advance(ids, state),
        lambda: expert.take(state, np.zeros(1, np.intp)),
        lambda: expert.join([state]),
    ):
        with pytest.raises(RuntimeError, match="copy it before"):
            use()


def with_powers(mixture: Mixture) -> Mixture:
    powers = np.tile(np.array([0.8, 0.3], np.float32), (len(mixture.powers) * CONTEXTS, 1))
    powers[::CONTEXTS] = 1, 0
    mixture.memory_powers = powers
    return mixture


def test_a_mixture_with_memory_is_the_product_of_the_two() -> None:
    mixture = with_powers(make_mixture(V, hidden_size=5))
    ids = np.random.default_rng(3).integers(V, size=(25, 2))
    both = remember(mixture)
    readings, _ = both.advance(ids, both.initial_state(2))
    static, _ = mixture.advance(ids, mixture.initial_state(2))
    found = both.logits([reading.reshape(-1, reading.shape[-1]) for reading in readings])
    own = mixture.logits([reading.reshape(-1, reading.shape[-1]) for reading in static])
    known = both.experts[-1].context(readings[-1].reshape(-1, 1))
    memory = both.experts[-1].log_probs(readings[-1].reshape(-1, 1))
    expected = np.where(known[:, None] > 0, 0.8 * own + 0.3 * memory, own)
    assert 0 < (known == 0).sum() < len(known)
    difference = found - expected
    np.testing.assert_allclose(difference, difference[:, :1].repeat(V, 1), atol=1e-5)
    assert mixture.memory_powers is not None
    assert len(both.kind_names()) == len(both.powers) == CONTEXTS


def test_powers_of_a_memory_change_no_bit_of_what_the_mixture_says() -> None:
    ids = np.random.default_rng(4).integers(V, size=(25, 2))
    found = []
    for prepare in (lambda mixture: mixture, with_powers):
        mixture = prepare(make_mixture(V, hidden_size=5))
        readings, _ = mixture.advance(ids, mixture.initial_state(2))
        found.append(mixture.target_log_probs(readings, ids))
    np.testing.assert_array_equal(*found)
    assert math.isfinite(found[0].sum())
