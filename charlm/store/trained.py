"""A trained model as a run folder holds it: configuration, vocabulary and experts, checked against each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from charlm.config import Config, load_config
from charlm.errors import ConfigError, CorpusError, RunError
from charlm.experts import EXPERTS
from charlm.experts.mixture import Mixture
from charlm.model.network import CharacterModel, plan_layers
from charlm.store.run_folder import RunFolder
from charlm.text.corpus import Corpus, load_corpus
from charlm.text.reading import STDIN, refuse_special_files
from charlm.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class TrainedModel:
    """A trained model.

    Attributes:
        mixture: the network and the experts beside it.
        vocabulary: the characters it knows.
        config: what it was trained with.
        folder: its run folder.
    """

    mixture: Mixture
    vocabulary: Vocabulary
    config: Config
    folder: Path

    def read_corpus(self) -> Corpus:
        """Reads the corpus that the model was trained on again, and splits it as then.

        Raises:
            CorpusError: it is gone, or it has changed since.
        """
        settings = self.config.corpus
        path = settings.path
        if STDIN in [*([path] if isinstance(path, str) else path), settings.validation, settings.test]:
            raise CorpusError(f"{self.folder}: trained on standard input, which cannot be read again")
        try:
            refuse_special_files([path] if isinstance(path, str) else path)
            corpus = load_corpus(self.config.corpus, known=self.vocabulary.characters)
        except CorpusError as error:
            raise CorpusError(
                f"{self.folder}: the run's own corpus is needed, and cannot be read: {error}"
            ) from None
        if corpus.vocabulary.to_json() != self.vocabulary.to_json():  # its counts included
            names = path if isinstance(path, str) else ", ".join(path)
            raise CorpusError(f"{self.folder}: the run's own corpus has changed since the training: {names}")
        return corpus


def load_trained(folder: RunFolder, device: torch.device) -> TrainedModel:
    """Loads the best model of a run folder.

    Raises:
        RunError: the folder is missing, incomplete, damaged or of another format.
    """
    vocabulary = Vocabulary.from_json(folder.read_text(folder.vocabulary), str(folder.vocabulary))
    config = load_run_config(folder)
    _check_vocabulary(vocabulary, config, folder)
    V, first_id = len(vocabulary), vocabulary.boundary_id
    with torch.device("meta"):  # shapes alone: memory is taken once the file has been found to fit them
        network = CharacterModel(V, config.model, plan_layers(V, config.model, device))
    wanted = [kind for kind in EXPERTS if kind.is_wanted(config.model)]
    mixture = Mixture(network, [folder.load_expert(kind, config.model, V, first_id) for kind in wanted])
    folder.load_model(mixture)
    network.to(device)
    return TrainedModel(mixture, vocabulary, config, folder.path)


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


def _check_vocabulary(vocabulary: Vocabulary, config: Config, folder: RunFolder) -> None:
    for key in ("framing", "level", "normalization", "lowercase"):
        theirs, ours = getattr(vocabulary, key), getattr(config.corpus, key)
        if theirs != ours:
            raise RunError(
                f"{folder.path}: damaged run: {key} is {theirs!r} in {folder.vocabulary.name}, "
                f"{ours!r} in {folder.config.name}"
            )
