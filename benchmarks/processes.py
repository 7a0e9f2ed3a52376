"""What do several processes gain, and what do equal bits cost?

The first table has whole training steps of one, two and four processes that torchrun starts, in characters per
second, with what adding the gradients up takes alone; one process has all cores, several share them. The second has
the processor time of the gradient of a window when its lanes are computed in groups, over that without groups: what
it costs that one, two and four processes come to the same bits.

    python benchmarks/processes.py [--seconds 5]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from charlm.config import ModelConfig
from charlm.model.network import CharacterModel, plan_layers
from charlm.system.allocator import keep_freed_memory
from charlm.system.distributed import ALONE
from charlm.system.threads import set_threads
from charlm.training.gradient import GradientComputer
from charlm.training.lanes import Lanes, group_count
from measure import describe_machine, print_table

SHAPES = [(256, 16, 64), (512, 16, 64), (512, 64, 128), (1024, 64, 64)]  # H, B, T of an LSTM
GROUPS = (1, 2, 4, 8)
SYMBOLS = 65
PROGRAM = """
import sys
from charlm.config import load_config
from charlm.run import preflight
H, B, T = map(int, sys.argv[1:4])
training = {"batch_size": B, "sequence_length": T, "device": "cpu"}
corpus = {"path": "corpus:english", "framing": "stream"}
config = load_config({"corpus": corpus, "model": {"hidden_size": H}, "training": training})
found = preflight(config, float(sys.argv[4]))
print(found.characters_per_second, found.together, found.measured.step_seconds, found.measured.sum_seconds)
"""


def together(processes: int, shape: tuple[int, int, int], seconds: float) -> list[float]:
    """Characters per second of one process and of all, and the seconds of a step and of a sum."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    root = str(Path(__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "1000"}  # as charlm
    command = [*torchrun, "--no-python", sys.executable, "-c", PROGRAM, *map(str, shape), str(seconds)]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    return [float(number) for number in out.split()]


def group_times(shape: tuple[int, int, int], seconds: float) -> list[float]:
    """Seconds of one processor for the gradient of a window, with its lanes in so many groups each; medians."""
    H, B, T = shape
    config = ModelConfig(hidden_size=H)
    plan = plan_layers(SYMBOLS, config, torch.device("cpu"), precision="auto", batch_size=B)
    network = CharacterModel(SYMBOLS, config, plan)
    computer = GradientComputer(network)
    x, y = torch.randint(SYMBOLS, (2, T, B)).unbind()
    found: list[list[float]] = [[] for _ in GROUPS]
    ends = time.monotonic() + seconds
    while time.monotonic() < ends or len(found[0]) < 3:
        for times, groups in zip(found, GROUPS, strict=True):  # in turns, so that a busy moment hits all of them
            began = time.process_time()
            computer.of_lanes(x, y, network.initial_state(B), B * T, Lanes(ALONE, groups), B, tuple)
            times.append(time.process_time() - began)
    return [statistics.median(times) for times in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    seconds = parser.parse_args().seconds
    keep_freed_memory()
    set_threads(1)
    print(describe_machine() + "\n")
    rows = [("LSTM, B x T", "one process, char/s", "two", "of a step, adding up", "four", "of a step, adding up")]
    for H, B, T in SHAPES:
        alone, two, step, sum_ = together(2, (H, B, T), seconds)
        _, four, step4, sum4 = together(4, (H, B, T), seconds)
        parts = [f"{1000 * step:.1f} ms, {1000 * sum_:.1f}", f"{1000 * step4:.1f} ms, {1000 * sum4:.1f}"]
        rows.append((f"{H}, {B} x {T}", f"{alone:,.0f}", f"{two:,.0f}", parts[0], f"{four:,.0f}", parts[1]))
    print_table(rows)
    print()
    table = [("LSTM, B x T", *(f"{groups} groups" for groups in GROUPS), "charlm takes")]
    for H, B, T in SHAPES:
        times = group_times((H, B, T), seconds)
        table.append((f"{H}, {B} x {T}", *(f"{each / times[0]:.2f}" for each in times), str(group_count(B))))
    print_table(table)


if __name__ == "__main__":
    main()
