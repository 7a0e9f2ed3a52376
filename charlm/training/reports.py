"""What training tells: metrics of each evaluation, a report of each step, and the observer who hears of both."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from charlm.errors import RunError
from charlm.store.run_folder import RunFolder


@dataclass(frozen=True)
class Metrics:
    """One line of metrics.jsonl.

    Attributes:
        step: number of optimiser steps so far.
        characters: number of characters read by training so far.
        epoch: number of passes over the training text so far.
        seconds: time in seconds so far, including evaluations.
        train_loss: mean loss on the training text since the previous evaluation, in nats per character.
        validation_loss: mean loss on the whole validation split, in nats per character. None without a split.
        bits_per_character: the validation loss, or without one the training loss, in bits.
        learning_rate: the learning rate of this step.
        gradient_norm: the norm of the gradient in the last step, before clipping.
        characters_per_second: speed of training since the previous evaluation, without the time of evaluations.
    """

    step: int
    characters: int
    epoch: float
    seconds: float
    train_loss: float
    validation_loss: float | None
    bits_per_character: float
    learning_rate: float
    gradient_norm: float
    characters_per_second: float


@dataclass(frozen=True)
class StepReport:
    """What a progress line shows after a step.

    Attributes:
        step: optimiser steps so far.
        fraction: of the budget spent, 0 to 1.
        epoch: passes over the training text so far.
        train_loss: nats per character since the last evaluation.
        learning_rate: of this step.
        gradient_norm: before clipping.
        characters_per_second: of training since the last evaluation.
        seconds_left: expected.
    """

    step: int
    fraction: float
    epoch: float
    train_loss: float
    learning_rate: float
    gradient_norm: float
    characters_per_second: float
    seconds_left: float


class Observer(Protocol):
    """Hears what happens in training."""

    def on_step(self, report: StepReport) -> None:
        """A step was made."""

    def on_evaluation(self, metrics: Metrics, sample: str, is_best: bool) -> None:
        """The model was evaluated and saved, and wrote `sample`."""

    def on_note(self, note: str) -> None:
        """Something a person should know: how the corpus was read, or that a signal's wish was met."""


def load_metrics(run: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Reads the training curve of a run: the rows of metrics.jsonl.

    Raises:
        RunError: the run is missing, or a row lacks a field of `Metrics` or has something else than a number there.
    """
    folder = RunFolder(Path(run))
    rows = folder.read_metrics()
    for number, row in enumerate(rows, 1):
        for field in dataclasses.fields(Metrics):
            if not _is_number(row.get(field.name, ""), or_null=field.name == "validation_loss"):
                raise RunError(f"{folder.metrics}, line {number}: {field.name} is missing or not a number")
    return rows


def read_samples(run: str | os.PathLike[str]) -> list[tuple[int, str]]:
    """Reads what a run wrote at its evaluations: the step, and the text.

    Raises:
        RunError: the run is missing, or what it wrote cannot be read.
    """
    return find_samples(RunFolder(Path(run)).read_samples(), [row["step"] for row in load_metrics(run)])


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


def _is_number(value: Any, or_null: bool) -> bool:
    if value is None:
        return or_null
    return type(value) in (int, float) and abs(value) < 1e300  # a bool is an int to isinstance
