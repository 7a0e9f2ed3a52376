"""Kills trainings with SIGKILL at random moments, goes on with each until it is done; checks that nothing is lost.

    python tests/kills.py --kills 50 --seed 1

After each kill the best model saved before must load and score, and a training that was killed any number of times
must end with the same bytes in every file as one that was not (times apart). The trainings are forked from one
process that has loaded torch and does not train itself, so that a kill costs a fraction of a second.

A tenth of the kills hit one of several processes that train together. The others are stopped as torchrun does it,
and the run goes on with one, two or four of them, to the bytes that one comes to.
"""

import argparse
import contextlib
import itertools
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import torch._dynamo  # noqa: F401 (torch loads it with the first optimiser, which takes a second)

import charlm.run
from charlm.store.run_folder import RunFolder
from ranks import together
from runs import KINDS, STEPS, config, outcome

SHARED = ("stream-lstm-adam", "lines-gru-adamw")  # of KINDS, those that several processes train together
TEXT = 40 * "the boat sees the river.\na heron has the lamp!\nbread?\n"


def forked(act: Callable[[], object], patience: float) -> bool | None:
    """Runs a function in a process of its own for so many seconds; returns whether it went well, None if killed."""
    child = os.fork()
    if child == 0:
        try:
            act()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    ends = time.monotonic() + patience
    while time.monotonic() < ends:
        if (status := os.waitpid(child, os.WNOHANG))[0]:
            return status[1] == 0
        time.sleep(min(0.001, max(0.0, ends - time.monotonic())))
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)
    return None if os.WIFSIGNALED(status[1]) else status[1] == 0


def check_readable(run: Path) -> None:
    if RunFolder(run).model.exists():
        assert math.isfinite(charlm.load(run, device="cpu", threads=1).score(["the boat"])[0].logprob)


class Killer:
    """Trains one kind of model after the other, killing, and counts."""

    def __init__(self, scratch: Path, seed: int) -> None:
        self.scratch = scratch
        self.kills = self.runs = self.half_written = 0
        self._random = random.Random(seed)
        self._corpus = scratch / "corpus.txt"
        self._corpus.write_text(TEXT)

    def train(self, kind: str, run: Path) -> None:
        settings = config(self._corpus, kind, evaluate_every="2 steps", keep=2)
        charlm.train(settings, out=run, resume=RunFolder(run).holds_run, threads=1)

    def kill_until_done(self, kind: str, most: int, ends: float) -> None:
        """Kills trainings of a kind at random moments of their time until as many kills are made, or time is up."""
        whole = self.scratch / f"{kind}-whole"
        started = time.monotonic()
        assert forked(lambda: self.train(kind, whole), math.inf), "the undisturbed training failed"
        duration = time.monotonic() - started
        expected = outcome(whole)
        while self.kills < most and time.monotonic() < ends:
            run = self.scratch / f"{kind}-{self.runs}"
            done = None
            while done is None:
                enough = self.kills >= most
                patience = math.inf if enough else self._random.uniform(0, duration)
                done = forked(lambda run=run: self.train(kind, run), patience)  # type: ignore[misc]
                assert done is not False, f"{run}: could not go on"
                if done is None:
                    self.kills += 1
                    self.half_written += any(run.rglob("*.new"))
                    check_readable(run)
            assert outcome(run) == expected, f"{run} differs from {whole}"
            self.runs += 1
            shutil.rmtree(run)

    def kill_ranks_until_done(self, kind: str, most: int, ends: float) -> None:
        """Kills one of several processes that train together, again and again, until as many kills are made."""
        settings = config(
            self._corpus, kind, evaluate_every="2 steps", keep=2, batch_size=32, budget=f"{STEPS} steps"
        )
        whole = self.scratch / f"{kind}-ranks-whole"
        started = time.monotonic()
        assert together(1, lambda: charlm.train(settings, out=whole, threads=1)).codes == [0]
        duration, expected = time.monotonic() - started, outcome(whole)
        while self.kills < most and time.monotonic() < ends:
            run = self.scratch / f"{kind}-ranks-{self.runs}"
            for start in itertools.count():
                size, enough = self._random.choice((1, 2, 4)), self.kills >= most
                dead = self._random.randrange(size)
                patience = self._random.uniform(0, 1.5 * duration)

                def kill(processes: Sequence[int], dead: int = dead, patience: float = patience) -> None:
                    time.sleep(patience)
                    os.kill(processes[dead], signal.SIGKILL)  # where it has ended, it is not waited for yet
                    time.sleep(self._random.uniform(0, 0.2))  # torchrun looks ten times a second
                    for rank in set(range(len(processes))) - {dead}:
                        os.kill(processes[rank], signal.SIGTERM)

                ended = together(
                    size,
                    lambda run=run: charlm.train(settings, out=run, threads=1),  # type: ignore[misc]
                    restarts=start,
                    watch=None if enough else kill,
                )
                if not any(ended.codes):
                    break
                others = {code for rank, code in enumerate(ended.codes) if rank != dead}
                told = ended.said.count("charlm: ")
                assert (ended.codes[dead], others - {0, 1, 143, -signal.SIGTERM}) == (-signal.SIGKILL, set()), ended
                assert (told <= 1, ended.said.count("Traceback")) == (True, 0), ended
                self.kills += 1
                self.half_written += any(run.rglob("*.new"))
                check_readable(run)
            assert outcome(run) == expected, f"{run} differs from {whole}"
            self.runs += 1
            shutil.rmtree(run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=math.inf, help="end after so long, with fewer kills")
    arguments = parser.parse_args()
    plan = [(Killer.kill_until_done, kind, arguments.kills * 0.9 / len(KINDS)) for kind in KINDS]
    plan += [(Killer.kill_ranks_until_done, kind, arguments.kills * 0.1 / len(SHARED)) for kind in SHARED]
    total = sum(kills for *_, kills in plan)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        killer = Killer(Path(folder), arguments.seed)
        started, due = time.monotonic(), 0.0
        for act, kind, kills in plan:
            due += kills
            act(killer, kind, round(due), started + 60 * arguments.minutes * due / total)
    print(
        f"{killer.kills} kills of {killer.runs} trainings, {killer.half_written} of them in the middle of writing "
        "a file: every best model could be read, every training ended as if undisturbed"
    )


if __name__ == "__main__":
    main()
