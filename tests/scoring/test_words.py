"""Words of a sentence: they add up to it in either convention, and their places are those in the text as given."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import charlm
from charlm.errors import InputError
from charlm.scoring.measures import CharacterScore, Score
from charlm.scoring.words import Space, WordScore, find_words, score_words
from charlm.text.vocabulary import normalize

Normalize = Callable[[str], str]

# Blanks, letters, marks that join what stands before them, what NFKC or lower case makes longer, jamo, no text.
CHARACTERS = " \t\u3000\xa0|/.'’abAÉΣİé\u0301\u0323\u030aﬁ½¨\u1100\u1161\u11a8中文河\udce9"
TEXTS = st.text(st.sampled_from(CHARACTERS), max_size=16)  # normalised no more than 48: sums below are exact
NORMALIZE: list[Normalize] = [partial(normalize, normalization=n, lowercase=low) for n in ("none", "nfc", "nfkc") for low in (False, True)]  # fmt: skip  # noqa: E501
SEPARATORS = st.sampled_from([None, " ", "|", "\u3000", "a", "é", " / "])


def score_of(text: str, normalize: Normalize = str, *, end: bool = True) -> Score:
    """A score whose characters have the log-probabilities -1, -2, -4, …: each sum tells which of them it has."""
    chars = [*normalize(text), *(["</s>"] if end else [])]
    scored = [CharacterScore(char, -float(2**i), char == "?") for i, char in enumerate(chars)]
    logprob = sum(char.logprob for char in scored)
    return Score.of(text, scored, characters=len(chars) - end, n=len(chars), logprob=logprob, unigram=-1.0)


def words_of(text: str, space: Space, *, end: bool = True) -> list[WordScore]:
    text, spans = find_words(text)
    return score_words(score_of(text, end=end), spans, str, space)


def characters_of(word: WordScore, text: str) -> str:
    """The characters that a word's log-probability is the sum of, by the binary digits of the sum."""
    digits = int(-word.logprob)
    return "".join(char for i, char in enumerate([*text, "$"]) if digits >> i & 1)


# ---------------------------------------------------------------------------------------------- the two conventions


@pytest.mark.parametrize(
    ("text", "after", "before"),
    [
        ("the old man", ["the ", "old ", "man$"], ["the", " old", " man", "$"]),
        ("boat", ["boat$"], ["boat", "$"]),
        (" the  man\t", [" the  ", "man\t$"], [" the", "  man", "\t$"]),
        ("“don't!” he", ["“don't!” ", "he$"], ["“don't!”", " he", "$"]),
        ("", ["$"], ["$"]),
        ("  ", ["  $"], ["  $"]),
    ],
)
def test_each_convention_gives_every_character_to_one_word(text: str, after: list[str], before: list[str]) -> None:
    assert [characters_of(word, text) for word in words_of(text, Space.AFTER)] == after
    assert [characters_of(word, text) for word in words_of(text, Space.BEFORE)] == before


def test_where_the_end_is_not_scored_it_has_no_word_but_white_space_before_it_is_kept() -> None:
    assert [characters_of(word, "a b ") for word in words_of("a b ", Space.AFTER, end=False)] == ["a ", "b "]
    words = words_of("a b ", Space.BEFORE, end=False)
    assert [(word.word, characters_of(word, "a b ")) for word in words] == [("a", "a"), ("b", " b"), ("", " ")]
    assert [word.word for word in words_of("a b", Space.BEFORE, end=False)] == ["a", "b"]
    assert words_of("", Space.AFTER, end=False) == words_of("", Space.BEFORE, end=False) == []


def test_a_word_has_its_place_and_its_unknown_characters() -> None:
    words = words_of("a b?? ?", Space.BEFORE)
    assert [(word.word, word.start, word.end, word.unknown) for word in words] == [
        ("a", 0, 1, 0),
        ("b??", 2, 5, 2),
        ("?", 6, 7, 1),
        ("</s>", 7, 7, 0),
    ]
    assert [word.surprisal for word in words] == [-word.logprob for word in words]


@given(TEXTS, SEPARATORS, st.sampled_from(Space), st.sampled_from(NORMALIZE), st.booleans())
def test_words_add_up_to_the_sentence_and_tile_the_text(
    given_text: str, separator: str | None, space: Space, normalize: Normalize, end: bool
) -> None:
    text, spans = find_words(given_text, separator)
    score = score_of(text, normalize, end=end)
    words = score_words(score, spans, normalize, space)
    assert math.fsum(word.logprob for word in words) == score.logprob
    assert sum(word.unknown for word in words) == score.unknown
    place = 0
    for word in words:
        assert not text[place : word.start].strip()  # what no word covers is white space
        assert word.word == (text[word.start : word.end] or ("</s>" if end else ""))
        assert word.word == word.word.strip()
        place = word.end
    assert not text[place:].strip()
    assert [(word.start, word.end) for word in words if word.start < word.end] == list(spans)


@given(TEXTS, st.sampled_from(Space), st.sampled_from(NORMALIZE))
def test_a_word_has_the_characters_that_the_model_reads_for_it(
    text: str, space: Space, normalize: Normalize
) -> None:
    _, spans = find_words(text)
    read = normalize(text)
    for word in score_words(score_of(text, normalize, end=False), spans, normalize, space):
        assert characters_of(word, read).strip() == normalize(word.word).strip()


def test_places_are_those_of_the_text_as_given_where_normalisation_makes_it_longer_or_shorter() -> None:
    text = "ﷺ ﬁn e\u0301te\u0301 İ"
    nfkc = partial(normalize, normalization="nfkc", lowercase=True)
    words = score_words(score_of(text, nfkc), find_words(text)[1], nfkc, Space.AFTER)
    assert [word.word for word in words] == text.split()
    assert [characters_of(word, nfkc(text)) for word in words] == [nfkc("ﷺ") + " ", "fin ", "été ", "i̇$"]


def test_a_letter_counts_for_the_word_in_which_it_begins_if_its_mark_stands_in_the_next() -> None:
    nfc = partial(normalize, normalization="nfc")
    text, spans = find_words("cafe|\u0301|!", "|")
    words = score_words(score_of(text, nfc), spans, nfc, Space.AFTER)
    assert [characters_of(word, nfc(text)) for word in words] == ["café", "", "!$"]


# ------------------------------------------------------------------------------------------------------- separators


@given(TEXTS)
def test_words_between_white_space_are_those_that_python_splits(text: str) -> None:
    kept, spans = find_words(text)
    assert kept == text
    assert [text[start:end] for start, end in spans] == text.split()


@pytest.mark.parametrize(
    ("text", "separator", "joined", "words"),
    [
        ("我们 今天  去", " ", "我们今天去", ["我们", "今天", "去"]),
        (" 我们/今天/ ", "/", " 我们今天", ["我们", "今天"]),
        ("the old man|the boats", "|", "the old manthe boats", ["the old man", "the boats"]),
        ("the old man |the boats", "|", "the old man the boats", ["the old man", "the boats"]),
        ("the old man | the boats", "|", "the old man the boats", ["the old man", "the boats"]),
        ("| the | | old  | man | ", "|", "the old  man", ["the", "old", "man"]),
        (" the old|man ", "|", " the oldman ", ["the old", "man"]),
        ("high|.", "|", "high.", ["high", "."]),
        ("the old", "|", "the old", ["the old"]),
        ("  ", "|", "  ", []),
        ("|| |", "|", "", []),
        ("", " ", "", []),
    ],
)
def test_separators_are_taken_out(text: str, separator: str, joined: str, words: list[str]) -> None:
    found, spans = find_words(text, separator)
    assert found == joined
    assert [joined[start:end] for start, end in spans] == words


@given(TEXTS, SEPARATORS.filter(bool))
def test_nothing_but_separators_and_white_space_is_taken_out(text: str, separator: str) -> None:
    found, _ = find_words(text, separator)
    assert "".join(found.split()) == "".join(text.replace(separator, "").split())


def test_an_empty_separator_is_refused() -> None:
    with pytest.raises(InputError, match="the separator of words is empty"):
        find_words("a b", "")


# ---------------------------------------------------------------------------------------------------------- a model

SENTENCES = ["the boat sees the river.", " a  miller ", "", "河 ßthe"]


@pytest.mark.parametrize("run", ["tiny_run", "tiny_lines_run", "tiny_mixture_run"])
@pytest.mark.parametrize("space", Space)
@pytest.mark.parametrize("settings", [{}, {"bos": False, "eos": False}, {"context": "the ", "unknown": "skip"}])
def test_the_words_of_a_model_add_up_to_its_scores(
    run: str, space: str, settings: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    lm = charlm.load(request.getfixturevalue(run))
    words = lm.word_scores(SENTENCES, space=space, **settings)
    for found, score in zip(words, lm.score(SENTENCES, **settings), strict=True):
        assert math.fsum(word.logprob for word in found) == pytest.approx(score.logprob, rel=1e-12)
        assert sum(word.unknown for word in found) == score.unknown


def test_the_segmented_text_has_the_score_of_the_joined_one(tiny_run: Path) -> None:
    lm = charlm.load(tiny_run)
    (words,) = lm.word_scores(["the boat |sees the|  river."], separator="|")
    assert [word.word for word in words] == ["the boat", "sees the", "river."]
    (score,) = lm.score(["the boat sees the  river."])
    assert math.fsum(word.logprob for word in words) == pytest.approx(score.logprob, rel=1e-12)


def test_with_the_space_after_it_a_word_has_the_probability_of_being_the_next(tiny_run: Path) -> None:
    """Together with the text before it, `the ` is one of the texts that may come; so is what a model says of it."""
    lm = charlm.load(tiny_run)
    words = lm.word_scores(["a miller sees"])[0]
    for number, ending in enumerate(["a ", "a miller "]):
        (whole,), (before,) = lm.score([ending], eos=False), lm.score(["a " if number else ""], eos=False)
        assert words[number].logprob == pytest.approx(whole.logprob - before.logprob, abs=1e-4)
