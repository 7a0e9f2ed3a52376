"""A lock that keeps two trainings out of one run folder.

It is held by the operating system for the process (flock), not by the file's being there: it ends with the process,
however that ends, so that no lock is ever stale.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from charlm.errors import InputError


@contextmanager
def hold_lock(path: Path) -> Iterator[bool]:
    """Holds the lock file of a run folder, and writes into it who does.

    Args:
        path: the file; it is made if need be, and stays, empty, when the lock is given back.

    Yields:
        Whether the file system can lock; some network file systems cannot.

    Raises:
        InputError: another process holds it, or the file cannot be made; or its folder is a link.
    """
    if path.parent.is_symlink():  # what training writes beside the lock would end up elsewhere
        raise InputError(
            f"{path.parent}: a link to another folder, and training writes into its run folder alone; "
            "put the folder itself there"
        )
    try:
        # The file is emptied below: a link that a stranger has put there must not lead to another.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    except OSError as error:
        hint = "; it is a link: remove it" if path.is_symlink() else ""
        raise InputError(f"{path}: cannot be written: {error.strerror}{hint}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InputError(f"{path}: not an ordinary file; remove it")
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
