"""Dynamic evaluation: a model that goes on learning from the text it is measured on (Krause et al. 2018).

Each segment is scored first, with the weights of that moment; only then a gradient step is taken on it. So no
symbol is predicted with weights that have seen it, and the sum is as honest a figure as the static one. With θ_g
the trained weights, g the gradient of the segment's loss, and M the root mean square of gradients on training text:

    θ ← θ + min(1, λ M / mean(M)) ∘ (θ_g - θ) - η g / (M + ε)

A weight that training moved often moves in large steps and is drawn back strongly; the others hardly stir. The
model itself stays as it was: all this happens to a copy.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from charlm.experts.expert import Contexts, Reading
from charlm.experts.expert import LogProbs as Logits
from charlm.experts.mixture import Mixture, MixtureState
from charlm.experts.torch_network import FurtherTorchNetworks, TorchNetworkExpert, copy_for_torch
from charlm.model.network import CharacterModel, NetworkState
from charlm.scoring.log_probs import LogProbs, cut_sequences
from charlm.scoring.memory import PowersOfMemory, Remembering, joint_log_probs, kinds_of
from charlm.text.batches import IGNORE, Window
from charlm.text.corpus import Split
from charlm.text.vocabulary import Ids, Vocabulary

SEGMENT_SYMBOLS = 16  # shorter segments gain a little more (0.001 nats at 8) and take twice as long
TUNING_SYMBOLS = 20_000  # of the validation split
_EPSILON = 0.02  # of mean(M): a weight that the training text never moved must not leap
_STATISTICS_WINDOWS = 200  # of the training text
_MOVES = 8  # halvings or doublings of a rate, at most


@dataclass(frozen=True)
class Rates:
    """How fast a model adapts, and how fast it forgets that again.

    Attributes:
        learning_rate: η.
        decay: λ.
    """

    learning_rate: float = 1e-4
    decay: float = 3e-3


class DynamicEvaluation(NamedTuple):
    """What dynamic evaluation found.

    Attributes:
        nats: per character.
        rates: with which the model adapted.
        memory_nats: per character, with a memory of the text beside the adapting model; None: there was no text to
            find its powers on.
    """

    nats: float
    rates: Rates
    memory_nats: float | None


Begins = NDArray[np.bool_]
# Is told of each segment: the adapting mixture's logits (n, V) before its step, the kinds of context, the symbols
# that came, and whether each is the first of its sequence, (n,) each.
Listener = Callable[[Logits, Contexts, Ids, Begins], None]


def evaluate_dynamic(
    mixture: Mixture,
    vocabulary: Vocabulary,
    split: Split,
    *,
    training: Iterable[Window],
    validation: Split,
    learning_rate: float | None = None,
    decay: float | None = None,
    tuning_symbols: int = TUNING_SYMBOLS,
) -> DynamicEvaluation:
    """Measures an adapting copy of a model over the very symbols that `evaluate` scores, alone and with a memory.

    Memory is one more factor of what the adapting copy predicts; its powers are found on the same text as the
    rates, and the copy adapts as it does without.

    Args:
        mixture: stays as it is.
        vocabulary: its own.
        split: the text to be measured.
        training: windows of the training text, for M; the first 200 are looked at.
        validation: rates that are not given are found on its beginning, and the powers of the memory; if it is
            empty, the default rates are taken.
        learning_rate: η.
        decay: λ.
        tuning_symbols: of the validation split, for finding rates and powers.
    """
    first = vocabulary.boundary_id
    rms = gradient_rms(mixture, itertools.islice(training, _STATISTICS_WINDOWS))
    known = cut_sequences(vocabulary, validation.ids, validation.parts)
    sizes = np.cumsum([len(sequence) for sequence in known])
    enough = int(np.searchsorted(sizes, tuning_symbols)) + 1
    known = [sequence[:tuning_symbols] for sequence in known[:enough] if len(sequence)]
    rates = tune(mixture, rms, known, first, learning_rate=learning_rate, decay=decay)
    text, fit = Remembering(len(vocabulary), first), PowersOfMemory(len(mixture.powers), vocabulary.unknown_id)

    def learn(logits: Logits, kinds: Contexts, symbols: Ids, begins: Begins) -> None:
        fit.add(logits, kinds, text.read(symbols, begins), symbols)

    dynamic_log_probs(mixture, rms, known, first, rates, listener=learn)
    powers, text = fit.find(), Remembering(len(vocabulary), first)
    with_memory = []

    def measure(logits: Logits, kinds: Contexts, symbols: Ids, begins: Begins) -> None:
        if powers is not None:
            recalled = text.read(symbols, begins)
            with_memory.append(joint_log_probs(powers, logits, kinds, recalled, symbols).sum())

    sequences = cut_sequences(vocabulary, split.ids, split.parts)
    log_probs = dynamic_log_probs(mixture, rms, sequences, first, rates, listener=measure)
    return DynamicEvaluation(
        -sum(float(p.sum()) for p in log_probs) / split.characters,
        rates,
        None if powers is None else -float(sum(with_memory)) / split.characters,
    )


def gradient_rms(mixture: Mixture, windows: Iterable[Window]) -> list[Tensor]:
    """Returns M: the root mean square of each weight's gradient over windows of the training text.

    Each network is alone here: the other experts have counted this text, and leave it little to learn there.
    """
    found = []
    windows = list(windows)
    for network in _networks(*copy_for_torch(mixture)):
        alone = Mixture(TorchNetworkExpert(network))
        weights = list(network.parameters())
        squares = [torch.zeros_like(w) for w in weights]
        state: MixtureState = []
        for window in windows:
            if not window.carry.all():  # a row that starts anew lets all of them do so: these are statistics
                state = alone.initial_state(len(window.inputs))
            losses, state, *_ = _losses(network, alone, window.inputs.T, window.targets.T, state)
            mean = losses.sum() / int((window.targets != IGNORE).sum())
            for square, gradient in zip(squares, torch.autograd.grad(mean, weights), strict=True):
                square.addcmul_(gradient, gradient)
        found += [(square / len(windows)).sqrt() for square in squares]
    return found


def dynamic_log_probs(
    mixture: Mixture,
    rms: Sequence[Tensor],
    sequences: Sequence[Ids],
    first_id: int,
    rates: Rates,
    *,
    listener: Listener | None = None,
) -> list[LogProbs]:
    """Returns the log-probability (nats) of each symbol of each sequence, shapes (n_i,), adapting on the way.

    Args:
        mixture: stays as it is.
        rms: M of each weight.
        sequences: ids, read in their order; each from the zero state, after `first_id`.
        first_id: the symbol read before the first of each sequence.
        rates: η and λ.
        listener: see there.
    """
    network, adapting = copy_for_torch(mixture)
    weights = [weight for each in _networks(network, adapting) for weight in each.parameters()]
    trained = [w.detach().clone() for w in weights]
    mean = sum(float(m.sum()) for m in rms) / sum(m.numel() for m in rms)
    unit = [m + _EPSILON * mean for m in rms]
    pull = [(rates.decay / mean * m).clamp(max=1) for m in rms]
    results = []
    for sequence in sequences:
        inputs = np.concatenate(([first_id], sequence[:-1]))
        state = adapting.initial_state(1)
        parts = [np.zeros(0)]
        for start in range(0, len(sequence), SEGMENT_SYMBOLS):
            segment = slice(start, start + SEGMENT_SYMBOLS)
            symbols = sequence[segment]
            losses, state, logits, kinds = _losses(
                network, adapting, inputs[segment, None], symbols[:, None], state
            )
            if listener is not None:
                begins = np.arange(start, start + len(symbols)) == 0
                listener(logits.detach().cpu().numpy(), kinds, symbols, begins)
            parts.append(-losses.detach().cpu().double().numpy())
            gradients = torch.autograd.grad(losses.sum() / SEGMENT_SYMBOLS, weights)
            with torch.no_grad():
                for w, *terms in zip(weights, trained, pull, gradients, unit, strict=True):
                    w_trained, w_pull, gradient, w_unit = terms
                    w.lerp_(w_trained, w_pull).addcdiv_(gradient, w_unit, value=-rates.learning_rate)
        results.append(np.concatenate(parts))
    return results


def tune(
    mixture: Mixture,
    rms: Sequence[Tensor],
    sequences: Sequence[Ids],
    first_id: int,
    *,
    learning_rate: float | None = None,
    decay: float | None = None,
) -> Rates:
    """Finds the rates that suit a text best: first η, then λ, each doubled or halved as long as that helps.

    Args:
        mixture: stays as it is.
        rms: M of each weight.
        sequences: the text, as for `dynamic_log_probs`; not the one to be measured.
        first_id: the symbol read before the first of each sequence.
        learning_rate: η if it is given, and not to be found.
        decay: λ, likewise.
    """

    def loss(rates: Rates) -> float:
        return -sum(float(p.sum()) for p in dynamic_log_probs(mixture, rms, sequences, first_id, rates))

    lam = Rates.decay if decay is None else decay
    eta = learning_rate
    if eta is None:
        eta = _descend(lambda eta: loss(Rates(eta, lam)), Rates.learning_rate)
    if decay is None:
        lam = _descend(lambda lam: loss(Rates(eta, lam)), Rates.decay)
    return Rates(eta, lam)


def _descend(loss: Callable[[float], float], start: float) -> float:
    """Halves, or else doubles, a number as long as its loss falls, or still is not finite."""
    best, lowest = start, loss(start)
    for factor in (0.5, 2.0):
        for _ in range(_MOVES):
            value = loss(best * factor)
            if math.isfinite(lowest) and not value < lowest:
                break
            best, lowest = best * factor, value
        if best != start:
            break
    return best


def _losses(
    network: CharacterModel, mixture: Mixture, inputs: Ids, targets: Ids, state: MixtureState
) -> tuple[Tensor, MixtureState, Tensor, Contexts]:
    """Returns the loss (nats) at each place, (T·B,), 0 where the target is `IGNORE`, and the state, detached.

    Beside them stand the logits of the mixture, (T·B, V), and the kinds of context, (T·B,). Inputs and targets are
    ids of shape (T, B). The losses have the gradient of the weights of all networks.
    """
    others = mixture.others
    x, y = (torch.from_numpy(ids.astype(np.int64, order="C")).to(network.device) for ids in (inputs, targets))
    before: NetworkState = state[0]
    features, last = network.features(x, before)  # (T, B, R)
    logits = network.logits(features).flatten(0, 1)  # (T·B, V)
    rows: list[Reading] = [features.detach().flatten(0, 1)]
    states: MixtureState = [_detached(last)]
    further: list[tuple[int, Tensor]] = []
    for e, (expert, own) in enumerate(zip(others, state[1:], strict=True), 1):
        if isinstance(expert, FurtherTorchNetworks):
            read = [each.features(x, part) for each, part in zip(expert.networks, own, strict=True)]
            parts = [each.logits(s).flatten(0, 1) for each, (s, _) in zip(expert.networks, read, strict=True)]
            mean = torch.stack(parts).mean(0)  # (T·B, V)
            further.append((e, mean))
            rows.append(mean.detach().cpu().numpy())
            states.append([_detached(after) for _, after in read])
        else:
            reading, after = expert.advance(inputs, own)
            rows.append(reading.reshape(-1, reading.shape[-1]))
            states.append(after)
    kinds = kinds_of(mixture, rows)
    if others:
        power, beside = (torch.from_numpy(part).to(logits) for part in mixture.beside_network(rows))
        logits = torch.addcmul(beside, power, logits)
    for e, mean in further:  # is in `beside` already, but for its gradient
        power = torch.from_numpy(mixture.powers.take(kinds, 0)[:, e : e + 1]).to(logits)
        logits = logits + power * (mean - mean.detach())
    losses = F.cross_entropy(logits, y.flatten(), ignore_index=IGNORE, reduction="none")  # (T·B,)
    return losses, states, logits, kinds


def _networks(network: CharacterModel, mixture: Mixture) -> list[CharacterModel]:
    """Returns the network and the further ones of a mixture that `copy_for_torch` gave."""
    further = (expert.networks for expert in mixture.others if isinstance(expert, FurtherTorchNetworks))
    return [network, *itertools.chain.from_iterable(further)]


def _detached(state: NetworkState) -> NetworkState:
    return [tuple(part.detach() for part in layer) for layer in state]
