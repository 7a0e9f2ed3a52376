"""What else could stand here? The likeliest other characters at each place of a sentence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charlm.errors import InputError
from charlm.experts.mixture import Mixture
from charlm.scoring import html
from charlm.scoring.conditions import Conditions
from charlm.scoring.sentences import begin
from charlm.text.vocabulary import Ids, Vocabulary, to_bytes

MAX_NUMBERS = 1 << 20  # log-probabilities, T·V, held at once


@dataclass(frozen=True)
class Alternative:
    """Another character that could come at a place of a sentence.

    Attributes:
        char: the character; the end of the sentence is `</s>`. At byte level, a byte that is only a part of a
            character is a lone surrogate (U+DC80 and above), as elsewhere in Python.
        logprob: its log-probability at this place, in nats.
    """

    char: str
    logprob: float


class Alternatives(list[tuple[Alternative, ...]]):
    """The alternatives at each place of a sentence, a list, which a notebook shows as a table.

    Args:
        found: the alternatives at each place.
        chars: what stands there.
    """

    def __init__(self, found: Iterable[tuple[Alternative, ...]] = (), chars: Iterable[str] = ()) -> None:
        super().__init__(found)
        self.chars = tuple(chars)

    def _repr_html_(self) -> str:
        most = max(map(len, self), default=0)
        rows = [["place", "stands", *(["likeliest"] * (most > 0)), *map(str, range(2, most + 1))]]
        for place, (char, others) in enumerate(zip(self.chars, self, strict=False), 1):
            cells = [f"{html.visible_alone(other.char)} {math.exp(other.logprob):.1%}" for other in others]
            rows.append([f"{place:,}", html.visible_alone(char), *cells])
        return html.table(rows, header=True, what="places")


def alternatives(
    mixture: Mixture,
    vocabulary: Vocabulary,
    sentence: str,
    k: int,
    conditions: Conditions,
    *,
    max_numbers: int = MAX_NUMBERS,
) -> Alternatives:
    """Returns, for each character of a sentence and its end, the k likeliest others, likeliest first.

    `<unk>` is none. At byte level they stand for the first byte of each character.

    Raises:
        InputError: k is below 1.
    """
    if k < 1:
        raise InputError(f"alternatives {k}: must be at least 1")
    text = vocabulary.normalize(sentence)
    end = [vocabulary.boundary_id] if conditions.eos and vocabulary.ends_sentences else []
    ids = np.append(vocabulary.encode_sentence(text), np.array(end, np.int32))  # (N,)
    if not len(ids):
        return Alternatives()
    log_probs = _log_probs(mixture, vocabulary, ids, conditions, max_numbers)
    places = np.arange(len(ids))
    if vocabulary.level == "byte":
        sizes = [len(to_bytes(char)) for char in text] + [1] * len(end)
        places = np.cumsum([0, *sizes[:-1]])
    k = min(k, len(vocabulary) - (1 if vocabulary.unknown_id is None else 2))
    found: list[tuple[Alternative, ...]] = []
    for first, part in log_probs:
        here = places[(places >= first) & (places < first + len(part))]
        found += _likeliest_others(vocabulary, part[here - first], ids[here], k)
    return Alternatives(found, [*text, *(vocabulary.name_of(i) for i in end)])


def _log_probs(
    mixture: Mixture, vocabulary: Vocabulary, ids: Ids, conditions: Conditions, max_numbers: int
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yields a place of a sentence, and the log-probability (nats) of every symbol from there on, (T, V)."""
    beginning = begin(mixture, vocabulary, conditions)
    start = 0
    if beginning is None:  # nothing stands before the first symbol, so frequencies speak
        yield 0, vocabulary.unigram_log_probs[None].copy()
        state, start = mixture.initial_state(1), 1
        inputs = ids[:-1]
    else:
        first_id, before = beginning
        state = mixture.initial_state(1) if before is None else before
        inputs = np.append(np.array([first_id], np.int32), ids[:-1])
    window = max(1, max_numbers // len(vocabulary))
    for first in range(0, len(inputs), window):
        readings, state = mixture.advance(inputs[first : first + window, None], state)
        logits = mixture.logits([reading[:, 0] for reading in readings]).astype(np.float64)  # (T, V)
        logits -= logits.max(1, keepdims=True)
        yield start + first, logits - np.log(np.exp(logits).sum(1, keepdims=True))


def _likeliest_others(
    vocabulary: Vocabulary, log_probs: NDArray[np.float64], standing: Ids, k: int
) -> Iterator[tuple[Alternative, ...]]:
    """Yields for each row (N, V) the k likeliest symbols but the one that stands there."""
    if vocabulary.unknown_id is not None:
        log_probs[:, vocabulary.unknown_id] = -np.inf
    log_probs[np.arange(len(standing)), standing] = -np.inf
    for row in log_probs:
        best = np.argpartition(-row, k - 1)[:k]
        best = best[np.argsort(-row[best], kind="stable")]
        yield tuple(Alternative(vocabulary.name_of(i), float(row[i])) for i in best.tolist())
