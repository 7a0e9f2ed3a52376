"""How far a mixture trusts each of its experts, found on held-out text.

    log p(w) = Σ_e a_e f_e(w) - log Z,    f_e(w) = log p_e(w)

In each kind of context this is a softmax regression on E numbers for each symbol, so its cross-entropy is convex in
the powers a, and Newton's steps find the minimum. With y the symbol that came,

    gradient = Σ (E_p[f] - f_y),    Hessian = Σ Cov_p[f]
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from charlm.experts.expert import Contexts, LogProbs
from charlm.experts.mixture import Mixture
from charlm.system.threads import parallel_map
from charlm.text.batches import IGNORE, line_bounds, pad_lines
from charlm.text.vocabulary import Ids, Vocabulary

MOST_PLACES = 1 << 14  # fourteen powers then miss the best nats by half a thousandth
PIECE_SYMBOLS = 256  # of a stream that are predicted together, after as many that only bring the state there
PRIOR = 10.0  # strength of the pull towards equal trust; one or two symbols outweigh it

_MOST_NUMBERS = 1 << 24  # probabilities of each expert in memory
_MOST_STEPS = 20
_LEAST_GAIN_NATS = 0.01  # in all, of thousands: a smaller gain is not worth another step
_ROUNDING_NATS = 1e-3  # by so much may the same powers seem to differ
_CACHED_ROWS = 1024  # places whose covariances are made together

_Floats = NDArray[np.float64]


def fit_powers(mixture: Mixture, vocabulary: Vocabulary, ids: Ids, *, most: int = MOST_PLACES) -> None:
    """Sets the powers of a mixture to the likeliest on a held-out text; a network alone has none to set.

    Args:
        mixture: its experts are as they are.
        vocabulary: the mixture's.
        ids: the text, shape (N,), N ≥ 1; pieces from all over it are looked at.
        most: how many symbols are looked at, at most.
    """
    if len(mixture.experts) == 1:
        return
    inputs, targets = _sample(vocabulary, ids, min(most, _MOST_NUMBERS // len(vocabulary)))
    readings, _ = mixture.advance(inputs.T, mixture.initial_state(len(inputs)))
    real = targets.T != IGNORE
    chosen = [reading[real] for reading in readings]
    contexts = [expert.context(reading) for expert, reading in zip(mixture.experts, chosen, strict=True)]
    features = [expert.log_probs(reading) for expert, reading in zip(mixture.experts, chosen, strict=True)]
    mixture.powers[:] = find_powers(features, mixture.kinds(contexts), targets.T[real], len(mixture.powers))


def _sample(vocabulary: Vocabulary, ids: Ids, most: int) -> tuple[Ids, Ids]:
    """Lays pieces from all over a text side by side, about `most` symbols: inputs and targets, each (B, T)."""
    first_id, piece = vocabulary.boundary_id, PIECE_SYMBOLS
    if vocabulary.framing == "lines":
        bounds = line_bounds(ids, first_id).tolist()
        lines = [ids[a : min(b, a + 2 * piece)] for a, b in pairwise(bounds)]
        count = max(1, min(len(lines), most * len(lines) // sum(map(len, lines))))
        return pad_lines([lines[i] for i in np.linspace(0, len(lines) - 1, count).astype(int)], first_id)
    count = max(1, min(most, len(ids)) // piece)
    starts = np.linspace(0, max(0, len(ids) - 2 * piece), count).astype(int)
    inputs, targets = pad_lines([ids[a : a + 2 * piece] for a in starts], first_id)
    inside = starts > 0
    inputs[inside, 0] = ids[starts[inside] - 1]
    targets[inside, :piece] = IGNORE
    return inputs, targets


def find_powers(features: Sequence[LogProbs], kinds: Contexts, y: Ids, n_kinds: int) -> _Floats:
    """Minimises the cross-entropy, the prior included, in each kind of context.

    Args:
        features: f of each expert, up to a constant of each row, shape (N, V).
        kinds: the kind of context at each place, shape (N,).
        y: the symbols that came, shape (N,).
        n_kinds: how many kinds there are.

    Returns:
        The powers, shape (n_kinds, E).
    """
    powers = np.full((n_kinds, len(features)), 1 / len(features))
    derive = partial(derivatives, features=features, kinds=kinds, y=y)
    least, gradient, hessian = derive(powers)
    for _ in range(_MOST_STEPS):
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0].astype(np.float64, copy=False)
        gain = (gradient * step).sum(1).max() / 2  # of one kind of context, at most
        if gain <= _LEAST_GAIN_NATS:
            return powers - step
        nats, *found = derive(powers - step)
        while (worse := nats > least + _ROUNDING_NATS).any():  # a step too far
            step[worse] /= 2
            nats, *found = derive(powers - step)
        powers, least, (gradient, hessian) = powers - step, nats, found
    return powers


def derivatives(
    powers: _Floats, features: Sequence[LogProbs], kinds: Contexts, y: Ids
) -> tuple[_Floats, _Floats, _Floats]:
    """Derives the cross-entropy by the powers; in each kind of context a prior adds `PRIOR`/2 · |a - 1/E|² to it.

    Args:
        powers: a, shape (kinds, E).
        features: as in `find_powers`, and so are `kinds` and `y`.
        kinds: shape (N,).
        y: shape (N,).

    Returns:
        Nats, shape (kinds,), their gradient, (kinds, E), and their Hessian, (kinds, E, E).
    """
    n_kinds, E = powers.shape
    off = powers - 1 / E
    nats = PRIOR / 2 * (off * off).sum(1)
    gradient = PRIOR * off
    hessian = np.tile(PRIOR * np.eye(E), (n_kinds, 1, 1))

    def sums(first: int) -> tuple[_Floats, Contexts]:
        rows = slice(first, first + _CACHED_ROWS)
        weights = powers[kinds[rows]].astype(np.float32)  # (n, E)
        return _moments([f[rows] for f in features], weights, y[rows]), kinds[rows]

    for moments, kind in parallel_map(sums, range(0, len(y), _CACHED_ROWS)):
        columns = [np.bincount(kind, column, n_kinds) for column in moments]
        nats += columns[0]
        gradient += np.stack(columns[1 : 1 + E], 1)
        hessian += np.stack(columns[1 + E :], 1).reshape(n_kinds, E, E)
    return nats, gradient, hessian


def _moments(features: Sequence[LogProbs], weights: NDArray[np.float32], y: Ids) -> _Floats:
    """Returns of each place -log p(y), E_p[f] - f_y of each expert, and Cov_p[f] of each pair: (1 + E + E², n)."""
    z = sum(f * w[:, None] for f, w in zip(features, weights.T, strict=True))  # (n, V)
    z -= z.max(1, keepdims=True)
    at = np.arange(len(y)), y
    z_y = z[at]
    p = np.exp(z, out=z)
    total = p.sum(1, keepdims=True)
    p /= total
    centred = [f - (p * f).sum(1, keepdims=True) for f in features]
    weighted = [p * f for f in centred]
    pairs = [np.einsum("nv,nv->n", pf, g) for pf in weighted for g in centred]
    return np.stack([np.log(total[:, 0]) - z_y, *(-f[at] for f in centred), *pairs]).astype(np.float64)
