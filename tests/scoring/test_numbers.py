"""Log-probabilities are those of a distribution, add up, and hardly depend on the width of a float."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import charlm
from charlm.experts.mixture import Mixture
from charlm.experts.ngram import NgramModel
from charlm.experts.torch_network import copy_for_torch, network_expert
from charlm.language_model import LanguageModel
from charlm.scoring.log_probs import Beginning, sequence_log_probs, window_log_probs
from charlm.store.tensors import LARGEST_WEIGHT
from models import make_mixture

SHAPES: dict[str, dict[str, Any]] = {
    "rnn": {"cell": "rnn"},
    "lstm": {"cell": "lstm"},
    "gru-before": {"cell": "gru-before", "embedding_size": 8, "output_rank": 16},
    "gru": {"cell": "gru", "num_layers": 2},
}
ENGLISH = Path(charlm.__file__).parent.parent / "data" / "english.txt"


@pytest.fixture(scope="module", params=[*SHAPES, "mixture"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """A model that has learnt some English, its recurrence far from where it started."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text(ENGLISH.read_text(encoding="utf-8")[:40_000], encoding="utf-8")
    config = {
        "corpus": {"path": str(folder / "text.txt")},
        "model": {"hidden_size": 48, **SHAPES.get(request.param, {"ngram": 5})},
        "training": {"budget": "150 steps", "evaluate_every": "150 steps", "learning_rate": 0.01, "device": "cpu"},
    }
    return charlm.train(config, out=folder / "run")


def lines(count: int) -> list[str]:
    return ENGLISH.read_text(encoding="utf-8").splitlines()[-count:]


def test_float32_differs_from_float64_by_less_than_a_ten_thousandth_of_a_nat_per_character(trained: LanguageModel):
    vocabulary = trained.vocabulary
    network, _ = copy_for_torch(trained.mixture)
    double = Mixture(network_expert(network.double()), trained.mixture.others)
    double.powers = trained.mixture.powers
    texts = [*lines(30), "e" * 1000, "".join(lines(40)), "zq" * 200]
    ids = [vocabulary.encode_sentence(text) for text in texts]
    beginning = Beginning(vocabulary.boundary_id)
    single, exact = (dict(sequence_log_probs(m, ids, beginning)) for m in (trained.mixture, double))
    assert sorted(single) == sorted(exact) == list(range(len(texts)))
    for i, log_probs in single.items():
        assert np.abs(log_probs - exact[i]).max(initial=0) < 1e-4


@given(data=st.data())
def test_a_text_scores_as_its_beginning_and_what_follows_given_the_beginning(
    trained: LanguageModel, data: st.DataObject
):
    text = data.draw(st.text(st.sampled_from(trained.vocabulary.symbols[1:]), max_size=80))
    cut = data.draw(st.integers(0, len(text)))
    whole, beginning = trained.score([text, text[:cut]])
    prefix = sum(char.logprob for char in beginning.chars[:cut])  # the end of the sentence does not come there
    ids = trained.vocabulary.encode(trained.vocabulary.boundary + text + trained.vocabulary.boundary)[None]
    mixture = trained.mixture
    _, state = window_log_probs(mixture, ids[:, :cut], ids[:, 1 : cut + 1], mixture.initial_state(1))
    rest, _ = window_log_probs(mixture, ids[:, cut:-1], ids[:, cut + 1 :], state)
    assert whole.logprob == pytest.approx(prefix + rest.sum(), abs=1e-4)
    assert whole.logprob == pytest.approx(sum(char.logprob for char in whole.chars), abs=1e-6)


@given(
    shape=st.sampled_from(list(SHAPES)),
    size=st.integers(2, 60),
    scale=st.sampled_from([0.0, 1.0, 30.0, 1e4, LARGEST_WEIGHT]),
    order=st.sampled_from([None, 2, 4]),
    seed=st.integers(0, 999),
    data=st.data(),
)
def test_the_next_characters_probabilities_sum_to_one_from_any_state(
    shape: str, size: int, scale: float, order: int | None, seed: int, data: st.DataObject
):
    others = []
    if order:
        text = np.random.default_rng(seed).integers(size, size=200, dtype=np.int32)
        others.append(NgramModel([text], size, 0, order))
    mixture = make_mixture(size, *others, seed=seed, hidden_size=6, **SHAPES[shape])
    for weight in mixture.network.trained.parameters():
        weight.data.clamp_(-1, 1).mul_(scale)
    numbers = st.floats(-1, 1, width=32) | st.sampled_from([-1.0, 0.0, 1.0])
    network_state, *states = mixture.initial_state(1)
    for layer in network_state:
        for part in layer:
            part[:] = data.draw(st.lists(numbers, min_size=6, max_size=6))
    for ngram in others:
        powers = data.draw(st.lists(st.floats(-1, 2), min_size=mixture.powers.size, max_size=mixture.powers.size))
        mixture.powers[:] = np.reshape(powers, mixture.powers.shape)
        tables = [ngram.arrays()[f"counts.{n}"] for n in range(1, order)]
        places = [data.draw(st.integers(-1, len(table) - 1)) for table in tables]
        states = [np.array([[*places, data.draw(st.integers(0, 17))]])]
    before = data.draw(st.integers(0, size - 1))
    log_probs = next_log_probs(mixture, before, [network_state, *states])
    assert np.exp(log_probs).sum() == pytest.approx(1, abs=1e-5)
    assert (log_probs <= 0).all()


def next_log_probs(mixture: Mixture, before: int, state: list[Any]) -> np.ndarray:
    """Asks for the log-probability of each symbol after one symbol and the state before it, as of so many texts."""
    V = mixture.network.vocabulary_size
    everything = np.arange(V, dtype=np.int32)[:, None]
    return window_log_probs(mixture, np.full_like(everything, before), everything, mixture.repeat(state, V))[0]


def test_a_large_vocabulary_is_a_distribution_too():
    mixture = make_mixture(3000, hidden_size=8)
    log_probs = next_log_probs(mixture, 0, mixture.initial_state(1))
    assert log_probs.shape == (3000, 1)
    assert np.exp(log_probs).sum() == pytest.approx(1, abs=1e-5)


def test_a_state_carried_over_a_long_text_gives_finite_numbers(trained: LanguageModel):
    text = "".join(f"{a}\n{b}\n" for a, b in pairwise(lines(60)))
    assert np.isfinite([char.logprob for char in trained.score([text])[0].chars]).all()
