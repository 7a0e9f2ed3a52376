"""The run folder: what is in it, and how it is written so that a reader never sees half of anything.

    RUN/config.yaml          the resolved configuration, loadable again
    RUN/vocabulary.json      characters in id order, framing, normalisation
    RUN/model.safetensors    the best weights by validation loss
    RUN/metrics.jsonl        one line per evaluation
    RUN/samples.txt          what it wrote at each evaluation
    RUN/last/checkpoint.safetensors   weights, optimiser, RNG state, carried state; counters in its header

Each file is written beside its place, synced and renamed. Weights are safetensors, the rest YAML and JSON: data,
never code.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from charlm.errors import InputError, RunError, TrainingError
from charlm.files import parse_json, read_regular
from charlm.training.weights import FORMAT, load_weights, read_tensors

_MAX_BYTES = {  # of what is read as text: no run of ours writes more
    "config.yaml": 1_000_000,
    "vocabulary.json": 1 << 25,  # every character that Unicode has room for, with its count
    "metrics.jsonl": 1 << 26,  # a quarter of a million evaluations
}


class RunFolder:
    """Reads and writes the files of one run.

    Args:
        path: the folder; it need not exist yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.vocabulary = self.path / "vocabulary.json"
        self.model = self.path / "model.safetensors"
        self.metrics = self.path / "metrics.jsonl"
        self.samples = self.path / "samples.txt"
        self.last = self.path / "last" / "checkpoint.safetensors"

    @property
    def holds_run(self) -> bool:
        """Whether a training was ever started here."""
        return os.path.exists(self.config) or os.path.exists(self.model)

    def create(self, config: str, vocabulary: str) -> None:
        """Makes the folder and writes what does not change during training.

        Raises:
            InputError: the folder cannot be made.
        """
        try:
            self.last.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.path}: cannot make the run folder: {error.strerror}") from None
        write_atomically(self.vocabulary, vocabulary.encode())
        write_atomically(self.config, config.encode())

    def read_text(self, path: Path) -> str:
        """Reads config.yaml, vocabulary.json or metrics.jsonl.

        Raises:
            RunError: the folder or the file is missing, or not text.
        """
        if not os.path.isdir(self.path):
            raise RunError(f"{self.path}: no such run folder; `charlm train` makes one")
        if not self.holds_run:
            raise RunError(f"{self.path}: not a run folder (it has no {self.config.name})")
        try:
            return read_regular(path, _MAX_BYTES[path.name]).decode()
        except FileNotFoundError:
            raise RunError(f"{self.path}: incomplete run: {path.name} is missing") from None
        except (OSError, ValueError) as error:
            raise RunError(f"{path}: cannot be read: {error}") from None

    def save_model(self, model: nn.Module) -> None:
        """Writes the weights that scoring and sampling use."""
        tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
        write_atomically(self.model, safetensors.torch.save(tensors, {"charlm_format": str(FORMAT)}))

    def load_model(self, model: nn.Module) -> None:
        """Loads the best weights into a model of the right shape, see `load_weights`.

        Raises:
            RunError: they are missing, damaged or do not fit the configuration.
        """
        if not self.model.exists():
            raise RunError(
                f"{self.path}: incomplete run: training has not reached its first evaluation; "
                "go on with `charlm train --resume`"
            )
        tensors, _ = read_tensors(self.model)
        load_weights(model, tensors, self.model)

    def save_last(self, tensors: Mapping[str, Tensor], info: Mapping[str, Any]) -> None:
        """Writes all that training needs to go on, as one file."""
        flat = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        header = {"charlm_format": str(FORMAT), "info": json.dumps({**info, "tensors": sorted(flat)})}
        write_atomically(self.last, safetensors.torch.save(flat, header))

    def load_last(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Reads what `save_last` wrote, or None if nothing was saved yet.

        Raises:
            RunError: it is damaged or from a newer charlm.
        """
        if not self.last.exists():
            return None
        tensors, header = read_tensors(self.last)
        try:
            info = dict(parse_json(header["info"]))
            missing = set(info.pop("tensors")) - set(tensors)
        except (KeyError, ValueError, TypeError):
            raise RunError(f"{self.last}: not a checkpoint of charlm") from None
        if missing:
            raise RunError(f"{self.last}: damaged checkpoint: {', '.join(sorted(missing)[:5])} missing")
        return tensors, info

    def read_metrics(self) -> list[dict[str, Any]]:
        """Reads the rows of metrics.jsonl; none if there is no such file yet.

        Raises:
            RunError: a line is not JSON.
        """
        if not self.metrics.exists():
            return []
        rows: list[dict[str, Any]] = []
        for number, line in enumerate(self.read_text(self.metrics).splitlines(), 1):
            try:
                rows.append(dict(parse_json(line)))
            except (ValueError, TypeError):
                raise RunError(f"{self.metrics}, line {number}: not a JSON object") from None
        return rows

    def append(self, path: Path, kept: int, text: str) -> int:
        """Adds text behind the first `kept` bytes of metrics.jsonl or samples.txt.

        What stands there beyond comes from after the checkpoint that training went on from, and will come again.

        Returns:
            The new length in bytes, for the next checkpoint to remember.
        """
        content = (path.read_bytes()[:kept] if path.exists() else b"") + text.encode(errors="surrogateescape")
        write_atomically(path, content)
        return len(content)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that a reader, or a machine that loses power, sees the old content or the new.

    Raises:
        TrainingError: the disk is full or the file cannot be written; the old content is untouched.
    """
    beside = path.with_name(path.name + ".new")
    try:
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise TrainingError(
            f"{path}: cannot be written: {error.strerror or error}; what was saved before is intact"
        ) from None
    with contextlib.suppress(OSError):  # the content is safe; not every file system can sync a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
