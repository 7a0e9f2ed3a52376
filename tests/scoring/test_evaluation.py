"""Held-out text: one number, the same however the text is cut for speed."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.experts.mixture import Mixture
from charlm.model.network import CharacterModel
from charlm.scoring import log_probs as scoring
from charlm.scoring.evaluation import Evaluation, evaluate
from charlm.text.corpus import Split
from charlm.text.vocabulary import Vocabulary
from models import CELLS, make_language_model, make_mixture, record_reads

TRAINED_ON = "我在画画。\n他画了一只猫，没画老虎。\nthe cat sat on the mat\n"

few = settings(max_examples=25, deadline=None)
some_lines = st.lists(
    st.text(st.sampled_from("我在画猫the cat是😀"), min_size=1, max_size=9), min_size=1, max_size=9
)


def vocabulary_of(framing: str = "stream", level: str = "character") -> Vocabulary:
    return Vocabulary.build(TRAINED_ON, framing=framing, level=level)


def mixture_of(vocabulary: Vocabulary, cell: str = "gru", **shape: Any) -> Mixture:
    mixture = make_mixture(len(vocabulary), seed=5, dtype=torch.float64, cell=cell, hidden_size=6, **shape)
    mixture.network.trained.output.weight.data.mul_(4)
    return mixture


def measure(vocabulary: Vocabulary, text: str) -> Evaluation:
    return evaluate(mixture_of(vocabulary), vocabulary, Split.of(text, vocabulary))


def single_pass(network: CharacterModel, vocabulary: Vocabulary, ids: np.ndarray) -> np.ndarray:
    """Log-probabilities by the definition: the whole text at once, after one boundary."""
    inputs = torch.from_numpy(np.concatenate(([vocabulary.boundary_id], ids[:-1])))[:, None]
    with torch.no_grad():
        logits, _ = network(inputs, network.initial_state(1))
    log_probs = torch.log_softmax(logits[:, 0], 1)
    return log_probs[torch.arange(len(ids)), torch.from_numpy(ids).long()].numpy()


def text_log_probs(mixture: Mixture, vocabulary: Vocabulary, ids: np.ndarray, **limits: int) -> np.ndarray:
    """The pieces that an evaluation reads, put together again: each symbol must stand in exactly one."""
    result = np.full(len(ids), np.nan)
    for start, piece in scoring.text_log_probs(mixture, vocabulary, ids, **limits):
        assert np.isnan(result[start : start + len(piece)]).all()
        result[start : start + len(piece)] = piece
    assert not np.isnan(result).any()
    return result


def random_ids(vocabulary: Vocabulary, n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(len(vocabulary), size=n).astype(np.int32)


@pytest.mark.parametrize("cell", CELLS)
def test_a_long_stream_in_rows_is_what_a_single_pass_gives(cell: str) -> None:
    vocabulary = vocabulary_of()
    mixture = mixture_of(vocabulary, cell)
    ids = random_ids(vocabulary, 6500)
    shapes = record_reads(mixture.network)

    in_rows = text_log_probs(mixture, vocabulary, ids)

    expected = single_pass(mixture.network.trained, vocabulary, ids)
    assert in_rows.shape == ids.shape
    assert shapes[0][1] == 3  # it was read in rows
    assert abs(in_rows.mean() - expected.mean()) < 1e-3
    assert np.abs(in_rows - expected).max() < 1e-3  # each character, also behind the cuts


@pytest.mark.parametrize("n", [1, 2, 2048, 4095])
def test_a_short_stream_is_read_in_a_single_pass(n: int) -> None:
    vocabulary = vocabulary_of()
    mixture, ids = mixture_of(vocabulary), random_ids(vocabulary, n)
    np.testing.assert_allclose(
        text_log_probs(mixture, vocabulary, ids),
        single_pass(mixture.network.trained, vocabulary, ids),
        rtol=0,
        atol=1e-9,
    )


@few
@given(
    n=st.integers(1, 400),
    rows=st.integers(1, 9),
    warm_up=st.integers(0, 60),
    window=st.integers(1, 99),
    group=st.integers(1, 4),
)
def test_rows_give_each_character_its_own_number_wherever_they_are_cut(
    n: int, rows: int, warm_up: int, window: int, group: int
) -> None:
    vocabulary = vocabulary_of()
    mixture, ids = mixture_of(vocabulary), random_ids(vocabulary, n)
    # Without memory, a character depends on the one before it alone: one symbol of warm-up is then enough.
    mixture.network.trained.recurrent.weight_hh_l0.data.zero_()
    mixture.network.trained.recurrent.bias_ih_l0.data[6:12] = -1000.0  # z = 0
    limits = {"min_row": max(1, n // rows), "max_rows": rows, "warm_up": warm_up + 1, "window": window}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("charlm.experts.network._DIVIDED_BATCH_WEIGHTS", 0)  # so small a network is divided, too
        in_rows = text_log_probs(mixture, vocabulary, ids, **limits, group=group)
    np.testing.assert_allclose(in_rows, single_pass(mixture.network.trained, vocabulary, ids), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("framing", "level"), list(itertools.product(["stream", "lines"], ["character", "byte"])))
@few
@given(lines=some_lines)
def test_bits_bytes_and_perplexity_say_the_same_thing(framing: str, level: str, lines: list[str]) -> None:
    text = "\n".join(lines) + "\n"
    result = measure(vocabulary_of(framing, level), text)

    assert result.characters == len(text)
    assert result.bytes == len(text.encode())
    assert result.bits_per_character == pytest.approx(result.nats_per_character / math.log(2))
    assert result.bits_per_byte * result.bytes == pytest.approx(result.bits_per_character * result.characters)
    assert result.perplexity == pytest.approx(math.exp(result.nats_per_character))
    assert result.perplexity == pytest.approx(2**result.bits_per_character)


@pytest.mark.parametrize("level", ["character", "byte"])
def test_nats_per_character_is_the_mean_over_characters_of_a_single_pass(level: str) -> None:
    vocabulary = vocabulary_of(level=level)
    text = "我在画一只猫\nthe mat 是\n"
    split = Split.of(text, vocabulary)
    result = measure(vocabulary, text)
    total = -single_pass(mixture_of(vocabulary).network.trained, vocabulary, split.ids).sum()
    assert result.nats_per_character == pytest.approx(total / len(text))


@few
@given(lines=some_lines)
def test_unknown_characters_are_counted_and_can_be_left_out(lines: list[str]) -> None:
    vocabulary = vocabulary_of()
    text = "\n".join(lines) + "\n"
    result = measure(vocabulary, text)

    ids = vocabulary.encode(text)
    log_probs = single_pass(mixture_of(vocabulary).network.trained, vocabulary, ids)
    known = [p for char, p in zip(text, log_probs, strict=True) if char not in "是😀"]
    assert result.unknown == text.count("是") + text.count("😀")
    assert result.perplexity_excluding_unknown == pytest.approx(math.exp(-np.mean(known)))
    if result.unknown == 0:
        assert result.perplexity_excluding_unknown == result.perplexity


def test_a_text_of_unknown_characters_only_has_no_perplexity_without_them() -> None:
    result = measure(vocabulary_of(), "是是")
    assert result.unknown == result.characters == 2
    assert math.isnan(result.perplexity_excluding_unknown)
    assert math.isfinite(result.perplexity)


def test_at_byte_level_nothing_is_unknown() -> None:
    result = measure(vocabulary_of(level="byte"), "是😀\n")
    assert result.unknown == 0
    assert result.perplexity_excluding_unknown == result.perplexity


@pytest.mark.parametrize("level", ["character", "byte"])
@few
@given(lines=some_lines, at_once=st.integers(1, 10))
def test_in_lines_framing_the_text_is_the_sum_of_its_lines(level: str, lines: list[str], at_once: int) -> None:
    vocabulary = vocabulary_of("lines", level)
    mixture = mixture_of(vocabulary)
    split = Split.of("\n".join(lines) + "\n", vocabulary)
    result = evaluate(mixture, vocabulary, split)

    scores = make_language_model(mixture, vocabulary).score(lines)
    spread = math.log(vocabulary.unseen_characters) if level == "character" else 0.0  # here <unk> is one symbol
    scored = sum(score.logprob + score.unknown * spread for score in scores)
    assert -result.nats_per_character * result.characters == pytest.approx(scored)
    assert result.unknown == sum(score.unknown for score in scores)
    assert result.characters == sum(score.characters + 1 for score in scores)
    assert text_log_probs(mixture, vocabulary, split.ids, lines=at_once).sum() == pytest.approx(scored)


def test_lines_beyond_those_that_are_scored_together_are_measured_like_the_first() -> None:
    vocabulary = vocabulary_of("lines")
    mixture = mixture_of(vocabulary)
    some, many = (Split.of("画是\nthe\n" * times, vocabulary) for times in (3, 3000))
    expected, found = (evaluate(mixture, vocabulary, split) for split in (some, many))
    assert found.unknown == 1000 * expected.unknown == 3000
    assert found.nats_per_character == pytest.approx(expected.nats_per_character)
    assert found.perplexity_excluding_unknown == pytest.approx(expected.perplexity_excluding_unknown)


def test_the_order_of_lines_matters_to_a_stream_only() -> None:
    lines = ["我在画画。", "the cat", "他画了猫"]
    for framing, matters in (("lines", False), ("stream", True)):
        vocabulary = vocabulary_of(framing)
        there, back = (
            measure(vocabulary, "".join(f"{line}\n" for line in order)).nats_per_character
            for order in (lines, lines[::-1])
        )
        assert (abs(there - back) > 1e-6) is matters


def test_a_perplexity_beyond_all_numbers_is_infinite() -> None:
    vocabulary = vocabulary_of()
    mixture = mixture_of(vocabulary)
    mixture.network.trained.output.bias.data[vocabulary.symbols.index("猫")] = -2000.0
    result = evaluate(mixture, vocabulary, Split.of("猫猫", vocabulary))
    assert result.perplexity == result.perplexity_excluding_unknown == math.inf
    assert result.nats_per_character == pytest.approx(2000, rel=0.02)


def test_evaluating_applies_no_dropout_and_leaves_the_network_as_it_was() -> None:
    vocabulary = vocabulary_of()
    mixture = mixture_of(vocabulary, num_layers=2, dropout=0.5, recurrent_dropout=0.5)
    split = Split.of(TRAINED_ON, vocabulary)
    calm = evaluate(mixture_of(vocabulary, num_layers=2), vocabulary, split)
    before = {name: weight.clone() for name, weight in mixture.network.trained.state_dict().items()}

    assert evaluate(mixture, vocabulary, split) == calm
    mixture.network.trained.train()
    assert evaluate(mixture, vocabulary, split) == calm
    assert mixture.network.trained.training
    assert all(torch.equal(weight, before[name]) for name, weight in mixture.network.trained.state_dict().items())
