"""The recurrences as machine code: `kernels.c`, compiled once for this machine where it has a C compiler.

The derived Functions of lstm.py, gru.py and rnn.py make some ten calls a step; for small layers those cost more
than their arithmetic, and threads side by side wait for each other to make them. Here a window is one call, forward
and backward, without Python's lock. Where there is no compiler, nothing is lost but speed.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from charlm.cells.steps import add_product
from charlm.system.files import cache_folder, replace_file

_SOURCE = Path(__file__).with_name("kernels.c")
_FLAGS = ("-O3", "-march=native", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
# Of each cell that kernels.c knows: its name there, and how many numbers it saves for each unit and step.
_KERNELS = {"rnn": ("rnn", 0), "lstm": ("lstm", 6), "gru": ("gru_after", 4), "gru-before": ("gru_before", 4)}
_SECONDS = 60.0


@functools.cache
def library() -> ctypes.CDLL | None:
    """Returns the compiled kernels; None where they cannot be had.

    They lie in the cache, in a folder that nobody else may write to, and are compiled again for another machine.
    """
    if (compiler := _compiler()) is None:
        return None
    try:
        key = hashlib.sha256(_SOURCE.read_bytes() + repr((_FLAGS, _machine(), compiler)).encode()).hexdigest()[:16]
        folder = cache_folder() / "kernels"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        owner = folder.stat()
        if owner.st_uid != os.getuid() or owner.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return None
        if not (target := folder / f"{key}.so").exists():
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                made = Path(scratch) / target.name
                command = [compiler, *_FLAGS, "-o", str(made), str(_SOURCE)]
                subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)
                with replace_file(target, shared=True) as file:
                    file.write(made.read_bytes())
        return ctypes.CDLL(str(target))
    except (OSError, RuntimeError, subprocess.SubprocessError):  # RuntimeError: no home to keep a cache in
        return None


def _compiler() -> str | None:
    return shutil.which(os.environ.get("CC") or "cc") if os.name == "posix" else None


def why_missing() -> str:
    """Says why there are no compiled kernels, and what helps."""
    if _compiler() is None:
        name = os.environ.get("CC") or "cc"
        return f"no C compiler {name} (install gcc or clang, for example by `apt install gcc`, or name one in CC)"
    return f"the C compiler {_compiler()} could not make the kernels, or the cache folder cannot hold them"


def _machine() -> str:
    """Tells machines apart for which the compiler makes different code."""
    try:
        flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    except (OSError, StopIteration):
        flags = platform.processor()
    return f"{platform.machine()} {flags}"


def has_bfloat16() -> bool:
    """Says whether the kernels multiply bfloat16 by the processor's own instructions."""
    found = library()
    return found is not None and bool(found.charlm_bfloat16())


def has_kernel(cell: str) -> bool:
    """Says whether `kernels.c` has a cell of this name."""
    return cell in _KERNELS


def sequence(
    cell: str,
    x: Tensor,
    state: tuple[Tensor, ...],
    weight_hh: Tensor,
    bias_hh: Tensor | None,
    *,
    ids: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """All steps, as the `sequence` of the cell's own file.

    Args:
        cell: its name; `has_kernel` says whether there is one.
        x: U x_t + bias_ih, shape (T, B, G·H); with ids that of each symbol, (V, G·H).
        state: before the first step.
        weight_hh: W, shape (G·H, H).
        bias_hh: shape (G·H,), or None.
        ids: the symbols of a one-hot input, shape (T, B).
        dtype: of the recurrent products: bfloat16, or that of the weights.

    Raises:
        IndexError: an id is none of a symbol.
        ValueError: bfloat16 where the processor has no such products.
    """
    if ids is not None and ids.numel():
        low, high = (int(id) for id in ids.aminmax())
        if low < 0 or high >= len(x):
            raise IndexError(f"ids from {low} to {high}, and {len(x)} symbols")
    if dtype == torch.bfloat16 and not has_bfloat16():
        raise ValueError("no bfloat16 products on this processor")
    s0, c0 = state if len(state) == 2 else (*state, None)
    keep = torch.is_grad_enabled()
    s, c = CompiledFunction.apply(x, ids, s0, c0, weight_hh, bias_hh, cell, dtype, keep)  # type: ignore[no-untyped-call]
    return s, (s[-1],) if c0 is None else (s[-1], c)


class CompiledFunction(torch.autograd.Function):
    """All steps of a cell, forward and backward, each in one call; the weights' gradient in one product."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        ids: Tensor | None,
        s0: Tensor,
        c0: Tensor | None,
        weight_hh: Tensor,
        bias_hh: Tensor | None,
        cell: str,
        dtype: torch.dtype | None,
        keep: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Returns s_1 … s_T, shape (T, B, H), and for the LSTM c_T, shape (B, H).

        Only where asked to `keep` is there what `backward` needs; else memory for one step serves all.
        """
        T, B = x.shape[:2] if ids is None else ids.shape
        H = weight_hh.shape[1]
        ids = None if ids is None else ids.long().contiguous()
        _, numbers = _KERNELS[cell]
        states, saved = x.new_empty(T, B, H), x.new_empty(T if keep else 1, B, numbers * H)
        last = None if c0 is None else torch.empty_like(s0, memory_format=torch.contiguous_format)
        rounded = _rounded(T, B, H, dtype)
        given = (x, ids, weight_hh, bias_hh, s0, c0)
        _call(cell, "forward", (T, B, H, rounded is not None, keep), given, (states, saved, last, rounded))
        ctx.cell, ctx.dtype, ctx.symbols = cell, dtype, len(x)
        ctx.save_for_backward(states, saved, s0, c0, weight_hh, ids, rounded)
        return states, last

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_c: Tensor | None) -> tuple[Tensor | None, ...]:
        """Returns the gradients of x, s0, c0, weight_hh and bias_hh, with None for what has none."""
        states, saved, s0, c0, weight_hh, ids, rounded = ctx.saved_tensors
        T, B, H = states.shape
        rows = len(weight_hh)
        dx = states.new_empty(T, B, rows)
        dp = states.new_empty(T, B, rows) if ctx.cell == "gru" else dx  # of W s + b'
        ds = torch.zeros_like(s0, memory_format=torch.contiguous_format)
        dc = None if c0 is None else torch.empty_like(ds)
        d_rounded = _rounded(T, B, rows, ctx.dtype)
        given = (grad, grad_c, weight_hh, s0, c0, states, saved)
        _call(ctx.cell, "backward", (T, B, H, rounded is not None), given, (dx, dp, ds, dc, d_rounded))
        dw = torch.zeros_like(weight_hh)
        if ctx.cell == "gru-before":  # its last third multiplies r ∘ s
            add_product(dw[2 * H :], dp[:, :, 2 * H :], saved[:, :, 3 * H :], ctx.dtype)
            rows = 2 * H
        elif rounded is not None and d_rounded is not None:
            dw += d_rounded[:, :, :rows].flatten(0, 1).t() @ rounded[:, :, :H].flatten(0, 1)
            rows = 0
        if rows:
            add_product(dw[:rows], dp[0, :, :rows], s0, ctx.dtype)
            add_product(dw[:rows], dp[1:, :, :rows], states[:-1], ctx.dtype)
        if ids is not None:
            dx = torch.ops.aten.embedding_dense_backward(dx, ids, ctx.symbols, -1, False)  # (V, G·H)
        db = None
        if ctx.needs_input_grad[5]:
            db = dx.flatten(0, -2).sum(0)
            if ctx.cell == "gru":
                db[2 * H :] = dp[:, :, 2 * H :].sum((0, 1))
        return dx, None, ds, dc, dw, db, None, None, None


def _rounded(T: int, B: int, width: int, dtype: torch.dtype | None) -> Tensor | None:
    """Returns room for what the kernels round on their way; the width is even, so that pairs fill it."""
    return torch.empty(T, B, width + width % 2, dtype=dtype) if dtype == torch.bfloat16 else None


def _call(
    cell: str,
    direction: str,
    shape: tuple[int, ...],
    given: tuple[Tensor | None, ...],
    made: tuple[Tensor | None, ...],
) -> None:
    found = library()
    assert found is not None
    inputs = [None if tensor is None else tensor.contiguous() for tensor in given]
    pointers = [None if tensor is None else ctypes.c_void_p(tensor.data_ptr()) for tensor in (*inputs, *made)]
    if not found[f"charlm_{_KERNELS[cell][0]}_{direction}"](*map(int, shape), *pointers):
        raise MemoryError(f"no memory for the weights of a {cell} layer with {shape[2]} hidden units")
