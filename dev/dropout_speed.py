"""What does dropout cost in training speed, and how long does a mask take beside one of torch?

Trains an LSTM at 16 x 64 with and without dropout, by default otherwise, all alternately. Then draws masks for the
recurrent weights of an LSTM of 512 units, by charlm's `drop` and by `torch.nn.functional.dropout`, alternately.

    python dev/dropout_speed.py [--rounds 7] [--seconds 1]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from charlm.model.network import drop
from charlm.system.allocator import keep_freed_memory
from charlm.training.step import measure_speed
from measure import Workload, alternating_medians, describe_machine, in_this_process, print_table
from training_speed import charlm_training, describe_plan

HIDDEN_SIZES = [256, 512]
KINDS: dict[str, dict[str, float]] = {
    "nothing": {},
    "state": {"dropout": 0.2},
    "state and recurrent weights": {"dropout": 0.2, "recurrent_dropout": 0.2},
}


def dropping(change: Callable[[Tensor], Tensor]) -> Workload:
    """Drops recurrent weights of an LSTM of 512 units; returns millions of values."""
    values = torch.ones(4 * 512, 512)

    def workload() -> float:
        change(values)
        return values.numel() / 1e6

    return workload


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    print(describe_machine() + "\n")
    rows = [("LSTM H, 16 x 64", "dropped", "char/s", "of speed without")]
    for hidden in HIDDEN_SIZES:
        trainings = [charlm_training("lstm", hidden, 1, 16, 64, **dropout) for dropout in KINDS.values()]
        meters = [partial(measure_speed, *training) for training in trainings]
        speeds = alternating_medians(meters, options.rounds, options.seconds)
        name = f"{hidden}, {describe_plan(trainings[0][0])}"
        for kind, speed in zip(KINDS, speeds, strict=True):
            rows.append((name, kind, f"{speed:,.0f}", f"{speed / speeds[0]:.0%}"))
    print_table(rows)
    torch.set_num_threads(1)  # each thread of a training draws for itself
    generator = torch.Generator()
    meters = [
        in_this_process(dropping(lambda values: drop(values, 0.2, generator))),
        in_this_process(dropping(lambda values: F.dropout(values, 0.2))),
    ]
    ours, torchs = alternating_medians(meters, options.rounds, options.seconds / 5)
    print(
        f"\na million values dropped: {1e3 / ours:.1f} ms; by torch {1e3 / torchs:.1f} ms, "
        f"{ours / torchs:.1f} times as long"
    )


if __name__ == "__main__":
    main()
