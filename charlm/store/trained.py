"""A trained model as a run folder holds it: configuration, vocabulary and experts, checked against each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from charlm.config import Config, load_config
from charlm.errors import ConfigError, CorpusError, RunError
from charlm.experts import EXPERTS
from charlm.experts.expert import TrainedExpert
from charlm.experts.mixture import Mixture
from charlm.experts.network import NetworkExpert
from charlm.model.inference import has_cell
from charlm.store.run_folder import RunFolder
from charlm.text.corpus import Corpus, load_corpus, named_paths
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
        """Reads the corpus that the model was trained on again, and splits it as before.

        Raises:
            CorpusError: the corpus is missing, or it has changed since the training.
        """
        paths = named_paths(self.config.corpus)
        if STDIN in paths:
            raise CorpusError(
                f"{self.folder}: this run was trained on standard input, which cannot be read again; name a text "
                "in a file, here or when you train"
            )
        try:
            refuse_special_files(paths)
            corpus = load_corpus(self.config.corpus, known=self.vocabulary.characters)
        except CorpusError as error:
            raise CorpusError(
                f"{self.folder}: the corpus of this run is needed, but it cannot be read: {error}"
            ) from None
        if corpus.vocabulary.to_json() != self.vocabulary.to_json():  # its counts included
            raise CorpusError(
                f"{self.folder}: the corpus of this run is needed, but it has changed since the training: "
                f"{', '.join(paths)}; restore the files as they were"
            )
        return corpus


def load_trained(folder: RunFolder, device: str) -> TrainedModel:
    """Loads the best model of a run folder.

    On a CPU torch is not needed, unless the cell is one that only torch computes.

    Raises:
        RunError: the folder is missing, incomplete, damaged or of another format.
    """
    vocabulary = Vocabulary.from_json(folder.read_text(folder.vocabulary), str(folder.vocabulary))
    config = load_run_config(folder)
    _check_vocabulary(vocabulary, config, folder)
    V, first_id = len(vocabulary), vocabulary.boundary_id
    network: TrainedExpert  # shapes alone: memory is taken once the file has been found to fit them
    if device == "cpu" and has_cell(config.model.cell):
        network = NetworkExpert.without_weights(V, config.model)
    else:
        from charlm.experts.torch_network import TorchNetworkExpert

        network = TorchNetworkExpert.without_weights(V, config.model, device)
    wanted = [kind for kind in EXPERTS if kind.is_wanted(config.model)]
    mixture = Mixture(network, [folder.load_expert(kind, config.model, V, first_id) for kind in wanted])
    folder.load_model(mixture)
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
                f"{folder.path}: damaged run: {key} is {theirs!r} in {folder.vocabulary.name}, but {ours!r} in "
                f"{folder.config.name}; restore both files from one run"
            )
