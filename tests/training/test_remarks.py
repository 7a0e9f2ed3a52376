"""What is said before training: what the validation loss is measured on, and when it says little."""

import random
from pathlib import Path
from typing import Any

import pytest

from charlm.config import CorpusConfig
from charlm.system.files import shipped_folder
from charlm.text.corpus import load_corpus
from charlm.training.remarks import remarks

# ruff: noqa: SIM905 (words are easier to read in one text)
ENGLISH = (shipped_folder("data") / "english.txt").read_text(encoding="utf-8")
CHINESE = (shipped_folder("data") / "chinese.txt").read_text(encoding="utf-8")


def said(path: Path, text: str, **settings: Any) -> list[str]:
    path.write_text(text, encoding="utf-8")
    return list(remarks(load_corpus(CorpusConfig(path=str(path), **settings))))


def warnings(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith("warning: ")]


@pytest.mark.parametrize("split", ["spread", "tail"])
@pytest.mark.parametrize("framing", ["stream", "lines"])
@pytest.mark.parametrize("text", [ENGLISH[:80_000], CHINESE, ENGLISH[:3000]], ids=["english", "chinese", "short"])
def test_of_a_text_that_is_one_throughout_nothing_is_feared(
    tmp_path: Path, text: str, framing: str, split: str
) -> None:
    lines = said(tmp_path / "text", text, framing=framing, split=split)
    assert warnings(lines) == []
    assert lines[-1].startswith("validation: ")
    assert lines[-1].endswith(" characters)")


def test_english_with_chinese_at_its_end_is_warned_of_where_the_tail_is_held_out(tmp_path: Path) -> None:
    text = ENGLISH[:80_000] + CHINESE[:7000]
    unknown, unlike = warnings(said(tmp_path / "text", text, split="tail"))
    assert "% of the characters of the validation text do not occur in the training text" in unknown
    assert int(unknown.split("%")[0].rpartition(" ")[2]) > 50
    assert "looks better than the model is" in unknown
    assert "differs from the training text" in unlike
    assert warnings(said(tmp_path / "text", text)) == []  # pieces from all over hold both


def test_validation_in_another_language_is_unlike_even_if_each_character_is_known(tmp_path: Path) -> None:
    words = "der die und ist nicht ein ich zu das sie haben werden mit auf von dem sind auch nach".split()
    german = " ".join(random.Random(1).choices(words, k=2000)) + "\n"
    [unlike] = warnings(said(tmp_path / "text", ENGLISH[:80_000] + german, split="tail"))
    assert "differs from the training text (5-grams of the training text need " in unlike
    (tmp_path / "german").write_text(german, encoding="utf-8")
    [unlike] = warnings(said(tmp_path / "text", ENGLISH[:80_000], validation=str(tmp_path / "german")))
    assert "differs from the training text" in unlike


@pytest.mark.parametrize("split", ["spread", "tail"])
def test_a_sorted_list_is_unlike_its_tail_alone(tmp_path: Path, split: str) -> None:
    rng = random.Random(7)
    syllables = "ka ri mo len ta vi sor na bel du fi gar ho ja pe ul wen xi yo zan co er qui is".split()
    names = sorted({"".join(rng.choices(syllables, k=rng.choice([2, 3, 3, 4]))) for _ in range(4000)})
    lines = said(tmp_path / "names", "\n".join(names), split=split)
    assert any("lines, from all over" in line for line in lines) == (split == "spread")
    assert len(warnings(lines)) == (split == "tail")


def test_without_validation_there_is_nothing_to_say_of_it(tmp_path: Path) -> None:
    assert [line for line in said(tmp_path / "text", ENGLISH[:5000], validation=0) if "validation" in line] == []


def test_bytes_are_never_unknown_but_may_be_unlike(tmp_path: Path) -> None:
    text = ENGLISH[:80_000] + CHINESE[:7000]
    [unlike] = warnings(said(tmp_path / "text", text, split="tail", level="byte"))
    assert "differs from the training text" in unlike
