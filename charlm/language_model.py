"""The public API of a trained model: load it, then score, sample and evaluate with it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from charlm.config import SamplingConfig, change_section
from charlm.errors import InputError, RunError, TrainingError
from charlm.experts.memory import remember
from charlm.experts.mixture import Mixture
from charlm.ranking.minimal_pairs import PairsResult, judge
from charlm.ranking.nbest import Group, NbestFormat, read_groups, reranked, score_groups
from charlm.ranking.tuning import Tuning, tune
from charlm.sampling import Sample, normalize_stop, without_stop, write, write_at_once, write_texts
from charlm.scoring import html
from charlm.scoring.alternatives import Alternatives, alternatives
from charlm.scoring.conditions import Conditions
from charlm.scoring.evaluation import Evaluation, evaluate, evaluate_baseline
from charlm.scoring.measures import Ranked, Score, Scores, rank
from charlm.scoring.memory import evaluate_memory, fit_memory
from charlm.scoring.sentences import score_batches, score_shares
from charlm.scoring.states import StatefulModel
from charlm.scoring.words import Space, WordScore, find_words, score_words
from charlm.store.run_folder import RunFolder
from charlm.store.trained import TrainedModel, load_trained
from charlm.system.arguments import check_integer, check_number, check_path, check_text, each_of, each_text
from charlm.system.counts import count_of
from charlm.system.devices import find_device_name
from charlm.system.distributed import ALONE, Ranks
from charlm.system.encodings import check_encoding
from charlm.system.threads import set_threads
from charlm.text.corpus import Corpus, Split, load_held_out, share_split
from charlm.text.plain import read_parts
from charlm.writing.figures import HELD_OUT_CHARACTERS, WritingEvaluation, cut_stretches, measure_writing
from charlm.writing.known import KnownTexts, write_new_texts
from charlm.writing.runs import SEARCHED_CHARACTERS

PathLike = str | os.PathLike[str]
_BATCH_SENTENCES = 1024  # looked at together, sorted by length
_BATCH_LINES = 1024  # of an n-best list, read together


class LanguageModel(StatefulModel):
    """A trained character-level language model, as `charlm.load` and `charlm.train` return it.

    Decoders read text step by step with the methods `start`, `next_log_probs`, `advance` and `end_log_prob`.

    Args:
        trained: The contents of the run folder.

    Attributes:
        mixture: The network and the models that are mixed with it.
        vocabulary: The characters that the model knows.
        config: The configuration of its training.
        folder: The run folder.
    """

    def __init__(self, trained: TrainedModel) -> None:
        self.trained = trained
        self.mixture = trained.mixture
        self.vocabulary = trained.vocabulary
        self.config = trained.config
        self.folder = trained.folder
        self._ranks = ALONE

    def score(self, sentences: Iterable[str], conditions: Conditions | None = None, **settings: Any) -> Scores:
        """Scores sentences. Log-probabilities are in nats.

        The score of a sentence does not depend on the other sentences.

        Args:
            sentences: The sentences, each a string.
            conditions: What is read before each sentence, whether its end is scored, and how unknown characters are
                treated.
            **settings: Attributes of `Conditions` (`context`, `bos`, `eos`, `unknown`, `document`). They can be
                given instead of `conditions`, and they replace single values of it.

        Raises:
            InputError: An argument is invalid, or a sentence has unknown characters and `unknown` is `error`.
            CorpusError: A document is given, the run has no weights for a memory yet, and its corpus, from which
                they are found, cannot be read. See `with_memory`.
        """
        return Scores(self.score_stream(sentences, conditions, **settings))

    def score_stream(
        self, sentences: Iterable[str], conditions: Conditions | None = None, **settings: Any
    ) -> Iterator[Score]:
        """Scores any number of sentences in their order, in bounded memory. The arguments are those of `score`."""
        if isinstance(sentences, str):
            raise InputError("sentences must be a list of strings, not one string; put the sentence into a list")
        remaining = each_text(sentences, "sentences")
        batches = iter(lambda: list(islice(remaining, _BATCH_SENTENCES)), [])
        return (score for scores in self.score_batches(batches, conditions, **settings) for score in scores)

    def score_batches(
        self, batches: Iterable[Sequence[str]], conditions: Conditions | None = None, **settings: Any
    ) -> Iterator[list[Score]]:
        """Scores batches of sentences as they arrive. Otherwise it is like `score`."""
        texts = (list(each_text(batch, "sentences")) for batch in each_of(batches, "batches"))
        given = _conditions(conditions, settings)
        return score_batches(self._reader(given), self.vocabulary, texts, given, self._ranks)

    @contextmanager
    def sharing(self, ranks: Ranks, conditions: Conditions | None = None) -> Iterator[None]:
        """Divides the sentences that rank 0 scores among all ranks, until the end of the block.

        Only rank 0 runs the block. The other ranks compute their shares and end with `SystemExit`.

        Args:
            ranks: The processes, each of which has loaded the same model.
            conditions: The conditions under which all sentences are scored.
        """
        given = conditions or Conditions()
        if not ranks.leads:
            score_shares(self._reader(given), self.vocabulary, given, ranks)
            raise SystemExit(0)
        self._ranks = ranks
        try:
            yield
        finally:
            self._ranks = ALONE
            with suppress(TrainingError):  # a process is lost, and that was said
                for rank in range(1, ranks.size):
                    ranks.send(None, rank)

    def rank(
        self,
        sentences: Iterable[str],
        measure: str = "mean",
        conditions: Conditions | None = None,
        **settings: Any,
    ) -> list[Ranked]:
        """Scores sentences and sorts them, the best first. Sentences with equal scores share a rank.

        Args:
            sentences: The sentences, each a string.
            measure: The measure to sort by: `logprob`, `mean`, `penlp` or `slor`.
            conditions: See `score`.
            **settings: See `score`.

        Raises:
            InputError: An argument is invalid, or a sentence has unknown characters and `unknown` is `error`.
        """
        return rank(self.score(sentences, conditions, **settings), measure)

    def alternatives(
        self, sentence: str, k: int = 5, conditions: Conditions | None = None, **settings: Any
    ) -> Alternatives:
        """Returns the k most probable other characters at each place of a sentence, the most probable first.

        Args:
            sentence: The sentence.
            k: The number of characters at each place, which are those of `Score.chars`.
            conditions: See `score`.
            **settings: See `score`.

        Raises:
            InputError: `k` is less than 1.
        """
        check_text(sentence, "sentence")
        check_integer(k, "k")
        given = _conditions(conditions, settings)
        return alternatives(self._reader(given), self.vocabulary, sentence, k, given)

    def word_scores(
        self,
        sentences: Iterable[str],
        *,
        space: str = "after",
        separator: str | None = None,
        conditions: Conditions | None = None,
        **settings: Any,
    ) -> list[list[WordScore]]:
        """Scores sentences word by word. The log-probabilities of the words, in nats, sum to that of the sentence.

        Args:
            sentences: The sentences, each a string.
            space: The white space that counts as part of a word. With `after` it is the white space after the word,
                and the end of the sentence belongs to the last word. With `before` it is the white space before the
                word, and the end of the sentence is an entry of its own.
            separator: The text that separates words. It is removed before scoring, and `start` and `end` refer to
                the text without it. If it is None, white space separates words and is not removed.
            conditions: See `score`.
            **settings: See `score`.

        Raises:
            InputError: An argument is invalid, or a sentence has unknown characters and `unknown` is `error`.
        """
        convention = _space(space)
        if separator is not None:
            check_text(separator, "separator")
        cut = [find_words(text, separator) for text in each_text(sentences, "sentences")]
        scores = zip(self.score((text for text, _ in cut), conditions, **settings), cut, strict=True)
        return [score_words(score, words, self.vocabulary.normalize, convention) for score, (_, words) in scores]

    def rerank(
        self,
        nbest: Iterable[str],
        *,
        weight: float = 1.0,
        length_bonus: float = 0.0,
        measure: str = "logprob",
        input_format: str = "auto",
    ) -> Iterator[str]:
        """Reranks an n-best list in bounded memory.

        Args:
            nbest: The lines of the list, such as an open file. The lines of one id must follow each other.
            weight: The weight of the measure in the new total, which is
                `total + weight * measure + length_bonus * characters`.
            length_bonus: The bonus for each character of the hypothesis.
            measure: `logprob`, `mean`, `penlp` or `slor`.
            input_format: `moses`, `nematus`, `fairseq` or `kaldi`. `auto` recognises the format from the list.

        Yields:
            The lines in the format of the list, without their newlines, with the new totals. The hypotheses of each
            id come best first, and those with equal totals keep their order. In a Moses list each line also gets
            the feature `charlm= measure`.

        Raises:
            InputError: A line does not have the format of an n-best list, or the lines of an id are not together.
        """
        lines = (line.rstrip("\r\n") for line in each_text(nbest, "nbest"))
        batches = iter(lambda: list(islice(lines, _BATCH_LINES)), [])
        groups = read_groups(batches, "n-best list", _nbest_format(input_format))
        for batch in self.rerank_groups(groups, weight=weight, length_bonus=length_bonus, measure=measure):
            yield from batch

    def rerank_groups(
        self,
        batches: Iterable[Sequence[Group]],
        *,
        weight: float = 1.0,
        length_bonus: float = 0.0,
        measure: str = "logprob",
    ) -> Iterator[list[str]]:
        """Reranks batches of an n-best list that the caller has read. Otherwise it is like `rerank`.

        Args:
            batches: Batches of hypotheses, as `charlm.ranking.nbest.read_groups` yields them.
            weight: See `rerank`.
            length_bonus: See `rerank`.
            measure: `logprob`, `mean`, `penlp` or `slor`.

        Yields:
            The reranked lines of each batch.
        """
        for name, number in (("weight", weight), ("length bonus", length_bonus)):
            check_number(number, name)
            if not math.isfinite(number):
                raise InputError(f"{name} {number}: must be a finite number")
        for groups in batches:
            scored = score_groups(groups, self.score_stream, measure)
            lines: list[str] = []
            for group, hypotheses in zip(groups, scored, strict=True):
                lines += [*group.before, *reranked(hypotheses, weight, length_bonus), *group.after]
            yield lines

    def tune_reranking(
        self,
        nbest: Iterable[str],
        references: Sequence[Sequence[str]],
        *,
        metric: str = "chrf",
        measure: str = "logprob",
        source: str = "n-best list",
        input_format: str = "auto",
    ) -> Tuning:
        """Finds the best weight and length bonus for `rerank` on a development set, by a grid search.

        Args:
            nbest: The lines of the n-best list of the development set. Its ids are the line numbers of the
                references, counted from 0.
            references: One or more reference translations of the set, each as a list of lines.
            metric: The metric to maximise: `chrf`, `bleu`, or `bleu-zh`, which is BLEU with sacrebleu's tokenizer
                for Chinese.
            measure: `logprob`, `mean`, `penlp` or `slor`.
            source: The name of the list in error messages.
            input_format: See `rerank`.

        Raises:
            InputError: sacrebleu is not installed, or the list and the references do not match.
        """
        hypotheses = [line.rstrip("\r\n") for line in each_text(nbest, "nbest")]
        references = [list(each_text(lines, "references")) for lines in each_of(references, "references")]
        groups = read_groups([hypotheses] if hypotheses else [], source, _nbest_format(input_format))
        found = [group for some in groups for group in some if group]
        return tune(found, references, self.score_stream, measure=measure, metric=metric)

    def pairs(
        self,
        pairs: Iterable[tuple[str, str] | tuple[str, str, str | None]],
        *,
        measure: str = "logprob",
        against: LanguageModel | None = None,
    ) -> list[PairsResult]:
        """Counts how often the good sentence of a minimal pair scores higher than the bad one.

        Args:
            pairs: The pairs, each (good, bad) or (good, bad, group).
            measure: `logprob`, `mean`, `penlp` or `slor`.
            against: Another model that judges the same pairs.

        Returns:
            The result for all pairs, whose `group` is None, then the result of each group in the order in which the
            groups appear.

        Raises:
            InputError: There are no pairs.
        """
        if against is not None and not isinstance(against, LanguageModel):
            raise InputError("against must be a model that charlm.load or charlm.train returned")
        return judge(_checked_pairs(pairs), self.score_stream, measure, against.score_stream if against else None)

    def sample(
        self,
        count: int = 1,
        *,
        prompt: str = "",
        seed: int = 0,
        stop: str | None = None,
        only_new: bool = False,
        novel: bool = False,
        memory: bool = False,
        **settings: Any,
    ) -> Iterator[Sample]:
        """Writes texts, each of which begins with the prompt.

        Sample k depends only on the seed and on k. Each text is a string with three more attributes: `number`,
        which is k; `prompt`; and `ended`, the reason why the text ended, which is `length`, `stop` or `line`.

        Args:
            count: The number of texts.
            prompt: The text to continue.
            seed: The seed of the random numbers.
            stop: End a text as soon as it ends with this text.
            only_new: Whether to leave out the prompt and the stop text.
            novel: Whether to skip samples that occur in the corpus of the run: as a line in lines framing, and
                anywhere in stream framing. The other samples keep their numbers.
            memory: Whether each text remembers what it has said so far, including the prompt, so that names occur
                again. See `with_memory`.
            **settings: Settings of the `sampling` section of a configuration, which replace those of the run:
                `length` (the number of characters; in lines framing a text also ends with its line), `temperature`
                (the number that divides the logits; 0 always chooses the most probable character), `top_k`,
                `top_p` and `min_p`.

        Raises:
            InputError: The prompt or the stop text has characters that the model cannot write, or several lines
                where the model writes single lines, or a setting is out of range, or `memory` is given for a model
                that writes single lines.
            CorpusError: `novel` is given, and the corpus is missing or has changed.
            CharlmError: Almost no sample is novel.
        """
        check_integer(count, "count")
        _check_writing(prompt, seed, stop)
        rule = self._sampling(settings)
        if novel:
            return write_new_texts(
                self._writer(memory),
                self.vocabulary,
                count,
                rule,
                self._known_texts,
                prompt=prompt,
                seed=seed,
                stop=stop,
                only_new=only_new,
            )
        return write_texts(
            self._writer(memory),
            self.vocabulary,
            count,
            rule,
            prompt=prompt,
            seed=seed,
            stop=stop,
            only_new=only_new,
        )

    def stream(
        self,
        *,
        prompt: str = "",
        seed: int = 0,
        stop: str | None = None,
        only_new: bool = False,
        memory: bool = False,
        **settings: Any,
    ) -> Iterator[str]:
        """Writes one text piece by piece: first the prompt, then each character as it is drawn.

        Together the pieces are the first text that `sample` writes for the same arguments. With `only_new` and a
        stop text, the last characters are held back until it is clear that they do not begin the stop text.
        """
        _check_writing(prompt, seed, stop)
        rule = self._sampling(settings)
        steps = write(self._writer(memory), self.vocabulary, [0], rule, prompt=prompt, seed=seed, stop=stop)
        first = next(steps, [""])  # a bad prompt speaks up before anything is written
        pieces = chain(first, (piece for (piece,) in steps))
        if only_new:
            yield from without_stop(pieces, normalize_stop(self.vocabulary, stop))
        else:
            yield prompt + next(pieces)
            yield from pieces

    def with_memory(self) -> Mixture:
        """Returns the mixture with a memory of each text added to it; see `charlm.experts.memory`.

        The weights of the memory are found on the validation split at the end of training. If a run was stopped
        before, they are found now from its corpus, once for each time that the run is loaded.

        Raises:
            CorpusError: The corpus of the run is needed, but it is missing or has changed.
            InputError: The run has no validation split.
        """
        if self.mixture.memory_powers is None:
            self._fit_memory(self.corpus())
        if self.mixture.memory_powers is None:
            raise InputError(
                f"{self.folder}: this run was trained without a validation split, which is needed to find the "
                "weights of a memory; train with corpus.validation above 0 to use a memory"
            )
        return remember(self.mixture)

    def _fit_memory(self, corpus: Corpus) -> None:
        """Finds the powers of a memory on the validation split, if there is one and nobody has."""
        if self.mixture.memory_powers is None and corpus.validation.characters:
            fit_memory(self.mixture, self.vocabulary, corpus.validation)

    def _reader(self, conditions: Conditions) -> Mixture:
        """Returns what scores under these conditions: with memory only where there is a document to remember."""
        return self.with_memory() if conditions.document else self.mixture

    def _writer(self, memory: bool) -> Mixture:
        if memory and self.vocabulary.framing == "lines":
            raise InputError(
                "this model writes single lines (corpus.framing is lines), so a memory has nothing to remember; "
                "leave it out"
            )
        return self.with_memory() if memory else self.mixture

    def _sampling(self, settings: dict[str, Any]) -> SamplingConfig:
        """Returns the run's own way of sampling with other settings; None stands for what the run has."""
        plain = {name: v.item() if isinstance(v, np.generic) else v for name, v in settings.items()}
        given = {name: value for name, value in plain.items() if value is not None}
        length = given.pop("length", None)
        if length is not None:
            check_integer(length, "length")
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
        field: str | int | None = None,
        encoding: str = "utf-8",
        strict: bool = False,
        note: Callable[[str], None] = lambda text: None,
        ranks: Ranks = ALONE,
    ) -> Evaluation:
        """Measures how well the model predicts held-out text.

        Args:
            paths: Files, folders, globs, packed files or `-`, which are read with the framing and normalisation of
                the run. If it is None, the validation split of the run's corpus is used.
            dynamic: Whether to also measure a copy of the model that keeps learning from the text as it reads it:
                by a memory of the text, by gradient steps, and by both. See `charlm.experts.memory` and
                `charlm.scoring.dynamic`.
            learning_rate: The learning rate of the dynamic evaluation. If it is None, it is tuned on the beginning
                of the validation split; without such a split it is 0.0001, and the decay 0.003.
            decay: How fast the dynamic evaluation returns to the trained weights. If it is None, it is tuned too.
            baseline: Whether to also measure an n-gram model of the run's training split.
            field: The column to read from JSON lines, CSV, TSV or Kaldi text, by its name or its number from 1.
            encoding: The encoding of the files: a name that Python knows, or `auto`.
            strict: Whether files in folders and archives that are not text are refused instead of skipped.
            note: A function that is called with messages about skipped files and recognised encodings.
            ranks: The processes among which the text is divided. Rank 0 reads it.

        Raises:
            CorpusError: There is no text to read, or a file is not text, or the corpus of the run is needed, but it
                is missing or has changed.
            InputError: A rate is out of range, or it is given without `dynamic`, or a text that must be read in
                order is to be divided among several processes.
        """
        if not dynamic and (learning_rate, decay) != (None, None):
            raise InputError("a learning rate and a decay can only be used for dynamic evaluation; add --dynamic")
        for name, rate in (("learning rate", learning_rate), ("decay", decay)):
            if rate is not None:
                check_number(rate, name)
            if rate is not None and not 0 <= rate <= 1:
                raise InputError(f"{name} {rate:g}: must be from 0 to 1")
        self._check_reading(paths, field, encoding, strict)
        if ranks.size > 1 and (dynamic or baseline):
            raise InputError(
                "--dynamic and --baseline cannot be divided among several processes; run the command without "
                "torchrun"
            )
        needs_corpus = ranks.leads and (dynamic or baseline or paths is None)
        corpus = self.corpus() if needs_corpus else None
        split = _shared_split(lambda: self._split(paths, corpus, field, encoding, strict, note), ranks)
        result = evaluate(self.mixture, self.vocabulary, split, ranks)
        if corpus and dynamic:
            from charlm.scoring.dynamic import evaluate_dynamic  # gradients need torch, which takes seconds to load
            from charlm.training.step import make_batches

            self._fit_memory(corpus)
            remembering = None
            if self.mixture.memory_powers is None:
                note(
                    f"{self.folder}: this run was trained without a validation split, so the model with a memory "
                    "is not measured"
                    + ("" if None not in (learning_rate, decay) else ", and rates that are not given are not tuned")
                )
            else:
                remembering = evaluate_memory(self.mixture, self.vocabulary, split)
            found = evaluate_dynamic(
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
                memory_nats_per_character=remembering,
                dynamic_nats_per_character=found.nats,
                dynamic_memory_nats_per_character=found.memory_nats,
                dynamic_learning_rate=found.rates.learning_rate,
                dynamic_decay=found.rates.decay,
            )
        if corpus and baseline:
            nats = evaluate_baseline(self.vocabulary, corpus.train, split)
            result = replace(result, baseline_nats_per_character=nats)
        return result

    def evaluate_writing(
        self,
        count: int = 1000,
        paths: PathLike | Iterable[PathLike] | None = None,
        *,
        seed: int = 0,
        field: str | int | None = None,
        encoding: str = "utf-8",
        strict: bool = False,
        note: Callable[[str], None] = lambda message: None,
        **settings: Any,
    ) -> WritingEvaluation:
        """Writes samples and compares them with held-out text: their words, variety, repetitions and copies.

        Args:
            count: The number of samples.
            paths: The held-out text, as in `evaluate`. If it is None, the run's validation split is used.
            seed: The seed of the samples.
            field: See `evaluate`.
            encoding: See `evaluate`.
            strict: See `evaluate`.
            note: See `evaluate`.
            **settings: See `sample`.

        Raises:
            CorpusError: The corpus of the run, in which copies are searched, is missing or has changed, or there is
                no text to read, or a file is not text.
            InputError: A setting is out of range.
        """
        check_integer(count, "count")
        check_integer(seed, "seed")
        if count < 1:
            raise InputError(f"count {count}: must be at least 1")
        rule = self._sampling(settings)
        self._check_reading(paths, field, encoding, strict)
        corpus = self.corpus()
        split = self._split(paths, corpus, field, encoding, strict, note)
        lines = self.vocabulary.framing == "lines"
        training = read_parts(self.vocabulary, corpus.train, SEARCHED_CHARACTERS)
        held_out = read_parts(self.vocabulary, split, HELD_OUT_CHARACTERS)
        return measure_writing(
            write_at_once(self.mixture, self.vocabulary, count, rule, seed=seed),
            cut_stretches(held_out, rule.length, count, lines=lines),
            training,
            rule,
            lines=lines,
            seed=seed,
        )

    def _check_reading(self, paths: Any, field: str | int | None, encoding: str, strict: bool) -> None:
        """Checks how a held-out text is to be read; the run's own is read as in training."""
        if paths is None and (encoding, strict) != ("utf-8", False):
            raise InputError(
                "--encoding and --strict can only be used for a text that you name; the run's own text is read as "
                "in training"
            )
        try:
            check_encoding(encoding)
        except ValueError as error:
            raise InputError(str(error)) from None
        if paths is None and field is not None:
            raise InputError(
                "--field can only be used for a text that you name; the run's own text is read as in training"
            )

    def _split(
        self,
        paths: PathLike | Iterable[PathLike] | None,
        corpus: Corpus | None,
        field: str | int | None,
        encoding: str,
        strict: bool,
        note: Callable[[str], None],
    ) -> Split:
        """Reads the text to be measured; without paths it is the validation split of the corpus."""
        if paths is None and corpus is not None:
            if not corpus.validation.characters:
                raise InputError(
                    f"{self.folder}: this run was trained without a validation split; name a text to evaluate"
                )
            return corpus.validation
        names = [paths] if isinstance(paths, (str, os.PathLike)) else list(each_of(paths, "paths"))
        for name in names:
            check_path(name, "paths")
        files = [os.fspath(name) for name in names]
        return load_held_out(files, self.vocabulary, field=field, encoding=encoding, strict=strict, note=note)

    def _repr_html_(self) -> str:
        """What the model is, as a table, for notebooks."""
        from charlm.training.reports import load_metrics

        c = self.config.corpus
        rows = [
            ("network", describe_network(self)),
            ("weights", f"{self.mixture.parameters:,}"),
            ("mixed with", ", ".join(expert.name for expert in self.mixture.others)),
            ("corpus", c.path if isinstance(c.path, str) else ", ".join(c.path)),
            ("read as", f"{c.framing}, {c.level} level"),
        ]
        with suppress(RunError):  # a model without its curve is a model too
            metrics = load_metrics(self.folder)
            for name in ("validation", "train"):
                if losses := [row[f"{name}_loss"] for row in metrics if row[f"{name}_loss"] is not None]:
                    best = min(losses)
                    rows.append(
                        (f"best {name} loss", f"{best:.4f} nats ({best / math.log(2):.3f} bits) a character")
                    )
                    break
        rows.append(("folder", str(self.folder)))
        cells = [(name, "".join(map(html.visible, text))) for name, text in rows if text]
        return html.table(cells, what="properties")

    def corpus(self) -> Corpus:
        """Reads the corpus on which the model was trained again, from its files.

        Raises:
            CorpusError: The corpus is missing, or it has changed since the training.
        """
        return self.trained.read_corpus()

    @cached_property
    def _known_texts(self) -> KnownTexts:
        return KnownTexts.of(self.corpus())


def _shared_split(read: Callable[[], Split], ranks: Ranks) -> Split:
    """Lets rank 0 read a text, and returns it on every rank."""
    if ranks.size == 1:
        return read()
    made: list[Split] = []

    def describe() -> list[Any]:
        made.append(read())
        return made[0].describe()

    described = ranks.lead(describe)
    return share_split(ranks, described, made[0] if made else None)


def describe_network(lm: LanguageModel) -> str:
    """Returns the cell, the layers and their sizes in a line."""
    m, v = lm.config.model, len(lm.vocabulary)
    inputs = f"embedding of {m.embedding_size}" if m.embedding_size else f"one-hot input of {v}"
    rank = f" of rank {m.output_rank}" if m.output_rank else ""
    layers = count_of(m.num_layers, "layer")
    return f"{m.cell.upper()}, {layers}, hidden size {m.hidden_size}, {inputs}, softmax{rank} over {v}"


def _conditions(conditions: Conditions | None, settings: dict[str, Any]) -> Conditions:
    given = Conditions.given(conditions, settings)
    check_text(given.context, "context")
    check_text(given.document, "document")
    return given


def _space(name: Any) -> Space:
    if name not in list(Space):
        raise InputError(f"space {name!r}: must be one of {', '.join(Space)}")
    return Space(name)


def _check_writing(prompt: Any, seed: Any, stop: Any) -> None:
    check_text(prompt, "prompt")
    check_integer(seed, "seed")
    if stop is not None:
        check_text(stop, "stop")


def _checked_pairs(pairs: Any) -> Iterator[Any]:
    for number, pair in enumerate(each_of(pairs, "pairs"), 1):
        texts = tuple(each_of(pair, f"pairs: number {number}"))
        if len(texts) not in (2, 3):
            raise InputError(
                f"pairs: number {number} has {len(texts)} parts; a pair is (good, bad) or (good, bad, group)"
            )
        for text in texts[:2]:
            check_text(text, f"pairs: number {number}")
        yield texts


def _nbest_format(name: str) -> NbestFormat:
    if name not in set(NbestFormat):
        raise InputError(f"input format {name!r}: must be one of {', '.join(NbestFormat)}")
    return NbestFormat(name)


def load(run: PathLike, *, device: str = "auto", threads: int | None = None) -> LanguageModel:
    """Loads the best model of a run folder.

    Args:
        run: The run folder that training wrote.
        device: `auto`, `cpu`, `cuda` or `mps`.
        threads: The number of CPU threads. If it is None, the variable OMP_NUM_THREADS sets it, and without this
            variable all cores are used.

    Raises:
        RunError: The folder is missing, incomplete, damaged or of another format.
    """
    check_path(run, "run")
    check_text(device, "device")
    set_threads(threads)
    return LanguageModel(load_trained(RunFolder(Path(run)), find_device_name(device)))
