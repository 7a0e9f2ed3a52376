"""Calibration: of predictions that are right by construction, and of some that are too sure."""

from typing import Any

import numpy as np
import pytest
import torch

from charlm.analysis import calibration
from charlm.analysis.calibration import bin_predictions, calibrate, summarize
from charlm.experts.mixture import Mixture
from charlm.experts.torch_network import network_expert
from charlm.text.corpus import Split
from charlm.text.vocabulary import Vocabulary
from models import make_network

V = 12


def some_predictions(sharpness: float, count: int = 20_000) -> tuple[list[calibration.CalibrationBin], float]:
    """Draws symbols from some distributions, and predicts them by these, made sharper."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2.5, (count, V))
    p = np.exp(logits)
    p /= p.sum(1, keepdims=True)
    targets = (p.cumsum(1) < rng.random((count, 1))).sum(1)
    return summarize(bin_predictions(sharpness * logits, targets).sum(0), count)


def test_predictions_that_are_right_come_as_often_as_they_say() -> None:
    bins, error = some_predictions(1.0)
    assert len(bins) > 15
    for found in bins:
        deviation = np.sqrt(found.predicted * (1 - found.predicted) / found.count)
        assert abs(found.observed - found.predicted) < 4 * deviation + 1e-5
    assert error < 0.01


def test_a_model_that_is_too_sure_promises_more_than_comes() -> None:
    bins, error = some_predictions(2.0)
    sure = [found for found in bins if found.predicted > 0.5]
    unlikely = [found for found in bins if 1e-4 < found.predicted < 0.1]
    assert sure
    assert unlikely
    assert all(found.observed < found.predicted for found in sure)
    assert all(found.observed > found.predicted for found in unlikely)
    assert error > 0.05
    assert some_predictions(1.3)[1] < error


def test_a_model_that_says_too_little_is_wrong_on_the_other_side() -> None:
    bins, error = some_predictions(0.5)
    assert all(found.observed > found.predicted for found in bins if found.predicted > 0.5)
    assert error > 0.05


def test_bins_tell_what_is_likely_from_what_is_all_but_certain() -> None:
    bins, _ = some_predictions(2.0)
    predicted = [found.predicted for found in bins]
    assert predicted == sorted(predicted)
    assert sum(p > 0.9 for p in predicted) >= 4
    assert sum(p < 0.001 for p in predicted) >= 4


def test_certain_and_impossible_predictions_have_bins() -> None:
    logits = np.array([[0.0, -1e4, -1e4], [0.0, -1e4, -1e4]])
    bins, error = summarize(bin_predictions(logits, np.array([0, 1])).sum(0), 2)
    assert [(found.predicted, found.observed, found.count) for found in bins] == [(0, 0.25, 4), (1, 0.5, 2)]
    assert error == 0.5  # at one place of two, all of the probability


@pytest.mark.parametrize("framing", ["stream", "lines"])
@pytest.mark.parametrize(("sharpness", "is_right"), [(1.0, True), (2.5, False)])
def test_all_symbols_at_all_places_of_a_text_are_looked_at(framing: str, sharpness: float, is_right: bool) -> None:
    letters, shares = "abcdefg\n", np.array([0.4, 0.2, 0.1, 0.1, 0.05, 0.05, 0.02, 0.08])
    text = "".join(np.random.default_rng(1).choice(list(letters), 6000, p=shares)) + "\n"
    vocabulary = Vocabulary.build(letters, framing=framing)
    split = Split.of(text, vocabulary)
    bins, error = calibrate(fixed_distribution(vocabulary, letters, shares**sharpness), vocabulary, split)
    assert sum(found.count for found in bins) == len(vocabulary) * len(split.ids)
    assert sum(found.count * found.predicted for found in bins) == pytest.approx(len(split.ids), rel=1e-5)
    assert sum(found.count * found.observed for found in bins) == pytest.approx(len(split.ids))
    assert (error < 0.03) == is_right


def test_of_a_large_text_some_places_are_looked_at(monkeypatch: Any) -> None:
    vocabulary = Vocabulary.build("ab\n")
    split = Split.of(500 * "ab\n", vocabulary)
    monkeypatch.setattr(calibration, "_MOST_PREDICTIONS", 400)
    bins, _ = calibrate(fixed_distribution(vocabulary, "ab\n", np.ones(3)), vocabulary, split)
    assert sum(found.count for found in bins) == 400


def fixed_distribution(vocabulary: Vocabulary, letters: str, weights: np.ndarray) -> Mixture:
    """Returns a model that predicts the same distribution everywhere."""
    network = make_network(len(vocabulary), hidden_size=3)
    network.output.weight.data.zero_()
    network.output.bias.data.fill_(-30)
    network.output.bias.data[vocabulary.encode(letters).tolist()] = torch.tensor(
        np.log(weights), dtype=torch.float32
    )
    return Mixture(network_expert(network))
