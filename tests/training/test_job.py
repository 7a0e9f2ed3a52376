"""A training job: its parts are what the configuration, the text and the budget ask for."""

from pathlib import Path

import numpy as np
import pytest

from charlm.config import load_config
from charlm.experts.ngram import NgramModel
from charlm.text.corpus import load_corpus
from charlm.training.choice import count_experts


@pytest.mark.parametrize(
    ("budget", "counted"), [("2s", 60), ("1m", 100), ("3 steps", 100), ("2 epochs", 100), ("0.01s", 1)]
)
def test_of_a_long_text_as_much_is_counted_as_there_is_time_for(budget: str, counted: int, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("".join(map(chr, range(0x4E00, 0x4E00 + 1000))))
    config = load_config(
        {
            "corpus": {"path": str(text), "validation": 0},
            "model": {"ngram": 2},
            "training": {"budget": budget},
        }
    )
    notes: list[str] = []
    (ngram,) = count_experts(config, load_corpus(config.corpus), notes.append, most=100, symbols_per_second=30)
    symbols = "1 symbol" if counted == 1 else f"{counted} symbols"
    assert notes == [f"mixture: the n-grams and words are counted on the last {symbols} of the training text only"]
    assert isinstance(ngram, NgramModel)
    assert len(ngram.arrays()["counts.2"]) == counted  # each character stands once, so each pair too
    (last,) = ngram.sequence_log_probs([np.array([990, 991, 992], np.int32)])
    (first,) = ngram.sequence_log_probs([np.array([0, 1, 2], np.int32)])
    assert (last[1] > first[1]) == (counted > 10)  # the end of the text


def test_no_expert_is_counted_that_nobody_asks_for(tiny_corpus: Path) -> None:
    config = load_config({"corpus": {"path": str(tiny_corpus)}})
    assert count_experts(config, load_corpus(config.corpus), pytest.fail, most=3) == []
