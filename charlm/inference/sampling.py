"""Writing: characters drawn one after another, each fed back as the next input.

Sample k draws its random numbers from a generator keyed by (seed, k), one number a character, so it depends only
on the seed and k: asking for more samples, or for one alone, changes none of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from charlm.errors import InputError
from charlm.inference.scoring import reading
from charlm.model import CharacterModel
from charlm.text.vocabulary import Vocabulary

_MAX_BATCH = 64


@dataclass(frozen=True)
class Draw:
    """How the next character is drawn from the softmax.

    The rules apply in this order, each to what the one before has left: temperature, top-k, top-p, min-p.

    Attributes:
        temperature: divides the logits; 0 takes the likeliest character always.
        top_k: only the K likeliest characters.
        top_p: only the likeliest characters that together hold this probability (Holtzman et al. 2020).
        min_p: only characters at least this fraction as likely as the likeliest.
    """

    temperature: float = 0.8
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 100:
            raise InputError(f"temperature {self.temperature}: must be from 0 to 100")
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"top-k {self.top_k}: must be at least 1")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise InputError(f"top-p {self.top_p}: must be above 0 and at most 1")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise InputError(f"min-p {self.min_p}: must be from 0 to 1")

    def choose(self, logits: Tensor, uniform: Tensor) -> Tensor:
        """Draws one symbol for each row.

        Args:
            logits: shape (B, V); -inf for what must not be drawn.
            uniform: numbers in [0, 1), shape (B,).

        Returns:
            ids, shape (B,).
        """
        if self.temperature == 0:
            return logits.argmax(1)
        # Less the maximum first: the smallest temperatures would overflow else.
        scaled = (logits - logits.amax(1, keepdim=True)) / self.temperature
        p, order = torch.softmax(scaled, 1).sort(dim=1, descending=True)  # (B, V)
        if self.top_k is not None:
            p[:, self.top_k :] = 0
            p = p / p.sum(1, keepdim=True)
        if self.top_p is not None:
            p[p.cumsum(1) - p >= self.top_p] = 0
        if self.min_p is not None:
            p[p < self.min_p * p[:, :1]] = 0
        cumulative = p.cumsum(1)
        place = torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None], right=True)
        last = (p > 0).sum(1, keepdim=True) - 1  # rounding must not step behind the last possible one
        return order.gather(1, torch.minimum(place, last)).squeeze(1)


def write(
    model: CharacterModel,
    vocabulary: Vocabulary,
    samples: Sequence[int],
    *,
    prompt: str = "",
    length: int = 200,
    draw: Draw | None = None,
    seed: int = 0,
    stop: str | None = None,
) -> Iterator[list[str]]:
    """Writes samples side by side, a character at a time.

    Args:
        model: dropout is not applied.
        vocabulary: the model's own.
        samples: the numbers k of the samples to write.
        prompt: text that each sample goes on from; it is not part of the result.
        length: characters of each sample; in lines framing a sample also ends where its line does.
        draw: how to draw.
        seed: see the module.
        stop: end a sample as soon as it ends with this text.

    Yields:
        The next piece of each sample: a character, or nothing once the sample is complete (or while a character
        lacks bytes).

    Raises:
        InputError: the prompt has characters that the model does not know.
    """
    draw = draw or Draw()
    x = _encode_prompt(vocabulary, prompt).to(model.device)[:, None].expand(-1, len(samples))  # (T, B)
    rngs = [_generator(seed, k) for k in samples]
    decoders = [vocabulary.decoder() for _ in samples]
    written = [""] * len(samples)  # the last characters, as long as `stop`
    lengths = [0] * len(samples)
    going = [length > 0] * len(samples)
    state = model.initial_state(len(samples))
    while any(going):
        with reading(model):
            features, state = model.features(x, state)
            logits = model.logits(features[-1]).cpu().double()  # (B, V)
            if vocabulary.unknown_id is not None:
                logits[:, vocabulary.unknown_id] = -torch.inf
            uniform = torch.tensor([rng.random() for rng in rngs], dtype=torch.float64)
            chosen = draw.choose(logits, uniform)  # (B,)
            x = chosen.to(model.device)[None]  # (1, B)
        pieces = [""] * len(samples)
        for k, symbol in enumerate(chosen.tolist()):
            if not going[k]:
                continue
            ended = vocabulary.framing == "lines" and symbol == vocabulary.boundary_id
            # One byte can complete two characters: a broken one, and itself.
            for char in decoders[k].feed(None if ended else symbol):
                pieces[k] += char
                lengths[k] += 1
                if stop:
                    written[k] = (written[k] + char)[-len(stop) :]
                if lengths[k] == length or (stop and written[k] == stop):
                    going[k] = False
                    break
            going[k] = going[k] and not ended
        yield pieces


def _generator(seed: int, k: int) -> np.random.Generator:
    """Returns the random numbers of sample k, from a counter-based generator keyed by (seed, k)."""
    if not 0 <= seed < 2**64:
        raise InputError(f"seed {seed}: must be from 0 to 2**64 - 1")
    return np.random.Generator(np.random.Philox(key=np.array([seed, k], np.uint64)))


def write_texts(
    model: CharacterModel,
    vocabulary: Vocabulary,
    count: int = 1,
    *,
    prompt: str = "",
    length: int = 200,
    draw: Draw | None = None,
    seed: int = 0,
    stop: str | None = None,
) -> Iterator[str]:
    """Yields `count` whole samples, each beginning with the prompt; arguments as in `write`."""
    for start in range(0, count, _MAX_BATCH):
        samples = range(start, min(start + _MAX_BATCH, count))
        steps = list(
            write(model, vocabulary, samples, prompt=prompt, length=length, draw=draw, seed=seed, stop=stop)
        )
        for k in range(len(samples)):
            yield prompt + "".join(pieces[k] for pieces in steps)


def _encode_prompt(vocabulary: Vocabulary, prompt: str) -> Tensor:
    """Returns the boundary and the prompt as ids, shape (1 + N,)."""
    text = vocabulary.normalize(prompt)
    if unknown := vocabulary.unknown_in(text):
        names = ", ".join(f"{char!r} (U+{ord(char):04X})" for char in unknown[:10])
        raise InputError(f"the prompt has characters that the model has never seen: {names}; leave them out")
    return torch.from_numpy(np.append([vocabulary.boundary_id], vocabulary.encode_sentence(text)))
