"""How a model learnt: its evaluations, what it wrote at each, and the references that give its loss a meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from charlm.analysis.characters import beginning_of
from charlm.analysis.held_out import HeldOut, bounded, read_held_out
from charlm.language_model import LanguageModel
from charlm.scoring.evaluation import evaluate_baseline
from charlm.text.corpus import Split
from charlm.training.reports import load_metrics, read_samples

MOST_SAMPLES = 100  # spread over the training, the first and the last among them
_MOST_SAMPLE_CHARACTERS = 2000
_MOST_COUNTED_SYMBOLS = 1 << 22  # of the training text, for n-grams that the mixture lacks: 3 seconds


@dataclass(frozen=True)
class Reference:
    """A loss to hold others against.

    Attributes:
        name: of what predicts.
        nats: per character of the held-out text.
        meaning: how to read it, in one sentence.
    """

    name: str
    nats: float
    meaning: str


@dataclass(frozen=True)
class Learning:
    """How a model learnt.

    Attributes:
        evaluations: the rows of metrics.jsonl, see `training.reports.Metrics`.
        samples: of at most 100 evaluations, the step and what the model wrote, at most 2,000 characters.
        references: on the held-out text, the dearest first.
    """

    evaluations: list[dict[str, Any]]
    samples: list[tuple[int, str]]
    references: list[Reference]


def read_learning(
    lm: LanguageModel, held_out: Split | None, training: Split | None = None, reading: HeldOut | None = None
) -> Learning:
    """Reads how a model learnt, and measures what its loss can be held against.

    Args:
        lm: the model.
        held_out: encoded by its vocabulary; of a long text a part is read, the same that `read_held_out` reads;
            None: there is none, and so there are no references.
        training: the text it was trained on, for n-grams if the model has none mixed in; None: without them.
        reading: what `read_held_out` gave for the model and the held-out text; None: it is read here.

    Raises:
        RunError: metrics.jsonl or samples.txt is damaged.
        InputError: the held-out text is empty.
    """
    references = [] if held_out is None else measure_references(lm, held_out, training, reading)
    return Learning(load_metrics(lm.folder), _spread(read_samples(lm.folder)), references)


def measure_references(
    lm: LanguageModel, held_out: Split, training: Split | None, reading: HeldOut | None = None
) -> list[Reference]:
    """Measures what the loss of a model can be held against, all on the same text; see `read_learning`."""
    vocabulary = lm.vocabulary
    split = bounded(vocabulary, held_out)
    reading = reading or read_held_out(lm, held_out, None, "")
    alone = dict(zip(reading.experts, reading.expert_nats, strict=True))
    unigram = -float(vocabulary.unigram_log_probs[split.ids].sum()) / split.characters
    what = "byte" if vocabulary.level == "byte" else "character"
    found = [
        Reference(
            "unigram",
            unigram,
            f"Predicts each {what} by its frequency in the training text, without any context.",
        )
    ]
    if len(alone) == 1 and training is not None and len(training.ids):
        counted = beginning_of(vocabulary, training, _MOST_COUNTED_SYMBOLS)
        part = "" if counted is training else f" (its first {counted.characters:,} characters)"
        meaning = (
            f"A Kneser-Ney n-gram model counted from the same training text{part}; a network should be better."
        )
        found.append(Reference("n-grams", evaluate_baseline(vocabulary, counted, split), meaning))
    elif "ngram" in alone:
        meaning = "The n-grams of the mixture, without the network."
        found.append(Reference("n-grams", alone["ngram"], meaning))
    meaning = "The network alone, with its best weights."
    found.append(Reference("network", alone["network"], meaning))
    if len(alone) > 1:
        meaning = "The network and the models that are mixed with it. `charlm eval`, `score` and `sample` use it."
        found.append(Reference("mixture", reading.nats, meaning))
    return sorted(found, key=lambda reference: -reference.nats)


def _spread(samples: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Returns some of many samples, from all of the training, and the beginnings of long ones."""
    chosen = np.unique(np.linspace(0, len(samples) - 1, min(len(samples), MOST_SAMPLES)).astype(int))
    return [(step, sample[:_MOST_SAMPLE_CHARACTERS]) for step, sample in (samples[i] for i in chosen.tolist())]
