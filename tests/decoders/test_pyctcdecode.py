"""A model in pyctcdecode, the real package: natural logarithms, half words in context, beams priced together."""

import math
from pathlib import Path

import numpy as np
import pytest

import charlm
from charlm.language_model import LanguageModel
from ctc import noisy_frames
from models import record_predictions

pytest.importorskip("pyctcdecode", reason="pyctcdecode is not installed")

from pyctcdecode.alphabet import Alphabet
from pyctcdecode.decoder import BeamSearchDecoderCTC

from charlm.decoders.pyctcdecode import BeamSearchDecoder, Scorer, build_ctcdecoder
from charlm.errors import InputError

SENTENCE = "a miller has the lamp."
LABELS = [*sorted({*SENTENCE, "b", "o", "k", "v", "r", "w", "n"}), ""]


@pytest.fixture(scope="module")
def lm(tiny_mixture_run: Path) -> LanguageModel:
    return charlm.load(tiny_mixture_run)


def total(lm: LanguageModel, text: str, *, eos: bool = True, context: str = "", bos: bool = True) -> float:
    return lm.score([text], eos=eos, context=context, bos=bos)[0].logprob


def test_words_and_the_end_add_up_to_the_sentence(lm: LanguageModel) -> None:
    scorer = Scorer(lm, alpha=0.7, beta=0.3)
    state, found = scorer.get_start_state(), 0.0
    words = SENTENCE.split()
    for number, word in enumerate(words):
        score, state = scorer.score(state, word, is_last_word=number == len(words) - 1)
        found += score
    assert state.text == SENTENCE
    assert found == pytest.approx(0.7 * total(lm, SENTENCE) + 0.3 * len(SENTENCE), abs=1e-4)


def test_what_ends_with_a_space_has_no_word_more(lm: LanguageModel) -> None:
    scorer = Scorer(lm, alpha=1.0, beta=1.0)
    state = lm.start("the boat")
    assert scorer.score(state, "", is_last_word=True) == (pytest.approx(lm.end_log_prob(state)), state)


def test_half_a_word_alone_is_at_the_beginning_or_after_a_space(lm: LanguageModel) -> None:
    first = math.exp(total(lm, "mil", eos=False))
    later = math.exp(total(lm, "mil", eos=False, context=" ", bos=False))
    expected = 0.7 * math.log((first + later) / 2) + 0.3 * 3
    assert Scorer(lm, alpha=0.7, beta=0.3).score_partial_token("mil") == pytest.approx(expected, abs=1e-5)


def test_half_a_word_is_priced_after_all_that_stands_before_it(lm: LanguageModel) -> None:
    decoder = build_ctcdecoder(LABELS, lm, alpha=0.7, beta=0.3)
    scorer = decoder._language_model
    cached = {("", False): (0.0, 0.0, scorer.get_start_state())}
    from pyctcdecode.language_model import HotwordScorer

    beams = [("", "a", "", "a", [], (-1, -1), 0.0), ("", "the", "bo", "o", [], (-1, -1), 0.0)]
    plain = HotwordScorer.build_scorer([])
    found = decoder._get_lm_beams(beams, plain, cached, {})
    for beam, text in zip(found, ["a", "the bo"], strict=True):
        assert beam[-1] == pytest.approx(0.7 * total(lm, text, eos=False) + 0.3 * len(text), abs=1e-4)
    (hot,) = decoder._get_lm_beams(beams[1:], HotwordScorer.build_scorer(["book"], weight=9.0), cached, {})
    assert hot[-1] == pytest.approx(0.7 * total(lm, "the", eos=False) + 0.3 * 3 + 9.0 * 2 / 4, abs=1e-4)


@pytest.mark.parametrize("context", [True, False])
def test_a_decoder_that_hears_wrongly_is_corrected(lm: LanguageModel, context: bool) -> None:
    frames = noisy_frames(SENTENCE, LABELS, len(LABELS) - 1, {3: "o", 9: "b", 15: "w", 18: "k"})
    alone = BeamSearchDecoderCTC(Alphabet(LABELS, False)).decode(frames)
    assert alone != SENTENCE
    kind = BeamSearchDecoder if context else BeamSearchDecoderCTC
    decoder = kind(Alphabet(LABELS, False), Scorer(lm, alpha=0.7, beta=0.5))
    assert decoder.decode(frames, token_min_logp=-12) == SENTENCE
    (best, *_) = decoder.decode_beams(frames, token_min_logp=-12)
    assert [word for word, _ in best[2]] == SENTENCE.split()
    assert best[4] == pytest.approx(best[3] + 0.7 * total(lm, SENTENCE) + 0.5 * len(SENTENCE), abs=1e-3)
    assert decoder.decode_batch(None, [frames]) == [decoder.decode(frames)]


def test_all_beams_of_a_frame_go_through_the_network_together(lm: LanguageModel) -> None:
    decoder = build_ctcdecoder(LABELS, lm)
    calls = record_predictions(lm.mixture.network)
    frames = noisy_frames(SENTENCE[:5], LABELS, len(LABELS) - 1, {})
    decoder.decode(frames, beam_width=30, token_min_logp=-12, beam_prune_logp=-100)
    assert len(calls) <= 3 * len(frames)
    assert max(calls)[0] > 10


def test_its_parameters_are_reset_by_the_decoder(lm: LanguageModel) -> None:
    decoder = build_ctcdecoder(LABELS, lm)
    decoder.reset_params(alpha=0.9, beta=0.1, lm_score_boundary=False)
    scorer = decoder._language_model
    assert (scorer.alpha, scorer.beta, scorer.score_boundary) == (0.9, 0.1, False)
    state = scorer.get_start_state()
    assert state == lm.start(bos=False)
    assert scorer.score(state, "the", True)[0] == pytest.approx(0.9 * total(lm, "the", eos=False, bos=False) + 0.3)
    with pytest.raises(InputError, match="unk_score_offset"):
        decoder.reset_params(unk_score_offset=-3.0)


def test_prices_do_not_depend_on_what_was_decoded_before(lm: LanguageModel) -> None:
    frames = noisy_frames(SENTENCE, LABELS, len(LABELS) - 1, {3: "o"})
    decoder = build_ctcdecoder(LABELS, lm)
    first = decoder.decode_beams(frames)[0][4]
    decoder.decode(np.roll(frames, 5, 0))
    assert decoder.decode_beams(frames)[0][4] == pytest.approx(first)
