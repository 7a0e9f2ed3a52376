"""What else could stand here? The likeliest other characters at each place of a sentence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from charlm.errors import InputError
from charlm.model.network import CharacterModel, reading
from charlm.scoring.conditions import Conditions
from charlm.scoring.log_probs import DEFAULT, start
from charlm.text.vocabulary import END_OF_SENTENCE, Vocabulary, to_bytes

_WINDOW = 1 << 20  # numbers of T·V held at once


@dataclass(frozen=True)
class Alternative:
    """A character that could stand at a place of a sentence.

    Attributes:
        char: the character; the end of the sentence is `</s>`. At byte level a byte that only begins a character is
            a lone surrogate, U+DC80 and more, as everywhere in Python.
        logprob: its log-probability there, in nats.
    """

    char: str
    logprob: float


def alternatives(
    model: CharacterModel, vocabulary: Vocabulary, sentence: str, k: int, conditions: Conditions = DEFAULT
) -> list[tuple[Alternative, ...]]:
    """Returns, for each character of a sentence and its end, the k likeliest others, likeliest first.

    `<unk>` is none. At byte level they stand for the first byte of each character.

    Raises:
        InputError: k is below 1.
    """
    if k < 1:
        raise InputError(f"alternatives {k}: must be at least 1")
    text = vocabulary.normalize(sentence)
    end = [vocabulary.boundary_id] if conditions.eos and vocabulary.ends_sentences else []
    ids = torch.tensor([*vocabulary.encode_sentence(text), *end], dtype=torch.long)  # (N,)
    if not len(ids):
        return []
    values, others = _likeliest_others(model, vocabulary, ids, k, conditions)  # (N, k) twice
    places = np.arange(len(ids))
    if vocabulary.level == "byte":
        sizes = [len(to_bytes(char)) for char in text] + [1] * len(end)
        places = np.cumsum([0, *sizes[:-1]])
    return [
        tuple(
            Alternative(_name(vocabulary, i), p)
            for i, p in zip(others[n].tolist(), values[n].tolist(), strict=True)
        )
        for n in places
    ]


def _likeliest_others(
    model: CharacterModel, vocabulary: Vocabulary, ids: Tensor, k: int, conditions: Conditions
) -> tuple[Tensor, Tensor]:
    """Returns log-probabilities and ids of the k likeliest symbols but the one that stands there, (N, k) each."""
    first, state = start(model, vocabulary, conditions)
    k = min(k, len(vocabulary) - (1 if vocabulary.unknown_id is None else 2))
    values, others = [], []

    def keep(log_probs: Tensor, standing: Tensor) -> None:
        if vocabulary.unknown_id is not None:
            log_probs[:, vocabulary.unknown_id] = -torch.inf
        log_probs[torch.arange(len(standing)), standing] = -torch.inf
        best = log_probs.topk(k, dim=1)
        values.append(best.values)
        others.append(best.indices)

    done = 0
    if first is None:  # nothing stands before the first, so frequencies speak
        keep(torch.tensor(vocabulary.unigram_log_probs)[None], ids[:1])
        done = 1
    read = ids[:-1] if first is None else torch.cat((torch.tensor([first]), ids[:-1]))
    window = max(1, _WINDOW // len(vocabulary))
    with reading(model):
        for inputs in read.split(window) if len(read) else ():
            logits, state = model(inputs[:, None].to(model.device), state)  # (T, 1, V)
            log_probs = torch.log_softmax(logits[:, 0].cpu().double(), 1)  # (T, V)
            keep(log_probs, ids[done : done + len(inputs)])
            done += len(inputs)
    return torch.cat(values), torch.cat(others)


def _name(vocabulary: Vocabulary, symbol: int) -> str:
    if symbol == vocabulary.boundary_id and vocabulary.ends_sentences:
        return END_OF_SENTENCE
    if vocabulary.level == "byte" and symbol >= 0x80:
        return chr(0xDC00 + symbol)
    return vocabulary.symbols[symbol]
