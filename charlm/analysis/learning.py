"""How a model learnt: its evaluations, what it wrote at each, and the references that give its loss a meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from charlm.analysis.characters import beginning_of
from charlm.analysis.held_out import HeldOut, bounded, read_held_out
from charlm.errors import RunError
from charlm.language_model import LanguageModel
from charlm.scoring.evaluation import evaluate_baseline
from charlm.store.run_folder import RunFolder
from charlm.system.untrusted import read_regular
from charlm.text.corpus import Split
from charlm.training.reports import load_metrics

MOST_SAMPLES = 100  # spread over the training, the first and the last among them
_MOST_SAMPLE_CHARACTERS = 2000
_MOST_SAMPLES_BYTES = 1 << 26  # of samples.txt
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
    lm: LanguageModel, held_out: Split, training: Split | None = None, reading: HeldOut | None = None
) -> Learning:
    """Reads how a model learnt, and measures what its loss can be held against.

    Args:
        lm: the model.
        held_out: encoded by its vocabulary; of a long text a part is read, the same that `read_held_out` reads.
        training: the text it was trained on, for n-grams if the model has none mixed in; None: without them.
        reading: what `read_held_out` gave for the model and the held-out text; None: it is read here.

    Raises:
        RunError: metrics.jsonl or samples.txt is damaged.
        InputError: the held-out text is empty.
    """
    evaluations = load_metrics(lm.folder)
    samples = _read_samples(RunFolder(lm.folder), [row["step"] for row in evaluations])
    return Learning(evaluations, samples, measure_references(lm, held_out, training, reading))


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
            f"Knows how frequent each {what} is in the training text, and nothing of what stands before it.",
        )
    ]
    if len(alone) == 1 and training is not None and len(training.ids):
        counted = beginning_of(vocabulary, training, _MOST_COUNTED_SYMBOLS)
        part = "" if counted is training else f" (its first {counted.characters:,} characters)"
        meaning = f"A Kneser-Ney n-gram model counted from the same training text{part}; a network should beat it."
        found.append(Reference("n-grams", evaluate_baseline(vocabulary, counted, split), meaning))
    elif "ngram" in alone:
        meaning = "The n-grams of the mixture without the network: what counting alone gives."
        found.append(Reference("n-grams", alone["ngram"], meaning))
    meaning = "The network by itself, with its best weights."
    found.append(Reference("network", alone["network"], meaning))
    if len(alone) > 1:
        meaning = "Network and n-grams together, as `charlm eval` measures them and as the model writes and scores."
        found.append(Reference("mixture", reading.nats, meaning))
    return sorted(found, key=lambda reference: -reference.nats)


def _read_samples(folder: RunFolder, steps: list[int]) -> list[tuple[int, str]]:
    """Reads what the model wrote at these steps, or at some of them; none if there is no such file.

    Raises:
        RunError: the file cannot be read, or is larger than any that is shown.
    """
    try:
        text = read_regular(folder.samples, _MOST_SAMPLES_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise RunError(f"{folder.samples}: cannot be read: {error}") from None
    samples = find_samples(text, steps)
    chosen = np.unique(np.linspace(0, len(samples) - 1, min(len(samples), MOST_SAMPLES)).astype(int))
    return [(step, sample[:_MOST_SAMPLE_CHARACTERS]) for step, sample in (samples[i] for i in chosen.tolist())]


def find_samples(text: str, steps: list[int]) -> list[tuple[int, str]]:
    """Finds the entries of samples.txt that belong to these steps, in their order.

    A model may write what looks like the head of an entry; only the head of the next step counts as one.
    """
    text = f"\n\n{text}"
    spans: list[tuple[int, int, int]] = []  # of each head: its step, where it begins and where it ends
    at = 0
    for step in steps:
        head = f"\n\n--- step {step}\n"
        if (begin := text.find(head, at)) >= 0:
            at = begin + len(head)
            spans.append((step, begin, at))
    ends = [begin for _, begin, _ in spans[1:]] + [len(text.removesuffix("\n\n"))]
    return [(step, text[start:end]) for (step, _, start), end in zip(spans, ends, strict=False)]
