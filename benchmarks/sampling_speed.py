"""How fast does charlm write, beside a straightforward loop over nn.LSTM?

Both write random text of 65 symbols, alternately in one process; the middle of the rounds counts. The rival is what
a good programmer writes with torch.nn: an embedding of width H, one step of `nn.LSTM` a symbol, softmax and
`multinomial`, in inference mode. charlm's characters come out of `write`, spelt out as a user gets them.

The rival runs twice: in a process of its own, as torch comes, and in charlm's process, where it has the gain of
charlm's allocator setting (which spares it the fresh memory that it asks for at every step).

    python benchmarks/sampling_speed.py [--rounds 5] [--seconds 0.4]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from measure import Elsewhere, alternately, here, machine, print_table
from torch import nn

from charlm.model.network import CharacterModel
from charlm.sampling import Draw, write
from charlm.system.allocator import keep_freed_memory
from charlm.text.vocabulary import Vocabulary

V = 65
# H, texts at once, how many times the rival's speed it should be
SHAPES = [(128, 1, 6.0), (256, 1, 15.0), (512, 1, 25.0), (128, 64, 2.0), (256, 64, 1.5), (512, 64, 3.0)]
STEPS = 20  # between two looks at the clock


def rival(hidden: int, texts: int, symbols: str) -> Callable[[], float]:
    embedding, lstm, output = nn.Embedding(V, hidden), nn.LSTM(hidden, hidden), nn.Linear(hidden, V)
    x, state = torch.zeros(1, texts, dtype=torch.int64), None
    written: list[list[str]] = []

    @torch.inference_mode()
    def act() -> float:
        nonlocal x, state
        for _ in range(STEPS):
            s, state = lstm(embedding(x), state)
            x = torch.multinomial(torch.softmax(output(s[0]) / 0.8, 1), 1).t()
            written.append([symbols[i] for i in x[0].tolist()])
        return STEPS * texts

    return act


def own(hidden: int, texts: int, vocabulary: Vocabulary) -> Callable[[], float]:
    model = CharacterModel(len(vocabulary), hidden_size=hidden)
    pieces = write(model, vocabulary, range(texts), length=10**9, draw=Draw(0.8))

    def act() -> float:
        for _ in range(STEPS):
            next(pieces)
        return STEPS * texts

    return act


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.4)
    options = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    print(machine() + "\n")
    symbols = "\n" + "".join(map(chr, range(32, 32 + V - 2)))
    vocabulary = Vocabulary.build(symbols)  # with the unknown one, V
    rows = [("LSTM, H, texts", "nn.LSTM char/s", "charlm char/s", "ratio", "target", "nn.LSTM here", "ratio")]
    for hidden, texts, target in SHAPES:
        shape = hidden, texts, symbols + "?"
        speeds = [Elsewhere(rival, *shape), here(own(hidden, texts, vocabulary)), here(rival(*shape))]
        theirs, mine, kept = alternately(speeds, options.rounds, options.seconds)
        numbers = (f"{theirs:,.0f}", f"{mine:,.0f}", f"{mine / theirs:.1f}", f"{target:.1f}")
        rows.append((f"{hidden}, {texts}", *numbers, f"{kept:,.0f}", f"{mine / kept:.1f}"))
    print_table(rows)


if __name__ == "__main__":
    main()
