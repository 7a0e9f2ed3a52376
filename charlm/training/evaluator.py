"""What training asks of a model at each evaluation: the validation loss, and a sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from charlm.config import SamplingConfig
from charlm.experts.mixture import Mixture
from charlm.experts.powers import fit_powers
from charlm.sampling import write_texts
from charlm.scoring.evaluation import evaluate
from charlm.text.corpus import Corpus

_TRIED_SYMBOLS = 1 << 16  # enough for two threads


@dataclass(frozen=True)
class Evaluator:
    """Evaluates the network in training, with the experts beside it.

    Attributes:
        mixture: of the network and the other experts.
        corpus: its validation split is evaluated on.
        sampling: the `sampling` section of the configuration.
        seed: of the sample.
    """

    mixture: Mixture
    corpus: Corpus
    sampling: SamplingConfig
    seed: int

    def validate(self) -> float | None:
        """Fits the powers of the mixture, and returns its loss in nats per character; None: nothing is held out."""
        vocabulary, validation = self.corpus.vocabulary, self.corpus.validation
        if not len(validation.ids):
            return None
        fit_powers(self.mixture, vocabulary, validation.ids, validation.parts)
        return evaluate(self.mixture, vocabulary, validation).nats_per_character

    def expected_seconds(self, clock: Callable[[], float]) -> float:
        """Returns how long evaluating the validation split will take, as a part of it shows; nothing is fitted."""
        validation = self.corpus.validation
        part = validation.last(_TRIED_SYMBOLS)
        if not len(part.ids):
            return 0.0
        began = clock()
        evaluate(self.mixture, self.corpus.vocabulary, part)
        return (clock() - began) * len(validation.ids) / len(part.ids)

    def write_sample(self) -> str:
        """Returns what the model writes now."""
        return next(write_texts(self.mixture, self.corpus.vocabulary, 1, self.sampling, seed=self.seed))
