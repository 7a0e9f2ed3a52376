"""Does a model prefer a real line to the same line damaged?

Takes held-out lines (the last tenth of a corpus), swaps two adjacent, differing characters in each, and counts how
often the model gives the real line the higher log-probability.

    python benchmarks/damaged_lines.py RUN CORPUS [--lines 1000] [--shortest 20]
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import charlm


def swapped(line: str, rng: random.Random) -> str:
    places = [i for i in range(len(line) - 1) if line[i] != line[i + 1]]
    i = rng.choice(places)
    return line[:i] + line[i + 1] + line[i] + line[i + 2 :]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--lines", type=int, default=1000)
    parser.add_argument("--shortest", type=int, default=20)
    options = parser.parse_args()
    text = options.corpus.read_text(encoding="utf-8")
    held_out = text[int(len(text) * 0.9) :].split("\n")[1:]
    lines = [line for line in held_out if len(line) >= options.shortest and len(set(line)) > 1]
    rng = random.Random(0)
    lines = rng.sample(lines, min(options.lines, len(lines)))
    damaged = [swapped(line, rng) for line in lines]
    lm = charlm.load(options.run)
    real, wrong = lm.score(lines), lm.score(damaged)
    right = sum(a.logprob > b.logprob for a, b in zip(real, wrong, strict=True))
    share = right / len(lines)
    error = 1.96 * (share * (1 - share) / len(lines)) ** 0.5
    print(f"{right} of {len(lines)} real lines beat the same with two characters swapped: "
          f"{share:.1%} ± {error:.1%}")  # fmt: skip


if __name__ == "__main__":
    main()
