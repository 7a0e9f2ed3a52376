"""How fast does charlm train, compared with plain torch.nn?

Measures whole training steps (forward, backward, clipping, AdamW) with 65 symbols, in characters per second.
charlm and its rival run alternately; the medians of the rounds and their ratio are printed. charlm's step is
the one that `charlm train` makes, reading the text included, with the kernel and the precision that `auto`
takes on this machine: this is what the target is about. A second column has charlm in float32.

The rival is written well: an embedding of width H, `nn.RNN`, `nn.LSTM` or `nn.GRU`, a linear layer, the same
fused AdamW, the state carried and detached, all in float32, which is torch's default. For the GRU that resets
before the matrix product, which torch.nn does not have, it is a loop over time steps with the input's product
computed outside. The rival runs twice: in a process of its own (plain torch), and in charlm's process, where
it benefits from charlm's allocator setting.

    python benchmarks/training_speed.py [--rounds 3] [--seconds 0.5] [--only gru-512]

GFLOP/s count the recurrent, upper-layer and output products, forward and backward; the input's product is not
counted, because one-hot input makes it a look-up. They are those of charlm in float32, and the share is that
of the machine's matrix-multiply peak in float32.
"""

from __future__ import annotations

import argparse
import os
from functools import partial
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command-line program sets it

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.cells import CELLS
from charlm.config import TrainingConfig, load_config
from charlm.system.allocator import keep_freed_memory
from charlm.text.batches import StreamBatches
from charlm.training.choice import make_network
from charlm.training.optimization import make_optimizer
from charlm.training.step import TrainingStep, measure_speed
from measure import (
    InCleanProcess,
    Workload,
    alternating_medians,
    describe_machine,
    in_this_process,
    matmul_peak_gflops,
    print_table,
)

V = 65
# cell, H, layers, B, T, and the ratio that charlm must reach
SHAPES = [
    ("gru", 512, 1, 64, 128, 2.0),
    ("gru", 256, 1, 16, 64, 1.9),
    ("lstm", 512, 1, 64, 128, 1.8),
    ("lstm", 256, 1, 16, 64, 1.6),
    ("rnn", 512, 1, 64, 128, 1.7),
    ("gru", 128, 2, 50, 50, 1.6),
    ("lstm", 128, 2, 50, 50, 1.2),
    ("gru-before", 256, 1, 16, 64, 1.0),
    ("lstm", 64, 1, 8, 64, 1.0),
    ("gru", 64, 3, 8, 64, 1.0),
    ("lstm", 1024, 1, 128, 32, 1.0),
    ("gru", 1024, 1, 128, 32, 1.0),
]
CPU = torch.device("cpu")
# The same for charlm and its rival: the learning rate as it is in the middle of a training, not warming up.
TRAINING: dict[str, Any] = {"learning_rate": 1e-3, "warmup": 0.0}


class TorchModel(nn.Module):
    """What a good programmer writes with torch.nn."""

    def __init__(self, cell: str, hidden: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(V, hidden)
        kind = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}.get(cell)
        self.layers = nn.GRU(hidden, hidden, layers) if kind is None else kind(hidden, hidden, layers)
        self.step_by_step = kind is None
        self.output = nn.Linear(hidden, V)

    def forward(self, ids: Tensor, state: object) -> tuple[Tensor, object]:
        x = self.embedding(ids)
        if not self.step_by_step:
            s, state = self.layers(x, state)
            return self.output(s), state
        step = CELLS["gru-before"].step
        w = self.layers
        x = F.linear(x, w.weight_ih_l0, w.bias_ih_l0)
        s = x.new_zeros(x.shape[1], w.hidden_size) if state is None else state
        out = []
        for x_t in x.unbind():
            (s,) = step(x_t, (s,), w.weight_hh_l0, w.bias_hh_l0)
            out.append(s)
        return self.output(torch.stack(out)), s


def detached(state: object) -> object:
    if isinstance(state, Tensor):
        return state.detach()
    return type(state)(map(detached, state))  # type: ignore[call-arg,call-overload]


def torch_step(cell: str, hidden: int, layers: int, batch: int, length: int) -> Workload:
    """One training step of plain torch."""
    return step_of(TorchModel(cell, hidden, layers), batch, length)


def step_of(model: nn.Module, batch: int, length: int) -> Workload:
    """One training step of a model that maps ids (T, B) and a state to logits (T, B, V) and a state."""
    optimizer = make_optimizer(model, TrainingConfig(**TRAINING))
    ids = torch.randint(0, V, (length + 1, batch), device=next(model.parameters()).device)
    state: object = None

    def step() -> float:
        nonlocal state
        optimizer.zero_grad(set_to_none=True)
        logits, state = model(ids[:-1], state)
        state = detached(state)
        loss = F.cross_entropy(logits.flatten(0, 1).float(), ids[1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()
        return batch * length

    return step


def charlm_training(
    cell: str,
    hidden: int,
    layers: int,
    batch: int,
    length: int,
    *,
    precision: str = "auto",
    kernel: str = "auto",
    symbols: int = V,
    device: torch.device = CPU,
    **model: float,
) -> tuple[TrainingStep, StreamBatches]:
    """The steps that `charlm train` makes, and what they read; `model` holds more of that section."""
    shape = {"cell": cell, "hidden_size": hidden, "num_layers": layers}
    window = {"batch_size": batch, "sequence_length": length}
    how = {"precision": precision, "kernel": kernel}
    sections = {"model": {**shape, **model}, "training": {**TRAINING, **window, **how}}
    config = load_config({"corpus": {"path": "random"}, **sections})
    ids = np.random.default_rng(0).integers(0, symbols, 10**6).astype(np.min_scalar_type(symbols - 1))
    with device:  # drawn there: orthogonal matrices of thousands of units take a CPU many seconds
        network = make_network(config, symbols, device)
    return TrainingStep(network, config.training), StreamBatches(ids, batch, length, 0)


def describe_plan(step: TrainingStep) -> str:
    """The kernel and the precision that a training runs with."""
    plan = step.network.plan
    return f"{plan.kernels[0]}, {str(plan.dtype).removeprefix('torch.')}"


def useful_gflop(cell: str, hidden: int, layers: int) -> float:
    """Multiplications and additions per character, forward and backward, in units of 10^9."""
    products = CELLS[cell].gates * hidden**2 * (2 * layers - 1) + V * hidden
    return 3 * 2 * products / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--only", default="", help="run only shapes whose name, such as gru-512, contains this")
    options = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    peak = matmul_peak_gflops()
    print(f"{describe_machine()}, matrix-multiply peak {peak:.0f} GFLOP/s in float32\n")
    rows = [
        ("cell, H, layers, B x T", "torch.nn char/s", "charlm char/s", "by auto", "ratio", "target",
         "charlm float32 char/s", "ratio", "GFLOP/s", "of peak", "torch.nn, charlm's allocator, char/s", "ratio"),
    ]  # fmt: skip
    for cell, hidden, layers, batch, length, target in SHAPES:
        if options.only not in f"{cell}-{hidden}":
            continue
        shape = cell, hidden, layers, batch, length
        step, batches = charlm_training(*shape)
        meters = [
            InCleanProcess(torch_step, *shape),
            partial(measure_speed, step, batches),
            partial(measure_speed, *charlm_training(*shape, precision="float32")),
            in_this_process(torch_step(*shape)),
        ]
        plain, ours, float32, plain_here = alternating_medians(meters, options.rounds, options.seconds)
        gflops = float32 * useful_gflop(cell, hidden, layers)
        rows.append(
            (
                f"{cell} {hidden}, {layers}, {batch} x {length}",
                f"{plain:,.0f}",
                f"{ours:,.0f}",
                describe_plan(step),
                f"{ours / plain:.2f}",
                f"{target:.1f}",
                f"{float32:,.0f}",
                f"{float32 / plain:.2f}",
                f"{gflops:.0f}",
                f"{gflops / peak:.0%}",
                f"{plain_here:,.0f}",
                f"{ours / plain_here:.2f}",
            )
        )
    print_table(rows)


if __name__ == "__main__":
    main()
