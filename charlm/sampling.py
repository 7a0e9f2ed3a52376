"""Writing: characters drawn one after another, each fed back as the next input.

Sample k draws its random numbers from a generator keyed by (seed, k), one number a character, so it depends only
on the seed and k: asking for more samples, or for one alone, changes none of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from charlm.config import SamplingConfig
from charlm.errors import InputError
from charlm.experts.mixture import Mixture, Step
from charlm.scoring.log_probs import CONTEXT_SYMBOLS, read_context
from charlm.system.threads import parallel_map
from charlm.text.characters import name_characters
from charlm.text.vocabulary import Ids, Vocabulary

_MAX_BATCH = 64
_BLOCK_CHARACTERS = 256  # random numbers of a sample made at once, and characters joined


def choose(rule: SamplingConfig, logits: NDArray[np.floating], uniform: NDArray[np.float64]) -> NDArray[np.intp]:
    """Draws one symbol for each row.

    The rules apply in this order, each to what the one before has left: temperature, top-k, top-p (Holtzman et al.
    2020), min-p.

    Args:
        rule: the `sampling` section of the configuration.
        logits: shape (B, V); -inf for what must not be drawn.
        uniform: numbers in [0, 1), shape (B,).

    Returns:
        ids, shape (B,).
    """
    if rule.temperature == 0:
        likeliest: NDArray[np.intp] = logits.argmax(1)
        return likeliest
    B, V = logits.shape
    p = logits.astype(np.float64)  # (B, V)
    # Less the maximum first, and smaller temperatures as this one: they would overflow else.
    p -= p.max(1, keepdims=True)
    p /= max(rule.temperature, 1e-30)
    np.exp(p, out=p)  # e to the logits: the softmax but for a factor
    # Sorting is half the work, or for thousands of symbols nearly all: only the rules that need it pay for it.
    order: NDArray[np.intp] | None = None
    if rule.top_k is not None or rule.top_p is not None:
        order = np.negative(p).argsort(1, kind="stable")  # equally likely ones in the vocabulary's order
        p = p.take(order + np.arange(0, B * V, V)[:, None])
    if rule.top_k is not None:
        p[:, rule.top_k :] = 0
    if rule.top_p is not None:
        p /= p.sum(1, keepdims=True)
        p[p.cumsum(1) - p >= rule.top_p] = 0
    if rule.min_p is not None:
        p[p < rule.min_p * p.max(1, keepdims=True)] = 0
    cumulative = p.cumsum(1)
    total = cumulative[:, -1]
    # Rounding must not step behind the last possible one.
    reached = np.minimum(uniform * total, np.nextafter(total, 0))  # (B,)
    place: NDArray[np.intp]
    place = cumulative[0].searchsorted(reached, "right") if B == 1 else (cumulative <= reached[:, None]).sum(1)
    return place if order is None else order[np.arange(B), place]


Ended = Literal["length", "stop", "line"]


class Sample(str):
    """A written text: a string that also knows where it came from.

    Attributes:
        number: k, see the module.
        prompt: the text that it goes on from.
        ended: why it ended: `length`, it has all characters asked for; `stop`, it ended with the stop text; or
            `line`, the model ended its line (in lines framing).
    """

    number: int
    prompt: str
    ended: Ended

    def __new__(cls, text: str, prompt: str = "", ended: Ended = "length", number: int = 0) -> Sample:
        """Makes a sample of its text."""
        sample = super().__new__(cls, text)
        sample.number = number
        sample.prompt = prompt
        sample.ended = ended
        return sample


class _Text:
    """One sample as it grows: symbols go in, text comes out, until it is complete.

    Args:
        vocabulary: of the symbols.
        length: its characters; in lines framing it also ends where its line does.
        stop: end it as soon as it ends with this.
    """

    def __init__(self, vocabulary: Vocabulary, length: int, stop: str | None) -> None:
        self.going = length > 0
        self._decoder = vocabulary.decoder()
        self._end = vocabulary.boundary_id if vocabulary.framing == "lines" else None
        self._left = length
        self._stop = stop
        self._last = ""  # characters, as many as `stop` has

    def feed(self, symbol: int) -> str:
        """Returns the text that this symbol adds: a character, or nothing while a character lacks bytes."""
        if symbol == self._end:
            self.going = False
        piece = self._decoder.feed(symbol if self.going else None)
        if len(piece) == 1 and self._left > 1 and not self._stop:
            self._left -= 1
            return piece
        for place, char in enumerate(piece, 1):  # one byte can complete two characters: a broken one, and itself
            self._left -= 1
            if self._stop:
                self._last = (self._last + char)[-len(self._stop) :]
            if self._left == 0 or (self._stop and self._last == self._stop):
                self.going = False
                return piece[:place]
        return piece


def write(
    mixture: Mixture,
    vocabulary: Vocabulary,
    samples: Sequence[int],
    rule: SamplingConfig,
    *,
    prompt: str = "",
    seed: int = 0,
    stop: str | None = None,
    block: int = _BLOCK_CHARACTERS,
) -> Iterator[list[str]]:
    """Writes samples side by side, a character at a time.

    Args:
        mixture: the model.
        vocabulary: the model's own.
        samples: the numbers k of the samples to write.
        rule: how many characters each sample has, and how they are drawn; in lines framing a sample also ends where
            its line does.
        prompt: text that each sample goes on from; it is not part of the result.
        seed: see the module.
        stop: end a sample as soon as it ends with this text, normalised as the training text was.
        block: so many random numbers of a sample are made at once.

    Yields:
        The next piece of each sample: a character, or nothing once the sample is complete (or while a character
        lacks bytes).

    Raises:
        InputError: the prompt or the stop text has characters that the model cannot write, or several lines where
            the model writes single ones.
    """
    B = len(samples)
    ids = _encode_prompt(vocabulary, prompt)
    stop = normalize_stop(vocabulary, stop)
    uniform = _uniform(seed, samples, block)
    texts = [_Text(vocabulary, rule.length, stop) for _ in samples]
    if not any(text.going for text in texts):
        return
    readings, state = read_context(mixture, ids, mixture.initial_state(1))  # once for all
    logits = mixture.logits(readings).repeat(B, 0)  # (B, V)
    _exclude_empty_lines(vocabulary, [ids] * B, logits)
    yield from _go_on(vocabulary, texts, rule, uniform, logits, mixture.make_step(mixture.repeat(state, B)))


def write_after(
    mixture: Mixture,
    vocabulary: Vocabulary,
    prompts: Sequence[Ids],
    samples: Sequence[int],
    rule: SamplingConfig,
    *,
    seed: int = 0,
    block: int = _BLOCK_CHARACTERS,
) -> Iterator[list[str]]:
    """Writes one text after each of several prompts, side by side; it yields what `write` does.

    Args:
        mixture: the model.
        vocabulary: the model's own.
        prompts: ids, shape (n_i,), the boundary the first of each; they may be unknown.
        samples: a number k for each prompt.
        rule: see `write`.
        seed: see the module.
        block: see `write`.
    """
    B = len(prompts)
    texts = [_Text(vocabulary, rule.length, None) for _ in prompts]
    if not any(text.going for text in texts):
        return
    together = min(map(len, prompts))
    ids = np.stack([prompt[:together] for prompt in prompts], 1)  # (T, B)
    readings, state = read_context(mixture, ids, mixture.initial_state(B), symbols=max(1, CONTEXT_SYMBOLS // B))
    rests = [prompt[together:] for prompt in prompts]
    uniform = _delayed(seed, samples, block, [len(rest) for rest in rests])
    logits = mixture.logits(readings)
    _exclude_empty_lines(vocabulary, prompts, logits)
    yield from _go_on(vocabulary, texts, rule, uniform, logits, mixture.make_step(state), rests)


def _exclude_empty_lines(vocabulary: Vocabulary, prompts: Sequence[Ids], logits: NDArray[np.floating]) -> None:
    """In lines framing lets no text end where it begins: training leaves empty lines out.

    Args:
        vocabulary: the model's own.
        prompts: of each text, the boundary the first of each.
        logits: of the first symbol after each, (B, V).
    """
    if vocabulary.framing == "lines" and set(vocabulary.characters) > {vocabulary.boundary}:
        logits[[len(prompt) == 1 for prompt in prompts], vocabulary.boundary_id] = -np.inf


def _go_on(
    vocabulary: Vocabulary,
    texts: Sequence[_Text],
    rule: SamplingConfig,
    uniform: Iterator[NDArray[np.float64]],
    logits: NDArray[np.floating],
    step: Step,
    rests: Sequence[Ids] = (),
) -> Iterator[list[str]]:
    """Yields the next piece of each text until all are complete, from the logits (B, V) of their first symbols on.

    Of a prompt that is longer than the others the rest is read first, symbol by symbol.
    """
    for place in itertools.count():
        if vocabulary.unknown_id is not None:
            logits[:, vocabulary.unknown_id] = -np.inf
        chosen = choose(rule, logits, next(uniform))  # (B,)
        reading = {row: int(rest[place]) for row, rest in enumerate(rests) if place < len(rest)}
        for row, symbol in reading.items():
            chosen[row] = symbol
        yield [
            text.feed(symbol) if text.going and row not in reading else ""
            for row, (text, symbol) in enumerate(zip(texts, chosen.tolist(), strict=True))
        ]
        if not any(text.going for text in texts):
            return
        logits = step(chosen)


def _uniform(seed: int, samples: Sequence[int], block: int) -> Iterator[NDArray[np.float64]]:
    """Yields numbers in [0, 1), one for each sample, from counter-based generators keyed by (seed, k)."""
    if not 0 <= seed < 2**64:
        raise InputError(f"seed {seed}: must be from 0 to 2**64 - 1")
    rngs = [np.random.Generator(np.random.Philox(key=np.array([seed, k], np.uint64))) for k in samples]
    while True:
        yield from np.stack([rng.random(block) for rng in rngs], 1)


def _delayed(seed: int, samples: Sequence[int], block: int, delays: Sequence[int]) -> Iterator[NDArray[np.float64]]:
    """As `_uniform`, but the numbers of each sample begin so many steps later, after zeros."""
    numbers = [_uniform(seed, [k], block) for k in samples]
    for place in itertools.count():
        yield np.array(
            [next(own)[0] if place >= delay else 0.0 for own, delay in zip(numbers, delays, strict=True)]
        )


def write_texts(
    mixture: Mixture,
    vocabulary: Vocabulary,
    count: int,
    rule: SamplingConfig,
    *,
    prompt: str = "",
    seed: int = 0,
    stop: str | None = None,
    only_new: bool = False,
    first: int = 0,
    batch: int = _MAX_BATCH,
    block: int = _BLOCK_CHARACTERS,
) -> Iterator[Sample]:
    """Yields `count` whole samples from number `first` on, a batch at a time.

    Each begins with the prompt and may end with the stop text, unless it is to have `only_new` text. Other
    arguments as in `write`.
    """
    ending = normalize_stop(vocabulary, stop)
    for start in range(first, first + count, batch):
        samples = range(start, min(start + batch, first + count))
        steps = write(mixture, vocabulary, samples, rule, prompt=prompt, seed=seed, stop=stop, block=block)
        texts: list[list[str]] = [[] for _ in samples]
        # As strings, which take a tenth of the memory of their pieces.
        while some := list(islice(steps, block)):
            for k, text in enumerate(texts):
                text.append("".join(pieces[k] for pieces in some))
        for number, pieces in zip(samples, texts, strict=True):
            written = "".join(pieces)
            ended: Ended = "length" if len(written) == rule.length else "line"
            if ending and written.endswith(ending):
                ended = "stop"
            if only_new:
                yield Sample(written.removesuffix(ending) if ended == "stop" else written, prompt, ended, number)
            else:
                yield Sample(prompt + written, prompt, ended, number)


def write_at_once(
    mixture: Mixture, vocabulary: Vocabulary, count: int, rule: SamplingConfig, *, seed: int = 0
) -> list[str]:
    """Returns `count` samples without a prompt; on a CPU batches of them are written beside each other."""

    def write_some(samples: range) -> list[str]:
        steps = list(write(mixture, vocabulary, samples, rule, seed=seed))
        return ["".join(pieces) for pieces in zip(*steps, strict=True)]

    batches = [range(start, min(start + _MAX_BATCH, count)) for start in range(0, count, _MAX_BATCH)]
    divides = mixture.network.divides_batches
    written = parallel_map(write_some, batches) if divides else map(write_some, batches)
    return [text for texts in written for text in texts]


def without_stop(pieces: Iterable[str], stop: str) -> Iterator[str]:
    """Passes on the pieces of one text but for the stop text at its end, which they are held back for."""
    held = ""
    for piece in pieces:
        held += piece
        ready = max(0, len(held) - len(stop))
        yield held[:ready]
        held = held[ready:]
    yield held.removesuffix(stop)


def check_writable(vocabulary: Vocabulary, text: str, name: str) -> None:
    """Refuses a normalised text that the model could never have written.

    Args:
        vocabulary: the model's own.
        text: the text.
        name: what messages call it.

    Raises:
        InputError: it has several lines where the model writes single ones, or characters that are not in the
            vocabulary.
    """
    if vocabulary.framing == "lines" and ("\n" in text or "\r" in text):
        raise InputError(
            f"{name} has more than one line, but this model writes single lines (corpus.framing is lines); "
            "give one line without a newline"
        )
    if unknown := vocabulary.unknown_in(text):
        names = name_characters(unknown)
        raise InputError(f"{name} has characters that the model has never seen: {names}; leave them out")


def normalize_stop(vocabulary: Vocabulary, stop: str | None) -> str:
    """Returns the stop text as the model would write it; empty if there is none.

    Raises:
        InputError: the model can never write it.
    """
    text = vocabulary.normalize(stop or "")
    check_writable(vocabulary, text, "the stop text")
    return text


def _encode_prompt(vocabulary: Vocabulary, prompt: str) -> Ids:
    """Returns the boundary and the prompt as ids, shape (1 + N,)."""
    text = vocabulary.normalize(prompt)
    check_writable(vocabulary, text, "the prompt")
    return np.append([vocabulary.boundary_id], vocabulary.encode_sentence(text))
