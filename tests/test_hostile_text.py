"""Texts that break programs: each is learnt, scored and continued, with finite numbers, or is refused by name."""

import math
from pathlib import Path
from typing import Any

import pytest

import charlm
from charlm.errors import CorpusError
from hostile import Bounds

PLAIN = "the boat sees the river.\n"
TEXTS: dict[str, bytes] = {
    name: text.encode("utf-8", "surrogatepass")
    for name, text in {
        "escape sequences": "\x1b]0;owned\x07\x1b[2J\x1b[31mred\x9b6n\n" * 40,
        "other ends of lines": "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\n" * 40,
        "right to left": "\u202ethe \u2066boat\u2069 \u200f\u05d0\u0628\u202c\n" * 40,
        "invisible": "\u200b\u2060\u00ad\ufeff\u200d\u034f\ufe0f\U000e0041\n" * 40,
        "piles of marks": ("e" + "\u0301\u0323\u0489" * 400 + "\n") * 20,
        "no characters": "\uffff\ufffe\U0010ffff\ufdd0\n" * 40,
        "every plane": 20 * ("".join(chr(c) for c in range(32, 0x110000, 2570) if not 0xD800 <= c < 0xE000) + "\n"),
        "one character": "a" * 5000,
        "a million empty lines": PLAIN * 100 + "\n" * 1_000_000 + PLAIN * 100,
        "one endless line": "the boat " * 300_000,
        "lines of one character": "a\n" * 5000,
        "nothing but newlines": "\n" * 1_000_000,
        "nothing": "",
        "half a surrogate": "\ud800" + PLAIN * 100,
        "zero bytes": "\0" * 100 + PLAIN * 100,
    }.items()
}  # fmt: skip
TEXTS["bytes that are no text"] = bytes(range(256)) * 20
REFUSED = {
    "nothing but newlines": "the corpus is empty",
    "nothing": "the corpus is empty",
    "half a surrogate": "not UTF-8: byte 0xed at offset 0",
    "zero bytes": "not a text file",
    "bytes that are no text": "not a text file",
}
ONE_LINE = "only 1 line, which is too little to train on"


def settings(path: Path, framing: str, level: str) -> dict[str, Any]:
    return {
        "corpus": {"path": str(path), "framing": framing, "level": level, "validation": 0.01},
        "model": {"cell": "gru", "hidden_size": 4, "ngram": 5},
        "training": {"budget": "2 steps", "batch_size": 2, "sequence_length": 32, "device": "cpu"},
        "sampling": {"length": 20},
    }


@pytest.mark.parametrize(
    ("framing", "level"), [("stream", "character"), ("lines", "character"), ("stream", "byte")], ids="-".join
)
@pytest.mark.parametrize("name", TEXTS)
def test_any_text_is_learnt_scored_and_continued_or_refused_by_name(
    name: str, framing: str, level: str, tmp_path: Path, bounds: Bounds
):
    (path := tmp_path / "text").write_bytes(TEXTS[name])
    complaint = REFUSED.get(name) if level == "character" or "empty" in REFUSED.get(name, "") else None
    if framing == "lines" and name in ("one character", "one endless line"):
        complaint = ONE_LINE
    with bounds():
        if complaint:
            with pytest.raises(CorpusError, match=complaint):
                charlm.train(settings(path, framing, level), out=tmp_path / "run")
            return
        lm = charlm.train(settings(path, framing, level), out=tmp_path / "run")
        line = TEXTS[name].decode("utf-8", "replace").strip("\n").partition("\n")[0][:20_000]
        for score in lm.score([line, "\ud800\0\x1b\u2028", ""]):
            numbers = (score.logprob, score.mean_logprob, score.bits_per_character, score.penlp, score.slor)
            assert all(map(math.isfinite, numbers))
        assert len(next(lm.sample(seed=1))) <= 20
        known = "".join(char for char in line[:50] if not lm.vocabulary.unknown_in(char))
        assert next(lm.sample(length=2, prompt=known)).startswith(known)
