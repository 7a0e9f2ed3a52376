"""What the page shows of a run, gathered: facts, measurements, the network; and what is left out of it, and why.

With `redact` nothing is gathered that would tell what the training text or the held-out text says: no text of
either, nothing that the model wrote which stands in one of them for a long run, no filter of the training text, and
no paths or names of files. What a measurement says in numbers stays.
"""

from __future__ import annotations

import os
import platform
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from charlm import __version__
from charlm.analysis.gradients import (
    ConnectedPlace,
    GradientReport,
    compare_with_untrained,
    connectivity_at,
)
from charlm.analysis.held_out import HeldOut, bounded, read_held_out
from charlm.analysis.learning import Learning, read_learning
from charlm.analysis.overlap import OverlapReport, find_longest_runs, measure_overlap, read_parts
from charlm.analysis.units import Units, find_units
from charlm.config import Config
from charlm.config.writing import LEFT_OUT, to_yaml, without_paths
from charlm.errors import CorpusError, InputError
from charlm.language_model import LanguageModel
from charlm.report.network_data import NetworkData, pack_network, with_dequantized_weights
from charlm.scoring.evaluation import evaluate
from charlm.text.corpus import Corpus, Split, describe_held_out

QUOTED_CHARACTERS = 20  # in a row that also stand in the corpus: what has them is not shown in a redacted page
_CHECKED_CHARACTERS = 1 << 26  # of the corpus, searched for what samples quote; a longer one shows no samples
_LISTED_SYMBOLS = 400  # of the vocabulary
_BEGINNING_CHARACTERS = (24, 90)  # of the sentence that the page opens with, at least and at most
_HAN, _KANA, _HANGUL = (0x4E00, 0x9FFF), (0x3040, 0x30FF), (0xAC00, 0xD7A3)
_MUCH = 0.2  # of a text, by which its script is known

Progress = Callable[[str, float], None]
T = TypeVar("T")

# What is done one after another, and the share of the time that each takes of a run of middle size, roughly.
_STEPS = {
    "reading the corpus": 0.04,
    "packing the network": 0.06,
    "reading held-out text": 0.2,
    "learning curves": 0.02,
    "loss with rounded weights": 0.08,
    "gradients": 0.2,
    "connectivity": 0.08,
    "units": 0.16,
    "overlap with the training text": 0.16,
}


@dataclass(frozen=True)
class Contents:
    """What the page shows of one run.

    A part that is None, or empty, was left out; `missing` says why.

    Attributes:
        name: what the page calls the run.
        corpus: what it calls the text.
        language: of the text as HTML has it: `zh`, `ja`, `ko`; empty where the script does not tell.
        model: what the model is, in few words.
        config: of the run; redacted where the page is.
        parameters: weights of the network.
        symbols: of the vocabulary with their counts, the most frequent first.
        vocabulary_size: how many there are.
        unigram_nats: entropy of the characters by their frequency.
        held_out_name: what the held-out text is.
        network: for the page.
        quantizing_nats: what fewer bits of the weights cost the network alone, on held-out text; None without.
        learning: part 2.
        held_out: parts 3 and 4.
        gradients: part 5.
        connected: part 5.
        units: part 6.
        overlap: part 7.
        facts: part 8, names and values.
        beginning: the text that *Try it* opens with.
        missing: part or piece of a part → why it is not there.
        notes: what stands for the whole page, such as that it is redacted.
    """

    name: str
    corpus: str
    language: str
    model: str
    config: Config
    parameters: int
    symbols: list[tuple[str, int]]
    vocabulary_size: int
    unigram_nats: float
    held_out_name: str
    network: NetworkData
    quantizing_nats: float | None = None
    learning: Learning | None = None
    held_out: HeldOut | None = None
    gradients: GradientReport | None = None
    connected: list[ConnectedPlace] = field(default_factory=list)
    units: Units | None = None
    overlap: OverlapReport | None = None
    facts: list[tuple[str, str]] = field(default_factory=list)
    beginning: str = ""
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def gather(
    lm: LanguageModel,
    *,
    redact: bool = False,
    progress: Progress = lambda what, share: None,
    name: str | None = None,
) -> Contents:
    """Measures a run for the page; minutes for a large one.

    Args:
        lm: its model.
        redact: see the module.
        progress: is told what comes next, and which share of the time is over.
        name: what the page calls the run; None: what `name_runs` says.

    Raises:
        InputError: the page cannot have this network.
        RunError: metrics.jsonl or samples.txt is damaged.
    """
    own = name_runs([lm], redact=redact)[0]
    return _Gathering(lm, redact, progress).gather(own if name is None else name)


def name_runs(models: Sequence[LanguageModel], *, redact: bool) -> list[str]:
    """Returns what a page calls its runs: their folders, or where that is left out what they are; all different."""
    names = [_describe_cell(lm) if redact else lm.folder.resolve().name for lm in models]
    if len(set(names)) == len(names):
        return names
    if not redact:
        names = ["/".join(lm.folder.resolve().parts[-2:]) for lm in models]
    counts = Counter(names)
    numbers: Counter[str] = Counter()
    for place, name in enumerate(names):
        numbers[name] += 1
        if counts[name] > 1:
            names[place] = f"{name} ({numbers[name]})"
    return names


class _Gathering:
    """Gathers the parts one after another, and notes those that cannot be had."""

    def __init__(self, lm: LanguageModel, redact: bool, progress: Progress) -> None:
        self.lm, self.redact, self.progress = lm, redact, progress
        self.missing: dict[str, str] = {}
        self._begun: list[str] = []

    def step(self, what: str) -> None:
        self.progress(what, sum(_STEPS[name] for name in self._begun))
        self._begun.append(what)

    def gather(self, name: str) -> Contents:
        lm, redact = self.lm, self.redact
        self.step("reading the corpus")
        corpus = self._read_corpus()
        training = corpus.train if corpus else None
        held_out = corpus.validation if corpus and corpus.validation.characters else None
        if corpus and held_out is None:
            self._all_missing("The run was trained without a validation split, so there is no held-out text.")
        text = LEFT_OUT if redact else describe_held_out(lm.config.corpus, lm.vocabulary.framing)
        self.step("packing the network")
        network = pack_network(lm, None if redact else training)
        contents = Contents(
            name=name,
            corpus=_name_corpus(lm, redact),
            language=_find_language(lm),
            model=_describe_model(lm),
            config=without_paths(lm.config) if redact else lm.config,
            parameters=lm.mixture.parameters,
            symbols=_list_symbols(lm),
            vocabulary_size=len(lm.vocabulary),
            unigram_nats=lm.vocabulary.unigram_entropy,
            held_out_name=text,
            network=network,
        )
        measured = None
        if held_out is not None:
            self.step("reading held-out text")
            measured = read_held_out(lm, held_out, training, text)
        self.step("learning curves")
        contents = replace(contents, learning=read_learning(lm, held_out, training, measured), held_out=measured)
        if held_out is not None and measured is not None:
            contents = self._measure(contents, held_out, training, measured)
        if redact:
            contents = self._without_text(contents, corpus)
        self.progress("writing the page", 1.0)
        return replace(
            contents,
            beginning=_choose_beginning(contents, redact),
            facts=_list_facts(lm, contents),
            missing=self.missing,
        )

    def _read_corpus(self) -> Corpus | None:
        try:
            return self.lm.corpus()
        except CorpusError as error:
            reason = (
                "The corpus of the run is missing or has changed since the training."
                if self.redact
                else f"{str(error).removeprefix(f'{self.lm.folder}: ')}."
            )
            self._all_missing(reason[:1].upper() + reason[1:])
            return None

    def _all_missing(self, reason: str) -> None:
        for part in ("references", "held_out", "experts", "gradients", "units", "overlap"):
            self.missing[part] = reason

    def _measure(self, contents: Contents, held_out: Split, training: Split | None, measured: HeldOut) -> Contents:
        """Measures what else needs held-out text."""
        lm = self.lm
        self.step("loss with rounded weights")
        quantized = evaluate(with_dequantized_weights(lm).mixture, lm.vocabulary, bounded(lm.vocabulary, held_out))
        contents = replace(contents, quantizing_nats=quantized.nats_per_character - measured.expert_nats[0])
        self.step("gradients")
        gradients = self._attempt("gradients", lambda: compare_with_untrained(lm, held_out, "the held-out text"))
        self.step("connectivity")
        connected = self._attempt("connectivity", lambda: connectivity_at(lm, held_out, "the held-out text"))
        self.step("units")
        units = self._attempt("units", lambda: find_units(lm, held_out, training))
        if units is not None and not units.findings:
            self.missing["units"] = "The held-out text has too few places with any of the properties."
        self.step("overlap with the training text")
        overlap = None
        if training is not None:
            overlap = self._attempt("overlap", lambda: measure_overlap(lm, training, held_out))
        return replace(contents, gradients=gradients, connected=connected or [], units=units, overlap=overlap)

    def _attempt(self, part: str, measure: Callable[[], T]) -> T | None:
        """Measures, unless the text is too short for it."""
        try:
            return measure()
        except InputError as error:
            message = re.sub(r"; name another text.*|; name a longer text.*", "", str(error))
            self.missing[part] = f"{message[:1].upper()}{message[1:]}."
            return None

    def _without_text(self, contents: Contents, corpus: Corpus | None) -> Contents:
        """Takes out what tells what the corpus says."""
        held_out, units, overlap, learning = (
            contents.held_out,
            contents.units,
            contents.overlap,
            contents.learning,
        )
        if held_out is not None:
            held_out = replace(held_out, name=LEFT_OUT, excerpt=[], dearest=[])
            self.missing["held_out"] = (
                "The held-out text and its most surprising places are left out; the numbers are kept."
            )
            self.missing["experts"] = "This part would show held-out text and training text, which are left out."
            self.missing["connectivity"] = "Single places of held-out text are left out."
        if units is not None and "units" not in self.missing:
            units = replace(units, findings=[replace(one, excerpt=("", ())) for one in units.findings])
            self.missing["units"] = "The text that is shaded by the units is left out; the numbers are kept."
        if overlap is not None:
            overlap = replace(overlap, longest=[])
            self.missing["overlap"] = "The quotations themselves are left out; the numbers are kept."
        if learning is not None:
            kept = self._unquoting(learning.samples, corpus)
            dropped = len(learning.samples) - len(kept)
            learning = replace(learning, samples=kept)
            if dropped:
                self.missing["samples"] = (
                    f"{dropped} of {dropped + len(kept)} samples are left out, because they contain "
                    f"{QUOTED_CHARACTERS} or more consecutive characters of the corpus."
                    if corpus
                    else "The samples are left out: they cannot be checked for quotations without the corpus."
                )
        notes = [
            "This page is redacted: it contains no text of the corpus, no quotations from it, no filter to find "
            "them, and no file paths. It contains the whole network, and a network can write text that it has "
            "memorised."
        ]
        return replace(
            contents,
            held_out=held_out,
            connected=[],
            units=units,
            overlap=overlap,
            learning=learning,
            notes=notes,
        )

    def _unquoting(self, samples: Sequence[tuple[int, str]], corpus: Corpus | None) -> list[tuple[int, str]]:
        """Returns the samples without a long run that stands in the training or the held-out text."""
        if corpus is None or sum(split.characters for split in _splits(corpus)) > _CHECKED_CHARACTERS:
            return []
        quoted = [False] * len(samples)
        for split in _splits(corpus):
            if split.characters and samples:
                text = read_parts(self.lm.vocabulary, split, _CHECKED_CHARACTERS)
                runs = find_longest_runs([sample for _, sample in samples], text)
                quoted = [was or run.length >= QUOTED_CHARACTERS for was, run in zip(quoted, runs, strict=True)]
        return [sample for sample, is_quoted in zip(samples, quoted, strict=True) if not is_quoted]


def _splits(corpus: Corpus) -> list[Split]:
    return [corpus.train, corpus.validation, corpus.test]


# ------------------------------------------------------------------------------------------------- in few words


def _describe_cell(lm: LanguageModel) -> str:
    model = lm.config.model
    layers = f", {model.num_layers} layers" if model.num_layers > 1 else ""
    return f"{model.cell.upper()} {model.hidden_size}{layers}"


def _describe_model(lm: LanguageModel) -> str:
    model = lm.config.model
    beside = model.mixed_in.replace("-", "\N{NON-BREAKING HYPHEN}")
    beside = f", mixed with {beside}" if beside else ""
    return f"{model.layers}{beside}"


def _name_corpus(lm: LanguageModel, redact: bool) -> str:
    path = lm.config.corpus.path
    paths = [path] if isinstance(path, str) else list(path)
    shipped = all(name.startswith("corpus:") for name in paths)
    if redact and not shipped:
        return "A character-level language model"
    names = [name.removeprefix("corpus:") if shipped else Path(name).name or name for name in paths]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _find_language(lm: LanguageModel) -> str:
    """Tells Chinese, Japanese and Korean by their scripts: the same characters have other shapes in each."""
    counts = dict.fromkeys(("all", "han", "kana", "hangul"), 0)
    if lm.vocabulary.level == "byte":
        return ""
    for symbol, count in zip(lm.vocabulary.symbols, lm.vocabulary.counts, strict=True):
        if len(symbol) == 1:
            counts["all"] += count
            for script, (low, high) in (("han", _HAN), ("kana", _KANA), ("hangul", _HANGUL)):
                counts[script] += count * (low <= ord(symbol) <= high)
    much = _MUCH * max(1, counts["all"])
    if counts["hangul"] > much:
        return "ko"
    if counts["kana"] > much:
        return "ja"
    return "zh" if counts["han"] > much else ""


def _list_symbols(lm: LanguageModel) -> list[tuple[str, int]]:
    vocabulary = lm.vocabulary
    pairs = [(vocabulary.symbols[i], vocabulary.counts[i]) for i in range(len(vocabulary))]
    return sorted(pairs, key=lambda pair: -pair[1])[:_LISTED_SYMBOLS]


def _choose_beginning(contents: Contents, redact: bool) -> str:
    """Returns a sentence to open with: held-out text, or where there may be none, what the model wrote."""
    least, most = _BEGINNING_CHARACTERS
    texts = [] if contents.held_out is None else ["".join(place.text for place in contents.held_out.excerpt)]
    if contents.learning is not None:
        texts += [sample for _, sample in reversed(contents.learning.samples)]
    lines = [line.strip() for text in texts for line in text.split("\n")]
    if contents.language in ("zh", "ja"):
        least //= 3
    fitting = [line for line in lines if least <= len(line) <= most and line.isprintable()]
    return next(iter(fitting or [line[:most] for line in lines if line]), "")


def _list_facts(lm: LanguageModel, contents: Contents) -> list[tuple[str, str]]:
    rows = contents.learning.evaluations if contents.learning else []
    last = rows[-1] if rows else None
    config = contents.config
    facts = [
        ("Model", contents.model),
        ("Weights of the network", f"{contents.parameters:,}"),
        ("Vocabulary", f"{contents.vocabulary_size:,} symbols, {lm.vocabulary.level} level"),
        ("Framing", lm.vocabulary.framing),
        ("Held out", contents.held_out_name),
        ("Budget", str(config.training.budget)),
        ("Seed", str(config.training.seed)),
    ]
    if last:
        facts += [
            ("Learnt from", f"{last['characters']:,} characters, {last['epoch']:.1f} epochs"),
            ("Time of training", f"{last['seconds']:,.0f} s, {last['characters_per_second']:,.0f} characters/s"),
        ]
    return [
        *facts,
        ("Format of the weights here", f"{contents.network.format}, {contents.network.bytes:,} bytes"),
        ("This page was made by", f"charlm {__version__}, {time.strftime('%Y-%m-%d')}"),
        ("On", f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors"),
        ("With", _versions()),
    ]


def _versions() -> str:
    return f"Python {platform.python_version()}, torch {version('torch')}, NumPy {version('numpy')}"


def configuration_text(contents: Contents) -> str:
    """Returns the configuration as YAML."""
    return to_yaml(contents.config)
