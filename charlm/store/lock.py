"""A lock that keeps two trainings out of one run folder.

The operating system holds it for the process (flock): the lock ends with the process, however that ends, and is
never stale. That the file exists means nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from charlm.errors import InputError
from charlm.system.untrusted import open_regular_for_writing


@contextmanager
def hold_lock(path: Path) -> Iterator[bool]:
    """Holds the lock file of a run folder, and writes the holder's process and host into it.

    Args:
        path: the lock file. It is created if it is missing, and is left empty when the lock is released.

    Yields:
        Whether the file system supports locks; some network file systems do not.

    Raises:
        InputError: another process holds the lock, the file cannot be created, or it or its folder is a link.
    """
    if path.parent.is_symlink():  # training would write its files into another folder
        raise InputError(
            f"{path.parent}: a link to another folder, and training writes into its run folder alone; "
            "put the folder itself there"
        )
    try:
        descriptor = open_regular_for_writing(path)
    except OSError as error:
        problem = f"cannot be written: {error.strerror}" if error.strerror else f"{error}; remove it"
        hint = ""
        if path.is_symlink():
            hint = "; it is a link: remove it"
        elif error.strerror:
            hint = "; training writes into its run folder: copy it to where you may write"
        raise InputError(f"{path}: {problem}{hint}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # over NFS the second means the same
            holder = re.match(
                r"process \d+ on [\w.-]{1,100}", os.pread(descriptor, 200, 0).decode(errors="replace")
            )
            who = f" ({holder[0]})" if holder else ""
            raise InputError(
                f"{path.parent.parent}: another training{who} writes into this run folder; wait for it or stop it, "
                "or name another folder by --out"
            ) from None
        except OSError:
            yield False
            return
        with contextlib.suppress(OSError):  # only for the message above: a full disk does not matter
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        try:
            yield True
        finally:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)
