"""The public API of a trained model: load it, then score, sample and evaluate with it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
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
from charlm.text.corpus import Corpus, Split, load_held_out
from charlm.text.plain import read_parts
from charlm.writing.figures import HELD_OUT_CHARACTERS, WritingEvaluation, cut_stretches, measure_writing
from charlm.writing.known import KnownTexts, write_new_texts
from charlm.writing.runs import SEARCHED_CHARACTERS

PathLike = str | os.PathLike[str]
_BATCH_SENTENCES = 1024  # looked at together, sorted by length
_BATCH_LINES = 1024  # of an n-best list, read together


class LanguageModel(StatefulModel):
    """A trained character-level language model; `charlm.load` and `charlm.train` make them.

    What decoders use, states and what may come after them, is in `StatefulModel`.

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
        self._ranks = ALONE

    def score(self, sentences: Iterable[str], conditions: Conditions | None = None, **settings: Any) -> Scores:
        """Scores sentences; log-probabilities are in nats.

        A sentence's score does not depend on the others.

        Args:
            sentences: one string each.
            conditions: what stands before each sentence, what of it counts, what unknown characters count for.
            **settings: the attributes of `Conditions`, instead of or on top of these: `context`, `bos`, `eos`,
                `unknown`, `document`.

        Raises:
            InputError: a bad argument, or unknown characters where the conditions refuse them.
            CorpusError: a document is given, and the run has no powers for a memory yet, see `with_memory`.
        """
        return Scores(self.score_stream(sentences, conditions, **settings))

    def score_stream(
        self, sentences: Iterable[str], conditions: Conditions | None = None, **settings: Any
    ) -> Iterator[Score]:
        """Scores any number of sentences in bounded memory, in their order; arguments as in `score`."""
        if isinstance(sentences, str):
            raise InputError("score takes a list of sentences; put the one sentence into a list")
        remaining = each_text(sentences, "sentences")
        batches = iter(lambda: list(islice(remaining, _BATCH_SENTENCES)), [])
        return (score for scores in self.score_batches(batches, conditions, **settings) for score in scores)

    def score_batches(
        self, batches: Iterable[Sequence[str]], conditions: Conditions | None = None, **settings: Any
    ) -> Iterator[list[Score]]:
        """Scores batches of sentences as they come, for callers that batch by themselves; as in `score`."""
        texts = (list(each_text(batch, "sentences")) for batch in each_of(batches, "batches"))
        given = _conditions(conditions, settings)
        return score_batches(self._reader(given), self.vocabulary, texts, given, self._ranks)

    @contextmanager
    def sharing(self, ranks: Ranks, conditions: Conditions | None = None) -> Iterator[None]:
        """Divides the sentences that rank 0 scores among all ranks, until the end of the block.

        Only rank 0 goes through the block. The others compute their shares, and end with `SystemExit`.

        Args:
            ranks: the processes, each of which has loaded the same model.
            conditions: under which all sentences are scored.
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
    ) -> Alternatives:
        """Returns, for each of `Score.chars`, the k likeliest other characters there, likeliest first.

        Args:
            sentence: one string.
            k: how many.
            conditions: see `score`.
            **settings: see `score`.

        Raises:
            InputError: k is below 1.
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
        """Scores sentences word by word; the log-probabilities (nats) of the words add up to the sentence's.

        Args:
            sentences: one string each.
            space: which white space belongs to a word: `after` (the last word has the end of the sentence) or
                `before` (the end of the sentence comes last, by itself); see `charlm.scoring.words`.
            separator: what stands between words; it is taken out, and places are those in the rest. None: words are
                what stands between white space, which stays.
            conditions: see `score`.
            **settings: see `score`.

        Raises:
            InputError: a bad argument, or unknown characters where the conditions refuse them.
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
        """Ranks an n-best list anew, in bounded memory.

        Args:
            nbest: its lines, each id's together; an open file will do.
            weight: weight of the measure in the new total, `total + weight * measure + length_bonus * characters`.
            length_bonus: is added for each character of the hypothesis.
            measure: `logprob`, `mean`, `penlp` or `slor`.
            input_format: `moses`, `nematus`, `fairseq`, `kaldi`, or `auto` to find it out.

        Yields:
            The lines without their newlines, in the format in which they came, with the new total (Moses: and with
            a feature `charlm= measure`); each id's from the best down, ties in their order.

        Raises:
            InputError: a line is not one of an n-best list, or an id comes again after another.
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
        """As `rerank`, for callers that read the list by themselves: answers the ids of each batch.

        Args:
            batches: what `charlm.ranking.nbest.read_groups` yields.
            weight: see `rerank`.
            length_bonus: see `rerank`.
            measure: `logprob`, `mean`, `penlp` or `slor`.
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
        """Finds the weight and the length bonus of `rerank` on a development set, by a grid.

        Args:
            nbest: the lines of its n-best list; the ids number the references' lines from 0.
            references: one or more translations of the whole set, each as its lines.
            metric: `chrf`, `bleu` or `bleu-zh` (words or characters as sacrebleu splits them).
            measure: `logprob`, `mean`, `penlp` or `slor`.
            source: what messages call the list.
            input_format: see `rerank`.

        Raises:
            InputError: sacrebleu is not installed, or list and references do not fit together.
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
            pairs: (good, bad) or (good, bad, group), any number.
            measure: `logprob`, `mean`, `penlp` or `slor`.
            against: another model to judge the same pairs.

        Returns:
            All pairs first (their `group` is None), then each group in the order of appearance.

        Raises:
            InputError: there are no pairs.
        """
        if against is not None and not isinstance(against, LanguageModel):
            raise InputError("against must be a model, as charlm.load returns it")
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
        """Writes `count` texts, each beginning with the prompt.

        Sample k depends only on the seed and k. Each text is a string that also has the attributes `number`, which
        is k, `prompt`, and `ended`, which says why it ended: `length`, `stop` or `line`.

        Args:
            count: how many.
            prompt: text to go on from.
            seed: seed of the random numbers.
            stop: end a text as soon as it ends with this.
            only_new: leave the prompt and the stop text out of the texts.
            novel: pass over samples that the run's own corpus has: as a line in lines framing, else anywhere. The
                numbers of the others stay.
            memory: let each text remember what it has said, the prompt included, so that its names come again; see
                `with_memory`.
            **settings: values of the `sampling` section of a configuration, in place of the run's own: `length`
                (characters; in lines framing a text also ends with its line), `temperature` (divides the logits; 0
                takes the likeliest character always), `top_k`, `top_p`, `min_p`.

        Raises:
            InputError: the prompt or the stop text has characters that the model cannot write, or in lines framing
                several lines; or a setting is out of range; or memory is asked for in lines framing, where every
                text is one line.
            CorpusError: `novel` texts are wanted, and the corpus is gone or has changed.
            CharlmError: hardly any sample is novel.
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
        """Writes one text piece by piece: the prompt, then each character as it is drawn.

        Joined, it is the first text that `sample` gives for the same arguments. With `only_new` and a stop text, as
        many characters as the stop text has are held back until it is clear that they are not the stop text.
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
        """Returns the mixture with a memory of each text beside it; see `charlm.experts.memory`.

        How far memory is trusted was found at the end of the training, on the validation split. A run that was
        stopped before its end, or made by a charlm without memory, finds it now, from its own corpus, once for each
        time it is loaded.

        Raises:
            CorpusError: the run's own corpus is needed, and is gone or changed.
            InputError: the run has no validation split.
        """
        if self.mixture.memory_powers is None:
            self._fit_memory(self.corpus())
        if self.mixture.memory_powers is None:
            raise InputError(
                f"{self.folder}: trained without a validation split, on which it is found how far to trust a "
                "memory; train with corpus.validation above 0 to use one"
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
            raise InputError("this model writes single lines, and nothing is remembered from one to the next")
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
            paths: files, folders, globs, packed files or `-`, read with the run's own framing and normalisation;
                None: the validation split of the run's own corpus.
            dynamic: also measure a copy of the model that goes on learning from the text as it reads it, by a
                memory of the text, by gradient steps, and by both; see `charlm.experts.memory` and
                `charlm.scoring.dynamic`.
            learning_rate: learning rate of the dynamic evaluation; None: tuned on the beginning of the run's
                validation split.
            decay: decay of the dynamic evaluation back to the trained weights; None: tuned as well.
            baseline: also measure an n-gram model that learnt from the run's own training split.
            field: in JSON lines, CSV, TSV or Kaldi text, the column to read, by its name or its number from 1.
            encoding: encoding of these files: a name that Python knows, or `auto`.
            strict: whether what is not text in folders and archives is refused instead of skipped.
            note: is told what was skipped, and which encodings were found.
            ranks: divide the text among them; rank 0 reads it.

        Raises:
            CorpusError: nothing to read, or not text; or the run's own corpus is needed, and is gone or changed.
            InputError: a rate is out of range, or given though `dynamic` is not; or several ranks are to divide
                what is read in order.
        """
        if not dynamic and (learning_rate, decay) != (None, None):
            raise InputError("a learning rate and a decay belong to dynamic evaluation; ask for it (--dynamic)")
        for name, rate in (("learning rate", learning_rate), ("decay", decay)):
            if rate is not None:
                check_number(rate, name)
            if rate is not None and not 0 <= rate <= 1:
                raise InputError(f"{name} {rate:g}: must be from 0 to 1")
        self._check_reading(paths, field, encoding, strict)
        if ranks.size > 1 and (dynamic or baseline):
            raise InputError("several processes do not divide --dynamic and --baseline; leave out torchrun")
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
                note(f"{self.folder}: trained without a validation split, so memory has no figures")
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
        """Writes samples, and measures them beside held-out text: words, variety, repetition, copies.

        Args:
            count: how many samples.
            paths: the held-out text, as in `evaluate`; None: the run's own validation split.
            seed: seed of the samples.
            field: see `evaluate`.
            encoding: see `evaluate`.
            strict: see `evaluate`.
            note: see `evaluate`.
            **settings: see `sample`.

        Raises:
            CorpusError: the run's own corpus, which copies are searched in, is gone or has changed; or nothing to
                read, or not text.
            InputError: a setting is out of range.
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
            raise InputError("an encoding and --strict belong to texts that are named; the run knows its own")
        try:
            check_encoding(encoding)
        except ValueError as error:
            raise InputError(str(error)) from None
        if paths is None and field is not None:
            raise InputError("a field belongs to a text; the run's own validation split is read as in training")

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
                raise InputError(f"{self.folder}: trained without a validation split; name a text to evaluate")
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
        weights = sum(value.size for value in self.mixture.network.arrays().values())
        rows = [
            ("network", describe_network(self)),
            ("weights", f"{weights:,}"),
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
        """Reads the corpus that the model was trained on again; see `TrainedModel.read_corpus`."""
        return self.trained.read_corpus()

    @cached_property
    def _known_texts(self) -> KnownTexts:
        return KnownTexts.of(self.corpus())


def _shared_split(read: Callable[[], Split], ranks: Ranks) -> Split:
    """Lets rank 0 read a text, and returns it on every rank."""
    if ranks.size == 1:
        return read()
    made: list[Split] = []

    def describe() -> dict[str, Any]:
        made.append(read())
        ids = made[0].ids
        return {**asdict(replace(made[0], ids=ids[:0])), "ids": [ids.dtype.str, len(ids)]}

    described = ranks.lead(describe)
    ids = ranks.share(made[0].ids if made else None, *described.pop("ids"))
    return Split(ids, **{**described, "parts": tuple(described["parts"])})


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
            raise InputError(f"pairs: number {number} has {len(texts)} parts, not good, bad and perhaps a group")
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
        run: the folder that training wrote.
        device: `auto`, `cpu`, `cuda` or `mps`.
        threads: CPU threads; None: as OMP_NUM_THREADS says, else all cores.

    Raises:
        RunError: the folder is missing, incomplete, damaged or of another format.
    """
    check_path(run, "run")
    check_text(device, "device")
    set_threads(threads)
    return LanguageModel(load_trained(RunFolder(Path(run)), find_device_name(device)))
