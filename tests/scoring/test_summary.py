"""The figures of many sentences: those of one text that holds them all."""

import math
from typing import Any

import pytest
import torch

from charlm.language_model import LanguageModel
from charlm.scoring.evaluation import evaluate
from charlm.scoring.summary import Summary
from charlm.text.corpus import Split
from charlm.text.vocabulary import Vocabulary
from models import make_language_model, make_mixture

TRAINED_ON = "我在画画。\nthe cat sat on the mat\n"
LINES = ["the cat sat", "", "画在 画。", "a mat"]


def model() -> LanguageModel:
    vocabulary = Vocabulary.build(TRAINED_ON, framing="lines")
    mixture = make_mixture(len(vocabulary), seed=5, dtype=torch.float64, cell="gru", hidden_size=6)
    return make_language_model(mixture, vocabulary)


def summary_of(lines: list[str], **conditions: Any) -> Summary:
    summary = Summary()
    for score in model().score(lines, **conditions):
        summary.add(score)
    return summary


def test_the_figures_of_a_text_without_unknown_characters_are_those_of_its_evaluation() -> None:
    lm = model()
    text = "\n".join(LINES) + "\n"
    measured = evaluate(lm.mixture, lm.vocabulary, Split.of(text, lm.vocabulary))
    summary = summary_of(LINES)
    assert summary.perplexity == pytest.approx(measured.perplexity)
    assert summary.perplexity_excluding_unknown == pytest.approx(measured.perplexity_excluding_unknown)
    assert summary.bits_per_character == pytest.approx(measured.bits_per_character)
    assert summary.bits_per_byte == pytest.approx(measured.bits_per_byte)
    assert (summary.n, summary.bytes) == (measured.characters, measured.bytes)


def test_what_is_counted() -> None:
    summary = summary_of([*LINES, "ßat é ß"])
    assert (summary.sentences, summary.ends) == (5, 5)
    assert summary.characters == sum(map(len, LINES)) + 7
    assert summary.words == 3 + 0 + 2 + 2 + 3
    assert summary.unknown == 3
    assert summary.perplexity_per_word == pytest.approx(math.exp(-summary.logprob / (10 + 5)))


def test_unknown_characters_are_kept_with_their_count_and_lines() -> None:
    summary = summary_of(["ß", "the", "ßßé", "é"] + ["ß"] * 20)
    assert {char: where.count for char, where in summary.unknown_characters.items()} == {"ß": 23, "é": 2}
    assert summary.unknown_characters["é"].lines == [3, 4]
    assert summary.unknown_characters["ß"].lines == [1, 3, *range(5, 14)]  # enough to say that there are more


def test_perplexity_without_unknown_characters_leaves_out_their_part_and_their_count() -> None:
    lines = ["the ß cat", "é mat"]
    summary, skipped = summary_of(lines), summary_of(lines, unknown="skip")
    assert summary.perplexity > 2 * summary.perplexity_excluding_unknown
    assert skipped.perplexity == pytest.approx(summary.perplexity_excluding_unknown)
    assert skipped.perplexity_excluding_unknown == pytest.approx(summary.perplexity_excluding_unknown)
    assert (skipped.unknown, skipped.n) == (2, summary.n - 2)
    assert skipped.bytes == summary.bytes - 4  # ß and é are two bytes each


def test_nothing_has_no_average() -> None:
    summary = Summary()
    assert math.isnan(summary.perplexity)
    assert math.isnan(summary.bits_per_byte)
    assert summary_of(["ß"], eos=False, unknown="skip").n == 0
