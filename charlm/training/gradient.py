"""The gradient of a window: forward and backward, for all rows at once or for some of them on each thread.

The plan says whether the rows of a batch are divided among the threads (`cells.plan`); their gradients are added
up.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from charlm.model.network import CharacterModel, NetworkState
from charlm.system.threads import parallel_map, thread_count
from charlm.training.loss import cross_entropy


class Gradient(NamedTuple):
    """What one pass over a window, or over some of its rows, gives.

    Attributes:
        loss: cross-entropy in nats, summed, shape ().
        parameters: of the mean cross-entropy, for each parameter of the network in their order.
        state: after the last step, without its gradient.
    """

    loss: Tensor
    parameters: tuple[Tensor, ...]
    state: NetworkState


class GradientComputer:
    """Computes the gradients of one network, window after window.

    Args:
        network: on its device.
    """

    def __init__(self, network: CharacterModel) -> None:
        self._network = network
        self._before_output = [
            value for name, value in network.named_parameters() if not name.startswith("output.")
        ]

    def __call__(self, x: Tensor, y: Tensor, state: NetworkState, symbols: int) -> Gradient:
        """Computes the gradient of the mean cross-entropy of a window.

        Args:
            x: ids, shape (T, B).
            y: the ids that follow, shape (T, B); places with `IGNORE` count nothing.
            state: before the first step.
            symbols: how many places count.
        """
        B = x.shape[1]
        threads = self._network.plan.row_threads(B, thread_count())
        n = threads or 1
        # Drawn here and in this order: whichever thread is faster, the same seed drops the same.
        seeds = torch.randint(1 << 62, (n,)).tolist() if self._network.drops else [0] * n

        def part(i: int) -> Gradient:
            rows = slice(i * B // n, (i + 1) * B // n)
            before = [tuple(each[rows] for each in layer) for layer in state]
            return self._of_rows(x[:, rows], y[:, rows], before, symbols, seeds[i])

        first, *others = parallel_map(part, range(n)) if threads else (part(0),)
        for other in others:
            first.loss.add_(other.loss)
            torch._foreach_add_(first.parameters, other.parameters)
        # In memory as the weights are, which the gradient of a matrix that was looked up in is not: the fused
        # optimisers take both number by number as they lie.
        parameters = tuple(gradient.contiguous() for gradient in first.parameters)
        # Memory of its own, even of a single part: where a tensor begins can change how a product rounds, and a
        # resumed run must equal this one.
        layers = zip(*(gradient.state for gradient in (first, *others)), strict=True)
        return first._replace(
            parameters=parameters, state=[tuple(map(torch.cat, zip(*layer, strict=True))) for layer in layers]
        )

    def _of_rows(self, x: Tensor, y: Tensor, state: NetworkState, symbols: int, seed: int) -> Gradient:
        network, output = self._network, self._network.output
        features, last = network.features(x, state, torch.Generator(x.device).manual_seed(seed))  # (T, b, R)
        loss = cross_entropy(
            features.detach().flatten(0, 1),
            output.weight,
            output.bias,
            y.flatten(),
            scale=1 / symbols,
            dtype=network.plan.dtype,
        )
        earlier = torch.autograd.grad(features, self._before_output, loss.features.view(features.shape))
        own = (loss.weight,) if loss.bias is None else (loss.weight, loss.bias)
        return Gradient(loss.total, earlier + own, [tuple(each.detach() for each in layer) for layer in last])
