"""Symbols as characters: the same text as the vocabulary's own decoder gives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm.text.corpus import Split
from charlm.text.plain import read_characters, read_parts, separates_words
from charlm.text.vocabulary import Vocabulary


@given(st.text(st.sampled_from("aé船🙂\n?"), max_size=20))
def test_characters_are_those_that_the_vocabulary_decodes(text: str) -> None:
    vocabulary = Vocabulary.build("aé船\n")
    ids = vocabulary.encode(text)
    found, last = read_characters(vocabulary, ids)
    assert found == vocabulary.decode(ids)
    assert last.tolist() == list(range(len(ids)))


@given(st.text(st.sampled_from("aé船🙂\n"), max_size=20))
def test_a_character_of_several_bytes_ends_with_its_last_one(text: str) -> None:
    vocabulary = Vocabulary.build(text, level="byte")
    found, last = read_characters(vocabulary, vocabulary.encode(text))
    assert found == text
    assert last.tolist() == [len(text[: place + 1].encode()) - 1 for place in range(len(text))]


@given(st.binary(max_size=20))
def test_whatever_bytes_there_are_they_are_characters_that_can_be_shown(data: bytes) -> None:
    vocabulary = Vocabulary.build("a", level="byte")
    found, last = read_characters(vocabulary, np.frombuffer(data, np.uint8).astype(np.int32))
    assert len(found.encode()) >= len(found) == len(last)
    assert found.replace("\ufffd", "") == data.decode("utf-8", "ignore").replace("\ufffd", "")
    assert len(data) == (last[-1] + 1 if len(last) else 0)


@pytest.mark.parametrize(
    ("text", "words"),
    [("the boat", True), ("船在河上。the", False), ("ボート", False), ("лодка на реке", True), ("12 34", False)],
)
def test_words_are_separated_where_most_letters_are_of_such_a_script(text: str, words: bool) -> None:
    assert separates_words(text) == words


def test_parts_that_do_not_follow_each_other_share_no_run() -> None:
    vocabulary = Vocabulary.build("abcd")
    split = Split(vocabulary.encode("abcd"), 4, 4, parts=(0, 2))
    assert read_parts(vocabulary, split, 99) == "ab\ncd"
    assert read_parts(vocabulary, split, 3) == "ab\n"
    assert read_parts(vocabulary, Split.of("abcd", vocabulary), 3) == "abc"
