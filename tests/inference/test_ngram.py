"""The n-gram baseline is interpolated Kneser-Ney, written out below as the textbook has it."""

import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.inference.ngram import NgramModel

V, FIRST = 5, 1
Sequences = list[list[int]]
few = settings(max_examples=60, deadline=None)
some_sequences = st.lists(st.lists(st.integers(0, V - 1), max_size=12), min_size=1, max_size=5).filter(any)


def arrays(sequences: Sequences) -> list[np.ndarray]:
    return [np.array(sequence, np.int32) for sequence in sequences]


def random_sequences(count: int, length: int, seed: int = 0) -> Sequences:
    """Sequences whose symbols are of very different frequency, so that counts of 1, 2, 3 and 4 all occur."""
    rng = np.random.default_rng(seed)
    return [rng.choice(V, length, p=[0.05, 0.5, 0.25, 0.15, 0.05]).tolist() for _ in range(count)]


class Textbook:
    """Chen and Goodman's interpolated modified Kneser-Ney, slowly: dictionaries, sets and a recursion."""

    def __init__(self, sequences: Sequences, order: int) -> None:
        occurrences: dict[tuple[int, ...], int] = defaultdict(int)
        lefts: dict[tuple[int, ...], set[object]] = defaultdict(set)
        for number, sequence in enumerate(sequences):
            text = [FIRST, *sequence]
            for end in range(1, len(text)):
                for begin in range(max(0, end - order + 1), end + 1):
                    gram = tuple(text[begin : end + 1])
                    occurrences[gram] += 1
                    lefts[gram].add(text[begin - 1] if begin else f"beginning {number}")
        longest = max(map(len, occurrences))
        self.counts = {g: n if len(g) == longest else len(lefts[g]) for g, n in occurrences.items()}
        self.discounts = {n: self.estimate(n) for n in range(1, longest + 1)}
        self.followers: dict[tuple[int, ...], list[tuple[int, ...]]] = defaultdict(list)
        for gram in self.counts:
            self.followers[gram[:-1]].append(gram)

    def estimate(self, n: int) -> tuple[float, float, float]:
        n1, n2, n3, n4 = (sum(len(g) == n and c == k for g, c in self.counts.items()) for k in (1, 2, 3, 4))
        if n1 and n2 and n3 and n4:
            y = n1 / (n1 + 2 * n2)
            estimated = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
            if min(estimated) >= 0:
                return estimated
        return (0.5, 1.0, 1.5)

    def discount(self, gram: tuple[int, ...]) -> float:
        return self.discounts[len(gram)][min(self.counts[gram], 3) - 1]

    def probability(self, context: tuple[int, ...], symbol: int) -> float:
        shorter = self.probability(context[1:], symbol) if context else 1 / V
        followers = self.followers.get(context, [])
        if not followers:
            return shorter
        total = sum(self.counts[g] for g in followers)
        gram = (*context, symbol)
        own = self.counts[gram] - self.discount(gram) if gram in self.counts else 0.0
        return own / total + sum(map(self.discount, followers)) / total * shorter

    def log_probs(self, sequence: list[int], order: int) -> list[float]:
        text = [FIRST, *sequence]
        return [
            math.log(self.probability(tuple(text[max(0, t - order + 1) : t]), text[t])) for t in range(1, len(text))
        ]


@few
@given(train=some_sequences, test=some_sequences, order=st.integers(1, 6))
def test_it_is_the_textbook_on_small_texts(train: Sequences, test: Sequences, order: int) -> None:
    model, slow = NgramModel(arrays(train), V, FIRST, order), Textbook(train, order)
    found = model.log_probs(arrays(test))
    assert [len(part) for part in found] == [len(sequence) for sequence in test]
    for part, sequence in zip(found, test, strict=True):
        np.testing.assert_allclose(part, slow.log_probs(sequence, order), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("order", [3, 4, 5])
def test_it_is_the_textbook_where_the_discounts_are_estimated(order: int) -> None:
    train, test = random_sequences(6, 60), random_sequences(2, 40, seed=1)
    slow = Textbook(train, order)
    assert slow.discounts[order] != (0.5, 1.0, 1.5)
    for part, sequence in zip(
        NgramModel(arrays(train), V, FIRST, order).log_probs(arrays(test)), test, strict=True
    ):
        np.testing.assert_allclose(part, slow.log_probs(sequence, order), rtol=1e-9)


@few
@given(train=some_sequences, context=st.lists(st.integers(0, V - 1), max_size=7), order=st.integers(1, 6))
def test_after_any_context_the_probabilities_add_up_to_one(
    train: Sequences, context: list[int], order: int
) -> None:
    model = NgramModel(arrays(train), V, FIRST, order)
    continued = model.log_probs(arrays([[*context, symbol] for symbol in range(V)]))
    assert math.fsum(math.exp(part[-1]) for part in continued) == pytest.approx(1, abs=1e-12)


def test_a_context_does_not_reach_into_the_sequence_before() -> None:
    model = NgramModel(arrays(random_sequences(6, 60)), V, FIRST, 4)
    sequences = arrays(random_sequences(3, 9, seed=1))
    together = model.log_probs(sequences)
    for sequence, part in zip(sequences, together, strict=True):
        np.testing.assert_array_equal(model.log_probs([sequence])[0], part)
    assert model.log_probs([]) == []


def test_a_large_vocabulary_and_a_long_context_do_not_overflow() -> None:
    large, order = 1 << 20, 12
    text = np.random.default_rng(0).integers(large, size=200).astype(np.int32)
    log_probs = NgramModel([text], large, 0, order).log_probs([text])[0]
    assert log_probs[order:].min() > math.log(0.4)  # each symbol is known by the one before it
    assert log_probs.max() < 0
