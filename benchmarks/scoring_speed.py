"""How fast does charlm score sentences, compared with nn.LSTM one sentence at a time, and does its memory grow?

Measures characters per second of an untrained one-layer LSTM over the symbols of charlm's corpus `english`:
mixed with 9-grams and word contexts of nine tenths of that corpus, as `charlm train --corpus` makes it by default,
and alone.
10,000 pieces of 20 to 60 characters of the last tenth go through the function behind `charlm score --file`,
every number of a score included. The rival is what a good programmer writes first: an embedding of width 32,
the fused `nn.LSTM` and log-softmax, one sentence at a time, in inference mode, without n-grams. charlm and its
rival run alternately; the medians of the rounds and their ratio are printed. The rival runs twice: in a process
of its own (plain torch), and in charlm's process, where it benefits from charlm's allocator setting.

The share of the peak compares the useful multiplications of the network with the machine's matrix-multiply
speed. Finally a million pieces of 5 characters are scored by a small mixture, and the memory that this takes
beyond the first 10,000 is printed.

    python benchmarks/scoring_speed.py [--hidden 512] [--lines 1000000] [--rounds 3] [--seconds 2]
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import random
import resource
import time
from collections.abc import Iterator

import torch
from torch import nn

from charlm import LanguageModel
from charlm.experts.mixture import Mixture
from measure import (
    InCleanProcess,
    Workload,
    alternating_medians,
    default_model,
    describe_machine,
    in_this_process,
    matmul_peak_gflops,
    print_table,
)

RATIO_TARGET = 4.0  # of the network alone
PEAK_SHARE_TARGET = 0.65


def random_pieces(text: str, count: int, shortest: int, longest: int) -> Iterator[str]:
    """Pieces of a text from random places, without newlines."""
    rng = random.Random(0)
    text = text.replace("\n", " ")
    for _ in range(count):
        start = rng.randrange(len(text) - longest)
        yield text[start : start + rng.randint(shortest, longest)]


def torch_scorer(hidden: int, lines: list[str], characters: str) -> Workload:
    V = len(characters)
    embedding, lstm, output = nn.Embedding(V, 32), nn.LSTM(32, hidden), nn.Linear(hidden, V)
    ids = {symbol: i for i, symbol in enumerate(characters)}
    endless = itertools.cycle(lines)

    @torch.inference_mode()
    def act() -> float:
        text = [0, *(ids[c] for c in next(endless)), 0]
        x = torch.tensor(text)
        s, _ = lstm(embedding(x[:-1]))
        torch.log_softmax(output(s), 1).gather(1, x[1:, None]).sum().item()
        return len(text) - 1

    return act


def charlm_scorer(lm: LanguageModel, lines: list[str]) -> Workload:
    def act() -> float:
        return sum(len(score.chars) for score in lm.score_stream(lines))

    return act


def without_ngrams(lm: LanguageModel) -> LanguageModel:
    """The network of a model alone."""
    return LanguageModel(dataclasses.replace(lm.trained, mixture=Mixture(lm.mixture.network)))


def peak_memory_kib() -> int:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    torch.manual_seed(0)
    peak = matmul_peak_gflops()
    print(f"{describe_machine()}, matrix-multiply peak {peak:.0f} GFLOP/s in float32\n")
    lm, H = default_model(options.hidden), options.hidden
    characters = "".join(lm.vocabulary.characters)
    held_out = lm.vocabulary.decode(lm.corpus().validation.ids)
    lines = list(random_pieces(held_out, 10_000, 20, 60))
    meters = [
        InCleanProcess(torch_scorer, H, lines, characters),
        in_this_process(charlm_scorer(lm, lines)),
        in_this_process(charlm_scorer(without_ngrams(lm), lines)),
        in_this_process(torch_scorer(H, lines, characters)),
    ]
    plain, mixed, alone, plain_here = alternating_medians(meters, options.rounds, options.seconds)
    peak_share = alone * 2 * (4 * H * H + len(lm.vocabulary) * H) / 1e9 / peak
    rows = [
        ("LSTM H", "nn.LSTM, one at a time, char/s", "charlm char/s", "ratio", "target", "of peak", "target",
         "nn.LSTM, charlm's allocator, char/s", "ratio"),
    ]  # fmt: skip
    for name, ours, *bounds in (
        ("as by default", mixed, "", "", ""),
        ("alone", alone, f"{RATIO_TARGET:.1f}", f"{peak_share:.0%}", f"{PEAK_SHARE_TARGET:.0%}"),
    ):
        numbers = (f"{plain:,.0f}", f"{ours:,.0f}", f"{ours / plain:.1f}")
        rows.append((f"{H} {name}", *numbers, *bounds, f"{plain_here:,.0f}", f"{ours / plain_here:.1f}"))
    print_table(rows)

    small = default_model(16)
    start, early_kib = time.perf_counter(), 0
    for number, _ in enumerate(small.score_stream(random_pieces(held_out, options.lines, 5, 5)), 1):
        if number == 10_000:
            early_kib = peak_memory_kib()
    more_mib = (peak_memory_kib() - early_kib) / 1024
    print(
        f"\n{options.lines:,} lines of 5 characters (LSTM 16, as by default): {time.perf_counter() - start:.0f} s, "
        f"{more_mib:.0f} MiB more than for 10,000"
    )


if __name__ == "__main__":
    main()
