"""Where does the time of a training step go?

Prints the seven operations that take most time in a training step of a GRU and an LSTM of 512 units at 64 x 128,
in float32 and beside it as charlm trains by default: their own time without that of the operations they call,
added up over all threads.

    python dev/profile_step.py [--steps 5]
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

import torch
from torch._C._profiler import _ExperimentalConfig
from torch.profiler import ProfilerActivity, profile

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from charlm.system.allocator import keep_freed_memory
from charlm.training.step import endless_windows
from measure import describe_machine, print_table
from training_speed import charlm_training, describe_plan

OPERATIONS_SHOWN = 7
VARIANTS = list(itertools.product(("gru", "lstm"), ("float32", "auto")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    print(describe_machine() + "\n")
    rows = [("step", "operation", "calls", "ms, all threads", "of the step")]
    for cell, precision in VARIANTS:
        step, batches = charlm_training(cell, 512, 1, 64, 128, precision=precision)
        windows = endless_windows(batches)
        step(next(windows), 0.0)  # the first allocates
        threads = _ExperimentalConfig(profile_all_threads=True)  # each thread computes rows of the batch
        with profile(activities=[ProfilerActivity.CPU], experimental_config=threads) as recording:
            for window in itertools.islice(windows, options.steps):
                step(window, 0.0)
        events = sorted(recording.key_averages(), key=lambda event: -event.self_cpu_time_total)
        total = sum(event.self_cpu_time_total for event in events)
        name = f"{cell} 512, {describe_plan(step)}: {total / options.steps / 1000:.0f} ms"
        for event in events[:OPERATIONS_SHOWN]:
            milliseconds = event.self_cpu_time_total / options.steps / 1000
            share = f"{event.self_cpu_time_total / total:.0%}"
            rows.append((name, event.key, f"{event.count / options.steps:.0f}", f"{milliseconds:.1f}", share))
            name = ""
    print_table(rows)


if __name__ == "__main__":
    main()
