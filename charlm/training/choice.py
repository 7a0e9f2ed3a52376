"""What the text, the budget and the speed of this machine decide: what nobody has set, and how much is counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from charlm.config import Config, flatten, load_config, parse_amount
from charlm.config.recipe import LONGEST_NGRAM_ORDER, Recipe, TextProperties, choose, validation_share
from charlm.errors import ConfigError
from charlm.experts import EXPERTS
from charlm.experts.expert import CountedExpert
from charlm.experts.ngram_tables import estimate_distinct
from charlm.model.network import CharacterModel, plan_layers
from charlm.scoring.log_probs import cut_sequences
from charlm.system.counts import count_of
from charlm.system.distributed import Ranks
from charlm.text.corpus import Corpus, Split, load_corpus
from charlm.training.agreement import settle_framing
from charlm.training.lanes import Lanes, group_count
from charlm.training.remarks import remarks
from charlm.training.step import TrainingStep, make_batches, measure_speed

MOST_COUNTED_SYMBOLS = 40_000_000  # of a text, its end, by experts; counting n-grams takes 25 bytes each
COUNTED_SYMBOLS_PER_SECOND = 150_000  # of the budget: counting n-grams takes about a tenth of it
MEASURE_SECONDS = 0.7  # for each size that the recipe looks at

Note = Callable[[str], None]
Measure = Callable[[Config, Corpus, torch.device, float], float]


def choose_rest(
    config: Config,
    chosen: set[str],
    device: torch.device,
    note: Note,
    *,
    measure: Measure | None = None,
    processes: int = 1,
) -> tuple[Config, Corpus]:
    """Reads the corpus, chooses what nobody has set, and says what and why.

    Args:
        config: what is set.
        chosen: its keys.
        device: where to train.
        note: is told the reasons.
        measure: how fast training is; None: as `measure_training` finds it.
        processes: that share each batch.
    """
    unit, amount = parse_amount(config.training.budget)
    held_out = config.corpus.validation
    share = 0.0 if isinstance(held_out, str) else held_out
    test = 0.0 if isinstance(config.corpus.test, str) else config.corpus.test

    def choose_validation(characters: int) -> float:
        nonlocal share
        share = min(share, validation_share(share, int(characters * (1 - share - test)), amount))
        return share

    is_open = unit == "seconds" and "corpus.validation" not in chosen and not isinstance(held_out, str)
    corpus = load_corpus(config.corpus, choose_validation=choose_validation if is_open else None, note=note)
    if is_open:
        config = load_config(config.model_dump(), {"corpus.validation": share})
    config = settle_framing(config, corpus.vocabulary.framing)
    for remark in remarks(corpus):
        note(remark)
    given = {key: value for key, value in flatten(config).items() if {key, key.partition(".")[0]} & chosen}
    recipe = _recipe(config, given, corpus, device, measure, processes)
    for reason in recipe.reasons:
        note(reason)
    return load_config(config.model_dump(), recipe.settings), corpus


def _recipe(
    config: Config,
    given: Mapping[str, Any],
    corpus: Corpus,
    device: torch.device,
    measure: Measure | None,
    processes: int,
) -> Recipe:
    """Chooses what is not `given`, by the text, the budget and the speed of this machine."""
    vocabulary, ids = corpus.vocabulary, corpus.train.ids
    counted = counted_part(config, corpus).ids
    lines = vocabulary.framing == "lines"
    blanks = (
        n for c, n in zip(vocabulary.symbols, vocabulary.counts, strict=True) if c.isspace() and c not in "\r\n"
    )
    text = TextProperties(
        characters=len(ids),
        held_out=len(corpus.validation.ids),
        symbols=len(vocabulary),
        line_length=len(ids) / max(1, corpus.train.count(vocabulary.boundary_id)) if lines else None,
        blanks=sum(blanks) / max(1, sum(vocabulary.counts)),
        ngrams_per_character=[n / max(1, len(counted)) for n in estimate_distinct(counted, LONGEST_NGRAM_ORDER)],
    )

    def speed(settings: Mapping[str, Any]) -> float:
        with_settings = load_config(config.model_dump(), settings)
        return (measure or measure_training)(with_settings, corpus, device, MEASURE_SECONDS)

    return choose(text, given, parse_amount(config.training.budget), speed, processes=processes)


def measure_training(config: Config, corpus: Corpus, device: torch.device, seconds: float) -> float:
    """Trains a network made for it for so many seconds; returns characters per second."""
    with torch.random.fork_rng(devices=[]):
        network = make_network(config, len(corpus.vocabulary), device).to(device)
        step, batches = TrainingStep(network, config.training), make_batches(corpus, config.training)
        symbols = measure_speed(step, batches, seconds)
    return symbols * corpus.train.characters / len(corpus.train.ids)


def make_network(config: Config, vocabulary_size: int, device: torch.device) -> CharacterModel:
    """Makes a fresh network on the CPU, which computes as training on a device asks for."""
    t = config.training
    plan = plan_layers(
        vocabulary_size, config.model, device, kernel=t.kernel, precision=t.precision, batch_size=t.batch_size
    )
    return CharacterModel(vocabulary_size, config.model, plan)


def divide(config: Config, device: torch.device, ranks: Ranks, groups: int | None = None) -> Lanes | None:
    """Returns how the lanes are divided; None: one process computes a batch as it likes.

    Raises:
        ConfigError: the ranks cannot share a batch evenly, or are to train several networks.
    """
    if ranks.size > 1 and config.model.networks > 1:
        raise ConfigError(
            f"model.networks is {config.model.networks}, but several processes train only one network; set "
            "model.networks to 1, or train without torchrun"
        )
    if groups is None:
        if not ranks.are_together:
            return None
        groups = group_count(config.training.batch_size) if device.type == "cpu" else 1
    lanes = Lanes(ranks, groups)
    lanes.check(config.training.batch_size)
    return lanes


def counted_part(
    config: Config,
    corpus: Corpus,
    *,
    most: int = MOST_COUNTED_SYMBOLS,
    symbols_per_second: int = COUNTED_SYMBOLS_PER_SECOND,
) -> Split:
    """Returns as much of the end of the training text as the budget allows to count.

    Args:
        config: the configuration.
        corpus: its text.
        most: how many symbols, at most.
        symbols_per_second: how many, at most, for each second of a budget that is a time.
    """
    unit, amount = parse_amount(config.training.budget)
    if unit == "seconds":
        most = min(most, max(1, int(symbols_per_second * amount)))
    return corpus.train.last(most)


def count_experts(
    config: Config,
    corpus: Corpus,
    note: Note,
    *,
    most: int = MOST_COUNTED_SYMBOLS,
    symbols_per_second: int = COUNTED_SYMBOLS_PER_SECOND,
) -> list[CountedExpert]:
    """Counts the experts that the configuration asks for, on as much of the training text as the budget allows.

    Args:
        config: the configuration.
        corpus: its text.
        note: is told where not all of the training part is counted.
        most: see `counted_part`.
        symbols_per_second: see `counted_part`.
    """
    vocabulary = corpus.vocabulary
    wanted = [kind for kind in EXPERTS if kind.is_wanted(config.model)]
    counted = counted_part(config, corpus, most=most, symbols_per_second=symbols_per_second)
    if wanted and len(counted.ids) < len(corpus.train.ids):
        note(
            f"mixture: the n-grams and words are counted on the last {count_of(len(counted.ids), 'symbol')} of the "
            "training text only"
        )
    sequences = cut_sequences(vocabulary, counted.ids, counted.parts) if wanted else []
    return [kind.count(config.model, sequences, vocabulary) for kind in wanted]
