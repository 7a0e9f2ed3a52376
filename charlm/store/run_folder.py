"""The run folder: what is in it, and how it is written so that a reader never sees half of anything.

    RUN/config.yaml          the complete configuration, which can be used to train again
    RUN/vocabulary.json      the characters in the order of their ids, the framing and the normalisation
    RUN/model.safetensors    the weights with the lowest validation loss, the powers of the mixture, and, once
                             training has ended, the powers of the mixture with a memory
    RUN/ngram.safetensors    the n-gram model that is mixed with the network, if there is one; other experts have
                             such a file too: words.safetensors, and networks.safetensors for further networks
    RUN/networks/K/          the runs of the further networks, while they are trained
    RUN/metrics.jsonl        the losses and the speed, one line for each evaluation
    RUN/samples.txt          what the model wrote at each evaluation
    RUN/last/checkpoint.safetensors   the weights, the state of the optimiser, of the random numbers and of the
                             network; its header has the counters, the configuration, and checksums of metrics.jsonl
                             and samples.txt
    RUN/last/step-N.safetensors       the checkpoints of earlier evaluations, if `training.keep` asks for them
    RUN/last/lock            the lock of the training that writes to this folder
    RUN/log/KIND/            the same evaluations for other programs, see `training.log`; charlm does not read them

Each file is first written beside its place, synced and then renamed. Weights are safetensors files with a checksum
of their own; the other files are YAML and JSON. No file contains code.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from charlm.config import ModelConfig
from charlm.errors import InputError, RunError, TrainingError
from charlm.experts.expert import CountedExpert
from charlm.experts.memory import CONTEXTS as MEMORY_CONTEXTS
from charlm.experts.memory import LARGEST_POWER as LARGEST_MEMORY_POWER
from charlm.experts.mixture import MEMORY_POWERS, Mixture
from charlm.store.tensors import Array, check_weights, check_whole, pack_tensors, read_tensors, unusable
from charlm.system.files import replace_file, sync_folder
from charlm.system.run_format import FormatError
from charlm.system.shell import quote_path
from charlm.system.untrusted import open_regular, parse_json, read_regular

_MAX_BYTES = {  # of what is read as text: no run of ours writes more
    "config.yaml": 1_000_000,
    "vocabulary.json": 1 << 25,  # every character that Unicode has room for, with its count
    "metrics.jsonl": 1 << 26,  # a quarter of a million evaluations
    "samples.txt": 1 << 30,  # as many, of four thousand characters
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
        self.lock = self.path / "last" / "lock"
        self._vocabulary_checksum = ""
        self._logs: dict[
            str, tuple[int, str]
        ] = {}  # metrics and samples: length and checksum as training left them

    @property
    def holds_run(self) -> bool:
        """Whether a training was ever started here."""
        return any(map(os.path.exists, (self.config, self.model, self.last)))

    def check_writable(self) -> None:
        """Checks, by a folder that is made and removed again, that the run can be written here.

        Raises:
            InputError: it cannot.
        """
        nearest = self.path.absolute()
        try:
            while not os.path.lexists(nearest):
                nearest = nearest.parent
            os.rmdir(tempfile.mkdtemp(prefix=".charlm-", dir=nearest))
        except OSError as error:
            raise self._cannot_make(error) from None

    def _cannot_make(self, error: OSError) -> InputError:
        return InputError(
            f"{self.path}: cannot create the run folder: {error.strerror}; name another folder with --out"
        )

    def free_bytes(self) -> int:
        """Returns how much room the disk of the folder has."""
        return shutil.disk_usage(self.path).free

    def weights_bytes(self) -> int:
        """Returns the size of the weights, experts and checkpoints that are there."""
        found = [*self.path.glob("*.safetensors"), *self.last.parent.glob("*.safetensors")]
        return sum(path.stat().st_size for path in found if path.is_file())

    def make(self) -> None:
        """Makes the folder, if it is not there yet.

        Raises:
            InputError: it cannot be made.
        """
        try:
            self.last.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._cannot_make(error) from None
        sync_folder(self.path)
        sync_folder(self.path.parent)

    def create(self, config: str, vocabulary: str) -> None:
        """Makes the folder and writes what does not change during training.

        Raises:
            InputError: the folder cannot be made.
        """
        self.make()
        self._vocabulary_checksum = _checksum(vocabulary.encode())
        write_atomically(self.vocabulary, vocabulary.encode())
        write_atomically(self.config, config.encode())

    def read_text(self, path: Path) -> str:
        """Reads config.yaml, vocabulary.json or metrics.jsonl.

        Raises:
            RunError: the folder or the file is missing, or not text.
        """
        self._check_there()
        try:
            return read_regular(path, _MAX_BYTES[path.name]).decode()
        except FileNotFoundError:
            raise RunError(f"{self.path}: this run is incomplete, because {path.name} is missing") from None
        except (OSError, ValueError) as error:
            raise RunError(f"{path}: cannot be read: {error}") from None

    def _check_there(self) -> None:
        if not os.path.isdir(self.path):
            what = "this is a file, not a run folder" if os.path.lexists(self.path) else "no such run folder"
            raise RunError(f"{self.path}: {what}; `charlm train` creates run folders")
        if not self.holds_run:
            raise RunError(
                f"{self.path}: not a run folder (it has no {self.config.name}); `charlm train` creates run folders"
            )

    def save_model(self, mixture: Mixture) -> None:
        """Writes what scoring and sampling use of what training changes: the network's weights and the powers."""
        write_atomically(self.model, pack_tensors(mixture.arrays(), {"vocabulary": self._vocabulary_checksum}))

    def load_model(self, mixture: Mixture) -> None:
        """Loads the best weights and powers into a mixture of the right shape, which may have no weights yet.

        Raises:
            RunError: they are missing, damaged or do not fit the configuration; the mixture is as before.
        """
        if not self.model.exists():
            raise RunError(
                f"{self.path}: this run is incomplete, because training has not reached its first evaluation; "
                f"continue it with `charlm train --resume --out {quote_path(self.path)}`"
            )
        tensors, header = read_tensors(self.model)
        self._check_model(tensors, header, mixture)
        self._check_vocabulary(header, self.model)
        mixture.load(tensors)

    def _check_vocabulary(self, header: Mapping[str, str], source: Path) -> None:
        if "vocabulary" in header and header["vocabulary"] != _checksum(self.read_text(self.vocabulary).encode()):
            raise RunError(
                f"{self.vocabulary}: damaged, or not the vocabulary that {source.name} was trained with; "
                "restore both files from the same run"
            )

    def expert_path(self, name: str) -> Path:
        """Returns where an expert beside the network is stored."""
        return self.path / f"{name}.safetensors"

    def save_expert(self, expert: CountedExpert) -> None:
        """Writes what an expert has counted, into a file of its own."""
        header = {"vocabulary": self._vocabulary_checksum}
        write_atomically(self.expert_path(expert.name), pack_tensors(expert.arrays(), header))

    def load_expert(
        self, kind: type[CountedExpert], config: ModelConfig, vocabulary_size: int, first_id: int
    ) -> CountedExpert:
        """Reads what `save_expert` wrote; arguments as in `CountedExpert.from_arrays`.

        Raises:
            RunError: it is missing, damaged or does not fit.
        """
        path = self.expert_path(kind.name)
        if not path.exists():
            raise RunError(
                f"{self.path}: this run is incomplete, because {path.name} is missing; continue it with "
                f"`charlm train --resume --out {quote_path(self.path)}`"
            )
        tensors, header = read_tensors(path)
        try:
            expert = kind.from_arrays(config, tensors, vocabulary_size, first_id)
        except (ValueError, TypeError) as error:
            raise RunError(f"{path}: damaged: {error}") from None
        if bad := unusable({name: value for name, value in tensors.items() if value.dtype.kind == "f"}):
            raise RunError(f"{path}: damaged: {bad} has numbers that are not finite, or too large")
        check_whole(tensors, header, path)
        self._check_vocabulary(header, path)
        return expert

    def check_model(self, mixture: Mixture) -> None:
        """Checks that the best weights, if there are any yet, are whole and fit a mixture.

        Raises:
            RunError: they are damaged, or do not fit.
        """
        if self.model.exists():
            try:
                tensors, header = read_tensors(self.model)
                self._check_model(tensors, header, mixture)
            except RunError as error:
                raise RunError(
                    f"{error}; restore the file from a copy, or remove it, and the next evaluation writes a new one"
                ) from None

    def _check_model(self, tensors: Mapping[str, Array], header: Mapping[str, str], mixture: Mixture) -> None:
        """Checks that tensors are those of a mixture; powers of a memory may be among them.

        Raises:
            RunError: they are damaged, or do not fit.
        """
        expected = mixture.arrays()
        expected.pop(MEMORY_POWERS, None)
        if MEMORY_POWERS in tensors:
            shape = (len(mixture.powers) * MEMORY_CONTEXTS, 2)
            expected[MEMORY_POWERS] = np.broadcast_to(np.zeros((), np.float32), shape)
        check_weights(tensors, expected, self.model)
        powers = tensors.get(MEMORY_POWERS)
        if powers is not None and not (powers.min() >= 0 and powers.max() <= LARGEST_MEMORY_POWER):
            raise RunError(
                f"{self.model}: damaged: {MEMORY_POWERS} has numbers below 0 or above {LARGEST_MEMORY_POWER:g}"
            )
        check_whole(tensors, header, self.model)

    def save_last(self, tensors: Mapping[str, Array], info: Mapping[str, Any], *, keep: int = 1) -> None:
        """Writes all that training needs to go on, as one file, so that it is replaced whole.

        Args:
            tensors: by name.
            info: the rest, as JSON takes it; with `keep` above 1, `progress.step` is the number of the step.
            keep: with more than 1, the checkpoint is also written as `step-N`, and of those the newest `keep` stay.
        """
        header = {"info": json.dumps({**info, "logs": self._logs, "tensors": sorted(tensors)})}
        content = pack_tensors(tensors, header)
        if keep > 1:
            step = info["progress"]["step"]
            write_atomically(self.last.with_name(f"step-{step}.safetensors"), content)
            steps = self.kept()
            newest = [number for number in sorted(steps) if number <= step][-keep:]
            for number in steps.keys() - set(newest):  # the older ones, and a future that was gone back from
                steps[number].unlink(missing_ok=True)
        write_atomically(self.last, content)

    def kept(self) -> dict[int, Path]:
        """Lists the checkpoints that stayed beside the last one, by step."""
        found = self.last.parent.glob("step-*.safetensors")
        return {int(path.stem[5:]): path for path in found if path.stem[5:].isdecimal()}

    def load_last(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Reads what `save_last` wrote.

        Raises:
            RunError: it is missing, damaged or from a newer charlm; or what training has written to metrics.jsonl
                or samples.txt is damaged.
        """
        self._check_there()
        try:
            if not self.last.exists():
                raise RunError(
                    f"{self.path}: this run cannot be continued, because last/{self.last.name} is missing"
                )
            tensors, header = read_tensors(self.last)
            check_whole(tensors, header, self.last)
            try:
                info = dict(parse_json(header["info"]))
                missing = set(map(str, info.pop("tensors"))) - set(tensors)
                logs = {
                    str(name): (int(length), str(checksum)) for name, (length, checksum) in info.pop("logs").items()
                }
            except (KeyError, ValueError, TypeError, AttributeError, OverflowError):
                raise RunError(f"{self.last}: not a checkpoint of charlm") from None
            if missing:
                raise RunError(f"{self.last}: damaged checkpoint: {', '.join(sorted(missing)[:5])[:200]} missing")
        except FormatError:
            raise
        except RunError as error:
            steps = self.kept()
            advice = (
                "restore it from a copy, or start a new run from the best weights with `charlm train --from "
                f"{quote_path(self.path)} --corpus TEXT`"
            )
            if steps:
                advice = f"to continue from an earlier step, copy {steps[max(steps)].name} from its folder over it"
            raise RunError(f"{error}; {advice}") from None
        for path in (self.metrics, self.samples):
            self._check_log(path, *logs.get(path.name, (0, "")))
        return tensors, info

    def read_last_info(self) -> dict[str, Any] | None:
        """Reads what the last checkpoint says beside its tensors, which are not looked at; None if there is none.

        Raises:
            RunError: it is damaged.
        """
        if not self.last.exists():
            return None
        try:
            return dict(parse_json(read_tensors(self.last)[1]["info"]))
        except (KeyError, ValueError, TypeError):
            raise RunError(f"{self.last}: not a checkpoint of charlm") from None

    def _check_log(self, path: Path, length: int, checksum: str) -> None:
        self._logs[path.name] = length, checksum
        if not path.exists():
            del self._logs[path.name]
        elif length and (
            not 0 < length <= _MAX_BYTES[path.name] or _checksum(self._start_of(path, length)) != checksum
        ):
            raise RunError(
                f"{path}: damaged: it is not what training wrote; restore it from a copy, or remove it to continue "
                "without it"
            )

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

    def read_samples(self) -> str:
        """Reads samples.txt, empty if there is no such file yet; bytes that are no text are replaced.

        Raises:
            RunError: it cannot be read.
        """
        try:
            return read_regular(self.samples, _MAX_BYTES[self.samples.name]).decode(errors="replace")
        except FileNotFoundError:
            return ""
        except (OSError, ValueError) as error:
            raise RunError(f"{self.samples}: cannot be read: {error}") from None

    def append(self, path: Path, text: str) -> None:
        """Adds text to metrics.jsonl or samples.txt, behind what the last checkpoint knows of.

        What stands there beyond comes from after the checkpoint that training went on from, and will come again.
        """
        kept, _ = self._logs.get(path.name, (0, ""))
        content = (self._start_of(path, kept) if kept else b"") + text.encode(errors="surrogateescape")
        write_atomically(path, content)
        self._logs[path.name] = len(content), _checksum(content)

    def _start_of(self, path: Path, length: int) -> bytes:
        try:
            with open_regular(path) as file:
                return file.read(length)
        except OSError as error:
            raise RunError(f"{path}: cannot be read: {error}") from None


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file of the run, see `replace_file`.

    Raises:
        TrainingError: the disk is full or the file cannot be written; the old content is untouched.
    """
    try:
        with replace_file(path) as file:
            file.write(content)
    except OSError as error:
        raise TrainingError(
            f"{path}: cannot be written: {error.strerror or error}; what was saved before is intact"
        ) from None
