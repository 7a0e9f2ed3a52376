"""A model in the decoders of flashlight-text, the real package: natural logarithms, characters as tokens."""

from pathlib import Path

import numpy as np
import pytest

import charlm
from charlm.language_model import LanguageModel
from charlm.text.vocabulary import Vocabulary
from ctc import noisy_frames
from models import make_language_model, make_mixture, record_predictions

pytest.importorskip("flashlight", reason="flashlight-text is not installed")

from flashlight.lib.text.decoder import CriterionType, LexiconFreeDecoder, LexiconFreeDecoderOptions

from charlm.decoders.flashlight import CharacterLM

SENTENCE = "a miller has the lamp."
LABELS = ["-", *sorted({*SENTENCE, "b", "o", "k", "v", "r", "w", "n"})]
TOKENS = ["|" if label == " " else label for label in LABELS]


@pytest.fixture(scope="module")
def lm(tiny_mixture_run: Path) -> LanguageModel:
    return charlm.load(tiny_mixture_run)


def decode(lm: CharacterLM, frames: np.ndarray, weight: float) -> tuple[str, float]:
    options = LexiconFreeDecoderOptions(8, 4, 100.0, weight, 0.0, False, CriterionType.CTC)
    decoder = LexiconFreeDecoder(options, lm, TOKENS.index("|"), TOKENS.index("-"), [])
    best = decoder.decode(frames.ctypes.data, *frames.shape)[0]
    chars, last = [], 0
    for token in best.tokens:
        if token not in (last, TOKENS.index("-")):
            chars.append(LABELS[token])
        last = token
    return "".join(chars).strip(), best.score


@pytest.mark.parametrize("nothing", [False, True])
def test_tokens_and_the_end_add_up_to_the_sentence(lm: LanguageModel, nothing: bool) -> None:
    adapter = CharacterLM(lm, TOKENS)
    state, total = adapter.start(nothing), 0.0
    for char in SENTENCE:
        state, nats = adapter.score(state, LABELS.index(char))
        total += nats
    _, end = adapter.finish(state)
    (score,) = lm.score([SENTENCE], bos=not nothing)
    assert total + end == pytest.approx(score.logprob, abs=1e-4)


def test_any_text_can_be_a_token() -> None:
    vocabulary = Vocabulary.build("the cat\n", lowercase=True)
    lm = make_language_model(make_mixture(len(vocabulary), hidden_size=4), vocabulary)
    adapter = CharacterLM(lm, ["the", "_", "C", "é"], space="_")
    state, total = adapter.start(False), 0.0
    for token in (0, 1, 2, 3):
        state, nats = adapter.score(state, token)
        total += nats
    assert total == pytest.approx(lm.score(["the cé"], eos=False)[0].logprob, abs=1e-5)


def test_states_of_the_same_text_are_one(lm: LanguageModel) -> None:
    adapter = CharacterLM(lm, TOKENS)
    start = adapter.start(False)
    one, two = adapter.score(start, 3)[0], adapter.score(start, 3)[0]
    assert one.compare(two) == 0
    assert one.compare(adapter.score(start, 4)[0]) != 0


def test_a_decoder_that_hears_wrongly_is_corrected(lm: LanguageModel) -> None:
    frames = noisy_frames(SENTENCE, LABELS, 0, {3: "o", 9: "b", 15: "w", 18: "k"})
    adapter = CharacterLM(lm, TOKENS)
    assert decode(adapter, frames, 0.0)[0] != SENTENCE
    text, score = decode(adapter, frames, 0.7)
    assert text == SENTENCE
    acoustic = decode(adapter, frames, 0.0)[1]
    assert score < acoustic
    assert decode(adapter, frames, 0.7) == (text, score)


def test_only_what_the_decoder_goes_on_from_is_read(lm: LanguageModel) -> None:
    adapter = CharacterLM(lm, TOKENS)
    start = adapter.start(False)
    calls = record_predictions(lm.mixture.network)
    children = [adapter.score(start, token)[0] for token in range(1, len(TOKENS))]
    adapter.score(children[0], 1)
    adapter.score(children[0], 2)
    assert [rows for rows, _ in calls] == [1, 1]
