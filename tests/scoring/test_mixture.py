"""How far a mixture trusts each of its two models."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.model.network import CharacterModel
from charlm.scoring import mixture
from charlm.scoring.evaluation import ngram_model, text_log_probs
from charlm.scoring.mixture import fit_mixture
from charlm.text.corpus import Split
from charlm.text.vocabulary import Ids, Vocabulary

framings = st.sampled_from(["stream", "lines"])


def text_of(seed: int, lines: int) -> str:
    """Words of four letters, some of them often; no line is empty."""
    rng = np.random.default_rng(seed)
    words = ["abba", "daca", "bcbd", "adda", "cabd"]
    return "".join(" ".join(rng.choice(words, p=[0.4, 0.3, 0.1, 0.1, 0.1], size=4)) + "\n" for _ in range(lines))


def mixed_model(vocabulary: Vocabulary, text: str, seed: int) -> CharacterModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CharacterModel(len(vocabulary), hidden_size=7, ngram_order=4)
    model.output.weight.data.mul_(3)
    model.attach(ngram_model(vocabulary, Split.of(text, vocabulary), 4))
    return model


def nats(model: CharacterModel, vocabulary: Vocabulary, ids: Ids) -> float:
    """With the pull towards equal trust, as the fit has it."""
    assert model.ngram_powers is not None
    off = model.ngram_powers.double() - 0.5
    total = -sum(float(log_probs.sum()) for _, log_probs in text_log_probs(model, vocabulary, ids))
    return total + mixture._PRIOR / 2 * float((off * off).sum())


@settings(max_examples=20, deadline=None)
@given(framings, st.integers(0, 99), st.integers(1, 20))
def test_no_other_trust_is_likelier(framing: str, seed: int, lines: int) -> None:
    text = text_of(seed, 40)
    vocabulary = Vocabulary.build(text, framing=framing)
    model = mixed_model(vocabulary, text, seed)
    held_out = vocabulary.encode(text_of(seed + 100, lines))[: 2 * mixture._PIECE]  # all of it is looked at
    fit_mixture(model, vocabulary, held_out)
    powers = model.ngram_powers
    assert powers is not None
    least = nats(model, vocabulary, held_out)
    found = powers.clone()
    rng = torch.Generator().manual_seed(seed)
    for size in (0.01, 0.1, 1.0):
        powers.copy_(found + size * torch.randn(powers.shape, generator=rng))
        assert nats(model, vocabulary, held_out) > least
    assert least <= nats_of_each_alone(model, vocabulary, held_out)


def nats_of_each_alone(model: CharacterModel, vocabulary: Vocabulary, ids: Ids) -> float:
    assert model.ngram_powers is not None
    each = []
    for powers in ([1.0, 0.0], [0.0, 1.0]):
        model.ngram_powers.copy_(torch.tensor([powers] * len(model.ngram_powers)))
        each.append(nats(model, vocabulary, ids))
    return min(each)


@pytest.mark.parametrize("framing", ["stream", "lines"])
def test_pieces_of_a_long_text_stand_for_it(framing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = text_of(1, 40)
    vocabulary = Vocabulary.build(text, framing=framing)
    held_out = vocabulary.encode(text_of(2, 600))
    found = []
    for most in (len(held_out), 4096):
        monkeypatch.setattr(mixture, "_MOST_PLACES", most)
        model = mixed_model(vocabulary, text, 3)
        fit_mixture(model, vocabulary, held_out)
        found.append(nats(model, vocabulary, held_out) / len(held_out))
    whole, some = found
    assert whole <= some < whole + 0.002


def test_a_model_that_says_nothing_is_not_listened_to() -> None:
    text = text_of(5, 200)
    vocabulary = Vocabulary.build(text, framing="stream")
    model = mixed_model(vocabulary, text, 0)
    model.output.weight.data.zero_()  # all trust in it is alike, so it stays where it was
    fit_mixture(model, vocabulary, vocabulary.encode(text_of(6, 200)))
    assert model.ngram_powers is not None
    torch.testing.assert_close(model.ngram_powers[:, 0], torch.full((4,), 0.5))
    assert model.ngram_powers[3, 1] == pytest.approx(1, abs=0.1)
