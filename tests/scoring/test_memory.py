"""Reading with memory: what it adds to a text, how far it is trusted, and the document before a sentence."""

import numpy as np
import pytest

import charlm
from charlm.errors import CorpusError, InputError
from charlm.experts.memory import CONTEXTS, remember
from charlm.experts.mixture import Mixture
from charlm.language_model import LanguageModel
from charlm.scoring.evaluation import evaluate
from charlm.scoring.log_probs import cut_sequences, window_log_probs
from charlm.scoring.memory import _beginnings, evaluate_memory, fit_memory, kinds_of, read_in_order
from charlm.text.batches import pad_lines
from charlm.text.corpus import Split
from charlm.text.vocabulary import Vocabulary
from models import make_language_model, make_mixture

LINES = [f"{name} said that {name} {verb} it" for name in ("anna", "otto") for verb in ("saw", "had", "knew")]
TEXT = "\n".join(LINES * 3) + "\n"
every_framing = pytest.mark.parametrize("framing", ["stream", "lines"])


def mixture_of(vocabulary: Vocabulary, *, powers: bool = True) -> Mixture:
    mixture = make_mixture(len(vocabulary), hidden_size=7)
    if powers:
        rng = np.random.default_rng(0)
        mixture.memory_powers = rng.uniform(0.2, 1, (CONTEXTS, 2)).astype(np.float32)
        mixture.memory_powers[0] = 1, 0
    return mixture


def model(framing: str) -> LanguageModel:
    vocabulary = Vocabulary.build(TEXT, framing=framing)
    return make_language_model(mixture_of(vocabulary), vocabulary)


def test_a_stream_is_read_as_symbol_by_symbol_through_the_mixture_with_memory() -> None:
    vocabulary = Vocabulary.build(TEXT, framing="stream")
    mixture, ids = mixture_of(vocabulary), vocabulary.encode(TEXT)
    both = remember(mixture)
    inputs, targets = pad_lines([ids], vocabulary.boundary_id)
    expected, _ = window_log_probs(both, inputs, targets, both.initial_state(1))
    found = evaluate_memory(mixture, vocabulary, Split.of(TEXT, vocabulary))
    assert found == pytest.approx(-expected.sum() / len(ids), abs=1e-6)


def test_lines_are_read_from_their_beginnings_and_remembered_all_the_same() -> None:
    lm = model("lines")
    both, ids = lm.with_memory(), lm.vocabulary.encode(f"\n{LINES[0]}\n")
    log_probs, _ = window_log_probs(both, ids[None, :-1], ids[None, 1:], both.initial_state(1))
    total = float(log_probs.sum())
    for i, line in enumerate(LINES * 3):
        if i:
            document = "\n".join((LINES * 3)[:i])
            total += lm.score([line], document=document)[0].logprob
    nats = evaluate_memory(lm.mixture, lm.vocabulary, Split.of(TEXT, lm.vocabulary))
    assert nats == pytest.approx(-total / len(TEXT), abs=1e-6)


def test_parts_of_a_stream_begin_anew_and_are_remembered_all_the_same() -> None:
    vocabulary = Vocabulary.build(TEXT, framing="stream")
    mixture, ids = mixture_of(vocabulary), vocabulary.encode(TEXT)
    half = len(ids) // 2
    whole, first = Split.of(TEXT, vocabulary), Split.of(TEXT[:half], vocabulary)
    parts = Split(whole.ids, whole.characters, whole.bytes, parts=(0, half))
    second = evaluate_memory(mixture, vocabulary, parts) * len(ids)
    second -= evaluate_memory(mixture, vocabulary, first) * half
    alone = evaluate_memory(mixture, vocabulary, Split.of(TEXT[half:], vocabulary)) * (len(ids) - half)
    assert abs(second - alone) > 1  # it has read the first half


@every_framing
def test_the_order_of_the_text_is_kept_however_it_is_laid_out(framing: str) -> None:
    text = "ab\n\nabc\n" * 20 + "a" * 700 + "\n" + "b\n" * 90 + "abc" * 3000 + "\ncab\n"
    vocabulary = Vocabulary.build(text, framing=framing)
    mixture, ids = mixture_of(vocabulary), vocabulary.encode(text)
    sequences = cut_sequences(vocabulary, ids)
    pieces = list(read_in_order(mixture, sequences, vocabulary.boundary_id))
    np.testing.assert_array_equal(np.concatenate([piece.symbols for piece in pieces]), ids)
    begins = np.flatnonzero(np.concatenate([piece.begins for piece in pieces]))
    np.testing.assert_array_equal(begins, np.cumsum([0, *map(len, sequences)])[:-1])
    nats = -sum(
        float(mixture.target_log_probs([r[:, None] for r in piece.readings], piece.symbols[:, None]).sum())
        for piece in pieces
    )
    expected = evaluate(mixture, vocabulary, Split.of(text, vocabulary)).nats_per_character
    assert nats / len(text) == pytest.approx(expected, abs=1e-3)  # rows of a long stream are warmed up
    assert all(len(kinds_of(mixture, piece.readings)) == len(piece.symbols) for piece in pieces)


@every_framing
@pytest.mark.parametrize("most", [1 << 16, 100])
def test_powers_are_found_on_the_beginning_of_a_held_out_text(framing: str, most: int) -> None:
    vocabulary = Vocabulary.build(TEXT, framing=framing)
    mixture, split = mixture_of(vocabulary, powers=False), Split.of(TEXT, vocabulary)
    fit_memory(mixture, vocabulary, split, most=most)
    assert mixture.memory_powers is not None
    assert mixture.memory_powers.shape == (CONTEXTS, 2)
    assert (mixture.memory_powers >= 0).all()
    np.testing.assert_array_equal(mixture.memory_powers[0], [1, 0])
    static = evaluate(mixture, vocabulary, split).nats_per_character
    assert evaluate_memory(mixture, vocabulary, split) < static - 0.5
    changed = vocabulary.encode("".join(reversed(TEXT[most:])))
    other, beginning = mixture_of(vocabulary, powers=False), split.ids[:most]
    ids = np.concatenate([beginning, changed]).astype(np.int32)
    fit_memory(other, vocabulary, Split(ids, len(ids), len(ids)), most=most)
    np.testing.assert_array_equal(other.memory_powers, mixture.memory_powers)


def test_of_a_large_vocabulary_some_places_are_enough() -> None:
    text = TEXT + "".join(chr(0x4E00 + i) for i in range(3000)) * 2 + "\n"
    vocabulary = Vocabulary.build(text, framing="stream")
    mixture = mixture_of(vocabulary, powers=False)
    fit_memory(mixture, vocabulary, Split.of(text * 2, vocabulary))
    assert mixture.memory_powers is not None
    assert np.isfinite(mixture.memory_powers).all()


def test_without_a_held_out_text_there_are_none() -> None:
    vocabulary = Vocabulary.build(TEXT, framing="stream")
    mixture = mixture_of(vocabulary, powers=False)
    for text in ("", "☃☃☃"):  # unknown characters alone say nothing
        fit_memory(mixture, vocabulary, Split.of(text, vocabulary))
        assert mixture.memory_powers is None


# ---------------------------------------------------------------------------------------------------- a document


@every_framing
def test_without_a_document_no_bit_of_a_score_changes(framing: str) -> None:
    lm = model(framing)
    sentences = [*LINES, "", "otto"]
    found = [score.logprob for score in lm.score(sentences)]
    lm.mixture.memory_powers = None
    assert [score.logprob for score in lm.score(sentences)] == found


@every_framing
def test_a_document_makes_its_names_likelier_and_a_sentence_does_not_depend_on_the_others(framing: str) -> None:
    lm = model(framing)
    document = "\n".join(LINES[:3])
    plain, other = (score.logprob for score in lm.score(["anna said", "otto said"], document=document))
    unread = [score.logprob for score in lm.score(["anna said", "otto said"])]
    assert plain - unread[0] > other - unread[1] + 0.5
    together = lm.score(["anna said", "otto said", "anna had it"] * 30, document=document)
    assert together[0].logprob == pytest.approx(plain, abs=1e-5)
    assert together[-2].logprob == pytest.approx(other, abs=1e-5)
    (alternatives, *_) = lm.alternatives("xnna", 1, document=document)
    assert alternatives[0].char == "a"


def test_document_context_and_sentence_are_one_text() -> None:
    lm = model("stream")
    both = lm.with_memory()
    ids = lm.vocabulary.encode("\nanna saw\notto had it\n")
    log_probs, _ = window_log_probs(both, ids[None, :-1], ids[None, 1:], both.initial_state(1))
    (score,) = lm.score(["had it"], document="anna saw", context="otto ")
    assert score.logprob == pytest.approx(log_probs[0, -7:].sum(), abs=1e-5)
    (ended,) = lm.score(["had it"], document="anna saw\n", context="otto ")
    assert ended == score
    head, tail = (
        lm.score([text], document="anna saw", context=context, eos=eos)[0].logprob
        for text, context, eos in (("otto ", "", False), ("had it", "otto ", True))
    )
    (whole,) = lm.score(["otto had it"], document="anna saw")
    assert head + tail == pytest.approx(whole.logprob, abs=1e-4)


@every_framing
def test_unknown_characters_of_a_document_are_refused_where_they_are_refused(framing: str) -> None:
    lm = model(framing)
    with pytest.raises(InputError, match="☃"):
        lm.score(["anna"], document="otto\n☃\n", unknown="error")
    lm.score(["anna"], document="anna\notto\n", unknown="error")
    with pytest.raises(InputError, match="document"):
        lm.score(["anna"], document=3)


def test_a_run_without_powers_finds_them_in_its_corpus_or_says_what_is_missing(tmp_path_factory) -> None:
    tmp = tmp_path_factory.mktemp("memory")
    (text := tmp / "text.txt").write_text(TEXT)
    config = {
        "corpus": {"path": str(text), "framing": "stream", "validation": 0.2},
        "model": {"hidden_size": 5},
        "training": {"budget": "4 steps", "batch_size": 2, "sequence_length": 16},
    }
    lm = charlm.train(config, out=tmp / "run")
    stored = charlm.load(tmp / "run").mixture.memory_powers
    assert stored is not None
    np.testing.assert_array_equal(lm.mixture.memory_powers, stored)
    lm.mixture.memory_powers = None  # as of a run that was stopped
    lm.with_memory()
    np.testing.assert_array_equal(lm.mixture.memory_powers, stored)
    lm.mixture.memory_powers = None
    text.unlink()
    with pytest.raises(CorpusError, match="the corpus of this run is needed"):
        lm.score(["anna"], document="otto\n")
    text.write_text(TEXT)
    config["corpus"]["validation"] = 0.0
    alone = charlm.train(config, out=tmp / "alone")
    with pytest.raises(InputError, match="trained without a validation split"):
        next(alone.sample(memory=True))
    notes: list[str] = []
    found = alone.evaluate(text, dynamic=True, note=notes.append)
    assert (found.memory_nats_per_character, found.dynamic_memory_nats_per_character) == (None, None)
    assert found.dynamic_nats_per_character is not None
    assert any("not measured, and rates that are not given are not tuned" in note for note in notes)
    notes.clear()
    alone.evaluate(text, dynamic=True, learning_rate=1e-4, decay=0.003, note=notes.append)
    assert any(note.endswith("the model with a memory is not measured") for note in notes)


def test_beginnings_are_what_follows_the_boundary_from_all_over_a_text() -> None:
    ids = np.tile(np.array([0, 2, 3, 4], np.int32), 500)
    found = _beginnings([ids, np.array([2, 0], np.int32)], 0)
    assert 32 < len(found) <= 64
    assert all(text[:3].tolist() == [2, 3, 4] for text in found)
    assert [len(text) for text in found[:50]] == [128] * 50
    assert _beginnings([np.array([2, 3], np.int32)], 0) == []
    assert _beginnings([], 0) == []
