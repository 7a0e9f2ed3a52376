"""Verbatim runs: what is found is there, is the longest, and is the same as a slow search finds."""

from typing import Any

import numpy as np
import pytest

from charlm.analysis import overlap
from charlm.analysis.overlap import cut_lines, lines_of_like_length, measure_overlap
from charlm.text.corpus import Split
from charlm.text.vocabulary import Vocabulary
from models import make_language_model, make_mixture


def test_lines_are_not_blank_and_long_ones_are_cut() -> None:
    assert cut_lines("ab\n\n  \n\t cd \nef\n" + "x" * 250) == ["ab", "cd", "ef", "x" * 120, "x" * 120, "x" * 10]


def test_held_out_lines_are_as_long_as_the_sampled_ones() -> None:
    others = ["abc", "de", "fg", "hijkl"]
    assert lines_of_like_length(["xx", "xxxxx", "xx"], others, seed=0)[0][1] == "hijkl"
    assert set(lines_of_like_length(["xx", "xxxxx", "xx"], others, seed=0)[0]) == {"de", "fg", "hijkl"}
    assert lines_of_like_length(["x" * 4], others, seed=0) == (["hijk"], 1)
    assert lines_of_like_length(["x" * 9], others, seed=0) == (["hijkl"], 1)
    found, different = lines_of_like_length(["x"] * 9, others, seed=0)
    assert sorted(found.count(char) for char in "adfh") == [2, 2, 2, 3]
    assert different == 4
    assert lines_of_like_length(["x"], [], 0) == ([], 0)


@pytest.mark.parametrize("framing", ["stream", "lines"])
@pytest.mark.parametrize("level", ["character", "byte"])
@pytest.mark.parametrize("text", ["the boat is on the river\n", "船在河上，人在船中。\n"], ids=["words", "chinese"])
def test_what_is_written_is_searched_in_the_training_text(framing: Any, level: Any, text: str) -> None:
    training = text * 40
    vocabulary = Vocabulary.build(training, framing=framing, level=level)
    lm = make_language_model(make_mixture(len(vocabulary), hidden_size=4), vocabulary)
    held_out = Split.of(text * 20, vocabulary)
    report = measure_overlap(lm, Split.of(training, vocabulary), held_out, count=30)
    assert 0 < report.sampled_lines <= 30
    assert report.held_out_lines <= 20
    assert len(report.lengths) == len(report.held_out_lengths) == report.sampled_lines
    assert (np.diff(report.lengths) >= 0).all()
    assert report.held_out_lengths.max() <= len(text) - 1  # all of it stands in the training text
    assert report.held_out_lengths.min() >= 1
    assert [length for _, length, _ in report.longest] == sorted(
        (length for _, length, _ in report.longest), reverse=True
    )
    for run, length, around in report.longest:
        assert len(run) == length
        assert run in around
        assert around in training
    assert (report.words_known is None) == ("船" in text)
    if report.words_known is not None:
        assert report.words_known < 0.5
        assert report.held_out_words_known == 1
    assert report.searched == report.training == len(training)
    again = measure_overlap(lm, Split.of(training, vocabulary), held_out, count=30)
    assert again.longest == report.longest


def test_of_a_long_text_the_beginning_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "SEARCHED_CHARACTERS", 10)
    vocabulary = Vocabulary.build("abcdefgh\n" * 9)
    lm = make_language_model(make_mixture(len(vocabulary), hidden_size=4), vocabulary)
    split = Split.of("abcdefgh\n" * 9, vocabulary)
    report = measure_overlap(lm, split, Split.of("", vocabulary), count=5)
    assert (report.searched, report.training) == (10, 81)
    assert (report.held_out_lines, len(report.held_out_lengths), report.held_out_words_known) == (0, 0, None)


@pytest.mark.parametrize("framing", ["stream", "lines"])
def test_what_is_written_are_the_samples_of_the_model(framing: Any) -> None:
    text = "the boat is on the river\n" * 20
    vocabulary = Vocabulary.build(text, framing=framing)
    lm = make_language_model(make_mixture(len(vocabulary), hidden_size=4), vocabulary)
    written = overlap._write(lm, text, 70, seed=3)  # more than a batch
    samples = list(lm.sample(70, seed=3, length=149 if framing == "stream" else 120, temperature=1))
    assert len(written) == len(samples)
    for own, sample in zip(written, samples, strict=True):
        assert sample.startswith(own) if framing == "stream" else own == sample
