"""How fast does charlm generate text, compared with a straightforward loop over nn.LSTM?

Measures characters per second, one text at a time and 64 at once, of an untrained one-layer LSTM over the
symbols of charlm's corpus `english`: mixed with 9-grams and word contexts of that corpus, as `charlm train
--corpus` makes it by default, and alone. charlm and its rival run alternately; the medians of the rounds and their
ratio are printed.
charlm's characters come out of `write` as text. The rival is what a good programmer writes with torch.nn: an
embedding of width H, one step of `nn.LSTM` per symbol, softmax and `multinomial`, in inference mode; it has no
n-grams.

The rival runs twice: in a process of its own (plain torch), and in charlm's process, where it benefits from
charlm's allocator setting, which spares it the fresh memory that it asks for at every step.

    python benchmarks/sampling_speed.py [--rounds 5] [--seconds 0.4]
"""

from __future__ import annotations

import argparse
import itertools

import torch
from torch import nn

from charlm.config import SamplingConfig
from charlm.experts.mixture import Mixture
from charlm.sampling import write
from charlm.text.vocabulary import Vocabulary
from measure import (
    InCleanProcess,
    Workload,
    alternating_medians,
    default_model,
    describe_machine,
    in_this_process,
    print_table,
)

# H, texts at once, and how many times the rival's speed charlm's network alone must reach
SHAPES = [(128, 1, 6.0), (256, 1, 15.0), (512, 1, 25.0), (128, 64, 2.0), (256, 64, 1.5), (512, 64, 3.0)]
STEPS_PER_CALL = 20  # between two looks at the clock
RULE = SamplingConfig(temperature=0.8, length=1_000_000)


def torch_writer(hidden: int, texts: int, symbols: str) -> Workload:
    V = len(symbols)
    embedding, lstm, output = nn.Embedding(V, hidden), nn.LSTM(hidden, hidden), nn.Linear(hidden, V)
    x, state = torch.zeros(1, texts, dtype=torch.int64), None
    written: list[list[str]] = []

    @torch.inference_mode()
    def act() -> float:
        nonlocal x, state
        for _ in range(STEPS_PER_CALL):
            s, state = lstm(embedding(x), state)
            x = torch.multinomial(torch.softmax(output(s[0]) / RULE.temperature, 1), 1).t()
            written.append([symbols[i] for i in x[0].tolist()])
        return STEPS_PER_CALL * texts

    return act


def charlm_writer(mixture: Mixture, texts: int, vocabulary: Vocabulary) -> Workload:
    endless = (write(mixture, vocabulary, range(texts), RULE, seed=seed) for seed in itertools.count())
    pieces = itertools.chain.from_iterable(endless)

    def act() -> float:
        for _ in range(STEPS_PER_CALL):
            next(pieces)
        return STEPS_PER_CALL * texts

    return act


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.4)
    options = parser.parse_args()
    torch.manual_seed(0)
    print(describe_machine() + "\n")
    models = {hidden: default_model(hidden) for hidden, _, _ in SHAPES}
    rows = [
        ("LSTM H, texts at once", "nn.LSTM char/s", "charlm char/s", "ratio", "target",
         "nn.LSTM, charlm's allocator, char/s", "ratio"),
    ]  # fmt: skip
    for hidden, texts, target in SHAPES:
        mixture, vocabulary = models[hidden].mixture, models[hidden].vocabulary
        shape = hidden, texts, "?" + "".join(vocabulary.characters)  # the first is the unknown symbol
        meters = [
            InCleanProcess(torch_writer, *shape),
            in_this_process(charlm_writer(mixture, texts, vocabulary)),
            in_this_process(charlm_writer(Mixture(mixture.network), texts, vocabulary)),
            in_this_process(torch_writer(*shape)),
        ]
        plain, mixed, alone, plain_here = alternating_medians(meters, options.rounds, options.seconds)
        for name, ours, least in (("as by default", mixed, ""), ("alone", alone, f"{target:.1f}")):
            numbers = (f"{plain:,.0f}", f"{ours:,.0f}", f"{ours / plain:.1f}", least)
            here = (f"{plain_here:,.0f}", f"{ours / plain_here:.1f}")
            rows.append((f"{hidden} {name}, {texts}", *numbers, *here))
    print_table(rows)


if __name__ == "__main__":
    main()
