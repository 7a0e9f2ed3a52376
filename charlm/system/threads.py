"""A parallel map: each thread takes a piece of work through to the end, alone on one core.

PyTorch divides every operation among its threads, which then wait for each other: hundreds of times in a window of
small products, and beside another busy process each wait can last until that one gives the core away. Pieces that
have nothing to do with each other, such as rows of a batch, need to wait only once, at their end.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def parallel_map(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Yields the result for each item, in order; as many at a time as PyTorch has threads, each on one core."""
    threads = torch.get_num_threads()
    if len(items) > 1:
        yield from _workers(os.getpid(), threads).map(function, items)
        return
    torch.set_num_threads(1)  # of this thread alone
    try:
        results = [function(item) for item in items]
    finally:
        torch.set_num_threads(threads)
    yield from results


@functools.cache
def _workers(process: int, threads: int) -> ThreadPoolExecutor:
    """Threads of this process (one that is forked has none of its parent's) that divide no operation further."""
    return ThreadPoolExecutor(threads, "charlm", torch.set_num_threads, (1,))
