"""Log-probabilities are those of a distribution, add up, and hardly depend on the width of a float."""

import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import charlm
from charlm.experts.ngram import NgramModel
from charlm.language_model import LanguageModel
from charlm.model.network import CharacterModel
from charlm.scoring.log_probs import sequence_log_probs, window_log_probs
from charlm.store.tensors import LARGEST_WEIGHT

CELLS: dict[str, dict[str, Any]] = {
    "rnn": {"cell": "rnn"},
    "lstm": {"cell": "lstm"},
    "gru-before": {"cell": "gru", "reset": "before", "embedding_size": 8, "output_rank": 16},
    "gru-after": {"cell": "gru", "reset": "after", "num_layers": 2},
}
ENGLISH = Path(charlm.__file__).parent.parent / "data" / "english.txt"


@pytest.fixture(scope="module", params=[*CELLS, "mixture"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """A model that has learnt some English, its recurrence far from where it started."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text(ENGLISH.read_text(encoding="utf-8")[:40_000], encoding="utf-8")
    config = {
        "corpus": {"path": str(folder / "text.txt")},
        "model": {"hidden_size": 48, **CELLS.get(request.param, {"ngram": 5})},
        "training": {"budget": "150 steps", "evaluate_every": "150 steps", "learning_rate": 0.01, "device": "cpu"},
    }
    return charlm.train(config, out=folder / "run")


def lines(count: int) -> list[str]:
    return ENGLISH.read_text(encoding="utf-8").splitlines()[-count:]


def test_float32_differs_from_float64_by_less_than_a_ten_thousandth_of_a_nat_per_character(trained: LanguageModel):
    vocabulary = trained.vocabulary
    double = copy.deepcopy(trained.model).double()
    texts = [*lines(30), "e" * 1000, "".join(lines(40)), "zq" * 200]
    ids = [vocabulary.encode_sentence(text) for text in texts]
    single, exact = (sequence_log_probs(m, ids, vocabulary.boundary_id) for m in (trained.model, double))
    for a, b in zip(single, exact, strict=True):
        assert np.abs(a - b).max(initial=0) < 1e-4


@given(data=st.data())
def test_a_text_scores_as_its_beginning_and_what_follows_given_the_beginning(
    trained: LanguageModel, data: st.DataObject
):
    text = data.draw(st.text(st.sampled_from(trained.vocabulary.symbols[1:]), max_size=80))
    cut = data.draw(st.integers(0, len(text)))
    whole, beginning = trained.score([text, text[:cut]])
    prefix = sum(char.logprob for char in beginning.chars[:cut])  # the end of the sentence does not come there
    ids = trained.vocabulary.encode(trained.vocabulary.boundary + text + trained.vocabulary.boundary)[None]
    _, state = window_log_probs(trained.model, ids[:, :cut], ids[:, 1 : cut + 1], trained.model.initial_state(1))
    rest, _ = window_log_probs(trained.model, ids[:, cut:-1], ids[:, cut + 1 :], state)
    assert whole.logprob == pytest.approx(prefix + rest.sum(), abs=1e-4)
    assert whole.logprob == pytest.approx(sum(char.logprob for char in whole.chars), abs=1e-6)


@given(
    cell=st.sampled_from(list(CELLS)),
    size=st.integers(2, 60),
    scale=st.sampled_from([0.0, 1.0, 30.0, 1e4, LARGEST_WEIGHT]),
    order=st.sampled_from([None, 2, 4]),
    seed=st.integers(0, 999),
    data=st.data(),
)
def test_the_next_characters_probabilities_sum_to_one_from_any_state(
    cell: str, size: int, scale: float, order: int | None, seed: int, data: st.DataObject
):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CharacterModel(size, hidden_size=6, ngram_order=order, **CELLS[cell])
        with torch.no_grad():
            for weight in model.parameters():
                weight.copy_(weight.clamp(-1, 1) * scale)
    numbers = st.floats(-1, 1, width=32) | st.sampled_from([-1.0, 0.0, 1.0])
    state = [
        tuple(torch.tensor([data.draw(st.lists(numbers, min_size=6, max_size=6))]).repeat(size, 1) for _ in layer)
        for layer in model.initial_state(1)
    ]
    if order:
        text = np.random.default_rng(seed).integers(size, size=200, dtype=np.int32)
        model.attach(NgramModel([text], size, 0, order))
        assert model.ngram is not None
        assert model.ngram_powers is not None
        powers = data.draw(st.lists(st.floats(-1, 2), min_size=2 * order, max_size=2 * order))
        model.ngram_powers.copy_(torch.tensor(powers).view(order, 2))
        tables = [model.ngram.arrays()[f"keys.{n}"] for n in range(1, order)]
        places = [data.draw(st.integers(-1, len(table) - 1)) for table in tables]
        state.append((torch.tensor([places], dtype=torch.float32).repeat(size, 1),))
    before = data.draw(st.integers(0, size - 1))
    log_probs, _ = window_log_probs(
        model, np.full((size, 1), before, np.int32), np.arange(size, dtype=np.int32)[:, None], state
    )
    assert np.exp(log_probs).sum() == pytest.approx(1, abs=1e-5)
    assert (log_probs <= 0).all()


def test_a_large_vocabulary_is_a_distribution_too():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CharacterModel(3000, hidden_size=8)
    state = [tuple(part.repeat(3000, 1) for part in layer) for layer in model.initial_state(1)]
    everything = np.arange(3000, dtype=np.int32)[:, None]
    log_probs, _ = window_log_probs(model, np.zeros_like(everything), everything, state)
    assert np.exp(log_probs).sum() == pytest.approx(1, abs=1e-5)


def test_a_state_carried_over_a_long_text_gives_finite_numbers(trained: LanguageModel):
    text = "".join(f"{a}\n{b}\n" for a, b in pairwise(lines(60)))
    assert np.isfinite([char.logprob for char in trained.score([text])[0].chars]).all()
