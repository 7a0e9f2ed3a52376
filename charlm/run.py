"""The public API of training: put a run together, start it or go on with it, or look at it beforehand."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch

from charlm import kernels
from charlm.cells.plan import Plan
from charlm.config import Config, load_config, to_yaml
from charlm.errors import ConfigError, InputError, Interrupted, RunError
from charlm.experts.networks import FurtherNetworks
from charlm.language_model import LanguageModel, PathLike, load
from charlm.model.network import parameter_count
from charlm.notebook import NotebookProgress, in_notebook
from charlm.scoring.memory import fit_memory
from charlm.store.lock import hold_lock
from charlm.store.run_folder import RunFolder
from charlm.store.trained import TrainedModel, load_run_config
from charlm.system.allocator import keep_freed_memory
from charlm.system.arguments import check_path, each_of
from charlm.system.devices import find_device
from charlm.system.distributed import Ranks, is_restarted, join_ranks
from charlm.system.portable import peak_memory_bytes
from charlm.system.shell import quote_path
from charlm.system.threads import set_threads
from charlm.text.corpus import load_corpus, named_paths
from charlm.text.reading import refuse_special_files
from charlm.training import job
from charlm.training.agreement import read_checkpoint
from charlm.training.budget import read_amounts
from charlm.training.choice import MOST_COUNTED_SYMBOLS, Note, divide, make_network, measure_training
from charlm.training.forecast import Measured
from charlm.training.log import check_log, log_evaluations
from charlm.training.remarks import remarks, unknown_share
from charlm.training.reports import Metrics, Observer, StepReport
from charlm.training.room import check_room
from charlm.training.signals import Requests, catch_signals
from charlm.training.step import make_batches
from charlm.training.together import measure_together, serve

MEASURE_SECONDS = 1.5


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
    """Trains a model and returns the weights that had the lowest validation loss.

    Args:
        config: The configuration: a YAML file, `config:NAME`, a dictionary of sections, or a `Config`. If it is
            None, `corpus` is required, and the settings are chosen for the text, the budget and the machine.
        corpus: The text to train on. It replaces `corpus.path`.
        budget: How long to train. It replaces `training.budget`.
        out: The run folder. If it is None, it is `runs/` and the name of the configuration or the corpus.
        resume: Whether to continue the run in `out`. Settings that you do not give stay as they were.
        from_run: A run whose best weights are the starting point. Characters that both vocabularies have keep their
            weights, and new characters get new ones. Without `config` the configuration of that run is used, and
            `corpus` is required.
        device: The device to compute on. It replaces `training.device`.
        threads: The number of CPU threads. If it is None, torch chooses it, or with `resume` it stays as it was.
        overrides: Further settings by dotted key, such as `{"model.hidden_size": 128}`.
        observer: An object that is called after each step and each evaluation. If it is None, a notebook shows the
            progress below the cell.

    If `torchrun` starts this function in several processes, they train one model together; see
    docs/explanation/scale.md. Rank 0 returns the model. The other processes end with `SystemExit` once it is
    complete. If torchrun restarts the processes after a failure, training continues from the last saved state.

    Raises:
        ConfigError: The configuration is not valid.
        CorpusError: The corpus cannot be read or is too small.
        InputError: `out` already contains a run and `resume` is not given, or another training writes to it, or the
            library that `training.log` names is not installed.
        RunError: There is no run to resume, or the run is damaged or does not match the configuration or the
            corpus, or `from_run` is not a run or has another cell or size.
        TrainingError: The loss is not finite, or a file cannot be written. What was saved before is intact.
        Interrupted: A signal stopped the training. The work so far is saved.
    """
    for name, path in (("config", config), ("out", out), ("from_run", from_run)):
        if path is not None and not (name == "config" and isinstance(path, (Mapping, Config))):
            check_path(path, name)
    changes: dict[str, Any] = {"corpus": corpus, "budget": budget, "device": device, "overrides": overrides}
    with ExitStack() as held:
        ranks = held.enter_context(join_ranks())
        ranks.set_threads(threads)
        if resume and from_run is not None:
            raise InputError("--resume continues a run and --from starts a new one; give only one of the two")
        if from_run is not None and config is None and corpus is None:
            raise InputError(
                f"--from {from_run}: give the new text with --corpus, or a configuration that names it"
            )
        if observer is None:
            observer = held.enter_context(NotebookProgress()) if in_notebook() else _Silent()
        requests = held.enter_context(catch_signals())
        held.enter_context(torch.random.fork_rng(devices=range(torch.cuda.device_count())))
        keep_freed_memory()
        if not ranks.leads:
            _follow(ranks, requests)
        made: list[job.TrainingJob] = []

        def prepare() -> dict[str, Any]:
            made.append(_prepare(config, changes, out, resume, from_run, threads, held, observer, ranks))
            return made[0].describe() if ranks.size > 1 else {}

        ranks.lead(prepare)
        (prepared,) = made
        prepared.share(ranks)
        folder, requests.begun = prepared.folder, True
        _train_further(prepared, observer, requests)
        kind, step = prepared.config.training.log, prepared.trainer.progress.step
        with log_evaluations(kind, folder, step, observer) as logging:
            prepared.trainer.run(logging, requests)
        ranks.lead(lambda: _finish(prepared))
    return LanguageModel(TrainedModel(prepared.mixture, prepared.corpus.vocabulary, prepared.config, folder.path))


def _follow(ranks: Ranks, requests: Requests) -> NoReturn:
    """Trains as one of the ranks beside rank 0, and ends this process when rank 0 has done all that comes after."""
    prepared = job.follow(serve(ranks), ranks)
    requests.begun = True
    prepared.trainer.run(_Silent(), requests)
    ranks.lead(lambda: None)
    raise SystemExit(0)


def _prepare(
    config: PathLike | Mapping[str, Any] | Config | None,
    changes: Mapping[str, Any],
    out: PathLike | None,
    resume: bool,
    from_run: PathLike | None,
    threads: int | None,
    held: ExitStack,
    observer: Observer,
    ranks: Ranks,
) -> job.TrainingJob:
    """Prepares a training up to its first step, with its folder locked and all files written that do not change."""
    overrides = changes["overrides"]
    if not resume and is_restarted():  # by the command that began the run, so that there is nothing to change
        folder = RunFolder(Path(out) if out is not None else _resumed_folder(config, changes["corpus"]))
        if folder.holds_run:
            observer.on_note(f"{folder.path}: torchrun restarted this training; it continues from the last save")
            config, resume, out = None, True, folder.path
            changes = dict.fromkeys(changes)
    if resume:
        folder = RunFolder(Path(out) if out is not None else _resumed_folder(config, changes["corpus"]))
        prepared = _resume(folder, config, changes, threads, held, observer, ranks)
    else:
        if from_run is None:
            settings = resolve_config(config, **changes)
            check_log(settings.training.log)
            folder = _new_folder(out, config, settings)
            chosen = set(overrides or ()) if config is None else None
            prepared = job.begin(settings, folder, chosen=chosen, note=observer.on_note, ranks=ranks)
        else:
            trained = load(from_run, device="cpu").trained
            settings = resolve_config(trained.config if config is None else config, **changes)
            if settings.model.networks > 1:
                observer.on_note("networks: one, because --from starts from the network that the run trained last")
                settings = load_config(settings.model_dump(), {"model.networks": 1})
            check_log(settings.training.log)
            folder = _new_folder(out, config, settings)
            prepared = job.begin_with(trained, settings, folder, note=observer.on_note, ranks=ranks)
        folder.make()
        held.enter_context(_lock(folder, observer))
        _refuse_a_run(folder)  # another training may have begun and ended here meanwhile
        _check_room(prepared, observer)
        prepared.trainer.save()
    _note_missing_compiler(prepared.config, observer)
    # The checkpoint, which remembers the settings, comes before the file that shows them: where that stands
    # there is something to go on from.
    folder.create(to_yaml(prepared.config), prepared.corpus.vocabulary.to_json())
    for expert in prepared.mixture.others:
        if not isinstance(expert, FurtherNetworks):  # which are still to be trained
            folder.save_expert(expert)
    return prepared


def _train_further(prepared: job.TrainingJob, observer: Observer, requests: Requests) -> None:
    """Trains the networks of an ensemble but for the last, if they are not there yet, and stores them together.

    Each is a run by itself in a folder of the run, without n-grams, from a seed of its own; once all of them are
    stored, these folders are removed.
    """
    config, vocabulary, folder = prepared.config, prepared.corpus.vocabulary, prepared.folder
    further = next((expert for expert in prepared.mixture.others if isinstance(expert, FurtherNetworks)), None)
    if further is None:
        return
    parts, number = folder.path / further.name, config.model.networks
    if folder.expert_path(further.name).exists():
        stored = folder.load_expert(FurtherNetworks, config.model, len(vocabulary), vocabulary.boundary_id)
        assert isinstance(stored, FurtherNetworks)
        further.members = stored.members
    else:
        weights = []
        for k in range(1, number):
            part = RunFolder(parts / str(k))
            observer.on_note(f"network {k} of {number}: training {'continues' if part.last.exists() else 'begins'}")
            weights.append(_train_alone(prepared, part, config.training.seed + k, observer, requests))
        further.load(weights)
        folder.save_expert(further)
        observer.on_note(f"network {number} of {number}: training begins; the losses are those of all networks")
    shutil.rmtree(parts, ignore_errors=True)


def _train_alone(
    prepared: job.TrainingJob, folder: RunFolder, seed: int, observer: Observer, requests: Requests
) -> Mapping[str, Any]:
    """Trains a network on the text of a training, alone, or goes on with it; returns its best weights."""
    alone = {"model.networks": 1, "model.ngram": None, "model.words": False, "training.log": None}
    own = {"training.seed": seed, "training.budget": prepared.config.training_of_each.budget}
    config = load_config(prepared.config.model_dump(), alone | own)
    folder.make()
    with _lock(folder, observer), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        if folder.last.exists():
            checkpoint = read_checkpoint(folder)
            part = job.resume(
                checkpoint, config, folder, corpus=prepared.corpus, note=lambda note: None
            )  # said before
        else:
            part = job.begin(config, folder, corpus=prepared.corpus, note=observer.on_note)
            part.trainer.save()
        folder.create(to_yaml(config), prepared.corpus.vocabulary.to_json())
        try:
            part.trainer.run(observer, requests)
        except Interrupted as stop:
            raise Interrupted(
                stop.exit_code - 128, str(stop).replace(quote_path(folder.path), quote_path(prepared.folder.path))
            ) from None
        folder.load_model(part.mixture)
    return part.mixture.network.arrays()


def _finish(prepared: job.TrainingJob) -> None:
    """Loads the best weights, and finds the powers of a memory beside them."""
    prepared.folder.load_model(prepared.mixture)
    if prepared.corpus.validation.characters:
        fit_memory(prepared.mixture, prepared.corpus.vocabulary, prepared.corpus.validation)
        prepared.folder.save_model(prepared.mixture)


def _resume(
    folder: RunFolder,
    config: PathLike | Mapping[str, Any] | Config | None,
    changes: Mapping[str, Any],
    threads: int | None,
    held: ExitStack,
    observer: Observer,
    ranks: Ranks,
) -> job.TrainingJob:
    """Locks a run folder and prepares its training to go on; what is not given is as it was."""
    if folder.last.exists():
        held.enter_context(_lock(folder, observer))
    checkpoint = read_checkpoint(folder)
    if config is None and not _is_stored(folder, checkpoint.config):
        observer.on_note(
            f"{folder.config}: this file was changed after training wrote it; the run continues with its earlier "
            "settings; use --set to change them"
        )
    if threads is None and checkpoint.threads and not ranks.are_together:  # with others, sums round otherwise
        set_threads(min(checkpoint.threads, os.cpu_count() or 1))
    settings = resolve_config(checkpoint.config if config is None else config, **changes)
    check_log(settings.training.log)
    if config is None:  # then what is read is what the folder says, which someone else may have made
        said = named_paths(checkpoint.config.corpus)
        given = [] if changes["corpus"] is None else settings.corpus.path
        refuse_special_files(path for path in named_paths(settings.corpus) if path in said and path not in given)
    prepared = job.resume(checkpoint, settings, folder, note=observer.on_note, ranks=ranks)
    _check_room(prepared, observer)
    if settings != checkpoint.config:
        prepared.trainer.save()
    return prepared


def _new_folder(
    out: PathLike | None, config: PathLike | Mapping[str, Any] | Config | None, settings: Config
) -> RunFolder:
    folder = RunFolder(Path(out) if out is not None else default_out(config, settings))
    _refuse_a_run(folder)
    folder.check_writable()
    return folder


def _resumed_folder(
    config: PathLike | Mapping[str, Any] | Config | None, corpus: PathLike | Sequence[PathLike] | None
) -> Path:
    if config is None and corpus is None:
        raise InputError("--resume needs the run folder; name it with --out")
    return default_out(config, resolve_config(config, corpus=corpus))


def _note_missing_compiler(config: Config, observer: Observer) -> None:
    """Says what training loses where the kernels in C cannot be had."""
    on_cpu = find_device(config.training.device).type == "cpu"
    if config.training.kernel == "auto" and on_cpu and kernels.library() is None:
        problem = kernels.why_missing()
        observer.on_note(
            f"{problem}; training is slower without the compiled kernels, by about a tenth with an LSTM and by "
            "almost half with a GRU"
        )


def _describe_kernels(plan: Plan, device: torch.device) -> str:
    """Says what computes the layers, such as `compiled, in bfloat16; shipped with charlm, for x86-64-v4`."""
    used = f"{' and '.join(dict.fromkeys(plan.kernels))}, in {str(plan.dtype).removeprefix('torch.')}"
    return f"{used}; {kernels.describe()}" if device.type == "cpu" else used


def _check_room(prepared: job.TrainingJob, observer: Observer) -> None:
    keep = prepared.config.training.keep
    check_room(prepared.mixture, prepared.step, keep, prepared.folder, observer.on_note)


def _is_stored(folder: RunFolder, config: Config) -> bool:
    """Whether config.yaml says the same; what it leaves out, as another version's file may, has its default."""
    with suppress(RunError):
        return load_run_config(folder) == config
    return False


@contextmanager
def _lock(folder: RunFolder, observer: Observer) -> Iterator[None]:
    with hold_lock(folder.lock) as locked:
        if not locked:
            observer.on_note(
                f"{folder.path}: this file system cannot lock files; make sure that no other training writes here"
            )
        yield


def _refuse_a_run(folder: RunFolder) -> None:
    if folder.holds_run:
        raise InputError(
            f"{folder.path}: this folder already contains a run; continue it with --resume, or name another folder "
            "with --out"
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
    if not isinstance(overrides or {}, Mapping) or not all(isinstance(key, str) for key in overrides or ()):
        raise InputError("overrides must be a dictionary of values by dotted key, such as training.budget")
    changes = dict(overrides or {})
    if corpus is not None:
        one = isinstance(corpus, (str, os.PathLike))
        for path in [corpus] if one else each_of(corpus, "corpus"):
            check_path(path, "corpus")
        changes["corpus.path"] = os.fspath(corpus) if one else [os.fspath(path) for path in corpus]  # type: ignore[arg-type,union-attr]
    if budget is not None:
        changes["training.budget"] = budget
    if device is not None:
        changes["training.device"] = device
    if config is None and "corpus.path" not in changes:
        raise ConfigError("there is nothing to train on; name a configuration, or a text with --corpus")
    if isinstance(config, Config):
        config = config.model_dump()
    source = config if config is None or isinstance(config, Mapping) else Path(config)
    return load_config(source, changes)


def default_out(config: PathLike | Mapping[str, Any] | Config | None, settings: Config) -> Path:
    """Returns `runs/NAME`, NAME being that of the configuration file or else of the corpus."""
    if isinstance(config, (str, os.PathLike)):
        name = Path(str(config).removeprefix("config:")).stem
    else:
        path = settings.corpus.path
        first = path if isinstance(path, str) else path[0]
        name = Path(first.removeprefix("corpus:")).name.split(".")[0].strip("*-") or "run"
    return Path("runs") / name


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
        memory_bytes: the most memory that this process has held while taking steps of training; None where the
            system does not tell.
        kernels: what computes the recurrent layers, and in which precision.
        characters_per_second: measured over a second and a half of training.
        seconds: the expected length of the training.
        epochs: the expected number of passes.
        together: characters per second of all processes that torchrun has started; None: there is one.
        measured: what `training.forecast` computes from.
        notes: what a person should know about the corpus, as training says it.
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
    memory_bytes: int | None
    kernels: str
    characters_per_second: float
    seconds: float
    epochs: float
    together: float | None
    measured: Measured
    notes: list[str]


def preflight(
    config: Config, measure_seconds: float = MEASURE_SECONDS, *, note: Note = lambda text: None
) -> Preflight:
    """Looks at corpus, vocabulary, model, memory and time before any training.

    Args:
        config: the configuration.
        measure_seconds: for how long training is tried.
        note: is told how far the reading of a large corpus is.

    Started by `torchrun`, it also measures how fast all of its processes are together; those beside rank 0 end
    here, with `SystemExit`.

    Raises:
        ConfigError: the processes cannot share a batch evenly.
        CorpusError: the corpus cannot be read or is too small.
        InputError: no such device.
    """
    with join_ranks() as ranks:
        ranks.set_threads(None)
        keep_freed_memory()
        if not ranks.leads:
            serve(ranks)
            raise SystemExit(0)
        made: list[Preflight] = []

        def look() -> dict[str, Any]:
            made.append(_look(config, measure_seconds, ranks, note))
            return {}

        ranks.lead(look)
        return made[0]


def _look(config: Config, measure_seconds: float, ranks: Ranks, note: Note) -> Preflight:
    check_log(config.training.log)
    corpus = load_corpus(config.corpus, note=note)
    vocabulary, train = corpus.vocabulary, corpus.train
    device = find_device(config.training.device)
    divide(config, device, ranks)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        network = make_network(config, len(vocabulary), device)
        parameters = parameter_count(network)
        speed = measure_training(config, corpus, device, measure_seconds)
    windows = make_batches(corpus, config.training).windows_per_epoch
    budget, _ = read_amounts(config.training_of_each, train)
    symbols_per_step = len(train.ids) / windows
    together, step_seconds, sum_seconds = None, symbols_per_step * train.characters / len(train.ids) / speed, 0.0
    if ranks.size > 1:
        pace = measure_together(config, len(vocabulary), ranks, measure_seconds)
        step_seconds, sum_seconds = pace
        together = train.characters / windows / step_seconds
    fastest = together or speed
    seconds = budget.expected_seconds(fastest, windows)
    pairs = zip(vocabulary.symbols, vocabulary.counts, strict=True)
    memory = peak_memory_bytes()
    in_lines = vocabulary.framing == "lines"
    return Preflight(
        config=config,
        train_characters=train.characters,
        validation_characters=corpus.validation.characters,
        test_characters=corpus.test.characters,
        vocabulary_size=len(vocabulary),
        rare=[(char, n) for char, n in pairs if 0 < n <= 2],
        unknown_share=unknown_share(corpus),
        windows_per_epoch=windows,
        parameters=parameters,
        memory_bytes=memory,
        kernels=_describe_kernels(network.plan, device),
        characters_per_second=speed,
        seconds=config.model.networks * seconds,
        epochs=seconds * fastest / train.characters,
        together=together,
        measured=Measured(
            processes=ranks.size,
            step_seconds=step_seconds,
            sum_seconds=sum_seconds,
            symbols_per_step=symbols_per_step,
            symbols_per_byte=len(train.ids) / train.bytes,
            lines_per_byte=train.count(vocabulary.boundary_id) / train.bytes if in_lines else 0.0,
            id_bytes=train.ids.itemsize,
            parameters=parameters,
            memory_bytes=memory,
            counted_symbols=MOST_COUNTED_SYMBOLS if config.model.ngram else 0,
        ),
        notes=list(remarks(corpus)),
    )
