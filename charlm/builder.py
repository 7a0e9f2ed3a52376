"""From a configuration to parts: the only place that knows both.

Every component takes plain values; here they are taken out of the configuration and handed over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from charlm.cells import compiled, find_cell
from charlm.cells.fused import has_bfloat16, has_kernel, narrow
from charlm.cells.steps import is_large
from charlm.config import Config, ModelConfig, SamplingConfig, load_config, parse_amount
from charlm.config.recipe import Facts, Recipe, choose
from charlm.errors import InputError
from charlm.experts.ngram import NgramModel
from charlm.model.network import CharacterModel
from charlm.sampling import Draw, write_texts
from charlm.scoring.evaluation import evaluate, ngram_model
from charlm.scoring.mixture import fit_mixture
from charlm.store.run_folder import RunFolder
from charlm.text.batches import Batches, LineBatches, StreamBatches
from charlm.text.corpus import Corpus, load_corpus
from charlm.training.budget import Amount
from charlm.training.optimization import build_optimizer
from charlm.training.trainer import Trainer

_MOST_COUNTED = 12_000_000  # symbols of a text, the last ones, for n-grams; counting and saving take 135 bytes each
_COUNTED_PER_SECOND = 150_000  # of the budget: counting takes about a tenth of it
_LARGE = 1 << 15  # recurrent weights of a layer, G·H², from which the compiled kernels gain by bfloat16
_MEASURE_SECONDS = 0.7  # for each size that the recipe looks at


def build_device(name: str) -> torch.device:
    """Returns the device; `auto` is CUDA where there is one, else the CPU.

    Raises:
        InputError: this machine, or this build of torch, has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(name, False):
        there = ", ".join(key for key, yes in available.items() if yes)
        raise InputError(f"device {name}: not on this machine; there is: {there}")
    return torch.device(name)


def build_corpus(config: Config, known: Sequence[str] = ()) -> Corpus:
    """Reads, splits and encodes the corpus; the vocabulary begins with the characters that are `known` already."""
    c = config.corpus
    return load_corpus(
        c.path,
        framing=c.framing,
        level=c.level,
        validation=c.validation,
        test=c.test,
        normalization=c.normalization,
        lowercase=c.lowercase,
        min_count=c.min_count,
        max_line_length=c.max_line_length,
        known=known,
    )


def build_backend(config: Config, vocabulary_size: int, device: torch.device) -> str:
    """Returns how layers are computed in training, as `cells.run_layer` names it.

    Raises:
        InputError: the device has no such kernel for this cell.
    """
    m, t = config.model, config.training
    recurrence = find_cell(m.cell, m.reset)
    rows = recurrence.gates * m.hidden_size
    fused = has_kernel(recurrence.kernel, device)
    if t.backend == "fused" and not fused:
        cell = "gru with reset before" if m.cell == "gru" and m.reset == "before" else m.cell
        raise InputError(f"training.backend fused: no such kernel for {cell} on {device.type}; write auto")
    wanted = t.backend in ("auto", "compiled")  # else none are compiled
    kernels = wanted and device.type == "cpu" and compiled.library() is not None
    if t.backend == "compiled" and not kernels:
        raise InputError("training.backend compiled: needs a CPU and a C compiler, cc or what CC names; write auto")
    if t.backend == "auto" and kernels:
        large = rows * m.hidden_size >= _LARGE
        return "bfloat16" if large and compiled.has_bfloat16() else "compiled"
    if t.backend == "auto" and has_bfloat16(device):
        width = m.embedding_size or vocabulary_size
        if narrow(width, rows) if fused else is_large(t.batch_size, rows * m.hidden_size):
            return "bfloat16"
    return t.backend


def build_model(model: ModelConfig, vocabulary_size: int, backend: str = "auto") -> CharacterModel:
    """Builds a model with fresh weights, drawn from torch's global generator; see `build_backend`."""
    return CharacterModel(
        vocabulary_size,
        cell=model.cell,
        hidden_size=model.hidden_size,
        num_layers=model.num_layers,
        reset=model.reset,
        bias=model.bias,
        embedding_size=model.embedding_size,
        output_rank=model.output_rank,
        dropout=model.dropout,
        recurrent_dropout=model.recurrent_dropout,
        forget_bias=model.forget_bias,
        recurrent_init=model.recurrent_init,
        backend=backend,
        ngram_order=model.ngram,
    )


def build_batches(config: Config, corpus: Corpus) -> Batches:
    """Lays the training split out in windows."""
    t, vocabulary = config.training, corpus.vocabulary
    if vocabulary.framing == "lines":
        return LineBatches(corpus.train.ids, vocabulary.boundary_id, t.batch_size, t.sequence_length, t.seed)
    return StreamBatches(corpus.train.ids, t.batch_size, t.sequence_length, t.seed)


def build_ngram(config: Config, corpus: Corpus) -> NgramModel | None:
    """Counts the n-gram model that the configuration asks for."""
    if config.model.ngram is None:
        return None
    unit, amount = parse_amount(config.training.budget)
    most = min(_MOST_COUNTED, int(_COUNTED_PER_SECOND * amount)) if unit == "seconds" else _MOST_COUNTED
    return ngram_model(corpus.vocabulary, corpus.train, config.model.ngram, most=max(1, most))


def build_draw(sampling: SamplingConfig) -> Draw:
    """Returns the rule by which characters are drawn."""
    return Draw(sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p)


def build_recipe(config: Config, given: Mapping[str, Any], corpus: Corpus, device: torch.device) -> Recipe:
    """Chooses what is not `given`, by the text, the budget and the speed of this machine."""
    vocabulary, ids = corpus.vocabulary, corpus.train.ids
    lines = vocabulary.framing == "lines"
    facts = Facts(
        characters=len(ids),
        held_out=len(corpus.validation.ids),
        symbols=len(vocabulary),
        line_length=len(ids) / max(1, corpus.train.count(vocabulary.boundary_id)) if lines else None,
    )

    def speed(settings: Mapping[str, Any]) -> float:
        candidate = load_config(config.model_dump(), settings)
        with torch.random.fork_rng(devices=[]):
            backend = build_backend(candidate, len(vocabulary), device)
            model = build_model(candidate.model, len(vocabulary), backend).to(device)
            return build_trainer(candidate, corpus, model, RunFolder(".")).measure_speed(_MEASURE_SECONDS)

    return choose(facts, given, parse_amount(config.training.budget), speed)


def build_trainer(
    config: Config,
    corpus: Corpus,
    model: CharacterModel,
    folder: RunFolder,
    known: Sequence[str] = (),
    ngram: NgramModel | None = None,
) -> Trainer:
    """Puts a trainer together; nothing is written yet.

    An n-gram model is attached, and each evaluation finds how far to trust it; the network trains without it.
    """
    t, s = config.training, config.sampling
    per_symbol = corpus.train.characters / len(corpus.train.ids)

    def amount(text: str) -> Amount:
        return Amount(*parse_amount(text), len(corpus.train.ids), per_symbol)

    held_out = bool(len(corpus.validation.ids))
    if ngram is not None:
        model.attach(ngram)

    def validate() -> float:
        if ngram is not None:
            fit_mixture(model, corpus.vocabulary, corpus.validation.ids)
        return evaluate(model, corpus.vocabulary, corpus.validation).nats_per_character

    def write_sample() -> str:
        return next(write_texts(model, corpus.vocabulary, length=s.length, draw=build_draw(s), seed=t.seed))

    budget = amount(t.budget)
    interval = amount(t.evaluate_every)
    if interval.unit == "percent":
        interval = replace(budget, amount=budget.amount * interval.amount / 100)
    if interval.unit == "seconds":
        interval = replace(interval, unit="training_seconds")
    return Trainer(
        model,
        build_batches(config, corpus),
        build_optimizer(
            model,
            t.optimizer,
            learning_rate=t.learning_rate,
            momentum=t.momentum,
            beta2=t.beta2,
            weight_decay=t.weight_decay,
        ),
        budget=budget,
        interval=interval,
        folder=folder,
        validate=validate if held_out else None,
        write_sample=write_sample,
        schedule=t.schedule,
        warmup=t.warmup,
        clip_norm=t.clip_norm,
        early_stopping=t.early_stopping,
        keep=t.keep,
        identity={
            "config": config.model_dump(),
            "corpus": corpus.key,
            "known": "".join(known),
            "threads": torch.get_num_threads(),
        },
    )
