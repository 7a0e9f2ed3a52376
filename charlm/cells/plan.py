"""The plan: which code runs each recurrent layer, in which precision, and how work is divided among threads.

It is made once, from the cell, the shapes, the device and the machine; model, gradient, loss and scoring only read
it. Another device is another branch here and nowhere else.

Three kernels compute the same equations with the same weights:

- `python`: the cell's own file, forward and gradient by hand, on any device;
- `compiled`: `kernels.c`, on a CPU, where it was shipped for it or there is a C compiler;
- `fused`: PyTorch's own (oneDNN's LSTM on the CPU; cuDNN's LSTM, GRU and simple cell on CUDA).

A fused kernel multiplies its input, so a one-hot input has to be written out as vectors of width V. That pays while
V is small beside the recurrent product; a longer one is looked up, by the `python` kernel.

Measured on two cores (AVX-512), a whole training step, fused ÷ python: V 65, H 256, 16 x 64: 1.7; V 65, H 512,
64 x 128: 1.5; V 65, H 128, two layers, 50 x 50: 1.3; V 1,233, H 256, 16 x 24: 0.7. The time of a step of 16 x 64
characters with its rows divided among threads ÷ left to PyTorch: fused LSTM in bfloat16 with 256 units 1.02, 384
1.06, 512 1.16, 640 1.58; GRU with 384 units 0.86, 512 0.96; simple cell with 1024 units and 32 rows 0.95. Beside
another busy process, rows that are divided lose nothing but their share of the cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from charlm import kernels
from charlm.cells import Cell, fused
from charlm.cells.steps import is_large
from charlm.errors import InputError

MIN_STEPS = 4  # a kernel packs the weights anew at each call, which a window of a step or two does not pay back

_GAINS_BFLOAT16_WEIGHTS = 1 << 15  # recurrent weights of a layer, G·H², from which kernels.c gains by bfloat16
_CACHED_WEIGHTS = 1 << 19  # recurrent weights of a layer that a core's own cache holds
_DIVIDED_PRODUCTS = 1 << 20  # multiplications in a step, B·G·H², below which one thread computes a window
_DIVIDED_PRODUCTS_COMPILED = 1 << 18  # the same for the compiled kernels
_ROWS_PER_THREAD = 4  # at least: fewer rows do not pay for reading the weights


@dataclass(frozen=True)
class Machine:
    """What the machine offers to layers on one device.

    Attributes:
        compiled: whether `kernels.c` is compiled for the machine, and runs on the device.
        compiled_bfloat16: whether these kernels multiply bfloat16 by the processor's own instructions.
        bfloat16: whether PyTorch multiplies bfloat16 faster than float32 on the device.
    """

    compiled: bool
    compiled_bfloat16: bool
    bfloat16: bool


def find_machine(device: torch.device) -> Machine:
    """Returns what this machine offers to layers on a device."""
    there = device.type == "cpu" and kernels.library() is not None
    return Machine(there, there and kernels.has_bfloat16(), fused.has_bfloat16(device))


@dataclass(frozen=True)
class Plan:
    """How the recurrent layers of one network are computed.

    Attributes:
        kernels: what runs each layer in training: `python`, `compiled` or `fused`.
        dtype: of the matrix products in training; weights and sums are float32.
        evaluation_kernels: what runs each layer outside training, always in float32.
        divides_rows: whether training divides the rows of a batch among threads; else PyTorch divides operations.
        fewest_rows: with fewer rows than this, one thread computes a whole window.
    """

    kernels: tuple[str, ...]
    dtype: torch.dtype
    evaluation_kernels: tuple[str, ...]
    divides_rows: bool
    fewest_rows: int

    def kernel(self, layer: int, steps: int, dtype: torch.dtype, *, training: bool) -> str:
        """Returns what runs a window of a layer whose weights are of a dtype."""
        if dtype != torch.float32:
            return "python"
        if training:
            return self.kernels[layer]
        return self.evaluation_kernels[layer] if steps >= MIN_STEPS else "python"

    def row_threads(self, rows: int, threads: int) -> int | None:
        """Returns among how many threads the rows of a batch are divided; None: PyTorch divides operations."""
        if not self.divides_rows:
            return None
        if rows < self.fewest_rows:
            return 1
        return n if (n := min(threads, rows // _ROWS_PER_THREAD)) > 1 else None


def make_plan(
    cell: Cell,
    widths: Sequence[int],
    hidden_size: int,
    device: torch.device,
    *,
    kernel: str = "auto",
    precision: str = "auto",
    batch_size: int = 1,
    machine: Machine | None = None,
) -> Plan:
    """Decides how the layers of a network are computed.

    Args:
        cell: of every layer.
        widths: of each layer's input: of the first the symbols of the one-hot input or the width of the embedding.
        hidden_size: H.
        device: where the weights are.
        kernel: `training.kernel`.
        precision: `training.precision`.
        batch_size: B in training.
        machine: what it offers to layers on the device; None: what this one does.

    Raises:
        InputError: this cell, device or machine has no such kernel, or no such precision.
    """
    machine = machine or find_machine(device)
    has_compiled = machine.compiled and kernels.has_kernel(cell.name)
    has_fused = fused.has_kernel(cell.torch_kernel, device)
    if kernel == "fused" and not has_fused:
        raise InputError(
            f"training.kernel fused: PyTorch has no fused kernel for {cell.name} on {device.type}; use "
            "training.kernel auto"
        )
    if kernel == "compiled" and not has_compiled:
        raise InputError(
            f"training.kernel compiled: {cell.name} on {device.type} has no compiled kernel, which needs a cell in "
            "kernels.c, a CPU, and a C compiler (cc, or the one that CC names) or a wheel with built kernels; use "
            "training.kernel auto"
        )
    if kernel == "compiled" and precision == "bfloat16" and not machine.compiled_bfloat16:
        raise InputError(
            "training.precision bfloat16: this processor cannot multiply bfloat16 in C; use training.precision auto"
        )

    rows = cell.gates * hidden_size
    weights = rows * hidden_size  # of one layer's recurrent product
    evaluation: tuple[str, ...]  # the fastest in float32
    if has_compiled:
        evaluation = ("compiled",) * len(widths)
    else:
        evaluation = tuple("fused" if has_fused and _is_narrow(width, rows) else "python" for width in widths)
    chosen = evaluation if kernel == "auto" else (kernel,) * len(widths)
    low = precision == "bfloat16"
    if precision == "auto":
        low = _gains_bfloat16(chosen[0], weights, batch_size, has_fused, machine)
    if low and kernel == "auto":  # in bfloat16 a wide input is worth multiplying, too
        in_c = has_compiled and machine.compiled_bfloat16
        chosen = ("compiled" if in_c else "fused" if has_fused else "python",) * len(widths)
    products = _DIVIDED_PRODUCTS_COMPILED if "compiled" in chosen else _DIVIDED_PRODUCTS
    on_cpu = device.type == "cpu"
    return Plan(
        kernels=chosen,
        dtype=torch.bfloat16 if low else torch.float32,
        evaluation_kernels=evaluation,
        divides_rows=on_cpu and not ("fused" in chosen and weights > _CACHED_WEIGHTS),
        fewest_rows=-(-products // weights),
    )


def _gains_bfloat16(kernel: str, weights: int, batch_size: int, has_fused: bool, machine: Machine) -> bool:
    """Says whether products in bfloat16 make training faster than this kernel is in float32."""
    if kernel == "compiled":
        return weights >= _GAINS_BFLOAT16_WEIGHTS and machine.compiled_bfloat16
    if kernel == "python" and (has_fused or not is_large(batch_size, weights)):
        return False
    return machine.bfloat16


def _is_narrow(width: int, rows: int) -> bool:
    """Says whether an input of this width is worth multiplying, with weights of so many rows (G·H)."""
    return width <= rows // 2
