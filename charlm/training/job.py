"""A training job: everything that a training needs, put together in one of three ways.

- `begin`: a fresh network, its configuration completed by the recipe where nobody has written one;
- `begin_with`: a network that has the weights of a trained one, on another text;
- `resume`: a training that goes on where its checkpoint stands.

Where several processes train together, rank 0 prepares the job in one of these ways and describes it to the others,
which `follow`.

The configuration is read here, and handed on in sections.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from charlm.config import Config, load_config
from charlm.experts.expert import CountedExpert
from charlm.experts.mixture import Mixture
from charlm.experts.torch_network import network_expert
from charlm.model.network import CharacterModel
from charlm.model.transfer import initialize_output_bias, transfer_weights
from charlm.store.run_folder import RunFolder
from charlm.store.trained import TrainedModel
from charlm.system.devices import find_device
from charlm.system.distributed import ALONE, Ranks
from charlm.system.threads import thread_count, with_one_thread
from charlm.text.corpus import Corpus, Split, load_corpus, share_split
from charlm.text.vocabulary import Vocabulary
from charlm.training.agreement import (
    Checkpoint,
    check_corpus,
    check_network,
    check_settings,
    check_transfer,
    compare_vocabularies,
    settle_framing,
)
from charlm.training.choice import Note, choose_rest, count_experts, divide, make_network
from charlm.training.evaluator import Evaluator
from charlm.training.lanes import Lanes
from charlm.training.remarks import remarks
from charlm.training.step import TrainingStep, make_batches
from charlm.training.together import measure_sharing
from charlm.training.trainer import Trainer


@dataclass(frozen=True)
class TrainingJob:
    """A training that is ready to run; nothing is written yet.

    Attributes:
        config: the resolved configuration.
        corpus: the text, encoded and split.
        mixture: the network to be trained, and the experts beside it.
        trainer: trains it.
        folder: where it is saved.
        step: makes the steps.
    """

    config: Config
    corpus: Corpus
    mixture: Mixture
    trainer: Trainer
    folder: RunFolder
    step: TrainingStep

    def share(self, ranks: Ranks) -> None:
        """Gives the other ranks, which `follow`, what they need to train with this one; see `describe`."""
        train = self.corpus.train
        share_split(ranks, train.describe(), train)
        self.trainer.share()

    def describe(self) -> dict[str, Any]:
        """Returns what the other ranks have to know of the job, as JSON takes it."""
        lanes = self.step.lanes
        return {
            "config": self.config.model_dump(),
            "vocabulary": self.corpus.vocabulary.to_json(),
            "train": self.corpus.train.describe(),
            "lane_groups": lanes.groups if lanes else None,
            "folder": str(self.folder.path),
        }


def begin(
    config: Config,
    folder: RunFolder,
    *,
    chosen: Iterable[str] | None = None,
    corpus: Corpus | None = None,
    note: Note,
    ranks: Ranks = ALONE,
) -> TrainingJob:
    """Prepares the training of a fresh network.

    Args:
        config: the configuration.
        folder: where to save.
        chosen: the keys that somebody has set, if the recipe is to choose all others; None: it chooses nothing.
        corpus: the text, if it was read already; the configuration then says its framing.
        note: is told what a person should know.
        ranks: the processes that train together.

    Raises:
        ConfigError: they cannot share a batch evenly.
    """
    device = find_device(config.training.device)
    if chosen is not None:
        measure = partial(measure_sharing, ranks) if ranks.are_together else None
        config, corpus = choose_rest(config, set(chosen), device, note, measure=measure, processes=ranks.size)
    elif corpus is None:
        corpus = load_corpus(config.corpus, note=note)
        config = settle_framing(config, corpus.vocabulary.framing)
        for remark in remarks(corpus):
            note(remark)
    lanes = divide(config, device, ranks)
    network = _fresh_network(config, corpus, device, lanes)
    initialize_output_bias(network, corpus.vocabulary.unigram_log_probs)
    return _assemble(config, corpus, network.to(device), folder, lanes, count_experts(config, corpus, note))


def begin_with(
    trained: TrainedModel, config: Config, folder: RunFolder, *, note: Note, ranks: Ranks = ALONE
) -> TrainingJob:
    """Prepares the training of a network that has the weights of a trained one, matched character by character.

    Raises:
        ConfigError: the ranks cannot share a batch evenly.
        RunError: the weights do not fit the configuration.
    """
    if config.corpus.framing == "auto":
        config = settle_framing(config, trained.vocabulary.framing)
        note(f"framing: {config.corpus.framing}, as in {trained.folder}; --set corpus.framing changes this")
    check_transfer(trained, config)
    device = find_device(config.training.device)
    lanes = divide(config, device, ranks)
    corpus = load_corpus(config.corpus, known=trained.vocabulary.characters, note=note)
    for remark in remarks(corpus):
        note(remark)
    network = _fresh_network(config, corpus, device, lanes)
    ids = {symbol: i for i, symbol in enumerate(trained.vocabulary.symbols)}
    transfer_weights(
        network, trained.mixture.network.arrays(), [ids.get(symbol) for symbol in corpus.vocabulary.symbols]
    )
    note(compare_vocabularies(trained, corpus.vocabulary))
    others = count_experts(config, corpus, note)
    return _assemble(config, corpus, network.to(device), folder, lanes, others, known=trained.vocabulary.characters)


def resume(
    checkpoint: Checkpoint,
    config: Config,
    folder: RunFolder,
    *,
    corpus: Corpus | None = None,
    note: Note,
    ranks: Ranks = ALONE,
) -> TrainingJob:
    """Prepares a training that goes on where it stopped, on as many ranks as there are now.

    Args:
        checkpoint: where it stopped.
        config: the configuration.
        folder: where it was saved.
        corpus: the text, if it was read already.
        note: is told what a person should know.
        ranks: the processes that train together.

    Raises:
        ConfigError: the ranks cannot share a batch evenly.
        RunError: the configuration or the text is not what the run began with, or the checkpoint does not fit.
    """
    config = settle_framing(config, checkpoint.config.corpus.framing)
    check_settings(folder, checkpoint.config, config)
    device = find_device(config.training.device)
    lanes = divide(config, device, ranks, checkpoint.lane_groups)
    if corpus is None:
        corpus = load_corpus(config.corpus, known=checkpoint.known, note=note)
    check_corpus(folder, checkpoint.corpus_key, corpus)
    for remark in remarks(corpus):
        note(remark)
    check_network(folder, checkpoint, config, len(corpus.vocabulary), device)
    torch.manual_seed(config.training.seed)
    network = make_network(config, len(corpus.vocabulary), device).to(device)
    others = count_experts(config, corpus, note)
    job = _assemble(config, corpus, network, folder, lanes, others, known=checkpoint.known)
    job.trainer.resume(checkpoint.tensors, checkpoint.info)
    folder.check_model(job.mixture)
    return job


def follow(described: dict[str, Any], ranks: Ranks) -> TrainingJob:
    """Prepares the share that another rank than 0 has in a training, as `describe` tells it; it writes no file."""
    config = load_config(described["config"])
    device = find_device(config.training.device)
    vocabulary = Vocabulary.from_json(described["vocabulary"])
    train = share_split(ranks, described["train"])
    nothing = Split(train.ids[:0], 0, 0)
    corpus = Corpus(vocabulary, train, nothing, nothing, "", "")
    network = make_network(config, len(vocabulary), device).to(device)
    lanes = Lanes(ranks, described["lane_groups"])
    job = _assemble(config, corpus, network, RunFolder(described["folder"]), lanes, ())
    job.trainer.share()
    return job


def _fresh_network(config: Config, corpus: Corpus, device: torch.device, lanes: Lanes | None) -> CharacterModel:
    def make() -> CharacterModel:
        torch.manual_seed(config.training.seed)
        return make_network(config, len(corpus.vocabulary), device)

    return make() if lanes is None else with_one_thread(make)  # orthogonal matrices round by the threads


def _assemble(
    config: Config,
    corpus: Corpus,
    network: CharacterModel,
    folder: RunFolder,
    lanes: Lanes | None,
    others: Sequence[CountedExpert],
    *,
    known: Iterable[str] = (),
) -> TrainingJob:
    mixture = Mixture(network_expert(network), others)
    training = config.training_of_each
    step = TrainingStep(network, training, lanes=lanes)
    trainer = Trainer(
        step,
        make_batches(corpus, training),
        corpus.train,
        training,
        Evaluator(mixture, corpus, config.sampling, config.training.seed),
        folder,
        identity={
            "config": config.model_dump(),
            "corpus": corpus.key,
            "known": "".join(known),
            # What the sums depend on: of lanes in groups it is not the threads.
            **({"threads": thread_count()} if lanes is None else {"lane_groups": lanes.groups}),
        },
    )
    return TrainingJob(config, corpus, mixture, trainer, folder, step)
