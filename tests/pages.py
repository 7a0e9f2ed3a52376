"""What tests of pages share: a reader of HTML, a corpus with something of everything, and runs of it."""

import json
import random
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import charlm
from charlm.report.contents import Contents

HOSTILE = (
    "</script><script>alert(1)</script><!-- ]]> \u2028\u2029 \u202egnp.exe \x00 \ud800 {{7*7}} "
    "\"'&lt;<img src=x onerror=alert(2)>"
)
VOID = {"meta", "link", "input", "br", "img", "rect", "path", "circle"}

WORDS = (
    *("river", "boat", "lamp", "bread", "heron", "miller", "bridge", "water", "stone", "light", "winter", "market"),
    *(
        "window",
        "garden",
        "thread",
        "silver",
        "morning",
        "quiet",
        "letter",
        "harbour",
        "copper",
        "candle",
        "meadow",
    ),
)


class Page(HTMLParser):
    """Reads a page as a browser would: its elements with their attributes, and the content of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.blocks: list[tuple[str, dict[str, str | None], str]] = []
        self.headings: list[tuple[int, str]] = []
        self._open: list[str] = []
        self._inside: tuple[str, dict[str, str | None]] | None = None
        self.text = ""
        self.feed(text)
        assert self._open == [], "an element is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag in ("script", "style"):
            self._inside = (tag, dict(attrs))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append((int(tag[1]), ""))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag
        self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.blocks.append((*self._inside, data))
            return
        self.text += data
        if self._open and re.fullmatch("h[1-6]", self._open[-1]):
            level, text = self.headings.pop()
            self.headings.append((level, text + data))

    def data(self, identifier: str) -> Any:
        (found,) = (text for _, attrs, text in self.blocks if attrs.get("id") == identifier)
        return json.loads(found)


def make_text(lines: int, seed: int = 0) -> str:
    """Returns lines of words with names, quotes and brackets; no long run of one line stands in another."""
    rng = random.Random(seed)
    result = []
    for _ in range(lines):
        some = [rng.choice(WORDS) for _ in range(rng.randint(4, 9))]
        some[rng.randrange(len(some))] = rng.choice(("Anna", "Tobias", "Mira", "“not now”", "(again)"))
        result.append(f"{' '.join(some)}{rng.choice('.!?;')}")
    return "\n".join(result) + "\n"


def train(path: Path, out: Path, *, steps: int = 30, corpus: dict[str, Any] | None = None, **model: Any) -> Path:
    """Trains a small run, with evaluations."""
    config = {
        "corpus": {"path": str(path), **(corpus or {"framing": "stream"})},
        "model": {"hidden_size": 12, "cell": "lstm", **model},
        "training": {
            "budget": f"{steps} steps",
            "evaluate_every": "10 steps",
            "batch_size": 8,
            "sequence_length": 32,
            "learning_rate": 0.02,
            "device": "cpu",
        },
        "sampling": {"length": 60},
    }
    charlm.train(config, out=out)
    return out


def make_hostile(contents: Contents) -> Contents:
    """Puts the hostile text into everything that comes from a corpus, a run or a person."""
    assert contents.learning
    assert contents.held_out
    assert contents.units
    assert contents.overlap
    place = replace(contents.held_out.excerpt[0], text=HOSTILE, alternatives=((HOSTILE, -1.0),), kind=HOSTILE)
    dear = replace(
        contents.held_out.dearest[0], before=HOSTILE, text=HOSTILE, after=HOSTILE, alternatives=((HOSTILE, -1),)
    )
    finding = replace(
        contents.units.findings[0], feature=HOSTILE, explanation=HOSTILE, excerpt=(HOSTILE, (0.5,) * len(HOSTILE))
    )
    sampling = contents.config.corpus.model_copy(update={"path": HOSTILE})
    return replace(
        contents,
        name=HOSTILE,
        corpus=HOSTILE,
        language=HOSTILE,
        model=HOSTILE,
        beginning=HOSTILE,
        held_out_name=HOSTILE,
        config=contents.config.model_copy(update={"corpus": sampling}),
        symbols=[(HOSTILE, 1)],
        facts=[(HOSTILE, HOSTILE)],
        missing={"references": HOSTILE, "samples": HOSTILE, "units": HOSTILE},
        notes=[HOSTILE],
        learning=replace(
            contents.learning,
            samples=[(10, HOSTILE)],
            references=[replace(one, name=HOSTILE, meaning=f"`{HOSTILE}`") for one in contents.learning.references],
        ),
        held_out=replace(
            contents.held_out, name=HOSTILE, excerpt=[place], dearest=[dear], experts=(HOSTILE, HOSTILE)
        ),
        connected=[replace(contents.connected[0], before=HOSTILE, target=HOSTILE, moves=(1.0,) * len(HOSTILE))],
        units=replace(contents.units, findings=[finding]),
        overlap=replace(contents.overlap, longest=[(HOSTILE, 20, HOSTILE)]),
    )
