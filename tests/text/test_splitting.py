"""What is held out: lines or pieces from all over a text, none of which is learnt, or the end of it."""

from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.config import CorpusConfig
from charlm.errors import CorpusError
from charlm.text.cache import Cache
from charlm.text.corpus import Corpus, load_corpus
from charlm.text.splitting import PIECE_CHARACTERS, split_sizes, spread_lines, spread_pieces, tail_runs

shares = st.floats(0, 0.6) | st.sampled_from([0.0, 0.1, 0.05, 1 / 3, 0.9])


def load(path: Path, text: str | None = None, *, piece_size: int = 1 << 20, **settings: Any) -> Corpus:
    if text is not None:
        path.write_bytes(text.encode())
    return load_corpus(CorpusConfig(path=str(path), **settings), cache=Cache(), piece_size=piece_size)


def words(number: int, seed: int = 0, per_line: int = 12) -> str:
    """Prose without sense: each word is another, so that a place can be told from all others."""
    rng = np.random.default_rng(seed)
    lines, line = [], []
    for i in range(number):
        line.append("".join(chr(97 + (i // 26**k) % 26) for k in range(4)) + "x" * int(rng.integers(4)))
        if len(line) == per_line or i == number - 1:
            lines.append(" ".join(line))
            line = []
    return "\n".join(lines) + "\n"


def texts(corpus: Corpus) -> list[list[str]]:
    """The parts of each split, as text."""
    splits = (corpus.train, corpus.validation, corpus.test)
    return [[corpus.vocabulary.decode(part.tolist()) for part in split.sequences()] for split in splits]


# --- Sizes


@given(st.integers(1, 10**7), shares, shares)
def test_sizes_are_the_shares_and_no_split_that_is_asked_for_is_empty(
    total: int, validation: float, test: float
) -> None:
    try:
        sizes = split_sizes(total, validation, test, "lines")
    except CorpusError:
        assert validation + test >= 1 or any(
            s and s * total < 1 + 1e-6 for s in (validation, test, 1 - validation - test)
        )
        return
    assert sum(sizes) == total
    for size, share in zip(sizes, (1 - validation - test, validation, test), strict=True):
        assert abs(size - share * total) < 2
        assert bool(size) == bool(share)


# --- Plans


@given(st.integers(1, 60_000), st.integers(0, 10_000), st.integers(0, 10_000))
@settings(max_examples=40)
def test_lines_are_drawn_from_every_block_and_all_are_dealt_out(train: int, validation: int, test: int) -> None:
    sizes = (train, validation, test)
    runs = list(spread_lines(sizes)())
    assert runs == list(spread_lines(sizes)())  # it may be asked for again
    for split, size in enumerate(sizes):
        assert sum(length for kind, length in runs if kind == split) == size
    assert all(length > 0 for _, length in runs)


def test_lines_of_every_stretch_of_a_sorted_list_are_held_out() -> None:
    runs = list(spread_lines((36_000, 4_000, 0))())
    kinds = np.repeat([kind for kind, _ in runs], [length for _, length in runs])
    held_out = kinds.reshape(40, 1000).sum(1)  # of each thousand lines
    assert held_out.min() > 60
    assert held_out.max() < 140


@given(st.integers(10, 200_000), st.floats(0, 0.95), st.floats(0, 0.95), st.integers(0, 99), st.booleans())
@settings(max_examples=60)
def test_pieces_are_spread_over_a_stream_and_their_sizes_are_the_shares(
    total: int, validation: float, test: float, seed: int, breaks: bool
) -> None:
    try:
        sizes = split_sizes(total, validation, test, "characters")
    except CorpusError:
        return

    def next_breaks(places: list[int], within: int) -> list[int]:
        assert places == sorted(places)
        return [min(total, place + (place * 7 + seed) % (within + 1)) if breaks else place for place in places]

    runs = list(spread_pieces(sizes, next_breaks)())
    assert sum(length for _, length in runs) == total
    assert all(length > 0 for _, length in runs)
    for split in (0, 1, 2):
        pieces = [length for kind, length in runs if kind == split]
        assert bool(pieces) == bool(sizes[split])
        if split and sizes[split]:
            assert abs(sum(pieces) - sizes[split]) <= (0.26 * sizes[split] if breaks else len(pieces)) + 1
            assert max(pieces) <= 2.5 * PIECE_CHARACTERS
    if validation and total > 20 * PIECE_CHARACTERS and validation + test < 0.3:
        ends = list(accumulate(length for _, length in runs))
        middles = [end - length / 2 for end, (kind, length) in zip(ends, runs, strict=True) if kind == 1]
        if len(middles) >= 4:  # fewer cannot be everywhere
            assert middles[0] < 0.4 * total
            assert middles[-1] > 0.6 * total


def test_a_tail_is_the_end() -> None:
    assert list(tail_runs((80, 15, 5))()) == [(0, 80), (1, 15), (2, 5)]
    assert list(tail_runs((80, 0, 5))()) == [(0, 80), (2, 5)]


# --- Corpora


@pytest.mark.parametrize("piece_size", [997, 1 << 20])
def test_a_stream_is_its_parts_in_order_and_nothing_that_is_held_out_is_learnt(
    tmp_path: Path, piece_size: int
) -> None:
    text = words(20_000)
    corpus = load(tmp_path / "text", text, framing="stream", validation=0.1, test=0.05, piece_size=piece_size)
    train, validation, test = texts(corpus)
    parts = [(text.index(part), part) for split in (train, validation, test) for part in split]
    assert "".join(part for _, part in sorted(parts)) == text  # every character is in one split, and once
    for split, share in ((validation, 0.1), (test, 0.05)):
        assert sum(map(len, split)) == pytest.approx(share * len(text), rel=0.15)
        assert len(split) == 8  # of a short text there are more and shorter pieces
        assert all(0.5 < len(part) * 8 / (share * len(text)) < 1.5 for part in split)
        assert text.index(split[0]) < len(text) / 3
        assert text.index(split[-1]) > len(text) * 2 / 3
    for _, part in parts:  # lines are short here: what is held out are whole lines
        assert part.endswith("\n")
    for split in (corpus.train, corpus.validation, corpus.test):
        assert split.parts[0] == 0
        assert sum(map(len, split.sequences())) == len(split.ids) == split.characters


def test_words_stay_whole_where_there_are_no_lines(tmp_path: Path) -> None:
    text = words(5_000).replace("\n", " ")
    train, validation, _ = texts(load(tmp_path / "text", text, framing="stream"))
    assert all(part.endswith(" ") for part in (*train, *validation))
    assert set(" ".join(train).split()).isdisjoint(" ".join(validation).split())


def test_a_text_without_lines_and_words_is_cut_anywhere(tmp_path: Path) -> None:
    text = "".join(chr(0x4E00 + i) for i in range(20_000))
    train, validation, _ = texts(load(tmp_path / "text", text, framing="stream", min_count=1))
    assert sum(map(len, train)) == 18_000
    assert sum(map(len, validation)) == 2_000
    assert len(validation) > 1


@given(
    st.text(st.sampled_from("ab \n画"), min_size=1, max_size=60),
    st.sampled_from(["stream", "lines", "auto"]),
    st.sampled_from(["character", "byte"]),
    shares,
    shares,
    st.integers(1, 9),
)
def test_tiny_texts_are_split_or_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory,
    text: str,
    framing: str,
    level: str,
    validation: float,
    test: float,
    piece_size: int,
) -> None:
    path = tmp_path_factory.getbasetemp() / "tiny.txt"
    settings = {"framing": framing, "level": level, "validation": validation, "test": test}
    try:
        corpus = load(path, text, piece_size=piece_size, **settings)
    except CorpusError:
        return
    framed = "".join(f"{line}\n" for line in text.split("\n") if line)
    expected = len(framed if corpus.vocabulary.framing == "lines" else text)
    splits = (corpus.train, corpus.validation, corpus.test)
    assert sum(split.characters for split in splits) == expected
    for split, share in zip(splits, (1 - validation - test, validation, test), strict=True):
        assert bool(split.characters) == bool(share)


def test_lines_are_drawn_whole_and_those_that_are_too_long_are_no_part_of_the_shares(tmp_path: Path) -> None:
    lines = [f"{i:05}" + ("long" if i % 2 else "") for i in range(2000)]
    corpus = load(tmp_path / "text", "\n".join(lines), framing="lines", max_line_length=5, test=0.1)
    splits = ["".join(split).splitlines() for split in texts(corpus)]
    assert [len(split) for split in splits] == [800, 100, 100]
    assert sorted(line for split in splits for line in split) == lines[::2]
    assert splits == [sorted(split) for split in splits]  # in the order of the text
    assert corpus.notes == ["1,000 of 2,000 lines are longer than 5 characters and are left out"]


def test_the_split_at_byte_level_keeps_characters_whole(tmp_path: Path) -> None:
    text = "画在\n" * 3000
    corpus = load(tmp_path / "text", text, framing="stream", level="byte")
    for split in (corpus.train, corpus.validation):
        assert bytes(split.ids.tolist()).decode().replace("画在\n", "") == ""
        assert split.characters * 7 == len(split.ids) * 3


def test_what_is_held_out_is_the_same_whatever_the_seed_of_training_and_whatever_the_run() -> None:
    corpus = {"framing": "stream", "validation": 0.1}
    plans = [list(spread_pieces((90_000, 10_000, 0), lambda places, _: places)()) for _ in range(2)]
    assert plans[0] == plans[1]
    assert "seed" not in CorpusConfig(path="x", **corpus).model_dump()


# --- Texts of their own


def test_validation_and_test_may_be_files_of_their_own(tmp_path: Path) -> None:
    text = words(1000)
    (tmp_path / "new.txt").write_text("new, ways\n")
    (tmp_path / "last.txt").write_text("the last\n\nof it")
    settings = {"validation": str(tmp_path / "new.txt"), "test": str(tmp_path / "last.txt")}
    stream = load(tmp_path / "text", text, framing="stream", **settings)
    assert texts(stream)[0] == [text]
    assert stream.vocabulary.decode(stream.test.ids.tolist())[-2:] in ("it", "<unk>")
    assert (stream.validation.characters, stream.test.characters) == (10, 15)
    assert stream.held_out == "new.txt"
    assert stream.validation.count(stream.vocabulary.unknown_id) > 0  # the vocabulary is that of the training text
    lines = load(tmp_path / "text", framing="lines", **settings)
    assert (lines.train.characters, lines.test.characters) == (len(text), 15)  # no empty line, but an end


def test_a_file_to_validate_on_and_a_share_for_the_test_go_together(tmp_path: Path) -> None:
    text = words(3000)
    (tmp_path / "new.txt").write_text("some more\n")
    corpus = load(tmp_path / "text", text, framing="stream", validation=str(tmp_path / "new.txt"), test=0.1)
    train, _, test = texts(corpus)
    assert sum(map(len, train)) + sum(map(len, test)) == len(text)
    assert sum(map(len, test)) == pytest.approx(0.1 * len(text), rel=0.25)
    assert corpus.validation.characters == 10


def test_a_corpus_may_be_validated_on_itself(tmp_path: Path) -> None:
    corpus = load(tmp_path / "text", words(100), framing="stream", validation=str(tmp_path / "text"))
    assert corpus.validation.ids.tolist() == corpus.train.ids.tolist()


@pytest.mark.parametrize("key", ["validation", "test"])
def test_a_held_out_file_that_is_not_there_is_named_with_its_key(tmp_path: Path, key: str) -> None:
    missing = str(tmp_path / "missing.txt")
    with pytest.raises(CorpusError, match=rf"^corpus\.{key}: {missing}: no such file"):
        load(tmp_path / "text", words(100), **{key: missing})
    (tmp_path / "missing.txt").write_text("\n\n")
    with pytest.raises(CorpusError, match=rf"^corpus\.{key}: {missing}: the corpus is empty"):
        load(tmp_path / "text", **{key: missing})


def test_a_kept_corpus_is_made_anew_when_the_file_to_validate_on_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARLM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "text").write_text(words(100))
    new = tmp_path / "new.txt"
    config = CorpusConfig(path=str(tmp_path / "text"), framing="stream", validation=str(new))
    found = []
    for content in ("aaab\n", "aaac\n", "aaab\n"):
        new.write_text(content)
        corpus = load_corpus(config, cache=Cache(memory_bytes=1))
        found.append((corpus.key, corpus.vocabulary.decode(corpus.validation.ids.tolist())))
    assert [text for _, text in found] == ["aaab\n", "aaac\n", "aaab\n"]
    assert found[0] == found[2] != found[1]
    assert len(list((tmp_path / "cache" / "encoded").iterdir())) == 2


@pytest.mark.parametrize("piece_size", [300, 1 << 20])
def test_a_large_text_has_the_same_parts_as_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece_size: int
) -> None:
    monkeypatch.setenv("CHARLM_CACHE", str(tmp_path / "cache"))
    small = load(tmp_path / "text", words(9000), framing="stream", test=0.1)
    config = CorpusConfig(path=str(tmp_path / "text"), framing="stream", test=0.1)
    for _ in range(2):  # encoded, then found
        large = load_corpus(config, cache=Cache(memory_bytes=1), piece_size=piece_size)
        assert texts(large) == texts(small)
        assert (large.key, large.held_out) == (small.key, small.held_out)
