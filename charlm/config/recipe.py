"""The recipe: from a text and a time to a configuration.

The numbers below were fitted to the runs of `benchmarks/recipe_sweep.py`; `docs/recipes.md` tells how. In short,
with C the characters that the budget buys, N those of the training text and H the hidden units:

- an LSTM of one layer: of the cells it learns most in the same time, and width pays more than depth;
- H² ∝ C: eight characters for each recurrent weight; but no more weights than the text can fill, H² ≤ 0.4 N;
- thousands of characters: an embedding, and an output matrix of rank 3/8 H, which would cost more than all else;
- dropout, of the state and of the recurrent weights, by the passes C / N over the text; learning rate by H;
- an n-gram model of order 9 in the mixture, 7 for thousands of characters: counted in a second for each million;
- at most 30 passes: after that a small text is known by heart, and the rest of the time is given back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

SIZES = (64, 96, 128, 192, 256, 320, 384, 448, 512, 640, 768, 1024, 1280, 1536, 2048)

_CHARACTERS_PER_WEIGHT = 8.0
_LARGEST_FILL = 0.4
_MOST_PASSES = 30.0
_NGRAM = 9  # order; in the mixture longer ones still gain a little on prose, much on code, and double the file
_WIDE_NGRAM = 7  # with thousands of characters
_WIDE_VOCABULARY = 512  # symbols; with more, factored input and output matrices are cheaper than whole ones
_DROPPED_FROM, _DROPPED, _WIDE_DROPPED = 2.0, 0.05, 0.1  # passes, and the share of the state for each doubling
_WEIGHTS_DROPPED_FROM, _WEIGHTS_DROPPED = 4.0, 0.12
_EMBEDDING = 64  # the width of the input's
_VALIDATION_PER_SECOND = 5000  # characters of validation text for each second of budget: about 2% of the time each
_EVALUATION_SHARE = 0.06  # of the time, at most, for all evaluations together
_EVALUATION_SPEED = 2.5  # times the speed of training


@dataclass(frozen=True)
class Facts:
    """What the recipe needs to know of a text.

    Attributes:
        characters: N, of the training split.
        held_out: of the validation split.
        symbols: V.
        line_length: mean characters of a line and its end, in lines framing; None: stream framing.
    """

    characters: int
    held_out: int
    symbols: int
    line_length: float | None


@dataclass(frozen=True)
class Recipe:
    """What was chosen.

    Attributes:
        settings: values by dotted key.
        reasons: lines that say why.
    """

    settings: Mapping[str, Any]
    reasons: list[str]


def validation_share(share: float, characters: int, seconds: float) -> float:
    """Returns the share of a text to hold out, so that evaluating takes little of the budget."""
    largest = max(_VALIDATION_PER_SECOND * seconds, 20_000) / max(characters, 1)
    return share if largest >= share else float(f"{largest:.1g}")


def window(facts: Facts) -> dict[str, int]:
    """Returns batch size and sequence length: about a thousand characters a step."""
    if facts.line_length is None:
        shape = {"training.batch_size": 16, "training.sequence_length": 64}
    else:
        lines = 2 ** round(math.log2(1024 / facts.line_length))
        shape = {"training.batch_size": min(max(lines, 16), 128), "training.sequence_length": 64}
    # A tiny text still makes a few windows: no more lines than there are, no streams of under 8 symbols.
    most = max(1, int(facts.characters / max(8, facts.line_length or 0)))
    return {**shape, "training.batch_size": min(shape["training.batch_size"], most)}


def choose(
    facts: Facts,
    given: Mapping[str, Any],
    budget: tuple[str, float],
    speed: Callable[[Mapping[str, Any]], float],
) -> Recipe:
    """Chooses a configuration.

    Args:
        facts: about the text.
        given: what the user has set, by dotted key; it stays, and the rest is chosen to go with it.
        budget: unit and amount, as `parse_amount` has them.
        speed: measures a configuration, given by its values, in characters per second.
    """
    N = facts.characters
    wide = facts.symbols > _WIDE_VOCABULARY
    settings: dict[str, Any] = {**window(facts), "model.ngram": _WIDE_NGRAM if wide else _NGRAM}
    settings |= given
    batch, length = settings["training.batch_size"], settings["training.sequence_length"]

    def sized(hidden: int) -> dict[str, Any]:
        """The settings with layers of so many units."""
        factors = {"model.embedding_size": _EMBEDDING, "model.output_rank": output_rank(hidden)}
        return {**(factors if wide else {}), **settings, "model.hidden_size": hidden}

    def bought(hidden: int) -> tuple[float, float]:
        """The characters that the budget buys at this size, and the speed."""
        unit, amount = budget
        rate = speed(sized(hidden))
        return {"seconds": rate * amount, "epochs": N * amount, "steps": amount * batch * length}.get(
            unit, amount
        ), rate

    sizes = [size for size in SIZES if size == SIZES[0] or size * size <= _LARGEST_FILL * N]
    if "model.hidden_size" in given:
        sizes = [given["model.hidden_size"]]
    hidden, seen = min(sizes, key=lambda size: abs(size - 256)), dict[int, tuple[float, float]]()
    while hidden not in seen:  # a larger one buys less, so this walks to where they meet
        seen[hidden] = bought(hidden)
        wanted = math.sqrt(seen[hidden][0] / _CHARACTERS_PER_WEIGHT / 4)
        hidden = min(sizes, key=lambda size: abs(math.log(size / wanted)))
    characters, rate = seen[hidden]
    passes = characters / N
    reasons = [
        f"the text: {N:,} characters to learn from, {facts.symbols:,} symbols"
        + ("" if facts.line_length is None else f", {facts.line_length:.0f} a line"),
        f"the time: {rate:,.0f} characters a second, {characters / 1e6:,.1f}M in all, {passes:,.1f} passes",
    ]
    if passes > _MOST_PASSES and budget[0] == "seconds":
        seconds = max(1, round(budget[1] * _MOST_PASSES / passes))
        reasons.append(f"the budget: {seconds}s, since more than {_MOST_PASSES:.0f} passes teach nothing new")
        settings["training.budget"] = f"{seconds}s"
        passes, budget = _MOST_PASSES, ("seconds", float(seconds))
    if budget[0] == "seconds":
        each = facts.held_out / (_EVALUATION_SPEED * rate)
        count = min(10, max(2, math.floor(_EVALUATION_SHARE * budget[1] / max(each, 1e-9))))
        settings["training.evaluate_every"] = f"{100 / count:.3g}%"
    settings = {
        **sized(hidden),
        "model.dropout": dropout(passes / _DROPPED_FROM, _WIDE_DROPPED if wide else _DROPPED),
        "model.recurrent_dropout": dropout(passes / _WEIGHTS_DROPPED_FROM, _WEIGHTS_DROPPED),
        "training.learning_rate": learning_rate(hidden),
        **given,
    }
    limit = "as the text can fill" if hidden == sizes[-1] else "for the characters that the time buys"
    limit = "as you set it" if "model.hidden_size" in given else f"as many {limit}"
    factored = f", softmax of rank {rank}" if (rank := settings.get("model.output_rank")) else ""
    ngram = f", and {settings['model.ngram']}-grams" if settings["model.ngram"] else ""
    reasons += [
        f"the model: {hidden} units, {limit}{factored}{ngram}",
        f"the steps: {batch} x {length} characters, learning rate {settings['training.learning_rate']:g}; "
        f"dropout {settings['model.dropout']:g}, of recurrent weights {settings['model.recurrent_dropout']:g}",
    ]
    return Recipe({key: value for key, value in settings.items() if key not in given}, reasons)


def output_rank(hidden: int) -> int:
    """Returns the rank of the output matrix for thousands of characters: 3/8 of the units, in steps of 32."""
    return max(32, 32 * round(hidden * 3 / 8 / 32))


def dropout(times: float, per_doubling: float) -> float:
    """Returns the dropped share for so many times the passes that need none."""
    return round(min(0.5, max(0.0, per_doubling * math.log2(max(times, 1e-9)))), 2)


def learning_rate(hidden: int) -> float:
    """Returns the peak of the schedule for AdamW."""
    return float(f"{8e-3 * math.sqrt(384 / hidden):.2g}")
