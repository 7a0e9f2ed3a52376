"""Where does the time of a training step go? The operations of GRU 512 and LSTM 512 at 64 x 128, by self time.

python benchmarks/profile_step.py [--steps 5]
"""

from __future__ import annotations

import argparse

import torch
from measure import machine, print_table
from torch._C._profiler import _ExperimentalConfig
from torch.profiler import ProfilerActivity, profile
from training_speed import FLOAT32, own

from charlm.cells.fused import has_bfloat16
from charlm.system.allocator import keep_freed_memory

SHAPES = [("gru", FLOAT32), ("gru", "bfloat16"), ("lstm", FLOAT32), ("lstm", "bfloat16")]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    print(machine() + "\n")
    rows = [("step", "operation", "calls", "ms, all threads", "of the step")]
    for cell, backend in SHAPES:
        if backend == "bfloat16" and not has_bfloat16(torch.device("cpu")):
            continue
        step = own(cell, 512, 1, 64, 128, backend)
        step()
        threads = _ExperimentalConfig(profile_all_threads=True)  # those with rows of their own too
        with profile(activities=[ProfilerActivity.CPU], experimental_config=threads) as recorded:
            for _ in range(options.steps):
                step()
        events = sorted(recorded.key_averages(), key=lambda event: -event.self_cpu_time_total)
        total = sum(event.self_cpu_time_total for event in events)
        name = f"{cell} 512, {backend}: {total / options.steps / 1000:.0f} ms"
        for event in events[:7]:
            milliseconds = event.self_cpu_time_total / options.steps / 1000
            share = f"{event.self_cpu_time_total / total:.0%}"
            rows.append((name, event.key, f"{event.count / options.steps:.0f}", f"{milliseconds:.1f}", share))
            name = ""
    print_table(rows)


if __name__ == "__main__":
    main()
