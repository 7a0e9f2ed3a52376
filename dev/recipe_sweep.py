"""The runs to which the recipe of `charlm train --corpus TEXT --budget TIME` was fitted.

Each run trains on a text for a number of seconds with what the recipe chooses, except for the settings given; it is
to be read beside the run of the same text and time without any. Measured is the loss on the validation split.
Runs that are already in the results file are skipped, so that a sweep can be stopped and continued, and runs
can be added.

    python dev/recipe_sweep.py FOLDER [--only shakespeare] [--seconds 30] [--results dev/results/recipe_sweep.jsonl]

FOLDER holds tiny_shakespeare.txt, names.txt and tang_couplets.txt; `chinese` is one of charlm's own corpora. Of
the names 1,000 random lines are held out, of the other texts the last tenth.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command-line program sets it
sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import charlm
from charlm.text.library import find
from charlm.training.reports import load_metrics
from measure import shuffle_lines

TEXTS = {  # file or name of a corpus, framing, lines held out at random (None: the last tenth)
    "shakespeare": ("tiny_shakespeare.txt", "stream", None),
    "names": ("names.txt", "lines", 1000),
    "tang": ("tang_couplets.txt", "lines", None),
    "chinese": ("chinese", "lines", None),
}
H, LR, DROPOUT, BATCH = "model.hidden_size", "training.learning_rate", "model.dropout", "training.batch_size"
CELL, NGRAM, RANK, WEIGHTS = "model.cell", "model.ngram", "model.output_rank", "model.recurrent_dropout"
# text, seconds, settings given
RUNS: list[tuple[str, float, dict[str, Any]]] = [
    ("shakespeare", 100, {}),
    ("shakespeare", 100, {CELL: "gru"}),
    ("shakespeare", 100, {H: 384}),
    ("shakespeare", 100, {LR: 1.1e-2}),
    ("tang", 100, {}),
    ("tang", 100, {RANK: None}),
    ("tang", 100, {RANK: 64}),
    ("tang", 100, {NGRAM: None}),
    ("names", 30, {}),
    ("names", 30, {CELL: "gru"}),
    ("names", 30, {LR: 4.9e-3}),
    ("names", 30, {BATCH: 64}),
    ("shakespeare", 30, {}),
    ("shakespeare", 30, {CELL: "gru"}),
    ("shakespeare", 30, {LR: 1.5e-2}),
    ("shakespeare", 30, {BATCH: 8}),
    ("shakespeare", 100, {BATCH: 8}),
    ("shakespeare", 100, {DROPOUT: 0.2}),
    ("chinese", 30, {}),
    ("chinese", 30, {RANK: None}),
    ("names", 30, {WEIGHTS: 0.1}),
    ("names", 30, {WEIGHTS: 0.2}),
    ("names", 100, {WEIGHTS: 0.2}),
    ("names", 100, {WEIGHTS: 0.4}),
    ("chinese", 30, {WEIGHTS: 0.2}),
    ("chinese", 30, {WEIGHTS: 0.4}),
    ("shakespeare", 100, {WEIGHTS: 0.1}),
    ("names", 100, {WEIGHTS: 0.4, H: 384}),
    ("names", 100, {WEIGHTS: 0.3, DROPOUT: 0.2}),
    ("tang", 100, {WEIGHTS: 0.1}),
    ("tang", 100, {WEIGHTS: 0.2}),
    ("chinese", 30, {WEIGHTS: 0.2, DROPOUT: 0.2}),
    ("chinese", 30, {WEIGHTS: 0.3, H: 128}),
    ("names", 30, {WEIGHTS: 0.1, DROPOUT: 0.1}),
    ("names", 100, {WEIGHTS: 0.4, H: 384, DROPOUT: 0.2}),
    ("names", 100, {WEIGHTS: 0.4, DROPOUT: 0.1}),
    ("shakespeare", 300, {WEIGHTS: 0.3, DROPOUT: 0.1}),
    ("shakespeare", 290, {WEIGHTS: 0.2, DROPOUT: 0.1}),
    ("names", 100, {WEIGHTS: 0.3, H: 320, DROPOUT: 0.2}),
    ("names", 100, {WEIGHTS: 0.3, H: 384, DROPOUT: 0.2}),
    ("shakespeare", 280, {WEIGHTS: 0.1, DROPOUT: 0.1}),
    ("shakespeare", 280, {WEIGHTS: 0.2, DROPOUT: 0.0}),
]


def held_out(folder: Path, text: str, scratch: Path) -> tuple[Path, dict[str, Any]]:
    """Returns the path of a text, its validation split at its end, and the settings that belong to it."""
    name, framing, lines = TEXTS[text]
    path, share = find(name) or folder / name, 0.1
    if lines is not None:
        path, share = scratch / name, shuffle_lines(path, lines, scratch / name)
    return path, {"corpus.framing": framing, "corpus.validation": share}


def run(folder: Path, text: str, seconds: float, settings: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        path, fixed = held_out(folder, text, Path(scratch))
        out = Path(scratch) / "run"
        lm = charlm.train(None, corpus=path, budget=f"{seconds:g}s", out=out, overrides={**fixed, **settings})
        metrics = load_metrics(out)
    best = min(metrics, key=lambda row: row["validation_loss"])
    model, training = lm.config.model, lm.config.training
    return {
        "text": text,
        "seconds": seconds,
        "set": settings,
        "nats": round(best["validation_loss"], 4),
        "last": round(metrics[-1]["validation_loss"], 4),
        "train": round(metrics[-1]["train_loss"], 4),
        "passes": round(metrics[-1]["epoch"], 2),
        "ended": metrics[-1]["seconds"],
        "cell": model.cell,
        "hidden": model.hidden_size,
        "dropout": model.dropout,
        "recurrent_dropout": model.recurrent_dropout,
        "learning_rate": training.learning_rate,
        "batch": f"{training.batch_size} x {training.sequence_length}",
        "characters_per_second": round(metrics[-1]["characters_per_second"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the folder with the texts")
    parser.add_argument("--only", default="", help="run only on texts whose name contains this")
    parser.add_argument("--seconds", type=float, help="run only runs of this many seconds")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "recipe_sweep.jsonl")
    options = parser.parse_args()
    options.results.parent.mkdir(exist_ok=True)
    rows = (
        [json.loads(line) for line in options.results.read_text().splitlines()] if options.results.exists() else []
    )
    done = [(row["text"], row["seconds"], row["set"]) for row in rows]
    for text, seconds, settings in RUNS:
        chosen = options.only in text and options.seconds in (None, seconds)
        if chosen and (text, seconds, settings) not in done:
            row = json.dumps(run(options.folder, text, seconds, settings))
            print(row, flush=True)
            with options.results.open("a") as file:
                file.write(row + "\n")


if __name__ == "__main__":
    main()
