"""Texts after states cost what the model says, and are read once."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.decoders.prefixes import Prefixes
from charlm.language_model import LanguageModel
from charlm.text.vocabulary import Vocabulary
from models import make_language_model, make_mixture, record_predictions

TRAINED_ON = "the cat sat on the mat\nzz top é\n"
texts = st.text(st.sampled_from("the cat\u0301"), max_size=8)


def model() -> LanguageModel:
    vocabulary = Vocabulary.build(TRAINED_ON, framing="lines", normalization="nfc")
    return make_language_model(make_mixture(len(vocabulary), hidden_size=6), vocabulary)


LM = model()


@settings(max_examples=20, deadline=None)
@given(asked=st.lists(st.lists(st.tuples(st.sampled_from(["", "the", "a "]), texts), max_size=6), max_size=3))
@pytest.mark.parametrize("most", [1 << 20, 1])
def test_prices_are_those_of_the_model_whatever_was_asked_before(
    most: int, asked: list[list[tuple[str, str]]]
) -> None:
    prefixes = Prefixes(LM, most_numbers=most)
    for wanted in asked:
        found = prefixes.prices([(LM.start(context), text) for context, text in wanted])
        assert len(found) == len(wanted)
        for (context, text), (nats, state) in zip(wanted, found, strict=True):
            expected, after = LM.advance(LM.start(context), text)
            assert nats == pytest.approx(expected, abs=1e-5)
            assert state == after


def test_a_text_costs_only_the_characters_that_are_new_in_it() -> None:
    lm = model()
    prefixes, state = Prefixes(lm), lm.start()
    read = record_predictions(lm.mixture.network)
    prefixes.prices([(state, "the"), (state, "tho"), (state, "a")])
    assert [rows for rows, _ in read] == [1, 1, 1]  # before "t" and "a", after "t", after "th"
    prefixes.prices([(state, "the c"), (state, "tha"), (lm.start(), "tho")])
    assert [rows for rows, _ in read] == [1, 1, 1, 1, 1]  # after "the", after "the "
