"""Signals during training: some ask it to stop, SIGUSR1 asks it to save and go on.

Ctrl-C, SIGTERM and a terminal that closes (SIGHUP) stop training after the step at hand, with everything saved.
Before the first step there is nothing to save, and they stop at once. Windows has neither SIGHUP nor SIGUSR1.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from charlm.errors import Interrupted


def _known(*names: str) -> tuple[signal.Signals, ...]:
    """Returns those of some signals that the system has."""
    return tuple(signal.Signals[name] for name in names if name in signal.Signals.__members__)


STOP = _known("SIGINT", "SIGTERM", "SIGHUP")
_SAVE = _known("SIGUSR1")


@dataclass
class Requests:
    """What signals have asked for.

    Attributes:
        stop: the first signal that asked to stop.
        save: whether SIGUSR1 asked to save; who has saved sets it back.
        begun: whether training takes steps; until then a signal that asks to stop stops at once.
    """

    stop: int | None = None
    save: bool = False
    begun: bool = False


class _StopAtOnce(KeyboardInterrupt):
    """Raised by a signal; nothing that catches exceptions on the way keeps it."""

    @property
    def exit_code(self) -> int:
        """As that of `Interrupted`."""
        return 128 + int(self.args[0])


@contextmanager
def catch_signals() -> Iterator[Requests]:
    """Turns SIGINT, SIGTERM, SIGHUP and SIGUSR1 into requests; a second SIGINT or SIGTERM stops at once.

    A signal that is ignored, as `nohup` has SIGHUP ignored and a shell the Ctrl-C of programs in the background,
    stays ignored. Outside the main thread Python cannot catch signals, and no request is ever made.

    Raises:
        Interrupted: in the block, where training has not begun.
    """
    requests = Requests()
    if threading.current_thread() is not threading.main_thread():
        yield requests
        return
    before = {number: signal.getsignal(number) for number in (*STOP, *_SAVE)}
    caught = {number: action for number, action in before.items() if action not in (signal.SIG_IGN, None)}

    def restore(*numbers: signal.Signals) -> None:
        for number in numbers:
            if number in caught:
                signal.signal(number, caught[number])

    def on_stop(number: int, frame: FrameType | None) -> None:
        if not requests.begun:
            exit_if_importing(number, frame)
            raise _StopAtOnce(number)
        requests.stop = requests.stop or number
        restore(signal.SIGINT, signal.SIGTERM)  # a terminal that closes sends SIGHUP more than once

    def on_save(number: int, frame: FrameType | None) -> None:
        requests.save = True

    for number in caught:
        signal.signal(number, on_save if number in _SAVE else on_stop)
    try:
        yield requests
    except _StopAtOnce as stop:
        number = stop.args[0]
        raise Interrupted(
            number, f"{signal.Signals(number).name} stopped training before the first step; nothing was trained"
        ) from None
    finally:
        restore(*caught)


def exit_if_importing(number: int, frame: FrameType | None) -> None:
    """Ends the process where a signal arrives while a module is being imported.

    An exception there would come out as another one (NumPy's modules catch what they do not expect, and cannot be
    imported twice), and nothing is begun yet that would have to be finished.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os._exit(128 + number)
        frame = frame.f_back
