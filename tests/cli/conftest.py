"""TEMPORARY: deleted once tests/conftest.py is there."""

from pathlib import Path

import pytest

LINES = [f"{a} {b} {c}." for a in ("the boat", "the heron", "a miller") for b in ("sees", "has", "likes")
         for c in ("the river", "the lamp", "bread", "a book")]  # fmt: skip
TEXT = "".join(line + "\n" for line in LINES) * 10


def _train(tmp: Path, framing: str) -> Path:
    import charlm

    (tmp / "corpus.txt").write_text(TEXT, encoding="utf-8")
    charlm.train(
        {
            "corpus": {"path": str(tmp / "corpus.txt"), "framing": framing},
            "model": {"hidden_size": 24},
            "training": {"budget": "60 steps", "evaluate_every": "20 steps", "batch_size": 8, "sequence_length": 32,
                         "learning_rate": 0.02, "device": "cpu"},
            "sampling": {"length": 40},
        },
        out=tmp / "run",
    )  # fmt: skip
    return tmp / "run"


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _train(tmp_path_factory.mktemp("stream"), "stream")


@pytest.fixture(scope="session")
def tiny_lines_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _train(tmp_path_factory.mktemp("lines"), "lines")
