"""Vocabulary: text becomes ids and comes back, what is unknown is told, and its file holds all of it."""

import json
import math
import unicodedata
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from charlm.errors import InputError, RunError
from charlm.system.run_format import RUN_FORMAT
from charlm.text.vocabulary import UNKNOWN, Vocabulary, normalize, normalize_pieces

Bounds = Callable[[], AbstractContextManager[None]]
any_text = st.text(max_size=60)  # every plane of Unicode
some_text = st.text(min_size=1, max_size=60)
framings = st.sampled_from(["stream", "lines"])
levels = st.sampled_from(["character", "byte"])


def state(vocabulary: Vocabulary) -> dict[str, Any]:
    """All that makes a vocabulary what it is."""
    names = "symbols counts boundary framing level normalization lowercase boundary_id unknown_id"
    return {name: getattr(vocabulary, name) for name in names.split()}


# What changes its neighbours: marks, jamo, halfwidth voicing, ligatures, capital sigma and what it looks past.
meddling = st.text(
    st.sampled_from("aZ9 \n画一Σς.':é\u0301\u0323\u030a\u1100\u1161\u11a8가ｶﾞﬁ㌢½İ\u00ad\u0345😀"), max_size=40
)


@given(st.lists(meddling | any_text), st.sampled_from(["none", "nfc", "nfkc"]), st.booleans())
def test_a_text_is_normalised_alike_in_whatever_pieces_it_comes(
    pieces: list[str], normalization: str, lowercase: bool
) -> None:
    whole = normalize("".join(pieces), normalization, lowercase)
    assert "".join(normalize_pieces(pieces, normalization, lowercase)) == whole


def test_a_text_is_normalised_without_waiting_for_its_end() -> None:
    pieces = normalize_pieces(iter(["one two", " three", *["four"] * 9]), "nfc")
    assert next(pieces) == "one tw"


@given(st.lists(some_text, min_size=1), framings, levels, st.integers(1, 3))
def test_a_vocabulary_of_pieces_is_that_of_the_whole_text(
    pieces: list[str], framing: str, level: str, min_count: int
) -> None:
    whole = Vocabulary.build("".join(pieces), framing=framing, level=level, min_count=min_count)
    parts = Vocabulary.build(iter(pieces), framing=framing, level=level, min_count=min_count)
    assert state(parts) == state(whole)


# --- Text to ids and back


@given(some_text, framings, levels)
def test_a_text_comes_back_from_its_ids(text: str, framing: str, level: str) -> None:
    vocabulary = Vocabulary.build(text, framing=framing, level=level)
    ids = vocabulary.encode(text)
    assert ids.dtype == np.int32
    assert ids.shape == (len(text if level == "character" else text.encode()),)
    assert vocabulary.decode(ids) == text


@given(st.binary(max_size=60))
def test_at_byte_level_any_bytes_are_their_own_ids(raw: bytes) -> None:
    text = raw.decode("utf-8", "surrogateescape")  # what is not UTF-8 becomes lone surrogates
    vocabulary = Vocabulary.build(text, level="byte")
    assert vocabulary.encode(text).tolist() == list(raw)
    assert vocabulary.counts == tuple(raw.count(byte) for byte in range(256))
    assert vocabulary.decode(raw) == raw.decode("utf-8", "replace")


def test_at_byte_level_a_lone_surrogate_that_stands_for_no_byte_becomes_the_replacement_character() -> None:
    assert Vocabulary.build("", level="byte").encode("a\ud800").tolist() == list("a\ufffd".encode())


def test_characters_stand_in_code_point_order_behind_the_unknown_with_their_counts() -> None:
    vocabulary = Vocabulary.build("画画\n在a𝄞\n")
    assert vocabulary.symbols == (UNKNOWN, "\n", "a", "在", "画", "𝄞")
    assert vocabulary.counts == (0, 2, 1, 1, 2, 1)
    assert vocabulary.encode("𝄞在").tolist() == [5, 3]
    assert len(vocabulary) == 6


def test_a_byte_vocabulary_is_the_256_bytes_and_knows_everything() -> None:
    vocabulary = Vocabulary.build("a\n", level="byte")
    assert len(vocabulary) == 256
    assert vocabulary.unknown_id is None
    assert vocabulary.unknown_in("画 never seen") == []


# --- The unknown


@given(some_text, any_text, framings)
def test_unknown_characters_get_id_0_and_are_listed_once_in_order(train: str, text: str, framing: str) -> None:
    vocabulary = Vocabulary.build(train, framing=framing)
    known = set(train) | {"\n"} if vocabulary.boundary == "\n" else set(train)
    assert [i == 0 for i in vocabulary.encode(text)] == [char not in known for char in text]
    in_a_sentence = known - {"\n"} if framing == "lines" else known
    assert vocabulary.unknown_in(text) == list(dict.fromkeys(c for c in text if c not in in_a_sentence))
    assert vocabulary.decode(vocabulary.encode(text)) == "".join(c if c in known else "\ufffd" for c in text)


@given(some_text, st.integers(1, 5))
def test_characters_rarer_than_min_count_become_unknown_and_are_counted_there(text: str, min_count: int) -> None:
    vocabulary = Vocabulary.build(text, min_count=min_count)
    kept = {char for char in text if text.count(char) >= min_count}
    assert set(vocabulary.symbols) - {UNKNOWN, vocabulary.boundary} == kept - {vocabulary.boundary}
    assert sum(vocabulary.counts) == len(text)
    assert vocabulary.counts[0] == sum(char not in kept for char in text)


def test_a_newline_inside_a_sentence_is_unknown_to_a_model_of_lines_only() -> None:
    lines, stream = (Vocabulary.build("ab\n", framing=framing) for framing in ("lines", "stream"))
    assert lines.encode_sentence("a\nb").tolist() == [2, 0, 3]
    assert lines.encode("a\nb").tolist() == [2, 1, 3]
    assert lines.unknown_in("a\nb") == ["\n"]
    assert stream.encode_sentence("a\nb").tolist() == [2, 1, 3]
    assert stream.unknown_in("a\nb") == []


# --- The boundary


@pytest.mark.parametrize("level", ["character", "byte"])
@pytest.mark.parametrize(
    ("framing", "text", "boundary"),
    [
        ("stream", "aaa  \n", "\n"),  # the newline, be it rare
        ("stream", "aaa b", " "),  # else the space
        ("stream", "abbb", "b"),  # else the most frequent
        ("stream", "", "\n"),
        ("lines", "aaa \n", "\n"),
        ("lines", "aaa b", "\n"),  # a line ends with a newline whatever the text
    ],
)
def test_the_boundary_is_the_newline_else_the_space_else_the_most_frequent(
    level: str, framing: str, text: str, boundary: str
) -> None:
    vocabulary = Vocabulary.build(text, framing=framing, level=level)
    assert vocabulary.boundary == boundary == vocabulary.symbols[vocabulary.boundary_id]
    assert vocabulary.ends_sentences == (boundary == "\n")


def test_a_newline_too_rare_to_be_kept_is_not_the_boundary_of_a_stream() -> None:
    assert Vocabulary.build("a a a\n", min_count=2).boundary == " "
    assert Vocabulary.build("a a a\n", min_count=2, framing="lines").boundary == "\n"


# --- Its file


@pytest.mark.parametrize("boundary", ["[", "{"])
def test_brackets_as_symbols_and_as_the_boundary_are_no_nesting(boundary: str) -> None:
    written = Vocabulary.build(f"{boundary}[{{]}}{boundary}")  # no newline, no space: the commonest character
    assert written.boundary == boundary
    assert Vocabulary.from_json(written.to_json()).symbols == written.symbols


@given(some_text, framings, levels, st.sampled_from(["none", "nfc", "nfkc"]), st.booleans(), st.integers(1, 3))
@example("{", "stream", "character", "none", False, 1)  # a boundary that JSON itself uses
@example("[[{", "stream", "byte", "none", False, 1)
def test_json_brings_back_exactly_what_it_was_written_from(
    text: str, framing: str, level: str, normalization: str, lowercase: bool, min_count: int
) -> None:
    written = Vocabulary.build(
        text, framing=framing, level=level, normalization=normalization, lowercase=lowercase, min_count=min_count
    )
    read = Vocabulary.from_json(written.to_json().encode("utf-8").decode("utf-8"))
    assert state(read) == state(written)
    assert read.to_json() == written.to_json()


def test_json_is_for_people_to_read_one_character_a_line() -> None:
    lines = Vocabulary.build('画"a\n\u200b\u2028\x00').to_json().splitlines()
    start = lines.index('  "characters": [') + 1
    shown = ['"<unk>"', '"\\u0000"', '"\\n"', '"\\""', '"a"', '"\\u200b"', '"\\u2028"', '"画"']
    assert [line.strip().rstrip(",") for line in lines[start : start + 8]] == shown
    assert lines[start + 8] == "  ],"
    assert '  "framing": "stream",' in lines


GOOD = json.loads(Vocabulary.build("ab\n").to_json())
DAMAGES: dict[str, dict[str, Any]] = {
    "a character twice": {"characters": [UNKNOWN, "\n", "a", "a"]},
    "two characters in one": {"characters": [UNKNOWN, "\n", "a", "bc"]},
    "no unknown": {"characters": ["\n", "a", "b", "c"]},
    "no characters": {"characters": []},
    "characters are null": {"characters": None},
    "a count too few": {"counts": [0, 1, 1]},
    "a negative count": {"counts": [0, 1, 1, -1]},
    "a count is a word": {"counts": [0, 1, 1, "many"]},
    "a count is infinite": {"counts": [0, 1, 1, math.inf]},
    "an unknown boundary": {"boundary": "z"},
    "a boundary of no character": {"boundary": None},
    "an unknown level": {"level": "word"},
    "bytes that are not the 256": {"level": "byte"},
    "an unknown framing": {"framing": ["lines"]},
    "an unknown normalisation": {"normalization": "nfd"},
    "lower case neither true nor false": {"lowercase": "no"},
    "a format that is no number": {"format": "one"},
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_by_name(damage: str) -> None:
    with pytest.raises(RunError, match=r"^runs/q/vocabulary.json: not a vocabulary of charlm"):
        Vocabulary.from_json(json.dumps({**GOOD, **DAMAGES[damage]}), "runs/q/vocabulary.json")


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", "[" * 99999, Vocabulary.build("ab\n").to_json()[:-20]])
def test_what_is_no_vocabulary_is_refused_by_name(text: str) -> None:
    with pytest.raises(RunError, match=r"^vocabulary.json: not a vocabulary of charlm"):
        Vocabulary.from_json(text)


@pytest.mark.parametrize("key", GOOD)
def test_a_file_that_lacks_a_part_is_refused(key: str) -> None:
    with pytest.raises(RunError, match=key):
        Vocabulary.from_json(json.dumps({k: value for k, value in GOOD.items() if k != key}))


def test_a_file_of_a_newer_format_asks_for_a_newer_charlm() -> None:
    with pytest.raises(RunError, match=rf"by a newer charlm \(format {RUN_FORMAT + 1}\); install the newest"):
        Vocabulary.from_json(json.dumps({**GOOD, "format": RUN_FORMAT + 1, "characters": "in a way of the future"}))


def test_a_vocabulary_that_contradicts_itself_cannot_be_made() -> None:
    with pytest.raises(InputError, match="the boundary is not one of the symbols"):
        Vocabulary([UNKNOWN, "a"], [0, 1], boundary=UNKNOWN)


# --- Decoding one by one, frequencies, normalisation


@given(st.text(max_size=20) | st.binary(max_size=20))
def test_bytes_are_held_back_until_they_make_a_whole_character(text: str | bytes) -> None:
    raw = text if isinstance(text, bytes) else text.encode()
    decoder = Vocabulary.build("\n", level="byte").decoder()
    pieces = [decoder.feed(byte) for byte in raw]
    assert "".join(pieces) + decoder.feed(None) == raw.decode("utf-8", "replace")
    if isinstance(text, str):  # each piece comes with the last byte of its character
        assert [piece for piece in pieces if piece] == list(text)
        ends = np.cumsum([len(char.encode()) for char in text]) - 1
        assert [i for i, piece in enumerate(pieces) if piece] == ends.tolist()


def test_a_character_cut_off_at_the_end_becomes_one_replacement_character() -> None:
    decoder = Vocabulary.build("\n", level="byte").decoder()
    assert [decoder.feed(byte) for byte in "画".encode()[:2]] == ["", ""]
    assert decoder.feed(None) == "\ufffd"


def test_at_character_level_each_id_is_a_character_at_once() -> None:
    decoder = Vocabulary.build("画a\n").decoder()
    assert [decoder.feed(i) for i in (3, 0, 2, None)] == ["画", "\ufffd", "a", ""]


@given(some_text, framings, levels)
def test_unigram_log_probs_are_smoothed_frequencies_that_sum_to_one(text: str, framing: str, level: str) -> None:
    vocabulary = Vocabulary.build(text, framing=framing, level=level)
    probabilities = np.exp(vocabulary.unigram_log_probs)
    assert probabilities.shape == (len(vocabulary),)
    assert probabilities.sum() == pytest.approx(1)
    total = sum(vocabulary.counts) + len(vocabulary)
    assert probabilities == pytest.approx([(count + 1) / total for count in vocabulary.counts])
    assert vocabulary.unigram_entropy == pytest.approx(-sum(p * math.log(p) for p in probabilities))


@pytest.mark.parametrize(
    ("text", "normalization", "lowercase", "expected"),
    [
        ("E\u0301ﬁ", "none", False, "E\u0301ﬁ"),
        ("E\u0301ﬁ", "nfc", False, "Éﬁ"),
        ("E\u0301ﬁ", "nfkc", False, "Éfi"),
        ("E\u0301ﬁ", "nfkc", True, "éfi"),
        ("ΑΒ", "none", True, "αβ"),
    ],
)
def test_text_is_normalised_as_the_model_was_trained(
    text: str, normalization: str, lowercase: bool, expected: str
) -> None:
    assert normalize(text, normalization, lowercase) == expected
    vocabulary = Vocabulary.build("a\n", normalization=normalization, lowercase=lowercase)
    assert vocabulary.normalize(text) == expected
    assert Vocabulary.from_json(vocabulary.to_json()).normalize(text) == expected


@given(st.text(max_size=100))
@pytest.mark.parametrize("form", ["nfc", "nfkc"])
def test_text_is_normalised_as_unicode_says(form: str, text: str) -> None:
    beside = "…" * 1500  # many characters that could be marks and are none
    for whole in (text, beside + text + "\u0338" + beside):
        assert normalize(whole, form) == unicodedata.normalize(form.upper(), whole)


@pytest.mark.parametrize("marks", ["\u0315\u0300", "\u0300\uff9e"])
def test_a_pile_of_marks_is_normalised_in_time(marks: str, bounds: Bounds) -> None:
    pile = "a" + marks * 500_000  # as one piece, a quarter of an hour
    with bounds():
        assert len(normalize(pile, "nfkc")) in (len(pile), len(pile) - 1)
