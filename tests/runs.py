"""What tests of whole runs share: small trainings of every kind, all that a run folder holds, and a way to stop."""

import signal
from pathlib import Path
from typing import Any

from charlm.store.run_folder import RunFolder
from charlm.training.reports import Metrics, StepReport

STEPS = 24  # at least, of each kind
# Sizes that are no powers of two: what is read back must lie in memory as it did, or sums round differently.
KINDS: dict[str, dict[str, Any]] = {
    "stream-gru-ngram": {
        "model": {"cell": "gru", "hidden_size": 6, "dropout": 0.2, "ngram": 3},
        "training": {"batch_size": 8, "optimizer": "rmsprop", "momentum": 0.5},
    },
    "stream-lstm-adam": {
        "model": {"hidden_size": 5, "num_layers": 2, "dropout": 0.2, "recurrent_dropout": 0.3},
        "training": {"batch_size": 3, "optimizer": "adam", "budget": "1200 characters"},
    },
    "stream-gru-parts": {
        "corpus": {"split": "spread", "validation": 0.3},
        "model": {"cell": "gru", "hidden_size": 5, "ngram": 4},
        "training": {"batch_size": 5},
    },
    "stream-rnn-networks": {
        "model": {"cell": "rnn", "hidden_size": 5, "recurrent_dropout": 0.2, "ngram": 3, "networks": 2},
        "training": {"batch_size": 4, "budget": "48 steps", "evaluate_every": "20%"},
    },
    "lines-gru-adamw": {
        "model": {"cell": "gru-before", "hidden_size": 5, "dropout": 0.1},
        "training": {"batch_size": 3},
    },
    "lines-rnn-sgd": {
        "model": {"cell": "rnn", "hidden_size": 6},
        "training": {
            "batch_size": 8,
            "optimizer": "sgd",
            "momentum": 0.9,
            "learning_rate": 0.5,
            "budget": "2 epochs",
        },
    },
}


def config(corpus: Path, kind: str = "stream-gru-ngram", **training: Any) -> dict[str, Any]:
    framing = kind.partition("-")[0]
    common = {"budget": "24 steps", "evaluate_every": "5 steps", "sequence_length": 16, "device": "cpu"}
    validation = 0.1 if framing == "stream" else 0.0
    return {
        "corpus": {"path": str(corpus), "framing": framing, "split": "tail", "validation": validation}
        | KINDS[kind].get("corpus", {}),
        "model": KINDS[kind]["model"],
        "training": common | KINDS[kind]["training"] | training,
        "sampling": {"length": 20},
    }


def outcome(run: Path) -> dict[str, Any]:
    """All that a run folder holds, but for the fields that tell of time."""
    folder = RunFolder(run)
    rows = folder.read_metrics()
    tensors, info = folder.load_last()
    for part in (*rows, info["progress"], info["interval"]):
        for key in [key for key in part if "second" in key]:
            del part[key]
    files = [folder.config, folder.vocabulary, folder.model, folder.samples]
    files += [path for name in ("ngram", "networks") if (path := folder.expert_path(name)).exists()]
    last = {name: value.tobytes() for name, value in tensors.items()}
    return {"metrics": rows, "last": last, "info": info} | {file.name: file.read_bytes() for file in files}


def contents(run: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}


class StopAt:
    """Sends this process a signal behind a step, as Ctrl-C would."""

    def __init__(self, step: int, number: int = signal.SIGINT) -> None:
        self.step, self.number = step, number

    def on_step(self, report: StepReport | Metrics, *_: object) -> None:
        if report.step == self.step:
            signal.raise_signal(self.number)

    on_evaluation = on_step

    def on_note(self, note: str) -> None:
        assert note.startswith(("validation: ", "network ")), f"nothing else to note here: {note}"
