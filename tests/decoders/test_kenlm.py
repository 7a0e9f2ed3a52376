"""The model with the methods and units of the `kenlm` module, beside a real KenLM of the same n-grams."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import charlm
from arpa import write_arpa
from charlm.decoders import kenlm
from charlm.errors import InputError, RunError
from charlm.experts.ngram import NgramModel
from charlm.language_model import LanguageModel
from charlm.text.vocabulary import Vocabulary
from models import make_language_model, make_mixture

LINES = ["the cat sat on the mat", "the heron has a book", "a cat has the lamp", "我在画画"]
TEXT = "\n".join(LINES) + "\n"
ORDER = 4


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    """A model that says what its n-grams say: the network has no say."""
    vocabulary = Vocabulary.build(TEXT, framing="lines")
    ids = [np.append(vocabulary.encode(line), vocabulary.boundary_id) for line in LINES]
    mixture = make_mixture(
        len(vocabulary), NgramModel(ids, len(vocabulary), vocabulary.boundary_id, ORDER), hidden_size=4
    )
    mixture.powers[:] = [0, 1]
    return make_language_model(mixture, vocabulary)


@pytest.fixture(scope="module")
def real(lm: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """KenLM's own model of the same n-grams; its tokens are characters."""
    module = pytest.importorskip("kenlm", reason="kenlm is not installed: it needs a C++ compiler")
    path = tmp_path_factory.mktemp("kenlm") / "model.arpa"
    write_arpa(lm.mixture.others[0], lm.vocabulary, path)
    return module.Model(str(path))


def spelled(text: str) -> str:
    return " ".join(text.replace(" ", "|"))


SENTENCES = ["the cat", "a heron sat", "画在我", "zebra cat", "t", ""]


@pytest.mark.parametrize("sentence", SENTENCES)
@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("eos", [True, False])
def test_characters_as_tokens_score_as_in_kenlm(
    lm: LanguageModel, real: Any, sentence: str, bos: bool, eos: bool
) -> None:
    model = kenlm.Model(lm, tokens="characters")
    tokens = spelled(sentence)
    found, expected = (list(each.full_scores(tokens, bos=bos, eos=eos)) for each in (model, real))
    assert len(found) == len(expected)
    assert [oov for *_, oov in found] == [oov for *_, oov in expected]
    for place, ((log_prob, _, oov), (theirs, _, _)) in enumerate(zip(found, expected, strict=True)):
        # KenLM's <unk> is any unknown word, here it is divided among all characters; and the first token without
        # <s> is scored by its frequency here, there by the lowest order of the n-grams.
        share = math.log10(lm.vocabulary.unseen_characters) if oov else 0
        if place or bos:
            assert log_prob + share == pytest.approx(theirs, abs=1e-4)
    if bos and "z" not in sentence:
        assert model.score(tokens, bos=bos, eos=eos) == pytest.approx(
            real.score(tokens, bos=bos, eos=eos), abs=1e-3
        )
        if eos:
            assert model.perplexity(tokens) == pytest.approx(real.perplexity(tokens), rel=1e-3)


def walk(model: Any, module: Any, tokens: list[str]) -> list[Any]:
    """All that incremental scoring shows of a model, from both beginnings."""
    shown = []
    for begin in (model.BeginSentenceWrite, model.NullContextWrite):
        state, following = module.State(), module.State()
        begin(state)
        for token in tokens:
            model.BaseScore(state, token, following)
            full = model.BaseFullScore(state, token, module.State())
            assert full.log_prob == pytest.approx(model.BaseScore(state, token, following))
            again = copy.copy(following)
            shown += [
                full.oov,
                again == following,
                hash(again) == hash(following),
                state < following or state > following,
            ]
            assert again is not following
            state, following = following, module.State()
    return shown


def test_states_are_used_as_in_kenlm(lm: LanguageModel, real: Any) -> None:
    import kenlm as theirs

    tokens = spelled("the cat").split()
    assert walk(kenlm.Model(lm, tokens="characters"), kenlm, tokens) == walk(real, theirs, tokens)


def test_everything_public_of_kenlm_s_model_is_there(real: Any) -> None:
    import kenlm as theirs

    def names(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")} | {"__contains__", "__repr__"}

    assert names(theirs.Model) <= names(kenlm.Model) | {"path"}
    for name in ("log_prob", "ngram_length", "oov"):
        assert hasattr(theirs.FullScoreReturn, name)
        assert hasattr(kenlm.FullScoreReturn, name)


@pytest.mark.parametrize("word", ["t", "|", "画", "z", "<s>", "</s>", "<unk>"])
def test_it_knows_the_tokens_that_kenlm_knows(lm: LanguageModel, real: Any, word: str) -> None:
    assert (word in kenlm.Model(lm, tokens="characters")) == (word in real)


def test_words_are_priced_with_the_space_before_them_to_base_10(lm: LanguageModel) -> None:
    model = kenlm.Model(lm)
    (score,) = lm.score(["the cat sat"])
    assert model.score("the cat  sat ") == pytest.approx(score.logprob / math.log(10))
    assert sum(p for p, *_ in model.full_scores("the cat sat")) == pytest.approx(score.logprob / math.log(10))
    assert model.perplexity("the cat sat") == pytest.approx(math.exp(-score.logprob / 4))
    (word,) = lm.score([" cat"], context="the", eos=False)
    state, after = kenlm.State(), kenlm.State()
    model.BeginSentenceWrite(state)
    model.BaseScore(state, "the", after)
    assert model.BaseScore(after, "cat", kenlm.State()) == pytest.approx(word.logprob / math.log(10))
    assert [length for _, length, _ in model.full_scores("the cat sat")] == [2, 3, 4, 5]
    assert [length for _, length, _ in model.full_scores("the cat", bos=False, eos=False)] == [1, 2]
    assert [oov for *_, oov in model.full_scores("the zebra")] == [False, True, False]
    assert "cat" in model
    assert "" not in model
    assert model.order > 1000


def test_without_a_beginning_the_first_character_goes_by_its_frequency(lm: LanguageModel) -> None:
    (score,) = lm.score(["the cat"], bos=False)
    assert kenlm.Model(lm).score("the cat", bos=False) == pytest.approx(score.logprob / math.log(10))


def test_states_are_equal_where_the_same_was_read(lm: LanguageModel) -> None:
    model = kenlm.Model(lm)
    one, two, null = kenlm.State(), kenlm.State(), kenlm.State()
    model.NullContextWrite(null)
    assert one == two == null
    model.BeginSentenceWrite(one)
    assert one != two
    assert copy.deepcopy(one) == one
    assert sorted([one, null]) == sorted([null, one])
    model.BaseScore(one, "</s>", two)
    assert two == one


def test_a_state_may_be_read_and_written_at_once(lm: LanguageModel) -> None:
    model, state = kenlm.Model(lm), kenlm.State()
    model.BeginSentenceWrite(state)
    total = sum(model.BaseScore(state, word, state) for word in ["the", "cat", "</s>"])
    assert total == pytest.approx(model.score("the cat"))


def test_it_loads_a_run_and_says_so(tiny_run: Path) -> None:
    model = kenlm.Model(tiny_run)
    assert repr(model) == "<Model from run>"
    assert model.path == str(tiny_run).encode()
    assert model.score("the boat") == pytest.approx(
        charlm.load(tiny_run).score(["the boat"])[0].logprob / math.log(10)
    )


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda lm: kenlm.Model(lm, tokens="bytes"), InputError, "tokens 'bytes': must be words or characters"),
        (lambda lm: kenlm.Model("no/such/run"), RunError, "no/such/run"),
    ],
)
def test_what_it_cannot_be_made_of_is_refused(
    lm: LanguageModel, make: Callable[[LanguageModel], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make(lm)
