"""What a person should know about a corpus before a loss on it is believed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from charlm.experts.ngram import NgramModel
from charlm.scoring.log_probs import cut_sequences
from charlm.system.counts import count_of
from charlm.text.corpus import Corpus, Split
from charlm.text.vocabulary import Ids, Vocabulary

_UNKNOWN_SHARE = 0.02  # of the validation text, from which on it is worth a remark
_ORDER = 5  # of the n-grams that compare texts
_COUNTED_SYMBOLS = 100_000
_MEASURED_SYMBOLS = 20_000
_SAMPLED_SYMBOLS = 1 << 24  # of a larger text, cut into stretches to choose from
_EVERY = 10  # one in so many stretches of the training text is held out for the comparison
_STRETCH_SYMBOLS = 1000
_UNLIKE_FACTOR, _UNLIKE_NATS = 1.2, 0.1  # so much more may new text of the same kind cost
_STANDARD_ERRORS = 2  # and so much by chance


def remarks(corpus: Corpus) -> Iterator[str]:
    """Says what reading the text has found, what the validation loss is measured on, and when it says little."""
    yield from corpus.notes
    held_out = corpus.validation
    if not len(held_out.ids):
        return
    yield f"validation: {corpus.held_out} ({count_of(held_out.characters, 'character')})"
    unknown = unknown_share(corpus)
    if unknown > _UNKNOWN_SHARE:
        yield (
            f"warning: {unknown:.0%} of the characters of the validation text do not occur in the training text; "
            "they all count as one symbol, <unk>, so the validation loss looks better than the model is"
        )
    same, other, error = _compare(corpus)
    if other > _UNLIKE_FACTOR * same + _UNLIKE_NATS + _STANDARD_ERRORS * error:
        yield (
            f"warning: the validation text differs from the training text ({_ORDER}-grams of the training text "
            f"need {other:.2f} nats per character on it, but {same:.2f} on unseen text of the same kind), so the "
            "validation loss will be high"
        )


def unknown_share(corpus: Corpus) -> float:
    """Returns the share of the validation text that the vocabulary does not know."""
    held_out = corpus.validation
    return held_out.count(corpus.vocabulary.unknown_id) / max(1, len(held_out.ids))


def _compare(corpus: Corpus) -> tuple[float, float, float]:
    """Returns the nats of n-grams on held-out training and on validation text, and their difference's error."""
    vocabulary = corpus.vocabulary
    boundary_id = vocabulary.boundary_id if vocabulary.framing == "lines" else None
    stretches = _stretches(corpus.train.sample(_SAMPLED_SYMBOLS, boundary_id), vocabulary)
    chosen = stretches[:: _step(stretches, _COUNTED_SYMBOLS)]
    counted = [s for i, s in enumerate(chosen) if i % _EVERY]
    if not counted:
        return 0.0, 0.0, 0.0
    model = NgramModel(counted, len(vocabulary), vocabulary.boundary_id, _ORDER)
    same = _nats(model, chosen[::_EVERY])
    other = _nats(model, _stretches(corpus.validation.sample(_SAMPLED_SYMBOLS, boundary_id), vocabulary))
    error = np.sqrt(sum(nats.var() / max(1, len(nats)) for nats in (same, other)))
    return float(same.mean()), float(other.mean()), float(error)


def _stretches(split: Split, vocabulary: Vocabulary) -> list[Ids]:
    """Cuts a split into stretches that are read by themselves; lines are none longer than a stretch."""
    sequences = cut_sequences(vocabulary, split.ids, split.parts)
    return [s[i : i + _STRETCH_SYMBOLS] for s in sequences for i in range(0, len(s), _STRETCH_SYMBOLS)]


def _step(stretches: list[Ids], symbols: int) -> int:
    """Returns how many stretches there are for each that is taken, so that about so many symbols are."""
    return max(1, sum(map(len, stretches)) // symbols)


def _nats(model: NgramModel, stretches: list[Ids]) -> NDArray[np.float64]:
    """Returns the nats of each symbol of some of the stretches, from all over them."""
    step = min(_step(stretches, _MEASURED_SYMBOLS), max(1, len(stretches) // _EVERY))
    return -np.concatenate(model.sequence_log_probs(stretches[::step])).astype(np.float64)
