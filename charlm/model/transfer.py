"""Weights that a fresh network begins with: those of a trained one, or the frequencies of the symbols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from charlm.model.exchange import copy_as_tensors
from charlm.model.network import CharacterModel


@torch.no_grad()
def initialize_output_bias(network: CharacterModel, log_probs: NDArray[np.float64]) -> None:
    """Lets a fresh network predict each symbol by its frequency, from the bias alone, where the output has one.

    Among thousands of characters the first steps would be spent on learning just that: after 400,000 characters of
    Tang couplets it is worth 0.075 nats, after 1.5 million of tiny Shakespeare 0.011.

    Args:
        network: freshly made.
        log_probs: of each symbol in the training text, shape (V,).
    """
    if network.output.bias is not None:
        network.output.bias.copy_(torch.from_numpy(log_probs))


@torch.no_grad()
def transfer_weights(
    network: CharacterModel, trained: Mapping[str, NDArray[Any]], ids: Sequence[int | None]
) -> None:
    """Gives a network the weights of a trained one of the same shape whose vocabulary is another.

    The input of a new character stays as it was drawn. Its output row is the mean of the trained ones, so that at
    the start n new characters beside V old ones take at most the share n/(V + n) of the probability (Hewitt 2021,
    Initializing New Word Embeddings for Pretrained Language Models).

    Args:
        network: freshly made.
        trained: the weights by name.
        ids: for each symbol of `network` its id in the vocabulary of `trained`; None for a new one.
    """
    here = torch.tensor([i for i, old in enumerate(ids) if old is not None])
    there = torch.tensor([old for old in ids if old is not None])
    own, theirs = dict(network.named_parameters()), copy_as_tensors(trained)
    by_symbol = {"embedding.weight": 0, "output.weight": 0, "output.bias": 0}
    if network.embedding is None:
        by_symbol["recurrent.weight_ih_l0"] = 1  # one column for each symbol
    for name, value in own.items():
        if name not in by_symbol:
            value.copy_(theirs[name])
            continue
        axis = by_symbol[name]
        if name.startswith("output."):
            value.copy_(theirs[name].mean(0))
        value.index_copy_(axis, here, theirs[name].index_select(axis, there))
