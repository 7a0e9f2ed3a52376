"""charlm: character-level recurrent language models that score sentences and write text.

    import charlm

    lm = charlm.train("config:quickstart", budget="2m", out="runs/q")
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
    from charlm.language_model import LanguageModel, load
    from charlm.ranking.minimal_pairs import PairsResult
    from charlm.ranking.tuning import Tuning
    from charlm.run import train
    from charlm.scoring.alternatives import Alternative
    from charlm.scoring.conditions import Conditions, Unknown
    from charlm.scoring.evaluation import Evaluation
    from charlm.scoring.measures import CharacterScore, Measure, Ranked, Score
    from charlm.scoring.states import State
    from charlm.scoring.summary import Summary
    from charlm.scoring.words import Space, WordScore
    from charlm.writing.figures import WritingEvaluation, WritingFigures

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
    "Space",
    "State",
    "Summary",
    "TrainingError",
    "Tuning",
    "Unknown",
    "WordScore",
    "WritingEvaluation",
    "WritingFigures",
    "__version__",
    "load",
    "train",
]

_LAZY = {
    "Alternative": "charlm.scoring.alternatives",
    "CharacterScore": "charlm.scoring.measures",
    "Conditions": "charlm.scoring.conditions",
    "Evaluation": "charlm.scoring.evaluation",
    "LanguageModel": "charlm.language_model",
    "Measure": "charlm.scoring.measures",
    "PairsResult": "charlm.ranking.minimal_pairs",
    "Ranked": "charlm.scoring.measures",
    "Score": "charlm.scoring.measures",
    "Space": "charlm.scoring.words",
    "State": "charlm.scoring.states",
    "Summary": "charlm.scoring.summary",
    "Tuning": "charlm.ranking.tuning",
    "Unknown": "charlm.scoring.conditions",
    "WordScore": "charlm.scoring.words",
    "WritingEvaluation": "charlm.writing.figures",
    "WritingFigures": "charlm.writing.figures",
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
