"""Shards: the text of a corpus, decoded, normalised and counted once, part by part, each part in a file of its own.

A part is a file, or some megabytes of a large one that is not packed. Several processes of this module make the
shards of a text side by side: decoding, unpacking and normalising hold Python's lock, so threads would not do. A
shard whose process was killed is made again; those that were finished are used as they are.

    000017.text    UTF-8; a surrogate stands for a byte that is no text
    000017.json    its facts, written last: without them there is no shard
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from charlm.errors import CorpusError
from charlm.system.encodings import is_utf8
from charlm.system.threads import thread_count
from charlm.text.columns import Columns, Field
from charlm.text.lines import complete_lines
from charlm.text.reading import read_files
from charlm.text.source import Span, cut_file
from charlm.text.vocabulary import CODE_POINTS, count_points, normalize_pieces

SPAN_BYTES = 1 << 26
_MOST_PROCESSES = 8  # of a hundred megabytes each; a disk is hardly faster than they are
_TOLD_SECONDS = 0.5  # between two lines of a process about its progress


@dataclass(frozen=True)
class Reading:
    """How the bytes of files become text; `lines` ends each text with a newline and leaves out what is empty.

    Attributes:
        level: see `read_pieces`.
        encoding: see `read_pieces`.
        strict: see `read_pieces`.
        field: see `Columns`.
        framing: `lines` or `stream`.
        max_line_length: in lines framing, longer lines are left out; None: none.
        normalization: see `normalize`.
        lowercase: see `normalize`.
        piece_size: the number of bytes read at a time.
    """

    level: str
    encoding: str
    strict: bool
    field: Field | None
    framing: str
    max_line_length: int | None
    normalization: str
    lowercase: bool
    piece_size: int

    def columns(self, notes: list[str]) -> Columns:
        """Returns what selects the texts of each file."""
        return Columns(self.field, self.framing == "lines", notes)

    def normalize(self, pieces: Iterable[str]) -> Iterator[str]:
        """Yields what normalisation makes of decoded text."""
        return normalize_pieces(pieces, self.normalization, self.lowercase)

    def frame(self, pieces: Iterable[str], facts: Facts) -> Iterator[str]:
        """Yields what framing makes of normalised text."""
        if self.framing == "stream":
            return iter(pieces)
        if self.max_line_length is None:
            return drop_empty_lines(pieces)
        return _drop_long_lines(pieces, self.max_line_length, facts)


@dataclass
class Facts:
    """What is known about a text, or a part of one.

    Attributes:
        characters: how many there are.
        lines: how many newlines there are.
        points: the code points that occur, ascending.
        counts: how often each of them does.
        long_lines: how many lines were left out because they were too long.
        end: the last character.
        size: the size in UTF-8, in bytes.
        checksum: CRC-32 of that.
        notes: what a person should know.
        alike: the names of files by what they look like, see `Columns`.
        skipped: files of zip archives that are not text.
    """

    characters: int = 0
    lines: int = 0
    points: list[int] = dataclass_field(default_factory=list)
    counts: list[int] = dataclass_field(default_factory=list)
    long_lines: int = 0
    end: str = "\n"
    size: int = 0
    checksum: int = 0
    notes: list[str] = dataclass_field(default_factory=list)
    alike: dict[str, list[str]] = dataclass_field(default_factory=dict)
    skipped: list[str] = dataclass_field(default_factory=list)

    def store(self, pieces: Iterable[str], file: IO[bytes], tell: Callable[[int], None]) -> None:
        """Writes a text, and counts it.

        Args:
            pieces: the text.
            file: takes it in UTF-8.
            tell: is told the number of bytes written, piece by piece.
        """
        found = self.found()
        for piece in pieces:
            if not piece:
                continue
            data = piece.encode("utf-8", "surrogatepass")
            file.write(data)
            self.size += len(data)
            self.checksum = zlib.crc32(data, self.checksum)
            self.characters += len(piece)
            self.lines += piece.count("\n")
            count_points(piece, found)
            self.end = piece[-1]
            tell(len(data))
        self._count(found)

    def found(self) -> NDArray[np.int64]:
        """Returns how often each code point occurs, shape (1,114,112,)."""
        found = np.zeros(CODE_POINTS, np.int64)
        found[self.points] = self.counts
        return found

    def _count(self, found: NDArray[np.int64]) -> None:
        there = np.flatnonzero(found)
        self.points, self.counts = there.tolist(), found[there].tolist()

    def add(self, part: Facts) -> None:
        """Counts what follows."""
        self.characters += part.characters
        self.lines += part.lines
        found = self.found()
        found[part.points] += part.counts
        self._count(found)
        self.size += part.size
        self.end = part.end

    def to_json(self) -> str:
        """Writes the facts."""
        return json.dumps(vars(self))

    @classmethod
    def from_json(cls, text: str) -> Facts:
        """Reads what `to_json` wrote."""
        return cls(**json.loads(text))


def drop_empty_lines(pieces: Iterable[str]) -> Iterator[str]:
    """Leaves out empty lines, and ends the last line with a newline."""
    is_begin = True  # of a line
    for piece in pieces:
        kept = piece.lstrip("\n") if is_begin else piece
        if "\n\n" in kept:
            full = "\n".join(filter(None, kept.split("\n")))
            first, last = ("\n" if char == "\n" else "" for char in (kept[0], kept[-1]))  # ends of full lines
            kept = f"{first}{full}{last}" if full else "\n"
        if kept:
            is_begin = kept[-1] == "\n"
            yield kept
    if not is_begin:
        yield "\n"


def _drop_long_lines(pieces: Iterable[str], max_line_length: int, facts: Facts) -> Iterator[str]:
    """Leaves out empty and overlong lines, and ends each line with a newline."""
    for complete in complete_lines(pieces):
        lines = list(filter(None, complete))
        kept = [line for line in lines if len(line) <= max_line_length]
        facts.long_lines += len(lines) - len(kept)
        if kept:
            yield "\n".join(kept) + "\n"


# ------------------------------------------------------------------------------------------------------ of one part


def cut_files(files: Iterable[str | Path], reading: Reading, span_bytes: int = SPAN_BYTES) -> list[Span]:
    """Cuts files into parts that can be read without those before them: behind newlines, if the text is UTF-8.

    Raises:
        CorpusError: a file cannot be read.
    """
    spans: list[Span] = []
    for file in map(Path, files):
        whole = reading.field is not None or not is_utf8(reading.encoding)
        spans += [Span(file)] if whole else cut_file(file, span_bytes)
    return spans


def make_shard(reading: Reading, span: Span, path: Path, tell: Callable[[int], None] = lambda size: None) -> Facts:
    """Writes the text of one part of the files, and its facts.

    Args:
        reading: how bytes become text.
        span: the part.
        path: what is written, without its suffixes.
        tell: see `Facts.store`.

    Raises:
        CorpusError: the part cannot be read, or is not text.
    """
    facts = Facts()
    columns = reading.columns(facts.notes)
    pieces = read_files(
        [span],
        level=reading.level,
        encoding=reading.encoding,
        note=facts.notes.append,
        read_bytes=reading.piece_size,
        columns=columns,
        skipped=None if reading.strict else facts.skipped,
    )
    begun = _with_suffix(path, f".{os.getpid()}.tmp")
    try:
        with begun.open("wb") as file:
            facts.store(reading.frame(reading.normalize(pieces), facts), file, tell)
        facts.alike = columns.alike
        os.replace(begun, _with_suffix(path, ".text"))
        begun.write_text(facts.to_json(), encoding="utf-8")
        os.replace(begun, _with_suffix(path, ".json"))
    except BaseException:
        begun.unlink(missing_ok=True)
        raise
    return facts


def find_shard(path: Path) -> Facts | None:
    """Returns the facts of a shard that was finished earlier; None: there is none, or it is damaged."""
    try:
        facts = Facts.from_json(_with_suffix(path, ".json").read_text(encoding="utf-8"))
        found = size = 0
        with _with_suffix(path, ".text").open("rb") as file:
            while chunk := file.read(1 << 20):
                found = zlib.crc32(chunk, found)
                size += len(chunk)
    except (OSError, ValueError, TypeError, KeyError, IndexError):
        return None
    return facts if (found, size) == (facts.checksum, facts.size) else None


def _with_suffix(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


# ------------------------------------------------------------------------------------------------- of a whole text


def shard_path(folder: Path, number: int) -> Path:
    """Returns where the text of a shard is."""
    return folder / f"{number:06}.text"


def make_shards(
    reading: Reading,
    spans: Sequence[Span],
    folder: Path,
    *,
    keep: Callable[[int], None] = lambda size: None,
    tell: Callable[[int], None] = lambda size: None,
    processes: int | None = None,
) -> list[Facts]:
    """Makes the shards of a text that are not there yet.

    Args:
        reading: how bytes become text.
        spans: the parts of the text, in order.
        folder: where the shards are.
        keep: is told the size of each shard that is there already.
        tell: is told the bytes of text that are written.
        processes: so many make shards side by side, and one is this process; None: as many as there are threads
            to use, at most eight.

    Returns:
        The facts of all shards, in order.

    Raises:
        CorpusError: a part cannot be read, or is not text.
        OSError: there is no room.
    """
    facts = [find_shard(folder / f"{number:06}") for number in range(len(spans))]
    for found in facts:
        if found is not None:
            keep(found.size)
    missing = [number for number, found in enumerate(facts) if found is None]
    processes = min(len(missing), processes or min(thread_count(), _MOST_PROCESSES))
    lock = threading.Lock()

    def tell_safely(size: int) -> None:
        with lock:
            tell(size)

    with ExitStack() as opened:
        if processes < 2:
            made: Iterator[Facts] = (
                make_shard(reading, spans[number], folder / f"{number:06}", tell) for number in missing
            )
        else:
            helpers = _Helpers(reading, tell_safely)
            threads = opened.enter_context(ThreadPoolExecutor(processes))
            opened.callback(threads.shutdown, wait=False, cancel_futures=True)
            opened.callback(helpers.end)
            made = threads.map(lambda number: helpers.make(spans[number], folder / f"{number:06}"), missing)
        for number in missing:
            try:
                facts[number] = next(made)
            except CorpusError:
                if spans[number].begin:
                    _refuse(reading, spans[number].path)
                raise
    return [found for found in facts if found is not None]


def _refuse(reading: Reading, path: Path) -> None:
    """Reads a file from its beginning, for a message that names the line and the place of what is wrong in it."""
    files, columns = [path], reading.columns([])
    for _ in read_files(files, level=reading.level, encoding=reading.encoding, columns=columns, skipped=None):
        pass


class _Helpers:
    """Processes that make shards, one for each thread that asks for shards."""

    def __init__(self, reading: Reading, tell: Callable[[int], None]) -> None:
        self._reading = reading
        self._tell = tell
        self._own = threading.local()
        self._all: list[subprocess.Popen[str]] = []
        self._ended = False

    def make(self, span: Span, path: Path) -> Facts:
        """Has a shard made; where the process cannot, it is made here."""
        if self._ended:
            raise CorpusError("stopped")
        told, refusal = 0, None
        with contextlib.suppress(OSError, ValueError):  # it was killed, or cannot be started
            process = self._process()
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps([str(span.path), span.begin, span.end, str(path)]) + "\n")
            process.stdin.flush()
            while line := process.stdout.readline():
                answer = json.loads(line)
                if isinstance(answer, int):
                    told += answer
                    self._tell(answer)
                elif answer is None:
                    return Facts.from_json(_with_suffix(path, ".json").read_text(encoding="utf-8"))
                else:
                    refusal = str(answer)
                    break
        if self._ended:
            raise CorpusError("stopped")
        if refusal is not None:
            raise CorpusError(refusal)
        self._tell(-told)
        return make_shard(self._reading, span, path, self._tell)

    def _process(self) -> subprocess.Popen[str]:
        if not hasattr(self._own, "process"):
            paths = [*filter(None, [os.environ.get("PYTHONPATH")]), str(Path(__file__).parents[2])]
            self._own.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "charlm.text.shards", json.dumps(asdict(self._reading))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,  # Ctrl-C is for this process alone
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
            )
            self._all.append(self._own.process)
        process: subprocess.Popen[str] = self._own.process
        return process

    def end(self) -> None:
        """Ends the processes, whatever they are at."""
        self._ended = True
        for process in self._all:
            process.kill()
            with contextlib.suppress(OSError):
                process.communicate()


def main(settings: str) -> None:
    """Makes the shards that standard input asks for, a line each, and answers: null, or why not."""
    reading = Reading(**json.loads(settings))
    untold, when = 0, time.monotonic()

    def tell(size: int) -> None:
        nonlocal untold, when
        untold += size
        if time.monotonic() - when > _TOLD_SECONDS:
            print(untold, flush=True)
            untold, when = 0, time.monotonic()

    for line in sys.stdin:
        path, begin, end, shard = json.loads(line)
        try:
            make_shard(reading, Span(Path(path), begin, end), Path(shard), tell)
        except (CorpusError, OSError) as error:
            print(json.dumps(str(error)), flush=True)
        else:
            print(untold, flush=True)
            untold = 0
            print("null", flush=True)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):  # who asked is gone
        main(sys.argv[1])
