"""Which model predicts held-out text best after the same seconds of training on the same machine?

charlm, given nothing but the text and the time, and rivals re-created from their published hyper-parameters, one
after another on the same split; one evaluator for all: nats per character (each line's end is one) over the whole
validation split, each model with all the context that it can carry.

- nanogpt: the transformer of nanoGPT's recipe for a CPU (train_shakespeare_char: 4 layers, 4 heads, width 128,
  block 64, batch 12, AdamW 1e-3 to 1e-4 by a cosine, betas 0.9 and 0.99, decay 0.1 on matrices, clipping 1, no
  dropout); its cosine ends with the time.
- char-rnn: char-rnn's defaults (LSTM 2 x 128, RMSprop 2e-3 with decay 0.95, 50 x 50, elementwise clipping at 5, the
  rate times 0.97 each epoch after the tenth, weights from +-0.08).
- char-rnn.pytorch: its defaults (GRU 2 x 100, embedding, Adam 0.01, 100 chunks of 200 at random places from the
  zero state).
- kneser-ney: the n-gram baseline of `charlm eval --baseline`; takes the seconds that counting takes.

    python benchmarks/quality_at_time.py TEXT [--seconds 100] [--framing lines] [--seeds 3] [--only charlm]

TEXT is a file, or a corpus that charlm knows by name, such as `python`, the interpreter's own library. Rows go to
standard output as JSON, one a line, as soon as they are known.
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

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command-line program has it: the rivals gain from it too

import torch
from recipe_sweep import shuffled
from torch import Tensor, nn
from torch.nn import functional as F

import charlm
from charlm.scoring.evaluation import evaluate_baseline, ngram_model
from charlm.system.allocator import keep_freed_memory
from charlm.text.corpus import Corpus, load_corpus
from charlm.text.library import find

Ids = Tensor


class Transformer(nn.Module):
    """nanoGPT's network: pre-norm blocks, learnt positions, GELU, no biases, output tied to the embedding."""

    def __init__(self, vocabulary: int, width: int = 128, layers: int = 4, heads: int = 4, block: int = 64) -> None:
        super().__init__()
        self.block, self.heads = block, heads
        self.symbols, self.places = nn.Embedding(vocabulary, width), nn.Embedding(block, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width, bias=False) for _ in range(2 * layers + 1))
        self.attend = nn.ModuleList(nn.Linear(width, 3 * width, bias=False) for _ in range(layers))
        self.mix = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(layers))
        self.rise = nn.ModuleList(nn.Linear(width, 4 * width, bias=False) for _ in range(layers))
        self.fall = nn.ModuleList(nn.Linear(4 * width, width, bias=False) for _ in range(layers))
        for name, weight in self.named_parameters():
            if weight.dim() >= 2:
                end = name.startswith(("mix", "fall"))  # the ends of residual branches
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * layers) if end else 0.02)

    def forward(self, ids: Ids) -> Tensor:
        """ids (B, T) → logits (B, T, V)."""
        B, T = ids.shape
        x = self.symbols(ids) + self.places.weight[:T]
        for i, (attend, mix, rise, fall) in enumerate(
            zip(self.attend, self.mix, self.rise, self.fall, strict=True)
        ):
            q, k, v = attend(self.norms[2 * i](x)).view(B, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + mix(y.transpose(1, 2).reshape(B, T, -1))
            x = x + fall(F.gelu(rise(self.norms[2 * i + 1](x))))
        return F.linear(self.norms[-1](x), self.symbols.weight)


class Layers(nn.Module):
    """An embedding, `nn.LSTM` or `nn.GRU`, a linear layer."""

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


def train_for(seconds: float, step: Callable[[float], None]) -> int:
    start, count = time.perf_counter(), 0
    while (spent := (time.perf_counter() - start) / seconds) < 1:
        step(spent)
        count += 1
    return count


def detach(state: object) -> object:
    return state.detach() if isinstance(state, Tensor) else tuple(map(detach, state))  # type: ignore[arg-type,call-overload]


def streams(ids: Ids, batch: int, length: int) -> Iterator[tuple[Ids, Ids, bool]]:
    """Windows (T, B) of B streams side by side, in order, again and again; and whether an epoch begins."""
    rows = ids[: len(ids) // batch * batch].view(batch, -1).t()
    while True:
        for at in range(0, len(rows) - length, length):
            yield rows[at : at + length], rows[at + 1 : at + length + 1], at == 0


def recurrent_nats(model: Layers, ids: Ids) -> float:
    """Reads a text once, the state carried from start to end; the symbol before the first is a newline."""
    total, state = 0.0, None
    inputs = torch.cat([ids.new_zeros(1), ids[:-1]])
    with torch.inference_mode():
        for at in range(0, len(ids), 4096):
            logits, state = model(inputs[at : at + 4096, None], state)
            total += float(F.cross_entropy(logits[:, 0], ids[at : at + 4096], reduction="sum"))
    return total / len(ids)


def char_rnn(train: Ids, validation: Ids, vocabulary: int, seconds: float) -> float:
    model = Layers(vocabulary, nn.LSTM, 128, None)
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
    model = Layers(vocabulary, nn.GRU, 100, 100)
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
    warmup = 100  # steps, as published

    def step(spent: float) -> None:
        nonlocal warmup
        rate = 1e-4 + 9e-4 * (1 + math.cos(math.pi * spent)) / 2
        if warmup:
            rate, warmup = 1e-3 * (100 - warmup) / 100, warmup - 1
        for group in optimizer.param_groups:
            group["lr"] = rate
        chunk = train[torch.randint(len(train) - 65, (12, 1)) + span]  # (12, 65)
        loss = F.cross_entropy(model(chunk[:, :-1]).flatten(0, 1), chunk[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    train_for(seconds, step)
    # Blocks that overlap by 48, of which the last 16 count: every symbol but the first comes after at least 48.
    text, total, counted = torch.cat([validation.new_zeros(1), validation]), 0.0, 0
    with torch.inference_mode():
        for starts in torch.arange(0, len(validation) - 63, 16).split(256):
            chunks = text[starts[:, None] + span]  # (n, 65)
            logits, targets = model(chunks[:, :-1]), chunks[:, 1:].clone()
            targets[int(counted == 0) :, :48] = -100
            total += float(F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum"))
            counted += int((targets >= 0).sum())
    return total / counted


def kneser_ney(corpus: Corpus) -> float:
    return evaluate_baseline(ngram_model(corpus.vocabulary, corpus.train), corpus.vocabulary, corpus.validation)


def own(text: str, framing: str, validation: float, seconds: float, seed: int) -> tuple[float, str]:
    """Trains by the command line as a user does: the text and the time, nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        run = str(Path(folder) / "run")
        fixed = [f"corpus.framing={framing}", f"corpus.validation={validation}", f"training.seed={seed}"]
        command = [sys.executable, "-m", "charlm", "train", *(a for f in fixed for a in ("--set", f)), "--out", run]
        command += ["--corpus", text, "--budget", f"{seconds:g}s", "--quiet"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # it prints where the run lies
        lm = charlm.load(run)
        evaluation = lm.evaluate(None)
        m, t = lm.config.model, lm.config.training
        dropped = f"dropout {m.dropout:g}, of recurrent weights {m.recurrent_dropout:g}"
        return evaluation.nats_per_character, f"{m.cell} {m.hidden_size}, {dropped}, lr {t.learning_rate:g}"


RIVALS = {"nanogpt": nanogpt, "char-rnn": char_rnn, "char-rnn.pytorch": char_rnn_pytorch}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("text")
    parser.add_argument("--seconds", type=float, default=100)
    parser.add_argument("--framing", choices=["stream", "lines"], default="stream")
    parser.add_argument("--validation", type=float, default=0.1, help="share held out at the end")
    parser.add_argument("--held-out", type=int, help="so many lines at random, instead of the last tenth")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="names of entrants, separated by commas")
    options = parser.parse_args()
    keep_freed_memory()
    path, share = str(find(options.text) or options.text), options.validation
    scratch = tempfile.TemporaryDirectory()  # goes when the program ends
    if options.held_out:
        to = Path(scratch.name) / "shuffled"
        share, path = shuffled(Path(path), options.held_out, to), str(to)
    corpus = load_corpus(path, framing=options.framing, validation=share)
    train, validation = (torch.from_numpy(split.ids.astype("int64")) for split in (corpus.train, corpus.validation))
    wanted = options.only.split(",") if options.only else ["charlm", *RIVALS, "kneser-ney"]
    for name in wanted:
        losses, seconds, shape = [], options.seconds, ""
        for seed in range(1, options.seeds + 1):
            torch.manual_seed(seed)
            if name == "charlm":
                loss, shape = own(path, options.framing, share, options.seconds, seed)
            elif name == "kneser-ney":
                start = time.perf_counter()
                loss, seconds = kneser_ney(corpus), time.perf_counter() - start
            else:
                loss = RIVALS[name](train, validation, len(corpus.vocabulary), options.seconds)
            losses.append(loss)
            if name == "kneser-ney":
                break
        row = {"text": Path(options.text).name, "seconds": round(seconds, 1), "model": name, "chosen": shape}
        row |= {"median": round(statistics.median(losses), 4), "runs": [round(loss, 4) for loss in losses]}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
