"""Figures of what is written: equal to slow versions of themselves, and telling of who quotes and who repeats."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import charlm
from charlm.config import SamplingConfig, load_config
from charlm.language_model import LanguageModel
from charlm.text.corpus import load_corpus
from charlm.writing.figures import cut_stretches, measure_writing, share_distinct, share_repeated
from models import make_language_model, make_mixture
from test_sampling import bigram_model

RULE = SamplingConfig(length=1000)
texts = st.text(st.sampled_from("aab .'\n-_\ufffd"), max_size=30)


def measure(written: list[str], held_out: list[str], training: str, length: int = 1000, lines: bool = False) -> Any:
    return measure_writing(written, held_out, training, RULE.model_copy(update={"length": length}), lines=lines)


# ------------------------------------------------------------------------------------ as a slow version has it


def words_of(text: str, length: int) -> list[str]:
    """Strips each word on both sides, a character at a time."""
    if len(text) >= length:
        text = text[: max((i + 1 for i, char in enumerate(text) if char.isspace()), default=0)]
    found = []
    for word in text.replace("\ufffd", " ").split():
        while word and not word[0].isalnum():
            word = word[1:]
        while word and not word[-1].isalnum():
            word = word[:-1]
        found += [word] * bool(word)
    return found


def share(flags: list[bool]) -> float | None:
    return sum(flags) / len(flags) if flags else None


@given(st.lists(texts, min_size=1, max_size=4), texts, st.integers(5, 40), st.booleans())
def test_figures_are_those_of_a_slow_version(written: list[str], training: str, length: int, lines: bool) -> None:
    training = "a b\n" + training
    found = measure(written, [training], training, length, lines).written
    words = [words_of(text, length) for text in written]
    together = [word for own in words for word in own]
    assert found.words_known == share([word in words_of(training, 10**6) for word in together])
    compared = min(len(together), len(words_of(training, length)))
    assert found.distinct == (len(set(together[:compared])) / compared if compared else None)
    windows = [text[i : i + 30] for text in written for i in range(len(text) - 29)]
    assert found.copied == share([window in training and "\ufffd" not in window for window in windows])
    ngrams = [[own[i : i + 4] for i in range(len(own) - 3)] for own in words]
    assert found.repeated == share([ngram in own[:i] for own in ngrams for i, ngram in enumerate(own)])
    pieces = [{text[i:j] for i in range(len(text)) for j in range(i + 1, len(text) + 1)} | {""} for text in written]
    longest = [max(len(p) for p in own if p in training and "\ufffd" not in p) for own in pieces]
    assert found.longest_copy == max(longest)
    assert found.mean_longest_copy == pytest.approx(sum(longest) / len(longest))
    whole = training.split("\n") if lines else training
    known = [bool(text) and text in whole and (lines or "\ufffd" not in text) for text in written]
    assert found.texts_known == pytest.approx(sum(known) / len(known))
    assert (found.texts, found.characters) == (len(written), sum(map(len, written)))


@given(st.lists(st.lists(st.sampled_from("ab"), max_size=9), max_size=4), st.integers(1, 3), st.integers(0, 20))
def test_shares_of_units_are_those_of_their_definition(units: list[list[str]], n: int, first: int) -> None:
    some = [unit for own in units for unit in own][:first]
    assert share_distinct(units, first) == share([unit not in some[:i] for i, unit in enumerate(some)])
    ngrams = [[own[i : i + n] for i in range(len(own) - n + 1)] for own in units]
    assert share_repeated(units, n) == share([ngram in own[:i] for own in ngrams for i, ngram in enumerate(own)])


# ----------------------------------------------------------------------------------------- what they tell apart


@pytest.mark.parametrize(
    ("text", "unit", "window", "ngram"),
    [("the boat is on the river.\n", "words", 30, 4), ("船在河上，人在船中。\n", "characters", 10, 6)],
)
def test_what_counts_as_a_unit_follows_from_the_script(text: str, unit: str, window: int, ngram: int) -> None:
    found = measure([text], [text], text * 3)
    assert (found.unit, found.window, found.ngram) == (unit, window, ngram)
    assert (found.written.words_known is None) == (unit == "characters")
    assert found.compared == (6 if unit == "words" else 10)  # no blanks among the characters


def test_of_a_text_that_was_cut_the_last_word_is_not_counted() -> None:
    assert measure(["the boa"], ["the"], "the boat", length=7).written.words_known == 1
    assert measure(["the boa"], ["the"], "the boat", length=8).written.words_known == 0.5
    assert measure(["boa"], ["the"], "the boat", length=3).written.words_known is None


def test_figures_of_nothing_are_none() -> None:
    found = measure([""], ["a"], "the boat\n").written
    assert (found.words_known, found.distinct, found.repeated, found.copied) == (None, None, None, None)
    assert (found.longest_copy, found.mean_longest_copy, found.texts_known) == (0, 0, 0)


def test_only_whole_lines_are_known_lines() -> None:
    written = ["anna", "ann", "annabel", "bel\nan"]
    assert measure(written, ["x"], "annabel\nanna\n", lines=True).written.texts_known == 0.5
    assert measure(written, ["x"], "annabel\nanna\n").written.texts_known == 1


# --------------------------------------------------------------------------------------------- held-out texts


def test_held_out_lines_are_taken_from_all_over_and_cut_as_samples_are() -> None:
    assert cut_stretches("abcdef\ngh\n\nij", 4, 9, lines=True) == ["abcd", "gh", "ij"]
    assert cut_stretches("".join(f"{i}\n" for i in range(101)), 9, 3, lines=True) == ["0", "50", "100"]
    assert cut_stretches("", 4, 9, lines=True) == []


def test_held_out_stretches_begin_where_lines_do() -> None:
    assert cut_stretches("abc\ndef\nghi\njk", 5, 9, lines=False) == ["abc\nd", "ghi\nj"]
    assert cut_stretches("abc\ndef\n", 4, 9, lines=False) == ["abc\n", "def\n"]
    assert cut_stretches("x" * 10, 4, 9, lines=False) == ["xxxx", "xxxx"]  # what has no lines is cut anyway
    assert cut_stretches("abc", 5, 9, lines=False) == ["abc"]
    assert cut_stretches("", 5, 9, lines=False) == []


@given(st.text(st.sampled_from("ab\n"), max_size=60), st.integers(1, 20), st.integers(1, 8))
def test_held_out_stretches_do_not_overlap(text: str, length: int, count: int) -> None:
    found = cut_stretches(text, length, count, lines=False)
    assert len(found) <= count
    place = 0
    for stretch in found:
        place = text.index(stretch, place) + len(stretch)
    assert all(len(stretch) == length for stretch in found) or len(found) == 1


# ------------------------------------------------------------------------------------------------------ of models

LOOP = "天地玄黄宇宙洪荒日月盈昃\n"


def model_of(text: str, folder: Path, kind: str, **corpus: Any) -> LanguageModel:
    """A model of a text: it quotes it, or knows nothing."""
    folder.mkdir(exist_ok=True)
    (folder / "text.txt").write_text(text, encoding="utf-8")
    config = load_config({"corpus": {"path": str(folder / "text.txt"), **corpus}})
    vocabulary = load_corpus(config.corpus).vocabulary
    mixture = bigram_model(vocabulary, text) if kind == "quotes" else make_mixture(len(vocabulary), hidden_size=4)
    return make_language_model(mixture, vocabulary, config, str(folder))


@pytest.mark.parametrize("framing", ["stream", "lines"])
def test_a_model_that_only_quotes_is_seen_to_quote(framing: str, tmp_path: Path) -> None:
    found = model_of(LOOP * 40, tmp_path, "quotes", framing=framing).evaluate_writing(70, length=20)
    length = 20 if framing == "stream" else 12
    assert found.written.characters == 70 * length
    assert (found.written.copied, found.written.texts_known) == (1, 1)
    assert (found.written.longest_copy, found.written.mean_longest_copy) == (length, length)
    other = model_of(LOOP * 40, tmp_path, "knows nothing", framing=framing).evaluate_writing(70, temperature=1)
    assert other.written.copied is not None
    assert other.written.copied < 0.05
    assert other.written.longest_copy < 8
    assert other.held_out.copied == 1  # this text's held-out part is as its training part


def test_a_model_that_repeats_is_seen_to_repeat(tmp_path: Path) -> None:
    loop = model_of(LOOP * 40, tmp_path, "quotes", framing="stream").evaluate_writing(10, length=60).written
    assert loop.repeated == (51 - 12) / 51  # of 56 characters and four ends of lines; there are 12 beginnings
    other = model_of(LOOP * 40, tmp_path, "knows nothing", framing="stream")
    assert other.evaluate_writing(10, length=60, temperature=1).written.repeated == 0


def test_the_samples_are_those_that_sample_writes(tiny_run: Path, tiny_lines_run: Path) -> None:
    for run in (tiny_run, tiny_lines_run):
        lm = charlm.load(run)
        found = lm.evaluate_writing(70, seed=3, temperature=0.9)
        samples = list(lm.sample(70, seed=3, temperature=0.9))
        assert found.written.characters == sum(map(len, samples))
        assert (found.seed, found.sampling["temperature"], found.sampling["length"]) == (3, 0.9, 40)
        assert lm.evaluate_writing(70, seed=3, temperature=0.9) == found
        assert lm.evaluate_writing(70, seed=4, temperature=0.9) != found


def test_named_texts_are_the_held_out_ones(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("aob etherb osee\n" * 20)
    lm = charlm.load(tiny_run)
    own = lm.evaluate_writing(5, tmp_path / "own.txt")
    assert own.held_out.words_known == 0
    assert lm.evaluate_writing(5).held_out.words_known == 1
    assert own.written.words_known == lm.evaluate_writing(5).written.words_known


def test_a_held_out_text_of_bytes_is_measured_as_characters(tmp_path: Path) -> None:
    found = model_of(LOOP * 40, tmp_path, "knows nothing", level="byte", framing="stream").evaluate_writing(3)
    assert found.unit == "characters"
    assert found.held_out.copied == 1
    assert np.isfinite(found.written.mean_longest_copy)
