"""Which model predicts held-out text best after the same number of seconds of training on the same machine?

Measures nats per character over the whole validation split, an end of line counting as one character; each
model may use all the context that it can carry. charlm is run as a user runs it by default: by its command
line, with nothing but the text and the time. Its rivals are re-created here from their published
hyper-parameters, and train on the same split; with every seed all of them take their turn:

- nanogpt: the transformer of nanoGPT's recipe for a CPU (train_shakespeare_char: 4 layers, 4 heads, width 128,
  block 64, batch 12, AdamW with a cosine schedule from 1e-3 to 1e-4, betas 0.9 and 0.99, weight decay 0.1 on
  matrices, clipping at 1, no dropout). The schedule ends when the time does.
- char-rnn: the defaults of char-rnn (LSTM 2 x 128, RMSprop 2e-3 with decay 0.95, 50 x 50, elementwise clipping
  at 5, the learning rate multiplied by 0.97 after each epoch from the tenth on, weights drawn from +-0.08).
- char-rnn.pytorch: its defaults (GRU 2 x 100, embedding, Adam 0.01, 100 chunks of 200 from random places, each
  from the zero state).
- kneser-ney: the n-gram baseline of `charlm eval --baseline`, which takes only as long as counting takes.

    python benchmarks/quality_at_time.py TEXT [--seconds 100] [--framing lines] [--seeds 3] [--untouched]

TEXT is a file, or a corpus that charlm knows by name, such as `python`, the interpreter's own library. Each
result is printed as soon as it is known, as a line of JSON; the last lines are a table of the medians and of
how far each lies above charlm's.

charlm chooses its best weights, and fits the powers of its mixture, on the text that it holds out. With
`--untouched` it does so on the first half of that text, and everybody is measured on the second, which nothing was
fitted on.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command-line program sets it; the rivals benefit too

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import charlm
from charlm.config import CorpusConfig
from charlm.scoring.evaluation import evaluate_baseline
from charlm.system.allocator import keep_freed_memory
from charlm.text.corpus import Corpus, Split, load_corpus
from charlm.text.library import find
from measure import print_table, shuffle_lines

Ids = Tensor
_EVALUATION_WINDOW = 4096  # symbols


class Transformer(nn.Module):
    """nanoGPT's network: pre-norm blocks, learnt positions, GELU, no biases, the output tied to the embedding."""

    def __init__(self, vocabulary: int, width: int = 128, layers: int = 4, heads: int = 4, block: int = 64) -> None:
        super().__init__()
        self.block, self.heads = block, heads
        self.token_embedding, self.position_embedding = nn.Embedding(vocabulary, width), nn.Embedding(block, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width, bias=False) for _ in range(2 * layers + 1))
        self.attention = nn.ModuleList(nn.Linear(width, 3 * width, bias=False) for _ in range(layers))
        self.projection = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(layers))
        self.expand = nn.ModuleList(nn.Linear(width, 4 * width, bias=False) for _ in range(layers))
        self.contract = nn.ModuleList(nn.Linear(4 * width, width, bias=False) for _ in range(layers))
        for name, weight in self.named_parameters():
            if weight.dim() >= 2:
                ends_branch = name.startswith(("projection", "contract"))  # the last matrix of a residual branch
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * layers) if ends_branch else 0.02)

    def forward(self, ids: Ids) -> Tensor:
        """ids (B, T) → logits (B, T, V)."""
        B, T = ids.shape
        x = self.token_embedding(ids) + self.position_embedding.weight[:T]
        for i, (attention, projection, expand, contract) in enumerate(
            zip(self.attention, self.projection, self.expand, self.contract, strict=True)
        ):
            q, k, v = attention(self.norms[2 * i](x)).view(B, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + projection(y.transpose(1, 2).reshape(B, T, -1))
            x = x + contract(F.gelu(expand(self.norms[2 * i + 1](x))))
        return F.linear(self.norms[-1](x), self.token_embedding.weight)


class TorchRecurrentModel(nn.Module):
    """An embedding or one-hot input, two layers of `nn.LSTM` or `nn.GRU`, a linear layer."""

    def __init__(self, vocabulary: int, kind: type[nn.RNNBase], hidden: int, embedding: int | None) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding) if embedding else None
        self.vocabulary = vocabulary
        self.layers = kind(embedding or vocabulary, hidden, 2)
        self.output = nn.Linear(hidden, vocabulary)

    def forward(self, ids: Ids, state: object = None) -> tuple[Tensor, object]:
        """ids (T, B) → logits (T, B, V), state."""
        x = F.one_hot(ids, self.vocabulary).float() if self.embedding is None else self.embedding(ids)
        s, state = self.layers(x, state)
        return self.output(s), state


def train_for(seconds: float, step: Callable[[float], None]) -> None:
    """Calls `step` until the time is over, each time with the fraction of it that has passed."""
    start = time.perf_counter()
    while (fraction := (time.perf_counter() - start) / seconds) < 1:
        step(fraction)


def detach(state: object) -> object:
    return state.detach() if isinstance(state, Tensor) else tuple(map(detach, state))  # type: ignore[arg-type,call-overload]


def streams(ids: Ids, batch: int, length: int) -> Iterator[tuple[Ids, Ids, bool]]:
    """Endless windows (T, B) of B parallel streams, in order, and whether each is the first of an epoch."""
    rows = ids[: len(ids) // batch * batch].view(batch, -1).t()
    while True:
        for at in range(0, len(rows) - length, length):
            yield rows[at : at + length], rows[at + 1 : at + length + 1], at == 0


def recurrent_nats(model: TorchRecurrentModel, ids: Ids) -> float:
    """Nats per character of a text read once, the state carried throughout; symbol 0 precedes the first."""
    total, state = 0.0, None
    inputs = torch.cat([ids.new_zeros(1), ids[:-1]])
    with torch.inference_mode():
        for at in range(0, len(ids), _EVALUATION_WINDOW):
            window = slice(at, at + _EVALUATION_WINDOW)
            logits, state = model(inputs[window, None], state)
            total += float(F.cross_entropy(logits[:, 0], ids[window], reduction="sum"))
    return total / len(ids)


def char_rnn(train: Ids, validation: Ids, vocabulary: int, seconds: float) -> float:
    model = TorchRecurrentModel(vocabulary, nn.LSTM, 128, None)
    for weight in model.parameters():
        nn.init.uniform_(weight, -0.08, 0.08)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=2e-3, alpha=0.95, eps=1e-8)
    windows, state, epoch = streams(train, 50, 50), None, 0

    def step(_: float) -> None:
        nonlocal state, epoch
        x, y, first = next(windows)
        epoch += first
        if first and epoch > 11:
            optimizer.param_groups[0]["lr"] *= 0.97
        logits, state = model(x, state)
        state = detach(state)  # type: ignore[assignment]
        optimizer.zero_grad()
        F.cross_entropy(logits.flatten(0, 1), y.flatten()).backward()
        nn.utils.clip_grad_value_(model.parameters(), 5.0)
        optimizer.step()

    train_for(seconds, step)
    return recurrent_nats(model, validation)


def char_rnn_pytorch(train: Ids, validation: Ids, vocabulary: int, seconds: float) -> float:
    model = TorchRecurrentModel(vocabulary, nn.GRU, 100, 100)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    span = torch.arange(201)[:, None]

    def step(_: float) -> None:
        chunk = train[torch.randint(len(train) - 201, (100,)) + span]  # (201, 100)
        logits, _state = model(chunk[:-1])
        optimizer.zero_grad()
        F.cross_entropy(logits.flatten(0, 1), chunk[1:].flatten()).backward()
        optimizer.step()

    train_for(seconds, step)
    return recurrent_nats(model, validation)


def nanogpt(train: Ids, validation: Ids, vocabulary: int, seconds: float) -> float:
    model = Transformer(vocabulary)
    matrices = [w for w in model.parameters() if w.dim() >= 2]
    others = [w for w in model.parameters() if w.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))
    span = torch.arange(65)
    warmup_steps = 100  # as published

    def step(fraction: float) -> None:
        nonlocal warmup_steps
        rate = 1e-4 + 9e-4 * (1 + math.cos(math.pi * fraction)) / 2
        if warmup_steps:
            rate, warmup_steps = 1e-3 * (100 - warmup_steps) / 100, warmup_steps - 1
        for group in optimizer.param_groups:
            group["lr"] = rate
        chunk = train[torch.randint(len(train) - 65, (12, 1)) + span]  # (12, 65)
        loss = F.cross_entropy(model(chunk[:, :-1]).flatten(0, 1), chunk[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    train_for(seconds, step)
    # Blocks overlap by 48 symbols and only the last 16 count, so that all but the first block have 48 of context.
    text, total, counted = torch.cat([validation.new_zeros(1), validation]), 0.0, 0
    with torch.inference_mode():
        for starts in torch.arange(0, len(validation) - 63, 16).split(256):
            chunks = text[starts[:, None] + span]  # (n, 65)
            logits, targets = model(chunks[:, :-1]), chunks[:, 1:].clone()
            targets[int(counted == 0) :, :48] = -100
            total += float(F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum"))
            counted += int((targets >= 0).sum())
    return total / counted


class HeldOut(NamedTuple):
    """What charlm is given, and where everybody is measured.

    Attributes:
        text: the file to train on.
        validation: the value of `corpus.validation`: a share of the text, at its end, or a file.
        measured: a file of its own; None: the validation split.
    """

    text: str
    validation: float | str
    measured: str | None = None


def cut_in_half(corpus: Corpus, folder: Path) -> tuple[HeldOut, Split]:
    """Writes the training text and both halves of what is held out as files; returns them, and the second half."""
    vocabulary, ids = corpus.vocabulary, corpus.validation.ids
    middle = len(ids) // 2
    if vocabulary.framing == "lines":  # behind the end of a line
        middle += 1 + int(np.flatnonzero(ids[middle:] == vocabulary.boundary_id)[0])
    parts = {"train": corpus.train.ids, "first": ids[:middle], "second": ids[middle:]}
    texts = {name: vocabulary.decode(part.tolist()) for name, part in parts.items()}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="")
    paths = (str(folder / name) for name in parts)
    return HeldOut(*paths), Split.of(texts["second"], vocabulary)


def charlm_by_default(held_out: HeldOut, framing: str, seconds: float, seed: int) -> tuple[float, str]:
    """Trains by the command line with the text and the time alone; returns nats and what charlm chose."""
    with tempfile.TemporaryDirectory() as folder:
        run = str(Path(folder) / "run")
        fixed = [f"corpus.framing={framing}", "corpus.split=tail", f"corpus.validation={held_out.validation}"]
        fixed.append(f"training.seed={seed}")
        command = [sys.executable, "-m", "charlm", "train", *(a for f in fixed for a in ("--set", f)), "--out", run]
        command += ["--corpus", held_out.text, "--budget", f"{seconds:g}s", "--quiet"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # it prints the path of the run
        lm = charlm.load(run)
        evaluation = lm.evaluate(held_out.measured)
        m, t = lm.config.model, lm.config.training
        dropout = f"dropout {m.dropout:g}, of recurrent weights {m.recurrent_dropout:g}"
        return evaluation.nats_per_character, f"{m.cell} {m.hidden_size}, {dropout}, lr {t.learning_rate:g}"


RIVALS = {"nanogpt": nanogpt, "char-rnn": char_rnn, "char-rnn.pytorch": char_rnn_pytorch}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text")
    parser.add_argument("--seconds", type=float, default=100)
    parser.add_argument("--framing", choices=["stream", "lines"], default="stream")
    parser.add_argument(
        "--validation", type=float, default=0.1, help="the share of the text, at its end, that is held out"
    )
    parser.add_argument(
        "--held-out", type=int, help="hold out this many random lines instead of the end of the text"
    )
    parser.add_argument(
        "--untouched", action="store_true", help="measure on the second half of it, and choose and fit on the first"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="names of models, separated by commas")
    options = parser.parse_args()
    keep_freed_memory()
    path, share = str(find(options.text) or options.text), options.validation
    scratch = tempfile.TemporaryDirectory()  # removed when the program ends
    if options.held_out:
        shuffled = Path(scratch.name) / "shuffled"
        share, path = shuffle_lines(Path(path), options.held_out, shuffled), str(shuffled)
    corpus = load_corpus(CorpusConfig(path=path, framing=options.framing, split="tail", validation=share))
    held_out, measured = HeldOut(path, share), corpus.validation
    if options.untouched:
        held_out, measured = cut_in_half(corpus, Path(scratch.name))
    train, validation = (torch.from_numpy(split.ids.astype("int64")) for split in (corpus.train, measured))
    names = options.only.split(",") if options.only else ["charlm", *RIVALS, "kneser-ney"]
    losses: dict[str, list[float]] = {name: [] for name in names}
    for seed in range(1, options.seeds + 1):
        for name in names:
            if name == "kneser-ney" and losses[name]:
                continue  # there is no chance in it
            torch.manual_seed(seed)
            start, chosen = time.perf_counter(), ""
            if name == "charlm":
                loss, chosen = charlm_by_default(held_out, options.framing, options.seconds, seed)
            elif name == "kneser-ney":
                loss = evaluate_baseline(corpus.vocabulary, corpus.train, measured)
            else:
                loss = RIVALS[name](train, validation, len(corpus.vocabulary), options.seconds)
            losses[name].append(loss)
            row = {"text": Path(options.text).name, "model": name, "seed": seed, "nats": round(loss, 4)}
            row |= {"whole_seconds": round(time.perf_counter() - start, 1), "chosen": chosen}
            print(json.dumps(row), flush=True)
    medians = {name: statistics.median(found) for name, found in losses.items()}
    rows = [("model", f"nats after {options.seconds:g} s", "above charlm", "runs")]
    for name, nats in medians.items():
        above = f"{nats - medians['charlm']:+.4f}" if "charlm" in medians else ""
        rows.append((name, f"{nats:.4f}", above, ", ".join(f"{loss:.4f}" for loss in losses[name])))
    print()
    print_table(rows)


if __name__ == "__main__":
    main()
