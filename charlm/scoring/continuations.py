"""How a text goes on: how likely is a continuation of a context, and would the model have written it?

    log p(continuation given context) = Σ_t log o_t[x_{t+1}],  t over the symbols of the continuation

Context and continuation are text of the corpus: a boundary opens the context, no end is added to the continuation,
and a newline is what it is in the corpus. In lines framing it ends a line, the next begins from the zero state, and
so of a context its last line alone counts. Each context is read with its continuation, pairs of like length side by
side.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

import numpy as np

from charlm.experts.mixture import Mixture
from charlm.scoring.log_probs import Beginning, sequence_log_probs
from charlm.scoring.sentences import spread_unknown
from charlm.text.batches import line_bounds
from charlm.text.vocabulary import Ids, Vocabulary


class Continuation(NamedTuple):
    """What the model says of a continuation.

    Attributes:
        logprob: its log-probability given its context, in nats; an unknown character has its share of `<unk>`.
        is_greedy: whether each of its characters is the likeliest after those before it; an unknown one never is.
    """

    logprob: float
    is_greedy: bool


class _Part(NamedTuple):
    """A sequence that is read from the zero state; its first symbols are context."""

    pair: int
    ids: Ids
    context: int


def score_continuations(
    mixture: Mixture, vocabulary: Vocabulary, pairs: Iterable[tuple[str, str]]
) -> list[Continuation]:
    """Scores continuations, each given its context.

    A score does not depend on the others, beyond rounding, below 1e-5 nats a character.

    Args:
        mixture: the model.
        vocabulary: the model's.
        pairs: (context, continuation); either may be empty.
    """
    parts: list[_Part] = []
    count = 0
    for pair, (context, continuation) in enumerate(pairs):
        count += 1
        before = encode_context(vocabulary, context)
        after = vocabulary.encode(vocabulary.normalize(continuation))
        first, *lines = _in_lines(vocabulary, np.append(before, after))
        parts.append(_Part(pair, first, len(before)))
        parts += [_Part(pair, line, 0) for line in lines]
    parts = [part for part in parts if len(part.ids) > part.context]
    log_probs, greedy = np.zeros(count), np.ones(count, np.bool_)
    found = sequence_log_probs(
        mixture,
        [part.ids for part in parts],
        Beginning(vocabulary.boundary_id),
        read_out=partial(mixture.greedy_log_probs, never=vocabulary.unknown_id),
    )
    for i, numbers in found:
        pair, ids, context_length = parts[i]
        likely, likeliest = numbers[context_length:].T
        log_probs[pair] += spread_unknown(vocabulary, ids[context_length:], likely).sum()
        greedy[pair] &= likeliest.all()
    return list(map(Continuation, log_probs.tolist(), greedy.tolist()))


def encode_context(vocabulary: Vocabulary, context: str) -> Ids:
    """Returns what counts of a context, as ids (N,): in lines framing its last line, else all of it."""
    return _in_lines(vocabulary, vocabulary.encode(vocabulary.normalize(context)))[-1]


def _in_lines(vocabulary: Vocabulary, ids: Ids) -> list[Ids]:
    """Cuts a text behind each line, in lines framing; the last line has no end, and may be empty."""
    if vocabulary.framing != "lines":
        return [ids]
    return np.split(ids, line_bounds(ids, vocabulary.boundary_id)[1:])
