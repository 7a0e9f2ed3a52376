"""The gradient of a window: forward and backward, for all rows at once or for some of them on each thread.

The plan says whether the rows of a batch are divided among the threads (`cells.plan`); their gradients are added
up. Where several processes share a batch, `lanes` says which rows this one computes, and the gradients are those of
all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from charlm.model.network import CharacterModel, Generators, LaneGenerators, NetworkState
from charlm.system.distributed import tree_sum
from charlm.system.threads import parallel_map, thread_count
from charlm.training.lanes import Lanes
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
            generator = torch.Generator(x.device).manual_seed(seeds[i])
            return self._of_rows(x[:, rows], y[:, rows], before, symbols, generator)

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

    def of_lanes(
        self,
        x: Tensor,
        y: Tensor,
        state: NetworkState,
        symbols: int,
        lanes: Lanes,
        B: int,
        tell: Callable[[], Sequence[float]],
    ) -> tuple[Gradient, list[float]]:
        """Computes the gradient of the mean cross-entropy of a window whose rows are divided among the ranks.

        Args:
            x: ids of the rows of this rank, shape (T, b).
            y: the ids that follow, shape (T, b); places with `IGNORE` count nothing.
            state: of the rows of this rank, before the first step.
            symbols: how many places count in the whole window.
            lanes: how the rows are divided.
            B: how many rows the whole window has.
            tell: gives numbers that are added up over all ranks as well, asked when all else is computed.

        Returns:
            The gradient and the loss of the whole window, the same bits on every rank, with the state of the rows
            of this rank; and the sums of what was told.
        """
        seeds = torch.randint(1 << 62, (1 + B,)).tolist() if self._network.drops else [0] * (1 + B)
        own_seeds = seeds[1:][lanes.rows(B)]

        def generator(seed: int) -> torch.Generator:
            return torch.Generator(x.device).manual_seed(seed)

        def group(rows: slice) -> Gradient:
            # Memory of its own on every rank: where a tensor begins can change how a product rounds.
            before = [tuple(each[rows].clone() for each in layer) for layer in state]
            if rows.start == rows.stop:  # of a window of few lines; it keeps its place in the tree
                nothing = tuple(map(torch.zeros_like, self._network.parameters()))
                return Gradient(nothing[0].new_zeros(()), nothing, before)
            drawing = LaneGenerators(generator(seeds[0]), list(map(generator, own_seeds[rows])))
            return self._of_rows(x[:, rows], y[:, rows], before, symbols, drawing)

        groups = lanes.group_rows(B)
        parts = list(parallel_map(group, groups) if x.device.type == "cpu" else map(group, groups))
        told = tell()
        numbers = [parameter.numel() for parameter in self._network.parameters()]
        n = sum(numbers) + 1 + len(told)
        flat = x.new_zeros(n + -n % lanes.ranks.size, dtype=self._network.output.weight.dtype)
        for number, own in enumerate(zip(*((*part.parameters, part.loss) for part in parts), strict=True)):
            begin = sum(numbers[:number])
            flat[begin : begin + own[0].numel()] = tree_sum([each.contiguous() for each in own]).flatten()
        flat[sum(numbers) + 1 : n] = torch.tensor(told)
        *values, loss, heard = lanes.ranks.sum(flat)[:n].split([*numbers, 1, len(told)])
        parameters = zip(values, self._network.parameters(), strict=True)
        layers = zip(*(part.state for part in parts), strict=True)
        return Gradient(
            loss[0],
            tuple(value.view_as(parameter) for value, parameter in parameters),
            [tuple(map(torch.cat, zip(*layer, strict=True))) for layer in layers],
        ), heard.tolist()

    def _of_rows(
        self, x: Tensor, y: Tensor, state: NetworkState, symbols: int, generator: Generators | None
    ) -> Gradient:
        network, output = self._network, self._network.output
        features, last = network.features(x, state, generator)  # (T, b, R)
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
