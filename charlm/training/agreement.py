"""What must agree before a run goes on, or a network takes the weights of another; what differs, in words."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from charlm.config import Config, flatten, list_changes, load_config
from charlm.errors import ConfigError, RunError
from charlm.model.exchange import as_arrays
from charlm.model.network import CharacterModel, plan_layers
from charlm.store.checkpoint import split_parts
from charlm.store.run_folder import RunFolder
from charlm.store.tensors import Array, check_weights
from charlm.store.trained import TrainedModel
from charlm.system.counts import count_of
from charlm.system.threads import MAX_THREADS
from charlm.text.characters import name_characters
from charlm.text.corpus import Corpus
from charlm.text.vocabulary import Vocabulary
from charlm.training.lanes import MOST_GROUPS


@dataclass(frozen=True)
class Checkpoint:
    """Where a training stands, and what it began with.

    Attributes:
        tensors: see `store.checkpoint`.
        info: counters.
        config: the configuration.
        corpus_key: of the text.
        known: characters that the vocabulary began with: those of a model it went on from.
        threads: of the CPU; None: the sums of the run do not depend on them.
        lane_groups: into which the lanes are divided, see `lanes`; None: the run was never shared by processes.
    """

    tensors: dict[str, Array]
    info: dict[str, Any]
    config: Config
    corpus_key: str
    known: tuple[str, ...]
    threads: int | None
    lane_groups: int | None


def read_checkpoint(folder: RunFolder) -> Checkpoint:
    """Reads where a training stands.

    Raises:
        RunError: there is none, or it is damaged.
    """
    tensors, info = folder.load_last()
    try:
        identity = info["identity"]
        config, known = load_config(dict(identity["config"])), identity["known"]
        threads, groups = identity.get("threads"), identity.get("lane_groups")
        if not isinstance(known, str) or len(set(known)) < len(known):
            raise ValueError("known is not a string of different characters")
        if config.corpus.framing == "auto":
            raise ValueError("corpus.framing is 'auto', although the run has begun")
        for name, number, most in (("threads", threads, MAX_THREADS), ("lane_groups", groups, MOST_GROUPS)):
            if number is not None and (type(number) is not int or not 1 <= number <= most):
                raise ValueError(f"{name} is {str(number)[:50]}")
        if (threads is None) == (groups is None):
            raise ValueError("exactly one of threads and lane_groups must be there")
        return Checkpoint(tensors, info, config, str(identity["corpus"]), tuple(known), threads, groups)
    except (ConfigError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{folder.last}: damaged checkpoint ({type(error).__name__}: {str(error)[:500]})") from None


def settle_framing(config: Config, framing: str) -> Config:
    """Puts the framing that was found, or that a run has, in the place of `auto`."""
    if config.corpus.framing != "auto":
        return config
    return load_config(config.model_dump(), {"corpus.framing": framing})


def check_network(
    folder: RunFolder, checkpoint: Checkpoint, config: Config, vocabulary_size: int, device: torch.device
) -> None:
    """Checks that the weights of a checkpoint fit, before memory is taken for what its configuration asks for.

    Raises:
        RunError: they do not.
    """
    plan = plan_layers(vocabulary_size, config.model, device)
    with torch.device("meta"):
        shapes = CharacterModel(vocabulary_size, config.model, plan)
    check_weights(split_parts(checkpoint.tensors)["model"], as_arrays(shapes.state_dict()), folder.last)


# What may change when a run goes on: when it ends, what it shows and keeps, where it computes, and where and how
# the text lies, which must itself be the same.
_MAY_CHANGE = (
    "corpus.path",
    "corpus.encoding",
    "corpus.strict",
    "training.budget",
    "training.evaluate_every",
    "training.early_stopping",
    "training.keep",
    "training.log",
    "training.device",
    "sampling.",
)


_HELD_OUT_FILES = ("corpus.validation", "corpus.test")  # may lie elsewhere too; a share is no file


def _may_change(key: str, before: Any, now: Any) -> bool:
    files = key in _HELD_OUT_FILES and isinstance(before, str) and isinstance(now, str)
    return files or key.startswith(_MAY_CHANGE)


def check_settings(folder: RunFolder, old: Config, new: Config) -> None:
    """Checks that a run may go on with these settings.

    Raises:
        RunError: a setting differs that must not.
    """
    before, now = flatten(old), flatten(new)
    differing = [key for key in now if now[key] != before[key] and not _may_change(key, before[key], now[key])]
    if differing:
        lines = list_changes(before, now, differing)
        raise RunError(
            f"{folder.path}: this run cannot continue with other settings; leave them as they were, or start a new "
            f"run:{lines}"
        )


def check_corpus(folder: RunFolder, key: str, corpus: Corpus) -> None:
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
            lines.append(f"the run was trained on {count_of(sizes[0], 'character')}, now there are {sizes[1]:,}")
        for what, here, there in (("new", new, old), ("missing", old, new)):
            if characters := [c for c in here.symbols if c not in there.symbols]:
                lines.append(f"{len(characters):,} {what}: {name_characters(characters)}")
    raise RunError(
        f"{folder.path}: the corpus is not the one that this run was trained on; restore that one, or start a new "
        "run from these weights with --from" + "".join(f"\n  {line}" for line in lines)
    )


# Keys of `model` on which no weight of a network depends.
_NO_WEIGHTS = ("dropout", "recurrent_dropout", "ngram", "words", "networks")


def check_transfer(trained: TrainedModel, config: Config) -> None:
    """Checks that the weights of a trained model fit into the one that a configuration asks for.

    Raises:
        RunError: they do not; the message says what differs and how to ask for what the run has.
    """
    there, here = trained.config.model, config.model
    keys = [key for key in type(there).model_fields if key not in _NO_WEIGHTS]
    differing = [f"model.{key}" for key in keys if getattr(there, key) != getattr(here, key)]
    if trained.vocabulary.level != config.corpus.level:
        differing.append("corpus.level")
    if differing:
        before, now = flatten(trained.config), flatten(config)
        lines = list_changes(before, now, differing)
        options = " ".join(f"--set {key}={json.dumps(before[key]).strip(chr(34))}" for key in differing)
        raise RunError(
            f"{trained.folder}: its weights do not fit the model that you ask for:{lines}\n"
            f"to use the settings of the run, add {options}"
        )


def compare_vocabularies(trained: TrainedModel, vocabulary: Vocabulary) -> str:
    """Says which characters are new to a trained model, and which of its own the new text does not use."""
    old = trained.vocabulary
    new = [symbol for symbol in vocabulary.symbols if symbol not in old.symbols]
    counts = dict(zip(vocabulary.symbols, vocabulary.counts, strict=True))
    unused = [symbol for symbol in old.characters if not counts[symbol]]
    note = f"from {trained.folder}: {count_of(len(old.characters) - len(unused), 'character')} known"
    if vocabulary.level == "byte":
        return note.replace("characters", "bytes")
    for what, characters in (("new", new), ("no longer used", unused)):
        note += f"; {len(characters):,} {what}" + (f": {name_characters(characters)}" if characters else "")
    return note
