"""Where is a model good and where not, and who knew it? Held-out text read symbol by symbol, with every expert.

A text is read as evaluation reads it, so that its mean is what `charlm eval` prints. At byte level characters are
put together: what one costs is the sum over its bytes. Of a long text so much is read as takes bounded time and
memory, and the name of the result says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from charlm.analysis.buckets import Bucket, by_class, by_place_in_line, by_place_in_word, group
from charlm.analysis.calibration import CalibrationBin, calibrate
from charlm.analysis.characters import UNKNOWN_CODE, Characters, Floats, Ints, beginning_of, look_at
from charlm.analysis.matches import Match, find_matches
from charlm.errors import InputError
from charlm.experts.expert import LogProbs, Reading
from charlm.experts.mixture import Mixture, log_softmax_at
from charlm.language_model import LanguageModel
from charlm.scoring.log_probs import Beginning, ReadOut, sequence_log_probs, text_log_probs
from charlm.text.corpus import Split
from charlm.text.plain import UNREADABLE
from charlm.text.vocabulary import Ids, Vocabulary

EXCERPT_SYMBOLS = 3000
ALTERNATIVES = 5
DEAREST = 20
DEAREST_APART = 20  # characters; otherwise one strange word would fill the list
AGREEMENT_NATS = 0.1  # within which experts agree

_MOST_SYMBOLS = 1 << 20  # of held-out text
_MOST_NUMBERS = 1 << 30  # logits, symbols times vocabulary: some ten seconds
_MOST_TRAINING_SYMBOLS = 1 << 21  # searched for contexts
_BEFORE_CHARACTERS, _AFTER_CHARACTERS = 40, 20  # shown around one of the dearest places
_WARM_UP_SYMBOLS = 512  # read before one of the dearest places, to come to the state there
_CACHED_NUMBERS = 1 << 16  # logits that are exponentiated together

Alternatives = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Place:
    """One character of the excerpt.

    Attributes:
        text: the character; U+FFFD if the model does not know it.
        known: whether the model knows it.
        log_prob: of the mixture, in nats.
        alternatives: the likeliest symbols there with their log-probabilities, likeliest first, the true one among
            them; at byte level what could be its first byte.
        expert_log_probs: of each expert alone, in the order of `HeldOut.experts`.
        kind: the kind of context; empty where the experts tell none apart.
        decided: which expert gave the true character more than the others; None if they agree within 0.1 nats, or
            there is but one.
        match: the longest context of the character that the training text has.
    """

    text: str
    known: bool
    log_prob: float
    alternatives: Alternatives
    expert_log_probs: tuple[float, ...]
    kind: str
    decided: int | None
    match: Match | None


@dataclass(frozen=True)
class Expensive:
    """One of the places that cost most.

    Attributes:
        place: in characters from the beginning of the text that was read.
        before: the characters before it in its line or part.
        text: the character.
        after: the characters after it.
        log_prob: in nats.
        alternatives: see `Place`.
    """

    place: int
    before: str
    text: str
    after: str
    log_prob: float
    alternatives: Alternatives


@dataclass(frozen=True)
class HeldOut:
    """How a model reads a held-out text.

    Attributes:
        name: what the text is, and how much of it was read if that is not all.
        symbols: characters that were read.
        nats: mean cross-entropy of the mixture, per character.
        experts: their names, the network first.
        expert_nats: the same of each expert alone.
        excerpt: the beginning, about 3,000 symbols.
        dearest: the characters that cost most, dearest first.
        by_class: by class of character.
        by_place_in_word: empty where there are no words.
        by_place_in_line: empty where there are no lines.
        by_known_context: by kind of context; empty where the experts tell none apart.
        calibration: predicted against observed, see `calibration`.
        calibration_error: see there.
        searched: characters of the training text in which contexts of the excerpt were looked for, from its
            beginning; 0 if none were.
        training_characters: what the whole training text has; 0 if it is not there.
    """

    name: str
    symbols: int
    nats: float
    experts: tuple[str, ...]
    expert_nats: tuple[float, ...]
    excerpt: list[Place]
    dearest: list[Expensive]
    by_class: list[Bucket]
    by_place_in_word: list[Bucket]
    by_place_in_line: list[Bucket]
    by_known_context: list[Bucket]
    calibration: list[CalibrationBin]
    calibration_error: float
    searched: int
    training_characters: int


def read_held_out(lm: LanguageModel, held_out: Split, training: Split | None, name: str) -> HeldOut:
    """Reads a held-out text.

    Args:
        lm: the model.
        held_out: encoded by its vocabulary.
        training: the text it was trained on; None: no contexts are looked for in it.
        name: what the held-out text is, in few words.

    Raises:
        InputError: the text is empty.
    """
    mixture, vocabulary = lm.mixture, lm.vocabulary
    split = bounded(vocabulary, held_out)
    if split is not held_out:
        name = f"{name}: {split.characters:,} of {held_out.characters:,} characters"
    characters = Characters.of(vocabulary, split)
    reading = read_symbols(mixture, vocabulary, split)
    log_probs = characters.sums(reading.log_probs)  # (n, 1 + E)
    nats = -log_probs[:, 0]
    kinds = mixture.kind_names()
    bins, error = calibrate(mixture, vocabulary, split)
    searched = None if training is None else beginning_of(vocabulary, training, _MOST_TRAINING_SYMBOLS)
    return HeldOut(
        name=name,
        symbols=len(characters),
        nats=float(nats.mean()),
        experts=tuple(expert.name for expert in mixture.experts),
        expert_nats=tuple((-log_probs[:, 1:].mean(0)).tolist()),
        excerpt=_read_excerpt(mixture, vocabulary, beginning_of(vocabulary, split, EXCERPT_SYMBOLS), searched),
        dearest=_find_dearest(mixture, vocabulary, split, characters, log_probs[:, 0]),
        by_class=by_class(characters, nats),
        by_place_in_word=by_place_in_word(characters, nats),
        by_place_in_line=by_place_in_line(characters, nats),
        by_known_context=group(reading.kinds[characters.symbols], kinds, nats) if len(kinds) > 1 else [],
        calibration=bins,
        calibration_error=error,
        searched=searched.characters if searched else 0,
        training_characters=training.characters if training else 0,
    )


def bounded(vocabulary: Vocabulary, held_out: Split) -> Split:
    """Returns as much of a held-out text as is read, from all over it if it has several parts or lines.

    Raises:
        InputError: the text is empty.
    """
    if not len(held_out.ids):
        raise InputError("the held-out text is empty")
    return look_at(vocabulary, held_out, min(_MOST_SYMBOLS, _MOST_NUMBERS // len(vocabulary)))


# ------------------------------------------------------------------------------------------------ reading


@dataclass(frozen=True)
class SymbolReading:
    """What is known of each of the N symbols of a text.

    Attributes:
        log_probs: of the mixture and of each expert alone, in nats, shape (N, 1 + E).
        kinds: the kind of context, see `Mixture.kinds`, shape (N,).
        likeliest: the ids of the likeliest symbols and their log-probabilities, each (N, K); K may be 0.
    """

    log_probs: Floats
    kinds: Ints
    likeliest: tuple[Ints, Floats]

    @classmethod
    def of(cls, columns: Floats, experts: int) -> SymbolReading:
        """Takes apart what a function of `_read_experts` gave."""
        log_probs, kinds, rest = np.split(columns, [1 + experts, 2 + experts], axis=1)
        ids, values = np.split(rest, 2, axis=1)
        return cls(log_probs, kinds[:, 0].astype(np.int64), (ids.astype(np.int64), values))


def read_symbols(mixture: Mixture, vocabulary: Vocabulary, split: Split, alternatives: int = 0) -> SymbolReading:
    """Reads a text as evaluation does."""
    read_out = _read_experts(mixture, vocabulary, alternatives)
    columns = np.zeros((0, 0))
    for start, found in text_log_probs(mixture, vocabulary, split.ids, split.parts, read_out=read_out):
        if not len(columns):
            columns = np.zeros((len(split.ids), found.shape[1]))
        columns[start : start + len(found)] = found
    return SymbolReading.of(columns, len(mixture.experts))


def _read_experts(mixture: Mixture, vocabulary: Vocabulary, alternatives: int) -> ReadOut:
    """Returns a function that gives of each place all that a `SymbolReading` has, as columns."""
    k = min(alternatives, len(vocabulary) - (vocabulary.unknown_id is not None))

    def read_out(readings: Sequence[Reading], targets: Ids) -> Floats:
        flat = [reading.reshape(-1, reading.shape[-1]) for reading in readings]
        symbols = np.maximum(targets.reshape(-1), 0)
        contexts = [expert.context(own) for expert, own in zip(mixture.experts, flat, strict=True)]
        logits = [expert.log_probs(own) for expert, own in zip(mixture.experts, flat, strict=True)]
        columns = [_log_probs_at(own, symbols) for own in logits]
        mixed = mixture.combine(contexts, logits)  # takes the place of what the experts said
        columns = [_log_probs_at(mixed, symbols), *columns, mixture.kinds(contexts).astype(np.float64)]
        if k:
            columns += _likeliest(mixed.astype(np.float64), k, vocabulary.unknown_id)
        return np.stack(columns, 1).reshape(*targets.shape, -1)

    return read_out


def _log_probs_at(logits: LogProbs, symbols: Ids) -> Floats:
    """Returns log softmax of each row at one symbol, a few rows at a time: (N, V), (N,) → (N,)."""
    result = np.empty(len(symbols))
    rows = max(1, _CACHED_NUMBERS // logits.shape[1])
    for first in range(0, len(symbols), rows):
        part = slice(first, first + rows)
        result[part] = log_softmax_at(logits[part], symbols[part])
    return result


def _likeliest(logits: Floats, k: int, never: int | None) -> list[Floats]:
    """Returns 2k columns: the ids of the likeliest symbols of each row (N, V), and their log-probabilities."""
    logits -= logits.max(1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(1, keepdims=True))
    if never is not None:
        logits[:, never] = -np.inf
    ids = np.argpartition(-logits, k - 1, axis=1)[:, :k]
    values = np.take_along_axis(logits, ids, 1)
    ranks = np.argsort(-values, axis=1, kind="stable")
    return [*np.take_along_axis(ids, ranks, 1).T.astype(np.float64), *np.take_along_axis(values, ranks, 1).T]


def _name_alternatives(vocabulary: Vocabulary, ids: Iterable[int], log_probs: Iterable[float]) -> Alternatives:
    """Pairs what symbols are called with their log-probabilities; a byte of no ASCII character is `\\xe4`."""
    pairs = zip(ids, log_probs, strict=True)
    return tuple((_name(vocabulary, symbol_id), log_prob) for symbol_id, log_prob in pairs)


def _name(vocabulary: Vocabulary, symbol_id: int) -> str:
    if vocabulary.level == "byte" and symbol_id >= 0x80:
        return f"\\x{symbol_id:02x}"
    symbol = vocabulary.symbols[symbol_id]
    return UNREADABLE if "\ud800" <= symbol <= "\udfff" else symbol


# ------------------------------------------------------------------------------------------------ places


def _read_excerpt(mixture: Mixture, vocabulary: Vocabulary, split: Split, training: Split | None) -> list[Place]:
    characters = Characters.of(vocabulary, split)
    reading = read_symbols(mixture, vocabulary, split, ALTERNATIVES)
    log_probs = characters.sums(reading.log_probs)
    kinds = mixture.kind_names()
    matches: list[Match | None] = [None] * len(characters)
    if training is not None:
        searched = Characters.of(vocabulary, training)
        matches = find_matches(searched, characters, lines=vocabulary.framing == "lines")
    return [
        Place(
            text=characters.text(place, place + 1),
            known=bool(characters.codes[place] != UNKNOWN_CODE),
            log_prob=float(log_probs[place, 0]),
            alternatives=_name_alternatives(vocabulary, *(part[symbol].tolist() for part in reading.likeliest)),
            expert_log_probs=tuple(log_probs[place, 1:].tolist()),
            kind=kinds[int(reading.kinds[symbol])],
            decided=find_decider(log_probs[place, 1:]),
            match=match,
        )
        for place, (symbol, match) in enumerate(zip(characters.symbols.tolist(), matches, strict=True))
    ]


def find_decider(log_probs: Floats) -> int | None:
    """Returns which expert gave a character more than the others by over 0.1 nats, (E,); None: none did."""
    if len(log_probs) == 1:
        return None
    second, first = np.sort(log_probs)[-2:]
    return int(log_probs.argmax()) if first - second > AGREEMENT_NATS else None


def _find_dearest(
    mixture: Mixture, vocabulary: Vocabulary, split: Split, characters: Characters, log_probs: Floats
) -> list[Expensive]:
    """Finds the dearest known characters that do not stand close to each other."""
    chosen: list[int] = []
    known = np.flatnonzero(characters.codes != UNKNOWN_CODE)
    # Each of those that are chosen excludes some around it, so among so many there are enough.
    most = min(len(known), DEAREST * 2 * DEAREST_APART)
    if not most:
        return []
    candidates = known[np.argpartition(log_probs[known], most - 1)[:most]]
    for place in candidates[np.argsort(log_probs[candidates], kind="stable")].tolist():
        if all(abs(place - other) >= DEAREST_APART for other in chosen):
            chosen.append(place)
        if len(chosen) == DEAREST:
            break
    sequences = []
    for place in chosen:
        symbol, first = (int(characters.symbols[at]) for at in (place, characters.span(place)[0]))
        sequences.append(split.ids[max(first, symbol - _WARM_UP_SYMBOLS) : symbol + 1])
    read_out = _read_experts(mixture, vocabulary, ALTERNATIVES)
    found = dict(sequence_log_probs(mixture, sequences, Beginning(vocabulary.boundary_id), read_out=read_out))
    dearest = []
    for i, place in enumerate(chosen):
        first, last = characters.span(place)
        reading = SymbolReading.of(found[i][-1:], len(mixture.experts))
        dearest.append(
            Expensive(
                place=place,
                before=characters.text(max(first, place - _BEFORE_CHARACTERS), place),
                text=characters.text(place, place + 1),
                after=characters.text(place + 1, min(last, place + 1 + _AFTER_CHARACTERS)),
                log_prob=float(log_probs[place]),
                alternatives=_name_alternatives(vocabulary, *(part[0].tolist() for part in reading.likeliest)),
            )
        )
    return dearest
