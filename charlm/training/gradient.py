"""The gradient of a window: forward and backward, by rows side by side or by operations.

While its products are small, the rows of a batch are divided among the threads (see `charlm.threads`) and their
gradients are added up; products so small that even this costs more than it gives are left to one thread. Large ones
are left to PyTorch, whose threads then share what they read. docs/performance.md has all of these, measured.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from charlm.model import CharacterModel, ModelState
from charlm.threads import side_by_side
from charlm.training.loss import cross_entropy

# Multiplications of a step's recurrent product, B·G·H²: below the first one thread, above the second PyTorch's own.
_SMALL, _LARGE = 1 << 19, 1 << 25
_FEWEST_ROWS = 4  # for a thread: fewer do not pay for reading the weights


class Gradient(NamedTuple):
    """What one pass over a window, or over some of its rows, gives.

    Attributes:
        loss: cross-entropy in nats, summed, shape ().
        parameters: of the mean cross-entropy, for each parameter of the model in their order.
        state: after the last step.
    """

    loss: Tensor
    parameters: tuple[Tensor, ...]
    state: ModelState


class GradientComputer:
    """Computes the gradients of one model, window after window.

    Args:
        model: on its device.
    """

    def __init__(self, model: CharacterModel) -> None:
        self._model = model
        self._before_output = [value for name, value in model.named_parameters() if not name.startswith("output.")]

    def __call__(self, x: Tensor, y: Tensor, state: ModelState, symbols: int) -> Gradient:
        """Computes the gradient of the mean cross-entropy of a window.

        Args:
            x: ids, shape (T, B).
            y: the ids that follow, shape (T, B); places with `IGNORE` count nothing.
            state: before the first step.
            symbols: how many places count.
        """
        B = x.shape[1]
        threads = threads_by_rows(self._model, B, torch.get_num_threads())
        n = threads or 1
        # Drawn here and in this order: whichever thread is faster, the same seed drops the same.
        seeds = torch.randint(1 << 62, (n,)).tolist() if self._model.recurrent.dropout else [0] * n

        def part(i: int) -> Gradient:
            rows = slice(i * B // n, (i + 1) * B // n)
            before = [tuple(each[rows] for each in layer) for layer in state]
            return self._of_rows(x[:, rows], y[:, rows], before, symbols, seeds[i])

        first, *others = side_by_side(part, range(n)) if threads else [part(0)]
        for other in others:
            first.loss.add_(other.loss)
            torch._foreach_add_(first.parameters, other.parameters)
        layers = zip(*(gradient.state for gradient in (first, *others)), strict=True)
        return first._replace(state=[tuple(map(torch.cat, zip(*layer, strict=True))) for layer in layers])

    def _of_rows(self, x: Tensor, y: Tensor, state: ModelState, symbols: int, seed: int) -> Gradient:
        model, output = self._model, self._model.output
        features, last = model.features(x, state, torch.Generator(x.device).manual_seed(seed))  # (T, b, H)
        loss = cross_entropy(
            features.detach().flatten(0, 1),
            output.weight,
            output.bias,
            y.flatten(),
            scale=1 / symbols,
            dtype=model.product_dtype,
        )
        earlier = torch.autograd.grad(features, self._before_output, loss.features.view(features.shape))
        own = (loss.weight,) if loss.bias is None else (loss.weight, loss.bias)
        return Gradient(loss.total, earlier + own, last)


def threads_by_rows(model: CharacterModel, rows: int, threads: int) -> int | None:
    """Returns among how many threads the rows of a batch are divided; None: PyTorch divides operations."""
    work = rows * model.recurrent.parameter("weight_hh", 0).numel()
    if model.device.type != "cpu" or work > _LARGE:
        return None
    if work < _SMALL:
        return 1
    return n if (n := min(threads, rows // _FEWEST_ROWS)) > 1 else None
