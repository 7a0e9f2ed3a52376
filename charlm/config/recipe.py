"""The recipe: chooses a configuration for a text and a budget.

The numbers below were fitted to the runs of `dev/recipe_sweep.py`; `dev/LOG.md` records them. In short,
with C the characters that the budget buys, N the characters of the training text and H the hidden size:

- An LSTM of one layer: of the cells it learns most in the same time, and width pays more than depth.
- H² ∝ C, eight characters for each recurrent weight; but H² ≤ 0.4 N, no more weights than the text can fill.
- Thousands of different characters: an embedding, and an output matrix of rank 3/8 H. A full matrix would cost more
  than all the rest.
- Dropout, of the state and of the recurrent weights, by the number of epochs C / N; the learning rate by H.
- Weight decay 0.1, of all matrices but the one that symbols are looked up in: on tiny Shakespeare 0.02 nats less
  for the network alone, and half of that for the mixture.
- An n-gram model in the mixture, of order 9, or 7 for thousands of characters; up to 12 where a text repeats itself
  so often that it takes no more than six bytes a character. A million characters are counted in a second.
- Word contexts in the mixture, where words are parted by spaces.
- Samples at temperature 0.85, where as many of the words exist as in held-out text; at 0.8 a model uses too few
  different words, at 1 too few of them exist. Cutting the unlikely off (top-p) does no better at the same share.
- Two networks of other seeds, which make other mistakes, where each of them can read 3 million characters and the
  text 3.5 times: in the same time they do better than one. At most 30 epochs, since a small text is known by heart
  after that: from there on two networks as well, three or four where each of them can have 30 epochs. The rest of
  the budget is left unused.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from charlm.config.schema import describe_mixture
from charlm.system.counts import count_of

SIZES = (64, 96, 128, 192, 256, 320, 384, 448, 512, 640, 768, 1024, 1280, 1536, 2048)

_CHARACTERS_PER_RECURRENT_WEIGHT = 8.0  # of the budget
_MAX_SQUARED_SIZE_PER_CHARACTER = 0.4  # of the training text
_MAX_EPOCHS = 30.0  # of each network
_MOST_NETWORKS = 4
_EPOCHS_FOR_TWO, _CHARACTERS_FOR_TWO = 7.0, 6e6
_LARGE_VOCABULARY_SYMBOLS = 512  # above this, factored input and output matrices are cheaper than full ones
_NGRAM_ORDER = 9  # in the mixture; higher ones gain next to nothing on plays, and double the file
_NGRAM_ORDER_LARGE_VOCABULARY = 7
LONGEST_NGRAM_ORDER = 12  # of a text that repeats itself, as code and the Bible do
_NGRAM_BYTES = 3  # of each distinct n-gram in the file
_MOST_NGRAM_BYTES_PER_CHARACTER = 6
_LEAST_BLANKS = 0.05  # share of a text, from which on its words are parted by them; English prose has 0.18
_DROPOUT_FROM_EPOCHS = 2.0
_DROPOUT_PER_DOUBLING = 0.05  # of the epochs
_DROPOUT_PER_DOUBLING_LARGE_VOCABULARY = 0.1
_RECURRENT_DROPOUT_FROM_EPOCHS = 6.0
_RECURRENT_DROPOUT_PER_DOUBLING = 0.13
_WEIGHT_DECAY = 0.1  # of matrices; the table of the input has none
_EMBEDDING_SIZE = 64
_TEMPERATURE = 0.85
_WHY_TEMPERATURE = "where samples look most like held-out text"
_VALIDATION_CHARACTERS_PER_SECOND = 5000  # of the budget; one evaluation then takes about 2% of it
_MIN_VALIDATION_CHARACTERS = 20_000
_MAX_EVALUATION_SHARE = 0.06  # of the budget, for all evaluations together
_EVALUATION_SPEEDUP = 2.5  # over training


@dataclass(frozen=True)
class TextProperties:
    """The properties of a text on which the recipe depends.

    Attributes:
        characters: N, the characters of the training split.
        held_out: the characters of the validation split.
        symbols: V, the size of the vocabulary.
        line_length: mean characters of a line and its end in lines framing; None in stream framing.
        blanks: the share of the characters that are spaces, or blank otherwise, but for the ends of lines.
        ngrams_per_character: how many distinct n-grams of 1, 2, … symbols there are for each character that is
            counted, as far as that is known.
    """

    characters: int
    held_out: int
    symbols: int
    line_length: float | None
    blanks: float
    ngrams_per_character: Sequence[float] = ()


@dataclass(frozen=True)
class Recipe:
    """The chosen configuration.

    Attributes:
        settings: values by dotted key.
        reasons: lines that explain the choice.
    """

    settings: Mapping[str, Any]
    reasons: list[str]


def validation_share(share: float, characters: int, seconds: float) -> float:
    """Returns the share of a text to hold out, at most `share`, so that evaluations take little of the budget."""
    most = max(_VALIDATION_CHARACTERS_PER_SECOND * seconds, _MIN_VALIDATION_CHARACTERS)
    largest = most / max(characters, 1)
    return share if largest >= share else min(share, float(f"{largest:.1g}"))


def window(text: TextProperties, processes: int = 1) -> dict[str, int]:
    """Returns batch size and sequence length: about a thousand characters a step, shared evenly by processes."""
    if text.line_length is None:
        shape = {"training.batch_size": 16, "training.sequence_length": 64}
    else:
        lines = 2 ** round(math.log2(1024 / text.line_length))
        shape = {"training.batch_size": min(max(lines, 16), 128), "training.sequence_length": 64}
    # A tiny text must still give a few windows: no more lines than it has, no streams of fewer than 8 symbols.
    most = max(1, int(text.characters / max(8, text.line_length or 0)))
    return {**shape, "training.batch_size": -(-min(shape["training.batch_size"], most) // processes) * processes}


def choose(
    text: TextProperties,
    given: Mapping[str, Any],
    budget: tuple[str, float],
    speed: Callable[[Mapping[str, Any]], float],
    *,
    processes: int = 1,
) -> Recipe:
    """Chooses a configuration.

    Args:
        text: the properties of the text.
        given: the settings of the user, by dotted key; they are kept, and the rest is chosen to go with them.
        budget: unit and amount, as `parse_amount` returns them.
        speed: measures how many characters per second training with these settings reads.
        processes: how many share each batch.
    """
    N = text.characters
    large_vocabulary = text.symbols > _LARGE_VOCABULARY_SYMBOLS
    settings: dict[str, Any] = {
        **window(text, processes),
        "model.ngram": _NGRAM_ORDER_LARGE_VOCABULARY
        if large_vocabulary
        else ngram_order(text.ngrams_per_character),
        # Who wants no n-grams wants the network alone.
        "model.words": text.blanks >= _LEAST_BLANKS and given.get("model.ngram", _NGRAM_ORDER) is not None,
        "sampling.temperature": _TEMPERATURE,
        **given,
    }
    batch, length = settings["training.batch_size"], settings["training.sequence_length"]

    def settings_of_size(hidden: int) -> dict[str, Any]:
        factors = {"model.embedding_size": _EMBEDDING_SIZE, "model.output_rank": output_rank(hidden)}
        return {**(factors if large_vocabulary else {}), **settings, "model.hidden_size": hidden}

    def affordable(hidden: int) -> tuple[float, float]:
        """Returns the characters that the budget buys at this size, and the speed in characters per second."""
        unit, amount = budget
        rate = speed(settings_of_size(hidden))
        bought = {"seconds": rate * amount, "epochs": N * amount, "steps": amount * batch * length}
        return bought.get(unit, amount), rate

    sizes = [size for size in SIZES if size == SIZES[0] or size * size <= _MAX_SQUARED_SIZE_PER_CHARACTER * N]
    if "model.hidden_size" in given:
        sizes = [given["model.hidden_size"]]
    # A larger model is slower and buys less, so somewhere a size buys what suits it: each one below buys enough for
    # a larger one, each one above only enough for a smaller one.
    tried = dict[int, tuple[float, float]]()
    low, high = 0, len(sizes) - 1
    place = min(range(len(sizes)), key=lambda i: abs(sizes[i] - 256))
    while low <= high:
        tried[place] = affordable(sizes[place])
        wanted = math.sqrt(tried[place][0] / _CHARACTERS_PER_RECURRENT_WEIGHT / 4)
        nearest = min(range(len(sizes)), key=lambda i: abs(math.log(sizes[i] / wanted)))
        if nearest == place:
            break
        low, high = (place + 1, high) if nearest > place else (low, place - 1)
        place = min(max(nearest, low), high)
    hidden, (characters, rate) = sizes[place], tried[place]
    epochs = characters / N
    reasons = [
        f"text: {count_of(N, 'character')} to train on"
        + ("" if text.line_length is None else f" in lines of {text.line_length:.0f}")
        + f", {count_of(text.symbols, 'symbol')}",
        f"speed: {rate:,.0f} characters per second",
        f"budget: {characters / 1e6:,.1f}M characters, {epochs:,.1f} epochs",
    ]
    # Who wants no n-grams wants one network alone; several processes train one together.
    several = budget[0] == "seconds" and processes == 1 and settings["model.ngram"] is not None
    networks = number_of_networks(epochs, characters) if several else 1
    settings["model.networks"] = networks = given.get("model.networks", networks)
    epochs /= networks
    if epochs > _MAX_EPOCHS and budget[0] == "seconds":
        budget = ("seconds", float(max(1, round(budget[1] * _MAX_EPOCHS / epochs))))
        each = " of each network" if networks > 1 else ""
        reasons.append(f"budget: cut to {budget[1]:.0f}s; more than {_MAX_EPOCHS:.0f} epochs{each} would not help")
        settings["training.budget"], epochs = f"{budget[1]:.0f}s", _MAX_EPOCHS
    if budget[0] == "seconds":
        # What one evaluation of all networks takes of the time of the last one.
        share = networks**2 * text.held_out / (_EVALUATION_SPEEDUP * rate * budget[1])
        most = math.floor(_MAX_EVALUATION_SHARE / max(share, 1e-9))
        least = 2 if share <= _MAX_EVALUATION_SHARE else 1
        settings["training.evaluate_every"] = f"{100 / min(10, max(least, most)):.3g}%"
    per_doubling = _DROPOUT_PER_DOUBLING_LARGE_VOCABULARY if large_vocabulary else _DROPOUT_PER_DOUBLING
    settings = {
        **settings_of_size(hidden),
        "model.dropout": dropout(epochs / _DROPOUT_FROM_EPOCHS, per_doubling),
        "model.recurrent_dropout": dropout(
            epochs / _RECURRENT_DROPOUT_FROM_EPOCHS, _RECURRENT_DROPOUT_PER_DOUBLING
        ),
        "training.learning_rate": learning_rate(hidden),
        "training.weight_decay": _WEIGHT_DECAY,
        **given,
    }
    if "model.hidden_size" in given:
        why = "as set"
    elif hidden == sizes[-1]:
        why = "the largest for this text"
    else:
        why = "fits the budget"
    cell = str(settings.get("model.cell", "lstm")).upper()
    factored = f", output rank {rank}" if (rank := settings.get("model.output_rank")) else ""
    beside = describe_mixture(settings["model.ngram"], settings["model.words"], networks)
    mixed = [f"mixture: with {beside}"] if beside else []
    reasons += [
        f"model: {cell}, hidden size {hidden} ({why}){factored}",
        *mixed,
        f"training: batch size {batch}, sequence length {length}, "
        f"learning rate {settings['training.learning_rate']:g}",
        f"dropout: {settings['model.dropout']:g}, recurrent {settings['model.recurrent_dropout']:g}; "
        f"weight decay {settings['training.weight_decay']:g}",
        *(
            []
            if "sampling.temperature" in given
            else [f"sampling: temperature {_TEMPERATURE:g}, {_WHY_TEMPERATURE}"]
        ),
    ]
    return Recipe({key: value for key, value in settings.items() if key not in given}, reasons)


def ngram_order(ngrams_per_character: Sequence[float]) -> int:
    """Returns the longest order from 9 to 12 whose file takes at most six bytes a character; 9 may take more."""
    sizes = itertools.accumulate(_NGRAM_BYTES * ngrams for ngrams in ngrams_per_character)
    fits = [order for order, size in enumerate(sizes, 1) if size <= _MOST_NGRAM_BYTES_PER_CHARACTER]
    return min(max(_NGRAM_ORDER, *fits, 0), LONGEST_NGRAM_ORDER)


def number_of_networks(epochs: float, characters: float) -> int:
    """Returns how many networks share so many epochs, and characters to read."""
    two = epochs >= _MAX_EPOCHS or (epochs >= _EPOCHS_FOR_TWO and characters >= _CHARACTERS_FOR_TWO)
    return min(max(2 if two else 1, int(epochs / _MAX_EPOCHS)), _MOST_NETWORKS)


def output_rank(hidden: int) -> int:
    """Returns the rank of the output matrix for thousands of characters: 3/8 of the hidden size, in steps of 32."""
    return max(32, 32 * round(hidden * 3 / 8 / 32))


def dropout(epochs_ratio: float, per_doubling: float) -> float:
    """Returns the dropout for this ratio of the epochs to those up to which none is needed."""
    return round(min(0.5, max(0.0, per_doubling * math.log2(max(epochs_ratio, 1e-9)))), 2)


def learning_rate(hidden: int) -> float:
    """Returns the peak learning rate for AdamW."""
    return float(f"{12e-3 * math.sqrt(384 / hidden):.2g}")
