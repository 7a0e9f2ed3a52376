"""Word contexts are counted and interpolated as written out below, with strings and dictionaries."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.config import ModelConfig
from charlm.experts.ngram_tables import discount
from charlm.experts.words import LEVELS, WordModel, find_classes, read_keys, slow_keys
from charlm.text.vocabulary import Vocabulary

CONFIG = ModelConfig(words=True)
few = settings(max_examples=50, deadline=None)
texts = st.text("aAbB '.\n", min_size=1, max_size=60)
ENGLISH = (
    "The sea was still. The sea was grey, and the river's mouth was still.\nThe sea, the river: still and grey.\n"
)


def vocabulary_of(text: str, **options: Any) -> Vocabulary:
    return Vocabulary.build(text + "\n", **options)


def counted(text: str, **options: Any) -> tuple[WordModel, Vocabulary]:
    vocabulary = vocabulary_of(text, **options)
    return WordModel.count(CONFIG, [vocabulary.encode(text)], vocabulary), vocabulary


def contexts_of(text: str) -> list[tuple[tuple[str, ...], ...]]:
    """The contexts before each character, read after a newline: the run so far, and the words before it."""
    found, words, run = [], ["", ""], ""

    def is_letter(c: str) -> bool:
        return c.isalnum() or c in "_'"

    for c in "\n" + text:
        if run and is_letter(run[0]) and not is_letter(c):
            words = [*words, run]
        run = run + c.lower() if run and is_letter(run[0]) == is_letter(c) else c.lower()
        found.append(((run,), (run, words[-1]), (run, words[-1], words[-2])))
    return found[:-1]


class Textbook:
    """Counts in dictionaries; a context that occurs less than five times is left out."""

    def __init__(self, text: str, symbols: tuple[str, ...]) -> None:
        self.singles = Counter(text)
        self.symbols = symbols
        self.followers: list[dict[tuple[str, ...], Counter[str]]] = [defaultdict(Counter) for _ in range(LEVELS)]
        for c, contexts in zip(text, contexts_of(text), strict=True):
            for level, context in enumerate(contexts):
                self.followers[level][context][c] += 1
        self.followers = [{h: n for h, n in level.items() if n.total() >= 5} for level in self.followers]
        self.discounts = [
            discount(np.array([n for counts in level.values() for n in counts.values()], np.uint32))
            for level in [{(): self.singles}, *self.followers]
        ]

    def probability(self, c: str, contexts: tuple[tuple[str, ...], ...]) -> float:
        p = 1 / len(self.symbols)
        for counts, d in zip(
            [self.singles, *(level.get(h) for level, h in zip(self.followers, contexts, strict=True))],
            self.discounts,
            strict=True,
        ):
            if counts is None:
                break
            taken = sum(d[min(n, 3)] for n in counts.values())
            own = counts[c] - d[min(counts[c], 3)]
            p = (own + taken * p) / counts.total()
        return p


@few
@given(train=texts.map(lambda text: 3 * text), test=texts)
def test_it_predicts_what_the_textbook_says(train: str, test: str) -> None:
    model, vocabulary = counted(train)
    book = Textbook(train, vocabulary.symbols)
    test = "".join(c for c in test if c in train)
    ids = vocabulary.encode("\n" + test)
    readings = model.advance(np.append(ids[:-1], ids[:1])[:, None], model.initial_state(1))[0][: len(test)]
    found = np.exp(model.log_probs(readings[:, 0]))
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
    for c, symbol, contexts, p in zip(test, ids[1:], contexts_of(test), found, strict=True):
        assert p[symbol] == pytest.approx(book.probability(c, contexts), rel=1e-4)


@few
@given(text=texts, cut=st.integers(0, 60))
def test_keys_are_the_same_without_a_compiler_and_in_pieces(text: str, cut: int) -> None:
    vocabulary = vocabulary_of(text)
    classes, ids = find_classes(vocabulary), vocabulary.encode(text)
    state, expected_state = (np.zeros((1, 4), np.uint64) for _ in range(2))
    expected = read_keys(classes, ids, expected_state)
    cut = min(cut, len(ids))
    parts = [slow_keys(classes, part, state) for part in (ids[:cut], ids[cut:]) if len(part)]
    np.testing.assert_array_equal(np.concatenate(parts, 1), expected)
    np.testing.assert_array_equal(state, expected_state)


@few
@given(first=texts, second=texts)
def test_symbol_by_symbol_and_side_by_side_it_predicts_what_it_predicts_at_once(first: str, second: str) -> None:
    model, vocabulary = counted(5 * ENGLISH)
    slow, _ = counted(5 * ENGLISH)
    slow._advance = None
    length = min(len(first), len(second))
    ids = np.stack([vocabulary.encode(text)[:length] for text in (first, second)], 1)  # (T, 2)
    for each in (model, slow):
        readings, last = each.advance(ids, each.initial_state(2))
        np.testing.assert_array_equal(readings, model.advance(ids, model.initial_state(2))[0])
        step = each.make_step(each.join([each.initial_state(1), each.initial_state(1)]))
        for symbols, reading in zip(ids, readings, strict=True):
            p, kinds = step(symbols)
            np.testing.assert_allclose(p, model.log_probs(reading), rtol=1e-5)
            assert kinds.tolist() == each.context(reading).tolist() == [0, 0]
        alone = each.advance(ids[:, 1:], each.initial_state(1))[1]
        np.testing.assert_array_equal(each.take(last, np.array([1])), alone)


def test_after_the_beginning_of_a_word_it_knows_the_rest_in_small_and_capital_letters() -> None:
    model, vocabulary = counted(5 * ENGLISH)
    for text, end in (("The r", "i"), ("the river's mou", "t"), ("gre", "y")):
        readings, _ = model.advance(vocabulary.encode(text)[:, None], model.initial_state(1))
        assert vocabulary.symbols[model.log_probs(readings[-1])[0].argmax()] == end


def test_lines_are_read_each_from_its_beginning() -> None:
    vocabulary = vocabulary_of("one two\nfour\n", framing="lines")
    lines = [vocabulary.encode(line) for line in ("one two\n", "four\n")] * 3
    model = WordModel.count(CONFIG, lines, vocabulary)
    readings, _ = model.advance(vocabulary.encode("\n")[:, None], model.initial_state(1))
    assert (readings[0, 0, :LEVELS] >= 0).all()  # no words before it, in training as here
    begun = np.exp(model.log_probs(readings[0]))[0]
    assert (begun[vocabulary.encode("of")] > 0.4).all()


def test_marks_bytes_and_digits_belong_to_words_and_unknown_symbols_do_not() -> None:
    vocabulary = vocabulary_of("Éé9_'. é̂\n")
    letters = {c for c, k in zip(vocabulary.symbols, find_classes(vocabulary), strict=True) if k >> 31}
    assert letters == set("Éé9_'̂")
    classes = find_classes(vocabulary_of("é", level="byte"))
    assert [bool(k >> 31) for k in classes[[0xC3, 0xA9, ord("a"), ord("."), 10]]] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert classes[ord("A")] == classes[ord("a")] != classes[0xC1]
    assert len(np.unique(classes[0x80:])) == 128


def test_what_was_stored_predicts_the_same_and_the_expert_is_there_where_it_is_asked_for() -> None:
    model, vocabulary = counted(5 * ENGLISH)
    assert WordModel.is_wanted(CONFIG)
    assert not WordModel.is_wanted(ModelConfig())
    again = WordModel.from_arrays(CONFIG, model.arrays(), len(vocabulary), vocabulary.boundary_id)
    ids = vocabulary.encode(ENGLISH)[:, None]
    for one, other in zip(
        model.advance(ids, model.initial_state(1)), again.advance(ids, again.initial_state(1)), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert model.contexts == len(model.context_names()) == 1


DAMAGES = {
    "a table is missing": lambda a: a.pop("counts.2"),
    "one too many": lambda a: a.update({"counts.9": a["counts.1"]}),
    "keys not in order": lambda a: a.update({"contexts.1": a["contexts.1"][::-1].copy()}),
    "a key twice": lambda a: a["contexts.2"].__setitem__(1, a["contexts.2"][0]),
    "fewer keys than contexts": lambda a: a.update({"contexts.1": a["contexts.1"][:-1]}),
    "more followers than there are": lambda a: a["children.1"].__setitem__(0, 200),
    "a count of nothing": lambda a: a["counts.3"].__setitem__(0, 0),
    "a symbol beyond the vocabulary": lambda a: a["symbols.1"].__setitem__(-1, 250),
    "signed": lambda a: a.update({"counts.1": a["counts.1"].astype(np.int32)}),
    "two-dimensional": lambda a: a.update({"classes": a["classes"][None]}),
    "classes of another vocabulary": lambda a: a.update({"classes": a["classes"][:-1]}),
    "wide symbols": lambda a: a.update({"symbols.1": a["symbols.1"].astype(np.uint32)}),
    "narrow keys": lambda a: a.update({"contexts.1": a["contexts.1"].astype(np.uint16)}),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_tables_are_refused(damage: Any) -> None:
    model, vocabulary = counted(5 * ENGLISH)
    arrays = {name: array.copy() for name, array in model.arrays().items()}
    damage(arrays)
    with pytest.raises(ValueError, match=r".+"):
        WordModel.from_arrays(CONFIG, arrays, len(vocabulary), vocabulary.boundary_id)


def test_a_text_without_any_repetition_is_counted_too(tmp_path: Path) -> None:
    model, vocabulary = counted("ab")
    again = WordModel.from_arrays(CONFIG, model.arrays(), len(vocabulary), vocabulary.boundary_id)
    readings, _ = again.advance(vocabulary.encode("ab")[:, None], again.initial_state(1))
    assert (readings[:, 0, :LEVELS] == -1).all()
    np.testing.assert_allclose(np.exp(again.log_probs(readings[:, 0])).sum(1), 1, rtol=1e-5)
