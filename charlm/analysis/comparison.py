"""Models side by side: which trainings a comparison is made of, what became of each, and where two models differ.

`plan_trainings` gives each cell, and each seed, a configuration and a run folder; who runs them is left to the
caller. `measure_run` reads what a run folder holds, however it was trained. Nothing here prints.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charlm.analysis.gradients import FEWEST_LAGS, LAGS, PLACES, find_places, held_out, measure
from charlm.config import MAX_HIDDEN_SIZE, Config, ModelConfig, flatten, list_changes, load_config
from charlm.errors import ConfigError, CorpusError, InputError, RunError
from charlm.experts.torch_network import copy_for_torch
from charlm.language_model import LanguageModel
from charlm.model.inference import weight_shapes
from charlm.store.run_folder import RunFolder, write_atomically
from charlm.store.trained import load_run_config
from charlm.system.shell import quote_path
from charlm.system.untrusted import parse_json, read_regular
from charlm.text.corpus import load_corpus, named_paths
from charlm.text.reading import STDIN
from charlm.training.reports import load_metrics

_MAX_MEMORY_FILE_BYTES = 1000
_WHERE_TEXT_LIES = ("path", "encoding", "strict")  # keys of the corpus that do not say which text it is


# ------------------------------------------------------------------------------------------ what is to be trained


@dataclass(frozen=True)
class PlannedTraining:
    """One training of a comparison.

    Attributes:
        name: CELL, or with several seeds CELL-SEED; that of its folder.
        config: what it is trained with.
        folder: the run folder.
    """

    name: str
    config: Config
    folder: RunFolder


def parameter_count(vocabulary_size: int, config: ModelConfig) -> int:
    """Returns the number of weights of a network over V symbols."""
    return sum(map(math.prod, weight_shapes(vocabulary_size, config).values()))


def match_hidden_size(vocabulary_size: int, config: ModelConfig, parameters: int) -> int:
    """Returns the hidden size at which a network has the number of parameters that is nearest to the given one.

    Args:
        vocabulary_size: V.
        config: its cell and everything but its hidden size.
        parameters: the number to come near; of two sizes that are equally near, the smaller is taken.
    """

    def count(hidden_size: int) -> int:
        return parameter_count(vocabulary_size, config.model_copy(update={"hidden_size": hidden_size}))

    low, high = 1, MAX_HIDDEN_SIZE  # the first size with at least as many lies here, or none has
    while low < high:
        middle = (low + high) // 2
        if count(middle) < parameters:
            low = middle + 1
        else:
            high = middle
    return min((size for size in (low - 1, low) if size), key=lambda size: abs(count(size) - parameters))


def plan_trainings(
    config: Config, cells: Sequence[str], folder: Path, *, seeds: int = 1, match_parameters: bool = False
) -> list[PlannedTraining]:
    """Plans the training of each cell on the same corpus, split, seeds and budget; each seed has all cells in turn.

    Args:
        config: what the trainings share.
        cells: their names, in the order of the comparison.
        folder: below which the run folders lie.
        seeds: how many trainings of each cell, with the seed of the configuration and those after it.
        match_parameters: whether each cell gets the hidden size whose number of parameters is nearest to that of
            the configuration's own cell; otherwise all have the same hidden size.

    Raises:
        ConfigError: there is no such cell.
        InputError: a cell is named twice, or the text can be read only once.
    """
    known = ModelConfig.model_json_schema()["properties"]["cell"]["enum"]
    for cell in cells:
        if cell not in known:
            raise ConfigError(f"--cells: there is no cell {cell!r}; the cells are {', '.join(known)}")
    if len(set(cells)) < len(cells):
        raise InputError(f"--cells {','.join(cells)}: name each cell once")
    if STDIN in named_paths(config.corpus):
        raise InputError(
            "each training reads the corpus again, so standard input cannot be used; save it to a file and name "
            "that"
        )
    sizes = dict.fromkeys(cells, config.model.hidden_size)
    if match_parameters:
        V = len(load_corpus(config.corpus).vocabulary)
        parameters = parameter_count(V, config.model)
        models = {cell: config.model.model_copy(update={"cell": cell}) for cell in cells}
        sizes = {cell: match_hidden_size(V, model, parameters) for cell, model in models.items()}
    planned = []
    for seed in range(config.training.seed, config.training.seed + seeds):
        for cell, size in sizes.items():
            changes = {"model.cell": cell, "model.hidden_size": size, "training.seed": seed}
            name = cell if seeds == 1 else f"{cell}-{seed}"
            settings = load_config(config.model_dump(), changes)
            planned.append(PlannedTraining(name, settings, RunFolder(folder / name)))
    return planned


def check_unchanged(planned: PlannedTraining) -> None:
    """Checks that what a folder holds, if there is a run, was trained with the settings that are planned.

    A run that is complete could otherwise go on to a larger budget, and would be compared with those that had it
    from the beginning.

    Raises:
        RunError: a setting differs, or the folder's configuration cannot be read.
    """
    folder = planned.folder
    if not folder.config.exists():
        return
    there, asked = flatten(load_run_config(folder)), flatten(planned.config)
    if asked["corpus.framing"] == "auto":
        there["corpus.framing"] = "auto"  # the run has what was found
    differing = [key for key in asked if asked[key] != there[key]]
    if differing:
        lines = list_changes(there, asked, differing)
        raise RunError(
            f"{folder.path}: this run was trained with other settings:{lines}\nname another folder with --out, or "
            f"remove {quote_path(folder.path)} to train it again"
        )


# ------------------------------------------------------------------------------------------- what became of a run


def record_memory(folder: RunFolder, memory_bytes: int) -> None:
    """Writes into a run folder that its training is complete, and the most memory that its process has held."""
    write_atomically(_memory_file(folder), (json.dumps({"peak_memory_bytes": memory_bytes}) + "\n").encode())


def read_memory(folder: RunFolder) -> int | None:
    """Returns what `record_memory` wrote; None if it has not.

    Raises:
        RunError: it is damaged.
    """
    try:
        number = parse_json(read_regular(_memory_file(folder), _MAX_MEMORY_FILE_BYTES).decode())[
            "peak_memory_bytes"
        ]
        if type(number) is not int or not 0 <= number < 1 << 60:
            raise ValueError("it is not a number of bytes")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{_memory_file(folder)}: damaged: {error}; remove it to continue without it") from None
    return number


def _memory_file(folder: RunFolder) -> Path:
    return folder.path / "memory.json"


@dataclass(frozen=True)
class CurvePoint:
    """The losses of one evaluation during training.

    Attributes:
        characters: number of characters read by training so far.
        seconds: time in seconds so far, including evaluations.
        train_loss: mean loss on the training text since the previous evaluation, in nats per character.
        validation_loss: mean loss on the whole validation split, in nats per character. None without a split.
    """

    characters: int
    seconds: float
    train_loss: float
    validation_loss: float | None


@dataclass(frozen=True)
class RunResult:
    """The result of one run.

    Attributes:
        run: the run folder.
        cell: the recurrent cell.
        hidden_size: number of units in each layer (H).
        num_layers: number of layers (L).
        parameters: number of weights of the network, without the models that are mixed with it.
        seed: the seed of the training.
        characters: number of characters read by training.
        characters_per_second: speed of training over the whole run, without the time of evaluations.
        peak_memory_bytes: the largest memory of the process. None if it was not measured.
        seconds: time in seconds, including evaluations.
        nats_per_character: the best validation loss, in nats. None without a validation split.
        bits_per_character: the same loss in bits.
        half_life: number of characters after which the gradient of the loss by the state of the top layer has
            halved. If it is negative, the gradient has doubled. None if the gradient keeps its size, or if it
            cannot be measured: without a validation split, if that is too short, or if the corpus is missing.
        continuation: what the model writes after the prompt.
        curve: the evaluations during training.
    """

    run: str
    cell: str
    hidden_size: int
    num_layers: int
    parameters: int
    seed: int
    characters: int
    characters_per_second: float
    peak_memory_bytes: int | None
    seconds: float
    nats_per_character: float | None
    bits_per_character: float | None
    half_life: float | None
    continuation: str
    curve: tuple[CurvePoint, ...]


def measure_run(lm: LanguageModel, *, prompt: str = "", length: int | None = None) -> RunResult:
    """Reads what became of a run.

    Args:
        lm: its model.
        prompt: what it is to go on from, always with the same random numbers.
        length: how many characters it writes; None: as its configuration says.

    Raises:
        InputError: the model cannot write the prompt.
        RunError: metrics.jsonl is damaged.
    """
    folder, model = RunFolder(lm.folder), lm.config.model
    rows = load_metrics(lm.folder)
    losses = [row["validation_loss"] for row in rows if row["validation_loss"] is not None]
    nats = min(losses, default=None)
    (text,) = lm.sample(1, prompt=prompt, seed=0, only_new=True, length=length)
    return RunResult(
        run=str(lm.folder),
        cell=model.cell,
        hidden_size=model.hidden_size,
        num_layers=model.num_layers,
        parameters=lm.mixture.parameters,
        seed=lm.config.training.seed,
        characters=rows[-1]["characters"] if rows else 0,
        characters_per_second=_mean_speed(rows),
        peak_memory_bytes=read_memory(folder),
        seconds=rows[-1]["seconds"] if rows else 0.0,
        nats_per_character=nats,
        bits_per_character=None if nats is None else nats / math.log(2),
        half_life=_half_life(lm),
        continuation=str(text),
        curve=tuple(CurvePoint(*(row[field] for field in CurvePoint.__dataclass_fields__)) for row in rows),
    )


def _half_life(lm: LanguageModel) -> float | None:
    try:
        places = find_places(lm.vocabulary, held_out(lm), LAGS, PLACES, "")
    except (InputError, CorpusError):
        return None
    lags = places.longest_lag(LAGS)
    if lags < FEWEST_LAGS:
        return None
    network, _ = copy_for_torch(lm.mixture)
    top = [each for each in measure(network, places, lags).states if each.state == "s"][-1]
    return top.half_life if math.isfinite(top.half_life) else None


def _mean_speed(rows: Sequence[dict[str, Any]]) -> float:
    """Returns characters over the seconds they took; each row has the speed since the row before."""
    characters = seconds = 0.0
    before = 0
    for row in rows:
        if row["characters_per_second"] > 0:
            characters += row["characters"] - before
            seconds += (row["characters"] - before) / row["characters_per_second"]
        before = row["characters"]
    return characters / seconds if seconds > 0 else 0.0


@dataclass(frozen=True)
class Row:
    """One line of a comparison: a run, or the mean of several runs that differ only in their seeds.

    Attributes:
        name: the name of the cell or run.
        cell: the recurrent cell.
        hidden_size: number of units in each layer (H).
        parameters: number of weights of the network.
        characters_per_second: mean speed of training.
        peak_memory_bytes: the largest memory of one of the runs. None unless it was measured for each.
        seconds: mean time in seconds.
        nats_per_character: mean of the best validation losses, in nats. None if one run has none.
        nats_spread: the sample standard deviation of these losses. None for a single run.
        bits_per_character: the mean loss in bits.
        half_life: mean half-life of the gradient, in characters. None if one run has none.
        runs: the results of the runs.
    """

    name: str
    cell: str
    hidden_size: int
    parameters: int
    characters_per_second: float
    peak_memory_bytes: int | None
    seconds: float
    nats_per_character: float | None
    nats_spread: float | None
    bits_per_character: float | None
    half_life: float | None
    runs: tuple[RunResult, ...]


def summarize(name: str, runs: Sequence[RunResult]) -> Row:
    """Makes one line of a comparison of runs that differ in their seeds alone."""
    first = runs[0]
    nats = [run.nats_per_character for run in runs if run.nats_per_character is not None]
    memory = [run.peak_memory_bytes for run in runs if run.peak_memory_bytes is not None]
    half_lives = [run.half_life for run in runs if run.half_life is not None]
    mean = statistics.fmean(nats) if len(nats) == len(runs) else None
    return Row(
        name=name,
        cell=first.cell,
        hidden_size=first.hidden_size,
        parameters=first.parameters,
        characters_per_second=statistics.fmean(run.characters_per_second for run in runs),
        peak_memory_bytes=max(memory) if len(memory) == len(runs) else None,
        seconds=statistics.fmean(run.seconds for run in runs),
        nats_per_character=mean,
        nats_spread=statistics.stdev(nats) if mean is not None and len(nats) > 1 else None,
        bits_per_character=None if mean is None else mean / math.log(2),
        half_life=statistics.fmean(half_lives) if len(half_lives) == len(runs) else None,
        runs=tuple(runs),
    )


def find_unlike(models: Iterable[LanguageModel]) -> list[str]:
    """Says which models were trained on or validated with another text than the first, so that losses mislead."""
    first, *others = models
    remarks = []
    for other in others:
        ours, theirs = first.config.corpus.model_dump(), other.config.corpus.model_dump()
        reasons = [
            f"corpus.{key} is {ours[key]!r} in one and {theirs[key]!r} in the other"
            for key in ours
            if key not in _WHERE_TEXT_LIES and ours[key] != theirs[key]
        ]
        if not reasons and _counts(first) != _counts(other):
            reasons = ["the training texts or their splits differ"]
        if reasons:
            remarks.append(
                f"{first.folder} and {other.folder}: the validation losses cannot be compared, because "
                f"{', and '.join(reasons)}"
            )
    return remarks


def _counts(lm: LanguageModel) -> dict[str, int]:
    return dict(zip(lm.vocabulary.symbols, lm.vocabulary.counts, strict=True))
