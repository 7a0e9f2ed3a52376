"""The LSTM through PyTorch's fused oneDNN kernel: the same weights, all steps in one call.

The kernel multiplies its input, so a one-hot input has to be written out as vectors of width V. That pays while V
is small beside the recurrent product; a longer one is looked up, and goes through `lstm.sequence`.

Measured on two cores (AVX-512), a whole training step, fused ÷ derived by hand: V 65, H 256, 16 x 64: 1.7; V 65,
H 512, 64 x 128: 1.5; V 65, H 128, two layers, 50 x 50: 1.3; V 1,233, H 256, 16 x 24: 0.7. Hence `suits`.
The GRU and the simple cell have no such kernel on the CPU: PyTorch runs theirs operation by operation.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from charlm.cells.lstm import State

_MIN_STEPS = 4  # each call packs the weights anew, which a step or two do not pay back


def suits(inputs: Tensor, weight_ih: Tensor) -> bool:
    """Says whether the fused kernel is there for these tensors, and the faster way.

    Args:
        inputs: ids (T, B) of a one-hot input, or vectors (T, B, ·).
        weight_ih: shape (4H, ·).
    """
    rows, width = weight_ih.shape
    return (
        weight_ih.device.type == "cpu"
        and weight_ih.dtype == torch.float32
        and inputs.shape[0] >= _MIN_STEPS
        and width <= 2 * (rows // 4)
    )


def lstm(
    inputs: Tensor,
    state: State,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
) -> tuple[Tensor, State]:
    """All steps of one layer.

    Args:
        inputs: ids (T, B) of a one-hot input, or vectors (T, B, ·).
        state: (s_0, c_0), each (B, H).
        weight_ih: shape (4H, ·).
        weight_hh: shape (4H, H).
        bias_ih: shape (4H,), or None.
        bias_hh: shape (4H,), or None.

    Returns:
        s_1 … s_T, shape (T, B, H), and the last state.
    """
    if not inputs.is_floating_point():
        inputs = F.one_hot(inputs.long(), weight_ih.shape[1]).to(weight_ih.dtype)  # (T, B, V)
    biases = [] if bias_ih is None or bias_hh is None else [bias_ih, bias_hh]
    s, c = state
    # A single layer in one direction, time first; dropout between layers is the caller's.
    out, s, c = torch.lstm(
        inputs, (s[None], c[None]), [weight_ih, weight_hh, *biases], bool(biases), 1, 0.0, True, False, False
    )
    return out, (s[0], c[0])
