"""What every export holds of a model: its network, how text becomes symbols, and how good the network is alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.analysis.held_out import bounded
from charlm.config import ModelConfig
from charlm.errors import CorpusError, InputError
from charlm.experts.mixture import Mixture
from charlm.language_model import LanguageModel
from charlm.scoring.evaluation import evaluate
from charlm.training.reports import load_metrics

CELLS = ("rnn", "lstm", "gru", "gru-before")  # those that other runtimes have, or are given


@dataclass(frozen=True)
class Figures:
    """How good a model is on the validation split of its run, in nats per character.

    Attributes:
        network: of the network alone, as it is exported; None: not known.
        mixture: of the whole model; None: not known, or the network is the whole model.
        text: what they were measured on.
        missing: why `network` is not known; empty if it is.
    """

    network: float | None
    mixture: float | None
    text: str
    missing: str = ""


def exported_config(lm: LanguageModel) -> ModelConfig:
    """Returns the `model` section of a network that can be exported.

    Raises:
        InputError: its cell is one that no other runtime has.
    """
    config = lm.config.model
    if config.cell not in CELLS:
        raise InputError(
            f"{lm.folder}: no other runtime has the cell {config.cell!r}; {', '.join(CELLS)} can be exported"
        )
    return config


def exported_weights(lm: LanguageModel) -> dict[str, NDArray[np.float32]]:
    """Returns the weights of the network in float32, by the names that `model.network` gives them."""
    return {name: np.asarray(value, np.float32) for name, value in lm.mixture.network.arrays().items()}


def describe_text(lm: LanguageModel) -> dict[str, Any]:
    """Returns what a reader in another language has to know of text and symbols, as JSON takes it.

    The keys are explained in docs/explanation/export.md.
    """
    vocabulary = lm.vocabulary
    return {
        "level": vocabulary.level,
        "framing": vocabulary.framing,
        "normalization": vocabulary.normalization,
        "lowercase": vocabulary.lowercase,
        "symbols": None if vocabulary.level == "byte" else list(vocabulary.symbols),
        "boundary": vocabulary.boundary_id,
        "ends_sentences": vocabulary.ends_sentences,
        "unknown": vocabulary.unknown_id,
        "unseen_characters": vocabulary.unseen_characters,
    }


def measure_figures(lm: LanguageModel, note: Callable[[str], None] = lambda message: None) -> Figures:
    """Finds out how good the network of a model is alone.

    Where it is the whole model, that stands in metrics.jsonl. In a mixture, the validation split is read again, by
    the network at power one and by the mixture.

    Args:
        lm: the model.
        note: is told what is about to be done, if it takes long, and what is wrong with the corpus.

    Raises:
        RunError: metrics.jsonl is damaged.
    """
    losses = [row["validation_loss"] for row in load_metrics(lm.folder)]
    best = min((loss for loss in losses if loss is not None), default=None)
    if len(lm.mixture.experts) == 1:
        missing = "" if best is not None else "the run has no validation split"
        return Figures(best, None, "the validation split", missing)
    try:
        held_out = lm.corpus().validation
    except CorpusError as error:
        note(str(error))
        missing = "the run's corpus is gone, or has changed since the training"  # others read this: no paths
        return Figures(None, best, "the validation split", missing)
    if not held_out.characters:
        return Figures(None, None, "the validation split", "the run has no validation split")
    split = bounded(lm.vocabulary, held_out)
    text = "the validation split"
    if split is not held_out:
        text += f" ({split.characters:,} of {held_out.characters:,} characters)"
    note(f"measuring the network alone on {text}")
    network, mixture = (
        evaluate(each, lm.vocabulary, split).nats_per_character
        for each in (Mixture(lm.mixture.network), lm.mixture)
    )
    return Figures(network, mixture, text)
