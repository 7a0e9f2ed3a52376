"""Which units of a network stand for something? Searched for automatically, and judged on text not searched.

Features of a text are found by rules: what is inside quotes, how far into its line a place is, whether a word ends
here. For each, the unit of any layer is found whose state s_t, after a character has been read, best tells the
feature at that character:

    yes or no    the area under the ROC curve: how often the state is larger where the feature is on than where it
                 is off (or smaller: the direction is found in the search); ½ is chance, 1 never wrong
    a number     |Spearman's correlation|: that of the ranks

Of an LSTM the memory cell c_t is searched too: trained ones count there what their s_t shows only in part.

The search is in one half of the text and the figure is that of the other half. It says little alone: of hundreds of
random units some one follows anything that recurs, and much of a text shows in the last characters. So two controls
stand beside it, the same search in the untrained network, and what the last three characters alone predict.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from charlm.analysis.features import Feature, find_features
from charlm.analysis.gradients import input_product, layer_weights, untrained_network
from charlm.experts.torch_network import copy_for_torch
from charlm.language_model import LanguageModel
from charlm.model.network import CharacterModel
from charlm.system.threads import parallel_map
from charlm.text.batches import line_bounds
from charlm.text.corpus import Split
from charlm.text.plain import read_characters, separates_words
from charlm.text.vocabulary import Vocabulary, code_points

Floats = NDArray[np.floating[Any]]
Booleans = NDArray[np.bool_]

MARGIN = 0.05  # of an area, by which a unit must be better than each control
MOST_SYMBOLS = 100_000  # of the text, both halves
CONTEXT = 3  # characters, from which the control predicts
_MOST_PRODUCTS = 4e10  # of recurrent weights and symbols, for a network: seconds
_FEWEST_SYMBOLS = 20_000
_RANKED_PLACES = 1 << 14  # of the half searched, at which units are compared
_RANKED_UNITS = 256  # at once
_COUNTED_SYMBOLS = 1_000_000  # of the training text, for the control
_BACK_OFF = 2.0  # a context counts as if the shorter one had been seen so often in it
_ROWS = 40  # of the text, read side by side
_WARM_UP_SYMBOLS = 256  # read before a row's own
_FEWEST_PLACES = 50  # where a feature is on, and where it is off, in each half
_FEWEST_STRETCHES = 20  # in each half
_EXCERPT = 160  # characters
_RANK_CORRELATION, _AREA = "rank correlation", "area under the ROC curve"


@dataclass(frozen=True)
class UnitFinding:
    """The best unit for a feature.

    Attributes:
        feature: its name.
        explanation: when it is on, or what is counted.
        measure: `area under the ROC curve`, or for numbers `rank correlation`.
        layer: of the unit, from 1.
        unit: the row of its weights in each block, from 0.
        state: `s`, or of an LSTM perhaps `c`.
        quality: of the unit, in text that was not searched.
        control_untrained: of the best unit of the untrained network, found and judged the same way.
        control_characters: of what the last three characters alone predict.
        found: whether `quality` is better than both controls by the margin.
        positives: places of the text judged where the feature is on; of a number, all of them.
        places: of the text judged.
        excerpt: a piece of it, and the unit's state after each of its characters.
    """

    feature: str
    explanation: str
    measure: str
    layer: int
    unit: int
    state: str
    quality: float
    control_untrained: float
    control_characters: float
    found: bool
    positives: int
    places: int
    excerpt: tuple[str, tuple[float, ...]]


@dataclass(frozen=True)
class Units:
    """What the units of a network stand for.

    Attributes:
        findings: one for each feature that the text has often enough.
        margin: see `UnitFinding.found`; it is that of areas. A correlation, which ranges from 0 and not from ½,
            must be better by twice as much.
        searched: characters of held-out text that were read, both halves together.
        layer_sizes: how many units each layer has.
    """

    findings: list[UnitFinding]
    margin: float
    searched: int
    layer_sizes: tuple[int, ...]


def find_units(lm: LanguageModel, held_out: Split, training: Split | None = None) -> Units:
    """Finds the units that stand for features of a text.

    Args:
        lm: the model; of a mixture, the network alone is looked at.
        held_out: text that the model was not trained on; its beginning is read.
        training: where the control counts what the last characters predict, beside the half searched: as the
            network, it shall know the training text.
    """
    trained, _ = copy_for_torch(lm.mixture)
    config = trained.config
    reading = _read(lm.vocabulary, held_out, _most_symbols(trained))
    half = len(reading.text) // 2
    words = separates_words(reading.text)
    features = [feature for feature in find_features(reading.text, words=words) if _is_frequent(feature, half)]
    sizes = (config.hidden_size,) * config.num_layers
    if not features:
        return Units([], MARGIN, len(reading.text), sizes)
    networks = [trained, untrained_network(lm)]
    ours, theirs = parallel_map(lambda network: _search(network, reading, half, features), networks)
    texts = [reading.text[:half]]
    if training is not None:
        counted = training.ids[:_COUNTED_SYMBOLS]
        texts.append(read_characters(lm.vocabulary, counted)[0])
    controls = _character_controls(texts, reading.text[half:], features, half, words=words)
    findings = []
    for number, feature in enumerate(features):
        layer, state, unit = np.unravel_index(ours.units[number], _shape(trained))
        quality, untrained, characters = ours.qualities[number], theirs.qualities[number], controls[number]
        findings.append(
            UnitFinding(
                feature=feature.name,
                explanation=feature.explanation,
                measure=_AREA if feature.is_on else _RANK_CORRELATION,
                layer=int(layer) + 1,
                unit=int(unit),
                state="sc"[state],
                quality=quality,
                control_untrained=untrained,
                control_characters=characters,
                found=quality >= max(untrained, characters) + (MARGIN if feature.is_on else 2 * MARGIN),
                positives=int((feature.values[half:] != 0).sum()) if feature.is_on else len(reading.text) - half,
                places=len(reading.text) - half,
                excerpt=_excerpt(reading.text[half:], feature, half, ours.states[number]),
            )
        )
    return Units(findings, MARGIN, len(reading.text), sizes)


def _is_frequent(feature: Feature, half: int) -> bool:
    """Says whether both halves of the text have enough of a feature for a figure to mean something."""
    for values in (feature.values[:half], feature.values[half:]):
        stretches = int((np.diff(values) > 0).sum())
        varies = not feature.is_on or _FEWEST_PLACES <= values.sum() <= len(values) - _FEWEST_PLACES
        if len(values) < 2 * _FEWEST_PLACES or stretches < _FEWEST_STRETCHES or not varies:
            return False
    return feature.is_on or bool((feature.values[1:] < feature.values[:-1]).sum() >= 2 * _FEWEST_STRETCHES)


# ------------------------------------------------------------------------------------------- reading the text


class _Reading(NamedTuple):
    """A text as a network reads it.

    Attributes:
        symbols: ids, shape (S,); the boundary opens each sequence.
        opens: at which symbols the state is zero before, shape (S,).
        text: the symbols as N characters.
        last: of each character, the place of its last symbol, shape (N,).
    """

    symbols: NDArray[np.int64]
    opens: Booleans
    text: str
    last: NDArray[np.int64]


def _most_symbols(network: CharacterModel) -> int:
    weights = sum(weight.numel() for name, weight in network.recurrent.named_parameters() if "weight_hh" in name)
    return int(min(MOST_SYMBOLS, max(_FEWEST_SYMBOLS, _MOST_PRODUCTS / weights)))


def _read(vocabulary: Vocabulary, split: Split, most: int) -> _Reading:
    """Lays out the beginning of a text: lines or parts one behind the other, each behind the boundary."""
    ids, boundary = split.ids[:most].astype(np.int64), vocabulary.boundary_id
    starts = np.array([part for part in split.parts if part < len(ids)], np.int64)
    if vocabulary.framing == "lines":
        starts = line_bounds(ids, boundary)[:-1]
        if len(ids) and ids[-1] == boundary:
            ids = ids[:-1]  # it would open a line that is not there
        opened = np.append([boundary], ids)  # the end of a line is the boundary that opens the next one
        opens = np.zeros(len(opened), np.bool_)
        opens[starts] = True
    else:
        opened = np.insert(ids, starts, boundary)
        opens = np.zeros(len(opened), np.bool_)
        opens[starts + np.arange(len(starts))] = True
    text, last = read_characters(vocabulary, opened)
    return _Reading(opened, opens, text, last)


def _shape(network: CharacterModel) -> tuple[int, int, int]:
    """Returns layers, states and units of a network: what is numbered through all of them is in this order."""
    return network.config.num_layers, network.recurrent.cell.states, network.config.hidden_size


@torch.no_grad()
def _states(
    network: CharacterModel, reading: _Reading, places: NDArray[np.int64], units: Sequence[int] | None
) -> Floats:
    """Returns the states of units after some symbols, ascending ones, shape (units, places).

    The text is read in rows side by side, each after some symbols before its own.

    Args:
        network: on the CPU.
        reading: the text.
        places: in `reading.symbols`.
        units: their numbers, see `_shape`; None: all of them.
    """
    first, end = int(places[0]), int(places[-1]) + 1
    rows = min(_ROWS, max(1, (end - first) // _WARM_UP_SYMBOLS))
    cuts = np.linspace(first, end, rows + 1).astype(np.int64)
    steps = int(np.diff(cuts).max()) + _WARM_UP_SYMBOLS
    starts = cuts[1:] - steps  # all rows end at the same step
    wanted = np.zeros(len(reading.symbols), np.bool_)
    wanted[places] = True
    column = np.cumsum(wanted) - 1  # of the result
    chosen = torch.arange(math.prod(_shape(network))) if units is None else torch.tensor(list(units))
    result = np.empty((len(places), len(chosen)), np.float32)
    state = network.initial_state(rows)
    for t in range(steps):
        at = starts + t
        inside = at >= 0
        at = np.maximum(at, 0)
        going_on = torch.from_numpy(inside & ~reading.opens[at])[:, None]
        x = input_product(network, torch.from_numpy(reading.symbols[at]))  # (B, G·H)
        for layer in range(len(state)):
            if layer > 0:
                x = F.linear(state[layer - 1][0], *layer_weights(network, layer, "ih"))
            before = tuple(torch.where(going_on, part, 0.0) for part in state[layer])
            state[layer] = network.recurrent.cell.step(x, before, *layer_weights(network, layer, "hh"))
        own = inside & wanted[at] & (at >= cuts[:-1])
        if own.any():
            parts = torch.cat([part for parts in state for part in parts], 1)  # (B, units)
            result[column[at[own]]] = parts[torch.from_numpy(own)][:, chosen].numpy()
    return result.T


# ------------------------------------------------------------------------------------------------- the search


class _Found(NamedTuple):
    """The best unit of each feature, see `_shape`; its quality and its states in the half judged."""

    units: list[int]
    qualities: list[float]
    states: Floats


def _search(network: CharacterModel, reading: _Reading, half: int, features: Sequence[Feature]) -> _Found:
    """Finds the best unit for each feature in the first half of a text, and judges it in the second."""
    rng = np.random.default_rng(0)
    looked_at = np.sort(rng.choice(half, min(half, _RANKED_PLACES), replace=False))
    states = _states(network, reading, reading.last[looked_at], None)
    compared = []
    for start in range(0, len(states), _RANKED_UNITS):
        ranks = rank(states[start : start + _RANKED_UNITS])
        compared.append([_above_chance(ranks, feature, looked_at) for feature in features])
    above = np.concatenate(compared, axis=1)  # (features, units)
    units = np.abs(above).argmax(1).tolist()
    directions = [float(np.sign(own[unit])) or 1.0 for own, unit in zip(above, units, strict=True)]
    states = _states(network, reading, reading.last[half:], units)
    judged = np.arange(half, len(reading.text))
    qualities = [
        _quality(direction * own, feature, judged)
        for own, direction, feature in zip(states, directions, features, strict=True)
    ]
    return _Found(units, qualities, states)


def _above_chance(ranks: Floats, feature: Feature, places: NDArray[np.int64]) -> Floats:
    """Returns how much better than chance the ranks of units tell a feature, negative for the other direction."""
    values = feature.values[places]
    return area_under_roc(ranks, values != 0) - 0.5 if feature.is_on else rank_correlation(ranks, values)


def _quality(scores: Floats, feature: Feature, places: NDArray[np.int64]) -> float:
    """Returns how well scores, which were found to be larger where a feature is, tell it."""
    above = float(_above_chance(rank(scores[None]), feature, places)[0])
    return above + 0.5 if feature.is_on else max(0.0, above)


def rank(values: Floats) -> Floats:
    """Returns the ranks, from 1, of each row's values (U, N); ties share the mean of theirs."""
    result = np.empty(values.shape)
    N = values.shape[1]
    for row, own in zip(result, values, strict=True):
        order = own.argsort()
        ascending = own[order]
        begins = np.flatnonzero(np.append([True], ascending[1:] != ascending[:-1]))
        sizes = np.diff(np.append(begins, N))
        row[order] = np.repeat(begins + (sizes + 1) / 2, sizes)
    return result


def area_under_roc(ranks: Floats, positive: Booleans) -> Floats:
    """Returns the area under the ROC curve of each row (U,), by the sum of the ranks where it is on (Mann-Whitney).

    Args:
        ranks: of the scores, shape (U, N), see `rank`.
        positive: shape (N,), at least one of them on and one off.
    """
    P = int(positive.sum())
    result: Floats = (ranks[:, positive].sum(1) / P - (P + 1) / 2) / (len(positive) - P)
    return result


def rank_correlation(ranks: Floats, values: Floats) -> Floats:
    """Returns Spearman's correlation of each row's ranks (U, N) with values (N,); 0 where either never changes."""
    ours = ranks - ranks.mean(1, keepdims=True)
    theirs = rank(values[None])[0]
    theirs -= theirs.mean()
    norms = np.sqrt((ours**2).sum(1) * (theirs**2).sum())
    result: Floats = np.divide(ours @ theirs, norms, out=np.zeros(len(ours)), where=norms > 0)
    return result


# --------------------------------------------------------------------------------- what the characters predict


def _character_controls(
    texts: Sequence[str], judged: str, features: Sequence[Feature], half: int, *, words: bool
) -> list[float]:
    """Returns how well the last three characters tell each feature, as counted in some texts."""
    counted = [find_features(text, words=words) for text in texts]
    contexts = [list(_contexts(text)) for text in [*texts, judged]]
    merged = [np.unique(np.concatenate(level), return_inverse=True)[1] for level in zip(*contexts, strict=True)]
    places = np.arange(half, half + len(judged))
    result = []
    for feature in features:
        values = np.concatenate([own.values for found in counted for own in found if own.name == feature.name])
        result.append(_quality(expect(merged, values), feature, places))
    return result


def _contexts(text: str) -> Iterator[NDArray[np.int64]]:
    """Yields a number for the last 1, 2, … characters of each place."""
    points = code_points(text).astype(np.int64)
    number = np.zeros(len(points), np.int64)
    for back in range(CONTEXT):
        before = np.concatenate([np.zeros(min(back, len(points)), np.int64), points[: max(0, len(points) - back)]])
        number = number * 0x200000 + before  # 21 bits a character
        yield number


def expect(contexts: Sequence[NDArray[np.int64]], values: Floats) -> Floats:
    """Returns the mean value that contexts have where it is known, for the places behind those.

        m_k(context) = (Σ values + b m_{k-1}(shorter context)) / (count + b)

    Args:
        contexts: the number of each place's context, of 1, 2, … characters, shape (N + M,) each.
        values: of the first N places.

    Returns:
        The expectation at the last M places, shape (M,).
    """
    N = len(values)
    expected = np.full(len(contexts[0]) - N, values.mean() if N else 0.0)
    for context in contexts:
        size = int(context.max(initial=0)) + 1
        count = np.bincount(context[:N], minlength=size)
        total = np.bincount(context[:N], values, minlength=size)
        here = context[N:]
        expected = (total[here] + _BACK_OFF * expected) / (count[here] + _BACK_OFF)
    return expected


def _excerpt(text: str, feature: Feature, half: int, states: Floats) -> tuple[str, tuple[float, ...]]:
    """Returns the piece where a feature is on about half of the time, or a number varies as it usually does."""
    starts = np.arange(0, max(1, len(text) - _EXCERPT), _EXCERPT // 4)
    spread = np.array([feature.values[half + start : half + start + _EXCERPT].std() for start in starts])
    start = int(starts[spread.argmax() if feature.is_on else spread.argsort()[len(spread) // 2]])
    part = slice(start, start + _EXCERPT)
    return text[part], tuple(states[part].astype(float).tolist())
