"""What a person should know about a corpus before a loss on it is believed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from charlm.experts.ngram import NgramModel
from charlm.scoring.log_probs import cut_sequences
from charlm.text.corpus import Corpus
from charlm.text.vocabulary import Ids

_UNKNOWN_SHARE = 0.02  # of the validation text, from which on it is worth a remark
_ORDER = 5  # of the n-grams that compare texts
_COUNTED_SYMBOLS = 100_000
_MEASURED_SYMBOLS = 20_000
_EVERY = 10  # one in so many stretches of the training text is held out for the comparison
_STRETCH_SYMBOLS = 1000
_UNLIKE_FACTOR, _UNLIKE_NATS = 1.25, 0.25  # so much more may new text of the same kind cost by chance


def remarks(corpus: Corpus) -> Iterator[str]:
    """Says what reading the text has found, what the validation loss is measured on, and when it says little."""
    yield from corpus.notes
    vocabulary, held_out = corpus.vocabulary, corpus.validation
    if not len(held_out.ids):
        return
    yield f"validation: {corpus.held_out} ({held_out.characters:,} characters)"
    unknown = held_out.count(vocabulary.unknown_id) / len(held_out.ids)
    if unknown > _UNKNOWN_SHARE:
        yield (
            f"warning: {unknown:.0%} of the validation text is characters that the training text lacks; they all "
            "count as one symbol, <unk>, so the validation loss looks better than the model is"
        )
    same, other = _compare(corpus)
    if other > _UNLIKE_FACTOR * same + _UNLIKE_NATS:
        yield (
            f"warning: the validation text is unlike the training text ({_ORDER}-grams need {other:.2f} nats a "
            f"character there, and {same:.2f} on unseen training text); what is learnt will fit it badly"
        )


def _compare(corpus: Corpus) -> tuple[float, float]:
    """Returns the nats of n-grams on held-out training text, and on the validation text."""
    vocabulary = corpus.vocabulary
    train, held_out = corpus.train, corpus.validation
    sequences = cut_sequences(vocabulary, train.ids, train.parts)
    stretches = [s[i : i + _STRETCH_SYMBOLS] for s in sequences for i in range(0, len(s), _STRETCH_SYMBOLS)]
    total = sum(map(len, stretches))
    step = max(1, total // _COUNTED_SYMBOLS)  # of a long text, stretches from all over
    chosen = stretches[::step]
    counted = [s for i, s in enumerate(chosen) if i % _EVERY]
    measured = chosen[::_EVERY]
    if not counted:
        return 0.0, 0.0
    model = NgramModel(counted, len(vocabulary), vocabulary.boundary_id, _ORDER)
    others = cut_sequences(vocabulary, held_out.ids, held_out.parts)
    return _nats(model, measured), _nats(model, others)


def _nats(model: NgramModel, sequences: list[Ids]) -> float:
    """Returns the mean nats over some of the sequences, from all over them."""
    total = sum(map(len, sequences))
    step = max(1, total // _MEASURED_SYMBOLS)
    some = [s[:_STRETCH_SYMBOLS] for s in sequences[:: min(step, max(1, len(sequences) // _EVERY))]]
    log_probs = np.concatenate(model.sequence_log_probs(some))
    return -float(log_probs.mean()) if len(log_probs) else 0.0
