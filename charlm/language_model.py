"""The public API of a trained model: load it, then score, sample and evaluate with it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from charlm.config import SamplingConfig, change_section
from charlm.errors import InputError
from charlm.ranking.minimal_pairs import PairsResult, judge
from charlm.ranking.nbest import read_groups, reranked, score_groups
from charlm.ranking.tuning import Tuning, tune
from charlm.sampling import write, write_texts
from charlm.scoring.alternatives import Alternative, alternatives
from charlm.scoring.conditions import Conditions
from charlm.scoring.dynamic import evaluate_dynamic
from charlm.scoring.evaluation import Evaluation, evaluate, evaluate_baseline
from charlm.scoring.measures import Ranked, Score, rank
from charlm.scoring.sentences import score_batches
from charlm.store.run_folder import RunFolder
from charlm.store.trained import TrainedModel, load_trained
from charlm.system.devices import find_device, set_threads
from charlm.text.corpus import Corpus, Split, load_held_out
from charlm.training.step import make_batches

PathLike = str | os.PathLike[str]
_BATCH_SENTENCES = 1024  # looked at together, sorted by length
_BATCH_LINES = 1024  # of an n-best list, read together


class LanguageModel:
    """A trained character-level language model; `charlm.load` and `charlm.train` make them.

    Args:
        trained: what its run folder holds.

    Attributes:
        mixture: the network and the experts beside it.
        vocabulary: the characters it knows.
        config: what it was trained with.
        folder: its run folder.
    """

    def __init__(self, trained: TrainedModel) -> None:
        self.trained = trained
        self.mixture = trained.mixture
        self.vocabulary = trained.vocabulary
        self.config = trained.config
        self.folder = trained.folder

    def score(self, sentences: Iterable[str], conditions: Conditions | None = None, **settings: Any) -> list[Score]:
        """Scores sentences; log-probabilities are in nats.

        A sentence's score does not depend on the others.

        Args:
            sentences: one string each.
            conditions: what stands before each sentence, what of it counts, what unknown characters count for.
            **settings: the attributes of `Conditions`, instead of or on top of these: `context`, `bos`, `eos`,
                `unknown`.

        Raises:
            InputError: a bad argument, or unknown characters where the conditions refuse them.
        """
        return list(self.score_stream(sentences, conditions, **settings))

    def score_stream(
        self, sentences: Iterable[str], conditions: Conditions | None = None, **settings: Any
    ) -> Iterator[Score]:
        """Scores any number of sentences in bounded memory, in their order; arguments as in `score`."""
        if isinstance(sentences, str):
            raise InputError("score takes a list of sentences; put the one sentence into a list")
        remaining = iter(sentences)
        batches = iter(lambda: list(islice(remaining, _BATCH_SENTENCES)), [])
        return (score for scores in self.score_batches(batches, conditions, **settings) for score in scores)

    def score_batches(
        self, batches: Iterable[Sequence[str]], conditions: Conditions | None = None, **settings: Any
    ) -> Iterator[list[Score]]:
        """Scores batches of sentences as they come, for callers that batch by themselves; as in `score`."""
        return score_batches(self.mixture, self.vocabulary, batches, Conditions.given(conditions, settings))

    def rank(
        self,
        sentences: Iterable[str],
        measure: str = "mean",
        conditions: Conditions | None = None,
        **settings: Any,
    ) -> list[Ranked]:
        """Scores sentences and sorts them, best first; ties share a rank. Other arguments as in `score`.

        Args:
            sentences: one string each.
            measure: what decides: `logprob`, `mean`, `penlp` or `slor`.
            conditions: see `score`.
            **settings: see `score`.

        Raises:
            InputError: a bad argument, or unknown characters where the conditions refuse them.
        """
        return rank(self.score(sentences, conditions, **settings), measure)

    def alternatives(
        self, sentence: str, k: int = 5, conditions: Conditions | None = None, **settings: Any
    ) -> list[tuple[Alternative, ...]]:
        """Returns, for each of `Score.chars`, the k likeliest other characters there, likeliest first.

        Args:
            sentence: one string.
            k: how many.
            conditions: see `score`.
            **settings: see `score`.

        Raises:
            InputError: k is below 1.
        """
        return alternatives(self.mixture, self.vocabulary, sentence, k, Conditions.given(conditions, settings))

    def rerank(
        self, nbest: Iterable[str], *, weight: float = 1.0, length_bonus: float = 0.0, measure: str = "logprob"
    ) -> Iterator[str]:
        """Ranks a Moses n-best list anew, in bounded memory.

        Args:
            nbest: its lines, `id ||| hypothesis ||| features ||| total`, each id's together; an open file will do.
            weight: of the measure, in the new total: total + weight * measure + length_bonus * characters.
            length_bonus: for each character of the hypothesis.
            measure: `logprob`, `mean`, `penlp` or `slor`.

        Yields:
            The lines without their newlines, each with a feature `charlm= measure` and the new total; each id's
            from the best down, equals in their order.

        Raises:
            InputError: a line is not one of an n-best list, or an id comes again after another.
        """
        lines = (line.rstrip("\r\n") for line in nbest)
        batches = iter(lambda: list(islice(lines, _BATCH_LINES)), [])
        for batch in self.rerank_batches(batches, weight=weight, length_bonus=length_bonus, measure=measure):
            yield from batch

    def rerank_batches(
        self,
        batches: Iterable[Sequence[str]],
        *,
        weight: float = 1.0,
        length_bonus: float = 0.0,
        measure: str = "logprob",
        source: str = "n-best list",
    ) -> Iterator[list[str]]:
        """As `rerank`, for callers that batch by themselves: answers as many ids as each batch completes.

        Args:
            batches: lines without their newlines.
            weight: of the measure.
            length_bonus: for each character.
            measure: `logprob`, `mean`, `penlp` or `slor`.
            source: what messages call the list.
        """
        for name, number in (("weight", weight), ("length bonus", length_bonus)):
            if not math.isfinite(number):
                raise InputError(f"{name} {number}: must be a finite number")
        for groups in read_groups(batches, source):
            scored = score_groups(groups, self.score_stream, measure)
            yield [line for group in scored for line in reranked(group, weight, length_bonus)]

    def tune_reranking(
        self,
        nbest: Iterable[str],
        references: Sequence[Sequence[str]],
        *,
        metric: str = "chrf",
        measure: str = "logprob",
        source: str = "n-best list",
    ) -> Tuning:
        """Finds the weight and the length bonus of `rerank` on a development set, by a grid.

        Args:
            nbest: the lines of its n-best list; the ids number the references' lines from 0.
            references: one or more translations of the whole set, each as its lines.
            metric: `chrf`, `bleu` or `bleu-zh` (words or characters as sacrebleu splits them).
            measure: `logprob`, `mean`, `penlp` or `slor`.
            source: what messages call the list.

        Raises:
            InputError: sacrebleu is not installed, or list and references do not fit together.
        """
        lines = [line.rstrip("\r\n") for line in nbest]
        groups = [group for some in read_groups([lines], source) for group in some]
        return tune(groups, references, self.score_stream, measure=measure, metric=metric)

    def pairs(
        self,
        pairs: Iterable[tuple[str, str] | tuple[str, str, str | None]],
        *,
        measure: str = "logprob",
        against: LanguageModel | None = None,
    ) -> list[PairsResult]:
        """Counts how often the good sentence of a minimal pair scores higher than the bad one.

        Args:
            pairs: (good, bad) or (good, bad, group), any number.
            measure: `logprob`, `mean`, `penlp` or `slor`.
            against: another model to judge the same pairs.

        Returns:
            All pairs first (their `group` is None), then each group in the order of appearance.

        Raises:
            InputError: there are no pairs.
        """
        return judge(pairs, self.score_stream, measure, against.score_stream if against else None)

    def sample(
        self, count: int = 1, *, prompt: str = "", seed: int = 0, stop: str | None = None, **settings: Any
    ) -> Iterator[str]:
        """Writes `count` texts, each beginning with the prompt.

        Sample k depends only on the seed and k.

        Args:
            count: how many.
            prompt: text to go on from.
            seed: of the random numbers.
            stop: end a text as soon as it ends with this.
            **settings: values of the `sampling` section of a configuration, in place of the run's own: `length`
                (characters; in lines framing a text also ends with its line), `temperature` (divides the logits; 0
                takes the likeliest character always), `top_k`, `top_p`, `min_p`.

        Raises:
            InputError: the prompt has unknown characters, or a setting is out of range.
        """
        rule = self._sampling(settings)
        return write_texts(self.mixture, self.vocabulary, count, rule, prompt=prompt, seed=seed, stop=stop)

    def stream(self, *, prompt: str = "", seed: int = 0, stop: str | None = None, **settings: Any) -> Iterator[str]:
        """Writes one text piece by piece: the prompt, then each character as it is drawn.

        Joined, it is the first text that `sample` gives for the same arguments.
        """
        rule = self._sampling(settings)
        pieces = write(self.mixture, self.vocabulary, [0], rule, prompt=prompt, seed=seed, stop=stop)
        first = next(pieces, [""])  # a bad prompt speaks up before anything is written
        yield prompt + first[0]
        for (piece,) in pieces:
            yield piece

    def _sampling(self, settings: dict[str, Any]) -> SamplingConfig:
        """Returns the run's own way of sampling with other settings; None stands for what the run has."""
        plain = {name: v.item() if isinstance(v, np.generic) else v for name, v in settings.items()}
        given = {name: value for name, value in plain.items() if value is not None}
        length = given.pop("length", None)
        if length is not None and length < 1:
            raise InputError(f"length {length}: must be at least 1")
        rule = change_section(self.config.sampling, given)
        # A text may be longer than those that training writes.
        return rule if length is None else rule.model_copy(update={"length": length})

    def evaluate(
        self,
        paths: PathLike | Iterable[PathLike] | None = None,
        *,
        dynamic: bool = False,
        learning_rate: float | None = None,
        decay: float | None = None,
        baseline: bool = False,
    ) -> Evaluation:
        """Measures how well the model predicts held-out text.

        Args:
            paths: files, folders, globs, `.gz` or `-`, read with the run's own framing and normalisation; None: the
                validation split of the run's own corpus.
            dynamic: also measure a copy of the model that goes on learning from the text as it reads it; see
                `charlm.scoring.dynamic`.
            learning_rate: of the dynamic evaluation; None: tuned on the beginning of the run's validation split.
            decay: of the dynamic evaluation, back to the trained weights; None: tuned as well.
            baseline: also measure an n-gram model that learnt from the run's own training split.

        Raises:
            CorpusError: nothing to read, or not text; or the run's own corpus is needed, and is gone or changed.
            InputError: a rate is out of range, or given though `dynamic` is not.
        """
        if not dynamic and (learning_rate, decay) != (None, None):
            raise InputError("a learning rate and a decay belong to dynamic evaluation; ask for it (--dynamic)")
        for name, rate in (("learning rate", learning_rate), ("decay", decay)):
            if rate is not None and not 0 <= rate <= 1:
                raise InputError(f"{name} {rate:g}: must be from 0 to 1")
        corpus = self.corpus() if dynamic or baseline or paths is None else None
        split = self._split(paths, corpus)
        result = evaluate(self.mixture, self.vocabulary, split)
        if corpus and dynamic:
            nats, rates = evaluate_dynamic(
                self.mixture,
                self.vocabulary,
                split,
                training=make_batches(corpus, self.config.training).epoch(0),
                validation=corpus.validation,
                learning_rate=learning_rate,
                decay=decay,
            )
            result = replace(
                result,
                dynamic_nats_per_character=nats,
                dynamic_learning_rate=rates.learning_rate,
                dynamic_decay=rates.decay,
            )
        if corpus and baseline:
            nats = evaluate_baseline(self.vocabulary, corpus.train, split)
            result = replace(result, baseline_nats_per_character=nats)
        return result

    def _split(self, paths: PathLike | Iterable[PathLike] | None, corpus: Corpus | None) -> Split:
        """Reads the text to be measured; without paths it is the validation split of the corpus."""
        if paths is None and corpus is not None:
            if not corpus.validation.characters:
                raise InputError(f"{self.folder}: trained without a validation split; name a text to evaluate")
            return corpus.validation
        names = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths or ())
        return load_held_out([os.fspath(name) for name in names], self.vocabulary)

    def corpus(self) -> Corpus:
        """Reads the corpus that the model was trained on again; see `TrainedModel.read_corpus`."""
        return self.trained.read_corpus()


def load(run: PathLike, *, device: str = "auto", threads: int | None = None) -> LanguageModel:
    """Loads the best model of a run folder.

    Args:
        run: the folder that training wrote.
        device: `auto`, `cpu`, `cuda` or `mps`.
        threads: CPU threads; None leaves torch's choice.

    Raises:
        RunError: the folder is missing, incomplete, damaged or of another format.
    """
    set_threads(threads)
    return LanguageModel(load_trained(RunFolder(Path(run)), find_device(device)))
