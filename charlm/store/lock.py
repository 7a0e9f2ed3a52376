"""A lock that keeps two trainings out of one run folder.

The operating system holds it for the process (flock): the lock ends with the process, however that ends, and is
never stale. That the file exists means nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from charlm.errors import InputError
from charlm.system.portable import is_running, lock_file
from charlm.system.untrusted import open_regular, open_regular_for_writing


@contextmanager
def hold_lock(path: Path) -> Iterator[bool]:
    """Holds the lock file of a run folder, and writes the holder's process and host into it.

    Args:
        path: the lock file. It is created if it is missing, and is left empty when the lock is released.

    Yields:
        Whether there are locks: Windows has none of this kind, nor have some network file systems.

    Raises:
        InputError: another process holds the lock, the file cannot be created, or it or its folder is a link.
    """
    if path.parent.is_symlink():  # training would write its files into another folder
        raise InputError(
            f"{path.parent}: this is a link to another folder, and training writes only into its run folder; "
            "replace the link with the folder itself"
        )
    try:
        descriptor = open_regular_for_writing(path)
    except OSError as error:
        problem = f"cannot be written: {error.strerror}" if error.strerror else f"{error}; remove it"
        hint = ""
        if path.is_symlink():
            hint = "; it is a link; remove it"
        elif error.strerror:
            hint = "; training writes into its run folder; copy the folder to a place where you may write"
        raise InputError(f"{path}: {problem}{hint}") from None
    try:
        try:
            lock_file(descriptor)
        except (BlockingIOError, PermissionError):  # over NFS the second means the same
            holder = _read_holder(descriptor)
            who = f" ({holder[0]})" if holder else ""
            raise InputError(
                f"{path.parent.parent}: another training{who} is writing into this run folder; wait for it or stop "
                "it, or name another folder with --out"
            ) from None
        except OSError:
            locked = False
        else:
            locked = True
        with contextlib.suppress(OSError):  # only for messages and those who watch: a full disk does not matter
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        try:
            yield locked
        finally:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def find_holder(path: Path) -> str | None:
    """Looks who trains into a run folder, without keeping anybody from it.

    Returns:
        Such as `process 123 on host`; None if nobody does, as far as this machine can tell.
    """
    try:
        with open_regular(path) as file:
            holder = _read_holder(file.fileno())
            if holder is None or (holder[2] == socket.gethostname() and not is_running(int(holder[1]))):
                return None
            try:
                # Asked only where a holder stands there, so that a training that is about to begin never meets it.
                lock_file(file.fileno(), shared=True)
            except OSError:  # held; or there are no locks here, and what is written must be believed
                return holder[0]
            return None  # its process was killed, and another one has its number now, or is on another machine
    except OSError:
        return None


def _read_holder(descriptor: int) -> re.Match[str] | None:
    os.lseek(descriptor, 0, os.SEEK_SET)
    return re.match(r"process (\d{1,9}) on ([\w.-]{1,100})", os.read(descriptor, 200).decode(errors="replace"))
