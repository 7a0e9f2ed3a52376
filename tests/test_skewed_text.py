"""No skewed model: what is learnt of a text does not depend on how it happens to be sorted."""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import charlm

SYLLABLES = ["ka", "ri", "mo", "len", "ta", "vi", "sor", "na", "bel", "du", "fi", "gar", "ho", "ja", "pe", "ul"]
SYLLABLES += ["wen", "xi", "yo", "zan", "co", "er", "qui", "is"]


def invented_names(number: int) -> list[str]:
    rng, found = random.Random(7), set[str]()
    while len(found) < number:
        found.add("".join(rng.choices(SYLLABLES, k=rng.choice([2, 2, 3, 3, 4]))))
    return sorted(found)


@pytest.mark.slow
def test_a_sorted_list_of_names_is_learnt_as_a_shuffled_one(tmp_path: Path) -> None:
    names = invented_names(4000)
    shuffled = random.Random(1).sample(names, len(names))
    losses = {}
    for order, lines in (("sorted", names), ("shuffled", shuffled)):
        (tmp_path / order).write_text("\n".join(lines), encoding="utf-8")
        # As zero-config takes them, but for a budget that is the same on every machine.
        lm = charlm.train(corpus=tmp_path / order, budget="300 steps", out=tmp_path / f"{order} run")
        assert lm.config.corpus.framing == "lines"
        assert (lm.mixture.powers >= 0).all()
        texts = list(lm.sample(300, temperature=1.0, seed=1))
        initials, all_initials = Counter(text[:1] for text in texts), Counter(name[0] for name in names)
        assert initials.pop("", 0) < 15  # blank
        for letter, count in initials.items():
            assert count / 300 < max(3 * all_initials[letter] / len(names), 0.02), letter
        fresh = [name for name in invented_names(6000) if name not in set(names)][:500]
        losses[order] = -np.mean([score.mean_logprob for score in lm.score(fresh)])
    assert losses["sorted"] == pytest.approx(losses["shuffled"], abs=0.06)


@pytest.mark.slow
def test_a_text_that_ends_in_another_language_is_validated_on_both(tmp_path: Path) -> None:
    english = (Path(__file__).parent.parent / "data" / "english.txt").read_text(encoding="utf-8")
    chinese = (Path(__file__).parent.parent / "data" / "chinese.txt").read_text(encoding="utf-8")
    text = english + chinese[: len(english) // 11]
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    overrides = {"training.device": "cpu"}
    lm = charlm.train(corpus=tmp_path / "text.txt", budget="60 steps", out=tmp_path / "run", overrides=overrides)
    assert (lm.mixture.powers >= 0).all()
    validation = lm.corpus().validation
    assert validation.count(lm.vocabulary.unknown_id) < 0.01 * len(validation.ids)
