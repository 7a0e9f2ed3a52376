"""Ctrl-C and SIGTERM ask training to stop after the step at hand, SIGUSR1 asks it to save and go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_STOP = (signal.SIGINT, signal.SIGTERM)


class Requests:
    """What signals have asked for.

    Attributes:
        stop: the first signal that asked to stop.
        save: whether SIGUSR1 asked to save; who has saved sets it back.
    """

    stop: int | None = None
    save: bool = False


@contextmanager
def catch_signals() -> Iterator[Requests]:
    """Turns SIGINT, SIGTERM and SIGUSR1 into requests; a second SIGINT or SIGTERM stops at once.

    Outside the main thread Python cannot catch signals, and no request is ever made.
    """
    requests = Requests()
    if threading.current_thread() is not threading.main_thread():
        yield requests
        return
    before = {number: signal.getsignal(number) for number in (*_STOP, signal.SIGUSR1)}

    def restore(*numbers: int) -> None:
        for number in numbers:
            signal.signal(number, before[signal.Signals(number)])

    def on_stop(number: int, frame: FrameType | None) -> None:
        requests.stop = number
        restore(*_STOP)

    def on_save(number: int, frame: FrameType | None) -> None:
        requests.save = True

    for number in _STOP:
        signal.signal(number, on_stop)
    signal.signal(signal.SIGUSR1, on_save)
    try:
        yield requests
    finally:
        restore(*before)
