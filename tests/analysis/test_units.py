"""Units that stand for something: one that does by construction is found, and of random ones none is."""

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from charlm.analysis import units
from charlm.analysis.units import area_under_roc, expect, find_units, rank, rank_correlation
from charlm.config import load_config
from charlm.experts.mixture import Mixture
from charlm.experts.torch_network import network_expert
from charlm.language_model import LanguageModel
from charlm.model.network import CharacterModel
from charlm.text.corpus import Split
from charlm.text.vocabulary import Vocabulary
from models import CELLS, make_language_model, make_network, randomize

H = 6


def model_of(network: CharacterModel, vocabulary: Vocabulary) -> LanguageModel:
    config = load_config({"corpus": {"path": "text.txt"}, "model": network.config.model_dump()})
    return make_language_model(Mixture(network_expert(network)), vocabulary, config)


def bracketed(characters: int, seed: int = 0) -> str:
    """Words of random letters, about half of them in brackets; more than three letters do not show which."""
    rng = random.Random(seed)
    pieces = []
    while sum(map(len, pieces)) < characters:
        words = " ".join("".join(rng.choices("abcdefgh", k=rng.randint(1, 9))) for _ in range(5))
        pieces.append(f"({words}) " if rng.random() < 0.5 else f"{words}. \n")
    return "".join(pieces)


def latch(vocabulary: Vocabulary, unit: int) -> CharacterModel:
    """An LSTM with one unit whose cell ( opens and ) closes; the others are random."""
    network = randomize(make_network(len(vocabulary), cell="lstm", hidden_size=H))
    weight_ih, weight_hh = (network.recurrent.parameter(f"weight_{side}", 0).data for side in ("ih", "hh"))
    rows = [unit + gate * H for gate in range(4)]  # input, forget, candidate, output
    weight_ih[rows], weight_hh[rows] = 0, 0
    opening, closing = (vocabulary.symbols.index(bracket) for bracket in "()")
    for row, bias in zip(rows, (-10.0, 10.0, 0.0, 10.0), strict=True):
        network.recurrent.parameter("bias_ih", 0).data[row] = bias
        network.recurrent.parameter("bias_hh", 0).data[row] = 0
    weight_ih[rows[0], opening], weight_ih[rows[2], opening] = 20, 10  # c = c + 1
    weight_ih[rows[1], closing] = -20  # c = 0
    return network


@pytest.mark.parametrize("together", [2, 256])
def test_a_unit_that_latches_on_brackets_is_found(together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "_RANKED_UNITS", together)
    text = bracketed(12_000)
    vocabulary = Vocabulary.build(text)
    lm = model_of(latch(vocabulary, unit=3), vocabulary)
    found = find_units(lm, Split.of(text, vocabulary), Split.of(bracketed(5000, seed=1), vocabulary))
    assert (found.layer_sizes, found.searched) == ((H,), len(text) + 1)  # with the boundary that opens it
    finding = next(finding for finding in found.findings if finding.feature == "inside brackets")
    assert (finding.layer, finding.unit, finding.found) == (1, 3, True)
    assert finding.quality == pytest.approx(1, abs=1e-3)
    assert finding.quality > finding.control_untrained + found.margin
    assert 0.5 < finding.control_characters < 0.9
    assert 0 < finding.positives < finding.places == found.searched - found.searched // 2
    shown, states = finding.excerpt
    assert shown in text
    assert len(shown) == len(states)
    inside = [
        shown[: place + 1].rfind("(") > shown[: place + 1].rfind(")")
        for place in range(shown.find("("), len(shown))
    ]
    assert any(inside)
    assert not all(inside)
    on = [abs(state) > 0.5 for state in states[shown.find("(") :]]
    assert on == inside


@pytest.mark.parametrize("cell", CELLS)
def test_in_a_random_network_no_unit_is_found(cell: str) -> None:
    text = bracketed(12_000)
    vocabulary = Vocabulary.build(text)
    network = make_network(len(vocabulary), seed=1, cell=cell, hidden_size=16)
    found = find_units(model_of(network, vocabulary), Split.of(text, vocabulary))
    assert len(found.findings) >= 3
    assert [finding.feature for finding in found.findings if finding.found] == []


def test_a_text_without_features_has_no_findings() -> None:
    vocabulary = Vocabulary.build("ab (c)\n")
    lm = model_of(make_network(len(vocabulary), hidden_size=H), vocabulary)
    for text in ("", "a", "ab (c)\n"):
        assert find_units(lm, Split.of(text, vocabulary)).findings == []


@pytest.mark.parametrize("framing", ["stream", "lines"])
@pytest.mark.parametrize("level", ["character", "byte"])
@pytest.mark.parametrize(
    ("line", "feature"),
    [("He saw Mary (é). ", "inside a name"), ("船在河上，人在《船歌》中。", "end of a clause")],
    ids=["words", "chinese"],
)
def test_texts_of_all_kinds_have_their_features(framing: Any, level: Any, line: str, feature: str) -> None:
    rng = random.Random(0)
    text = "".join(line * rng.randint(1, 4) + "\n" for _ in range(80))
    vocabulary = Vocabulary.build(text, framing=framing, level=level)
    lm = model_of(make_network(len(vocabulary), hidden_size=H, cell="lstm"), vocabulary)
    found = find_units(lm, Split.of(text, vocabulary), Split.of(text, vocabulary))
    names = [finding.feature for finding in found.findings]
    assert feature in names
    assert "place in the line" in names
    for finding in found.findings:
        assert finding.excerpt[0] in text
        assert len(finding.excerpt[0]) == len(finding.excerpt[1]) > 0
        assert 0 <= finding.quality <= 1


def test_bytes_that_are_no_text_do_no_harm() -> None:
    vocabulary = Vocabulary.build("a", level="byte")
    lm = model_of(make_network(len(vocabulary), hidden_size=H), vocabulary)
    ids = np.random.default_rng(0).integers(0, 256, 3000).astype(np.int32)
    find_units(lm, Split(ids, 3000, 3000))


# --------------------------------------------------------------------------------------------------- states


def slow_states(network: CharacterModel, sequences: Sequence[Any], boundary: int) -> list[torch.Tensor]:
    """Reads each sequence from the zero state, and returns s of the top layer after each symbol."""
    result = []
    for ids in sequences:
        read = torch.tensor([boundary, *ids])[:, None]
        with torch.no_grad():
            result.append(network.recurrent(read, network.initial_state(1))[0][:, 0])
    return result


@pytest.mark.parametrize("framing", ["stream", "lines"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_states_are_those_of_one_pass_over_each_sequence(framing: Any, cell: str) -> None:
    rng = random.Random(0)
    text = "".join("".join(rng.choices("abc", k=rng.randint(1, 9))) + "\n" for _ in range(300))
    vocabulary = Vocabulary.build(text, framing=framing)
    network = make_network(len(vocabulary), hidden_size=H, cell=cell, num_layers=2)
    split = Split.of(text, vocabulary)
    if framing == "stream":
        split = Split(split.ids, len(text), len(text), parts=(0, 100, 900))
        sequences = split.sequences()
    else:
        ends = np.flatnonzero(split.ids == vocabulary.boundary_id)
        sequences = [split.ids[a + 1 : b] for a, b in pairwise([-1, *ends.tolist()])]
    reading = units._read(vocabulary, split, 10_000)
    slow = torch.cat(slow_states(network, sequences, vocabulary.boundary_id)).numpy()
    places = reading.last[700:]
    states = network.recurrent.cell.states
    top = [H * states + unit for unit in range(H)]
    found = units._states(network, reading, places, top)
    tolerance = 1e-5 if framing == "lines" else 5e-3  # rows of a stream begin some symbols before their own
    np.testing.assert_allclose(found, slow[700:].T, atol=tolerance)
    every = units._states(network, reading, places[::7], None)
    assert every.shape == (2 * states * H, len(places[::7]))
    np.testing.assert_allclose(every[top], found[:, ::7], atol=tolerance)


# -------------------------------------------------------------------------------------------------- figures


def slow_area(scores: Sequence[int], positive: Sequence[bool]) -> float:
    """Counts pairs of a place that is on and one that is off; ties count half."""
    pairs = [(a, b) for a, on in zip(scores, positive, strict=True) if on
             for b, off in zip(scores, positive, strict=True) if not off]  # fmt: skip
    return sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs)


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=30))
def test_the_area_counts_pairs(places: list[tuple[int, bool]]) -> None:
    scores, positive = zip(*places, strict=True)
    if len(set(positive)) == 2:
        rows = np.array([scores, [-score for score in scores]], np.float32)
        found = area_under_roc(rank(rows), np.array(positive))
        assert found == pytest.approx([slow_area(scores, positive), 1 - slow_area(scores, positive)])


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=30))
def test_the_rank_correlation_is_that_of_slow_ranks(places: list[tuple[int, int]]) -> None:
    slow = [
        [sum(b < a for b in own) + (sum(b == a for b in own) + 1) / 2 for a in own]
        for own in zip(*places, strict=True)
    ]
    found = rank_correlation(rank(np.array([places], np.float64)[..., 0]), np.array(places)[:, 1])
    if any(len(set(own)) == 1 for own in slow):
        assert found == [0]
    else:
        assert found == pytest.approx(np.corrcoef(slow)[0, 1])


@given(st.text("ab", min_size=1, max_size=30), st.text("abc", min_size=1, max_size=9), st.randoms())
def test_the_expectation_backs_off_to_shorter_contexts(counted: str, judged: str, rng: random.Random) -> None:
    values = np.array([rng.random() for _ in counted])
    contexts = [list(units._contexts(text)) for text in (counted, judged)]
    merged = [np.unique(np.concatenate(level), return_inverse=True)[1] for level in zip(*contexts, strict=True)]

    def last(text: str, place: int, size: int) -> str:
        return ("\0" * size + text)[place + 1 : place + 1 + size]

    for place, found in enumerate(expect(merged, values)):
        expected = float(values.mean())
        for size in (1, 2, 3):
            same = [v for i, v in enumerate(values) if last(counted, i, size) == last(judged, place, size)]
            expected = (sum(same) + 2 * expected) / (len(same) + 2)
        assert found == pytest.approx(expected)
