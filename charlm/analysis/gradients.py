"""How far back does a network's gradient reach? Measured by autograd over the reference equations of its cell.

    ‖∂loss_t/∂s_{t-k}‖,  and for an LSTM ‖∂loss_t/∂c_{t-k}‖,  against the lag k

with loss_t = -log o_t[x_{t+1}] in nats. These are the gradients of backpropagation through time: that of c_{t-k}
contains what c_{t-k} does through s_{t-k}. Beside them stand their causes, the saturation of the gates and the
spectrum of the recurrent matrices, and their effect, the *connectivity*: how much the symbol d places back moves
the logit of the true next one, ‖∂logit/∂x_{t+1-d}‖ over all entries of the one-hot vector. Connectivity is also
given at single places, to be looked at beside the text.

All of it is of the network alone, in float64; the experts that a mixture has beside it have no gradients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from charlm import cells
from charlm.errors import InputError
from charlm.experts.torch_network import copy_for_torch
from charlm.language_model import LanguageModel
from charlm.model.network import CharacterModel
from charlm.model.transfer import initialize_output_bias
from charlm.scoring.log_probs import cut_sequences
from charlm.system.threads import parallel_map, thread_count
from charlm.text.corpus import Split
from charlm.text.plain import continues_character, read_characters
from charlm.text.vocabulary import Ids, Vocabulary

Floats = NDArray[np.float64]

LAGS = 60
PLACES = 256  # of the text, at which a loss is taken
LOW, HIGH = 0.1, 0.9  # beyond which a gate counts as closed or open
_WARM_UP_SYMBOLS = 128  # read before the longest lag, so that the state is that of a running text
_BATCH_PLACES = 32
_SINGLE_PLACES = 100  # whose connectivity is given one by one
_LONGEST_CHARACTER = 4  # symbols: bytes of UTF-8
_MAX_NUMBERS = 1 << 23  # gates of all lags, layers and places that are read at once, held for the way back
_FEWEST_PLACES = 20  # that have a lag, for it to be shown
FEWEST_LAGS = 2  # through which a line can be fitted
_STILL = 1e-6  # a slope in nats per symbol that is none, but rounding


@dataclass(frozen=True)
class Quartiles:
    """Median and quartiles over the places, each shape (n,)."""

    median: Floats
    lower: Floats
    upper: Floats

    @classmethod
    def of(cls, values: Floats) -> Quartiles:
        """Returns those of values (places, n), of which NaN are missing and infinite ones have overflowed."""
        with np.errstate(invalid="ignore"):  # between infinities it interpolates to NaN
            found = np.nanpercentile(values, [25, 50, 75], axis=0)
        lower, median, upper = np.where(np.isnan(found), np.inf, found)
        return cls(median, lower, upper)


@dataclass(frozen=True)
class StateGradient:
    """The norm of the gradient of the loss by one layer's state, against the lag.

    Attributes:
        layer: from 1.
        state: `s`, or for an LSTM also `c`.
        norms: at lag 0 … K.
        decay: the factor from a lag to the next that least squares on the logarithm of the medians finds; NaN where
            fewer than two medians are positive.
    """

    layer: int
    state: str
    norms: Quartiles
    decay: float

    @property
    def half_life(self) -> float:
        """Symbols after which the gradient is half of what it was; infinite if it keeps its size.

        Negative if it grows: it doubles in so many symbols.
        """
        return math.inf if self.decay == 1 else -math.log(2) / math.log(self.decay)


@dataclass(frozen=True)
class Saturation:
    """The share of time, over all units and places, that a gate of a layer (from 1) is below 0.1 and above 0.9."""

    layer: int
    gate: str
    below: float
    above: float


@dataclass(frozen=True)
class Spectrum:
    """Spectral radius and largest singular value of the recurrent matrix of a block of a layer (from 1)."""

    layer: int
    block: str
    radius: float
    largest_singular_value: float


@dataclass(frozen=True)
class NetworkGradients:
    """What is measured of one network: see the module.

    Attributes:
        states: layer by layer.
        gates: layer by layer.
        spectra: layer by layer.
        connectivity: of the symbols 1 … K places before the predicted one.
    """

    states: list[StateGradient]
    gates: list[Saturation]
    spectra: list[Spectrum]
    connectivity: Quartiles


@dataclass(frozen=True)
class GradientReport:
    """A trained network beside its untrained initialisation, at the same places of the same text.

    Attributes:
        text: what the text is, in few words.
        unit: `characters` or `bytes`.
        places: how many of them have each lag 0 … K, shape (K + 1,).
        networks: by name, `trained` and `untrained`.
    """

    text: str
    unit: str
    places: NDArray[np.int64]
    networks: dict[str, NetworkGradients]


@dataclass(frozen=True)
class ConnectedPlace:
    """What moves one prediction.

    Attributes:
        before: the last characters that were read, at most as many as there are lags; the first of them may be the
            boundary that opens the sequence. A character that the model does not know is U+FFFD.
        target: the true next character.
        moves: ‖∂logit/∂x‖ for each character of `before`, the oldest first; the logit is that of the target, or of
            its first byte. A character of several bytes counts as one vector.
    """

    before: str
    target: str
    moves: tuple[float, ...]


class Places(NamedTuple):
    """Places of a text: P losses, and what is read before each.

    Attributes:
        inputs: ids, shape (L, P), the last row the newest; what stands before `begins` is not read.
        begins: the row at which each one's reading begins, from the zero state, shape (P,).
        targets: the id that follows, shape (P,).
    """

    inputs: NDArray[np.int64]
    begins: NDArray[np.int64]
    targets: NDArray[np.int64]

    def have_lag(self, lags: int) -> NDArray[np.bool_]:
        """Returns which place has which lag 0 … K, shape (P, K + 1)."""
        L = len(self.inputs)
        result: NDArray[np.bool_] = L - 1 - np.arange(lags + 1) >= self.begins[:, None]
        return result

    def longest_lag(self, lags: int) -> int:
        """Returns the longest lag, at most `lags`, that 20 places have; -1 if there are not as many places."""
        return int((self.have_lag(lags).sum(0) >= _FEWEST_PLACES).sum()) - 1


def compare_with_untrained(
    lm: LanguageModel, split: Split, text: str, *, lags: int = LAGS, count: int = PLACES
) -> GradientReport:
    """Measures a model's network and a fresh one of the same configuration and seed.

    Lags that hardly any place has, as in short lines, are left out.

    Args:
        lm: the model; of a mixture, the network alone is looked at.
        split: held-out text, encoded by the model's vocabulary.
        text: what it is, in few words.
        lags: the longest lag, K.
        count: of places.

    Raises:
        InputError: the text is too short.
    """
    places = find_places(lm.vocabulary, split, lags, count, text)
    having = places.have_lag(lags).sum(0)
    lags = places.longest_lag(lags)
    unit = "bytes" if lm.vocabulary.level == "byte" else "characters"
    if lags < FEWEST_LAGS:
        raise InputError(
            f"{text}: this text is too short to measure gradients through time, which needs {_FEWEST_PLACES} "
            f"{unit} with {FEWEST_LAGS} before each; name a longer text with --text"
        )
    trained, _ = copy_for_torch(lm.mixture)
    networks = {"trained": trained, "untrained": untrained_network(lm)}
    measured = {name: measure(network, places, lags) for name, network in networks.items()}
    return GradientReport(text, unit, having[: lags + 1], measured)


def connectivity_at(
    lm: LanguageModel, split: Split, text: str, *, lags: int = LAGS, count: int = _SINGLE_PLACES
) -> list[ConnectedPlace]:
    """Measures how much each of the last characters moves the prediction, at places all over a text.

    Args:
        lm: the model; of a mixture, the network alone is looked at.
        split: held-out text, encoded by the model's vocabulary.
        text: what it is, in few words.
        lags: so many symbols before the predicted one.
        count: of places; at byte level those within a character are left out.

    Raises:
        InputError: the model knows no character of the text.
    """
    vocabulary = lm.vocabulary
    chosen = _choose(vocabulary, split, count, text)
    if vocabulary.level == "byte":
        chosen = chosen[~continues_character(split.ids[chosen])]
        if not len(chosen):
            return []
    places = _read_before(vocabulary, split, chosen, lags)
    network, _ = copy_for_torch(lm.mixture)
    network.double().requires_grad_(False)
    batches = _measure_batches(network, places, lags - 1)  # at lag 0 stands the symbol just read
    having = places.have_lag(lags - 1)
    moves = _present(np.concatenate([batch.moves for batch in batches]), having)  # (P, K), the newest first
    result = []
    for row, has, ids, place in zip(moves, having, places.inputs.T, chosen.tolist(), strict=True):
        lag = int(has.sum())
        before, oldest_first = _assemble(vocabulary, ids[len(ids) - lag :], row[:lag][::-1])
        target = read_characters(vocabulary, split.ids[place : place + _LONGEST_CHARACTER])[0][:1]
        result.append(ConnectedPlace(before, target, tuple(oldest_first.tolist())))
    return result


def _assemble(vocabulary: Vocabulary, ids: Ids, moves: Floats) -> tuple[str, Floats]:
    """Returns symbols as characters, and the norm over the symbols of each; a character cut in two is left out."""
    if vocabulary.level == "byte":
        cut = int(np.append(~continues_character(ids), True).argmax())  # bytes of a character that began before
        ids, moves = ids[cut:], moves[cut:]
    text, last = read_characters(vocabulary, ids)
    if not text:
        return "", moves[:0]
    return text, np.sqrt(np.add.reduceat(moves**2, [0, *(last[:-1] + 1).tolist()]))


def held_out(lm: LanguageModel) -> Split:
    """Returns the validation split of the run's own corpus.

    Raises:
        InputError: it has none.
        CorpusError: the corpus is gone or changed.
    """
    split = lm.corpus().validation
    if not split.characters:
        raise InputError(f"{lm.folder}: this run was trained without a validation split; name a text with --text")
    return split


def find_places(vocabulary: Vocabulary, split: Split, lags: int, count: int, text: str) -> Places:
    """Chooses places all over a text, always the same ones, whose character the model knows."""
    return _read_before(vocabulary, split, _choose(vocabulary, split, count, text), lags)


def _choose(vocabulary: Vocabulary, split: Split, count: int, text: str) -> NDArray[np.int64]:
    """Returns the places of up to `count` symbols that the model knows."""
    ids = split.ids
    known = (
        np.flatnonzero(ids != vocabulary.unknown_id) if vocabulary.unknown_id is not None else np.arange(len(ids))
    )
    if not len(known):
        raise InputError(f"{text}: this text has no character that the model knows; name another text with --text")
    edges = np.linspace(0, len(known), min(count, len(known)) + 1).astype(int)
    chosen: NDArray[np.int64] = known[
        np.random.default_rng(0).integers(edges[:-1], edges[1:])
    ]  # one of each stretch
    return chosen


def _read_before(vocabulary: Vocabulary, split: Split, chosen: NDArray[np.int64], lags: int) -> Places:
    """Returns these places with what is read before each, in its own sequence."""
    ids = split.ids
    starts = np.cumsum([0, *map(len, cut_sequences(vocabulary, ids, split.parts))])
    first = starts[np.searchsorted(starts, chosen, side="right") - 1]
    L = _WARM_UP_SYMBOLS + lags + 1
    inputs = np.full((L, len(chosen)), vocabulary.boundary_id)
    lengths = np.minimum(chosen - first + 1, L)  # the boundary that opens the sequence is read too
    for column, (place, begin) in enumerate(zip(chosen, first, strict=True)):
        read = ids[max(begin, place - L) : place]
        inputs[L - len(read) :, column] = read
    return Places(inputs, L - lengths, ids[chosen].astype(np.int64))


def untrained_network(lm: LanguageModel) -> CharacterModel:
    """Returns a network as training would begin with, of the same configuration and seed."""
    config = lm.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        network = CharacterModel(len(lm.vocabulary), config.model)
    initialize_output_bias(network, lm.vocabulary.unigram_log_probs)
    return network


# ---------------------------------------------------------------------------------------------- one network


def measure(network: CharacterModel, places: Places, lags: int) -> NetworkGradients:
    """Measures one network at these places; it becomes float64, and its weights need no gradients any more.

    Args:
        network: on the CPU.
        places: at least one has each lag.
        lags: the longest, K.
    """
    network.double().requires_grad_(False)
    having = places.have_lag(lags)
    blocks, layers = _blocks(network), range(network.config.num_layers)
    batches = _measure_batches(network, places, lags)
    norms = _present(np.concatenate([batch.norms for batch in batches], axis=1), having)  # (states, P, K + 1)
    moves = _present(np.concatenate([batch.moves for batch in batches]), having)[:, :lags]  # (P, K)
    saturated = sum(batch.saturated for batch in batches) / having.sum()  # (L, G, 2)
    names = [(layer + 1, state) for layer in layers for state in "sc"[: network.recurrent.cell.states]]
    return NetworkGradients(
        states=[_state_gradient(*name, values) for name, values in zip(names, norms, strict=True)],
        gates=[
            Saturation(layer + 1, block, *saturated[layer, place].tolist())
            for layer in layers
            for place, block in enumerate(blocks)
            if block in _gates(network)
        ],
        spectra=[
            _spectrum(layer + 1, block, weight)
            for layer in layers
            for block, weight in zip(
                blocks, network.recurrent.parameter("weight_hh", layer).chunk(len(blocks)), strict=True
            )
        ],
        connectivity=Quartiles.of(moves),
    )


def _present(values: Floats, having: NDArray[np.bool_]) -> Floats:
    """Returns values with NaN where a place lacks a lag, and infinite where a gradient has overflowed to NaN."""
    return np.where(having, np.where(np.isnan(values), np.inf, values), np.nan)


def _blocks(network: CharacterModel) -> Sequence[str]:
    cell = network.recurrent.cell
    return cell.blocks or [f"block {number}" for number in range(1, cell.gates + 1)]


def _gates(network: CharacterModel) -> list[str]:
    return [name for name in network.recurrent.cell.blocks if name != "candidate"]


def _state_gradient(layer: int, state: str, values: Floats) -> StateGradient:
    norms = Quartiles.of(values)
    return StateGradient(layer, state, norms, fit_decay(norms.median))


def fit_decay(medians: Floats) -> float:
    """Returns the factor from each value to the next, by least squares on the logarithms of what is not zero."""
    known = np.flatnonzero((medians > 0) & np.isfinite(medians))
    if len(known) < FEWEST_LAGS:
        return math.nan
    slope = float(np.polyfit(known, np.log(medians[known]), 1)[0])
    return 1.0 if abs(slope) < _STILL else math.exp(slope)


def _spectrum(layer: int, block: str, weight: Tensor) -> Spectrum:
    radius = float(torch.linalg.eigvals(weight).abs().max())
    return Spectrum(layer, block, radius, float(torch.linalg.matrix_norm(weight, 2)))


def _input_factor(network: CharacterModel) -> Tensor:
    """Returns R, shape (·, G·H), so that ‖R d‖ is the norm by the one-hot vector where d is the gradient by U x.

    A gradient by the one-hot vector has as many entries as there are symbols, thousands in Chinese; by the
    factorisation U = RᵀQᵀ its norm needs no more than G·H of them.
    """
    weight = network.recurrent.parameter("weight_ih", 0)  # (G·H, V), or behind an embedding (G·H, K)
    if network.embedding is not None:
        weight = weight @ network.embedding.weight.t()  # (G·H, V)
    factor: Tensor = torch.linalg.qr(weight.t(), mode="r").R
    return factor


class _Batch(NamedTuple):
    """What a batch of B places gives: norms (S, B, K + 1) of the states, moves (B, K + 1), counts (L, G, 2)."""

    norms: Floats
    moves: Floats
    saturated: Floats


def _measure_batches(network: CharacterModel, places: Places, lags: int) -> list[_Batch]:
    """Measures all places, as many at a time as memory allows."""
    inputs_factor = _input_factor(network)
    layers = range(network.config.num_layers)
    numbers = (lags + 1) * sum(network.recurrent.parameter("weight_hh", n).shape[0] for n in layers)
    size = max(1, min(_BATCH_PLACES, _MAX_NUMBERS // (numbers * thread_count())))
    batches = [
        Places(places.inputs[:, part], places.begins[part], places.targets[part])
        for part in (slice(start, start + size) for start in range(0, len(places.targets), size))
    ]
    return list(parallel_map(lambda batch: _measure_batch(network, batch, lags, inputs_factor), batches))


def _measure_batch(network: CharacterModel, places: Places, lags: int, inputs_factor: Tensor) -> _Batch:
    ids, begins = torch.from_numpy(places.inputs), torch.from_numpy(places.begins)
    state = network.initial_state(len(begins))
    products: list[Tensor] = []  # U x_t + b at each lag, from K to 0
    states: list[list[Tensor]] = []
    saturated = np.zeros((network.config.num_layers, network.recurrent.cell.gates, 2))
    s = state[-1][0]
    for t in range(len(ids)):
        alive = (t >= begins)[:, None]
        seen = t >= len(ids) - 1 - lags
        with torch.set_grad_enabled(seen):
            x = input_product(network, ids[t])  # (B, G·H)
            if seen:
                products.append(x.requires_grad_())
                states.append([])
            for layer in range(network.config.num_layers):
                if layer > 0:
                    x = F.linear(s, *layer_weights(network, layer, "ih"))
                W, b = layer_weights(network, layer, "hh")
                if seen:
                    saturated[layer] += _count_saturated(x, state[layer][0], W, b, alive)
                after = network.recurrent.cell.step(x, state[layer], W, b)
                if seen:
                    states[-1] += after
                s = after[0]
                state[layer] = tuple(torch.where(alive, part, 0.0) for part in after)  # zero until it begins
    return _Batch(*_gradients(network, s, places.targets, states, products, inputs_factor), saturated)


def _gradients(
    network: CharacterModel,
    s: Tensor,
    targets: NDArray[np.int64],
    states: list[list[Tensor]],
    products: list[Tensor],
    inputs_factor: Tensor,
) -> tuple[Floats, Floats]:
    """Goes backward from the loss and from the true symbol's logit; no place depends on another one's states."""
    logits = network.logits(s if network.projection is None else network.projection(s))  # (B, V)
    at_target = logits.gather(1, torch.from_numpy(targets)[:, None])[:, 0]  # (B,)
    loss = logits.logsumexp(1) - at_target
    newest_first = [list(row) for row in zip(*reversed(states), strict=True)]  # by state, then by lag
    flat = torch.autograd.grad(loss.sum(), [part for row in newest_first for part in row], retain_graph=True)
    norms = torch.stack([grad.norm(dim=1) for grad in flat]).view(len(newest_first), len(states), -1)
    moves = torch.stack(torch.autograd.grad(at_target.sum(), products[::-1]))  # (K + 1, B, G·H)
    return norms.transpose(1, 2).numpy(), (moves @ inputs_factor.t()).norm(dim=2).t().numpy()


def input_product(network: CharacterModel, ids: Tensor) -> Tensor:
    """Returns U x_t + bias_ih of the lowest layer, shape (B, G·H)."""
    U, b = layer_weights(network, 0, "ih")
    return cells.input_product(ids if network.embedding is None else network.embedding(ids), U, b, U.dtype)


def layer_weights(network: CharacterModel, layer: int, side: str) -> tuple[Tensor, Tensor | None]:
    """Returns weights and bias of a layer on its input (`ih`) or on its state (`hh`)."""
    return network.recurrent.parameter(f"weight_{side}", layer), network.recurrent.parameter(f"bias_{side}", layer)


@torch.no_grad()
def _count_saturated(x: Tensor, s: Tensor, W: Tensor, b: Tensor | None, alive: Tensor) -> Floats:
    """Returns the mean over the units, summed over the places, of being below and above, for each block: (G, 2).

    Every gate of every cell is σ(U x_t + W s_{t-1} + b); blocks that are none are left out later.
    """
    B, H = s.shape
    gates = torch.sigmoid(x + F.linear(s, W, b)).view(B, -1, H)  # (B, G, H)
    beyond = torch.stack([(gates < LOW), (gates > HIGH)], dim=3) & alive[..., None, None]
    counts: Floats = beyond.double().mean(2).sum(0).numpy()
    return counts
