"""The code on the page about decoders runs, with the tools' real packages."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PAGE = Path(__file__).parents[2] / "docs/explanation/decoders.md"


def test_the_code_of_the_page_runs(tiny_mixture_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyctcdecode", reason="pyctcdecode is not installed")
    pytest.importorskip("flashlight", reason="flashlight-text is not installed")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert len(blocks) == 4
    logits = np.log(np.full((3, 4), 0.25, np.float32))
    names: dict[str, Any] = {
        "labels": ["a", "b", " ", ""],
        "logits": logits,
        "emissions": np.log(np.full((3, 5), 0.2, np.float32)),
    }
    for block in blocks:
        exec(block.replace("runs/quickstart", str(tiny_mixture_run)), names)
    total, score = map(float, capsys.readouterr().out.splitlines()[1].split())
    assert total == pytest.approx(score, abs=1e-5)
    assert set(names["text"]) <= set("ab ")
    assert names["results"]
