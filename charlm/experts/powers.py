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
_MOST_STEPS = 40
_LEAST_GAIN_NATS = 0.01  # in all, of thousands: a smaller gain is not worth another step
_ROUNDING_NATS = 1e-3  # by so much may the same powers seem to differ
_CACHED_ROWS = 1024  # places whose covariances are made together

_Floats = NDArray[np.float64]


def fit_powers(
    mixture: Mixture, vocabulary: Vocabulary, ids: Ids, parts: Sequence[int] = (0,), *, most: int = MOST_PLACES
) -> None:
    """Sets the powers of a mixture to the likeliest on a held-out text; a network alone has none to set.

    In stream framing, pieces from inside the text are looked at, and so that powers are known for what follows a
    beginning, what follows the boundary, read from the zero state as `score` and `sample` begin.

    Args:
        mixture: its experts are as they are.
        vocabulary: the mixture's.
        ids: the text, shape (N,), N ≥ 1; places from all over it are looked at.
        parts: where the parts of a stream begin, see `text.corpus.Split`.
        most: how many symbols are looked at, at most.
    """
    if len(mixture.experts) == 1:
        return
    most = min(most, _MOST_NUMBERS // len(vocabulary))
    if vocabulary.framing == "lines":
        samples = [_sample_lines(vocabulary, ids, most)]
    else:
        beginnings = _sample_beginnings(vocabulary, ids, mixture.beginning, most // 2)
        samples = [_sample_pieces(vocabulary, ids, parts, most)]
        if beginnings:
            samples.append(pad_lines(beginnings, vocabulary.boundary_id))
    features: list[list[LogProbs]] = [[] for _ in mixture.experts]
    kinds, y = [], []
    for inputs, targets in samples:
        readings, _ = mixture.advance(inputs.T, mixture.initial_state(len(inputs)))
        real = targets.T != IGNORE
        if vocabulary.unknown_id is not None:  # what `<unk>` stands for is another thing in each text
            real &= vocabulary.unknown_id != targets.T
        chosen = [reading[real] for reading in readings]
        contexts = [expert.context(reading) for expert, reading in zip(mixture.experts, chosen, strict=True)]
        for parts_of, expert, reading in zip(features, mixture.experts, chosen, strict=True):
            parts_of.append(expert.log_probs(reading))
        kinds.append(mixture.kinds(contexts))
        y.append(targets.T[real])
    if sum(map(len, y)):
        joined = [np.concatenate(each) for each in features]
        mixture.powers[:] = find_powers(joined, np.concatenate(kinds), np.concatenate(y), len(mixture.powers))


def _sample_lines(vocabulary: Vocabulary, ids: Ids, most: int) -> tuple[Ids, Ids]:
    """Lays lines from all over a text side by side, about `most` symbols: inputs and targets, each (B, T)."""
    bounds = line_bounds(ids, vocabulary.boundary_id)
    sizes = np.minimum(np.diff(bounds), 2 * PIECE_SYMBOLS)
    count = max(1, min(len(sizes), most * len(sizes) // int(sizes.sum())))
    chosen = np.linspace(0, len(sizes) - 1, count).astype(int)
    spans = zip(bounds[chosen].tolist(), sizes[chosen].tolist(), strict=True)
    return pad_lines([ids[begin : begin + size] for begin, size in spans], vocabulary.boundary_id)


def _sample_pieces(vocabulary: Vocabulary, ids: Ids, parts: Sequence[int], most: int) -> tuple[Ids, Ids]:
    """Lays pieces from all over a stream side by side, each behind symbols that only bring the state there."""
    piece = PIECE_SYMBOLS
    spans = []  # where a part begins, and a piece in it begins and ends; a short rest belongs to the last piece
    for a, b in pairwise([*parts, len(ids)]):
        cuts = [*range(a, max(b - piece // 2, a + 1), piece), b]
        spans += [(a, begin, end) for begin, end in pairwise(cuts)]
    chosen = np.linspace(0, len(spans) - 1, max(1, min(len(spans), most // piece))).astype(int)
    spans = [spans[i] for i in np.unique(chosen)]
    starts = np.array([max(a, begin - piece) for a, begin, _ in spans])
    sequences = [ids[start:end] for start, (*_, end) in zip(starts, spans, strict=True)]
    inputs, targets = pad_lines(sequences, vocabulary.boundary_id)
    for row, (start, (a, begin, _)) in enumerate(zip(starts, spans, strict=True)):
        if start > a:
            inputs[row, 0] = ids[start - 1]
        targets[row, : begin - start] = IGNORE
    return inputs, targets


def _sample_beginnings(vocabulary: Vocabulary, ids: Ids, length: int, most: int) -> list[Ids]:
    """Returns what follows the boundary, here and there in a stream, about `most` symbols in all."""
    places = np.flatnonzero(ids[:-1] == vocabulary.boundary_id) + 1 if length else np.zeros(0, np.int64)
    chosen = np.unique(np.linspace(0, len(places) - 1, min(len(places), most // max(length, 1))).astype(int))
    return [ids[place : place + length] for place in places[chosen].tolist()]


def find_powers(
    features: Sequence[LogProbs],
    kinds: Contexts,
    y: Ids,
    n_kinds: int,
    *,
    trust: _Floats | None = None,
    prior: float = PRIOR,
) -> _Floats:
    """Minimises the cross-entropy, the prior included, in each kind of context, by powers that are not negative.

    Args:
        features: f of each expert, up to a constant of each row, shape (N, V).
        kinds: the kind of context at each place, shape (N,).
        y: the symbols that came, shape (N,).
        n_kinds: how many kinds there are.
        trust: the powers that the prior pulls to, (n_kinds, E); None: equal ones.
        prior: strength of that pull.

    Returns:
        The powers, shape (n_kinds, E).
    """
    powers = np.full((n_kinds, len(features)), 1 / len(features)) if trust is None else trust
    derive = partial(derivatives, features=features, kinds=kinds, y=y, trust=trust, prior=prior)
    least, gradient, hessian = derive(powers)
    for _ in range(_MOST_STEPS):
        # What is less likely the more an expert says so is chance, or a held-out text unlike any other: a power
        # that would become negative stays at 0 (projected Newton steps, Bertsekas 1982).
        step = _newton_step(gradient, hessian, fixed=(powers <= 0) & (gradient > 0))
        gain = (gradient * step).sum(1).max() / 2  # of one kind of context, at most
        if gain < _LEAST_GAIN_NATS:
            powers = np.maximum(powers - step, 0)
            break
        moved = np.maximum(powers - step, 0)
        nats, *found = derive(moved)
        while (worse := nats > least + _ROUNDING_NATS).any():  # a step too far
            step[worse] /= 2
            moved = np.maximum(powers - step, 0)
            nats, *found = derive(moved)
        powers, least, (gradient, hessian) = moved, nats, found
    return powers


def _newton_step(gradient: _Floats, hessian: _Floats, fixed: NDArray[np.bool_]) -> _Floats:
    """Solves Hessian · step = gradient, in which some powers do not move."""
    free = ~fixed
    inner = hessian * (free[:, :, None] & free[:, None, :]) + fixed[:, :, None] * np.eye(fixed.shape[1])
    step: _Floats = np.linalg.solve(inner, (gradient * free)[:, :, None])[:, :, 0].astype(np.float64, copy=False)
    return step


def derivatives(
    powers: _Floats,
    features: Sequence[LogProbs],
    kinds: Contexts,
    y: Ids,
    *,
    trust: _Floats | None = None,
    prior: float = PRIOR,
) -> tuple[_Floats, _Floats, _Floats]:
    """Derives the cross-entropy by the powers; in each kind of context `prior`/2 · |a - trust|² is added to it.

    Args:
        powers: a, shape (kinds, E).
        features: as in `find_powers`, and so are `kinds` and `y`.
        kinds: shape (N,).
        y: shape (N,).
        trust: shape (kinds, E); None: 1/E each.
        prior: see `find_powers`.

    Returns:
        Nats, shape (kinds,), their gradient, (kinds, E), and their Hessian, (kinds, E, E).
    """
    n_kinds, E = powers.shape
    off = powers - (1 / E if trust is None else trust)
    nats = prior / 2 * (off * off).sum(1)
    gradient = prior * off
    hessian = np.tile(prior * np.eye(E), (n_kinds, 1, 1))

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
