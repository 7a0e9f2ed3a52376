"""Corpora: how a text is split and encoded."""

import hashlib
import re
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm.config import CorpusConfig
from charlm.errors import CorpusError
from charlm.text.cache import Cache
from charlm.text.corpus import Corpus, Split, describe_held_out, load_corpus, load_held_out
from charlm.text.vocabulary import Vocabulary


def save(path: Path, content: str | bytes) -> str:
    """Writes a file, and the folders above it, and returns its path as a text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def load(path: str, *, piece_size: int = 1 << 20, cache: Cache | None = None, **settings: Any) -> Corpus:
    """Reads a corpus of these settings."""
    settings = {"framing": "stream", "split": "tail", **settings}
    return load_corpus(CorpusConfig(path=path, **settings), cache=cache or Cache(), piece_size=piece_size)


def parts_of(corpus: Corpus) -> list[Split]:
    return [corpus.train, corpus.validation, corpus.test]


# --- The same text gives the same ids, whatever becomes of the code that makes them

KEYS = {
    ("lines", "spread", 0.0): "5817e4781534fff4", ("lines", "spread", 0.1): "34a865b6542565ea",
    ("lines", "tail", 0.0): "45776e1cd8aa8cf5", ("lines", "tail", 0.1): "7542884b278e8fb4",
    ("stream", "spread", 0.0): "c4582a6f09197b61", ("stream", "spread", 0.1): "7a25d300e6939206",
    ("stream", "tail", 0.0): "9c94c157e049bb3b", ("stream", "tail", 0.1): "dceed6b2e78c30a1",
}  # fmt: skip


@pytest.mark.parametrize("piece_size", [64, 1 << 20])
@pytest.mark.parametrize(("framing", "split", "test"), KEYS)
def test_training_and_validation_text_have_the_key_that_runs_made_earlier_know_them_by(
    tmp_path: Path, framing: str, split: str, test: float, piece_size: int
) -> None:
    text = "".join(f"{i * 7919 % 1000} 画了 {'é' * (i % 5)}\n" for i in range(3000))
    settings: dict[str, Any] = {"framing": framing, "split": split, "test": test, "piece_size": piece_size}
    corpus = load(save(tmp_path / "text.txt", text), **settings)
    assert corpus.key[:16] == KEYS[framing, split, test]
    read = "".join(corpus.vocabulary.decode(part.ids.tolist()) for part in parts_of(corpus))
    unknown = corpus.vocabulary.decode([0])
    assert sorted(read.replace(unknown, "")) == sorted(text) or split == "tail"
    assert sum(part.characters for part in parts_of(corpus)) == len(text) == len(read)
    if not test:
        assert (len(corpus.test.ids), corpus.test.characters, corpus.test.parts) == (0, 0, (0,))


# --- How a text is split

SHARES = st.floats(0, 0.999) | st.floats(1e-12, 1e-3) | st.sampled_from([0.0, 0.1, 0.05, 1 / 3])


@given(st.integers(1, 3000), SHARES, SHARES, st.sampled_from(["stream", "lines"]))
def test_the_parts_are_the_text_cut_in_three_of_the_shares_asked_for_unless_one_has_nothing(
    tmp_path_factory: pytest.TempPathFactory, total: int, validation: float, test: float, framing: str
) -> None:
    units = [f"{i}\n" if framing == "lines" else chr(0x4E00 + i) for i in range(total)]  # no two are the same
    path = save(tmp_path_factory.getbasetemp() / "split.txt", "".join(units))
    shares = (1 - validation - test, validation, test)
    try:
        corpus = load(path, framing=framing, validation=validation, test=test, level="byte")
    except CorpusError:
        corpus = None
    if corpus is None:
        assert shares[0] <= 0 or any(share and share * total < 1 + 1e-6 for share in shares)
        return
    parts = [bytes(part.ids.tolist()).decode() for part in (corpus.train, corpus.validation, corpus.test)]
    assert "".join(parts) == "".join(units)
    for part, share in zip(parts, shares, strict=True):
        size = part.count("\n") if framing == "lines" else len(part)
        assert abs(size - total * share) < 2 + 1e-6
        assert bool(size) == bool(share)
        assert framing == "stream" or part[-1:] in ("", "\n")


@pytest.mark.parametrize(
    ("text", "validation", "test", "expected"),
    [
        ("ab", 0.5, 0.5, "corpus.validation 0.5 and corpus.test 0.5 leave no text to train on"),
        ("ab", 0.9, 0.0, "the corpus has only 2 characters, which is too little to train on after the split"),
        ("ab", 0.01, 0.01, "the corpus has only 2 characters, so corpus.validation: 0.01 of it is empty"),
        ("ab" * 9, 0.5, 1e-6, ""),
        ("ab", 1e-12, 0.0, "corpus.validation: 1e-12 of it is empty"),
    ],
)
def test_a_text_too_small_for_its_split_is_refused_with_what_to_change(
    tmp_path: Path, text: str, validation: float, test: float, expected: str
) -> None:
    path = save(tmp_path / "small.txt", text)
    if expected:
        with pytest.raises(CorpusError, match=re.escape(expected)):
            load(path, validation=validation, test=test)
    else:
        assert len(load(path, validation=validation, test=test).test.ids) == 1


def test_a_corpus_of_lines_is_split_between_lines_and_leaves_out_empty_ones(tmp_path: Path) -> None:
    path = save(tmp_path / "lines.txt", "\n\nlonger first\nb\n\nc\n d\n\n\ne")
    corpus = load(path, framing="lines", validation=0.2, test=0.2)
    assert corpus.train.ids.tolist() == corpus.vocabulary.encode("longer first\nb\nc\n").tolist()
    assert [part.characters for part in (corpus.train, corpus.validation, corpus.test)] == [17, 3, 2]
    assert corpus.test.ids.tolist() == [corpus.vocabulary.symbols.index("e"), corpus.vocabulary.boundary_id]


def test_overlong_lines_are_left_out_with_a_note(tmp_path: Path) -> None:
    path = save(tmp_path / "lines.txt", "abc\n\nabcd\nab\nabcde\n")
    corpus = load(path, framing="lines", validation=0, max_line_length=3)
    assert corpus.train.ids.tolist() == corpus.vocabulary.encode("abc\nab\n").tolist()
    assert corpus.notes == ["2 of 4 lines are longer than 3 characters and are left out"]
    assert load(path, framing="lines", validation=0, max_line_length=5).notes == []
    with pytest.raises(CorpusError, match=r"all lines are longer than .*: 1; raise it"):
        load(path, framing="lines", validation=0, max_line_length=1)


def test_what_only_the_later_parts_hold_is_unknown(tmp_path: Path) -> None:
    corpus = load(save(tmp_path / "a", "abab" + "xb" + "yb"), validation=0.25, test=0.25)
    assert corpus.vocabulary.symbols == ("<unk>", "a", "b")
    assert corpus.vocabulary.counts == (0, 2, 2)
    assert [part.ids.tolist() for part in (corpus.train, corpus.validation, corpus.test)] == [
        [1, 2, 1, 2],
        [0, 2],
        [0, 2],
    ]


@pytest.mark.parametrize("framing", ["stream", "lines"])
@pytest.mark.parametrize("count", [4, 10**400])
def test_a_text_of_nothing_but_rare_characters_is_refused(tmp_path: Path, framing: str, count: int) -> None:
    path = save(tmp_path / "a", "abc\n" * 3 + "\n" * 3)
    with pytest.raises(CorpusError, match=r"no character occurs as often as corpus\.min_count requires; lower it"):
        load(path, framing=framing, validation=0, min_count=count)


def test_a_text_is_normalised_before_it_is_counted_and_the_vocabulary_remembers_how(tmp_path: Path) -> None:
    path = save(tmp_path / "a", "E\u0301E\u0301ﬁ\n")
    corpus = load(path, validation=0, normalization="nfkc", lowercase=True, min_count=2)
    assert corpus.vocabulary.symbols == ("<unk>", "é")
    assert corpus.vocabulary.counts == (3, 2)
    assert (corpus.train.characters, corpus.train.bytes) == (5, 7)
    assert corpus.vocabulary.normalize("É") == "é"


def test_at_byte_level_a_part_has_fewer_characters_than_symbols(tmp_path: Path) -> None:
    path = save(tmp_path / "a", "画在\n".encode() + b"\xff")
    train = load(path, validation=0, level="byte").train
    assert (len(train.ids), train.characters, train.bytes) == (8, 4, 8)


def test_held_out_text_is_framed_and_normalised_as_the_model_was_trained(tmp_path: Path) -> None:
    path = save(tmp_path / "a", "A\n\nb")
    lines = Vocabulary.build("ab\n", framing="lines", lowercase=True)
    stream = Vocabulary.build("ab\n")
    assert load_held_out(path, lines).ids.tolist() == lines.encode("a\nb\n").tolist()
    assert load_held_out([path, path], stream).ids.tolist() == stream.encode("A\n\nb\nA\n\nb").tolist()
    assert load_held_out(path, stream).characters == 4


# --- A large text


LINES = st.lists(st.text(st.sampled_from("aÉ\u0301é画Σσς😀'."), max_size=9), min_size=4, max_size=30)


@given(
    LINES,
    st.sampled_from(["stream", "lines"]),
    st.sampled_from(["character", "byte"]),
    st.sampled_from([None, 5]),
    st.integers(1, 7),
)
def test_a_large_text_is_encoded_as_a_small_one_is(
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[str],
    framing: str,
    level: str,
    longest: int | None,
    piece: int,
) -> None:
    path = save(tmp_path_factory.getbasetemp() / "text.txt", "a\nb\nc\n" + "\n".join(lines))
    settings: dict[str, Any] = {"framing": framing, "level": level, "validation": 0.3, "max_line_length": longest}
    settings |= {"normalization": "nfkc", "lowercase": True}
    small = load(path, **settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHARLM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        pieces: dict[str, Any] = {"cache": Cache(memory_bytes=1), "piece_size": piece}
        for _ in range(2):  # encoded, then found
            large = load(path, **settings, **pieces)
            assert large.vocabulary.to_json() == small.vocabulary.to_json()
            assert (large.key, large.notes) == (small.key, small.notes)
            for part, expected in zip(parts_of(large), parts_of(small), strict=True):
                assert part.ids.tolist() == expected.ids.tolist()
                assert (part.characters, part.bytes) == (expected.characters, expected.bytes)
        held_out = load_held_out(path, large.vocabulary, **pieces)
    expected = load_held_out(path, small.vocabulary)
    assert held_out.ids.tolist() == expected.ids.tolist()
    assert (held_out.characters, held_out.bytes) == (expected.characters, expected.bytes)


@pytest.mark.parametrize("piece_size", [2, 100])
def test_a_split_counts_a_symbol_piece_by_piece(tmp_path: Path, piece_size: int) -> None:
    train = load(save(tmp_path / "a", "abcabca"), validation=0).train
    assert [train.count(symbol, piece_size=piece_size) for symbol in (0, 1, 2, None)] == [0, 3, 2, 0]


def test_a_sample_of_a_split_is_pieces_or_whole_lines_from_all_over_it() -> None:
    text = "".join(f"{number:05}\n" for number in range(9000))
    vocabulary = Vocabulary.build(text, framing="lines")
    split = Split.of(text, vocabulary)
    lines = vocabulary.decode(split.sample(6000, vocabulary.boundary_id).ids.tolist()).splitlines()
    assert 800 < len(lines) < 1000
    assert all(len(line) == 5 for line in lines)
    assert int(lines[0]) < 100
    assert int(lines[-1]) > 8900
    pieces = split.sample(6000, pieces=10).sequences()
    assert [len(piece) for piece in pieces] == [600] * 10
    assert all(vocabulary.decode(piece.tolist()) in text for piece in pieces)
    assert split.sample(len(text)) is split


@pytest.mark.parametrize(("symbols", "dtype"), [(255, "uint8"), (256, "uint16"), (300, "uint16")])
def test_ids_are_stored_in_the_smallest_type_that_holds_the_vocabulary(
    tmp_path: Path, symbols: int, dtype: str
) -> None:
    text = "".join(chr(0x4E00 + i) for i in range(symbols))  # and <unk>
    assert load(save(tmp_path / "a", text), validation=0).train.ids.dtype == dtype


def test_the_key_of_a_corpus_is_that_of_its_vocabulary_training_and_validation_text(tmp_path: Path) -> None:
    corpus = load(save(tmp_path / "a", "abcabc" * 9), validation=0.2, test=0.2)
    seen = [corpus.train.ids.astype(np.int32), corpus.validation.ids.astype(np.int32)]
    expected = hashlib.sha256(corpus.vocabulary.to_json().encode() + b"".join(ids.tobytes() for ids in seen))
    assert corpus.key == expected.hexdigest()


def test_a_disk_without_room_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a", "abc" * 5000)
    monkeypatch.setenv("CHARLM_CACHE", str(tmp_path / "cache"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(CorpusError, match=r"no room to encode the corpus \(.*\); make room .* CHARLM_CACHE"):
            load(path, cache=Cache(memory_bytes=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "10% of the text, from all over"),
        ({"split": "tail"}, "the last 10% of the text"),
        ({"split": "tail", "validation": 0.055}, "the last 5.5% of the text"),
        ({"split": "tail", "test": 0.1}, "the end of the text"),
    ],
)
def test_what_is_held_out_is_told_as_a_share_of_the_text(settings: dict[str, Any], said: str) -> None:
    assert describe_held_out(CorpusConfig(path="text", **settings), "stream") == said
