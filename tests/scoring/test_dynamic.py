"""Dynamic evaluation: each segment is scored before it is learnt from, and the model itself never changes."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from charlm.experts.mixture import Mixture
from charlm.experts.networks import FurtherNetworks
from charlm.experts.torch_network import TorchNetworkExpert
from charlm.model.network import CharacterModel
from charlm.scoring import dynamic
from charlm.scoring.dynamic import SEGMENT_SYMBOLS as SEGMENT
from charlm.scoring.dynamic import (
    DynamicEvaluation,
    Rates,
    dynamic_log_probs,
    evaluate_dynamic,
    gradient_rms,
    tune,
)
from charlm.scoring.log_probs import Beginning, cut_sequences, sequence_log_probs
from charlm.scoring.memory import PowersOfMemory, Remembering, joint_log_probs, kinds_of, read_in_order
from charlm.text.batches import IGNORE, LineBatches, StreamBatches
from charlm.text.corpus import Split
from charlm.text.vocabulary import Vocabulary
from models import CELLS, make_mixture, make_network, randomize

V, FIRST = 7, 1
every_cell = pytest.mark.parametrize("cell", CELLS)


def mixture_of(cell: str = "gru", size: int = V) -> Mixture:
    shape = {"cell": cell, "hidden_size": 6, "dropout": 0.5, "recurrent_dropout": 0.5}
    return make_mixture(size, seed=5, dtype=torch.float64, **shape)


def text_of(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(V, size=n).astype(np.int32)


def rms_of(mixture: Mixture) -> list[Tensor]:
    """Some root mean squares, one of them zero: a weight that training never moved."""
    rng = torch.Generator().manual_seed(3)
    rms = [torch.rand(w.shape, generator=rng, dtype=w.dtype) for w in mixture.network.trained.parameters()]
    rms[0].view(-1)[0] = 0
    return rms


def static_log_probs(mixture: Mixture, sequences: list[np.ndarray]) -> list[np.ndarray]:
    found = dict(sequence_log_probs(mixture, sequences, Beginning(FIRST)))
    return [found[i] for i in range(len(sequences))]


def losses(network: CharacterModel, ids: np.ndarray, before: int, state: list) -> tuple[Tensor, list]:
    """The loss of each symbol by the definition, one symbol at a time."""
    parts = []
    for symbol in ids.tolist():
        logits, state = network(torch.tensor([[before]]), state)
        parts.append(-torch.log_softmax(logits[0, 0], 0)[symbol])
        before = symbol
    return torch.stack(parts), [tuple(s.detach() for s in layer) for layer in state]


@every_cell
def test_it_is_the_update_of_the_paper_written_out(cell: str) -> None:
    mixture, sequences = mixture_of(cell), [text_of(2 * SEGMENT + 5), text_of(3, seed=1)]
    rms, rates = rms_of(mixture), Rates(learning_rate=0.03, decay=0.7)
    found = dynamic_log_probs(mixture, rms, sequences, FIRST, rates)

    slow = mixture_of(cell).network.trained
    weights = list(slow.parameters())
    trained = [w.detach().clone() for w in weights]
    mean = torch.cat([m.flatten() for m in rms]).mean()
    expected = []
    for sequence in sequences:
        state, before, parts = slow.initial_state(1), FIRST, []
        for segment in np.split(sequence, range(SEGMENT, len(sequence), SEGMENT)):
            loss, state = losses(slow, segment, before, state)
            parts.append(-loss.detach())
            slow.zero_grad()
            (loss.sum() / SEGMENT).backward()
            for w, w_trained, m in zip(weights, trained, rms, strict=True):
                back = torch.minimum(torch.tensor(1.0), 0.7 * m / mean) * (w_trained - w.data)
                w.data += back - 0.03 * w.grad / (m + 0.02 * mean)
            before = int(segment[-1])
        expected.append(torch.cat(parts).numpy())
    for part, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(part, other, rtol=1e-6)


@every_cell
def test_without_a_learning_rate_it_is_the_static_score(cell: str) -> None:
    mixture, sequences = mixture_of(cell), [text_of(50), text_of(1), text_of(0), text_of(SEGMENT)]
    found = dynamic_log_probs(mixture, rms_of(mixture), sequences, FIRST, Rates(0.0, 0.1))
    for part, static in zip(found, static_log_probs(mixture, sequences), strict=True):
        np.testing.assert_allclose(part, static, rtol=1e-9)


def test_several_networks_all_learn_from_the_loss_of_their_product() -> None:
    """Two networks of equal power are one whose logits are the mean of theirs."""
    first, second = (randomize(make_network(V, hidden_size=5, cell="gru"), seed) for seed in (1, 2))
    mixture = Mixture(TorchNetworkExpert(first), [FurtherNetworks([TorchNetworkExpert(second)])])
    mixture.powers[:] = 0.5
    rms = [m for network in (first, second) for m in rms_of(Mixture(TorchNetworkExpert(network)))]
    windows = list(StreamBatches(text_of(43), 2, 6, seed=1).epoch(0))
    alone = (gradient_rms(Mixture(TorchNetworkExpert(network)), windows) for network in (first, second))
    torch.testing.assert_close(gradient_rms(mixture, windows), [m for own in alone for m in own])
    sequence, rates = text_of(3 * SEGMENT), Rates(0.03, 0.7)
    (found,) = dynamic_log_probs(mixture, rms, [sequence], FIRST, rates)

    weights = [w for network in (first, second) for w in network.parameters()]
    trained = [w.detach().clone() for w in weights]
    mean = torch.cat([m.flatten() for m in rms]).mean()
    states, before, expected = [network.initial_state(1) for network in (first, second)], FIRST, []
    for segment in np.split(sequence, 3):
        parts = []
        for symbol in segment.tolist():
            pairs = [n(torch.tensor([[before]]), s) for n, s in zip((first, second), states, strict=True)]
            parts.append(-torch.log_softmax(sum(logits[0, 0] for logits, _ in pairs) / 2, 0)[symbol])
            states, before = [state for _, state in pairs], symbol
        expected += [-part.item() for part in parts]
        gradients = torch.autograd.grad(torch.stack(parts).sum() / SEGMENT, weights)
        states = [[tuple(s.detach() for s in layer) for layer in state] for state in states]
        with torch.no_grad():
            for w, w_trained, m, gradient in zip(weights, trained, rms, gradients, strict=True):
                back = torch.minimum(torch.tensor(1.0), 0.7 * m / mean) * (w_trained - w)
                w += back - 0.03 * gradient / (m + 0.02 * mean)
    np.testing.assert_allclose(found, expected, rtol=2e-4)


def test_a_symbol_is_scored_by_what_stands_before_its_segment_alone() -> None:
    mixture, text = mixture_of(), text_of(3 * SEGMENT)
    other = text.copy()
    other[-1] = (other[-1] + 1) % V
    rates = Rates(0.05, 0.01)
    one, two = (dynamic_log_probs(mixture, rms_of(mixture), [ids], FIRST, rates)[0] for ids in (text, other))
    np.testing.assert_array_equal(one[:-1], two[:-1])
    (static,) = static_log_probs(mixture, [text])
    np.testing.assert_allclose(one[:SEGMENT], static[:SEGMENT], rtol=1e-9)
    assert np.abs(one - static)[SEGMENT:].max() > 0.01


def test_the_root_mean_square_is_that_of_the_gradients_of_whole_windows() -> None:
    mixture, ids = mixture_of("lstm"), text_of(43)
    windows = list(StreamBatches(ids, 2, 6, seed=1).epoch(0))
    lines = np.array([2, 3, 1, 4, 5, 2, 3, 1, 0, 1], np.int32)
    windows += LineBatches(lines, 1, 3, 6, seed=1).epoch(0)
    assert any((window.targets == IGNORE).any() for window in windows)
    found = gradient_rms(mixture, windows)

    slow = mixture_of("lstm").network.trained
    squares = [torch.zeros_like(w) for w in slow.parameters()]
    for window in windows:
        if not window.carry.all():
            state = slow.initial_state(len(window.inputs))
        logits, state = slow(torch.from_numpy(window.inputs).t(), state)
        state = [tuple(s.detach() for s in layer) for layer in state]
        picked = [
            -torch.log_softmax(logits[t, b], 0)[int(window.targets[b, t])]
            for b, t in itertools.product(*map(range, window.targets.shape))
            if window.targets[b, t] != IGNORE
        ]
        slow.zero_grad()
        torch.stack(picked).mean().backward()
        for square, w in zip(squares, slow.parameters(), strict=True):
            square += w.grad**2
    for rms, square in zip(found, squares, strict=True):
        torch.testing.assert_close(rms, (square / len(windows)).sqrt())


@pytest.mark.parametrize("best", [2.0**-5, 0.5, 1.0, 2.0, 2.0**6])
def test_a_rate_is_halved_or_doubled_as_long_as_that_helps(best: float) -> None:
    assert dynamic._descend(lambda x: abs(math.log2(x / best)), 1.0) == best


@pytest.mark.parametrize("beyond", [math.nan, math.inf])
def test_a_rate_at_which_the_weights_explode_is_lowered(beyond: float) -> None:
    assert dynamic._descend(lambda x: 1 / x if x < 0.3 else beyond, 1.0) == 0.25
    assert dynamic._descend(lambda x: 1 / x if x < 7 else beyond, 1.0) == 4.0


def test_rates_are_tuned_where_they_are_not_given() -> None:
    mixture = mixture_of()
    text = np.concatenate([np.tile(text_of(5, seed), 30) for seed in range(3)])  # what was learnt ages
    rms = rms_of(mixture)

    def loss(rates: Rates) -> float:
        return -float(dynamic_log_probs(mixture, rms, [text], FIRST, rates)[0].sum())

    found = tune(mixture, rms, [text], FIRST)
    assert loss(found) < loss(Rates(found.learning_rate, Rates().decay)) < loss(Rates())
    assert tune(mixture, rms, [text], FIRST, learning_rate=0.01).learning_rate == 0.01
    assert tune(mixture, rms, [text], FIRST, decay=0.0) == Rates(found.learning_rate, 0.0)
    assert tune(mixture, rms, [text], FIRST, learning_rate=0.01, decay=0.2) == Rates(0.01, 0.2)


@pytest.mark.parametrize("framing", ["stream", "lines"])
def test_a_text_that_repeats_itself_is_learnt_and_the_model_is_left_alone(framing: str) -> None:
    lines = "ab ab ba\ncab bac\n" * 30
    vocabulary = Vocabulary.build(lines, framing=framing)
    mixture, split = mixture_of(size=len(vocabulary)), Split.of(lines, vocabulary)
    network = mixture.network.trained.train()
    before = {name: weight.clone() for name, weight in network.state_dict().items()}

    def nats(**rates: float) -> DynamicEvaluation:
        windows = StreamBatches(split.ids, 4, 8, seed=1).epoch(0)
        return evaluate_dynamic(mixture, vocabulary, split, training=windows, validation=split, **rates)

    static = nats(learning_rate=0.0, decay=0.0)
    tuned = nats()
    assert tuned.nats < static.nats - 0.5
    assert tuned.memory_nats < tuned.nats
    rates = tuned.rates
    assert nats(learning_rate=rates.learning_rate, decay=rates.decay) == tuned
    # Without steps it is memory beside the mixture as it is.
    pieces = list(read_in_order(mixture, cut_sequences(vocabulary, split.ids), vocabulary.boundary_id))
    text, fit = Remembering(len(vocabulary), vocabulary.boundary_id), PowersOfMemory(1, vocabulary.unknown_id)
    read = [
        (mixture.logits(piece.readings), kinds_of(mixture, piece.readings), text.read(piece.symbols, piece.begins))
        for piece in pieces
    ]
    for each, piece in zip(read, pieces, strict=True):
        fit.add(*each, piece.symbols)
    powers = fit.find()
    total = sum(
        joint_log_probs(powers, *each, piece.symbols).sum() for each, piece in zip(read, pieces, strict=True)
    )
    assert static.memory_nats == pytest.approx(-total / split.characters, abs=1e-4)
    assert mixture.network.trained is network
    assert network.training
    assert all(torch.equal(weight, before[name]) for name, weight in network.state_dict().items())
    assert all(weight.grad is None for weight in network.parameters())


def test_without_a_validation_split_the_default_rates_are_taken() -> None:
    vocabulary = Vocabulary.build("abc\n" * 30)
    split, nothing = Split.of("abc\n" * 30, vocabulary), Split.of("", vocabulary)
    windows = StreamBatches(split.ids, 4, 8, seed=1).epoch(0)
    mixture = mixture_of(size=len(vocabulary))
    found = evaluate_dynamic(mixture, vocabulary, split, training=windows, validation=nothing)
    assert found.rates == Rates()
    assert found.memory_nats is None  # there was nothing to find its powers on


def test_tuning_reads_the_beginning_of_the_validation_split_only(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    tune = dynamic.tune

    def spy(mixture: Mixture, rms: list[Tensor], sequences: list[np.ndarray], *rest: int, **rates: float) -> Rates:
        read.extend(map(len, sequences))
        return tune(mixture, rms, sequences, *rest, **rates)

    monkeypatch.setattr(dynamic, "tune", spy)
    for framing, sizes in (("stream", [11]), ("lines", [4, 4, 4])):
        read.clear()
        vocabulary = Vocabulary.build("abc\n" * 30, framing=framing)
        split = Split.of("abc\n" * 30, vocabulary)
        windows = StreamBatches(split.ids, 4, 8, seed=1).epoch(0)
        mixture = mixture_of(size=len(vocabulary))
        how = {"learning_rate": 0.1, "decay": 0.1, "tuning_symbols": 11}
        evaluate_dynamic(mixture, vocabulary, split, training=windows, validation=split, **how)
        assert read == sizes
