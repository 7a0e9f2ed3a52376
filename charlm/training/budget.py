"""When training ends, and how far it has come: a budget in seconds, epochs, steps or characters."""

from __future__ import annotations

from dataclasses import dataclass, replace

from charlm.config import TrainingConfig, parse_amount
from charlm.text.corpus import Split


@dataclass
class Progress:
    """How much has been done, and the cursor into the corpus: all integers and seconds that a resume needs.

    Attributes:
        step: optimiser steps.
        symbols: symbols learnt from, padding not counted.
        epoch: the epoch the next window belongs to.
        window: the next window's number in it.
        seconds: since the start, evaluations included.
        training_seconds: the same without evaluations, so that slow ones leave time to train between them.
        evaluation_seconds: what the last evaluation took.
        best_loss: the lowest validation loss so far.
        stale: evaluations since then.
    """

    step: int = 0
    symbols: int = 0
    epoch: int = 0
    window: int = 0
    seconds: float = 0.0
    training_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    best_loss: float = float("inf")
    stale: int = 0


@dataclass(frozen=True)
class Amount:
    """An amount of training in one unit: a budget, or the interval between evaluations.

    Attributes:
        unit: `seconds`, `training_seconds`, `epochs`, `steps` or `characters`.
        amount: how many.
        symbols_per_epoch: the length of the training text.
        characters_per_symbol: 1, but for the byte level.
    """

    unit: str
    amount: float
    symbols_per_epoch: int
    characters_per_symbol: float = 1.0

    @classmethod
    def parse(cls, text: str, train: Split) -> Amount:
        """Reads an amount as the configuration writes it, of training on a split."""
        unit, amount = parse_amount(text)
        return cls(unit, amount, len(train.ids), train.characters / len(train.ids))

    def times_spent(self, progress: Progress, reserved_seconds: float = 0.0) -> float:
        """Returns how often the amount fits into what has been done; a budget is used up at 1.

        Args:
            progress: what has been done.
            reserved_seconds: what the last evaluation will take, so that a budget of time includes it.
        """
        if self.unit == "seconds":
            return progress.seconds / max(self.amount - reserved_seconds, 1e-9)
        spent = {
            "training_seconds": progress.training_seconds,
            "epochs": progress.symbols / self.symbols_per_epoch,
            "steps": progress.step,
            "characters": progress.symbols * self.characters_per_symbol,
        }[self.unit]
        return spent / self.amount

    def expected_seconds(self, characters_per_second: float, windows_per_epoch: int) -> float:
        """Returns how long the amount lasts at a speed, evaluations left aside."""
        one = Progress(symbols=self.symbols_per_epoch, step=windows_per_epoch)
        one.seconds = one.symbols * self.characters_per_symbol / characters_per_second
        return one.seconds / self.times_spent(one)


def read_amounts(config: TrainingConfig, train: Split) -> tuple[Amount, Amount]:
    """Returns the budget and the interval between evaluations."""
    budget, interval = Amount.parse(config.budget, train), Amount.parse(config.evaluate_every, train)
    if interval.unit == "percent":
        interval = replace(budget, amount=budget.amount * interval.amount / 100)
    if interval.unit == "seconds":
        interval = replace(interval, unit="training_seconds")
    return budget, interval
