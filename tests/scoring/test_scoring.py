"""Scores: what they are, that they add up, and that nothing beside a sentence changes them."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from charlm.language_model import LanguageModel
from charlm.scoring.conditions import Conditions
from charlm.scoring.evaluation import evaluate
from charlm.scoring.log_probs import Beginning, sequence_log_probs
from charlm.scoring.measures import Score
from charlm.scoring.sentences import begin
from charlm.text.corpus import Split
from charlm.text.vocabulary import Ids, Vocabulary
from models import CELLS, make_language_model, make_mixture, record_predictions, record_reads

TRAINED_ON = "我在画画。\n他画了一只猫，没画老虎。\nthe cat sat on the mat\nzz top\n"
UNSEEN = math.log(0x110000 - len(set(TRAINED_ON)))  # <unk> stands for each of these
KNOWN = sorted(set(TRAINED_ON) - {"\n"})
FRAMINGS = ["stream", "lines"]
LEVELS = ["character", "byte"]

few = settings(max_examples=20, deadline=None)
known_texts = st.text(st.sampled_from(KNOWN), max_size=12)
any_texts = st.text(st.one_of(st.sampled_from(KNOWN), st.characters(exclude_categories=["Cs"])), max_size=12)
every_reading = pytest.mark.parametrize(("framing", "level"), list(itertools.product(FRAMINGS, LEVELS)))


def vocabulary_of(framing: str = "stream", level: str = "character", text: str = TRAINED_ON) -> Vocabulary:
    return Vocabulary.build(text, framing=framing, level=level)


def model_of(
    vocabulary: Vocabulary, cell: str = "gru", dtype: torch.dtype = torch.float64, **shape: Any
) -> LanguageModel:
    """A model with lively preferences, so that no two contexts predict the same."""
    mixture = make_mixture(len(vocabulary), seed=3, dtype=dtype, cell=cell, hidden_size=6, **shape)
    mixture.network.trained.output.weight.data.mul_(4)
    return make_language_model(mixture, vocabulary)


def naive(lm: LanguageModel, ids: list[int]) -> list[float]:
    """Log-probabilities by the definition: one symbol in, one distribution out, from the zero state."""
    network = lm.mixture.network.trained
    state, symbol, result = network.initial_state(1), lm.vocabulary.boundary_id, []
    for following in ids:
        with torch.no_grad():
            logits, state = network(torch.tensor([[symbol]]), state)
        result.append(math.log(torch.softmax(logits[0, 0], 0)[following].item()))
        symbol = following
    return result


def score(lm: LanguageModel, text: str) -> Score:
    (result,) = lm.score([text])
    return result


@pytest.mark.parametrize("cell", CELLS)
@every_reading
@few
@given(text=any_texts)
def test_a_score_is_what_the_model_says_step_by_step(framing: str, level: str, cell: str, text: str) -> None:
    vocabulary = vocabulary_of(framing, level)
    lm = model_of(vocabulary, cell, num_layers=2)
    if level == "byte":
        ids = [*text.encode(), ord("\n")]
    else:
        index = {symbol: i for i, symbol in enumerate(vocabulary.symbols) if symbol != "\n" or framing == "stream"}
        ids = [*(index.get(char, 0) for char in text), vocabulary.symbols.index("\n")]
    expected = [
        p - (UNSEEN if level == "character" and i == 0 else 0) for p, i in zip(naive(lm, ids), ids, strict=True)
    ]

    result = score(lm, text)

    assert result.text == text
    assert result.characters == len(text)
    assert result.logprob == pytest.approx(sum(expected), abs=1e-9)
    assert result.logprob == pytest.approx(sum(char.logprob for char in result.chars), abs=1e-9)
    sizes = [len(char.encode()) if level == "byte" else 1 for char in text] + [1]
    per_char = [
        sum(expected[end - size : end]) for end, size in zip(itertools.accumulate(sizes), sizes, strict=True)
    ]
    assert [char.char for char in result.chars] == [*text, "</s>"]
    assert [char.logprob for char in result.chars] == pytest.approx(per_char, abs=1e-9)


@few
@given(text=any_texts)
def test_mean_perplexity_and_bits_divide_by_the_characters_and_the_end(text: str) -> None:
    vocabulary = vocabulary_of()
    result = score(model_of(vocabulary), text)
    n = len(text) + 1
    assert result.mean_logprob == pytest.approx(result.logprob / n)
    assert result.perplexity == pytest.approx(math.exp(-result.logprob / n))
    assert result.bits_per_character == pytest.approx(-result.logprob / n / math.log(2))


@pytest.mark.parametrize("level", LEVELS)
@few
@given(text=any_texts)
def test_penlp_and_slor_follow_their_papers(level: str, text: str) -> None:
    vocabulary = vocabulary_of(level=level)
    result = score(model_of(vocabulary), text)
    n = len(text) + 1
    assert result.penlp == pytest.approx(result.logprob / math.pow((5 + n) / (5 + 1), 0.8))

    counts: Counter[object] = Counter(TRAINED_ON.encode() if level == "byte" else TRAINED_ON)
    symbols = list((text + "\n").encode() if level == "byte" else text + "\n")
    V, N = (256 if level == "byte" else len(counts) + 1), sum(counts.values())
    unseen = sum(symbol not in counts for symbol in symbols) if level == "character" else 0
    unigram = sum(math.log((counts[symbol] + 1) / (N + V)) for symbol in symbols) - unseen * UNSEEN
    assert result.slor == pytest.approx((result.logprob - unigram) / n)


@few
@given(text=known_texts.filter(len), beside=st.lists(any_texts, max_size=70), place=st.integers(0, 70))
@example(text="我在画画。", beside=["画" * 300] * 65, place=3)
def test_what_is_scored_beside_a_sentence_does_not_change_its_score(
    text: str, beside: list[str], place: int
) -> None:
    vocabulary = vocabulary_of()
    lm = model_of(vocabulary, "lstm", torch.float32)  # rounding is the only difference there may be
    alone = score(lm, text)
    together = lm.score([*beside[:place], text, *beside[place:]])[min(place, len(beside))]

    assert together.text == text
    assert abs(together.logprob - alone.logprob) < 1e-5 * (len(text) + 1)
    for a, b in zip(together.chars, alone.chars, strict=True):
        assert abs(a.logprob - b.logprob) < 1e-5


@few
@given(texts=st.lists(any_texts, max_size=20))
def test_scores_come_in_the_order_of_their_sentences(texts: list[str]) -> None:
    vocabulary = vocabulary_of("lines")
    lm = model_of(vocabulary)
    results = lm.score(texts)
    assert [result.text for result in results] == texts
    for result in results:
        assert result.logprob == pytest.approx(score(lm, result.text).logprob, abs=1e-9)


def test_an_unknown_character_is_counted_marked_and_has_an_equal_share_of_unk() -> None:
    vocabulary = vocabulary_of()
    lm = model_of(vocabulary)
    result = score(lm, "我是画家是")

    assert (result.characters, result.unknown) == (5, 3)
    assert [char.char for char in result.chars if char.unknown] == ["是", "家", "是"]
    assert vocabulary.unknown_in("我是画家是") == ["是", "家"]
    ids = [0 if char in "是家" else vocabulary.symbols.index(char) for char in "我是画家是\n"]
    expected = [p - UNSEEN * (i == 0) for p, i in zip(naive(lm, ids), ids, strict=True)]
    assert [char.logprob for char in result.chars] == pytest.approx(expected, abs=1e-9)


def test_a_newline_inside_a_sentence_is_unknown_to_a_model_of_lines_and_ordinary_to_one_of_a_stream() -> None:
    for framing, unknown in (("lines", 1), ("stream", 0)):
        vocabulary = vocabulary_of(framing)
        assert score(model_of(vocabulary), "cat\nsat").unknown == unknown


@every_reading
@pytest.mark.parametrize(
    "text", ["\ud800", "a\udcffz", "\udce6\udc88\udc91", "\0", "\U0010ffff", "e\u0301", "👩‍👧"]
)
def test_no_character_is_too_strange_to_score(framing: str, level: str, text: str) -> None:
    vocabulary = vocabulary_of(framing, level)
    result = score(model_of(vocabulary), text)
    assert [char.char for char in result.chars] == [*text, "</s>"]
    assert math.isfinite(result.logprob)
    assert result.unknown == (0 if level == "byte" else sum(char not in TRAINED_ON for char in text))


@every_reading
def test_an_empty_sentence_is_its_end_alone(framing: str, level: str) -> None:
    vocabulary = vocabulary_of(framing, level)
    lm = model_of(vocabulary)
    result = score(lm, "")
    (end,) = naive(lm, [vocabulary.boundary_id])
    assert result.characters == result.unknown == 0
    assert result.logprob == result.mean_logprob == pytest.approx(end)
    assert [char.char for char in result.chars] == ["</s>"]


def test_a_stream_without_newlines_has_no_end_of_sentence() -> None:
    vocabulary = vocabulary_of(text="the cat sat on the mat ")
    lm = model_of(vocabulary)
    result = score(lm, "sat")

    expected = naive(lm, [vocabulary.symbols.index(char) for char in "sat"])  # after a space
    assert vocabulary.boundary == " "
    assert [char.char for char in result.chars] == ["s", "a", "t"]
    assert result.mean_logprob == pytest.approx(sum(expected) / 3)
    empty = score(lm, "")
    assert (empty.logprob, empty.mean_logprob, empty.slor, empty.perplexity, empty.chars) == (0, 0, 0, 1, ())


def test_a_sentence_is_normalised_as_the_corpus_was() -> None:
    vocabulary = Vocabulary.build("café\n", framing="stream", normalization="nfc", lowercase=True)
    lm = model_of(vocabulary)
    composed, decomposed = (score(lm, text) for text in ("café", "CAFE\u0301"))
    assert decomposed.text == "CAFE\u0301"
    assert (decomposed.characters, decomposed.unknown) == (4, 0)
    assert decomposed.logprob == pytest.approx(composed.logprob, abs=1e-9)
    assert "".join(char.char for char in decomposed.chars[:-1]) == "café"


def sentences_of(vocabulary: Vocabulary, texts: list[str]) -> list[Ids]:
    """What is scored of sentences: their symbols and their ends."""
    return [vocabulary.encode(text + "\n") for text in texts]


def test_a_very_long_sentence_goes_in_windows_and_scores_as_if_it_were_read_whole() -> None:
    vocabulary = vocabulary_of()
    lm = model_of(vocabulary, "lstm", num_layers=2)
    texts = ["我在画画。" * 40, "the cat " * 9, "", "画"]
    whole = lm.score(texts)
    shapes = record_predictions(lm.mixture.network)

    limit = 7 * len(texts) * len(vocabulary)
    ids = sentences_of(vocabulary, texts)
    in_windows = dict(sequence_log_probs(lm.mixture, ids, Beginning(vocabulary.boundary_id), max_numbers=limit))

    assert len(shapes) == math.ceil(201 / 7)
    assert max(rows * symbols for rows, symbols in shapes) <= limit
    for i, expected in enumerate(whole):
        np.testing.assert_allclose(in_windows[i], [c.logprob for c in expected.chars], rtol=0, atol=1e-9)


def test_a_very_long_sentence_is_not_laid_beside_others() -> None:
    vocabulary = vocabulary_of()
    lm = model_of(vocabulary)
    texts = ["abc"] * 70 + ["c" * 500] + ["我在画画"] * 70
    ids = sentences_of(vocabulary, texts)
    beginning = Beginning(vocabulary.boundary_id)
    whole = dict(sequence_log_probs(lm.mixture, ids, beginning))
    shapes = record_reads(lm.mixture.network)
    bounded = dict(sequence_log_probs(lm.mixture, ids, beginning, max_symbols=501))
    assert max(steps * rows for steps, rows in shapes) == 501
    assert sorted(bounded) == list(range(141))
    for i, log_probs in bounded.items():
        np.testing.assert_allclose(log_probs, whole[i], rtol=0, atol=1e-9)


def test_a_long_context_is_read_piece_by_piece() -> None:
    vocabulary = vocabulary_of()
    lm = model_of(vocabulary)
    context = Conditions(context="我在画画。" * 20)
    (whole,) = lm.score(["abc"], context)
    beginning = begin(lm.mixture, vocabulary, context, symbols=7)
    assert beginning is not None
    ((_, log_probs),) = sequence_log_probs(lm.mixture, sentences_of(vocabulary, ["abc"]), beginning)
    unknown = sum(char.unknown for char in whole.chars)
    assert log_probs.sum() - unknown * UNSEEN == pytest.approx(whole.logprob, abs=1e-9)


@every_reading
@few
@given(text=known_texts.filter(len))
def test_a_score_is_the_sum_that_evaluation_gives_for_that_text(framing: str, level: str, text: str) -> None:
    vocabulary = vocabulary_of(framing, level)
    lm = model_of(vocabulary)
    measured = evaluate(lm.mixture, vocabulary, Split.of(text + "\n", vocabulary))
    result = score(lm, text)
    assert result.logprob == pytest.approx(-measured.nats_per_character * measured.characters, abs=1e-9)
    assert result.mean_logprob == pytest.approx(-measured.nats_per_character, abs=1e-9)
    assert result.perplexity == pytest.approx(measured.perplexity)


def test_sentences_are_read_only_as_they_are_needed() -> None:
    lm = model_of(vocabulary_of())
    taken = []

    def endless() -> Iterator[str]:
        for i in itertools.count():
            taken.append(i)
            yield f"{i:05}"

    scores = lm.score_stream(endless())
    assert taken == []
    first = next(scores)
    batch = len(taken)
    assert 1 < batch <= 1024
    rest = [result.text for result in itertools.islice(scores, batch - 1)]
    assert len(taken) == batch
    assert [next(scores).text, first.text, rest[0]] == [f"{batch:05}", "00000", "00001"]
    assert len(taken) == 2 * batch


def test_dropout_is_never_applied_and_the_mode_of_the_network_is_left() -> None:
    vocabulary = vocabulary_of()
    lm = model_of(vocabulary, num_layers=2, dropout=0.5, recurrent_dropout=0.5)
    calm = score(model_of(vocabulary, num_layers=2), "我在画画。")
    assert score(lm, "我在画画。") == calm
    lm.mixture.network.trained.train()
    assert score(lm, "我在画画。") == calm
    assert lm.mixture.network.trained.training


def test_a_hopeless_sentence_has_infinite_perplexity_and_finite_bits() -> None:
    vocabulary = vocabulary_of()
    lm = model_of(vocabulary)
    lm.mixture.network.trained.output.bias.data[vocabulary.symbols.index("z")] = -2000.0
    result = score(lm, "zzz")
    assert result.perplexity == math.inf
    assert np.isfinite([result.bits_per_character, result.penlp, result.slor]).all()
    assert result.mean_logprob == pytest.approx(-1500, rel=0.02)
