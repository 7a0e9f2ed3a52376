"""The public API of a trained model: load it, then score, sample and evaluate with it."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from charlm.builder import build_batches, build_corpus, build_device, build_draw, build_model
from charlm.config import Config, load_config
from charlm.errors import ConfigError, CorpusError, InputError, RunError
from charlm.model.network import CharacterModel
from charlm.ranking.minimal_pairs import PairsResult, judge
from charlm.ranking.nbest import read_groups, reranked, score_groups
from charlm.ranking.tuning import Tuning, tune
from charlm.sampling import Draw, write, write_texts
from charlm.scoring.alternatives import Alternative, alternatives
from charlm.scoring.conditions import Conditions
from charlm.scoring.dynamic import evaluate_dynamic
from charlm.scoring.evaluation import Evaluation, evaluate, evaluate_baseline, ngram_model
from charlm.scoring.log_probs import score_batches, score_sentences, score_together
from charlm.scoring.measures import Ranked, Score, rank
from charlm.store.run_folder import RunFolder
from charlm.text.corpus import Corpus, Split, load_held_out
from charlm.text.reading import STDIN
from charlm.text.vocabulary import Vocabulary
from charlm.training.trainer import Metrics

PathLike = str | os.PathLike[str]
_MAX_THREADS = 1024
_LINES = 1024  # of an n-best list, read together


class LanguageModel:
    """A trained character-level language model; `charlm.load` and `charlm.train` make them.

    Args:
        model: the network.
        vocabulary: the characters it knows.
        config: what it was trained with.
        folder: its run folder.
    """

    def __init__(self, model: CharacterModel, vocabulary: Vocabulary, config: Config, folder: Path) -> None:
        self.model = model.eval()
        self.vocabulary = vocabulary
        self.config = config
        self.folder = folder

    def score(
        self,
        sentences: Iterable[str],
        *,
        context: str = "",
        bos: bool = True,
        eos: bool = True,
        unknown: str = "spread",
    ) -> list[Score]:
        """Scores sentences; log-probabilities are in nats.

        A sentence's score does not depend on the others.

        Args:
            sentences: one string each.
            context: text that stands before each sentence; it is read, not scored.
            bos: whether a boundary opens the sentence, or its context.
            eos: whether the end of the sentence is scored, where the corpus marks ends.
            unknown: what a character counts that the model has never seen: `spread` (an equal share of the
                probability of `<unk>`), `skip` (nothing) or `error`.

        Raises:
            InputError: a bad argument, or with `error` an unknown character.
        """
        return list(self.score_stream(sentences, context=context, bos=bos, eos=eos, unknown=unknown))

    def score_stream(
        self,
        sentences: Iterable[str],
        *,
        context: str = "",
        bos: bool = True,
        eos: bool = True,
        unknown: str = "spread",
    ) -> Iterator[Score]:
        """Scores any number of sentences in bounded memory, in their order; arguments as in `score`."""
        conditions = Conditions(context, bos, eos, unknown)
        return score_sentences(self.model, self.vocabulary, _several(sentences), conditions)

    def score_batch(self, sentences: Sequence[str], conditions: Conditions | None = None) -> list[Score]:
        """Scores sentences that are all at hand at once, for callers that batch by themselves."""
        return score_together(self.model, self.vocabulary, sentences, conditions or Conditions())

    def score_batches(
        self, batches: Iterable[Sequence[str]], conditions: Conditions | None = None
    ) -> Iterator[list[Score]]:
        """As `score_batch` for each batch as it comes, but a context is read only once."""
        return score_batches(self.model, self.vocabulary, batches, conditions or Conditions())

    def rank(
        self,
        sentences: Iterable[str],
        measure: str = "mean",
        *,
        context: str = "",
        bos: bool = True,
        eos: bool = True,
        unknown: str = "spread",
    ) -> list[Ranked]:
        """Scores sentences and sorts them, best first; equal ones share a rank. Arguments as in `score`.

        Args:
            sentences: one string each.
            measure: what decides: `logprob`, `mean`, `penlp` or `slor`.
            context: see `score`.
            bos: see `score`.
            eos: see `score`.
            unknown: see `score`.

        Raises:
            InputError: a bad argument, or with `error` an unknown character.
        """
        return rank(self.score(sentences, context=context, bos=bos, eos=eos, unknown=unknown), measure)

    def alternatives(
        self, sentence: str, k: int = 5, *, context: str = "", bos: bool = True, eos: bool = True
    ) -> list[tuple[Alternative, ...]]:
        """Returns, for each of `Score.chars`, the k likeliest other characters there, likeliest first.

        Args:
            sentence: one string.
            k: how many.
            context: see `score`.
            bos: see `score`.
            eos: see `score`.

        Raises:
            InputError: k is below 1.
        """
        return alternatives(self.model, self.vocabulary, sentence, k, Conditions(context, bos, eos))

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
        batches = iter(lambda: list(islice(lines, _LINES)), [])
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
        self,
        count: int = 1,
        *,
        prompt: str = "",
        length: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        seed: int = 0,
        stop: str | None = None,
    ) -> Iterator[str]:
        """Writes `count` texts, each beginning with the prompt.

        Sample k depends only on the seed and k. What is not given comes from the run's configuration.

        Args:
            count: how many.
            prompt: text to go on from.
            length: characters to write; in lines framing a text also ends with its line.
            temperature: divides the logits; 0 takes the likeliest character always.
            top_k: only the K likeliest characters.
            top_p: only the likeliest characters that together hold this probability.
            min_p: only characters at least this fraction as likely as the likeliest.
            seed: of the random numbers.
            stop: end a text as soon as it ends with this.

        Raises:
            InputError: the prompt has unknown characters, or a setting is out of range.
        """
        return write_texts(
            self.model,
            self.vocabulary,
            count,
            prompt=prompt,
            length=self._length(length),
            draw=self._draw(temperature, top_k, top_p, min_p),
            seed=seed,
            stop=stop,
        )

    def stream(
        self,
        *,
        prompt: str = "",
        length: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        seed: int = 0,
        stop: str | None = None,
    ) -> Iterator[str]:
        """Writes one text piece by piece: the prompt, then each character as it is drawn.

        Joined, it is the first text that `sample` gives for the same arguments.
        """
        pieces = write(
            self.model,
            self.vocabulary,
            [0],
            prompt=prompt,
            length=self._length(length),
            draw=self._draw(temperature, top_k, top_p, min_p),
            seed=seed,
            stop=stop,
        )
        first = next(pieces, [""])  # a bad prompt speaks up before anything is written
        yield prompt + first[0]
        for (piece,) in pieces:
            yield piece

    def _length(self, length: int | None) -> int:
        if length is not None and length < 1:
            raise InputError(f"length {length}: must be at least 1")
        return self.config.sampling.length if length is None else length

    def _draw(self, temperature: float | None, top_k: int | None, top_p: float | None, min_p: float | None) -> Draw:
        defaults = build_draw(self.config.sampling)
        return Draw(
            defaults.temperature if temperature is None else temperature,
            defaults.top_k if top_k is None else top_k,
            defaults.top_p if top_p is None else top_p,
            defaults.min_p if min_p is None else min_p,
        )

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
        result = evaluate(self.model, self.vocabulary, split)
        if corpus and dynamic:
            nats, rates = evaluate_dynamic(
                self.model,
                self.vocabulary,
                split,
                training=build_batches(self.config, corpus).epoch(0),
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
            nats = evaluate_baseline(ngram_model(self.vocabulary, corpus.train), self.vocabulary, split)
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
        """Reads the corpus that the model was trained on again, and splits it as then.

        Raises:
            CorpusError: it is gone, or it has changed since.
        """
        path = self.config.corpus.path
        if STDIN in ([path] if isinstance(path, str) else path):
            raise CorpusError(f"{self.folder}: trained on standard input, which cannot be read again")
        try:
            corpus = build_corpus(self.config, self.vocabulary.characters)
        except CorpusError as error:
            raise CorpusError(
                f"{self.folder}: the run's own corpus is needed, and cannot be read: {error}"
            ) from None
        if corpus.vocabulary.to_json() != self.vocabulary.to_json():  # its counts included
            names = path if isinstance(path, str) else ", ".join(path)
            raise CorpusError(f"{self.folder}: the run's own corpus has changed since the training: {names}")
        return corpus


def _several(sentences: Iterable[str]) -> Iterable[str]:
    if isinstance(sentences, str):
        raise InputError("score takes a list of sentences; put the one sentence into a list")
    return sentences


def load(run: PathLike, *, device: str = "auto", threads: int | None = None) -> LanguageModel:
    """Loads the best model of a run folder.

    Args:
        run: the folder that training wrote.
        device: `auto`, `cpu`, `cuda` or `mps`.
        threads: CPU threads; None leaves torch's choice.

    Raises:
        RunError: the folder is missing, incomplete, damaged or from a newer charlm.
    """
    set_threads(threads)
    folder = RunFolder(Path(run))
    vocabulary = Vocabulary.from_json(folder.read_text(folder.vocabulary), str(folder.vocabulary))
    config = load_run_config(folder)
    _check_vocabulary(vocabulary, config, folder)
    with torch.device("meta"):  # shapes alone: memory is taken once the file has been found to fit them
        model = build_model(config.model, len(vocabulary))
    folder.load_model(model)
    if config.model.ngram is not None:
        model.attach(folder.load_ngram(len(vocabulary), vocabulary.boundary_id, config.model.ngram))
    return LanguageModel(model.to(build_device(device)), vocabulary, config, folder.path)


def _check_vocabulary(vocabulary: Vocabulary, config: Config, folder: RunFolder) -> None:
    for key in ("framing", "level", "normalization", "lowercase"):
        theirs, ours = getattr(vocabulary, key), getattr(config.corpus, key)
        if theirs != ours:
            raise RunError(
                f"{folder.path}: damaged run: {key} is {theirs!r} in {folder.vocabulary.name}, "
                f"{ours!r} in {folder.config.name}"
            )


def load_run_config(folder: RunFolder) -> Config:
    """Reads the configuration of a run.

    Raises:
        RunError: it is missing or damaged.
    """
    content = folder.read_text(folder.config)
    try:
        return load_config(folder.config, content=content)
    except ConfigError as error:
        raise RunError(f"{folder.path}: damaged configuration: {error}") from None


def load_metrics(run: PathLike) -> list[dict[str, Any]]:
    """Reads the training curve of a run: the rows of metrics.jsonl.

    Raises:
        RunError: the run is missing, or a row lacks a field of `Metrics` or has something else than a number there.
    """
    folder = RunFolder(Path(run))
    rows = folder.read_metrics()
    for number, row in enumerate(rows, 1):
        for field in dataclasses.fields(Metrics):
            if not _is_number(row.get(field.name, ""), or_null=field.name == "validation_loss"):
                raise RunError(f"{folder.metrics}, line {number}: {field.name} is missing or not a number")
    return rows


def _is_number(value: Any, or_null: bool) -> bool:
    if value is None:
        return or_null
    return type(value) in (int, float) and abs(value) < 1e300  # a bool is an int to isinstance


def set_threads(threads: int | None) -> None:
    """Sets how many CPU threads torch uses; None changes nothing."""
    if threads is not None:
        if not 1 <= threads <= _MAX_THREADS:  # far more than that crash the process
            raise InputError(f"threads {threads}: must be from 1 to {_MAX_THREADS}")
        torch.set_num_threads(threads)
