"""Whatever happens to a training or its folder: it goes on to the exact end, or is refused with one message."""

import builtins
import errno
import itertools
import os
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

import charlm
from charlm.errors import Interrupted, RunError, TrainingError
from charlm.store.run_folder import RunFolder
from runs import StopAt, config, contents, outcome

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SETTINGS = {"budget": "12 steps", "evaluate_every": "4 steps", "keep": 2, "learning_rate": 0.01}
SENTENCES = ["the boat sees the river.", "the lamp?"]

# Files written: checkpoint, vocabulary, configuration and n-grams; then at each of three evaluations metrics,
# samples, and the checkpoint twice, once to stay, and at two of them, which find the loss lower, weights; at the
# end the checkpoint, which then knows that time is up, and weights with the powers of a memory. Each is opened,
# written, synced and renamed.
OPERATIONS = 4 * (4 + 3 * 4 + 2 + 1 + 1)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path) -> dict[str, Any]:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    charlm.train(config(tiny_corpus, **SETTINGS), out=run)
    return outcome(run)


def train(corpus: Path, run: Path) -> None:
    """Begins, or goes on with what is there."""
    charlm.train(config(corpus, **SETTINGS), out=run, resume=RunFolder(run).holds_run)


# --- writing that fails, or never ends -------------------------------------------------------------


class Killed(BaseException):
    """Nothing catches it, as nothing catches kill -9 or a power cut."""


@contextmanager
def fault_at(operation: int, fault: BaseException) -> Iterator[Callable[[], int]]:
    """Raises a fault at the n-th operation on a file of a run; a write has then written a half.

    After `Killed` nothing is removed any more, as no process removes anything once it is killed.

    Yields:
        A function that tells how many operations there were.
    """
    count, sync, real_open, real_unlink = itertools.count(1), os.fsync, open, os.unlink
    made = 0

    def reached() -> bool:
        nonlocal made
        made = next(count)
        return made == operation

    class File:
        def __init__(self, file: IO[bytes]) -> None:
            self.file = file

        def __enter__(self) -> "File":
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def write(self, content: bytes) -> int:
            if reached():
                self.file.write(content[: len(content) // 2])
                raise fault
            return self.file.write(content)

    def open_file(*args: Any, **settings: Any) -> Any:
        beside = args[1:] == ("xb",)  # a file of a run is written beside its place, which must be free
        return File(faulty(real_open)(*args)) if beside else real_open(*args, **settings)

    def unlink(*args: Any, **settings: Any) -> None:
        if not (isinstance(fault, Killed) and 0 < operation <= made):
            real_unlink(*args, **settings)

    def faulty(act: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            if not (act is sync and os.path.isdir(args[0])) and reached():  # a folder's sync may fail
                raise fault
            return act(*args)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtins, "open", open_file)
        patch.setattr(os, "unlink", unlink)
        patch.setattr(os, "fsync", faulty(os.fsync))
        patch.setattr(os, "replace", faulty(os.replace))
        yield lambda: made


def test_the_operations_are_all_there_are(tmp_path: Path, tiny_corpus: Path):
    with fault_at(0, Killed()) as made:
        train(tiny_corpus, tmp_path / "run")
    assert made() == OPERATIONS


@pytest.mark.parametrize("operation", range(1, OPERATIONS + 1))
@pytest.mark.parametrize("fault", ["no space", "input/output error", "killed"])
def test_a_fault_at_any_operation_on_a_file_costs_nothing(
    tmp_path: Path, tiny_corpus: Path, undisturbed: dict[str, Any], fault: str, operation: int
):
    run = tmp_path / "run"
    number = {"no space": errno.ENOSPC, "input/output error": errno.EIO}.get(fault)
    error = OSError(number, os.strerror(number)) if number else Killed()
    with pytest.raises((TrainingError, Killed)) as caught, fault_at(operation, error):
        train(tiny_corpus, run)
    if number:
        assert f"cannot be written: {os.strerror(number)}" in str(caught.value)
        assert str(run) in str(caught.value)
        assert not list(run.rglob("*.new"))
    if RunFolder(run).model.exists():
        assert charlm.load(run).score(SENTENCES)[0].characters == len(SENTENCES[0])
    train(tiny_corpus, run)
    assert outcome(run) == undisturbed


@pytest.mark.parametrize("name", ["vocabulary.json", "config.yaml", "ngram.safetensors", "model.safetensors",
                                  "metrics.jsonl", "samples.txt", "last/checkpoint.safetensors"])  # fmt: skip
def test_a_disk_with_room_for_less_than_a_file_keeps_what_was_saved_before(
    tmp_path: Path, tiny_corpus: Path, undisturbed: dict[str, Any], name: str
):
    rehearsal, run = tmp_path / "rehearsal", tmp_path / "run"
    train(tiny_corpus, rehearsal)
    with pytest.raises(Interrupted):
        charlm.train(config(tiny_corpus, **SETTINGS), out=run, observer=StopAt(5))
    file = rehearsal / name
    before = {path: content for path, content in contents(run).items() if path.name != "lock"}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = file.stat().st_size
    limit = size - max(1, size // 20)  # seconds stand in the files too, with fewer digits or more
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))  # a write beyond it fails half-way
    try:
        with pytest.raises(TrainingError, match="cannot be written: File too large"):
            train(tiny_corpus, run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    after = contents(run)
    assert before.keys() <= after.keys()
    assert not list(run.rglob("*.new"))
    assert charlm.load(run).score(SENTENCES)[0].characters == len(SENTENCES[0])
    train(tiny_corpus, run)
    assert outcome(run) == undisturbed


# --- files that are damaged ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def half_way(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path) -> Path:
    """A run stopped in the middle."""
    run = tmp_path_factory.mktemp("half") / "run"
    with pytest.raises(Interrupted):
        charlm.train(config(tiny_corpus, **SETTINGS), out=run, observer=StopAt(9))
    RunFolder(run).lock.write_text("process 1 on a-machine-that-lost-power\n")
    return run


FILES = ["config.yaml", "vocabulary.json", "model.safetensors", "ngram.safetensors", "metrics.jsonl",
         "samples.txt", "last/checkpoint.safetensors", "last/step-8.safetensors", "last/lock"]  # fmt: skip
SCORING_READS = FILES[:4]
FLIPS = 24


def truncated(content: bytes) -> Iterator[bytes]:
    for length in sorted({0, 1, len(content) // 2, len(content) - 1}):
        yield content[: max(length, 0)]


def flipped(content: bytes) -> Iterator[bytes]:
    """The content with one bit flipped, at places spread over all of it."""
    rng = random.Random(len(content))
    for part in range(FLIPS if content else 0):
        damaged = bytearray(content)
        at = int((part + rng.random()) / FLIPS * len(content))
        damaged[at] ^= 1 << rng.randrange(8)
        yield bytes(damaged)


@pytest.mark.parametrize("damage", [truncated, flipped])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_or_does_no_harm(
    tmp_path: Path, half_way: Path, tiny_corpus: Path, undisturbed: dict[str, Any], name: str,
    damage: Callable[[bytes], Iterator[bytes]],
):  # fmt: skip
    expected = charlm.load(half_way).score(SENTENCES)
    for number, content in enumerate(damage((half_way / name).read_bytes())):
        run = Path(shutil.copytree(half_way, tmp_path / str(number)))
        (run / name).write_bytes(content)
        try:
            assert charlm.load(run).score(SENTENCES) == expected
        except RunError as error:
            assert name in SCORING_READS
            assert str(run) in str(error)  # noqa: PT017
            assert name == "config.yaml" or len(str(error).splitlines()) == 1  # noqa: PT017 (it lists every problem)
        try:
            train(tiny_corpus, run)
        except RunError as error:
            assert str(run / name) in str(error)  # noqa: PT017
            assert len(str(error).splitlines()) == 1  # noqa: PT017
        else:
            assert outcome(run) == undisturbed


def test_each_file_of_a_run_is_among_those_that_are_damaged(half_way: Path):
    assert {str(path.relative_to(half_way)) for path in contents(half_way)} == {*FILES, "last/step-4.safetensors"}


# --- killed ----------------------------------------------------------------------------------------


def test_fifty_kills_at_random_moments_cost_nothing():
    command = [sys.executable, ROOT / "tests" / "kills.py", "--kills", "50", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("50 kills of ")
