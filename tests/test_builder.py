"""From a configuration to parts: how layers are computed follows the cell, the shapes and the machine."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from charlm import builder
from charlm.config import load_config
from charlm.errors import InputError

CPU = torch.device("cpu")


def backend(vocabulary_size: int = 65, **settings: Any) -> str:
    model = {key: value for key, value in settings.items() if key in ("cell", "reset", "hidden_size")}
    training = {key: value for key, value in settings.items() if key not in model}
    config = load_config({"corpus": {"path": "text.txt"}, "model": model, "training": training})
    return builder.build_backend(config, vocabulary_size, CPU)


GRU = {"cell": "gru", "hidden_size": 512}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"cell": "lstm", "hidden_size": 64, "batch_size": 8}, "bfloat16"),
        ({"cell": "lstm", "hidden_size": 64, "vocabulary_size": 129}, "auto"),  # an input wider than 2H
        ({**GRU, "batch_size": 64}, "bfloat16"),
        ({**GRU, "batch_size": 16}, "auto"),  # a product too small to prepare weights for
        ({**GRU, "batch_size": 64, "backend": "derived"}, "derived"),
        ({**GRU, "batch_size": 1, "backend": "bfloat16"}, "bfloat16"),
        ({"cell": "lstm", "backend": "fused"}, "fused"),
    ],
)
def test_the_backend_is_bfloat16_where_the_machine_has_it_and_it_pays(
    settings: dict[str, Any], expected: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(builder.compiled, "library", lambda: None)
    monkeypatch.setattr(builder, "has_bfloat16", lambda _: True)
    assert backend(**settings) == expected
    monkeypatch.setattr(builder, "has_bfloat16", lambda _: False)
    assert backend(**settings) == settings.get("backend", "auto")


def test_the_kernels_are_compiled_where_there_is_a_compiler(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(builder.compiled, "library", lambda: object())
    monkeypatch.setattr(builder.compiled, "has_bfloat16", lambda: True)
    assert backend(cell="gru", hidden_size=128) == "bfloat16"
    assert backend(cell="gru", hidden_size=64) == "compiled"  # too small to gain
    assert backend(cell="lstm", backend="fused") == "fused"
    monkeypatch.setattr(builder.compiled, "has_bfloat16", lambda: False)
    assert backend(cell="gru", hidden_size=128) == "compiled"
    assert backend(cell="gru", hidden_size=128, backend="compiled") == "compiled"
    monkeypatch.setattr(builder.compiled, "library", lambda: None)
    with pytest.raises(InputError, match=r"training\.backend compiled: needs a CPU and a C compiler"):
        backend(backend="compiled")


@pytest.mark.parametrize(
    ("settings", "cell"), [({"cell": "gru", "reset": "before"}, "gru with reset before"), ({"cell": "rnn"}, "rnn")]
)
def test_a_kernel_that_is_not_there_is_refused(settings: dict[str, Any], cell: str):
    with pytest.raises(InputError, match=f"training.backend fused: no such kernel for {cell} on cpu; write auto"):
        backend(**settings, backend="fused")


@pytest.mark.parametrize(
    ("budget", "counted"), [("2s", 60), ("1m", 100), ("3 steps", 100), ("2 epochs", 100), ("0.01s", 1)]
)
def test_of_a_long_text_as_much_is_counted_as_there_is_time_for(
    budget: str, counted: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(builder, "_MOST_COUNTED", 100)
    monkeypatch.setattr(builder, "_COUNTED_PER_SECOND", 30)
    text = tmp_path / "text.txt"
    text.write_text("".join(map(chr, range(0x4E00, 0x4E00 + 1000))))
    config = load_config(
        {
            "corpus": {"path": str(text), "validation": 0},
            "model": {"ngram": 2},
            "training": {"budget": budget},
        }
    )
    ngram = builder.build_ngram(config, builder.build_corpus(config))
    assert ngram is not None
    assert len(ngram.arrays()["keys.2"]) == counted  # each character stands once, so each pair too
    (last,) = ngram.log_probs([np.array([990, 991, 992], np.int32)])
    (first,) = ngram.log_probs([np.array([0, 1, 2], np.int32)])
    assert (last[1] > first[1]) == (counted > 10)  # the end of the text
