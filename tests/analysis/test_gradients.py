"""Gradients through time: what is known of them beforehand is what is measured."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from charlm.analysis.gradients import (
    Places,
    Quartiles,
    compare_with_untrained,
    connectivity_at,
    find_places,
    fit_decay,
    measure,
)
from charlm.errors import InputError
from charlm.experts.torch_network import copy_for_torch
from charlm.model.network import CharacterModel
from charlm.text.corpus import Split
from charlm.text.vocabulary import Vocabulary
from models import CELLS, make_language_model, make_mixture, make_network, randomize

V, H, LAGS = 7, 6, 12


def some_places(count: int = 5, *, length: int = 30, lags: int = LAGS, seed: int = 0) -> Places:
    """Places of random text, each with all lags."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, V, (length, count))
    return Places(ids, np.zeros(count, np.int64), rng.integers(0, V, count))


def linear_rnn(rho: float) -> CharacterModel:
    """A plain RNN whose states are so small that tanh does not bend them, with W = ρQ."""
    network = make_network(V, cell="rnn", hidden_size=H, bias=False)  # W starts orthogonal
    network.recurrent.parameter("weight_hh", 0).data.mul_(rho)
    network.recurrent.parameter("weight_ih", 0).data.mul_(1e-12)
    return network


@pytest.mark.parametrize("rho", [0.5, 0.9, 1.1])
def test_a_linear_rnn_decays_by_rho_at_each_step(rho: float) -> None:
    found = measure(linear_rnn(rho), some_places(), LAGS)
    (s,) = found.states
    np.testing.assert_allclose(s.norms.median[1:] / s.norms.median[:-1], rho, rtol=1e-6)
    assert s.decay == pytest.approx(rho, rel=1e-6)
    assert s.half_life == pytest.approx(-math.log(2) / math.log(rho), rel=1e-5)
    assert (s.half_life < 0) == (rho > 1)
    (spectrum,) = found.spectra
    assert (spectrum.radius, spectrum.largest_singular_value) == pytest.approx((rho, rho), rel=1e-5)
    np.testing.assert_allclose(found.connectivity.median[1:] / found.connectivity.median[:-1], rho, rtol=0.5)


def test_an_orthogonal_matrix_alone_keeps_the_gradient() -> None:
    (s,) = measure(linear_rnn(1.0), some_places(), LAGS).states
    assert s.decay == pytest.approx(1, abs=1e-5)
    assert fit_decay(np.full(5, 3.0)) == 1


def test_gradients_that_overflow_are_infinite_and_the_others_are_fitted() -> None:
    network = linear_rnn(1e30)
    network.recurrent.parameter("weight_ih", 0).data.zero_()  # the state stays zero, where tanh is linear
    (s,) = measure(network, some_places(30), LAGS).states
    assert np.isfinite(s.norms.median[:5]).all()
    assert np.isinf(s.norms.upper[-1])
    assert np.isinf(s.norms.median[-1])
    assert s.decay == pytest.approx(1e30, rel=1e-5)


@pytest.mark.parametrize(("std", "grows"), [(3.0, True), (0.5, False)])
def test_a_plain_rnn_explodes_with_large_recurrent_weights_and_vanishes_with_small_ones(
    std: float, grows: bool
) -> None:
    width = 64
    network = make_network(V, cell="rnn", hidden_size=width, bias=False)
    generator = torch.Generator().manual_seed(0)
    network.recurrent.parameter("weight_hh", 0).data.normal_(0, std / math.sqrt(width), generator=generator)
    network.recurrent.parameter("weight_ih", 0).data.mul_(0.01)
    (s,) = measure(network, some_places(32, length=60, lags=30), 30).states
    assert (s.decay > 1) == grows
    assert (s.norms.median[-1] > 10 * s.norms.median[0]) == grows
    assert (s.norms.median[-1] < s.norms.median[0] / 10) != grows


def test_an_lstm_whose_forget_gate_is_open_keeps_the_gradient_of_its_cell() -> None:
    network = make_network(V, cell="lstm", hidden_size=H)
    network.recurrent.parameter("weight_hh", 0).data.zero_()
    bias = network.recurrent.parameter("bias_ih", 0).data
    bias[:H] = -2  # c does not run away
    bias[H : 2 * H] = 1000  # f = 1
    network.recurrent.parameter("weight_ih", 0).data[H : 2 * H] = 0
    found = measure(network, some_places(), LAGS)
    c = next(state for state in found.states if state.state == "c")
    np.testing.assert_allclose(c.norms.median / c.norms.median[0], 1, rtol=1e-12)
    assert (c.decay, c.half_life) == (1, math.inf)
    shares = {gate.gate: (gate.below, gate.above) for gate in found.gates}
    assert list(shares) == ["input", "forget", "output"]
    assert shares["forget"] == (0, 1)


# ----------------------------------------------------------------------------------------------- slow loops


def steps_with(network: CharacterModel, layer: int, state: str, t: int, ids: Tensor, begin: int) -> Any:
    """Reads a text and adds a disturbance of zero to a state of a layer at step t; returns it and the logits.

    The equations of the LSTM are written out, since its c is disturbed before s is made of it.
    """
    recurrent = network.recurrent
    delta = torch.zeros(1, H, dtype=torch.float64, requires_grad=True)
    states = network.initial_state(1)
    for step in range(begin, len(ids)):
        one_hot = F.one_hot(ids[step : step + 1], V).double()
        x = one_hot if network.embedding is None else one_hot @ network.embedding.weight
        for number in range(network.config.num_layers):
            weights = [recurrent.parameter(n, number) for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            here = delta if (number, step) == (layer, t) else torch.zeros(1, H)
            a = x @ weights[0].t() + (0 if weights[2] is None else weights[2])
            if network.config.cell == "lstm":
                a = a + states[number][0] @ weights[1].t() + (0 if weights[3] is None else weights[3])
                i, f, g, o = a.chunk(4, 1)
                c = f.sigmoid() * states[number][1] + i.sigmoid() * g.tanh() + (here if state == "c" else 0)
                s = o.sigmoid() * c.tanh() + (here if state == "s" else 0)
                states[number] = (s, c)
            else:
                (s,) = recurrent.cell.step(a, states[number], weights[1], weights[3])
                states[number] = (s + here,)
            x = states[number][0]
    return delta, network.logits(x if network.projection is None else network.projection(x))[0]


def slow_norm(network: CharacterModel, layer: int, state: str, lag: int, ids: Tensor, begin: int, target: int):
    delta, logits = steps_with(network, layer, state, len(ids) - 1 - lag, ids, begin)
    (grad,) = torch.autograd.grad(-logits.log_softmax(0)[target], delta)
    return float(grad.norm())


@pytest.mark.parametrize(
    "settings",
    [
        *({"cell": cell} for cell in CELLS),
        {"cell": "lstm", "num_layers": 2, "embedding_size": 3, "output_rank": 4},
        {"cell": "gru", "num_layers": 2, "bias": False},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_norms_quartiles_and_lags_equal_those_of_a_slow_loop(settings: dict[str, Any]) -> None:
    network = randomize(make_network(V, hidden_size=H, **settings)).double()
    places = some_places(40, length=9)  # more than a batch
    places = places._replace(begins=np.arange(40) % 5)  # the last of them has lags up to 4
    found = measure(network, places, 8)
    names = [(number, state) for number in range(network.config.num_layers) for state in "sc"]
    names = [name for name in names if settings["cell"] == "lstm" or name[1] == "s"]
    assert [(state.layer - 1, state.state) for state in found.states] == names
    for (layer, state), measured in zip(names, found.states, strict=True):
        for lag in (0, 1, 4, 7, 8):
            norms = [
                slow_norm(network, layer, state, lag, torch.from_numpy(ids), int(begin), int(target))
                for ids, begin, target in zip(places.inputs.T, places.begins, places.targets, strict=True)
                if len(ids) - 1 - lag >= begin
            ]
            quartiles = np.quantile(norms, [0.25, 0.5, 0.75])
            here = (measured.norms.lower[lag], measured.norms.median[lag], measured.norms.upper[lag])
            np.testing.assert_allclose(here, quartiles, rtol=1e-8)


@pytest.mark.parametrize("embedding_size", [None, 3])
def test_connectivity_is_the_gradient_of_the_true_logit_by_the_one_hot_input(embedding_size: int | None) -> None:
    network = randomize(make_network(V, cell="gru", hidden_size=H, embedding_size=embedding_size)).double()
    places = some_places(1, length=6)
    found = measure(network, places, 5).connectivity.median
    weights = [network.recurrent.parameter(n, 0) for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    one_hot = F.one_hot(torch.from_numpy(places.inputs[:, 0]), V).double().requires_grad_()
    state = network.initial_state(1)[0]
    for x in one_hot if network.embedding is None else one_hot @ network.embedding.weight:
        state = network.recurrent.cell.step((weights[0] @ x + weights[2])[None], state, weights[1], weights[3])
    (grad,) = torch.autograd.grad(network.logits(state[0])[0, places.targets[0]], one_hot)
    np.testing.assert_allclose(found, grad.norm(dim=1).flip(0)[:5].numpy(), rtol=1e-9)


@pytest.mark.parametrize("cell", ["lstm", "gru", "gru-before"])
def test_saturation_counts_gates_over_units_and_time(cell: str) -> None:
    network = randomize(make_network(V, cell=cell, hidden_size=H), std=1.5).double()
    places = some_places(3, length=8)._replace(begins=np.array([0, 2, 5]))
    found = {gate.gate: (gate.below, gate.above) for gate in measure(network, places, 5).gates}
    names = {"lstm": ["input", "forget", None, "output"]}.get(cell, ["reset", "update", None])
    weights = [network.recurrent.parameter(n, 0) for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    seen: dict[str, list[float]] = {name: [] for name in names if name}
    for column, begin in enumerate(places.begins):
        state = network.initial_state(1)[0]
        for t in range(begin, 8):
            x = (weights[0][:, places.inputs[t, column]] + weights[2])[None]
            for name, gate in zip(
                names, (x + state[0] @ weights[1].t() + weights[3]).chunk(len(names), 1), strict=True
            ):
                if name and t >= 2:  # within the lags
                    seen[name] += gate.sigmoid().flatten().tolist()
            state = network.recurrent.cell.step(x, state, weights[1], weights[3])
    for name, values in seen.items():
        shares = (np.mean(np.array(values) < 0.1), np.mean(np.array(values) > 0.9))
        assert found[name] == pytest.approx(shares)


def test_the_spectrum_of_each_block_is_that_of_its_matrix() -> None:
    network = randomize(make_network(V, cell="lstm", hidden_size=H, num_layers=2)).double()
    found = measure(network, some_places(), 3).spectra
    assert [(m.layer, m.block) for m in found[:5]] == [
        (1, "input"), (1, "forget"), (1, "candidate"), (1, "output"), (2, "input")
    ]  # fmt: skip
    matrix = network.recurrent.parameter("weight_hh", 1)[H : 2 * H].numpy()
    assert found[5].radius == pytest.approx(abs(np.linalg.eigvals(matrix)).max())
    assert found[5].largest_singular_value == pytest.approx(np.linalg.svd(matrix)[1][0])


@given(st.floats(0.2, 2), st.floats(-5, 5), st.integers(2, 50))
def test_the_fit_finds_the_factor_of_a_geometric_sequence(factor: float, start: float, length: int) -> None:
    medians = np.exp(start) * factor ** np.arange(length)
    assert fit_decay(medians) == pytest.approx(factor, rel=1e-5)
    assert fit_decay(np.append(medians, [0.0, 0.0])) == pytest.approx(factor, rel=1e-5)


def test_where_nothing_is_left_there_is_no_decay() -> None:
    assert math.isnan(fit_decay(np.array([1.0, 0.0, 0.0])))


# --------------------------------------------------------------------------------------------------- places


@pytest.mark.parametrize("framing", ["stream", "lines"])
@pytest.mark.parametrize("level", ["character", "byte"])
def test_a_place_reads_what_stands_before_it_in_its_own_sequence(framing: Any, level: Any) -> None:
    text = "".join(f"{'ab' * n}é.\n" for n in range(30))
    vocabulary = Vocabulary.build("ab.\né", framing=framing, level=level)
    split = Split.of(text, vocabulary)
    places = find_places(vocabulary, split, 20, 50, "text")
    assert len(set(places.targets.tolist())) > 1
    starts = np.flatnonzero(split.ids == vocabulary.boundary_id) + 1 if framing == "lines" else np.array([], int)
    sequences = np.split(split.ids, starts)
    for inputs, begin, target in zip(places.inputs.T, places.begins, places.targets, strict=True):
        read = [*inputs[begin:].tolist(), int(target)]
        opened = [[vocabulary.boundary_id, *sequence.tolist()] for sequence in sequences]
        is_cut = begin == 0
        assert any(
            s[: len(read)] == read or (is_cut and any(s[i : i + len(read)] == read for i in range(len(s))))
            for s in opened
        )


def test_an_unknown_character_is_no_place_and_a_part_begins_anew() -> None:
    vocabulary = Vocabulary.build("ab\n", framing="stream")
    split = Split.of("ab?ab?ab?", vocabulary)
    split = Split(split.ids, split.characters, split.bytes, parts=(0, 6))
    places = find_places(vocabulary, split, 3, 99, "text")
    assert vocabulary.unknown_id not in places.targets
    assert len(places.targets) == 6
    assert (len(places.inputs) - places.begins).tolist() == [1, 2, 4, 5, 1, 2]
    with pytest.raises(InputError, match="no character that the model knows"):
        find_places(vocabulary, Split.of("???", vocabulary), 3, 99, "text")


def untrained_model(**settings: Any) -> tuple[Any, Callable[[str], Split]]:
    vocabulary = Vocabulary.build("ab\n", framing="lines")
    lm = make_language_model(make_mixture(len(vocabulary), hidden_size=4, **settings), vocabulary)
    return lm, lambda text: Split.of(text, vocabulary)


def test_lags_that_hardly_any_place_has_are_left_out() -> None:
    lm, encode = untrained_model()
    report = compare_with_untrained(lm, encode("abab\n" * 100), "text")
    assert report.places[0] == 256
    assert len(report.places) == 5  # a line of five is read from its boundary on
    assert all(count >= 20 for count in report.places)


def test_a_text_too_short_is_refused() -> None:
    lm, encode = untrained_model()
    with pytest.raises(InputError, match=r"text: this text is too short .* 20 characters with 2 before each"):
        compare_with_untrained(lm, encode("a\n" * 100), "text")


# -------------------------------------------------------------------------------- connectivity at single places


@pytest.mark.parametrize("framing", ["stream", "lines"])
def test_single_places_are_those_of_the_aggregated_connectivity(framing: Any) -> None:
    text = "".join(f"{'ab' * n}é.\n" for n in range(9)) * 4
    vocabulary = Vocabulary.build("ab.\né", framing=framing)
    lm = make_language_model(make_mixture(len(vocabulary), hidden_size=H, cell="gru"), vocabulary)
    split = Split.of(text, vocabulary)
    single = connectivity_at(lm, split, "text", lags=7, count=40)
    assert len(single) == 40
    together = measure(copy_for_torch(lm.mixture)[0], find_places(vocabulary, split, 7, 40, "text"), 7).connectivity
    moves = np.full((40, 7), np.nan)
    for row, place in zip(moves, single, strict=True):
        assert len(place.before) == len(place.moves) <= 7
        row[: len(place.moves)] = place.moves[::-1]
        assert place.before[-6:].removeprefix("\n") + place.target in text
    for name in ("median", "lower", "upper"):
        expected = getattr(Quartiles.of(moves), name)
        np.testing.assert_allclose(getattr(together, name), expected, rtol=1e-9)
    assert any(len(place.before) < 7 for place in single) or framing == "stream"


def test_at_byte_level_a_character_moves_as_its_bytes_together() -> None:
    text = "船a🙂é" * 30
    vocabulary = Vocabulary.build(text, level="byte")
    lm = make_language_model(make_mixture(len(vocabulary), hidden_size=H), vocabulary)
    network = copy_for_torch(lm.mixture)[0].double()
    split = Split.of(text, vocabulary)
    places = find_places(vocabulary, split, 20, 50, "text")
    found = connectivity_at(lm, split, "text", lags=20, count=50)
    starts = np.flatnonzero(places.targets & 0xC0 != 0x80)
    assert 10 < len(found) == len(starts) < 50
    for place, column in zip(found, starts, strict=True):
        assert place.target in "船a🙂é"
        alone = places._replace(**{name: getattr(places, name)[..., [column]] for name in places._fields})
        each = measure(network, alone, 19).connectivity if len(alone.inputs) - alone.begins[0] > 19 else None
        assert len(place.before) == len(place.moves)
        assert place.before in "\n" + text
        if each is None:
            continue
        moves, end = each.median[::-1], 19
        for char, move in zip(reversed(place.before), reversed(place.moves), strict=True):
            begin = end - len(char.encode())
            if begin >= 0:
                assert move == pytest.approx(float(np.linalg.norm(moves[begin:end])), rel=1e-9)
            end = begin
    inside = Split(np.full(9, 0x80, np.int32), 9, 9)
    assert connectivity_at(lm, inside, "text") == []
