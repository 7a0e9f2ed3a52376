"""What tests of several processes share: they are forked from this one, with the variables that torchrun sets."""

import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch._dynamo  # torch loads it with the first optimiser, which takes seconds in each process
import torch.distributed

SECONDS = 60  # far more than any of it takes on a busy machine, and less than for ever


@dataclass(frozen=True)
class Ended:
    """How processes ended.

    Attributes:
        codes: their exit codes, or minus the signal that ended them.
        said: what all of them wrote to standard error.
    """

    codes: list[int]
    said: str


def together(
    size: int,
    act: Callable[[], object],
    *,
    restarts: int = 0,
    watch: Callable[[Sequence[int]], object] | None = None,
) -> Ended:
    """Lets so many processes act, each with the variables that torchrun sets, and waits for all of them.

    An exception that has an exit code ends a process with it, and its message is written, as the command does.

    Args:
        size: how many.
        act: what each of them does.
        restarts: how often torchrun would have started them before.
        watch: is called with the numbers of the processes while they are at work.
    """
    with socket.create_server(("127.0.0.1", 0)) as free, tempfile.TemporaryFile() as said:
        port = free.getsockname()[1]
        free.close()
        processes = [_start(rank, size, port, restarts, act, said.fileno()) for rank in range(size)]
        # Where they meet, which torchrun offers; it is still there when one of them has ended.
        store = torch.distributed.TCPStore("127.0.0.1", port, None, is_master=True, wait_for_workers=False)
        try:
            if watch is not None:
                watch(processes)
            codes = [_wait(process) for process in processes]
        finally:
            del store
            for process in processes:
                with suppress(ProcessLookupError, ChildProcessError):
                    os.kill(process, signal.SIGKILL)
                    os.waitpid(process, 0)
        said.seek(0)
        return Ended(codes, said.read().decode())


def _start(rank: int, size: int, port: int, restarts: int, act: Callable[[], object], said: int) -> int:
    if child := os.fork():
        return child
    code = 1
    try:
        os.dup2(said, 2)
        names = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": size,
            "LOCAL_WORLD_SIZE": size,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "TORCHELASTIC_RESTART_COUNT": restarts,
            "TORCHELASTIC_USE_AGENT_STORE": True,
        }
        os.environ.update({name: str(value) for name, value in names.items()})
        act()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException as error:
        code = getattr(error, "exit_code", 1)
        text = f"charlm: {error}\n" if hasattr(error, "exit_code") else traceback.format_exc()
        os.write(2, text.encode())
    finally:
        os._exit(code)


def _wait(process: int) -> int:
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        if (status := os.waitpid(process, os.WNOHANG))[0]:
            return os.waitstatus_to_exitcode(status[1])
        time.sleep(0.002)
    raise TimeoutError(f"process {process} of {sys.argv[0]} has not ended within {SECONDS} seconds")


def wait_for(path: Path) -> None:
    """Waits until a file is there."""
    ends = time.monotonic() + SECONDS
    while not path.exists():
        assert time.monotonic() < ends, f"{path} has not come"
        time.sleep(0.002)
