"""What tests of the page share: a corpus with something of everything, a run of it, and what is gathered of the run."""

import random
from pathlib import Path
from typing import Any

import charlm

WORDS = (
    "river boat lamp bread heron miller bridge water stone light winter market window garden thread silver "
    "morning quiet letter harbour copper candle meadow orchard"
).split()


def make_text(lines: int, seed: int = 0, words: int = 24) -> str:
    """Returns lines of words with names, quotes and brackets; no long run of one line stands in another."""
    rng = random.Random(seed)
    result = []
    for _ in range(lines):
        some = [rng.choice(WORDS[:words]) for _ in range(rng.randint(4, 9))]
        some[rng.randrange(len(some))] = rng.choice(("Anna", "Tobias", "Mira", "“not now”", "(again)"))
        result.append(f"{' '.join(some)}{rng.choice('.!?;')}")
    return "\n".join(result) + "\n"


def train(corpus: Path, out: Path, *, framing: str = "stream", steps: int = 30, **model: Any) -> Path:
    """Trains a small run, with evaluations."""
    config = {
        "corpus": {"path": str(corpus), "framing": framing},
        "model": {"hidden_size": 12, "cell": "lstm", **model},
        "training": {
            "budget": f"{steps} steps",
            "evaluate_every": "10 steps",
            "batch_size": 8,
            "sequence_length": 32,
            "learning_rate": 0.02,
            "device": "cpu",
        },
        "sampling": {"length": 60},
    }
    charlm.train(config, out=out)
    return out
