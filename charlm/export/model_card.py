"""The model card of an exported network: what it is, how good, what it learnt from, how it was made.

Statistics of the training text are those that its vocabulary holds. The text itself is not shown, nor is any path.
"""

from __future__ import annotations

import math

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from charlm import __version__
from charlm.config.writing import to_yaml, without_paths
from charlm.export.network import Figures, describe_text, exported_weights
from charlm.language_model import LanguageModel
from charlm.text.plain import utf8_sizes
from charlm.text.vocabulary import Vocabulary
from charlm.training.reports import load_metrics


def render_card(lm: LanguageModel, figures: Figures) -> str:
    """Returns the card as Markdown, with a place for the licence, which is the author's to choose.

    Raises:
        RunError: metrics.jsonl is damaged.
    """
    config = without_paths(lm.config)
    rows = [("this network", figures.network), ("the mixture that it is a part of", figures.mixture)]
    environment = Environment(
        loader=PackageLoader("charlm.export", "assets"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("README.md.jinja").render(
        config=config,
        model=config.model.layers,
        parameters=sum(value.size for value in exported_weights(lm).values()),
        version=__version__,
        text=describe_text(lm),
        unit=lm.vocabulary.level,
        temperature=config.sampling.temperature or 1.0,
        figures=[(name, nats) for name, nats in rows if nats is not None],
        ln2=math.log(2),
        measured_on=figures.text,
        missing=figures.missing,
        is_mixture=len(lm.mixture.experts) > 1,
        statistics=_statistics(lm),
        yaml=to_yaml(config).strip(),
    )


def _statistics(lm: LanguageModel) -> list[tuple[str, str]]:
    vocabulary, rows = lm.vocabulary, load_metrics(lm.folder)
    counts = np.array(vocabulary.counts)
    unit = f"{vocabulary.level}s"
    found = [(unit, f"{counts.sum():,}")]
    if vocabulary.level == "character":
        found.append(("bytes in UTF-8", f"{_utf8_bytes(vocabulary):,}"))
    if vocabulary.ends_sentences:
        found.append(("lines", f"{counts[vocabulary.boundary_id]:,}"))
    found.append((f"distinct {unit}", f"{np.count_nonzero(counts[_first_known(vocabulary) :]):,}"))
    if vocabulary.unknown_id is not None and counts[vocabulary.unknown_id]:
        found.append(("characters too rare for the vocabulary", f"{counts[vocabulary.unknown_id]:,}"))
    entropy = vocabulary.unigram_entropy / math.log(2)
    found.append((f"bits per {unit[:-1]} by frequency alone", f"{entropy:.3f}"))
    if rows:
        found.append((f"{unit} learnt from, over all passes", f"{rows[-1]['characters']:,}"))
        found.append(("passes", f"{rows[-1]['epoch']:.1f}"))
        found.append(("seconds of training", f"{rows[-1]['seconds']:,.0f}"))
    return found


def _first_known(vocabulary: Vocabulary) -> int:
    return 0 if vocabulary.unknown_id is None else 1


def _utf8_bytes(vocabulary: Vocabulary) -> int:
    """Counts the bytes of the training text in UTF-8, but for those of its unknown characters."""
    codes = np.array([ord(char) for char in vocabulary.characters])
    return int(utf8_sizes(codes) @ np.array(vocabulary.counts[_first_known(vocabulary) :]))
