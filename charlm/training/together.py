"""How fast the processes of a training are together, measured before it begins, as often as rank 0 asks for it.

They train a network made for it on random symbols, so that nobody but rank 0 needs the text.
"""

from __future__ import annotations

import time
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch

from charlm.config import Config, load_config
from charlm.system.devices import find_device
from charlm.system.distributed import Ranks
from charlm.system.threads import set_threads, thread_count
from charlm.text.batches import IGNORE, StreamBatches
from charlm.text.corpus import Corpus
from charlm.training.choice import divide, make_network
from charlm.training.step import TrainingStep, endless_windows, make_batches

_SUMS = 5  # at least, that are measured
_WINDOWS = 8  # of random symbols


class Pace(NamedTuple):
    """What a step takes.

    Attributes:
        step_seconds: of a whole window, with the sum of the gradients.
        sum_seconds: of that sum alone, while nobody computes.
    """

    step_seconds: float
    sum_seconds: float


def measure_together(config: Config, vocabulary_size: int, ranks: Ranks, seconds: float) -> Pace:
    """Has all ranks train for so many seconds; called by rank 0 while the others `serve`."""
    asked = ranks.lead(lambda: {"measure": [config.model_dump(), vocabulary_size, seconds]})
    return _measure(asked["measure"], ranks)


def measure_sharing(ranks: Ranks, config: Config, corpus: Corpus, device: torch.device, seconds: float) -> float:
    """Returns how many characters of a corpus all ranks read in a second; see `measure_together`."""
    t, batches = config.training, make_batches(corpus, config.training)
    windows = list(islice(endless_windows(batches), _WINDOWS))
    places = sum(window.targets.size for window in windows)
    share = sum(int((window.targets != IGNORE).sum()) for window in windows) / places
    pace = measure_together(config, len(corpus.vocabulary), ranks, seconds)
    symbols = share * t.batch_size * t.sequence_length
    return symbols / pace.step_seconds * corpus.train.characters / len(corpus.train.ids)


def serve(ranks: Ranks) -> Any:
    """Measures with rank 0 as often as it asks; returns the first that it says beside that."""
    while True:
        told: dict[str, Any] = ranks.lead(dict)
        if "measure" not in told:
            return told
        _measure(told["measure"], ranks)


def _measure(asked: list[Any], ranks: Ranks) -> Pace:
    settings, symbols, seconds = asked
    config = load_config(settings)
    device, t = find_device(config.training.device), config.training
    threads = thread_count()
    set_threads(ranks.threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(t.seed)
            network = make_network(config, symbols, device).to(device)
            step = TrainingStep(network, t, lanes=divide(config, device, ranks))
            ids = np.random.default_rng(0).integers(symbols, size=t.batch_size * t.sequence_length * _WINDOWS)
            windows = endless_windows(StreamBatches(ids, t.batch_size, t.sequence_length, t.seed))
            step(next(windows), 0.0)  # the first step allocates, and is not typical
            spent, steps, read_at = 0.0, 0, time.monotonic()

            def tell() -> list[float]:
                nonlocal read_at
                before, read_at = read_at, time.monotonic()
                return [read_at - before if ranks.leads else 0.0]

            while spent < seconds:
                spent += step(next(windows), 0.0, tell).told[0]
                steps += 1
            n = sum(parameter.numel() for parameter in network.parameters())
            buffer = torch.zeros(n + -n % ranks.size, device=device)
            ranks.sum(buffer)
            began, sums = time.monotonic(), max(_SUMS, steps // 4)
            for _ in range(sums):
                float(ranks.sum(buffer)[0])
            return Pace(spent / steps, (time.monotonic() - began) / sums)
    finally:
        set_threads(threads)
