"""Writing: what a text depends on, where it begins, when it stops. How one symbol is drawn: `test_draw`."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.config import SamplingConfig
from charlm.errors import InputError
from charlm.experts.mixture import Mixture
from charlm.sampling import choose, write, write_after, write_texts
from charlm.text.vocabulary import Vocabulary
from models import make_mixture

TRAINED_ON = "我在画。\nabcabd 画\n"
KNOWN = sorted(set(TRAINED_ON) - {"\n"})
GREEDY = {"temperature": 0.0}

few = settings(max_examples=25, deadline=None)


def vocabulary_of(framing: str = "stream", level: str = "character", text: str = TRAINED_ON) -> Vocabulary:
    return Vocabulary.build(text, framing=framing, level=level)


def mixture_of(vocabulary: Vocabulary, **shape: Any) -> Mixture:
    """A model whose next symbol depends on all before."""
    mixture = make_mixture(len(vocabulary), seed=8, dtype=torch.float64, cell="gru", hidden_size=6, **shape)
    for weight in mixture.network.trained.parameters():
        weight.data.mul_(3)
    return mixture


def bigram_model(vocabulary: Vocabulary, text: str) -> Mixture:
    """A model that writes the pairs of symbols of `text` and no others, and begins as it does."""
    V = len(vocabulary)
    mixture = make_mixture(V, dtype=torch.float64, cell="rnn", hidden_size=V, bias=False)
    network = mixture.network.trained
    network.recurrent.weight_ih_l0.data = 1000 * torch.eye(V, dtype=torch.float64)  # the state is x_t, one-hot
    network.recurrent.weight_hh_l0.data.zero_()
    network.output.weight.data.fill_(-1000)
    ids = [vocabulary.boundary_id, *vocabulary.encode(text).tolist()]
    network.output.weight.data[ids[1:], ids[:-1]] = 0
    return mixture


def texts_of(
    mixture: Mixture,
    vocabulary: Vocabulary,
    count: int = 1,
    *,
    prompt: str = "",
    seed: int = 0,
    stop: str | None = None,
    batch: int = 64,
    **settings: Any,
) -> list[str]:
    rule = SamplingConfig(**settings)
    return list(write_texts(mixture, vocabulary, count, rule, prompt=prompt, seed=seed, stop=stop, batch=batch))


def text_of(mixture: Mixture, vocabulary: Vocabulary, **how: Any) -> str:
    return texts_of(mixture, vocabulary, **how)[0]


def pieces_of(
    mixture: Mixture,
    vocabulary: Vocabulary,
    samples: Sequence[int],
    *,
    prompt: str = "",
    seed: int = 0,
    stop: str | None = None,
    **settings: Any,
) -> Iterator[list[str]]:
    return write(mixture, vocabulary, samples, SamplingConfig(**settings), prompt=prompt, seed=seed, stop=stop)


def greedy(mixture: Mixture, vocabulary: Vocabulary, prompt: str, length: int) -> str:
    """By the definition: always the likeliest known symbol, after the boundary and the prompt."""
    network = mixture.network.trained
    ids = [vocabulary.boundary_id, *map(vocabulary.symbols.index, prompt)]
    for _ in range(length):
        with torch.no_grad():
            logits, _ = network(torch.tensor(ids)[:, None], network.initial_state(1))
        ids.append(1 + int(logits[-1, 0, 1:].argmax()))
    return "".join(vocabulary.symbols[i] for i in ids[1:])


# ----------------------------------------------------------------------------------------------------------
# Which characters are written


@pytest.mark.parametrize(
    "rule",
    [
        GREEDY,
        {"temperature": 5.0, "top_k": 1},
        {"temperature": 5.0, "top_p": 1e-9},
        {"temperature": 5.0, "min_p": 1.0},
        {"temperature": 1e-6},
    ],
    ids=str,
)
def test_these_rules_all_take_the_likeliest_character(rule: dict[str, float]) -> None:
    vocabulary = vocabulary_of()
    mixture = mixture_of(vocabulary)
    assert text_of(mixture, vocabulary, length=30, **rule) == greedy(mixture, vocabulary, "", 30)


@pytest.mark.parametrize("temperature", [0.0, 1.0, 100.0])
def test_the_unknown_symbol_is_never_written(temperature: float) -> None:
    vocabulary = vocabulary_of()
    mixture = mixture_of(vocabulary)
    mixture.network.trained.output.bias.data[vocabulary.unknown_id] = 1e4
    for text in texts_of(mixture, vocabulary, 3, length=60, temperature=temperature):
        assert set(text) <= set(TRAINED_ON)


# ----------------------------------------------------------------------------------------------------------
# Seeds


@pytest.mark.parametrize(("framing", "stop"), [("stream", None), ("stream", "a"), ("lines", None)])
@pytest.mark.parametrize("level", ["character", "byte"])
def test_sample_k_depends_only_on_the_seed_and_k(framing: str, stop: str | None, level: str) -> None:
    vocabulary = vocabulary_of(framing, level)
    mixture = mixture_of(vocabulary)
    how = {"length": 30, "seed": 11, "stop": stop, "temperature": 1.5}
    five = texts_of(mixture, vocabulary, 5, **how)

    assert len(set(five)) == 5
    for count in range(5):
        assert texts_of(mixture, vocabulary, count, **how) == five[:count]
    for k in range(5):
        assert "".join(piece for (piece,) in pieces_of(mixture, vocabulary, [k], **how)) == five[k]
    backwards = list(pieces_of(mixture, vocabulary, [4, 1], **how))
    assert ["".join(column) for column in zip(*backwards, strict=True)] == [five[4], five[1]]
    assert texts_of(mixture, vocabulary, 5, **how, batch=2) == five


def test_the_same_seed_writes_the_same_and_another_seed_another_text() -> None:
    vocabulary = vocabulary_of()
    mixture = mixture_of(vocabulary)
    texts = [text_of(mixture, vocabulary, length=60, temperature=1.0, seed=seed) for seed in range(5)]
    assert len(set(texts)) == 5
    torch.manual_seed(99)  # the global generator has no say
    assert [text_of(mixture, vocabulary, length=60, temperature=1.0, seed=seed) for seed in range(5)] == texts


def test_a_text_is_drawn_by_its_own_numbers_one_a_symbol() -> None:
    vocabulary = vocabulary_of()
    mixture = mixture_of(vocabulary)
    rule = SamplingConfig(length=30, temperature=1.2)
    network = mixture.network.trained
    rng = np.random.Generator(np.random.Philox(key=np.array([6, 2], np.uint64)))
    ids = [vocabulary.boundary_id]
    for _ in range(30):
        with torch.no_grad():
            logits = network(torch.tensor(ids)[:, None], network.initial_state(1))[0][-1].numpy()
        logits[:, vocabulary.unknown_id] = -np.inf
        ids.append(int(choose(rule, logits, np.array([rng.random()]))[0]))

    texts = list(write_texts(mixture, vocabulary, 3, rule, seed=6, block=7))

    assert texts[2] == "".join(vocabulary.symbols[i] for i in ids[1:])


# ----------------------------------------------------------------------------------------------------------
# Where a text begins


@few
@given(prompt=st.text(st.sampled_from(KNOWN), max_size=6), framing=st.sampled_from(["stream", "lines"]))
def test_a_text_goes_on_from_its_prompt(prompt: str, framing: str) -> None:
    vocabulary = vocabulary_of(framing)
    mixture = mixture_of(vocabulary)
    expected = greedy(mixture, vocabulary, prompt, 12)
    if framing == "lines":
        expected = expected.split("\n")[0]
    assert text_of(mixture, vocabulary, prompt=prompt, length=12, **GREEDY) == expected


@pytest.mark.parametrize("level", ["character", "byte"])
def test_the_prompt_decides_what_follows_and_is_written_once(level: str) -> None:
    vocabulary = vocabulary_of(level=level)
    mixture = bigram_model(vocabulary, "我在画。\n")
    for prompt, following in (("", "我在画"), ("我", "在画。"), ("我在画", "。\n我"), ("\n", "我在画")):
        assert text_of(mixture, vocabulary, prompt=prompt, length=3) == prompt + following
        pieces = list(pieces_of(mixture, vocabulary, [0], prompt=prompt, length=3))
        assert "".join(piece for (piece,) in pieces) == following


def test_a_prompt_is_read_as_the_corpus_was_and_shown_as_it_was_given() -> None:
    vocabulary = Vocabulary.build("abcé\n", normalization="nfc", lowercase=True)
    mixture = bigram_model(vocabulary, "abcé\n")
    assert text_of(mixture, vocabulary, prompt="AB", length=2) == "ABcé"
    assert text_of(mixture, vocabulary, prompt="abcE\u0301", length=2) == "abcE\u0301\na"


def test_unknown_characters_of_a_prompt_are_named() -> None:
    vocabulary = vocabulary_of()
    with pytest.raises(InputError) as error:
        next(write_texts(mixture_of(vocabulary), vocabulary, 1, SamplingConfig(), prompt="我是x是"))
    assert "'是' (U+662F), 'x' (U+0078)" in str(error.value)
    assert "我" not in str(error.value)


# ----------------------------------------------------------------------------------------------------------
# Where a text ends


@pytest.mark.parametrize("length", [1, 2, 7, 40])
def test_a_stream_writes_exactly_so_many_characters(length: int) -> None:
    vocabulary = vocabulary_of()
    for text in texts_of(mixture_of(vocabulary), vocabulary, 5, prompt="abc", length=length, temperature=1.0):
        assert len(text) == len("abc") + length


@pytest.mark.parametrize("length", [1, 2, 7, 40])
def test_bytes_make_exactly_so_many_whole_characters(length: int) -> None:
    written = "é我😀在é在我在😀😀我我ééz在在z"
    vocabulary = vocabulary_of(level="byte")
    mixture = bigram_model(vocabulary, written)
    for text in texts_of(mixture, vocabulary, 5, length=length, temperature=1.0):
        assert len(text) == length
        assert set(text) <= set(written)


@pytest.mark.parametrize("length", [1, 2, 7, 40])
def test_bytes_that_are_no_utf8_count_as_the_characters_they_are_shown_as(length: int) -> None:
    vocabulary = vocabulary_of(level="byte")
    mixture = mixture_of(vocabulary)
    mixture.network.trained.output.weight.data.zero_()  # any byte after any other
    for text in texts_of(mixture, vocabulary, 20, length=length, temperature=1.0):
        assert len(text) == length


@few
@given(short=st.integers(1, 30), seed=st.integers(0, 99))
def test_a_shorter_text_is_the_beginning_of_a_longer_one(short: int, seed: int) -> None:
    vocabulary = vocabulary_of()
    mixture = mixture_of(vocabulary)
    whole = text_of(mixture, vocabulary, length=30, seed=seed, temperature=1.0)
    assert text_of(mixture, vocabulary, length=short, seed=seed, temperature=1.0) == whole[:short]


@few
@given(seed=st.integers(0, 99), length=st.integers(1, 30), level=st.sampled_from(["character", "byte"]))
def test_in_lines_framing_a_text_ends_with_its_line_which_is_not_shown(seed: int, length: int, level: str) -> None:
    stream, lines = vocabulary_of("stream", level), vocabulary_of("lines", level)
    mixture = bigram_model(stream, "我在画\n画我\n在在。\n")
    how = {"length": length, "seed": seed, "temperature": 1.0}
    assert text_of(mixture, lines, **how) == text_of(mixture, stream, **how).split("\n")[0]


@few
@given(stop=st.text(st.sampled_from("abcd我\n"), min_size=1, max_size=3), seed=st.integers(0, 99))
def test_a_text_ends_as_soon_as_it_ends_with_the_stop_text(stop: str, seed: int) -> None:
    vocabulary = vocabulary_of()
    mixture = bigram_model(vocabulary, "abcd我\nabab我我ad\ndbc我a\n")
    how = {"length": 40, "seed": seed, "temperature": 1.0}
    whole = text_of(mixture, vocabulary, **how)
    end = whole.index(stop) + len(stop) if stop in whole else len(whole)
    assert text_of(mixture, vocabulary, stop=stop, **how) == whole[:end]


def test_the_stop_text_is_not_looked_for_in_the_prompt() -> None:
    vocabulary = vocabulary_of()
    mixture = bigram_model(vocabulary, "abcabc")
    assert text_of(mixture, vocabulary, prompt="ab", length=9, stop="bc") == "abcabc"


# ----------------------------------------------------------------------------------------------------------
# Pieces


@pytest.mark.parametrize("level", ["character", "byte"])
@pytest.mark.parametrize("framing", ["stream", "lines"])
def test_pieces_joined_are_the_texts(framing: str, level: str) -> None:
    vocabulary = vocabulary_of(framing, level)
    mixture = bigram_model(vocabulary, "我在画。abc\n我我画画。cba\n")
    how = {"prompt": "我", "length": 20, "seed": 3, "temperature": 1.0}
    steps = list(pieces_of(mixture, vocabulary, range(4), **how))
    assert all(len(piece) <= 1 for step in steps for piece in step)
    joined = ["我" + "".join(column) for column in zip(*steps, strict=True)]
    assert joined == texts_of(mixture, vocabulary, 4, **how)


def test_dropout_is_never_applied_and_the_mode_of_the_network_is_left() -> None:
    vocabulary = vocabulary_of()
    mixture = mixture_of(vocabulary, num_layers=2, dropout=0.5, recurrent_dropout=0.5)
    calm = texts_of(mixture_of(vocabulary, num_layers=2), vocabulary, 3, prompt="abc", length=30)
    assert texts_of(mixture, vocabulary, 3, prompt="abc", length=30) == calm
    mixture.network.trained.train()
    assert texts_of(mixture, vocabulary, 3, prompt="abc", length=30) == calm
    assert mixture.network.trained.training


def test_between_pieces_and_after_them_the_callers_torch_computes_gradients_as_before() -> None:
    vocabulary = vocabulary_of()
    mixture = mixture_of(vocabulary)
    pieces = pieces_of(mixture, vocabulary, [0], length=5)
    next(pieces)
    between = torch.is_inference_mode_enabled() or not torch.is_grad_enabled()
    pieces.close()
    assert not between
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()
    assert all(weight.requires_grad for weight in mixture.network.trained.parameters())


def test_a_text_that_nobody_reads_to_its_end_leaves_the_network_training() -> None:
    vocabulary = vocabulary_of()
    mixture = mixture_of(vocabulary)
    mixture.network.trained.train()
    pieces = pieces_of(mixture, vocabulary, [0], length=5)
    next(pieces)
    pieces.close()
    assert mixture.network.trained.training


# ------------------------------------------------------------------------------------------- after several prompts


@pytest.mark.parametrize("framing", ["stream", "lines"])
@pytest.mark.parametrize("rule", [GREEDY, {"temperature": 1.0}, {"temperature": 0.7, "top_k": 3}])
@few
@given(prompts=st.lists(st.text(KNOWN, max_size=9), min_size=1, max_size=5))
def test_texts_after_several_prompts_are_those_after_each(
    framing: str, rule: dict[str, Any], prompts: list[str]
) -> None:
    vocabulary = vocabulary_of(framing)
    mixture = mixture_of(vocabulary)
    settings = SamplingConfig(length=7, **rule)
    ids = [np.append([vocabulary.boundary_id], vocabulary.encode(prompt)) for prompt in prompts]
    samples = range(3, 3 + len(prompts))
    found = write_after(mixture, vocabulary, ids, samples, settings, seed=4, block=2)
    texts = ["".join(pieces) for pieces in zip(*found, strict=True)]
    for k, prompt, text in zip(samples, prompts, texts, strict=True):
        alone = write(mixture, vocabulary, [k], settings, prompt=prompt, seed=4)
        assert text == "".join(piece for (piece,) in alone)


def test_an_unknown_symbol_of_a_prompt_is_read_and_none_is_written() -> None:
    vocabulary = vocabulary_of()
    mixture = mixture_of(vocabulary)
    assert vocabulary.unknown_id is not None
    mixture.network.trained.output.bias.data[vocabulary.unknown_id] = 100
    known, unknown = [vocabulary.boundary_id, 3, 4], [vocabulary.boundary_id, vocabulary.unknown_id, 4]
    found = write_after(
        mixture, vocabulary, [np.array(known), np.array(unknown)], [0, 0], SamplingConfig(length=20, **GREEDY)
    )
    one, other = ("".join(pieces) for pieces in zip(*found, strict=True))
    assert set(one + other) <= {*KNOWN, "\n"}
    assert len(one) == len(other) == 20
    assert one != other


def test_nothing_is_written_at_length_0() -> None:
    vocabulary = vocabulary_of()
    rule = SamplingConfig().model_copy(update={"length": 0})
    assert not list(write_after(mixture_of(vocabulary), vocabulary, [np.array([1])], [0], rule))


@pytest.mark.parametrize("prompt", ["", "我"])
def test_a_line_is_never_empty_but_may_end_after_a_prompt(prompt: str) -> None:
    vocabulary = vocabulary_of("lines")
    mixture = mixture_of(vocabulary)
    mixture.network.trained.output.bias.data[vocabulary.boundary_id] = 50  # all but sure to end
    texts = [
        "".join(each)
        for each in zip(*pieces_of(mixture, vocabulary, range(9), prompt=prompt, length=9), strict=True)
    ]
    assert {len(text) for text in texts} == {0 if prompt else 1}


def test_where_no_character_is_known_a_line_is_empty() -> None:
    vocabulary = Vocabulary(["<unk>", "\n"], [5, 2], boundary="\n", framing="lines")
    assert list(pieces_of(mixture_of(vocabulary), vocabulary, [0], length=5)) == [[""]]
