"""How fast does charlm score, beside one sentence at a time through nn.LSTM, and does memory stay where it is?

A file of 10,000 lines of 20 to 60 random characters goes through the function behind `charlm score --file`, every
number of a score included; the rival is what a good programmer writes first: an embedding of 32, the fused
`nn.LSTM`, log-softmax, one sentence at a time, in inference mode: in a process of its own, as torch comes, and once
("here") in charlm's, where it has the gain of charlm's allocator setting. The share of the peak is of useful
multiplications, by the machine's matrix-multiply speed. Then a million lines of 5 characters are scored, and the
memory that this took beyond the first ten thousand is printed.

    python benchmarks/scoring_speed.py [--hidden 512] [--lines 1000000]
"""

from __future__ import annotations

import argparse
import itertools
import random
import resource
import time
from collections.abc import Iterator

import torch
from measure import Act, Elsewhere, alternately, here, machine, peak, print_table
from torch import nn

from charlm.model.network import CharacterModel
from charlm.scoring.log_probs import score_sentences
from charlm.system.allocator import keep_freed_memory
from charlm.text.vocabulary import Vocabulary

V = 65
SYMBOLS = "\n" + "".join(map(chr, range(32, 32 + V - 2)))


def sentences(count: int, shortest: int, longest: int) -> Iterator[str]:
    rng = random.Random(0)
    for _ in range(count):
        yield "".join(rng.choices(SYMBOLS[1:], k=rng.randint(shortest, longest)))


def rival(hidden: int, lines: list[str]) -> Act:
    embedding, lstm, output = nn.Embedding(V, 32), nn.LSTM(32, hidden), nn.Linear(hidden, V)
    ids = {symbol: i for i, symbol in enumerate(SYMBOLS)}
    endless = itertools.cycle(lines)

    @torch.inference_mode()
    def act() -> float:
        text = [0, *(ids[c] for c in next(endless)), 0]
        x = torch.tensor(text)
        s, _ = lstm(embedding(x[:-1]))
        torch.log_softmax(output(s), 1).gather(1, x[1:, None]).sum().item()
        return len(text) - 1

    return act


def own(hidden: int, lines: list[str], vocabulary: Vocabulary) -> Act:
    model = CharacterModel(len(vocabulary), hidden_size=hidden)

    def act() -> float:
        return sum(len(score.chars) for score in score_sentences(model, vocabulary, lines))

    return act


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    top = peak()
    print(f"{machine()}, matrix-multiply peak {top:.0f} GFLOP/s in float32\n")
    vocabulary = Vocabulary.build(SYMBOLS)
    lines, H = list(sentences(10_000, 20, 60)), options.hidden
    entrants = [Elsewhere(rival, H, lines), here(own(H, lines, vocabulary)), here(rival(H, lines))]
    theirs, mine, kept = alternately(entrants, options.rounds, 2.0)
    share = mine * 2 * (4 * H * H + V * H) / 1e9 / top
    print_table(
        [
            (
                "LSTM, H",
                "one at a time char/s",
                "charlm char/s",
                "ratio",
                "target",
                "of peak",
                "target",
                "one at a time here",
                "ratio",
            ),
            (
                f"{H}",
                f"{theirs:,.0f}",
                f"{mine:,.0f}",
                f"{mine / theirs:.1f}",
                "4.0",
                f"{share:.0%}",
                "65%",
                f"{kept:,.0f}",
                f"{mine / kept:.1f}",
            ),
        ]
    )
    small = CharacterModel(len(vocabulary), hidden_size=16)
    start, before = time.perf_counter(), 0
    for number, _ in enumerate(score_sentences(small, vocabulary, sentences(options.lines, 5, 5)), 1):
        if number == 10_000:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    seconds = time.perf_counter() - start
    print(
        f"\n{options.lines:,} lines of 5 characters (LSTM 16): {seconds:.0f} s, {more:.0f} MiB more than for 10,000"
    )


if __name__ == "__main__":
    main()
