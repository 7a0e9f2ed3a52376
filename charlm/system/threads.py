"""A parallel map: each thread takes a piece of work through to the end, alone on one core.

PyTorch and NumPy divide every large operation among their threads, which then wait for each other: hundreds of
times in a window of small products, and beside another busy process each wait can last until that one gives the
core away. Pieces that have nothing to do with each other, such as rows of a batch, need to wait only once, at their
end.

Torch is not loaded here: scoring does without. Where it is loaded, the number of threads is the one that it has.

A process that is forked has none of its parent's threads, but OpenMP in it waits for them for ever. Once this
module is loaded, every forked process therefore computes with one thread.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from charlm.errors import InputError
from charlm.system.arguments import check_integer

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_THREADS = 1024  # far more than that crash the process
_chosen: int | None = None  # by `set_threads`
_is_forked = False


def set_threads(threads: int | None) -> None:
    """Sets how many CPU threads there are to use; None changes nothing, and a forked process stays at one.

    Raises:
        InputError: there cannot be so many.
    """
    global _chosen
    if threads is None:
        return
    check_integer(threads, "threads")
    if not 1 <= threads <= MAX_THREADS:
        raise InputError(f"threads {threads}: must be from 1 to {MAX_THREADS}")
    if not _is_forked:
        _chosen = threads
        _set_torch_threads(threads)
        _controller().limit(limits=threads, user_api="blas")  # of NumPy


def thread_count() -> int:
    """Returns how many CPU threads there are to use: as chosen, else as OMP_NUM_THREADS says, else all cores."""
    if torch := _torch():
        return int(torch.get_num_threads())
    if _is_forked:
        return 1
    given = os.environ.get("OMP_NUM_THREADS", "")
    return _chosen or (int(given) if given.isdecimal() else 0) or core_count()


def core_count() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def tell_torch() -> None:
    """Tells torch, which has just been loaded, how many threads were chosen before."""
    if _is_forked or _chosen is not None:
        _set_torch_threads(thread_count() if _chosen is None else _chosen)


def parallel_map(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Yields the result for each item, in order; as many at a time as there are threads, each on one core."""
    threads = thread_count()
    if len(items) > 1:
        with _blas.limit():
            yield from _workers(threads, _torch() is not None).map(function, items)
        return
    yield from with_one_thread(lambda: [function(item) for item in items])


def with_one_thread(function: Callable[[], Result]) -> Result:
    """Calls a function in which torch divides no operation, whose result then depends on no number of threads."""
    threads = thread_count()
    _set_torch_threads(1)  # of this thread alone
    try:
        return function()
    finally:
        _set_torch_threads(threads)


@functools.cache
def _workers(threads: int, with_torch: bool) -> ThreadPoolExecutor:
    """Threads that divide no operation of torch further; they are others than those made before it was loaded."""
    return ThreadPoolExecutor(threads, "charlm", _set_torch_threads, (1,))


class _Blas:
    """The threads that NumPy's matrix products are divided among, which belong to the process as a whole."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._limit: AbstractContextManager[Any] | None = None

    @contextmanager
    def limit(self) -> Iterator[None]:
        """Leaves products undivided, as long as anybody asks for it."""
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._limit = _controller().limit(limits=1, user_api="blas")
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0 and self._limit is not None:
                    self._limit.__exit__(None, None, None)


@functools.cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


_blas = _Blas()


def _torch() -> Any:
    """Returns torch if it is loaded, or None."""
    return sys.modules.get("torch")


def _set_torch_threads(threads: int) -> None:
    if torch := _torch():
        torch.set_num_threads(threads)


def _use_one_thread() -> None:
    """Makes a process that has just been forked independent of the threads that its parent has."""
    global _is_forked, _blas
    _is_forked = True
    _blas = _Blas()  # another thread of the parent may have held the lock
    _workers.cache_clear()
    _set_torch_threads(1)


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_use_one_thread)
