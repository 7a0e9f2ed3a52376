"""The network as an expert: over its own weights, or over those of a network of torch."""

import pytest

from charlm.config import ModelConfig
from charlm.experts.network import NetworkExpert


@pytest.mark.parametrize(
    ("cell", "H", "expected"), [("lstm", 128, True), ("lstm", 127, False), ("rnn", 256, True), ("rnn", 255, False)]
)
def test_batches_to_be_scored_have_threads_of_their_own_where_a_layer_is_large_enough(
    cell: str, H: int, expected: bool
) -> None:
    expert = NetworkExpert.without_weights(5, ModelConfig(cell=cell, hidden_size=H))
    assert expert.divides_batches is expected


def test_shapes_without_weights_take_no_memory_however_large() -> None:
    expert = NetworkExpert.without_weights(100_000, ModelConfig(cell="lstm", hidden_size=16_384, num_layers=16))
    assert sum(value.nbytes for value in expert.arrays().values()) > 10**11  # if they were filled
