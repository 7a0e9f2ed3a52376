"""What stands before a sentence, what of it counts, and what unknown characters mean."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

from charlm.errors import InputError
from charlm.language_model import LanguageModel
from charlm.scoring.conditions import Conditions
from charlm.scoring.log_probs import sequence_log_probs
from charlm.scoring.measures import Score
from charlm.scoring.sentences import begin
from charlm.text.vocabulary import Vocabulary
from models import make_language_model, make_mixture, record_reads

TRAINED_ON = "我在画画。\nthe cat sat on the mat\nzz top\n"
every_reading = pytest.mark.parametrize(
    ("framing", "level"), list(itertools.product(["stream", "lines"], ["character", "byte"]))
)


def model_of(vocabulary: Vocabulary) -> LanguageModel:
    shape = {"cell": "lstm", "hidden_size": 6, "num_layers": 2}
    mixture = make_mixture(len(vocabulary), seed=5, dtype=torch.float64, **shape)
    mixture.network.trained.output.weight.data.mul_(4)
    return make_language_model(mixture, vocabulary)


def model(framing: str = "stream", level: str = "character") -> LanguageModel:
    return model_of(Vocabulary.build(TRAINED_ON, framing=framing, level=level))


def scores(lm: LanguageModel, *texts: str, **conditions: Any) -> list[Score]:
    return lm.score(texts, Conditions(**conditions))


def stepwise(lm: LanguageModel, symbols: list[int]) -> list[float]:
    """The log-probability of each symbol but the first, one step at a time from the zero state."""
    network = lm.mixture.network.trained
    state, result = network.initial_state(1), []
    for symbol, following in itertools.pairwise(symbols):
        with torch.no_grad():
            logits, state = network(torch.tensor([[symbol]]), state)
        result.append(torch.log_softmax(logits[0, 0], 0)[following].item())
    return result


def log_probs(score: Score) -> list[float]:
    return [char.logprob for char in score.chars]


# ------------------------------------------------------------------------------------------- what stands before


@every_reading
@pytest.mark.parametrize("context", ["t", "the cat ", "我在"])
def test_a_sentence_after_its_context_is_the_end_of_both_together(framing: str, level: str, context: str) -> None:
    lm = model(framing, level)
    texts = ["sat on", "画。", "", "the mat"]
    whole = scores(lm, *(context + text for text in texts))
    for text, after, both in zip(texts, scores(lm, *texts, context=context), whole, strict=True):
        assert (after.text, after.characters, after.n) == (text, len(text), len(text) + 1)
        assert log_probs(after) == pytest.approx(log_probs(both)[len(context) :], abs=1e-9)
        assert after.logprob == pytest.approx(sum(log_probs(after)), abs=1e-9)


def test_a_long_context_is_read_in_windows_with_the_state_carried() -> None:
    lm = model()
    context = "the cat sat on the mat\n" * 3
    (whole,) = scores(lm, "zz top", context=context)
    shapes = record_reads(lm.mixture.network)
    beginning = begin(lm.mixture, lm.vocabulary, Conditions(context=context), symbols=16)
    assert beginning is not None
    ((_, windowed),) = sequence_log_probs(lm.mixture, [lm.vocabulary.encode("zz top\n")], beginning)
    assert [steps for steps, _ in shapes] == [
        16,
        16,
        16,
        16,
        5,
        7,
    ]  # the boundary and all but the last of 69, then the sentence
    assert windowed == pytest.approx(log_probs(whole), abs=1e-12)


@pytest.mark.parametrize("unknown", ["spread", "error"])
def test_a_context_is_read_once_however_many_batches_follow_it(unknown: str) -> None:
    lm = model()
    context, texts = "the cat sat on the mat\n" * 3, ["zz top", "the mat", "", "a cat"]
    expected = scores(lm, *texts, context=context)
    shapes = record_reads(lm.mixture.network)
    batches = lm.score_batches(([text] for text in texts), context=context, unknown=unknown)
    for (one,), same in zip(batches, expected, strict=True):
        assert log_probs(one) == pytest.approx(log_probs(same), abs=1e-12)
    assert [steps for steps, _ in shapes] == [69, 7, 8, 1, 6]


def test_a_context_is_normalised_like_a_sentence() -> None:
    lm = model_of(Vocabulary.build("the café\n", framing="stream", normalization="nfc", lowercase=True))
    (composed,) = scores(lm, " a", context="café")
    (decomposed,) = scores(lm, " a", context="CAFE\u0301")
    assert composed == decomposed


def test_a_line_before_may_be_context_in_a_stream_and_is_refused_by_a_model_of_lines() -> None:
    lm = model("stream")
    (after,) = scores(lm, "zz top", context="the mat\n")
    (alone,) = scores(lm, "zz top")
    assert after.logprob != pytest.approx(alone.logprob)
    with pytest.raises(InputError, match="newline"):
        scores(model("lines"), "zz top", context="the mat\n")


@every_reading
def test_without_a_boundary_the_first_symbol_has_its_frequency_and_the_rest_follow_it(
    framing: str, level: str
) -> None:
    lm = model(framing, level)
    texts = ["the cat", "t", "画在", ""]
    for text, score in zip(texts, scores(lm, *texts, bos=False), strict=True):
        symbols = [*lm.vocabulary.encode(text + "\n").tolist()]
        count = lm.vocabulary.counts[symbols[0]]
        first = math.log((count + 1) / (sum(lm.vocabulary.counts) + len(lm.vocabulary)))
        assert score.logprob == pytest.approx(first + sum(stepwise(lm, symbols)), abs=1e-9)


def test_a_context_without_a_boundary_opens_the_text_itself() -> None:
    lm = model()
    (score,) = scores(lm, "cat", context="the ", bos=False, eos=False)
    expected = stepwise(lm, lm.vocabulary.encode("the cat").tolist())[3:]
    assert log_probs(score) == pytest.approx(expected, abs=1e-9)


@every_reading
def test_without_its_end_a_sentence_is_its_characters_alone(framing: str, level: str) -> None:
    lm = model(framing, level)
    for text in ("the cat", "我在", ""):
        (whole,) = scores(lm, text)
        (open_,) = scores(lm, text, eos=False)
        assert open_.n == open_.characters == len(text)
        assert log_probs(open_) == pytest.approx(log_probs(whole)[:-1], abs=1e-9)
        assert open_.mean_logprob == pytest.approx(open_.logprob / len(text) if text else 0.0)


@pytest.mark.parametrize("framing", ["stream", "lines"])
def test_prefix_continuation_and_end_multiply_to_the_whole(framing: str) -> None:
    lm = model(framing)
    (whole,) = scores(lm, "the cat sat")
    (prefix,) = scores(lm, "the cat", eos=False)
    (rest,) = scores(lm, " sat", context="the cat")
    assert prefix.logprob + rest.logprob == pytest.approx(whole.logprob, abs=1e-9)


# ------------------------------------------------------------------------------------------- unknown characters


def test_the_shares_of_all_characters_of_unicode_add_up_to_unk() -> None:
    lm = model()
    (score,) = scores(lm, "é", eos=False)
    unk = stepwise(lm, [lm.vocabulary.boundary_id, 0])[0]
    never_seen = 0x110000 - len(set(TRAINED_ON))
    assert lm.vocabulary.unseen_characters == never_seen
    assert math.log(never_seen) + score.logprob == pytest.approx(unk, abs=1e-9)


def test_a_skipped_character_is_read_but_counts_nothing() -> None:
    lm = model()
    spread, skip = (scores(lm, "the é cat", unknown=u)[0] for u in ("spread", "skip"))
    known = [p for p, char in zip(log_probs(spread), spread.chars, strict=True) if not char.unknown]
    assert [p for p, char in zip(log_probs(skip), skip.chars, strict=True) if not char.unknown] == known
    assert (skip.characters, skip.unknown, skip.n) == (9, 1, 9)  # eight characters and the end
    assert skip.logprob == pytest.approx(sum(known))
    assert skip.mean_logprob == pytest.approx(sum(known) / 9)
    unigram = sum(lm.vocabulary.unigram_log_probs[lm.vocabulary.encode("the  cat\n")])
    assert skip.slor == pytest.approx((sum(known) - unigram) / 9)


def test_a_sentence_of_skipped_characters_alone_has_no_average() -> None:
    (score,) = scores(model(), "éé", unknown="skip", eos=False)
    assert (score.n, score.logprob, score.mean_logprob, score.slor, score.perplexity) == (0, 0, 0, 0, 1)


def test_slor_is_the_same_whether_unk_is_one_character_or_shared_out() -> None:
    lm = model()
    (score,) = scores(lm, "é")
    symbols = [lm.vocabulary.boundary_id, 0, lm.vocabulary.boundary_id]
    unigram = lm.vocabulary.unigram_log_probs[symbols[1:]].sum()
    assert score.slor == pytest.approx((sum(stepwise(lm, symbols)) - unigram) / 2)


def test_unknown_characters_can_be_refused_in_sentence_and_context() -> None:
    lm = model()
    for sentence, context in (("the é cät", ""), ("cat", "the é ä")):
        with pytest.raises(InputError, match=r"'é' \(U\+00E9\), 'ä' \(U\+00E4\)"):
            scores(lm, "the cat", sentence, context=context, unknown="error")
    assert scores(lm, "the cat", unknown="error") == scores(lm, "the cat")


@pytest.mark.parametrize("unknown", ["spread", "skip", "error"])
def test_a_model_of_bytes_knows_every_character(unknown: str) -> None:
    lm = model(level="byte")
    (score,) = scores(lm, "é☃", unknown=unknown)
    assert (score.unknown, score.n) == (0, 3)
    expected = stepwise(lm, [10, *"é☃\n".encode()])
    assert score.logprob == pytest.approx(sum(expected), abs=1e-9)
    assert lm.vocabulary.unseen_characters == 0


def test_another_treatment_of_unknown_characters_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match=r"'drop'.*spread, skip, error"):
        Conditions(unknown="drop")


def test_what_stands_beside_a_sentence_does_not_change_it_under_any_condition() -> None:
    lm = model()
    texts = ["the cat", "zz", "é", "", "sat on the mat"]
    for conditions in ({"context": "the "}, {"bos": False}, {"eos": False}, {"unknown": "skip"}):
        together = scores(lm, *texts, **conditions)
        alone = [scores(lm, text, **conditions)[0] for text in texts]
        assert np.allclose([s.logprob for s in together], [s.logprob for s in alone], atol=1e-9)
