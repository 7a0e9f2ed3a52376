"""Continuations: their log-probability given a context, and whether the model would have written them."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import charlm
from charlm.experts.ngram import NgramModel
from charlm.language_model import LanguageModel
from charlm.scoring.continuations import Continuation, score_continuations
from charlm.text.vocabulary import Vocabulary
from models import make_language_model, make_mixture

TRAINED_ON = "我在画画。\nthe cat sat on the mat\nzz top\n"
READINGS = list(itertools.product(["stream", "lines"], ["character", "byte"]))
every_reading = pytest.mark.parametrize(("framing", "level"), READINGS)


def make_model(framing: str, level: str) -> LanguageModel:
    vocabulary = Vocabulary.build(TRAINED_ON, framing=framing, level=level)
    mixture = make_mixture(len(vocabulary), seed=5, dtype=torch.float64, cell="gru", hidden_size=6)
    mixture.network.trained.output.weight.data.mul_(4)
    if level == "byte":
        mixture.network.trained.output.bias.data[list(b"the cat")] += 9  # what it writes is UTF-8
    return make_language_model(mixture, vocabulary)


MODELS = {reading: make_model(*reading) for reading in READINGS}


def continuations(lm: LanguageModel, *pairs: tuple[str, str]) -> list[Continuation]:
    return score_continuations(lm.mixture, lm.vocabulary, pairs)


def step_by_step(lm: LanguageModel, context: str, continuation: str) -> Continuation:
    """The same from the definition: one symbol after another, the state zero at each beginning."""
    network, vocabulary = lm.mixture.network.trained, lm.vocabulary
    before = vocabulary.encode(context).tolist()
    symbols = before + vocabulary.encode(continuation).tolist()
    state, last = network.initial_state(1), vocabulary.boundary_id
    logprob, is_greedy = 0.0, True
    for place, symbol in enumerate(symbols):
        with torch.no_grad():
            logits, state = network(torch.tensor([[last]]), state)
        found = torch.log_softmax(logits[0, 0], 0)
        if place >= len(before):
            unknown = symbol == vocabulary.unknown_id
            logprob += found[symbol].item() - (np.log(vocabulary.unseen_characters) if unknown else 0)
            if vocabulary.unknown_id is not None:
                found[vocabulary.unknown_id] = -torch.inf
            is_greedy &= int(found.argmax()) == symbol
        last = symbol
        if vocabulary.framing == "lines" and symbol == vocabulary.boundary_id:
            state = network.initial_state(1)
    return Continuation(logprob, is_greedy)


texts = st.text(alphabet="我画 teaz\n€", max_size=12)


@every_reading
@settings(max_examples=20)
@given(pairs=st.lists(st.tuples(texts, texts), max_size=5))
def test_it_is_what_one_symbol_after_another_gives(framing: str, level: str, pairs: list[tuple[str, str]]) -> None:
    lm = MODELS[framing, level]
    expected = [step_by_step(lm, *pair) for pair in pairs]
    found = continuations(lm, *pairs)
    np.testing.assert_allclose([each.logprob for each in found], [each.logprob for each in expected], atol=1e-5)
    assert [each.is_greedy for each in found] == [each.is_greedy for each in expected]


@every_reading
def test_what_the_model_writes_at_temperature_0_is_greedy_and_nothing_else_is(framing: str, level: str) -> None:
    lm = MODELS[framing, level]
    (written,) = lm.sample(1, prompt="the ", length=10, temperature=0, only_new=True)
    assert len(written) == 10
    others = {written[:i] + other + written[i + 1 :] for i in range(10) for other in "tz我€" if other != written[i]}
    first, *rest = continuations(lm, ("the ", written), *(("the ", other) for other in others))
    assert first.is_greedy
    assert not any(each.is_greedy for each in rest)


def test_n_grams_have_their_say_in_what_is_greedy(tiny_mixture_run: Path) -> None:
    lm = charlm.load(tiny_mixture_run)
    assert any(isinstance(expert, NgramModel) for expert in lm.mixture.experts)
    (written,) = lm.sample(1, prompt="the ", length=30, temperature=0, only_new=True)
    found, other = continuations(lm, ("the ", written), ("the ", written[:-1] + "ß"))
    assert (found.is_greedy, other.is_greedy) == (True, False)
    (score,) = lm.score([written], context="the ", eos=False)
    assert found.logprob == pytest.approx(score.logprob, abs=1e-4)


@every_reading
@pytest.mark.parametrize("context", ["", "t", "the cat ", "我在", "un€known"])
def test_it_is_a_sentence_after_a_context_whose_end_does_not_count(framing: str, level: str, context: str) -> None:
    lm = MODELS[framing, level]
    sentences = ["t", "at the mat", "画€画"]
    expected = [score.logprob for score in lm.score(sentences, context=context, eos=False)]
    found = continuations(lm, *((context, sentence) for sentence in sentences))
    np.testing.assert_allclose([each.logprob for each in found], expected, atol=1e-5)


@every_reading
def test_with_a_newline_it_is_a_sentence_and_its_end(framing: str, level: str) -> None:
    lm = MODELS[framing, level]
    (score,) = lm.score(["the cat"])
    (found,) = continuations(lm, ("", "the cat\n"))
    assert found.logprob == pytest.approx(score.logprob, abs=1e-5)


@pytest.mark.parametrize("level", ["character", "byte"])
def test_a_model_of_lines_forgets_the_lines_before_and_a_model_of_a_stream_does_not(level: str) -> None:
    pairs = ("zz top\nthe ", "cat"), ("the ", "cat")
    one, other = continuations(MODELS["lines", level], *pairs)
    assert one.logprob == pytest.approx(other.logprob, abs=1e-9)
    one, other = continuations(MODELS["stream", level], *pairs)
    assert abs(one.logprob - other.logprob) > 0.01


def test_lines_of_a_continuation_add_up() -> None:
    lm = MODELS["lines", "character"]
    whole, first, second = continuations(lm, ("the ", "cat\nsat"), ("the ", "cat\n"), ("", "sat"))
    assert whole.logprob == pytest.approx(first.logprob + second.logprob, abs=1e-9)


@every_reading
def test_nothing_is_certain_and_greedy(framing: str, level: str) -> None:
    lm = MODELS[framing, level]
    assert continuations(lm, ("the ", ""), ("", "")) == [(0, True), (0, True)]
    assert continuations(lm) == []


def test_texts_are_normalised_as_in_training() -> None:
    vocabulary = Vocabulary.build("the cat\n", lowercase=True)
    lm = make_language_model(make_mixture(len(vocabulary)), vocabulary)
    one, other = continuations(lm, ("THE", " Cat"), ("the", " cat"))
    assert one == other


def test_an_unknown_character_is_never_greedy_and_never_in_the_way_of_one_that_is() -> None:
    lm = make_model("stream", "character")
    lm.mixture.network.trained.output.bias.data[lm.vocabulary.unknown_id] += 100
    (written,) = lm.sample(1, prompt="the ", length=5, temperature=0, only_new=True)
    found = continuations(lm, ("the ", written), ("the ", "€"))
    assert [each.is_greedy for each in found] == [True, False]


@pytest.mark.parametrize("level", ["character", "byte"])
def test_a_continuation_of_lines_is_greedy_only_if_each_is(level: str) -> None:
    lm = MODELS["lines", level]
    (begun,) = lm.sample(1, length=10, temperature=0, only_new=True)
    found = continuations(lm, ("", begun), ("z\n", begun), ("", "z\n" + begun), ("", "z\n"))
    assert [each.is_greedy for each in found] == [True, True, False, False]
