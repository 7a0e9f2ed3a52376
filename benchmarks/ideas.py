"""What lowers the loss after the same number of characters, the network alone?

Each idea changes one thing of the same training: LSTM, one layer, no n-grams, what `charlm train` does otherwise.
Ideas that charlm does not have are put in its place here, so that each row can be repeated. A row is one run, and
"another seed" says what chance does. What an idea costs in time is not in the rows.

    python benchmarks/ideas.py FOLDER [--text shakespeare] [--only "locked dropout"] [--results FILE]

FOLDER as for recipe_sweep.py; what is in the file of results already is not run again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from recipe_sweep import TEXTS, held_out
from torch import Tensor
from torch.nn import functional as F

import charlm
from charlm import builder
from charlm.language_model import load_metrics
from charlm.model.network import CharacterModel, ModelState, Recurrent
from charlm.scoring.evaluation import evaluate
from charlm.text.batches import Window
from charlm.text.corpus import Corpus
from charlm.training.trainer import Trainer

# characters, hidden units, further settings
SCALES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "shakespeare": ("1.5M", 320, {"training.batch_size": 16}),
    "names": ("1.5M", 256, {"training.batch_size": 128}),
    "tang": ("0.4M", 192, {"training.batch_size": 64, "model.embedding_size": 64}),
}
Change = Callable[[], AbstractContextManager[Any]]


def common(text: str) -> dict[str, Any]:
    characters, hidden, more = SCALES[text]
    return {
        "model.hidden_size": hidden,
        "model.dropout": 0.1,
        "training.budget": f"{characters} characters",
        "training.evaluate_every": "100%",
        "training.sequence_length": 64,
        "training.learning_rate": float(f"{8e-3 * math.sqrt(384 / hidden):.2g}"),
        "sampling.length": 1,
        **more,
    }


# ------------------------------------------------------------------------------- what charlm does not have


def locked(self: Recurrent, s: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Drops the same units at every step of a window (Gal and Ghahramani 2016)."""
    if not self.training or self.dropout == 0:
        return s
    keep = 1 - self.dropout
    return s * s.new_empty(1, *s.shape[1:]).bernoulli_(keep, generator=generator).div_(keep)


def dropping_symbols(share: float) -> Change:
    """Drops whole symbols of the input for a window (Gal and Ghahramani 2016)."""

    def run_layer(cell: Any, inputs: Tensor, state: Any, weight_ih: Tensor, *rest: Any, **named: Any) -> Any:
        if torch.is_grad_enabled():
            weight_ih = weight_ih * F.dropout(torch.ones(weight_ih.shape[1]), share)
        return charlm.cells.run_layer(cell, inputs, state, weight_ih, *rest, **named)

    return partial(patch, "charlm.model.network.run_layer", run_layer)


def each_step(change: Callable[[Trainer], None], before: Callable[[Trainer], None] = lambda _: None) -> Change:
    """Does something before and after each step of a training."""
    step = Trainer._train_step

    def train_step(self: Trainer, window: Window) -> None:
        before(self)
        step(self, window)
        change(self)

    return partial(patch.object, Trainer, "_train_step", train_step)


@contextlib.contextmanager
def averaged(share: float) -> Iterator[None]:
    """At the end the weights are their mean over the last share of the training."""
    sums: list[Tensor] = []
    count = 0

    def add(trainer: Trainer) -> None:
        nonlocal count
        if trainer.fraction < 1 - share:
            return
        values = [p.detach() for p in trainer.model.parameters()]
        if not sums:
            sums.extend(torch.zeros_like(value) for value in values)
        torch._foreach_add_(sums, values)
        count += 1
        if trainer.fraction >= 1:
            for value, total in zip(values, sums, strict=True):
                value.copy_(total / count)

    with each_step(add)():
        yield


def drop_state(trainer: Trainer) -> None:
    """Forgets the state of each row with probability 0.05."""
    if trainer._state is not None:
        kept = torch.rand(trainer._state[0][0].shape[0], 1) > 0.05
        trainer._state = [tuple(part * kept for part in layer) for layer in trainer._state]


def growing_windows() -> AbstractContextManager[Any]:
    """Over the first third of the training windows are halved."""
    windows = Trainer._windows

    def halved(self: Trainer) -> Iterator[Window]:
        for x, y, carry in windows(self):
            if self.fraction < 1 / 3 and x.shape[1] >= 2:
                half = x.shape[1] // 2
                yield Window(x[:, :half], y[:, :half], carry)
                self.progress.window -= 1
                yield Window(x[:, half:], y[:, half:], True)
            else:
                yield Window(x, y, carry)

    return patch.object(Trainer, "_windows", halved)


def growing_batches() -> AbstractContextManager[Any]:
    """Over the first third each window is two steps, of half the rows each."""
    step = Trainer._train_step

    def train_step(self: Trainer, window: Window) -> None:
        half = len(window.inputs) // 2
        if self.fraction > 1 / 3 or half == 0:
            step(self, window)
            return
        whole = self._state if window.carry else None
        parts = []
        for rows in (slice(half), slice(half, None)):
            self._state = whole and [tuple(part[rows] for part in layer) for layer in whole]
            step(self, Window(window.inputs[rows], window.targets[rows], window.carry and whole is not None))
            parts.append(self._state or [])
        self.progress.window -= 1
        self._state = [tuple(map(torch.cat, zip(*layers, strict=True))) for layers in zip(*parts, strict=True)]

    return patch.object(Trainer, "_train_step", train_step)


def changed_model(change: Callable[[CharacterModel, Corpus], None]) -> Change:
    """Changes the fresh weights, knowing the corpus."""
    build = builder.build_trainer

    def build_trainer(config: Any, corpus: Corpus, model: CharacterModel, *args: Any, **named: Any) -> Trainer:
        with torch.no_grad():
            change(model, corpus)
        return build(config, corpus, model, *args, **named)

    return partial(patch, "charlm.run.build_trainer", build_trainer)


def no_frequencies(model: CharacterModel, corpus: Corpus) -> None:
    """The output's bias begins at zero, not as the log of each symbol's frequency."""
    model.output.bias.zero_()


def skipping() -> AbstractContextManager[Any]:
    """The output reads the sum of all layers, not the last one alone."""
    forward = Recurrent.forward

    def summed(self: Recurrent, inputs: Tensor, state: ModelState, generator: Any = None) -> Any:
        tops: list[Tensor] = []

        def run_layer(*args: Any, **named: Any) -> Any:
            s, last = charlm.cells.run_layer(*args, **named)
            tops.append(s)
            return s, last

        with patch("charlm.model.network.run_layer", run_layer):
            _, last = forward(self, inputs, state, generator)
        return sum(tops), last

    return patch.object(Recurrent, "forward", summed)


@contextlib.contextmanager
def bigrams() -> Iterator[None]:
    """Adds a learnt table to the logits, looked up by the last symbol: features are joined by a one-hot vector."""
    init, features = CharacterModel.__init__, CharacterModel.features

    def start(self: CharacterModel, vocabulary_size: int, **named: Any) -> None:
        init(self, vocabulary_size, **named)
        wide = torch.nn.Linear(self.recurrent.hidden_size + vocabulary_size, vocabulary_size)
        with torch.no_grad():
            wide.weight.zero_()[:, : self.recurrent.hidden_size] = self.output.weight
            wide.bias.zero_()
        self.output = wide

    def joined(self: CharacterModel, ids: Tensor, state: ModelState, generator: Any = None) -> Any:
        s, last = features(self, ids, state, generator)
        return torch.cat([s, F.one_hot(ids.long(), self.output.out_features).to(s)], 2), last

    with (
        patch.object(CharacterModel, "__init__", start),
        patch.object(CharacterModel, "features", joined),
        patch.object(CharacterModel, "logits", lambda self, s: self.output(s)),
    ):
        yield


def orthogonal(matrix: Tensor) -> Tensor:
    """Brings the singular values of a matrix near 1, by the five Newton-Schulz steps of Jordan et al. 2024."""
    x = matrix / (matrix.norm() + 1e-7)
    for _ in range(5):
        product = x @ x.t()
        x = 3.4445 * x + (-4.7750 * product + 2.0315 * product @ product) @ x
    return x


def muon(rate: float) -> Change:
    """The recurrent matrices move by their orthogonalised momentum, gate by gate; the rest by AdamW."""
    moments: dict[int, Tensor] = {}

    def move(trainer: Trainer) -> None:
        H = trainer.model.recurrent.hidden_size
        group = trainer._optimizer.param_groups[0]
        factor = group["lr"] / trainer._peaks[0]
        for name, weight in trainer.model.named_parameters():
            if "weight_hh" in name and id(weight) in held:
                weight.data.copy_(held.pop(id(weight)))  # AdamW's step is undone
                momentum = moments.setdefault(id(weight), torch.zeros_like(weight))
                assert weight.grad is not None
                momentum.mul_(0.95).add_(weight.grad)
                step = weight.grad.add(momentum, alpha=0.95)
                update = torch.cat([orthogonal(gate) for gate in step.split(H)])
                weight.data.add_(update, alpha=-rate * factor)

    held: dict[int, Tensor] = {}

    def hold(trainer: Trainer) -> None:
        for name, weight in trainer.model.named_parameters():
            if "weight_hh" in name:
                held[id(weight)] = weight.detach().clone()

    return each_step(move, hold)


# --------------------------------------------------------------------------------------------- the ideas

NOTHING: Change = contextlib.nullcontext
LR, DROPOUT, WEIGHTS = "training.learning_rate", "model.dropout", "model.recurrent_dropout"


def ideas(text: str) -> dict[str, tuple[dict[str, Any], Change]]:
    rate, hidden = common(text)[LR], SCALES[text][1]
    two = {"model.num_layers": 2, "model.hidden_size": 16 * round(hidden / math.sqrt(3) / 16)}
    lock = partial(patch.object, Recurrent, "drop", locked)
    found: dict[str, tuple[dict[str, Any], Change]] = {
        "nothing": ({}, NOTHING),
        "another seed": ({"training.seed": 2}, NOTHING),
        "no dropout": ({DROPOUT: 0.0}, NOTHING),
        "dropout 0.2": ({DROPOUT: 0.2}, NOTHING),
        "locked dropout 0.1": ({}, lock),
        "locked dropout 0.2": ({DROPOUT: 0.2}, lock),
        "recurrent weights dropped, 0.1": ({DROPOUT: 0.0, WEIGHTS: 0.1}, NOTHING),
        "recurrent weights dropped, 0.2": ({DROPOUT: 0.0, WEIGHTS: 0.2}, NOTHING),
        "input dropped, 0.05": ({DROPOUT: 0.0}, dropping_symbols(0.05)),
        "mean of the last 10%": ({}, lambda: averaged(0.1)),
        "mean of the last 20%": ({}, lambda: averaged(0.2)),
        "half the learning rate": ({LR: rate / 2}, NOTHING),
        "1.5 times the learning rate": ({LR: rate * 1.5}, NOTHING),
        "beta2 0.95": ({"training.beta2": 0.95}, NOTHING),
        "beta2 0.999": ({"training.beta2": 0.999}, NOTHING),
        "no weight decay": ({"training.weight_decay": 0.0}, NOTHING),
        "weight decay 0.1": ({"training.weight_decay": 0.1}, NOTHING),
        "cosine": ({"training.schedule": "cosine"}, NOTHING),
        "windows of 32 for the first third": ({}, growing_windows),
        "half the batch for the first third": ({}, growing_batches),
        "output bias from zero": ({}, changed_model(no_frequencies)),
        "two layers of as many weights": (two, NOTHING),
        "the same, both read by the output": (two, skipping),
        "muon, 0.01": ({}, muon(0.01)),
        "muon, 0.03": ({}, muon(0.03)),
    }
    if TEXTS[text][1] == "stream":
        found["state dropped, 0.05"] = ({}, each_step(drop_state))
    if text != "tang":  # a table of 36 million numbers
        found["bigram table"] = ({}, bigrams)
    return found


def tuned_temperature(lm: charlm.LanguageModel, corpus: Corpus) -> tuple[float, float]:
    """Returns the least validation loss over some softmax temperatures, and at which it is."""
    output, found = lm.model.output, []
    weight, bias = output.weight.detach().clone(), output.bias.detach().clone()
    for t in (0.9, 0.95, 1.0, 1.05, 1.1):
        with torch.no_grad():
            output.weight.copy_(weight / t)
            output.bias.copy_(bias / t)
        found.append((evaluate(lm.model, lm.vocabulary, corpus.validation).nats_per_character, t))
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--text", choices=list(SCALES))
    parser.add_argument("--only", default="")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "ideas.jsonl")
    options = parser.parse_args()
    lines = options.results.read_text().splitlines() if options.results.exists() else []
    done = {(row["text"], row["idea"]) for row in map(json.loads, lines)}
    for text in [options.text] if options.text else SCALES:
        for idea, (settings, change) in ideas(text).items():
            if options.only in idea and (text, idea) not in done:
                with tempfile.TemporaryDirectory() as scratch, change():
                    path, fixed = held_out(options.folder, text, Path(scratch))
                    out = Path(scratch) / "run"
                    every = {**fixed, **common(text), **settings}
                    lm = charlm.train({"corpus": {"path": str(path)}}, out=out, overrides=every)
                    last = load_metrics(out)[-1]
                    rows = [
                        {"text": text, "idea": idea, "nats": last["validation_loss"], "train": last["train_loss"]}
                    ]
                    if idea == "nothing":
                        nats, t = tuned_temperature(lm, builder.build_corpus(lm.config))
                        rows.append({"text": text, "idea": "softmax temperature tuned", "nats": nats, "at": t})
                with options.results.open("a") as file:
                    for row in rows:
                        line = json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()})
                        print(line, flush=True)
                        file.write(line + "\n")


if __name__ == "__main__":
    main()
