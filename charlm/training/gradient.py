"""The gradient of a window: forward and backward, by rows side by side or by operations.

The rows of a batch are divided among the threads (see `charlm.system.threads`) and their gradients are added up.
Products so small that this costs more than it gives are left to one thread. Large weights in a fused kernel are
left to PyTorch: its threads then keep a part of the weights each in the cache, where threads with rows of their
own would read them all.

Measured on two cores (1 MB of cache each), the time of a step of 16 x 64 characters unless said, divided by rows ÷
left to PyTorch: LSTM in bfloat16 with 256 units 1.02, 384 1.06, 512 1.16, 640 1.58; with 256 units and 128 rows
0.92; GRU with 384 units 0.86, 512 0.96, at 64 x 128 0.89, 1024 at 128 x 32 0.92; simple cell with 1024 units and 32
rows 0.95. Beside another busy process, what is divided loses nothing but its share of the cores.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from charlm.cells import compiled
from charlm.cells.fused import has_kernel
from charlm.model.network import CharacterModel, ModelState
from charlm.system.threads import side_by_side
from charlm.training.loss import cross_entropy

_SMALL = 1 << 20  # multiplications of a step's recurrent product, B·G·H², below which one thread does all
_SMALL_COMPILED = 1 << 18  # the same for the compiled kernels
_CACHED = 1 << 19  # recurrent weights of one layer, G·H², that a core's own cache holds
_FEWEST_ROWS = 4  # for a thread: fewer do not pay for reading the weights


class Gradient(NamedTuple):
    """What one pass over a window, or over some of its rows, gives.

    Attributes:
        loss: cross-entropy in nats, summed, shape ().
        parameters: of the mean cross-entropy, for each parameter of the model in their order.
        state: after the last step, without its gradient.
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
        seeds = torch.randint(1 << 62, (n,)).tolist() if self._model.recurrent.drops else [0] * n

        def part(i: int) -> Gradient:
            rows = slice(i * B // n, (i + 1) * B // n)
            before = [tuple(each[rows] for each in layer) for layer in state]
            return self._of_rows(x[:, rows], y[:, rows], before, symbols, seeds[i])

        first, *others = side_by_side(part, range(n)) if threads else (part(0),)
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
        return Gradient(loss.total, earlier + own, [tuple(each.detach() for each in layer) for layer in last])


def threads_by_rows(model: CharacterModel, rows: int, threads: int) -> int | None:
    """Returns among how many threads the rows of a batch are divided; None: PyTorch divides operations."""
    layers = model.recurrent
    weight = layers.parameter("weight_hh", 0)
    by_own = compiled.runs(layers.backend, weight)
    fused = layers.backend != "derived" and has_kernel(layers.cell.kernel, model.device)
    if model.device.type != "cpu" or (fused and not by_own and weight.numel() > _CACHED):
        return None
    if rows * weight.numel() < (_SMALL_COMPILED if by_own else _SMALL):
        return 1
    return n if (n := min(threads, rows // _FEWEST_ROWS)) > 1 else None
