"""The public API of training: put a run together, start it or go on with it, or look at it beforehand."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from charlm.builder import build_corpus, build_device, build_model, build_trainer
from charlm.config import Config, load_config, to_yaml
from charlm.errors import ConfigError, InputError, RunError
from charlm.language_model import LanguageModel, PathLike, load_run_config, set_threads
from charlm.model import parameter_count
from charlm.training.allocator import keep_freed_memory
from charlm.training.checkpoint import RunFolder
from charlm.training.signals import catch_stop_signals
from charlm.training.trainer import Metrics, Observer, StepReport

_MEASURE_SECONDS = 1.5


class _Silent:
    """An observer that says nothing."""

    def on_step(self, report: StepReport) -> None:
        pass

    def on_evaluation(self, metrics: Metrics, sample: str, is_best: bool) -> None:
        pass


def train(
    config: PathLike | Mapping[str, Any] | Config | None = None,
    *,
    corpus: PathLike | Sequence[PathLike] | None = None,
    budget: str | None = None,
    out: PathLike | None = None,
    resume: bool = False,
    device: str | None = None,
    threads: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    observer: Observer | None = None,
) -> LanguageModel:
    """Trains a model and returns the best one by validation loss.

    Args:
        config: a YAML file, the same as dictionaries, or a `Config`; None: defaults, and `corpus` is needed.
        corpus: replaces `corpus.path`.
        budget: replaces `training.budget`.
        out: the run folder; None: `runs/` and the name of the configuration or corpus.
        resume: go on with the run in `out`.
        device: replaces `training.device`.
        threads: CPU threads; None leaves torch's choice.
        overrides: further values by dotted key.
        observer: hears of steps and evaluations.

    Raises:
        ConfigError: the configuration is not valid.
        CorpusError: the corpus cannot be read or is too small.
        InputError: `out` already holds a run and `resume` is not given.
        RunError: nothing to resume, or the run does not match the configuration or corpus.
        TrainingError: the loss is not finite or a file cannot be written; what was saved is whole.
        Interrupted: a signal stopped it; the work is saved.
    """
    set_threads(threads)
    if resume and config is None and corpus is None:
        if out is None:
            raise InputError("to resume, name the run folder with --out")
        config = RunFolder(Path(out)).config
        load_run_config(RunFolder(Path(out)))  # speaks up if there is no run
    settings = resolve_config(config, corpus=corpus, budget=budget, device=device, overrides=overrides)
    folder = RunFolder(Path(out) if out is not None else default_out(config, settings))
    if folder.holds_run and not resume:
        raise InputError(
            f"{folder.path}: already holds a run; go on with it by --resume, or name another folder by --out"
        )
    if resume:
        _check_resumable(folder, settings)
    keep_freed_memory()
    torch_device = build_device(settings.training.device)
    data = build_corpus(settings)
    vocabulary = data.vocabulary
    with torch.random.fork_rng(devices=[torch_device] if torch_device.type == "cuda" else []):
        torch.manual_seed(settings.training.seed)
        model = build_model(settings.model, len(vocabulary)).to(torch_device)
        trainer = build_trainer(settings, data, model, folder)
        last = folder.load_last() if resume else None
        if last is not None:
            trainer.resume(*last)
        folder.create(to_yaml(settings), vocabulary.to_json())
        with catch_stop_signals() as stop:
            trainer.run(observer or _Silent(), stop)
    folder.load_model(model)
    return LanguageModel(model, vocabulary, settings, folder.path)


def resolve_config(
    config: PathLike | Mapping[str, Any] | Config | None,
    *,
    corpus: PathLike | Sequence[PathLike] | None = None,
    budget: str | None = None,
    device: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """Puts a configuration and what overrides it together; arguments as in `train`.

    Raises:
        ConfigError: the result is not valid, or there is neither a configuration nor a corpus.
    """
    changes = dict(overrides or {})
    if corpus is not None:
        one = isinstance(corpus, (str, os.PathLike))
        changes["corpus.path"] = os.fspath(corpus) if one else [os.fspath(path) for path in corpus]  # type: ignore[arg-type,union-attr]
    if budget is not None:
        changes["training.budget"] = budget
    if device is not None:
        changes["training.device"] = device
    if config is None and "corpus.path" not in changes:
        raise ConfigError("nothing to train on: name a configuration, or a text with --corpus")
    if isinstance(config, Config):
        config = config.model_dump()
    source = config if config is None or isinstance(config, Mapping) else Path(config)
    return load_config(source, changes)


def default_out(config: PathLike | Mapping[str, Any] | Config | None, settings: Config) -> Path:
    """Returns `runs/NAME`, NAME being that of the configuration file or else of the corpus."""
    if isinstance(config, (str, os.PathLike)):
        name = Path(config).stem
    else:
        path = settings.corpus.path
        first = path if isinstance(path, str) else path[0]
        name = Path(first.removeprefix("corpus:")).name.split(".")[0].strip("*-") or "run"
    return Path("runs") / name


# What may change when a run goes on: when it ends, what it shows, and where it computes.
_MAY_CHANGE = (
    "training.budget",
    "training.evaluate_every",
    "training.early_stopping",
    "training.device",
    "sampling.",
)


def _check_resumable(folder: RunFolder, settings: Config) -> None:
    """Checks that a run may go on with these settings.

    Raises:
        RunError: there is no run, or a setting differs that must not.
    """
    old, new = _flat(load_run_config(folder)), _flat(settings)
    differing = [k for k in new if new[k] != old[k] and not k.startswith(_MAY_CHANGE)]
    if differing:
        lines = "".join(f"\n  {key}: {old[key]!r} in the run, {new[key]!r} now" for key in differing)
        raise RunError(f"{folder.path}: cannot go on with another configuration:{lines}")


def _flat(config: Config) -> dict[str, Any]:
    dump = config.model_dump()
    return {f"{section}.{key}": value for section, keys in dump.items() for key, value in keys.items()}


@dataclass(frozen=True)
class Preflight:
    """What a training would be like; nothing is written to find out.

    Attributes:
        config: the resolved configuration.
        train_characters: in the training split.
        validation_characters: in the validation split.
        test_characters: in the test split.
        vocabulary_size: symbols, `<unk>` included.
        rare: characters that occur once or twice in the training split, with their counts.
        unknown_share: share of the validation split that the vocabulary does not know.
        windows_per_epoch: steps of one pass.
        parameters: trainable numbers.
        memory_bytes: the most memory that this process has held while taking steps of training.
        characters_per_second: measured over a second and a half of training.
        seconds: the expected length of the training.
        epochs: the expected number of passes.
        notes: what the reading of the corpus has to say.
    """

    config: Config
    train_characters: int
    validation_characters: int
    test_characters: int
    vocabulary_size: int
    rare: list[tuple[str, int]]
    unknown_share: float
    windows_per_epoch: int
    parameters: int
    memory_bytes: int
    characters_per_second: float
    seconds: float
    epochs: float
    notes: list[str]


def preflight(config: Config) -> Preflight:
    """Looks at corpus, vocabulary, model, memory and time before any training.

    Raises:
        CorpusError: the corpus cannot be read or is too small.
        InputError: no such device.
    """
    keep_freed_memory()
    data = build_corpus(config)
    vocabulary = data.vocabulary
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        model = build_model(config.model, len(vocabulary)).to(build_device(config.training.device))
        trainer = build_trainer(config, data, model, RunFolder("."))
        speed = trainer.measure_speed(_MEASURE_SECONDS)
    held_out = data.validation
    unknown = held_out.count(vocabulary.unknown_id) / max(1, len(held_out.ids))
    seconds = trainer.expected_seconds(speed)
    pairs = zip(vocabulary.symbols, vocabulary.counts, strict=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Preflight(
        config=config,
        train_characters=data.train.characters,
        validation_characters=data.validation.characters,
        test_characters=data.test.characters,
        vocabulary_size=len(vocabulary),
        rare=[(char, n) for char, n in pairs if 0 < n <= 2],
        unknown_share=unknown,
        windows_per_epoch=trainer.windows_per_epoch,
        parameters=parameter_count(model),
        memory_bytes=peak if sys.platform == "darwin" else peak * 1024,
        characters_per_second=speed,
        seconds=seconds,
        epochs=seconds * speed / data.train.characters,
        notes=data.notes,
    )
