# ruff: noqa: E501
"""Command lines and inputs made at random, and the program run on them: no traceback, and only documented exit codes.

    python tests/generated.py RUN [COUNT [SEED]]

runs COUNT command lines in this process, and prints those that fail.
"""

import os
import random
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from typer.testing import CliRunner

from charlm.cli import app

EXIT_CODES = {0, 1, 2}
LONGEST_SECONDS = 60  # that a command line may take, on a machine that does other work as well

CONTENTS = [
    b"",
    b"\n",
    b"the boat sees the river.\n" * 40,
    b"one\rtwo\rthree\r",
    b"\xff\xfe\x00",
    b"\x00" * 50,
    b"caf\xe9\n",
    "河边的船\n".encode() * 30,
    "\ufeffhello\n".encode(),
    b"[" * 200_000,
    b'{"a":' * 100_000,
    b"9" * 5000 + b" ||| a ||| f ||| 1\n",
    b"0 ||| a boat ||| f ||| 1\n0 ||| boat a ||| f ||| nan\n",
    b"0 ||| a ||| f ||| 1e999\n",
    b"good\tbad\n",
    b"a\tb\tc\td\n",
    b'{"sentence_good": "a", "sentence_bad": "b"}\n',
    b'{"sentence_good": 1}\n',
    b'{"sentence_good": "\\ud800", "sentence_bad": "b"}\n',
    b"corpus: {path: a}\n",
    b"corpus: [\n",
    b"a: b\n",
    b"corpus:\n  path: missing.txt\ntraining: {budget: 100}\n",
    b'a,b\n"c\nd",e\n',
    b"PK\x03\x04" + b"x" * 50,
    b"\x1f\x8b" + b"x" * 50,
    b"%PDF-1.7\n",
    b"-\n--\n--help\n",
    b"\x1b[31m\n",
    b"a" * 100_000,
]
WORDS = [
    "",
    " ",
    "-",
    "--",
    "- he said",
    "--he",
    "the boat",
    "河",
    "\udcff",
    "\x1b[31m",
    "a" * 5000,
    "0",
    "1",
    "-1",
    "3.5",
    "1e400",
    "nan",
    "inf",
    "9" * 5000,
    "true",
    "null",
    "/dev/null",
    "/proc/self",
    ".",
    "..",
    "~",
    "*",
    "[",
    "corpus:",
    "corpus:nope",
    "{}",
    "[1",
    "a=b",
    "model.cell=gru",
    "model.hidden_size=8",
    "training.budget=100",
    "training.budget=2 steps",
    "corpus.path=1",
    "corpus.framing=lines",
    "x.y.z=1",
    "=",
    "model=",
    "1 step",
    "2 steps",
    "3 minutes ago",
    "0s",
    "cpu",
    "tpu",
    "cuda",
    "json",
    "jsonl",
    "tsv",
    "table",
    "kenlm",
    "srilm",
    "mean",
    "slor",
    "skip",
    "error",
    "auto",
    "gb18030",
    "rot13",
    "a,b",
    "nematus",
    "kaldi",
    "spread",
    "2",
    "10",
    "e",
]
COMMANDS = [
    ["train"], ["sample"], ["score"], ["rerank"], ["pairs"], ["eval"], ["inspect"], ["config", "init"],
    ["config", "show"], ["config", "check"], ["config", "schema"], ["corpus", "list"], ["corpus", "stats"], [],
    ["nonsense"],
]  # fmt: skip
OPTIONS = {
    "train": ["--corpus", "--budget", "--set", "--out", "--resume", "--from", "-q", "--device", "--threads"],
    "sample": ["--prompt", "--prompt-file", "--prompts", "--stop", "--only-new", "--memory", "--count", "--temperature", "--top-k",
               "--top-p", "--min-p", "--seed", "--format", "--encoding"],
    "score": ["--file", "-f", "--field", "--encoding", "--format", "--per-char", "--alternatives", "--rank",
              "--measure", "--log-base", "--context", "--document", "--no-bos", "--no-eos", "--unknown"],
    "rerank": ["--weight", "--input-format", "--encoding", "--length-bonus", "--measure", "--tune", "--metric"],
    "pairs": ["--measure", "--against", "--by", "--good", "--bad", "--no-header", "--encoding", "--format"],
    "eval": ["--baseline", "--dynamic", "--field", "--encoding", "--strict", "--format", "--learning-rate", "--decay"],
    "config": ["--corpus", "--budget", "--set"],
    "corpus": ["--encoding"],
}  # fmt: skip


def generate(rng: random.Random, run: Path, folder: Path) -> tuple[list[str], bytes]:
    """Returns the arguments of a command line, and its standard input; files that it names are in the folder."""
    command = rng.choice(COMMANDS)
    file = folder / f"file{rng.randrange(3)}{rng.choice(['', '.txt', '.yaml', '.tsv', '.gz'])}"
    file.write_bytes(rng.choice(CONTENTS))

    def value() -> str:
        return rng.choice([str(file), str(file), str(run), str(folder), rng.choice(WORDS), rng.choice(WORDS), "-"])

    arguments = list(command)
    if command and command[0] in ("sample", "score", "rerank", "pairs", "eval", "inspect") and rng.random() < 0.9:
        arguments.append(str(run) if rng.random() < 0.9 else value())
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        options = OPTIONS.get(command[0] if command else "", ["--help", "--version"])
        if rng.random() < 0.6:
            arguments.append(rng.choice(options))
        if rng.random() < 0.8:
            arguments.append(value())
    if command == ["train"]:  # never for long, nor beside the folder
        arguments += [
            "--budget",
            rng.choice(["1 step", "2 steps"]),
            "--out",
            str(folder / f"run{rng.randrange(3)}"),
        ]
        arguments += ["--set", "model.hidden_size=4", "--set", "model.ngram=2"]
    if command == ["sample"]:
        arguments += ["--length", rng.choice(["1", "5", "0", "x"])]
    return arguments, rng.choice(CONTENTS)


class TooSlow(BaseException):
    """A command line that takes too long; nothing catches it on the way."""


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Ends a block that takes longer."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def run_generated(run: Path, count: int, seed: int = 0) -> list[str]:
    """Runs so many command lines, and returns what is wrong with those that end as no program should."""
    rng, faults = random.Random(seed), []
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        try:
            for _ in range(count):
                arguments, given = generate(rng, run, Path(scratch))
                shown = [argument[:80] for argument in arguments]
                try:
                    with within(LONGEST_SECONDS):
                        result = CliRunner().invoke(app, arguments, input=given)
                except TooSlow:
                    faults.append(f"{shown} {given[:40]!r}: takes longer than {LONGEST_SECONDS} s")
                    continue
                unknown = result.exception is not None and not isinstance(result.exception, SystemExit)
                silent = result.exit_code not in (0,) and not result.stderr.strip() and arguments
                if unknown or silent or result.exit_code not in EXIT_CODES or "Traceback" in result.stderr:
                    faults.append(f"{shown} {given[:40]!r}: exit {result.exit_code}, {result.exception!r:.300}")
        finally:
            os.chdir(before)
    return faults


if __name__ == "__main__":
    found = run_generated(Path(sys.argv[1]).resolve(), *map(int, sys.argv[2:]))
    print("\n".join(found))
    sys.exit(bool(found))
