"""A parallel map: each thread takes a piece of work through to the end, alone on one core.

PyTorch divides every operation among its threads, which then wait for each other: hundreds of times in a window of
small products, and beside another busy process each wait can last until that one gives the core away. Pieces that
have nothing to do with each other, such as rows of a batch, need to wait only once, at their end.

A process that is forked has none of its parent's threads, but OpenMP in it waits for them for ever. Once this
module is loaded, every forked process therefore computes with one thread.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from charlm.errors import InputError
from charlm.system.arguments import check_integer

Item = TypeVar("Item")
Result = TypeVar("Result")

_MAX_THREADS = 1024  # far more than that crash the process
_is_forked = False


def set_threads(threads: int | None) -> None:
    """Sets how many CPU threads torch uses; None changes nothing, and a forked process stays at one.

    Raises:
        InputError: there cannot be so many.
    """
    if threads is None:
        return
    check_integer(threads, "threads")
    if not 1 <= threads <= _MAX_THREADS:
        raise InputError(f"threads {threads}: must be from 1 to {_MAX_THREADS}")
    if not _is_forked:
        torch.set_num_threads(threads)


def parallel_map(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Yields the result for each item, in order; as many at a time as PyTorch has threads, each on one core."""
    threads = torch.get_num_threads()
    if len(items) > 1:
        yield from _workers(threads).map(function, items)
        return
    torch.set_num_threads(1)  # of this thread alone
    try:
        results = [function(item) for item in items]
    finally:
        torch.set_num_threads(threads)
    yield from results


@functools.cache
def _workers(threads: int) -> ThreadPoolExecutor:
    """Threads that divide no operation further."""
    return ThreadPoolExecutor(threads, "charlm", torch.set_num_threads, (1,))


def _use_one_thread() -> None:
    """Makes a process that has just been forked independent of the threads that its parent has."""
    global _is_forked
    _is_forked = True
    _workers.cache_clear()
    torch.set_num_threads(1)


os.register_at_fork(after_in_child=_use_one_thread)
