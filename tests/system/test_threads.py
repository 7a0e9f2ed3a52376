"""A loaded model works in forked and spawned processes and in several threads, and gives the same numbers there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import charlm
from charlm.errors import InputError
from charlm.system.threads import parallel_map, set_threads

PATIENCE_SECONDS = 60  # only what hangs meets it

PROGRAM = """
import multiprocessing, os, sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import charlm, torch

way, run, corpus = sys.argv[1:]
SENTENCES = ["the boat sees the river. " * 20] * 100
lm = charlm.load(run, device="cpu")

def work(number):
    here = lm if number % 2 == 0 else charlm.load(run, device="cpu", threads=2)
    return round(here.score(SENTENCES)[number].logprob, 2), next(here.sample(prompt="the ", length=20))

def train(number):
    out = os.path.join(os.path.dirname(run), f"run-{way}-{number}")
    charlm.train({"corpus": {"path": corpus}}, budget="3 steps", out=out, threads=2)
    return number

def in_threads(number):
    with ThreadPoolExecutor(3) as threads:
        return list(threads.map(work, range(number)))

def fork_once_more(number):
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writing, repr(work(number)).encode())
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    return eval(os.read(reading, 1000))

if __name__ == "__main__":
    expected = work(0)
    assert torch.get_num_threads() == 2, "the parent computes with a team of threads"
    train(9)
    if way == "threads":
        assert in_threads(6) == [expected] * 6
    else:
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(way)) as processes:
            assert list(processes.map(work, range(4))) == [expected] * 4
            assert list(processes.map(train, range(2))) == [0, 1]
            assert list(processes.map(in_threads, [3])) == [[expected] * 3]
            assert list(processes.map(fork_once_more, [1])) == [expected]
    assert work(1) == expected, "the parent is as it was"
    assert torch.get_num_threads() == 2
    print("done")
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["fork", "forkserver", "spawn", "threads"])
def test_a_loaded_model_works_in_a_pool(way: str, tiny_corpus: Path, tmp_path: Path) -> None:
    # Large enough for teams of threads.
    charlm.train(
        {"corpus": {"path": str(tiny_corpus)}, "model": {"ngram": 3}}, budget="3 steps", out=tmp_path / "run"
    )
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, tmp_path / "program.py", way, tmp_path / "run", tiny_corpus],
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_a_parallel_map_keeps_the_order_and_the_number_of_threads() -> None:
    before = torch.get_num_threads()
    assert list(parallel_map(lambda x: x * x, range(20))) == [x * x for x in range(20)]
    assert list(parallel_map(lambda x: torch.get_num_threads(), [0])) == [1]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("threads", [0, -1, 1025])
def test_a_number_of_threads_that_cannot_be_is_refused(threads: int) -> None:
    with pytest.raises(InputError, match=f"threads {threads}: must be from 1 to 1024"):
        set_threads(threads)
