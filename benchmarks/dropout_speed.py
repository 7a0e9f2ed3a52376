"""What does dropout cost a training, and what would it cost if each value were drawn by `bernoulli_`?

python benchmarks/dropout_speed.py [--rounds 7] [--seconds 1]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from unittest.mock import patch

import torch
from measure import Act, alternately, here, machine, print_table
from torch import Tensor
from training_speed import FLOAT32, own

from charlm.cells.fused import has_bfloat16
from charlm.model.network import _kept
from charlm.system.allocator import keep_freed_memory

SIZES = [256, 512]


def each_by_itself(values: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
    return torch.empty_like(values).bernoulli_(1 - share, generator=generator)


def by_bernoulli(act: Act) -> Act:
    """The same step, each value drawn by itself."""

    def step() -> float:
        with patch("charlm.model.network._kept", each_by_itself):
            return act()

    return step


def drawing(draw: Callable[[Tensor, float, torch.Generator], Tensor]) -> Act:
    """Draws for the recurrent weights of an LSTM 512; counts in millions."""
    values, generator = torch.empty(4 * 512, 512), torch.Generator()

    def act() -> float:
        draw(values, 0.2, generator)
        return values.numel() / 1e6

    return act


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    backend = "bfloat16" if has_bfloat16(torch.device("cpu")) else FLOAT32
    print(f"{machine()}, {backend}\n")
    rows = [("LSTM, H, 16 x 64", "dropped", "char/s", "of none", "by bernoulli_", "ratio")]
    for hidden in SIZES:
        kinds: dict[str, dict[str, float]] = {
            "state": {"dropout": 0.2},
            "state and recurrent weights": {"dropout": 0.2, "recurrent_dropout": 0.2},
        }
        acts = [own("lstm", hidden, 1, 16, 64, backend)]
        for dropped in kinds.values():
            act = own("lstm", hidden, 1, 16, 64, backend, **dropped)
            acts += [act, by_bernoulli(act)]
        none, *others = alternately([here(act) for act in acts], options.rounds, options.seconds)
        for kind, ours, theirs in zip(kinds, others[::2], others[1::2], strict=True):
            speeds = (f"{ours:,.0f}", f"{ours / none:.0%}", f"{theirs:,.0f}", f"{ours / theirs:.2f}")
            rows.append((str(hidden), kind, *speeds))
    print_table(rows)
    torch.set_num_threads(1)  # as each of the threads of a training draws for itself
    ours, theirs = alternately([here(drawing(_kept)), here(drawing(each_by_itself))], options.rounds, 0.2)
    print(
        f"\na million values: {1e3 / ours:.1f} ms, by bernoulli_ {1e3 / theirs:.1f} ms, {ours / theirs:.1f} times"
    )


if __name__ == "__main__":
    main()
