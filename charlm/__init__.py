"""charlm: character-level recurrent language models that score sentences and write text.

    import charlm

    lm = charlm.train("configs/quickstart.yaml", budget="2m", out="runs/q")
    lm = charlm.load("runs/q")
    lm.score(["to be or not to be"])
    for text in lm.sample(count=3, length=200, temperature=0.8, seed=1):
        print(text)
    lm.evaluate("held_out.txt")

torch is imported when the first of these is used, not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from charlm.errors import (
    CharlmError,
    ConfigError,
    CorpusError,
    InputError,
    Interrupted,
    RunError,
    TrainingError,
)

if TYPE_CHECKING:
    from charlm.inference.alternatives import Alternative
    from charlm.inference.conditions import Conditions, Unknown
    from charlm.inference.evaluation import Evaluation
    from charlm.inference.measures import CharacterScore, Measure, Ranked, Score
    from charlm.inference.minimal_pairs import PairsResult
    from charlm.inference.summary import Summary
    from charlm.inference.tuning import Tuning
    from charlm.language_model import LanguageModel, load
    from charlm.run import train

__version__ = "0.1.0"

__all__ = [
    "Alternative",
    "CharacterScore",
    "CharlmError",
    "Conditions",
    "ConfigError",
    "CorpusError",
    "Evaluation",
    "InputError",
    "Interrupted",
    "LanguageModel",
    "Measure",
    "PairsResult",
    "Ranked",
    "RunError",
    "Score",
    "Summary",
    "TrainingError",
    "Tuning",
    "Unknown",
    "__version__",
    "load",
    "train",
]

_LAZY = {
    "Alternative": "charlm.inference.alternatives",
    "CharacterScore": "charlm.inference.measures",
    "Conditions": "charlm.inference.conditions",
    "Evaluation": "charlm.inference.evaluation",
    "LanguageModel": "charlm.language_model",
    "Measure": "charlm.inference.measures",
    "PairsResult": "charlm.inference.minimal_pairs",
    "Ranked": "charlm.inference.measures",
    "Score": "charlm.inference.measures",
    "Summary": "charlm.inference.summary",
    "Tuning": "charlm.inference.tuning",
    "Unknown": "charlm.inference.conditions",
    "load": "charlm.language_model",
    "train": "charlm.run",
}


def __getattr__(name: str) -> Any:
    """Imports a public name, and with it torch, when it is first used."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
