"""What many tests share: a small text and small runs trained on it. They are read; no test writes into them."""

import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Models this small gain nothing from threads, and threads that wait for each other on a busy machine take minutes.
# Read when torch is loaded, here and in the processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"

# No test here is about speed, and a busy machine must not fail one. A landing is judged by the same examples each
# time, so that it passes or fails for what it changes; `make check` and `make fuzz` look for new ones.
settings.register_profile("charlm", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("charlm")

# A shell has programs in its background ignore Ctrl-C, and nohup SIGHUP; what is ignored stays so, in training too.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

_LONGEST = ("test_installation.py", "test_course.py")  # a test of theirs takes minutes


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the longest tests, so that at the end no core waits for one of them."""
    items.sort(key=lambda item: item.path.name not in _LONGEST)


TEXT = 2 * "".join(
    f"{subject} {verb} {what}.\n"
    for subject in ("the boat", "the heron", "a miller")
    for verb in ("sees", "has", "likes")
    for what in ("the river", "the lamp", "bread", "a book")
)


@pytest.fixture(scope="session")
def tiny_text() -> str:
    """About 2 kB in 72 lines."""
    return TEXT


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The text as a file."""
    path = tmp_path_factory.mktemp("corpus") / "tiny.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path) -> Path:
    """The folder of a run: stream framing, LSTM, 40 steps, evaluated every 10."""
    return _train(tiny_corpus, tmp_path_factory.mktemp("stream") / "run", "stream", {"cell": "lstm"})


@pytest.fixture(scope="session")
def tiny_lines_run(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path) -> Path:
    """The folder of a run: lines framing, GRU with the reset gate before, 40 steps, evaluated every 10."""
    return _train(tiny_corpus, tmp_path_factory.mktemp("lines") / "run", "lines", {"cell": "gru-before"})


@pytest.fixture(scope="session")
def tiny_mixture_run(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path) -> Path:
    """The folder of a run as `tiny_run`, into whose model n-grams of up to three characters are mixed."""
    return _train(tiny_corpus, tmp_path_factory.mktemp("mixture") / "run", "stream", {"cell": "lstm", "ngram": 3})


def _train(corpus: Path, out: Path, framing: str, model: dict[str, Any]) -> Path:
    import charlm

    config = {
        "corpus": {"path": str(corpus), "framing": framing, "split": "tail"},
        "model": {"hidden_size": 16, **model},
        "training": {
            "budget": "40 steps",
            "evaluate_every": "10 steps",
            "batch_size": 8,
            "sequence_length": 32,
            "learning_rate": 0.02,
            "device": "cpu",
        },
        "sampling": {"length": 40, "temperature": 0.7},
    }
    charlm.train(config, out=out)
    return out


SECONDS = 30  # far more than any of it takes on a busy machine, and less than for ever
MEMORY = 1 << 30  # bytes beyond what the process has


@pytest.fixture(scope="session")
def bounds() -> Callable[[], AbstractContextManager[None]]:
    """A context that fails what hangs in it, or takes much memory."""
    return _bounds


@contextmanager
def _bounds() -> Iterator[None]:
    def too_long(*_: Any) -> None:
        raise TimeoutError(f"not refused within {SECONDS} seconds")

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, too_long)
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
