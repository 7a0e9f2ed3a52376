"""The public API of training: put a run together, start it or go on with it, or look at it beforehand."""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from charlm.builder import (
    build_backend,
    build_corpus,
    build_device,
    build_model,
    build_ngram,
    build_recipe,
    build_trainer,
)
from charlm.config import Config, load_config, parse_amount, to_yaml
from charlm.config.recipe import validation_share
from charlm.errors import ConfigError, InputError, RunError
from charlm.language_model import LanguageModel, PathLike, load, load_run_config, set_threads
from charlm.model.network import CharacterModel, begin_with_frequencies, parameter_count, take_over
from charlm.store.lock import hold_lock
from charlm.store.run_folder import RunFolder
from charlm.store.tensors import check_weights
from charlm.system.allocator import keep_freed_memory
from charlm.text.corpus import Corpus
from charlm.text.vocabulary import Vocabulary, listed
from charlm.training.restore import parts_of
from charlm.training.signals import catch_signals
from charlm.training.trainer import Metrics, Observer, StepReport

_MEASURE_SECONDS = 1.5


class _Silent:
    """An observer that says nothing."""

    def on_step(self, report: StepReport) -> None:
        pass

    def on_evaluation(self, metrics: Metrics, sample: str, is_best: bool) -> None:
        pass

    def on_note(self, note: str) -> None:
        pass


def train(
    config: PathLike | Mapping[str, Any] | Config | None = None,
    *,
    corpus: PathLike | Sequence[PathLike] | None = None,
    budget: str | None = None,
    out: PathLike | None = None,
    resume: bool = False,
    from_run: PathLike | None = None,
    device: str | None = None,
    threads: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    observer: Observer | None = None,
) -> LanguageModel:
    """Trains a model and returns the best one by validation loss.

    Args:
        config: a YAML file, the same as dictionaries, or a `Config`; None: chosen by the text, the budget and the
            machine (see `recipe`), and `corpus` is needed.
        corpus: replaces `corpus.path`.
        budget: replaces `training.budget`.
        out: the run folder; None: `runs/` and the name of the configuration or corpus.
        resume: go on with the run in `out`; what is not given is as it was.
        from_run: begin with the best weights of this run. Characters are matched one by one, new ones get new rows;
            without `config` the run's own is taken, and `corpus` is needed.
        device: replaces `training.device`.
        threads: CPU threads; None leaves torch's choice, or with `resume` what the run had.
        overrides: further values by dotted key.
        observer: hears of steps and evaluations.

    Raises:
        ConfigError: the configuration is not valid.
        CorpusError: the corpus cannot be read or is too small.
        InputError: `out` already holds a run and `resume` is not given, or another training writes there.
        RunError: nothing to resume, or the run is damaged or does not match the configuration or corpus; or
            `from_run` is no run, or of another cell or size.
        TrainingError: the loss is not finite or a file cannot be written; what was saved is whole.
        Interrupted: a signal stopped it; the work is saved.
    """
    set_threads(threads)
    observer = observer or _Silent()
    if resume and from_run is not None:
        raise InputError("--resume goes on with a run and --from begins a new one: give one of the two")
    if from_run is not None and config is None and corpus is None:
        raise InputError(f"--from {from_run}: name the new text with --corpus, or a configuration")
    trained = None if from_run is None else load(from_run, device="cpu")
    with ExitStack() as held:
        last = None
        base = trained.config if trained is not None and config is None else config
        known = () if trained is None else trained.vocabulary.characters
        if resume:
            folder = RunFolder(Path(out) if out is not None else _folder_meant(config, corpus))
            if folder.last.exists():
                held.enter_context(_lock(folder, observer))
            last = folder.load_last()
            began = _began_with(folder, last[1])
            if config is None:
                base = began.config
                if not _shows(folder, began.config):
                    observer.on_note(
                        f"{folder.config}: changed since training wrote it; the run goes on with what it had, and "
                        "--set changes that"
                    )
            known = began.known
            if threads is None:  # sums round otherwise with another number
                set_threads(min(began.threads, os.cpu_count() or 1))
        settings = resolve_config(base, corpus=corpus, budget=budget, device=device, overrides=overrides)
        if last is None:
            folder = RunFolder(Path(out) if out is not None else default_out(config, settings))
            _refuse_a_run(folder)
        else:
            _check_settings(folder, began.config, settings)
        if trained is not None:
            _check_trained(trained, settings)
        keep_freed_memory()
        torch_device = build_device(settings.training.device)
        data = build_corpus(settings, known)
        if last is not None:
            _check_corpus(folder, began.corpus, data)
        if config is None and last is None and trained is None:
            settings, data = _by_recipe(settings, overrides or {}, data, torch_device, observer)
        for note in data.notes:
            observer.on_note(note)
        vocabulary = data.vocabulary
        held.enter_context(torch.random.fork_rng(devices=[torch_device] if torch_device.type == "cuda" else []))
        torch.manual_seed(settings.training.seed)
        if last is not None:  # before memory is taken for what a stranger's configuration asks for
            with torch.device("meta"):
                shapes = build_model(settings.model, len(vocabulary))
            check_weights(shapes, parts_of(last[0])["model"], folder.last)
        model = _first_model(settings, vocabulary, torch_device, trained)
        if trained is not None:
            observer.on_note(_compared(trained, vocabulary))
        ngram = build_ngram(settings, data)
        trainer = build_trainer(settings, data, model, folder, known, ngram)
        if last is not None:
            trainer.resume(*last)
            folder.check_model(model)
            if settings != began.config:
                trainer.save()
        else:
            folder.make()
            held.enter_context(_lock(folder, observer))
            _refuse_a_run(folder)  # another training may have begun and ended here meanwhile
            trainer.save()
        # The checkpoint, which remembers the settings, comes before the file that shows them: where that stands
        # there is something to go on from.
        folder.create(to_yaml(settings), vocabulary.to_json())
        if ngram is not None:
            folder.save_ngram(ngram)
        with catch_signals() as requests:
            trainer.run(observer, requests)
        folder.load_model(model)
    return LanguageModel(model, vocabulary, settings, folder.path)


def _by_recipe(
    settings: Config, given: Mapping[str, Any], data: Corpus, device: torch.device, observer: Observer
) -> tuple[Config, Corpus]:
    """Chooses what nobody has set, and says what and why; a smaller validation split makes another corpus."""
    unit, amount = parse_amount(settings.training.budget)
    if unit == "seconds" and "corpus.validation" not in given:
        share = validation_share(settings.corpus.validation, data.train.characters, amount)
        if share < settings.corpus.validation:
            settings = load_config(settings.model_dump(), {"corpus.validation": share})
            data = build_corpus(settings)
    recipe = build_recipe(settings, given, data, device)
    for reason in recipe.reasons:
        observer.on_note(reason)
    return load_config(settings.model_dump(), recipe.settings), data


def _first_model(
    settings: Config, vocabulary: Vocabulary, device: torch.device, trained: LanguageModel | None
) -> CharacterModel:
    """Returns the model before its first step: random weights and the frequencies, or the trained weights."""
    model = build_model(settings.model, len(vocabulary), build_backend(settings, len(vocabulary), device))
    if trained is None:
        begin_with_frequencies(model, vocabulary.unigram_log_probs)
    else:
        ids = {symbol: i for i, symbol in enumerate(trained.vocabulary.symbols)}
        take_over(model, trained.model, [ids.get(symbol) for symbol in vocabulary.symbols])
    return model.to(device)


@contextmanager
def _lock(folder: RunFolder, observer: Observer) -> Iterator[None]:
    with hold_lock(folder.lock) as locked:
        if not locked:
            observer.on_note(f"{folder.path}: this file system has no locks: let no other training write there")
        yield


def _refuse_a_run(folder: RunFolder) -> None:
    if folder.holds_run:
        raise InputError(
            f"{folder.path}: already holds a run; go on with it by --resume, or name another folder by --out"
        )


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


# ------------------------------------------------------------------------------------- going on with a run

# What may change when a run goes on: when it ends, what it shows and keeps, where it computes, and where the text
# lies, which must itself be the same.
_MAY_CHANGE = (
    "corpus.path",
    "training.budget",
    "training.evaluate_every",
    "training.early_stopping",
    "training.keep",
    "training.device",
    "sampling.",
)


@dataclass(frozen=True)
class _Began:
    """What a run began with, as its checkpoint remembers it."""

    config: Config
    corpus: str
    known: tuple[str, ...]
    threads: int


def _began_with(folder: RunFolder, info: Mapping[str, Any]) -> _Began:
    try:
        identity = info["identity"]
        config, known, threads = load_config(dict(identity["config"])), identity["known"], identity["threads"]
        if not isinstance(known, str) or len(set(known)) < len(known):
            raise ValueError("known holds something else than characters, each once")
        if type(threads) is not int or threads < 1:
            raise ValueError(f"threads is {str(threads)[:50]}")
        return _Began(config, str(identity["corpus"]), tuple(known), threads)
    except (ConfigError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{folder.last}: damaged checkpoint ({type(error).__name__}: {str(error)[:500]})") from None


def _folder_meant(
    config: PathLike | Mapping[str, Any] | Config | None, corpus: PathLike | Sequence[PathLike] | None
) -> Path:
    if config is None and corpus is None:
        raise InputError("to resume, name the run folder with --out")
    return default_out(config, resolve_config(config, corpus=corpus))


def _shows(folder: RunFolder, config: Config) -> bool:
    """Whether config.yaml says the same; what it leaves out, as another version's file may, has its default."""
    with suppress(RunError):
        return load_run_config(folder) == config
    return False


def _check_settings(folder: RunFolder, old: Config, new: Config) -> None:
    """Checks that a run may go on with these settings.

    Raises:
        RunError: a setting differs that must not.
    """
    before, now = _flat(old), _flat(new)
    differing = [key for key in now if now[key] != before[key] and not key.startswith(_MAY_CHANGE)]
    if differing:
        lines = "".join(f"\n  {key}: {before[key]!r} in the run, {now[key]!r} now" for key in differing)
        raise RunError(f"{folder.path}: cannot go on with another configuration:{lines}")


def _flat(config: Config) -> dict[str, Any]:
    dump = config.model_dump()
    return {f"{section}.{key}": value for section, keys in dump.items() for key, value in keys.items()}


def _check_corpus(folder: RunFolder, key: str, corpus: Corpus) -> None:
    """Checks that a run may go on with this text.

    Raises:
        RunError: it is not the text of before; the message says what differs, as far as the run remembers.
    """
    if corpus.key == key:
        return
    lines = []
    with suppress(RunError):
        old = Vocabulary.from_json(folder.read_text(folder.vocabulary))
        new = corpus.vocabulary
        sizes = sum(old.counts), sum(new.counts)
        if sizes[0] != sizes[1]:
            lines.append(f"{sizes[0]:,} characters to learn from in the run, {sizes[1]:,} now")
        for what, here, there in (("new", new, old), ("gone", old, new)):
            if characters := [c for c in here.symbols if c not in there.symbols]:
                lines.append(f"{len(characters):,} {what}: {listed(characters)}")
    raise RunError(
        f"{folder.path}: the corpus is not the one this run was trained on; bring that one back, or begin a new "
        "run with its weights by --from" + "".join(f"\n  {line}" for line in lines)
    )


# ----------------------------------------------------------------------------- beginning with a trained model


_NO_WEIGHTS = ("dropout", "recurrent_dropout", "ngram", "forget_bias", "recurrent_init")


def _check_trained(trained: LanguageModel, settings: Config) -> None:
    """Checks that the weights of a trained model fit into the one that these settings ask for.

    Raises:
        RunError: they do not; the message says what differs and how to ask for what the run has.
    """
    there, here = trained.config.model, settings.model
    keys = [key for key in type(there).model_fields if key not in _NO_WEIGHTS]
    differing = [f"model.{key}" for key in keys if getattr(there, key) != getattr(here, key)]
    if trained.vocabulary.level != settings.corpus.level:
        differing.append("corpus.level")
    if differing:
        before, now = _flat(trained.config), _flat(settings)
        lines = "".join(f"\n  {key}: {before[key]!r} in the run, {now[key]!r} now" for key in differing)
        options = " ".join(f"--set {key}={json.dumps(before[key]).strip(chr(34))}" for key in differing)
        raise RunError(
            f"{trained.folder}: its weights do not fit another model:{lines}\ntake the run's by {options}"
        )


def _compared(trained: LanguageModel, vocabulary: Vocabulary) -> str:
    """Says which characters are new to a trained model, and which of its own the new text does not use."""
    old = trained.vocabulary
    new = [symbol for symbol in vocabulary.symbols if symbol not in old.symbols]
    counts = dict(zip(vocabulary.symbols, vocabulary.counts, strict=True))
    unused = [symbol for symbol in old.characters if not counts[symbol]]
    note = f"from {trained.folder}: {len(old.characters) - len(unused):,} characters known"
    if vocabulary.level == "byte":
        return note.replace("characters", "bytes")
    for what, characters in (("new", new), ("no longer used", unused)):
        note += f"; {len(characters):,} {what}" + (f": {listed(characters)}" if characters else "")
    return note


# ----------------------------------------------------------------------------------------- before training


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
        device = build_device(config.training.device)
        backend = build_backend(config, len(vocabulary), device)
        model = build_model(config.model, len(vocabulary), backend).to(device)
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
