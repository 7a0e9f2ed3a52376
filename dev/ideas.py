"""Which single change lowers the loss of a network after the same number of training characters?

Each idea changes one thing about the same training, an LSTM of one layer, no n-grams, and otherwise what
`charlm train` does; it is measured beside the training that changes nothing. An idea that charlm does not offer
is a network or a step of its own, made of charlm's. A result is one run, and "another seed" shows the effect of
chance. What an idea costs in time is not measured.

    python dev/ideas.py FOLDER [--text shakespeare] [--only "locked dropout"] [--results FILE]

FOLDER is the same as for recipe_sweep.py. Runs that are already in the results file are skipped.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recipe_sweep import TEXTS, held_out
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.cells import run_layer
from charlm.config import Config, TrainingConfig, load_config, parse_amount
from charlm.experts.mixture import Mixture
from charlm.experts.torch_network import TorchNetworkExpert
from charlm.model.network import CharacterModel, NetworkState, drop, plan_layers
from charlm.model.transfer import initialize_output_bias
from charlm.scoring.evaluation import evaluate
from charlm.text.batches import Window
from charlm.text.corpus import Corpus, load_corpus
from charlm.training.optimization import make_optimizer
from charlm.training.step import StepResult, TrainingStep, endless_windows, make_batches

CPU = torch.device("cpu")
# characters to train on, hidden size, further settings
SCALES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "shakespeare": ("1.5M", 320, {"training.batch_size": 16}),
    "names": ("1.5M", 256, {"training.batch_size": 128}),
    "tang": ("0.4M", 192, {"training.batch_size": 64, "model.embedding_size": 64}),
}


def common(text: str) -> dict[str, Any]:
    characters, hidden, more = SCALES[text]
    return {
        "model.hidden_size": hidden,
        "model.dropout": 0.1,
        "training.budget": f"{characters} characters",
        "training.sequence_length": 64,
        "training.learning_rate": float(f"{8e-3 * math.sqrt(384 / hidden):.2g}"),
        **more,
    }


# -------------------------------------------------------------------------------------- networks of their own


class OpenNetwork(CharacterModel):
    """charlm's network, without dropout of recurrent weights: subclasses change the methods below `features`."""

    def features(
        self, ids: Tensor, state: NetworkState, training: torch.Generator | None = None
    ) -> tuple[Tensor, NetworkState]:
        r, s = self.recurrent, ids if self.embedding is None else self.embedding(ids)
        outputs, last = [], []
        for layer, before in enumerate(state):
            s = drop(s, self.config.dropout, training) if layer else s
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            weights = [r.parameter(name, layer) for name in names]
            weights[0] = self.input_weights(weights[0], training) if layer == 0 else weights[0]
            kernel = r.plan.kernel(layer, len(ids), torch.float32, training=training is not None)
            dtype = r.plan.dtype if training is not None else None
            s, after = run_layer(r.cell, s, before, *weights, kernel=kernel, dtype=dtype)
            outputs.append(s)
            last.append(after)
        return self.read(ids, outputs, training), last

    def input_weights(self, weight: Tensor, training: torch.Generator | None) -> Tensor:
        """Returns U of the first layer."""
        return weight

    def read(self, ids: Tensor, outputs: list[Tensor], training: torch.Generator | None) -> Tensor:
        """Returns what the softmax reads of the layers' outputs, (T, B, H) each."""
        return drop(outputs[-1], self.config.dropout, training)


class LockedDropout(OpenNetwork):
    """Drops the same units at every step of a window (Gal and Ghahramani 2016)."""

    def read(self, ids: Tensor, outputs: list[Tensor], training: torch.Generator | None) -> Tensor:
        return drop(torch.ones_like(outputs[-1][:1]), self.config.dropout, training) * outputs[-1]


class InputDropout(OpenNetwork):
    """Drops symbols from the input for a whole window (Gal and Ghahramani 2016)."""

    def input_weights(self, weight: Tensor, training: torch.Generator | None) -> Tensor:
        return weight * drop(torch.ones(weight.shape[1]), 0.05, training)


class AllLayersRead(OpenNetwork):
    """Lets the output read the sum of all layers instead of the last layer alone."""

    def read(self, ids: Tensor, outputs: list[Tensor], training: torch.Generator | None) -> Tensor:
        return drop(torch.stack(outputs).sum(0), self.config.dropout, training)


class BigramTable(OpenNetwork):
    """Adds to the logits a learnt table that is indexed by the last symbol, as one-hot features of the output."""

    def __init__(self, vocabulary_size: int, *args: Any) -> None:
        super().__init__(vocabulary_size, *args)
        table = torch.zeros(vocabulary_size, vocabulary_size)
        self.output.weight = nn.Parameter(torch.cat([self.output.weight.detach(), table], 1))

    def read(self, ids: Tensor, outputs: list[Tensor], training: torch.Generator | None) -> Tensor:
        s = super().read(ids, outputs, training)
        return torch.cat([s, F.one_hot(ids.long(), self.output.out_features).to(s)], 2)


# ----------------------------------------------------------------------------------------- steps of their own


class StateDropped(TrainingStep):
    """Resets the state of each row of the batch to zero with probability 0.05."""

    def __call__(self, window: Window, fraction: float) -> StepResult:
        result = super().__call__(window, fraction)
        if self.state is not None:
            kept = torch.rand(len(window.inputs), 1) > 0.05
            self.state = [tuple(part * kept for part in layer) for layer in self.state]
        return result


class ShortWindowsFirst(TrainingStep):
    """Halves the length of the windows for the first third of the training."""

    def __call__(self, window: Window, fraction: float) -> StepResult:
        x, y, carry = window
        half = x.shape[1] // 2
        if fraction > 1 / 3 or half == 0:
            return super().__call__(window, fraction)
        first = super().__call__(Window(x[:, :half], y[:, :half], carry), fraction)
        return together(
            first, super().__call__(Window(x[:, half:], y[:, half:], np.ones(len(x), np.bool_)), fraction)
        )


class SmallBatchesFirst(TrainingStep):
    """Makes two steps of each window for the first third of the training, each with half of its rows."""

    def __call__(self, window: Window, fraction: float) -> StepResult:
        x, y, carry = window
        half = len(x) // 2
        if fraction > 1 / 3 or half == 0:
            return super().__call__(window, fraction)
        whole = self.state if carry.any() else None
        results, states = [], []
        for rows in (slice(half), slice(half, None)):
            self.state = whole and [tuple(part[rows] for part in layer) for layer in whole]
            results.append(super().__call__(Window(x[rows], y[rows], carry[rows]), fraction))
            states.append(self.state or [])
        self.state = [tuple(map(torch.cat, zip(*layers, strict=True))) for layers in zip(*states, strict=True)]
        return together(*results)


def together(first: StepResult, second: StepResult) -> StepResult:
    return second._replace(loss=first.loss + second.loss, symbols=first.symbols + second.symbols)


class Averaged(TrainingStep):
    """At the end replaces the weights by their mean over the last share of the training."""

    def __init__(self, network: CharacterModel, config: TrainingConfig, share: float) -> None:
        super().__init__(network, config)
        self.share, self.count = share, 0
        self.sums = [torch.zeros_like(p) for p in network.parameters()]

    def __call__(self, window: Window, fraction: float) -> StepResult:
        result = super().__call__(window, fraction)
        if fraction >= 1 - self.share:
            torch._foreach_add_(self.sums, [p.detach() for p in self.network.parameters()])
            self.count += 1
        return result

    def finish(self) -> None:
        for parameter, total in zip(self.network.parameters(), self.sums, strict=True):
            parameter.data.copy_(total / self.count)


def orthogonal(matrix: Tensor) -> Tensor:
    """Brings the singular values of a matrix near 1, by the five Newton-Schulz steps of Jordan et al. 2024."""
    x = matrix / (matrix.norm() + 1e-7)
    for _ in range(5):
        product = x @ x.t()
        x = 3.4445 * x + (-4.7750 * product + 2.0315 * product @ product) @ x
    return x


def muon(network: CharacterModel, config: TrainingConfig, rate: float) -> TrainingStep:
    """Updates the recurrent matrices by their orthogonalised momentum, gate by gate; all else by AdamW."""
    weights = [weight for name, weight in network.named_parameters() if "weight_hh" in name]
    moments = [torch.zeros_like(weight) for weight in weights]
    optimizer = make_optimizer(network, config)
    own = set(map(id, weights))
    for group in optimizer.param_groups:
        group["params"] = [p for p in group["params"] if id(p) not in own]

    def move(window: Window, result: StepResult) -> None:
        factor = result.learning_rate / config.learning_rate
        for weight, momentum in zip(weights, moments, strict=True):
            assert weight.grad is not None
            momentum.mul_(0.95).add_(weight.grad)
            step = weight.grad.add(momentum, alpha=0.95)
            update = torch.cat([orthogonal(gate) for gate in step.split(network.config.hidden_size)])
            weight.data.add_(update, alpha=-rate * factor)

    return TrainingStep(network, config, optimizer=optimizer, hook=move)


# --------------------------------------------------------------------------------------------- the ideas


@dataclass(frozen=True)
class Idea:
    """One change to the training.

    Attributes:
        settings: of the configuration, by dotted key.
        network: what is trained.
        step: what trains it.
        frequencies: whether the bias of the output starts at the log of each symbol's frequency, or at zero.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    network: type[CharacterModel] = CharacterModel
    step: Callable[[CharacterModel, TrainingConfig], TrainingStep] = TrainingStep
    frequencies: bool = True


LR, DROPOUT, WEIGHTS = "training.learning_rate", "model.dropout", "model.recurrent_dropout"


def ideas(text: str) -> dict[str, Idea]:
    rate, hidden = common(text)[LR], SCALES[text][1]
    two = {"model.num_layers": 2, "model.hidden_size": 16 * round(hidden / math.sqrt(3) / 16)}
    found = {
        "nothing": Idea(),
        "another seed": Idea({"training.seed": 2}),
        "no dropout": Idea({DROPOUT: 0.0}),
        "dropout 0.2": Idea({DROPOUT: 0.2}),
        "locked dropout 0.1": Idea(network=LockedDropout),
        "locked dropout 0.2": Idea({DROPOUT: 0.2}, network=LockedDropout),
        "recurrent weights dropped, 0.1": Idea({DROPOUT: 0.0, WEIGHTS: 0.1}),
        "recurrent weights dropped, 0.2": Idea({DROPOUT: 0.0, WEIGHTS: 0.2}),
        "input dropped, 0.05": Idea({DROPOUT: 0.0}, network=InputDropout),
        "mean of the last 10%": Idea(step=partial(Averaged, share=0.1)),
        "mean of the last 20%": Idea(step=partial(Averaged, share=0.2)),
        "half the learning rate": Idea({LR: rate / 2}),
        "1.5 times the learning rate": Idea({LR: rate * 1.5}),
        "beta2 0.95": Idea({"training.beta2": 0.95}),
        "beta2 0.999": Idea({"training.beta2": 0.999}),
        "no weight decay": Idea({"training.weight_decay": 0.0}),
        "weight decay 0.1": Idea({"training.weight_decay": 0.1}),
        "cosine": Idea({"training.schedule": "cosine"}),
        "windows of 32 for the first third": Idea(step=ShortWindowsFirst),
        "half the batch for the first third": Idea(step=SmallBatchesFirst),
        "output bias from zero": Idea(frequencies=False),
        "two layers of as many weights": Idea(two),
        "the same, both read by the output": Idea(two, network=AllLayersRead),
        "muon, 0.01": Idea(step=partial(muon, rate=0.01)),
        "muon, 0.03": Idea(step=partial(muon, rate=0.03)),
    }
    if TEXTS[text][1] == "stream":
        found["state dropped, 0.05"] = Idea(step=StateDropped)
    if text != "tang":  # a table of 36 million numbers
        found["bigram table"] = Idea(network=BigramTable)
    return found


def train(config: Config, corpus: Corpus, idea: Idea) -> tuple[CharacterModel, float]:
    """Trains as `charlm train` does, but for the idea; returns the network and the mean loss of its training."""
    torch.manual_seed(config.training.seed)
    V, t = len(corpus.vocabulary), config.training
    plan = plan_layers(V, config.model, CPU, kernel=t.kernel, precision=t.precision, batch_size=t.batch_size)
    network = idea.network(V, config.model, plan)
    if idea.frequencies:
        initialize_output_bias(network, corpus.vocabulary.unigram_log_probs)
    step = idea.step(network, t)
    _, budget = parse_amount(t.budget)
    symbols, nats = 0, 0.0
    for window in endless_windows(make_batches(corpus, t)):
        result = step(window, symbols / budget)
        symbols, nats = symbols + result.symbols, nats + result.loss
        if symbols >= budget:
            break
    if isinstance(step, Averaged):
        step.finish()
    return network, nats / symbols


def validation_loss(network: CharacterModel, corpus: Corpus) -> float:
    return evaluate(Mixture(TorchNetworkExpert(network)), corpus.vocabulary, corpus.validation).nats_per_character


def tuned_temperature(network: CharacterModel, corpus: Corpus) -> tuple[float, float]:
    """Returns the lowest validation loss among a few softmax temperatures, and the temperature."""
    output, found = network.output, []
    weight, bias = output.weight.detach().clone(), output.bias.detach().clone()
    for t in (0.9, 0.95, 1.0, 1.05, 1.1):
        with torch.no_grad():
            output.weight.copy_(weight / t)
            output.bias.copy_(bias / t)
        found.append((validation_loss(network, corpus), t))
    return min(found)


def results(folder: Path, text: str, idea: str) -> Iterator[dict[str, Any]]:
    """Trains one network and yields the rows for the results file."""
    change = ideas(text)[idea]
    with tempfile.TemporaryDirectory() as scratch:
        path, fixed = held_out(folder, text, Path(scratch))
        config = load_config({"corpus": {"path": str(path)}}, {**fixed, **common(text), **change.settings})
        corpus = load_corpus(config.corpus)
        network, nats = train(config, corpus, change)
        yield {"text": text, "idea": idea, "nats": validation_loss(network, corpus), "train": nats}
        if idea == "nothing":
            nats, t = tuned_temperature(network, corpus)
            yield {"text": text, "idea": "softmax temperature tuned", "nats": nats, "at": t}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the folder with the texts")
    parser.add_argument("--text", choices=list(SCALES))
    parser.add_argument("--only", default="", help="run only ideas whose name contains this")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "ideas.jsonl")
    options = parser.parse_args()
    lines = options.results.read_text().splitlines() if options.results.exists() else []
    done = {(row["text"], row["idea"]) for row in map(json.loads, lines)}
    for text in [options.text] if options.text else SCALES:
        for idea in ideas(text):
            if options.only in idea and (text, idea) not in done:
                for row in results(options.folder, text, idea):
                    line = json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()})
                    print(line, flush=True)
                    with options.results.open("a") as file:
                        file.write(line + "\n")


if __name__ == "__main__":
    main()
