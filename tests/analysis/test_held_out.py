"""Held-out text, symbol by symbol: what is shown adds up to what `charlm eval` prints."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import charlm
from charlm.analysis import held_out
from charlm.analysis.held_out import HeldOut, find_decider, read_held_out
from charlm.errors import InputError
from charlm.experts.mixture import Mixture
from charlm.experts.ngram import NgramModel
from charlm.experts.torch_network import network_expert
from charlm.language_model import LanguageModel
from charlm.scoring.evaluation import evaluate
from charlm.scoring.log_probs import cut_sequences, text_log_probs
from charlm.text.corpus import Split
from charlm.text.vocabulary import Vocabulary
from models import make_language_model, make_mixture, make_network

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
TEXT = 12 * "the boat 船 sees the river.\nPim has bread, and a café.\n"


def make_model(
    framing: str = "stream", level: str = "character", training: str = TEXT
) -> tuple[LanguageModel, Split]:
    """A mixture of a fresh network and n-grams that trust each other equally, and its training text."""
    vocabulary = Vocabulary.build(training, framing=framing, level=level)
    split = Split.of(training, vocabulary)
    sequences = cut_sequences(vocabulary, split.ids)
    ngram = NgramModel(sequences, len(vocabulary), vocabulary.boundary_id, 4)
    mixture = make_mixture(len(vocabulary), ngram, hidden_size=8)
    mixture.powers[:] = 0.7, 0.6
    return make_language_model(mixture, vocabulary), split


def read(lm: LanguageModel, text: str, training: Split | None = None) -> HeldOut:
    return read_held_out(lm, Split.of(text, lm.vocabulary), training, "a text")


@pytest.mark.parametrize("run", ["tiny_run", "tiny_lines_run", "tiny_mixture_run"])
def test_the_mixture_costs_what_evaluation_says(run: str, request: pytest.FixtureRequest) -> None:
    lm = charlm.load(request.getfixturevalue(run), device="cpu")
    corpus = lm.corpus()
    found = read_held_out(lm, corpus.validation, corpus.train, "the validation split")
    assert found.nats == pytest.approx(lm.evaluate().nats_per_character, abs=1e-12)
    assert (found.name, found.symbols) == ("the validation split", corpus.validation.characters)
    assert found.searched == found.training_characters == corpus.train.characters


@pytest.mark.parametrize("framing", ["stream", "lines"])
@pytest.mark.parametrize("level", ["character", "byte"])
def test_each_expert_costs_what_it_costs_alone(framing: str, level: str) -> None:
    lm, _ = make_model(framing, level)
    vocabulary = lm.vocabulary
    split = Split.of("a river 船 sees.\nthe café has Pim.\n", vocabulary)
    found = read_held_out(lm, split, None, "a text")
    alone = evaluate(Mixture(lm.mixture.network), vocabulary, split).nats_per_character
    ngram = lm.mixture.others[0]
    assert isinstance(ngram, NgramModel)
    counted = -np.concatenate(ngram.sequence_log_probs(cut_sequences(vocabulary, split.ids))).sum()
    assert found.experts == ("network", "ngram")
    assert found.expert_nats == pytest.approx((alone, counted / split.characters), rel=1e-5)
    assert found.nats == pytest.approx(evaluate(lm.mixture, vocabulary, split).nats_per_character, abs=1e-12)


@pytest.mark.parametrize("framing", ["stream", "lines"])
@pytest.mark.parametrize("level", ["character", "byte"])
def test_every_way_to_divide_a_text_adds_up_to_the_whole(framing: str, level: str) -> None:
    lm, _ = make_model(framing, level)
    text = "船 the boat, Pim!\nand a café X.\n"
    found = read(lm, text)
    whole = found.nats * found.symbols
    assert found.symbols == len(text)
    for buckets in (found.by_class, found.by_place_in_word, found.by_place_in_line, found.by_known_context):
        assert sum(bucket.count for bucket in buckets) == found.symbols
        assert sum(bucket.count * bucket.nats for bucket in buckets) == pytest.approx(whole)
    assert sum(-place.log_prob for place in found.excerpt) == pytest.approx(whole, rel=1e-5)
    expected = text if level == "byte" else text.replace("X", REPLACEMENT).replace("!", REPLACEMENT)
    assert "".join(place.text for place in found.excerpt) == expected
    assert all(place.known == (place.text != REPLACEMENT) for place in found.excerpt)


def test_the_excerpt_has_what_the_model_says_at_each_place() -> None:
    lm, training = make_model()
    ids = lm.vocabulary.encode(TEXT[30:])
    found = read(lm, TEXT[30:], training).excerpt
    expected = np.concatenate([part for _, part in text_log_probs(lm.mixture, lm.vocabulary, ids)])
    np.testing.assert_allclose([place.log_prob for place in found], expected, atol=1e-6)
    for place in found:
        log_probs = [value for _, value in place.alternatives]
        assert log_probs == sorted(log_probs, reverse=True)
        assert len(log_probs) == 5
        assert dict(place.alternatives).get(place.text, log_probs[-1]) == pytest.approx(
            max(place.log_prob, log_probs[-1]), abs=1e-5
        )
        assert "<unk>" not in dict(place.alternatives)
        assert place.kind in lm.mixture.kind_names()
        assert place.decided == find_decider(np.array(place.expert_log_probs))


def test_an_unknown_character_is_no_alternative() -> None:
    vocabulary = Vocabulary.build("ab\n")
    network = make_network(len(vocabulary), hidden_size=3)
    assert vocabulary.unknown_id is not None
    network.output.bias.data[vocabulary.unknown_id] = 9.0
    found = read(make_language_model(Mixture(network_expert(network)), vocabulary), "abba\n")
    for place in (*found.excerpt, *found.dearest):
        assert {text for text, _ in place.alternatives} == {"a", "b", "\n"}
        assert sum(np.exp([value for _, value in place.alternatives])) < 0.01


def test_kinds_of_context_say_how_much_the_ngrams_know() -> None:
    lm, _ = make_model()
    found = read(lm, TEXT + "船船船")
    places = {place.kind for place in found.excerpt}
    assert {"1 in all", "2 in all", "3"} <= places
    assert {bucket.name for bucket in found.by_known_context} >= places
    costs = {bucket.name: bucket.nats for bucket in found.by_known_context}
    assert costs["3"] < costs["1"], "what follows a context that is not known is dear"


def test_matches_of_the_excerpt_stand_in_the_training_text() -> None:
    lm, training = make_model()
    found = read(lm, TEXT[30:90], training).excerpt
    assert found[0].match is None
    for n, place in enumerate(found[1:], 1):
        assert place.match
        assert (place.match.length, place.match.agrees) == (min(n, 60), True)
        assert TEXT[place.match.position] == place.match.followed_by == place.text
    assert all(place.match is None for place in read(lm, TEXT[30:90]).excerpt)


def test_bytes_of_a_character_are_shown_as_one() -> None:
    lm, training = make_model(level="byte")
    found = read(lm, "boat 船 sees", training)
    (place,) = (place for place in found.excerpt if place.text == "船")
    ids = lm.vocabulary.encode("boat 船 sees")
    (_, log_probs), *_ = text_log_probs(lm.mixture, lm.vocabulary, ids)
    assert place.log_prob == pytest.approx(log_probs[5:8].sum(), abs=1e-5)
    assert place.match
    assert (place.match.length, place.match.followed_by) == (5, "船")
    assert {"\\xe8"} <= {text for text, _ in place.alternatives}
    assert not any("\ud800" <= char <= "\udfff" for text, _ in place.alternatives for char in text)


def test_unknown_characters_are_marked_and_are_none_of_the_dearest() -> None:
    lm, training = make_model()
    found = read(lm, "the Ω boat Ω\n", training)
    assert [(place.text, place.known) for place in found.excerpt if not place.known] == [(REPLACEMENT, False)] * 2
    assert all(dear.text != REPLACEMENT for dear in found.dearest)
    assert any(REPLACEMENT in dear.before + dear.after for dear in found.dearest)


@pytest.mark.parametrize("framing", ["stream", "lines"])
@pytest.mark.parametrize("level", ["character", "byte"])
def test_the_dearest_places_stand_apart_and_are_those_of_the_text(framing: str, level: str) -> None:
    lm, _ = make_model(framing, level)
    text = TEXT.replace("bread", "b船ead", 1)
    found = read(lm, text)
    dearest = found.dearest
    assert dearest[0].before[-1:] + dearest[0].text + dearest[0].after[:1] == "b船e"
    assert dearest[0].log_prob == pytest.approx(min(place.log_prob for place in found.excerpt), abs=1e-5)
    assert [dear.log_prob for dear in dearest] == sorted(dear.log_prob for dear in dearest)
    places = sorted(dear.place for dear in dearest)
    assert min(np.diff(places)) >= held_out.DEAREST_APART
    assert len(dearest) == held_out.DEAREST
    for dear in dearest:
        assert text[: dear.place].endswith(dear.before)
        assert text[dear.place :].startswith(dear.text + dear.after)
        assert framing == "stream" or "\n" not in dear.before
        place = found.excerpt[dear.place]
        assert dear.alternatives[0] == (place.alternatives[0][0], pytest.approx(place.alternatives[0][1], abs=1e-4))


def test_a_network_alone_has_one_expert_and_nobody_decides() -> None:
    vocabulary = Vocabulary.build(TEXT)
    lm = make_language_model(make_mixture(len(vocabulary), hidden_size=8), vocabulary)
    found = read(lm, TEXT)
    assert (found.experts, found.expert_nats) == (("network",), (pytest.approx(found.nats),))
    assert found.by_known_context == []
    assert {(place.decided, place.kind, place.match) for place in found.excerpt} == {(None, "", None)}
    assert (found.searched, found.training_characters) == (0, 0)


@pytest.mark.parametrize(
    ("log_probs", "decider"),
    [
        ((-1.0,), None),
        ((-1.0, -1.05), None),
        ((-1.0, -1.2), 0),
        ((-3.0, -1.2, -2.0), 1),
        ((-1.0, -9.0, -1.0), None),
    ],
)
def test_an_expert_decides_where_it_gives_more_than_the_others(
    log_probs: tuple[float, ...], decider: int | None
) -> None:
    assert find_decider(np.array(log_probs)) == decider


@pytest.mark.parametrize("framing", ["stream", "lines"])
def test_of_a_long_text_a_part_is_read_and_the_name_says_so(framing: str, monkeypatch: Any) -> None:
    lm, training = make_model(framing)
    monkeypatch.setattr(held_out, "_MOST_SYMBOLS", 100)
    monkeypatch.setattr(held_out, "_MOST_TRAINING_SYMBOLS", 200)
    found = read(lm, TEXT, training)
    assert found.symbols <= 100
    assert found.name == f"a text: {found.symbols} of {len(TEXT)} characters"
    assert 150 < found.searched <= 200
    assert found.training_characters == len(TEXT)


def test_an_empty_text_is_refused() -> None:
    lm, training = make_model()
    with pytest.raises(InputError, match="empty"):
        read(lm, "", training)


def test_the_parts_of_a_stream_are_read_from_the_beginning(tmp_path: Path) -> None:
    lm, training = make_model()
    ids = lm.vocabulary.encode(TEXT)
    parts = Split(ids, len(TEXT), len(TEXT.encode()), (0, 26, 100))
    found = read_held_out(lm, parts, training, "parts")
    assert found.nats == pytest.approx(evaluate(lm.mixture, lm.vocabulary, parts).nats_per_character, abs=1e-12)
    assert [n for n, place in enumerate(found.excerpt) if place.kind == "1 in all"] == [0, 26, 100]
    assert [n for n, place in enumerate(found.excerpt) if place.match is None] == [0, 26, 100]
