"""States of a decoder: steps add up to the score, equal texts are equal states, and no beam disturbs another."""

import itertools
import math
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.errors import InputError
from charlm.experts.ngram import NgramModel
from charlm.language_model import LanguageModel
from charlm.scoring.states import State
from charlm.text.vocabulary import Vocabulary
from models import CELLS, make_language_model, make_mixture, record_predictions

TRAINED_ON = "我在画画。\n他画了一只猫，没画老虎。\nthe cat sat on the mat\nzz top\n"
KNOWN = sorted(set(TRAINED_ON) - {"\n"})
NATS = 1e-5  # by so much may sums differ that were computed in other batches

few = settings(max_examples=8, deadline=None)
pieces = st.text(st.one_of(st.sampled_from(KNOWN), st.characters(exclude_categories=["Cs"])), max_size=6)
every_reading = pytest.mark.parametrize(
    ("framing", "level"), list(itertools.product(["stream", "lines"], ["character", "byte"]))
)


@cache
def model(framing: str = "stream", level: str = "character", text: str = TRAINED_ON, **shape: Any) -> LanguageModel:
    """A mixture with lively preferences, so that no two contexts predict the same."""
    settings = {"cell": "lstm", **shape}
    reading = {name: settings.pop(name) for name in ("normalization", "lowercase") if name in settings}
    vocabulary = Vocabulary.build(text, framing=framing, level=level, **reading)
    ngrams = NgramModel([vocabulary.encode(text)], len(vocabulary), vocabulary.boundary_id, 3)
    mixture = make_mixture(len(vocabulary), ngrams, seed=3, hidden_size=6, **settings)
    mixture.network.trained.output.weight.data.mul_(4)
    mixture.powers[:] = np.linspace(0.2, 0.9, mixture.powers.size).reshape(mixture.powers.shape)
    return make_language_model(mixture, vocabulary)


def walk(lm: LanguageModel, state: State, parts: list[str]) -> tuple[float, State]:
    total = 0.0
    for part in parts:
        nats, state = lm.advance(state, part)
        total += nats
    return total, state


@every_reading
@pytest.mark.parametrize("cell", CELLS)
@few
@given(parts=st.lists(pieces, max_size=5))
def test_pieces_and_the_end_add_up_to_the_score(framing: str, level: str, cell: str, parts: list[str]) -> None:
    lm = model(framing, level, cell=cell)
    total, state = walk(lm, lm.start(), parts)
    (score,) = lm.score(["".join(parts)])
    assert total + lm.end_log_prob(state) == pytest.approx(score.logprob, abs=NATS, rel=1e-6)
    assert state.text == "".join(parts)


@every_reading
@few
@given(context=pieces, parts=st.lists(pieces, max_size=3), bos=st.booleans())
def test_a_context_and_no_boundary_mean_what_they_mean_to_a_score(
    framing: str, level: str, context: str, parts: list[str], bos: bool
) -> None:
    if framing == "lines":
        context = context.replace("\n", "")
    lm = model(framing, level)
    total, state = walk(lm, lm.start(context, bos=bos), parts)
    (score,) = lm.score(["".join(parts)], context=context, bos=bos, eos=False)
    assert total == pytest.approx(score.logprob, abs=NATS, rel=1e-6)
    if "".join([context, *parts]) or bos:
        (whole,) = lm.score(["".join(parts)], context=context, bos=bos)
        assert total + lm.end_log_prob(state) == pytest.approx(whole.logprob, abs=NATS, rel=1e-6)


@few
@given(beams=st.lists(st.tuples(st.lists(pieces, max_size=2), pieces), min_size=1, max_size=8))
def test_a_batch_is_what_each_of_its_states_is_alone(beams: list[tuple[list[str], str]]) -> None:
    lm = model()
    states = [walk(lm, lm.start(), before)[1] for before, _ in beams]
    log_probs, after = lm.advance_batch(states, [text for _, text in beams])
    rows, ends = lm.next_log_probs_batch(after), lm.end_log_prob_batch(after)
    for number, (before, text) in enumerate(beams):
        nats, state = lm.advance(walk(lm, lm.start(), before)[1], text)
        assert log_probs[number] == pytest.approx(nats, abs=NATS)
        assert after[number].text == state.text == "".join(before) + text
        assert rows[number] == pytest.approx(lm.next_log_probs(state), abs=NATS)
        assert ends[number] == pytest.approx(lm.end_log_prob(state), abs=NATS)


@every_reading
def test_what_may_come_next_adds_up_to_one_and_is_what_advancing_costs(framing: str, level: str) -> None:
    lm = model(framing, level)
    for state in (lm.start(), lm.start("the 画"), lm.start(bos=False), lm.start("t", bos=False)):
        found = lm.next_log_probs(state)
        assert found.dtype == np.float32
        assert found.shape == (len(lm.symbols),)
        assert np.exp(found.astype(np.float64)).sum() == pytest.approx(1, abs=NATS)
        for symbol, nats in zip(lm.symbols, found, strict=True):
            if symbol == "</s>":
                assert lm.end_log_prob(state) == pytest.approx(nats)
            elif symbol != "<unk>":
                assert lm.advance(state, symbol)[0] == pytest.approx(nats, abs=NATS)
    assert ("<unk>" in lm.symbols) == (level == "character")


def test_an_unknown_character_has_its_share_of_unk() -> None:
    lm = model()
    share = lm.next_log_probs(lm.start())[lm.symbols.index("<unk>")] - math.log(lm.vocabulary.unseen_characters)
    assert lm.advance(lm.start(), "é")[0] == pytest.approx(share)


def test_states_are_equal_where_the_same_was_read() -> None:
    lm = model()
    whole = lm.start("the cat")
    _, in_pieces = walk(lm, lm.start(), ["th", "", "e cat"])
    assert whole == in_pieces
    assert len({whole, in_pieces, lm.start("the cat", bos=False), lm.start("the cap")}) == 3
    assert whole != model(cell="gru").start("the cat")
    assert whole != "the cat"
    assert lm.advance(whole, "")[1] == whole


def test_a_state_never_changes() -> None:
    lm = model()
    state = lm.start("the")
    before = lm.next_log_probs(state)
    key = hash(state)
    lm.advance(state, " cat")
    lm.next_log_probs(state)[:] = 0
    assert (lm.next_log_probs(state) == before).all()
    assert (state.text, hash(state)) == ("the", key)
    for name in ("text", "anything"):
        with pytest.raises(AttributeError):
            setattr(state, name, "x")


def test_pieces_are_normalised_as_the_model_was_trained() -> None:
    lm = model(text="the café\n", normalization="nfc", lowercase=True)
    (score,) = lm.score(["THE CAFE\u0301"])
    total, state = walk(lm, lm.start(), ["THE", " CAFE\u0301"])
    assert state.text == "the café"
    assert total + lm.end_log_prob(state) == pytest.approx(score.logprob, abs=NATS)
    apart, state = walk(lm, lm.start(), ["THE CAFE", "\u0301"])
    assert state.text == "the cafe\u0301"
    assert apart < total


def test_a_stream_without_newlines_scores_no_end() -> None:
    lm = model(text="the cat sat on the mat ")
    total, state = walk(lm, lm.start(), ["the", " cat"])
    assert lm.end_log_prob(state) == 0
    assert total == pytest.approx(lm.score(["the cat"])[0].logprob, abs=NATS)
    assert "</s>" not in lm.symbols


def test_beams_of_one_prefix_read_it_once() -> None:
    lm = model.__wrapped__()
    read = record_predictions(lm.mixture.network)
    twice = [lm.start("the"), walk(lm, lm.start(), ["th", "e"])[1]]
    read.clear()
    _, after = lm.advance_batch([*twice, *twice], [" ", "m", "n", "o"])
    assert [rows for rows, _ in read] == [1]
    lm.next_log_probs_batch(after)
    lm.next_log_probs_batch(after)
    assert [rows for rows, _ in read] == [1, 4]


def test_more_states_than_fit_into_memory_at_once_are_computed_in_parts() -> None:
    lm = model()
    texts = ["the cat", "zz", "", "on the mat", "画"]
    expected, states = lm.advance_batch([lm.start()] * 5, texts)
    rows = lm.next_log_probs_batch(states)
    small = model.__wrapped__()
    small.max_numbers = 2 * len(small.symbols)
    read = record_predictions(small.mixture.network)
    found, states = small.advance_batch([small.start()] * 5, texts)
    assert found == pytest.approx(expected, abs=NATS)
    assert [state.text for state in states] == texts
    assert small.next_log_probs_batch(states) == pytest.approx(rows, abs=NATS)
    assert max(read)[0] == 2


def test_wrong_arguments_are_refused_by_name() -> None:
    lm = model()
    with pytest.raises(InputError, match="belongs to another model"):
        lm.advance(model(cell="gru").start(), "a")
    with pytest.raises(InputError, match="must be one that start or advance returned, not str"):
        lm.next_log_probs("the cat")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="2 states and 1 texts"):
        lm.advance_batch([lm.start(), lm.start()], ["a"])
    with pytest.raises(InputError, match="texts: number 1 must be a string"):
        lm.advance(lm.start(), 3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="context must be a string"):
        lm.start(3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="newline"):
        model("lines").start("a\nb")
