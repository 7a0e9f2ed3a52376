"""How fast does charlm train, beside plain torch.nn?

Both make whole training steps (forward, backward, clipping, AdamW), V = 65, alternately; the middle of the rounds
counts. The rival is written well: an embedding of width H, `nn.RNN/LSTM/GRU`, a linear layer, the same fused AdamW,
the state carried and detached; for the GRU with the reset gate before, which torch.nn lacks, a loop over steps with
the input product made outside. charlm's step is the one that `charlm train` makes, reading the text included.

The rival runs twice: in a process of its own, as torch comes, and in charlm's process, where it has the gain of
charlm's allocator setting. The last columns are charlm with `training.backend: bfloat16`, over torch as it comes.

    python benchmarks/training_speed.py [--rounds 3] [--seconds 0.5] [--only gru-512]

Useful GFLOP/s count the recurrent, upper-layer and output products, forward and backward, and nothing that one-hot
input saves; the share is that of the machine's matrix-multiply peak, measured at 1024³ first.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command-line program has it

import numpy as np
import torch
from measure import Act, Elsewhere, alternately, here, machine, peak, print_table
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.cells import compiled, find_cell
from charlm.cells.fused import has_bfloat16
from charlm.model.network import CharacterModel
from charlm.store.run_folder import RunFolder
from charlm.system.allocator import keep_freed_memory
from charlm.text.batches import StreamBatches
from charlm.training.budget import Amount
from charlm.training.optimization import build_optimizer
from charlm.training.trainer import Trainer

V = 65
# cell, H, layers, B, T, the floor that the ratio should reach
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
FLOAT32 = "compiled" if compiled.library() is not None else "auto"  # what the program takes
GATES = {"rnn": 1, "gru": 3, "gru-before": 3, "lstm": 4}


class Rival(nn.Module):
    """What a good programmer writes with torch.nn."""

    def __init__(self, cell: str, hidden: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(V, hidden)
        kind = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}.get(cell)
        self.layers = nn.GRU(hidden, hidden, layers) if kind is None else kind(hidden, hidden, layers)
        self.by_steps = kind is None
        self.output = nn.Linear(hidden, V)

    def forward(self, ids: Tensor, state: object) -> tuple[Tensor, object]:
        x = self.embedding(ids)
        if not self.by_steps:
            s, state = self.layers(x, state)
            return self.output(s), state
        step = find_cell("gru", "before").step
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


def rival(cell: str, hidden: int, layers: int, batch: int, length: int) -> Act:
    model, state = Rival(cell, hidden, layers), None
    optimizer = build_optimizer(model, "adamw", learning_rate=1e-3)
    ids = torch.randint(0, V, (length + 1, batch))

    def step() -> float:
        nonlocal state
        optimizer.zero_grad(set_to_none=True)
        logits, state = model(ids[:-1], state)
        state = detached(state)
        loss = F.cross_entropy(logits.flatten(0, 1), ids[1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()
        return batch * length

    return step


def own(cell: str, hidden: int, layers: int, batch: int, length: int, backend: str, **dropped: float) -> Act:
    """The very step of `charlm train`; `dropped`: `dropout`, `recurrent_dropout`."""
    name, _, reset = cell.partition("-")
    shape = {"hidden_size": hidden, "num_layers": layers}
    model = CharacterModel(V, cell=name, reset=reset or "after", backend=backend, **shape, **dropped)
    batches = StreamBatches(np.random.default_rng(0).integers(0, V, 10**6).astype(np.uint8), batch, length, 0)
    trainer = Trainer(
        model,
        batches,
        build_optimizer(model, "adamw", learning_rate=1e-3),
        budget=Amount("steps", 10**9, 10**6),
        interval=Amount("steps", 10**9, 10**6),
        folder=RunFolder("."),
        validate=None,
        write_sample=str,
    )
    steps = trainer.steps()

    def step() -> float:
        next(steps)
        return batch * length

    return step


def useful_gflop(cell: str, hidden: int, layers: int) -> float:
    """Multiplications and additions for one character, forward and backward."""
    products = GATES[cell] * hidden**2 * (2 * layers - 1) + V * hidden
    return 3 * 2 * products / 1e9


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    top = peak()
    print(f"{machine()}, matrix-multiply peak {top:.0f} GFLOP/s in float32\n")
    rows = [
        ("cell, H, layers, B x T", "torch.nn char/s", "charlm char/s", "GFLOP/s", "of peak", "ratio", "floor",
         "torch.nn here", "ratio", "bfloat16 char/s", "ratio"),
    ]  # fmt: skip
    for cell, hidden, layers, batch, length, floor in SHAPES:
        if options.only not in f"{cell}-{hidden}":
            continue
        shape = cell, hidden, layers, batch, length
        speeds = [Elsewhere(rival, *shape), here(own(*shape, FLOAT32)), here(rival(*shape))]
        if has_bfloat16(torch.device("cpu")):
            speeds.append(here(own(*shape, "bfloat16")))
        theirs, mine, kept, *half = alternately(speeds, options.rounds, options.seconds)
        gflops = mine * useful_gflop(cell, hidden, layers)
        rows.append(
            (
                f"{cell} {hidden}, {layers}, {batch} x {length}",
                f"{theirs:,.0f}",
                f"{mine:,.0f}",
                f"{gflops:.0f}",
                f"{gflops / top:.0%}",
                f"{mine / theirs:.2f}",
                f"{floor:.1f}",
                f"{kept:,.0f}",
                f"{mine / kept:.2f}",
                *([f"{half[0]:,.0f}", f"{half[0] / theirs:.2f}"] if half else ["", ""]),
            )
        )
    print_table(rows)


if __name__ == "__main__":
    main()
