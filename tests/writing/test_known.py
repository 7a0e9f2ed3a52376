"""What a corpus has is never written where novelty is asked for, and what is left follows from the seed."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import charlm
from charlm.config import SamplingConfig
from charlm.errors import CharlmError
from charlm.sampling import write_texts
from charlm.text.corpus import Split
from charlm.text.vocabulary import Vocabulary
from charlm.writing.known import KnownTexts, write_new_texts
from models import make_mixture

NAMES = "ab\nba\naab\nabba\n"


def known_texts(*texts: str, **settings: Any) -> KnownTexts:
    vocabulary = Vocabulary.build("".join(texts), **settings)
    return KnownTexts(vocabulary, [Split.of(text, vocabulary) for text in texts])


@given(
    st.lists(st.text(st.sampled_from("ab船"), min_size=1, max_size=3)), st.text(st.sampled_from("ab船"), max_size=3)
)
def test_known_lines_are_the_lines_of_all_splits(lines: list[str], text: str) -> None:
    splits = ["".join(f"{line}\n" for line in half) for half in (lines[::2], lines[1::2])]
    known = known_texts("ab船\n", *splits, framing="lines")
    assert (text in known) == (text in [*lines, "ab船"] or not text)


@given(
    st.lists(st.text(st.sampled_from("ab\n"), max_size=6), max_size=3), st.text(st.sampled_from("ab\n"), max_size=3)
)
@pytest.mark.parametrize("level", ["character", "byte"])
def test_in_a_stream_all_that_stands_in_a_split_is_known(level: Any, texts: list[str], text: str) -> None:
    known = known_texts("ab\n", *texts, level=level)
    assert (text in known) == any(text in own for own in ["ab\n", *texts])


def test_what_is_looked_for_is_read_as_the_corpus_was() -> None:
    vocabulary = Vocabulary.build("café\n", framing="lines", normalization="nfc", lowercase=True)
    assert "Cafe\u0301" in KnownTexts(vocabulary, [Split.of("café\n", vocabulary)])


def model(framing: Any = "lines") -> dict[str, Any]:
    vocabulary = Vocabulary.build(NAMES, framing=framing)
    return {"mixture": make_mixture(len(vocabulary), hidden_size=4), "vocabulary": vocabulary}


@pytest.mark.parametrize("framing", ["lines", "stream"])
@given(seed=st.integers(0, 9), count=st.integers(0, 5), prompt=st.sampled_from(["", "a"]), only_new=st.booleans())
def test_new_texts_are_the_samples_that_the_corpus_does_not_have(
    framing: Any, seed: int, count: int, prompt: str, only_new: bool
) -> None:
    made, rule = model(framing), SamplingConfig(length=6, temperature=1)
    known = KnownTexts(made["vocabulary"], [Split.of(NAMES, made["vocabulary"])])
    how: dict[str, Any] = {"rule": rule, "seed": seed, "prompt": prompt, "only_new": only_new, "stop": "bb"}
    found = list(write_new_texts(count=count, known=known, **made, **how))
    whole = list(write_texts(count=100, **made, **{**how, "only_new": False}))
    printed = list(write_texts(count=100, **made, **how))
    expected = [text for text, own in zip(printed, whole, strict=True) if text not in known and own not in known]
    assert [(text, text.number) for text in found] == [(text, text.number) for text in expected[:count]]
    assert len(found) == count


def test_it_gives_up_where_nothing_is_new() -> None:
    made = model()
    rule = SamplingConfig(length=6, temperature=1)

    class All(KnownTexts):
        asked = 0

        def __contains__(self, text: object) -> bool:
            self.asked += 1
            return self.asked > 2  # twice for each text

    found = write_new_texts(count=5, rule=rule, known=All(made["vocabulary"], []), most_refused=100, **made)
    assert next(found).number == 0
    with pytest.raises(CharlmError, match="the last 100 samples all occur in the corpus, after 1 new one") as error:
        next(found)
    assert error.value.exit_code == 1


def test_from_python_the_corpus_of_the_run_is_asked(tiny_lines_run: Path, tiny_text: str) -> None:
    lm = charlm.load(tiny_lines_run)
    plain, novel = list(lm.sample(30, seed=5)), list(lm.sample(30, seed=5, novel=True))
    assert [text.number for text in plain] == list(range(30))
    lines = tiny_text.splitlines()
    assert not set(lines) & set(novel)
    assert novel[:20] == [text for text in plain if text not in lines][:20]
