"""How a model learnt: what a run folder says of it, and references measured on the held-out text."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import charlm
from charlm.analysis import learning
from charlm.analysis.held_out import read_held_out
from charlm.analysis.learning import measure_references, read_learning
from charlm.errors import RunError
from charlm.store.run_folder import RunFolder
from charlm.text.corpus import Split
from charlm.text.vocabulary import Vocabulary
from charlm.training.reports import find_samples
from models import make_language_model, make_mixture


@pytest.mark.parametrize("run", ["tiny_run", "tiny_lines_run", "tiny_mixture_run"])
def test_evaluations_and_samples_are_those_of_the_run(run: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(run)
    lm = charlm.load(folder, device="cpu")
    found = read_learning(lm, lm.corpus().validation)
    assert [row["step"] for row in found.evaluations] == [10, 20, 30, 40]
    assert [step for step, _ in found.samples] == [10, 20, 30, 40]
    text = (folder / "samples.txt").read_text()
    assert "".join(f"--- step {step}\n{sample}\n\n" for step, sample in found.samples) == text


@pytest.mark.parametrize("run", ["tiny_run", "tiny_lines_run", "tiny_mixture_run"])
def test_the_references_are_what_evaluation_prints(run: str, request: pytest.FixtureRequest) -> None:
    lm = charlm.load(request.getfixturevalue(run), device="cpu")
    corpus = lm.corpus()
    found = {r.name: r.nats for r in measure_references(lm, corpus.validation, corpus.train)}
    evaluation = lm.evaluate(baseline=True)
    is_mixture = run == "tiny_mixture_run"
    assert set(found) == {"unigram", "n-grams", "network"} | ({"mixture"} if is_mixture else set())
    assert found["mixture" if is_mixture else "network"] == pytest.approx(evaluation.nats_per_character, abs=1e-12)
    if not is_mixture:
        assert found["n-grams"] == evaluation.baseline_nats_per_character
    else:
        assert found["mixture"] < min(found["network"], found["n-grams"]), "together they know more"
    assert all(found[name] < found["unigram"] for name in set(found) - {"unigram"})


def test_the_unigram_reference_is_the_entropy_of_the_held_out_text_under_the_training_counts() -> None:
    vocabulary = Vocabulary.build("aaab")  # <unk>, a, b and the newline, each counted once more
    lm = make_language_model(make_mixture(len(vocabulary), hidden_size=4), vocabulary)
    unigram, _ = sorted(
        measure_references(lm, Split.of("abba", vocabulary), None), key=lambda r: r.name != "unigram"
    )
    counts = np.array(vocabulary.counts) + 1
    p = counts / counts.sum()
    a, b = vocabulary.encode("ab")
    assert unigram.nats == pytest.approx(-(np.log(p[a]) + np.log(p[b])) / 2)
    assert (p[a], p[b]) == (4 / (4 + len(vocabulary)), 2 / (4 + len(vocabulary)))


def test_references_are_sorted_and_say_how_to_read_them(tiny_mixture_run: Path) -> None:
    lm = charlm.load(tiny_mixture_run, device="cpu")
    found = read_learning(lm, lm.corpus().validation).references
    assert [r.nats for r in found] == sorted((r.nats for r in found), reverse=True)
    assert all(r.meaning.endswith(".") for r in found)


def test_of_a_long_training_text_the_beginning_is_counted_and_said_so(tiny_run: Path, monkeypatch: Any) -> None:
    lm = charlm.load(tiny_run, device="cpu")
    corpus = lm.corpus()
    monkeypatch.setattr(learning, "_MOST_COUNTED_SYMBOLS", 300)
    part, whole = (
        next(r for r in measure_references(lm, corpus.validation, train) if r.name == "n-grams")
        for train in (corpus.train, Split(corpus.train.ids[:300], 300, 300))
    )
    assert part.nats == whole.nats
    assert "300 characters" in part.meaning
    assert "characters" not in whole.meaning


def test_at_byte_level_all_is_per_character() -> None:
    vocabulary = Vocabulary.build("船船", level="byte")
    lm = make_language_model(make_mixture(len(vocabulary), hidden_size=4), vocabulary)
    split = Split.of("船a", vocabulary)
    found = {r.name: r.nats for r in measure_references(lm, split, None)}
    assert found["unigram"] == pytest.approx(-vocabulary.unigram_log_probs[split.ids].sum() / 2)
    assert found["network"] > 2 * 0.9 * np.log(256), "four bytes, two characters"


# ------------------------------------------------------------------------------------------------- samples


@given(st.lists(st.text("ab\n- step0123"), max_size=5))
def test_samples_are_found_whatever_the_model_wrote(samples: list[str]) -> None:
    entries = [(10 * n, sample) for n, sample in enumerate(samples, 1)]
    text = "".join(f"--- step {step}\n{sample}\n\n" for step, sample in entries)
    if not any(f"--- step {step}\n" in sample for step, _ in entries for sample in samples):
        assert find_samples(text, [step for step, _ in entries]) == entries


def test_only_the_head_of_the_next_step_ends_a_sample() -> None:
    text = "--- step 10\nit says\n\n--- step 99\nhere\n\n--- step 20\nb\n\n"
    assert find_samples(text, [10, 20]) == [(10, "it says\n\n--- step 99\nhere"), (20, "b")]
    assert find_samples(text, [10, 15, 20]) == [(10, "it says\n\n--- step 99\nhere"), (20, "b")]
    assert find_samples("", [10]) == find_samples(text, []) == []


def test_a_run_without_samples_has_none_and_damaged_ones_are_refused(tiny_run: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    lm = charlm.load(tmp_path / "run", device="cpu")
    held_out = lm.corpus().validation
    folder = RunFolder(tmp_path / "run")
    folder.samples.write_bytes(b"--- step 10\n\xff\xfe\n\n")
    assert read_learning(lm, held_out).samples == [(10, "\N{REPLACEMENT CHARACTER}" * 2)]
    folder.samples.unlink()
    assert read_learning(lm, held_out).samples == []
    folder.samples.mkdir()
    with pytest.raises(RunError, match=r"samples\.txt"):
        read_learning(lm, held_out)


def test_of_many_long_samples_some_are_kept(tmp_path: Path) -> None:
    steps = list(range(1, 1001))
    folder = RunFolder(tmp_path)
    folder.samples.write_text("".join(f"--- step {step}\n{'ab' * 2000}\n\n" for step in steps))
    found = learning._spread(find_samples(folder.read_samples(), steps))
    assert (len(found), found[0][0], found[-1][0]) == (learning.MOST_SAMPLES, 1, 1000)
    assert {len(text) for _, text in found} == {2000}


def test_what_was_read_of_the_held_out_text_is_not_read_again(tiny_mixture_run: Path, monkeypatch: Any) -> None:
    lm = charlm.load(tiny_mixture_run, device="cpu")
    held_out = lm.corpus().validation
    expected = read_learning(lm, held_out)
    reading = read_held_out(lm, held_out, None, "the validation split")
    monkeypatch.delattr(learning, "read_held_out")
    assert read_learning(lm, held_out, None, reading) == expected
