"""What tests of exports share: models of every kind, the network of a run alone, and the documents' programs."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from charlm.config import load_config
from charlm.experts.mixture import Mixture
from charlm.experts.torch_network import network_expert
from charlm.language_model import LanguageModel
from charlm.text.vocabulary import Vocabulary, normalize_pieces
from models import CELLS, make_language_model, make_network, randomize

PAGE = Path(__file__).parent.parent / "docs/explanation/export.md"
TEXT = "the boat sees the river.\nÅ heron 😀 has “bread”, <b>&amp;\n江上船來去\n\tit’s\n" * 20
LINES = [
    "the boat sees the river.",
    "the boat",
    "",
    "a 😀😀 heron",
    "Ünknown: 𝄞, Z, ж and 𠮷!",
    "江上船去",
    "ﬁ Å Å ΣΑΣ ½",  # changed by nfc, nfkc and lower case
]
SHAPES: list[dict[str, Any]] = [
    {},
    {"num_layers": 3, "hidden_size": 5},
    {"embedding_size": 5, "bias": False},
    {"output_rank": 3, "num_layers": 2},
    {"embedding_size": 4, "output_rank": 6, "bias": False, "num_layers": 2},
]
all_networks = pytest.mark.parametrize(
    ("cell", "settings"),
    [pytest.param(cell, shape, id="-".join([cell, *shape])) for cell in CELLS for shape in SHAPES],
)
TEXTS: list[dict[str, Any]] = [
    {"framing": "stream"},
    {"framing": "lines", "normalization": "nfkc", "lowercase": True},
    {"framing": "stream", "normalization": "nfc"},
    {"framing": "lines", "level": "byte"},
]
all_texts = pytest.mark.parametrize("text", TEXTS, ids=lambda text: "-".join(map(str, text.values())))


def make_model(
    text: dict[str, Any] | None = None, seed: int = 0, corpus: str = TEXT, **model: Any
) -> LanguageModel:
    """Returns a model with random weights that no run folder holds."""
    text = text or {"framing": "stream"}
    given = {key: text[key] for key in ("normalization", "lowercase") if key in text}
    vocabulary = Vocabulary.build("".join(normalize_pieces([corpus], **given)), **text)
    model = {"hidden_size": 13, **model}
    config = load_config({"corpus": {"path": "text.txt", **text}, "model": model})
    network = randomize(make_network(len(vocabulary), **model), seed)
    return make_language_model(Mixture(network_expert(network)), vocabulary, config)


def network_alone(lm: LanguageModel) -> LanguageModel:
    """Returns the network of a mixture as a model."""
    return LanguageModel(replace(lm.trained, mixture=Mixture(lm.mixture.network)))


def program(language: str, number: int = 0) -> str:
    """Returns a program of docs/explanation/export.md, as it stands there."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    return str(found[number])
