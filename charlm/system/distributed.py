"""Processes that work together, as `torchrun` starts them: who is who, and what they tell each other.

Rank 0 leads: it reads, counts, evaluates, saves and prints, while the others wait for it. The others follow: they
hold a share of a training's batch, or compute what rank 0 hands out, and end where rank 0 ends. A process that
nobody started with others is rank 0 of one.

This is the only module that knows `torch.distributed`, which is loaded only where there are other processes: gloo
carries everything between CPUs, NCCL the tensors between CUDA devices.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from charlm.errors import CharlmError, InputError, Interrupted, TrainingError
from charlm.system.threads import core_count, set_threads, thread_count

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

_STEP_SECONDS = 600.0  # for all processes to reach the same step
_WAIT_SECONDS = 86400.0  # for rank 0 to read, count, evaluate or save; a process that ends is noticed at once
_GRACE_SECONDS = 0.3  # left to the one that says why: torchrun ends all when the first has ended
_SHARED_BYTES = 1 << 26
_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what torchrun sets
_has_joined = False


def is_follower() -> bool:
    """Whether this process was started beside another one that leads."""
    return _is_started_together() and _number("RANK") > 0


def is_restarted() -> bool:
    """Whether torchrun has started these processes again, since one of them had failed."""
    return _is_started_together() and _number("TORCHELASTIC_RESTART_COUNT") > 0


def processes_together() -> int:
    """Returns how many processes were started together, on all machines."""
    return max(1, _number("WORLD_SIZE")) if _is_started_together() else 1


def processes_here() -> int:
    """Returns how many processes share the cores of this machine."""
    return max(1, _number("LOCAL_WORLD_SIZE")) if _is_started_together() else 1


def _is_started_together() -> bool:
    return all(os.environ.get(name) for name in _NEEDED)


def _number(name: str) -> int:
    text = os.environ.get(name, "0")
    if not text.isdecimal():
        raise InputError(f"{name}={text}: not a number; torchrun sets it")
    return int(text)


class Ranks:
    """Processes that work together; alone, each method does nothing beside its obvious part.

    Attributes:
        rank: the number of this process.
        size: how many processes there are.
        are_together: whether torchrun started them, be it only one.
        threads: of this process while all of them compute.
    """

    def __init__(self, rank: int = 0, size: int = 1, *, are_together: bool = False, remedy: str = "") -> None:
        self.rank = rank
        self.size = size
        self.are_together = are_together
        self._remedy = remedy  # what the user can do where a process is lost
        self.threads = 1
        self._waiting: Any = None  # the group in which the others wait for rank 0
        self._store: Any = None  # what torchrun keeps for all of them

    @property
    def leads(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def set_threads(self, threads: int | None) -> None:
        """Sets how many threads each process has; None: the cores of this machine, shared by its processes."""
        if threads is None and self.are_together:
            threads = max(1, core_count() // processes_here())
        set_threads(threads)
        self.threads = thread_count()

    def sum(self, buffer: Tensor) -> Tensor:
        """Adds up the buffers of all ranks in a fixed tree; each of them gets the same bits.

            ((b_0 + b_1) + (b_2 + b_3)) + …

        Each rank adds up one piece of the buffers and hands its sum to all: 2 (N-1)/N of a buffer is sent by each,
        as little as by any way to add up.

        Args:
            buffer: shape (n,), n a multiple of `size`; it is overwritten.
        """
        if self.size == 1:
            return buffer
        import torch.distributed as dist

        with self._noticing():
            pieces = buffer.new_empty(buffer.shape)  # piece `rank` of every rank's buffer
            dist.all_to_all_single(pieces, buffer)
            dist.all_gather(list(buffer.chunk(self.size)), tree_sum(pieces.chunk(self.size)))
        return buffer

    def lead(self, act: Callable[[], T]) -> T:
        """Lets rank 0 act, and returns on every rank what it returns, which goes through JSON.

        It has the cores of the others on its machine meanwhile. Where it fails, rank 0 raises the error and the
        others end with its exit code, in silence.
        """
        if self.size == 1:
            return act()
        if not self.leads:
            told: T = self._hear()
            return told
        threads = thread_count()
        set_threads(max(self.threads, min(core_count(), self.threads * processes_here())))
        try:
            result = act()
        except BaseException as error:
            with suppress(TrainingError, SystemExit):  # another process is gone already
                self._tell(
                    {"exit": getattr(error, "exit_code", 130 if isinstance(error, KeyboardInterrupt) else 1)}
                )
            raise
        finally:
            set_threads(threads)
        self._tell({"value": result})
        return result

    def _tell(self, message: dict[str, Any]) -> None:
        import torch
        import torch.distributed as dist

        data = torch.frombuffer(bytearray(json.dumps(message).encode()), dtype=torch.uint8)
        with self._noticing():
            dist.broadcast(torch.tensor([len(data)]), 0, group=self._waiting)
            dist.broadcast(data, 0, group=self._waiting)

    def _hear(self) -> Any:
        import torch
        import torch.distributed as dist

        with self._noticing():
            dist.broadcast(length := torch.zeros(1, dtype=torch.int64), 0, group=self._waiting)
            dist.broadcast(data := torch.empty(int(length), dtype=torch.uint8), 0, group=self._waiting)
        message = json.loads(bytes(data.numpy()))
        if "exit" in message:
            raise SystemExit(message["exit"])
        return message["value"]

    def copy_first(self, tensors: Sequence[Tensor]) -> None:
        """Copies the numbers of rank 0's tensors into those of all others, which have the same shapes."""
        if self.size == 1:
            return
        import torch.distributed as dist

        with self._noticing():
            for tensor in tensors:
                here = tensor.detach().cpu().contiguous()
                dist.broadcast(here, 0, group=self._waiting)
                if not self.leads:
                    tensor.detach().copy_(here)

    def send(self, arrays: Sequence[NDArray[Any]] | None, rank: int) -> None:
        """Sends arrays, shapes (n_i,), to another rank, which has to `receive` them; None: there are no more."""
        import torch
        import torch.distributed as dist

        sizes = torch.tensor([-1] if arrays is None else [len(arrays), *map(len, arrays)])
        with self._noticing():
            dist.send(torch.tensor([len(sizes)]), rank, group=self._waiting)
            dist.send(sizes, rank, group=self._waiting)
            if arrays:
                dist.send(torch.from_numpy(np.concatenate(arrays)), rank, group=self._waiting)

    def receive(self, dtype: type[np.generic], rank: int) -> list[NDArray[Any]] | None:
        """Receives arrays of one type from another rank, in their order; None: there are no more."""
        import torch
        import torch.distributed as dist

        with self._noticing():
            dist.recv(length := torch.zeros(1, dtype=torch.int64), rank, group=self._waiting)
            dist.recv(sizes := torch.empty(int(length), dtype=torch.int64), rank, group=self._waiting)
            count, *lengths = sizes.tolist()
            if count < 0:
                return None
            numbers = np.empty(sum(lengths), dtype)
            if count:
                dist.recv(torch.from_numpy(numbers), rank, group=self._waiting)
        return np.split(numbers, np.cumsum(lengths[:-1])) if count else []

    def add(self, *numbers: float) -> list[float]:
        """Returns the sums of the numbers of all ranks, on each of them."""
        if self.size == 1:
            return list(numbers)
        import torch
        import torch.distributed as dist

        sums = torch.tensor(numbers, dtype=torch.float64)
        with self._noticing():
            dist.all_reduce(sums, group=self._waiting)
        return sums.tolist()

    def gather_rows(self, own: Tensor, sizes: Sequence[int]) -> Tensor | None:
        """Puts the rows that each rank holds below each other, on rank 0; the others get None.

        Args:
            own: shape (sizes[rank], ·).
            sizes: how many rows each rank has.
        """
        if self.size == 1:
            return own
        import torch
        import torch.distributed as dist

        here = own.detach().cpu().contiguous()
        with self._noticing():
            if not self.leads:
                dist.send(here, 0, group=self._waiting)
                return None
            parts = [here, *(here.new_empty(size, *here.shape[1:]) for size in sizes[1:])]
            for rank, part in enumerate(parts[1:], 1):
                dist.recv(part, rank, group=self._waiting)
        return torch.cat(parts).to(own.device)

    def share(
        self, array: NDArray[Any] | None, dtype: str, length: int, *, piece_bytes: int = _SHARED_BYTES
    ) -> NDArray[Any]:
        """Gives every rank an array of rank 0, if it is large in memory that processes of a machine share.

        Where rank 0 has mapped it from a file, the others map the same file if they find it; those on another
        machine receive a copy, into a temporary file which they map.

        Args:
            array: on rank 0, shape (length,).
            dtype: of its numbers.
            length: how many there are.
            piece_bytes: are sent at a time; an array of no more stays in memory.
        """
        if self.size == 1 and array is not None:
            return array
        import torch
        import torch.distributed as dist

        file = self.lead(lambda: _find_file(array))
        found = array if self.leads else _map_same(file, dtype, length)
        missing = torch.tensor([float(found is None)])
        with self._noticing():
            dist.all_reduce(missing, group=self._waiting)
        if missing.item() == 0 and found is not None:
            return found
        received = found if found is not None else _make_room(dtype, length, piece_bytes)
        step = max(1, piece_bytes // np.dtype(dtype).itemsize)
        for start in range(0, length, step):
            piece = np.array(received[start : start + step])
            with self._noticing():
                dist.broadcast(torch.from_numpy(piece.view(np.uint8)), 0, group=self._waiting)
            if found is None:
                received[start : start + step] = piece
        return received

    @contextmanager
    def _noticing(self) -> Iterator[None]:
        """Turns the failure of a connection into an error with a message."""
        try:
            yield
        except RuntimeError as error:
            silent = "imed out" in str(error) or "imeout" in str(error)
            raise TrainingError(
                f"process {self.rank} of {self.size} on {socket.gethostname()}: another process of this command "
                f"{'does not answer any more' if silent else 'has ended'}; {self._remedy}"
            ) from None

    def is_first_to_fail(self) -> bool:
        """Whether no other rank has failed before; it is the one that tells why."""
        with suppress(Exception):  # the store may have gone with the process that was lost
            return bool(self._store.add("failures", 1) == 1)
        return True


ALONE = Ranks()


def tree_sum(tensors: Sequence[Tensor]) -> Tensor:
    """Adds up tensors in pairs of neighbours, and the sums in the same way; the first ones are overwritten.

    Of 2^k tensors, cut into 2^j pieces of neighbours, the sums of the pieces add up to the same bits.
    """
    left = list(tensors)
    while len(left) > 1:
        pairs = [left[i].add_(left[i + 1]) for i in range(0, len(left) - 1, 2)]
        left = pairs + left[len(pairs) * 2 :]
    return left[0]


_RESUME = "what was saved before is intact, and the same command with --resume goes on from there"


@contextmanager
def join_ranks(*, remedy: str = _RESUME) -> Iterator[Ranks]:
    """Joins the processes that torchrun has started together with this one, until the end of the block.

    Args:
        remedy: what the user can do where a process is lost.

    Raises:
        InputError: this process has done so before; or what torchrun says makes no sense.
        TrainingError: the others do not come.
    """
    if not _is_started_together():
        yield ALONE
        return
    global _has_joined
    rank, size = _number("RANK"), _number("WORLD_SIZE")
    if not 0 <= rank < size:
        raise InputError(f"RANK={rank} and WORLD_SIZE={size} make no sense; torchrun sets them")
    if _has_joined:
        raise InputError("torchrun starts one training: the processes beside this one have ended with the first")
    _has_joined = True
    ranks = Ranks(rank, size, are_together=True, remedy=remedy)
    if size == 1:
        yield ranks
        return
    import torch
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    has_cuda = torch.cuda.is_available()
    if has_cuda:
        torch.cuda.set_device(_number("LOCAL_RANK") % torch.cuda.device_count())
    backend, limit = "cpu:gloo,cuda:nccl" if has_cuda else "gloo", timedelta(seconds=_STEP_SECONDS)
    try:
        store, _, _ = next(rendezvous("env://", rank, size, timeout=limit))
        # torchrun starts processes again with the same store, in which the addresses of those before still stand.
        ranks._store = PrefixStore(f"charlm/{_number('TORCHELASTIC_RESTART_COUNT')}/{size}", store)
        dist.init_process_group(backend, store=ranks._store, rank=rank, world_size=size, timeout=limit)
        ranks._waiting = dist.new_group(backend="gloo", timeout=timedelta(seconds=_WAIT_SECONDS))
    except RuntimeError as error:
        raise TrainingError(
            f"process {rank} of {size} on {socket.gethostname()}: cannot reach the others ({str(error)[:200]})"
        ) from None
    try:
        yield ranks
    except (CharlmError, SystemExit) as error:
        told = isinstance(error, (Interrupted, SystemExit)) and not ranks.leads  # then rank 0 says so
        if told or not ranks.is_first_to_fail():
            code = error.code if isinstance(error, SystemExit) else error.exit_code
            if code:
                time.sleep(_GRACE_SECONDS)
            raise SystemExit(code) from None
        raise
    except Exception:
        ranks.is_first_to_fail()  # what the others notice then is not worth telling
        raise
    finally:
        with suppress(RuntimeError):
            dist.destroy_process_group()


def _find_file(array: NDArray[Any] | None) -> list[Any] | None:
    """Returns the file that a whole array is mapped from: its path, where the array begins, its size and date."""
    base: Any = array
    while base is not None and not isinstance(base, np.memmap):
        base = getattr(base, "base", None)
    if array is None or base is None or not isinstance(base.filename, (str, Path)):
        return None
    offset = base.offset + array.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    with suppress(OSError):
        status = os.stat(base.filename)
        return [str(base.filename), offset, status.st_size, status.st_mtime_ns]
    return None


def _map_same(file: list[Any] | None, dtype: str, length: int) -> NDArray[Any] | None:
    """Maps the file that rank 0 has mapped, if it is here and the same."""
    if file is None:
        return None
    path, offset, size, changed = file
    with suppress(OSError, ValueError):
        status = os.stat(path)
        if (status.st_size, status.st_mtime_ns) == (size, changed):
            return np.memmap(path, dtype, "r", offset, (length,)).view(np.ndarray)
    return None


def _make_room(dtype: str, length: int, memory_bytes: int) -> NDArray[Any]:
    if length * np.dtype(dtype).itemsize <= memory_bytes:
        return np.empty(length, dtype)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype, "w+", 0, (length,)).view(np.ndarray)
