"""What else could stand here: the likeliest other characters at each place, as the model's own softmax has them."""

import math

import numpy as np
import pytest
import torch

from charlm.errors import InputError
from charlm.language_model import LanguageModel
from charlm.scoring.alternatives import alternatives
from charlm.scoring.conditions import Conditions
from charlm.text.vocabulary import Vocabulary
from models import make_language_model, make_mixture, record_predictions

TRAINED_ON = "我在画画。\nthe cat sat on the mat\n"


def model(framing: str = "stream", level: str = "character", text: str = TRAINED_ON) -> LanguageModel:
    vocabulary = Vocabulary.build(text, framing=framing, level=level)
    mixture = make_mixture(len(vocabulary), seed=5, dtype=torch.float64, cell="gru", hidden_size=6)
    mixture.network.trained.output.weight.data.mul_(4)
    return make_language_model(mixture, vocabulary)


def distributions(lm: LanguageModel, symbols: list[int]) -> np.ndarray:
    """log softmax after each symbol, (T, V), in one pass from the zero state."""
    network = lm.mixture.network.trained
    with torch.no_grad():
        logits, _ = network(torch.tensor(symbols)[:, None], network.initial_state(1))
    return torch.log_softmax(logits[:, 0], 1).numpy()


@pytest.mark.parametrize("framing", ["stream", "lines"])
def test_they_are_the_likeliest_symbols_but_the_one_that_stands_there(framing: str) -> None:
    lm = model(framing)
    text = "the 画é"
    vocabulary = lm.vocabulary
    ids = [*vocabulary.encode_sentence(text).tolist(), vocabulary.boundary_id]
    expected = distributions(lm, [vocabulary.boundary_id, *ids[:-1]])
    found = lm.alternatives(text, 3)

    assert len(found) == len(text) + 1
    for place, (others, log_probs) in enumerate(zip(found, expected, strict=True)):
        order = [int(i) for i in np.argsort(-log_probs) if i not in (0, ids[place])][:3]
        names = ["</s>" if i == vocabulary.boundary_id else vocabulary.symbols[i] for i in order]
        assert [other.char for other in others] == names
        assert [other.logprob for other in others] == pytest.approx(log_probs[order])


def test_all_of_them_and_what_stands_there_add_up_to_one() -> None:
    lm = model()
    everything = lm.alternatives("the cat", 10_000)
    p = distributions(lm, lm.vocabulary.encode("\nthe cat").tolist())
    ids = lm.vocabulary.encode("the cat\n")
    for place, others in enumerate(everything):
        assert len(others) == len(lm.vocabulary) - 2
        total = sum(math.exp(other.logprob) for other in others) + math.exp(p[place, ids[place]])
        assert total == pytest.approx(1 - math.exp(p[place, 0]))  # all but <unk>


def test_the_conditions_are_those_of_the_score() -> None:
    lm = model()
    whole = lm.alternatives("the cat", 2)
    after = lm.alternatives(" cat", 2, Conditions(context="the"))
    for others, same in zip(after, whole[3:], strict=True):
        assert [other.char for other in others] == [other.char for other in same]
        assert [other.logprob for other in others] == pytest.approx([other.logprob for other in same])
    assert len(lm.alternatives("the cat", 2, Conditions(eos=False))) == 7
    assert lm.alternatives("", 2, Conditions(eos=False)) == []
    (first, *_) = lm.alternatives("the cat", 2, Conditions(bos=False))
    likeliest = sorted(set(TRAINED_ON) - {"t"}, key=TRAINED_ON.count, reverse=True)[:2]
    assert [other.char for other in first] == likeliest


def test_at_byte_level_they_stand_for_the_first_byte_of_each_character() -> None:
    lm = model(level="byte")
    text = "t画e"
    p = distributions(lm, [10, *text.encode()])
    found = lm.alternatives(text, 256)
    assert len(found) == len(text) + 1
    for others, place, byte in zip(found, (0, 1, 4, 5), (*b"t", 0xE7, *b"e\n"), strict=True):
        order = [int(i) for i in np.argsort(-p[place], kind="stable") if i != byte]
        names = ["</s>" if i == 10 else bytes([i]).decode("utf-8", "surrogateescape") for i in order]
        assert [other.char for other in others] == names


def test_a_stream_without_newlines_offers_its_space_and_no_end() -> None:
    lm = model(text="the cat sat on the mat ")
    found = lm.alternatives("cat", 100)
    assert len(found) == 3
    assert all({other.char for other in others} >= {" ", "h"} for others in found)
    assert not any(other.char == "</s>" for others in found for other in others)


def test_a_long_text_goes_in_windows_and_reads_as_if_whole() -> None:
    lm = model()
    whole = lm.alternatives("the cat " * 5, 2)
    shapes = record_predictions(lm.mixture.network)
    limit = 7 * len(lm.vocabulary)
    in_windows = alternatives(lm.mixture, lm.vocabulary, "the cat " * 5, 2, Conditions(), max_numbers=limit)
    assert shapes == [(7, len(lm.vocabulary))] * 5 + [(6, len(lm.vocabulary))]
    for a, b in zip(in_windows, whole, strict=True):
        assert [other.char for other in a] == [other.char for other in b]
        assert [other.logprob for other in a] == pytest.approx([other.logprob for other in b])


def test_less_than_one_is_refused() -> None:
    with pytest.raises(InputError, match="0: must be at least 1"):
        model().alternatives("the", 0)
