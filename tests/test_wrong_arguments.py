"""Wrong arguments of the Python API are refused by one sentence, never by an error from deep inside."""

from pathlib import Path

import pytest

import charlm
from charlm.errors import InputError

CALLS = {
    "lm.score([1])": "sentences: number 1 must be a string, not 1 (int)",
    "lm.score(None)": "sentences must be a list or another iterable, not None",
    "lm.score('text')": "put the sentence into a list",
    "lm.score(['a', b'b'])": "sentences: number 2 must be a string, not b'b' (bytes)",
    "lm.score(['a'], context=1)": "context must be a string, not 1 (int)",
    "list(lm.score_batches([['a', 2]]))": "sentences: number 2 must be a string, not 2 (int)",
    "lm.rank(None)": "sentences must be a list or another iterable, not None",
    "lm.alternatives(None)": "sentence must be a string, not None",
    "lm.alternatives('a', 'b')": "k must be an integer, not 'b' (str)",
    "lm.word_scores('text')": "sentences must be a list or another iterable, not 'text' (str)",
    "lm.word_scores(['a', 1])": "sentences: number 2 must be a string, not 1 (int)",
    "lm.word_scores(['a'], space='behind')": "space 'behind': must be one of after, before",
    "lm.word_scores(['a'], space=None)": "space None: must be one of after, before",
    "lm.word_scores(['a'], separator=1)": "separator must be a string, not 1 (int)",
    "lm.word_scores(['a'], separator='')": "the separator of words is empty",
    "lm.pairs([1])": "pairs: number 1 must be a list or another iterable, not 1 (int)",
    "lm.pairs([('a',)])": "pairs: number 1 has 1 parts",
    "lm.pairs([('a', 2)])": "pairs: number 1 must be a string, not 2 (int)",
    "lm.pairs([('a', 'b')], against=3)": "against must be a model",
    "list(lm.rerank([1]))": "nbest: number 1 must be a string, not 1 (int)",
    "list(lm.rerank(['0 ||| a ||| f ||| 1'], weight='x'))": "weight must be a number, not 'x' (str)",
    "lm.tune_reranking(['0 ||| a ||| f ||| 1'], None)": "references must be a list",
    "list(lm.sample(prompt=1))": "prompt must be a string, not 1 (int)",
    "list(lm.sample('3'))": "count must be an integer, not '3' (str)",
    "list(lm.sample(True))": "count must be an integer, not True (bool)",
    "list(lm.sample(stop=3))": "stop must be a string, not 3 (int)",
    "list(lm.sample(seed=0.5))": "seed must be an integer, not 0.5 (float)",
    "list(lm.sample(length='9'))": "length must be an integer, not '9' (str)",
    "''.join(lm.stream(prompt=None))": "prompt must be a string, not None",
    "lm.evaluate(1)": "paths must be a list or another iterable, not 1 (int)",
    "lm.evaluate([None])": "paths must be a path, not None",
    "charlm.load(None)": "run must be a path, not None",
    "charlm.load('run', threads='2')": "threads must be an integer, not '2' (str)",
    "charlm.load('run', device=['cpu'])": "device must be a string, not ['cpu'] (list)",
    "charlm.train(1)": "config must be a path, not 1 (int)",
    "charlm.train(corpus=1)": "corpus must be a list or another iterable, not 1 (int)",
    "charlm.train(corpus='a', budget=5)": "write for example 5 steps",
    "charlm.train(corpus='a', out=1)": "out must be a path, not 1 (int)",
    "charlm.train(corpus='a', overrides={1: 2})": "overrides must be a dictionary",
}


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_argument_is_named(call: str, tiny_run: Path) -> None:
    lm = charlm.load(tiny_run)
    with pytest.raises(InputError) as caught:
        eval(call, {"lm": lm, "charlm": charlm})
    assert CALLS[call] in str(caught.value)
