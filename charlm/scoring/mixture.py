"""How much a mixture trusts its network and its n-gram model, found on held-out text.

    p(w) ∝ o[w]^a_k p_ngram(w)^b_k

with k the length of the longest context that the n-gram model knows at that place. This is a softmax regression on
two numbers for each symbol, f_w = (log o[w], log p_ngram(w)), so its cross-entropy is convex in (a_k, b_k), and
Newton's steps find the minimum. With y the symbol that came,

    gradient = Σ (E_p[f] - f_y),    Hessian = Σ Cov_p[f]
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from charlm.model.network import CharacterModel, reading
from charlm.text.batches import IGNORE, line_bounds, pad_lines
from charlm.text.vocabulary import Ids, Vocabulary

_MOST_NUMBERS = 1 << 24  # probabilities of each model in memory
_MOST_PLACES = 1 << 14  # fourteen numbers then miss the best nats by half a thousandth
_PIECE = 256  # symbols of a stream that are read together, after as many that only bring the state there
_MOST_STEPS = 20
_WORTH = 0.02  # nats in all, of thousands
_ROUNDING = 1e-3  # by so much may the same powers seem to differ
_PRIOR = 10.0  # strength of the pull towards equal trust; one or two symbols outweigh it
_ROWS = 1024  # places whose covariances are made together


def fit_mixture(model: CharacterModel, vocabulary: Vocabulary, ids: Ids) -> None:
    """Sets the `ngram_powers` of a model, to which n-grams are attached, to the likeliest on a held-out text.

    Args:
        model: in evaluation mode or not.
        vocabulary: the model's.
        ids: the text, shape (N,), N ≥ 1; pieces from all over it are looked at.
    """
    inputs, targets = _sample(vocabulary, ids, min(_MOST_PLACES, _MOST_NUMBERS // len(vocabulary)))
    with reading(model):
        x = torch.from_numpy(inputs).to(model.device).t()  # (T, B)
        y = torch.from_numpy(targets).long().to(model.device).t()
        features, _ = model.features(x, model.initial_state(x.shape[1]))
        real = y != IGNORE
        network, ngram, known = model.experts(features[real])
        powers = model.ngram_powers
        assert powers is not None
        powers.copy_(_likeliest(network, ngram, known, y[real], len(powers)))


def _sample(vocabulary: Vocabulary, ids: Ids, most: int) -> tuple[Ids, Ids]:
    """Lays pieces from all over a text side by side, about `most` symbols: inputs and targets, each (B, T)."""
    if vocabulary.framing == "lines":
        bounds = line_bounds(ids, vocabulary.boundary_id).tolist()
        lines = [ids[a : min(b, a + 2 * _PIECE)] for a, b in pairwise(bounds)]
        count = max(1, min(len(lines), most * len(lines) // sum(map(len, lines))))
        return pad_lines(
            [lines[i] for i in np.linspace(0, len(lines) - 1, count).astype(int)], vocabulary.boundary_id
        )
    count = max(1, min(most, len(ids)) // _PIECE)
    starts = np.linspace(0, max(0, len(ids) - 2 * _PIECE), count).astype(int)
    inputs, targets = pad_lines([ids[a : a + 2 * _PIECE] for a in starts], vocabulary.boundary_id)
    inside = starts > 0
    inputs[inside, 0] = ids[starts[inside] - 1]
    targets[inside, :_PIECE] = IGNORE
    return inputs, targets


def _likeliest(network: Tensor, ngram: Tensor, known: Tensor, y: Tensor, classes: int) -> Tensor:
    """Minimises the cross-entropy of each class.

    Args:
        network: log o up to a constant of each row, shape (N, V).
        ngram: log p_ngram, shape (N, V).
        known: the class of each row, shape (N,).
        y: the symbols that came, shape (N,).
        classes: their number.

    Returns:
        (a_k, b_k) of each class, shape (classes, 2).
    """
    powers = torch.full((classes, 2), 0.5, dtype=torch.float64, device=network.device)
    least, gradient, hessian = _derivatives(powers, network, ngram, known, y)
    for _ in range(_MOST_STEPS):
        step: Tensor = torch.linalg.solve(hessian, gradient)
        if (gradient * step).sum(1).max() <= _WORTH:  # twice what it can gain: so near, it is exact enough
            return powers - step
        nats, *found = _derivatives(powers - step, network, ngram, known, y)
        while (worse := nats > least + _ROUNDING).any():  # a step too far
            step[worse] /= 2
            nats, *found = _derivatives(powers - step, network, ngram, known, y)
        powers, least, (gradient, hessian) = powers - step, nats, found
    return powers


def _derivatives(
    powers: Tensor, network: Tensor, ngram: Tensor, known: Tensor, y: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns nats (classes,), gradient (classes, 2) and Hessian (classes, 2, 2), the prior included."""
    off = powers - 0.5
    nats = _PRIOR / 2 * (off * off).sum(1)
    gradient = _PRIOR * off
    hessian = _PRIOR * torch.eye(2).to(powers).repeat(len(powers), 1, 1)
    for o, g, k, target in zip(*(part.split(_ROWS) for part in (network, ngram, known, y)), strict=True):
        a, b = powers[k].to(o).unsqueeze(2).unbind(1)  # (n, 1)
        log_p = F.log_softmax(a * o + b * g, 1)
        p = log_p.exp()
        mean_o, mean_g = (p * o).sum(1, keepdim=True), (p * g).sum(1, keepdim=True)
        o, g = o - mean_o, g - mean_g
        at_target = target.unsqueeze(1)
        first = -torch.cat([o.gather(1, at_target), g.gather(1, at_target)], 1)
        po, pg = p * o, p * g
        second = torch.stack([(po * o).sum(1), (po * g).sum(1), (po * g).sum(1), (pg * g).sum(1)], 1)
        nats.index_add_(0, k, -log_p.gather(1, at_target)[:, 0].double())
        gradient.index_add_(0, k, first.double())
        hessian.index_add_(0, k, second.double().view(-1, 2, 2))
    return nats, gradient, hessian
