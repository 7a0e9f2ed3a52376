"""What operating systems do in different ways, or not at all: locks, processes and memory.

Written for POSIX. What Windows lacks has an answer here that says so, and whoever asks goes on without.
"""

from __future__ import annotations

import errno
import os
import sys

try:
    import fcntl
    import resource
except ImportError:  # Windows
    fcntl = resource = None  # type: ignore[assignment]


def lock_file(descriptor: int, *, shared: bool = False, wait: bool = False) -> None:
    """Locks an open file or folder (flock) until it is closed, or its process ends in whatever way.

    Args:
        descriptor: of the file.
        shared: whether others may have such a lock at the same time.
        wait: whether to wait until it can be had.

    Raises:
        BlockingIOError, PermissionError: another holds it; over NFS the second means the same.
        OSError: the system or the file system has no such locks.
    """
    if fcntl is None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))


def is_running(process: int) -> bool:
    """Says whether a process of this machine runs, by its number; where that cannot be told, that it does."""
    if sys.platform == "win32":  # there os.kill ends a process, whatever the signal
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def peak_memory_bytes() -> int | None:
    """Returns the most memory that this process has held; None where the system does not tell."""
    return None if resource is None else in_bytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def in_bytes(maxrss: int) -> int:
    """Returns what the system calls `ru_maxrss`, in bytes: macOS counts bytes, others kilobytes."""
    return maxrss if sys.platform == "darwin" else maxrss * 1024


def physical_memory_bytes() -> int | None:
    """Returns how much memory the machine has; None where the system does not tell."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
