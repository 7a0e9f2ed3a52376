"""A training job: everything that a training needs, put together in one of three ways.

- `begin`: a fresh network, its configuration completed by the recipe where nobody has written one;
- `begin_with`: a network that has the weights of a trained one, on another text;
- `resume`: a training that goes on where its checkpoint stands.

The configuration is read here, and handed on in sections.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from charlm.config import Config
from charlm.experts.mixture import Mixture
from charlm.experts.torch_network import network_expert
from charlm.model.network import CharacterModel
from charlm.model.transfer import initialize_output_bias, transfer_weights
from charlm.store.run_folder import RunFolder
from charlm.store.trained import TrainedModel
from charlm.system.devices import find_device
from charlm.system.threads import thread_count
from charlm.text.corpus import Corpus, load_corpus
from charlm.training.agreement import (
    Checkpoint,
    check_corpus,
    check_network,
    check_settings,
    check_transfer,
    compare_vocabularies,
    settle_framing,
)
from charlm.training.choice import Note, choose_rest, count_experts, make_network
from charlm.training.evaluator import Evaluator
from charlm.training.remarks import remarks
from charlm.training.step import TrainingStep, make_batches
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


def begin(config: Config, folder: RunFolder, *, chosen: Iterable[str] | None = None, note: Note) -> TrainingJob:
    """Prepares the training of a fresh network.

    Args:
        config: the configuration.
        folder: where to save.
        chosen: the keys that somebody has set, if the recipe is to choose all others; None: it chooses nothing.
        note: is told what a person should know.
    """
    device = find_device(config.training.device)
    if chosen is None:
        corpus = load_corpus(config.corpus, note=note)
        config = settle_framing(config, corpus.vocabulary.framing)
        for remark in remarks(corpus):
            note(remark)
    else:
        config, corpus = choose_rest(config, set(chosen), device, note)
    torch.manual_seed(config.training.seed)
    network = make_network(config, len(corpus.vocabulary), device)
    initialize_output_bias(network, corpus.vocabulary.unigram_log_probs)
    return _assemble(config, corpus, network.to(device), folder)


def begin_with(trained: TrainedModel, config: Config, folder: RunFolder, *, note: Note) -> TrainingJob:
    """Prepares the training of a network that has the weights of a trained one, matched character by character.

    Raises:
        RunError: the weights do not fit the configuration.
    """
    if config.corpus.framing == "auto":
        config = settle_framing(config, trained.vocabulary.framing)
        note(f"framing: {config.corpus.framing}, as in {trained.folder}; --set corpus.framing reads it otherwise")
    check_transfer(trained, config)
    device = find_device(config.training.device)
    corpus = load_corpus(config.corpus, known=trained.vocabulary.characters, note=note)
    for remark in remarks(corpus):
        note(remark)
    torch.manual_seed(config.training.seed)
    network = make_network(config, len(corpus.vocabulary), device)
    ids = {symbol: i for i, symbol in enumerate(trained.vocabulary.symbols)}
    transfer_weights(
        network, trained.mixture.network.arrays(), [ids.get(symbol) for symbol in corpus.vocabulary.symbols]
    )
    note(compare_vocabularies(trained, corpus.vocabulary))
    return _assemble(config, corpus, network.to(device), folder, known=trained.vocabulary.characters)


def resume(checkpoint: Checkpoint, config: Config, folder: RunFolder, *, note: Note) -> TrainingJob:
    """Prepares a training that goes on where it stopped.

    Raises:
        RunError: the configuration or the text is not what the run began with, or the checkpoint does not fit.
    """
    config = settle_framing(config, checkpoint.config.corpus.framing)
    check_settings(folder, checkpoint.config, config)
    device = find_device(config.training.device)
    corpus = load_corpus(config.corpus, known=checkpoint.known, note=note)
    check_corpus(folder, checkpoint.corpus_key, corpus)
    for remark in remarks(corpus):
        note(remark)
    check_network(folder, checkpoint, config, len(corpus.vocabulary), device)
    torch.manual_seed(config.training.seed)
    network = make_network(config, len(corpus.vocabulary), device).to(device)
    job = _assemble(config, corpus, network, folder, known=checkpoint.known)
    job.trainer.resume(checkpoint.tensors, checkpoint.info)
    folder.check_model(job.mixture)
    return job


def _assemble(
    config: Config, corpus: Corpus, network: CharacterModel, folder: RunFolder, *, known: Iterable[str] = ()
) -> TrainingJob:
    mixture = Mixture(network_expert(network), count_experts(config, corpus))
    step = TrainingStep(network, config.training)
    trainer = Trainer(
        step,
        make_batches(corpus, config.training),
        corpus.train,
        config.training,
        Evaluator(mixture, corpus, config.sampling, config.training.seed),
        folder,
        identity={
            "config": config.model_dump(),
            "corpus": corpus.key,
            "known": "".join(known),
            "threads": thread_count(),
        },
    )
    return TrainingJob(config, corpus, mixture, trainer, folder, step)
