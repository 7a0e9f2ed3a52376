"""The n-gram baseline is interpolated Kneser-Ney, written out below as the textbook has it."""

import math
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.config import ModelConfig
from charlm.experts import ngram_tables
from charlm.experts.ngram import NgramModel
from charlm.experts.ngram_tables import count_tables, estimate_distinct, table_arrays
from charlm.text.vocabulary import Vocabulary

V, FIRST = 5, 1
VOCABULARY = Vocabulary(["<unk>", "\n", "a", "b", "c"], [0] * V)
Sequences = list[list[int]]
few = settings(max_examples=60, deadline=None)
some_sequences = st.lists(st.lists(st.integers(0, V - 1), max_size=12), min_size=1, max_size=5).filter(any)


def arrays(sequences: Sequences) -> list[np.ndarray]:
    return [np.array(sequence, np.int32) for sequence in sequences]


def config(order: int | None) -> ModelConfig:
    return ModelConfig(ngram=order)


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
        self.discounts = {n: self.estimate(n, self.counts) for n in range(1, longest + 1)}
        # Where a text begins, what begins as it does is counted by how often it occurs, if that is another number.
        openings = {g: n for g, n in occurrences.items() if g[0] == FIRST and 1 < len(g) < longest}
        self.opening_discounts = {
            n: self.estimate(n, openings)
            for n in range(2, longest)
            if any(self.counts[g] != count for g, count in openings.items() if len(g) == n)
        }
        self.openings = {g: n for g, n in openings.items() if len(g) in self.opening_discounts}
        self.followers: dict[tuple[int, ...], list[tuple[int, ...]]] = defaultdict(list)
        for gram in self.counts:
            self.followers[gram[:-1]].append(gram)

    @staticmethod
    def estimate(n: int, counts: dict[tuple[int, ...], int]) -> tuple[float, float, float]:
        n1, n2, n3, n4 = (sum(len(g) == n and c == k for g, c in counts.items()) for k in (1, 2, 3, 4))
        if n1 and n2 and n3 and n4:
            y = n1 / (n1 + 2 * n2)
            estimated = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
            if min(estimated) > 0:
                return estimated
        return (0.5, 1.0, 1.5)

    def probability(self, context: tuple[int, ...], symbol: int, *, begins: bool = False) -> float:
        """The probability of a symbol; `begins`: the context is all of the text."""
        shorter = self.probability(context[1:], symbol) if context else 1 / V
        followers = self.followers.get(context, [])
        if not followers:
            return shorter
        n = len(context) + 1
        opening = begins and n in self.opening_discounts
        counts = self.openings if opening else self.counts
        discounts = (self.opening_discounts if opening else self.discounts)[n]
        taken = {g: discounts[min(counts[g], 3) - 1] for g in followers}
        total = sum(counts[g] for g in followers)
        gram = (*context, symbol)
        own = counts[gram] - taken[gram] if gram in taken else 0.0
        return own / total + sum(taken.values()) / total * shorter

    def log_probs(self, sequence: list[int], order: int) -> list[float]:
        text = [FIRST, *sequence]
        result = []
        for t in range(1, len(text)):
            start = max(0, t - order + 1)
            result.append(math.log(self.probability(tuple(text[start:t]), text[t], begins=start == 0)))
        return result


@few
@given(train=some_sequences, test=some_sequences, order=st.integers(1, 6))
def test_it_is_the_textbook_on_small_texts(train: Sequences, test: Sequences, order: int) -> None:
    model, slow = NgramModel(arrays(train), V, FIRST, order), Textbook(train, order)
    found = model.sequence_log_probs(arrays(test))
    assert [len(part) for part in found] == [len(sequence) for sequence in test]
    for part, sequence in zip(found, test, strict=True):
        np.testing.assert_allclose(part, slow.log_probs(sequence, order), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("order", [3, 4, 5])
def test_it_is_the_textbook_where_the_discounts_are_estimated(order: int) -> None:
    train, test = random_sequences(6, 60), random_sequences(2, 40, seed=1)
    slow = Textbook(train, order)
    assert slow.discounts[order] != (0.5, 1.0, 1.5)
    for part, sequence in zip(
        NgramModel(arrays(train), V, FIRST, order).sequence_log_probs(arrays(test)), test, strict=True
    ):
        np.testing.assert_allclose(part, slow.log_probs(sequence, order), rtol=1e-6)


@few
@given(train=some_sequences, context=st.lists(st.integers(0, V - 1), max_size=7), order=st.integers(1, 6))
def test_after_any_context_the_probabilities_add_up_to_one(
    train: Sequences, context: list[int], order: int
) -> None:
    model = NgramModel(arrays(train), V, FIRST, order)
    continued = model.sequence_log_probs(arrays([[*context, symbol] for symbol in range(V)]))
    assert math.fsum(math.exp(part[-1]) for part in continued) == pytest.approx(1, abs=1e-6)


def test_no_symbol_is_ever_impossible() -> None:
    """Here Chen and Goodman's estimate of a discount is exactly zero."""
    train = [[0, 3, 1, 0, 0, 0, 0, 0], [0, 2, 0, 1, 4, 0, 1, 1, 1, 2, 0], [3, 1, 0, 2, 1, 2, 3, 1]]
    assert np.isfinite(NgramModel(arrays(train), V, FIRST, 2).sequence_log_probs(arrays([[3, 0]]))[0]).all()


def test_a_context_does_not_reach_into_the_sequence_before() -> None:
    model = NgramModel(arrays(random_sequences(6, 60)), V, FIRST, 4)
    sequences = arrays(random_sequences(3, 9, seed=1))
    together = model.sequence_log_probs(sequences)
    for sequence, part in zip(sequences, together, strict=True):
        np.testing.assert_array_equal(model.sequence_log_probs([sequence])[0], part)
    assert model.sequence_log_probs([]) == []


def test_what_is_predicted_piece_by_piece_is_what_is_predicted_at_once() -> None:
    model = NgramModel(arrays(random_sequences(6, 60)), V, FIRST, 4)
    test = arrays([*random_sequences(2, 47, seed=1), [], [3], *random_sequences(3, 5, seed=2)])
    whole = model.predict(test)
    for piece in (1, 2, 3, 10, 47):
        for found, expected in zip(model.predict(test, piece=piece), whole, strict=True):
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(one, other)


def test_a_large_vocabulary_and_a_long_context_do_not_overflow() -> None:
    large, order = 1 << 20, 12
    text = np.random.default_rng(0).integers(large, size=200).astype(np.int32)
    log_probs = NgramModel([text], large, 0, order).sequence_log_probs([text])[0]
    assert log_probs[order:].min() > math.log(0.4)  # each symbol is known by the one before it
    assert log_probs.max() < 0


@few
@given(train=some_sequences, test=some_sequences, order=st.integers(2, 6), cut=st.integers(0, 9))
def test_symbol_by_symbol_it_gives_what_it_gives_at_once(
    train: Sequences, test: Sequences, order: int, cut: int
) -> None:
    model = NgramModel(arrays(train), V, FIRST, order)
    for sequence in arrays(test):
        if not len(sequence):
            continue
        (whole,), (known,) = model.predict([sequence])
        inputs = np.concatenate(([FIRST], sequence[:-1]))[:, None]  # (T, 1)
        state, readings = model.initial_state(1), []
        for part in (inputs[:cut], inputs[cut:]):
            if len(part):
                reading, state = model.advance(part, state)
                readings.append(reading[:, 0])
        places = np.concatenate(readings)  # (T, K+1)
        p = model.distributions(places)
        np.testing.assert_allclose(p.sum(1), 1, atol=1e-6)
        np.testing.assert_allclose(np.log(p[np.arange(len(sequence)), sequence]), whole, rtol=1e-6, atol=1e-6)
        begun = np.arange(1, len(sequence) + 1)  # symbols since the beginning, the boundary included
        whole_text = (known == begun) & (begun < order - 1)  # is known, and it has just begun
        early = np.where(whole_text, 2 * order + known, order + known)
        np.testing.assert_array_equal(model.context(places), np.where(begun > 16, known, early))
        np.testing.assert_allclose(model.log_probs(places), np.log(p), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("order", [18, 19, 40, 250])
def test_contexts_longer_than_a_beginning_give_what_they_give_at_once(order: int) -> None:
    rng = np.random.default_rng(order)
    piece = rng.integers(V, size=60)
    model = NgramModel([np.tile(piece, 5), piece[7:], rng.integers(V, size=30)], V, FIRST, order)
    for sequence in (np.tile(piece, 3), piece[7:], piece[20:]):
        inputs = np.concatenate(([FIRST], sequence[:-1]))
        readings, _ = model.advance(inputs[:, None], model.initial_state(1))
        found = model.log_probs(readings[:, 0])[np.arange(len(sequence)), sequence]
        np.testing.assert_allclose(found, model.sequence_log_probs([sequence])[0], rtol=1e-5, atol=1e-5)
        assert model.context(readings[:, 0]).max() < model.contexts


@few
@given(train=some_sequences, order=st.integers(1, 6), seed=st.integers(0, 99), texts=st.sampled_from([1, 3, 6]))
def test_writing_step_by_step_and_side_by_side_it_predicts_the_same(
    train: Sequences, order: int, seed: int, texts: int
) -> None:
    model = NgramModel(arrays(train), V, FIRST, order)
    before, ids = np.split(np.random.default_rng(seed).integers(V, size=(9, texts)), [2])  # (T, B)
    _, state = model.advance(before, model.initial_state(texts))
    readings, _ = model.advance(ids, state)
    step = model.make_step(state)
    for symbols, reading in zip(ids, readings, strict=True):
        log_probs, contexts = step(symbols)
        np.testing.assert_array_equal(log_probs, model.log_probs(reading))
        np.testing.assert_array_equal(contexts, model.context(reading))
        assert log_probs.dtype == np.float32
        assert contexts.max() < model.contexts
    for b in range(texts):
        alone, _ = model.advance(ids[:, b : b + 1], state[b : b + 1])
        np.testing.assert_array_equal(alone[:, 0], readings[:, b])


def test_the_state_of_one_text_is_repeated_for_many() -> None:
    model = NgramModel(arrays(random_sequences(6, 60)), V, FIRST, 4)
    _, state = model.advance(np.array([[1], [2], [3]]), model.initial_state(1))
    expected, _ = model.advance(np.array([[1, 1], [2, 2], [3, 3], [0, 4]]), model.initial_state(2))
    found, _ = model.advance(np.array([[0, 4]]), model.take(state, np.zeros(2, np.intp)))
    np.testing.assert_array_equal(found[0], expected[-1])


def test_states_of_texts_are_joined_and_taken_apart() -> None:
    model = NgramModel(arrays(random_sequences(6, 60)), V, FIRST, 4)
    ids = np.array([[1, 4, 2], [2, 0, 3]])
    states = [model.advance(ids[:, b : b + 1], model.initial_state(1))[1] for b in range(3)]
    _, together = model.advance(ids, model.initial_state(3))
    np.testing.assert_array_equal(model.join(states), together)
    np.testing.assert_array_equal(model.take(together, np.array([2, 0])), model.join([states[2], states[0]]))


def test_a_probability_that_vanishes_in_float32_has_a_finite_logarithm() -> None:
    tables = NgramModel(arrays([[0] * 9]), V, FIRST, 6).arrays()
    for n in range(2, 7):  # each order leaves 10^-10 of the probability to the one below
        tables[f"counts.{n}"] = np.full(len(tables[f"counts.{n}"]), 2**32 - 1, np.uint32)
    model = NgramModel.from_arrays(config(6), tables, V, FIRST)
    reading = model.advance(np.zeros((9, 1), np.int64), model.initial_state(1))[1]
    assert (model.distributions(reading) == 0).sum() == V - 1
    log_probs = model.log_probs(reading)
    assert np.isfinite(log_probs).all()
    assert log_probs.argmax() == 0


@few
@given(train=some_sequences, test=some_sequences, order=st.integers(1, 6))
def test_without_a_compiler_it_predicts_the_same(train: Sequences, test: Sequences, order: int) -> None:
    model = NgramModel(arrays(train), V, FIRST, order)
    slow = NgramModel(arrays(train), V, FIRST, order)
    vars(slow)["kernel"] = None
    for sequence in arrays(test):
        if len(sequence):
            ids = sequence[:, None].astype(np.int64)
            (found, state), (expected, _) = (each.advance(ids, each.initial_state(1)) for each in (model, slow))
            np.testing.assert_array_equal(found, expected)
            np.testing.assert_allclose(
                model.log_probs(found[:, 0]), slow.log_probs(expected[:, 0]), rtol=1e-6, atol=1e-6
            )
            for one, other in zip(model.make_step(state)(ids[0]), slow.make_step(state)(ids[0]), strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [3, 256, 257, 70_000])
def test_a_text_is_counted_in_parts_as_it_is_at_once(size: int) -> None:
    rng = np.random.default_rng(0)
    text = (rng.zipf(1.5, 4000) % size).astype(np.int32)
    whole = NgramModel([text[:2500], text[2500:]], size, FIRST, 5).arrays()
    parts = count_tables([text[:2500], text[2500:]], size, FIRST, 5, part_symbols=300)
    for name, array in table_arrays(parts).items():
        np.testing.assert_array_equal(array, whole[name])
        assert array.dtype == whole[name].dtype


def test_its_tables_go_to_a_file_and_back() -> None:
    model, test = NgramModel(arrays(random_sequences(6, 60)), V, FIRST, 4), arrays(random_sequences(3, 9, seed=1))
    again = NgramModel.from_arrays(config(4), model.arrays(), V, FIRST)
    for one, other in zip(model.sequence_log_probs(test), again.sequence_log_probs(test), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("symbols.2", lambda a: a[::-1].copy()),
        ("symbols.3", lambda a: np.full_like(a, V)),
        ("symbols.3", lambda a: np.zeros_like(a)),
        ("symbols.2", lambda a: a[:-1]),
        ("symbols.2", lambda a: a.astype(np.uint16)),
        ("symbols.4", lambda a: a.reshape(1, -1)),
        ("symbols.4", None),
        ("counts.1", lambda a: a[:-1]),
        ("counts.1", lambda a: a.astype(np.int8)),
        ("counts.4", lambda a: a.astype(np.float32)),
        ("counts.2", lambda a: np.append(a, a[0])),
        ("counts.3", lambda a: np.where(np.arange(len(a)) == 5, 0, a).astype(a.dtype)),
        ("counts.2", None),
        ("children.3", lambda a: a + np.uint8(1)),
        ("children.3", lambda a: np.full(len(a), 2**32 - 1, np.uint32)),
        ("children.2", lambda a: np.append(a, a[0])),
        ("children.2", lambda a: a[::-1].copy()),
        ("children.3", lambda a: a.astype(np.int64)),
        ("children.4", None),
        ("opening_counts.2", lambda a: np.append(a, a[0])),
        ("opening_counts.2", lambda a: np.zeros_like(a)),
        ("opening_counts.3", lambda a: a[:0]),
        ("opening_counts.2", lambda a: a.astype(np.float64)),
        ("opening_counts.2", lambda a: a.reshape(1, -1)),
    ],
)
def test_tables_that_are_no_model_are_refused(name: str, change: Callable[[np.ndarray], np.ndarray] | None) -> None:
    tables = NgramModel(arrays(random_sequences(6, 60)), V, FIRST, 4).arrays()
    if change is None:
        del tables[name]
    else:
        tables[name] = change(tables[name])
    with pytest.raises(ValueError, match=r".+"):
        NgramModel.from_arrays(config(4), tables, V, FIRST)


@pytest.mark.parametrize("piece", [1, 2, 3, 7])
def test_tables_are_checked_piece_by_piece_as_they_are_at_once(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = NgramModel(arrays(random_sequences(6, 60)), V, FIRST, 4)
    monkeypatch.setattr(ngram_tables, "_PIECE_SYMBOLS", piece)
    tables = whole.arrays()
    for read, table in zip(NgramModel.from_arrays(config(4), tables, V, FIRST).tables, whole.tables, strict=True):
        assert all(
            np.array_equal(getattr(read, part), getattr(table, part)) for part in ("symbols", "counts", "first")
        )
    for place in range(1, len(tables["symbols.3"])):
        swapped = tables["symbols.3"].copy()
        swapped[place] = swapped[place - 1]
        if place not in whole.tables[2].first:  # it follows the same context
            with pytest.raises(ValueError, match="the 3-grams are not in order"):
                NgramModel.from_arrays(config(4), {**tables, "symbols.3": swapped}, V, FIRST)


def test_more_or_other_tables_than_expected_are_refused() -> None:
    tables = NgramModel(arrays(random_sequences(6, 60)), V, FIRST, 4).arrays()
    for size, order in ((V, 3), (V + 1, 4), (V - 1, 4)):
        with pytest.raises(ValueError, match=r".+"):
            NgramModel.from_arrays(config(order), tables, size, FIRST)


def test_it_is_counted_where_the_configuration_asks_for_it() -> None:
    train, test = arrays(random_sequences(6, 60)), arrays(random_sequences(3, 9, seed=1))
    assert not NgramModel.is_wanted(config(None))
    assert NgramModel.is_wanted(config(3))
    counted = NgramModel.count(config(3), train, VOCABULARY)
    for one, other in zip(
        counted.sequence_log_probs(test), NgramModel(train, V, FIRST, 3).sequence_log_probs(test), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert counted.contexts == len(counted.context_names()) == 8
    assert counted.context_names() == ["0", "1", "2", "0 early", "1 early", "2 early", "0 in all", "1 in all"]


@given(ids=st.lists(st.integers(0, 3), max_size=60), longest=st.integers(1, 6))
def test_distinct_ngrams_of_a_short_text_are_all_counted(ids: list[int], longest: int) -> None:
    expected = [len({tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)}) for n in range(1, longest + 1)]
    assert estimate_distinct(np.array(ids, np.uint8), longest) == expected


def test_distinct_ngrams_of_a_long_text_are_estimated_from_a_sample() -> None:
    rng = np.random.default_rng(0)
    ids = np.concatenate([rng.integers(0, 50, 700_000)] * 2).astype(np.uint8)  # the second half says it all again
    exact = [len(table.symbols) for table in count_tables([ids.astype(np.int32)], 50, 0, 5)]
    found = estimate_distinct(ids, 5)
    assert found[3:] == pytest.approx(exact[3:], rel=0.03)
    assert found[2] == pytest.approx(exact[2], rel=0.1)
