"""Means over classes of characters and over places: hand-made texts, whose buckets can be counted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm.analysis.buckets import CLASSES, by_class, by_place_in_line, by_place_in_word
from charlm.analysis.characters import Characters, Floats, beginning_of, look_at
from charlm.text.corpus import Split
from charlm.text.vocabulary import Vocabulary

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def of(text: str, *, known: str | None = None, framing: str = "stream", level: str = "character") -> Characters:
    vocabulary = Vocabulary.build(known or text, framing=framing, level=level)
    return Characters.of(vocabulary, Split.of(text, vocabulary))


def ones(characters: Characters) -> Floats:
    return np.ones(len(characters))


def counts(buckets: list) -> dict[str, int]:
    return {bucket.name: bucket.count for bucket in buckets}


@pytest.mark.parametrize("level", ["character", "byte"])
def test_every_character_is_in_the_class_that_unicode_gives_it(level: str) -> None:
    found = counts(by_class(of("Ab1 船画，。\tx+_\n한ñ☃\u0301\x07", level=level), np.ones(18)))
    assert found == {
        "small letters": 3,
        "capital letters": 1,
        "Chinese characters": 2,
        "other letters": 2,
        "digits": 1,
        "spaces": 2,
        "ends of lines": 1,
        "punctuation and signs": 5,
        "other": 1,
    }


def test_unknown_characters_are_a_class_of_their_own() -> None:
    assert counts(by_class(of("aXYb", known="ab"), np.ones(4))) == {"small letters": 2, "unknown characters": 2}


@given(st.text(min_size=1), st.integers(0, 9), st.sampled_from(["character", "byte"]))
def test_classes_and_places_add_up_to_the_whole(text: str, seed: int, level: str) -> None:
    characters = of(f"\n{text}", level=level)
    nats = np.random.default_rng(seed).random(len(characters))
    for buckets in (by_class(characters, nats), by_place_in_line(characters, nats)):
        assert sum(bucket.count for bucket in buckets) == len(characters)
        assert sum(bucket.count * bucket.nats for bucket in buckets) == pytest.approx(nats.sum())
    assert {bucket.name for bucket in by_class(characters, nats)} <= set(CLASSES)


def test_words_are_letters_and_the_apostrophes_between_them() -> None:
    text = "Don't 'go' abcdefghijkl."
    found = counts(by_place_in_word(of(text), np.ones(len(text))))
    assert found == {
        "1st": 3, "2nd": 3, "3rd": 2, "4th": 2, "5th": 2, "6th": 1, "7th": 1, "8th": 1, "9th": 1,
        "10th and later": 3, "between words": 5,
    }  # fmt: skip


def test_each_place_in_the_word_has_its_own_mean() -> None:
    characters = of("ab cd")
    found = by_place_in_word(characters, np.array([4.0, 1, 9, 6, 3]))
    assert [(bucket.name, bucket.nats) for bucket in found] == [("1st", 5), ("2nd", 2), ("between words", 9)]


@pytest.mark.parametrize(
    "text",
    ["船在河上。我们在画画。", "12 + 34 = 46", "ひらがなとカタカナ", 40 * "ยาว", "...", "船在河上 ok。船在河上"],
)
def test_where_there_are_no_words_there_is_no_place_in_them(text: str) -> None:
    characters = of(text)
    assert by_place_in_word(characters, ones(characters)) == []


def test_code_and_korean_have_words() -> None:
    for text in ("def f(first): return first", "우리는 강에 있다"):
        characters = of(text)
        assert by_place_in_word(characters, ones(characters))


def test_places_in_the_line_are_counted_from_one_and_its_end_belongs_to_it() -> None:
    characters = of("abcdefghi\n\nab\n")
    assert counts(by_place_in_line(characters, ones(characters))) == {
        "1": 3,
        "2": 2,
        "3–4": 3,
        "5–8": 4,
        "9–16": 2,
    }
    assert by_place_in_line(of("abc"), np.ones(3)) == []


def test_a_part_of_a_stream_begins_words_and_lines() -> None:
    vocabulary = Vocabulary.build("ab\n")
    split = Split(vocabulary.encode("aabb\nab"), 7, 7, (0, 2))
    characters = Characters.of(vocabulary, split)
    assert counts(by_place_in_word(characters, ones(characters))) == {"1st": 3, "2nd": 3, "between words": 1}
    assert counts(by_place_in_line(characters, ones(characters))) == {"1": 3, "2": 3, "3–4": 1}


# ------------------------------------------------------------------------------------- characters of a text


def test_bytes_are_put_together_and_those_of_no_character_stand_alone() -> None:
    vocabulary = Vocabulary.build("", level="byte")
    ids = np.frombuffer("a船é".encode() + b"\xff\xe8z\xf0\x9f\x98\x80", np.uint8).astype(np.int32)
    characters = Characters.of(vocabulary, Split(ids, 7, len(ids)))
    assert characters.text(0, 99) == f"a船é{REPLACEMENT}{REPLACEMENT}z😀"
    assert characters.symbols.tolist() == [0, 1, 4, 6, 7, 8, 9]
    assert characters.sums(np.ones(13)).tolist() == [1, 3, 2, 1, 1, 1, 4]


@given(st.text(), st.sampled_from(["character", "byte"]))
def test_characters_are_those_that_a_split_counts(text: str, level: str) -> None:
    vocabulary = Vocabulary.build(text or "a", level=level)
    split = Split.of(text, vocabulary)
    assert len(Characters.of(vocabulary, split)) == split.characters


def test_of_a_long_text_lines_and_parts_from_all_over_are_looked_at() -> None:
    text = "".join(f"line {number}\n" for number in range(100, 200))
    lines = Vocabulary.build(text, framing="lines")
    split = look_at(lines, Split.of(text, lines), 95)
    assert lines.decode(split.ids.tolist()) == "".join(f"line {number}\n" for number in range(100, 200, 11))
    assert (split.characters, split.bytes) == (len(split.ids), len(split.ids))
    stream = Vocabulary.build(text)
    parts = look_at(stream, Split(stream.encode(text), 900, 900, tuple(range(0, 900, 90))), 200)
    assert stream.decode(parts.ids.tolist()) == text[:90] + text[810:]
    assert parts.parts == (0, 90)
    one = look_at(stream, Split.of(text, stream), 200)
    assert stream.decode(one.ids.tolist()) == text[:200]
    whole = Split.of(text, stream)
    assert look_at(stream, whole, 900) is whole


def test_the_beginning_of_a_text_keeps_its_parts_and_whole_lines() -> None:
    text = "ab\ncd\nefgh\n"
    lines, stream = Vocabulary.build(text, framing="lines"), Vocabulary.build(text)
    assert lines.decode(beginning_of(lines, Split.of(text, lines), 8).ids.tolist()) == "ab\ncd\n"
    assert lines.decode(beginning_of(lines, Split.of(text, lines), 3).ids.tolist()) == "ab\n"
    cut = beginning_of(stream, Split(stream.encode(text), 11, 11, (0, 3, 9)), 8)
    assert (stream.decode(cut.ids.tolist()), cut.parts, cut.characters) == (text[:8], (0, 3), 8)


@pytest.mark.parametrize("most", [9, 10, 11])
def test_a_text_of_bytes_is_cut_between_characters(most: int) -> None:
    vocabulary = Vocabulary.build("", level="byte")
    text = "船船船船é"
    split = Split.of(text, vocabulary)
    for cut in (beginning_of(vocabulary, split, most), look_at(vocabulary, split, most)):
        assert (vocabulary.decode(cut.ids.tolist()), cut.characters, cut.bytes) == ("船船船", 3, 9)


@pytest.mark.parametrize("level", ["character", "byte"])
def test_a_line_that_is_too_long_ends_where_it_is_cut(level: str) -> None:
    text = 9 * "ab" + "\nc\n"
    vocabulary = Vocabulary.build(text, level=level, framing="lines")
    split = Split.of(text, vocabulary)
    for cut in (beginning_of(vocabulary, split, 5), look_at(vocabulary, split, 5)):
        assert vocabulary.decode(cut.ids.tolist()) == "abab\n"
