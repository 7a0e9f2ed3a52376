"""Ctrl-C and SIGTERM ask training to stop after the step at hand, so that the work is saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Remembers the first signal that asked to stop."""

    signal_number: int | None = None


@contextmanager
def catch_stop_signals() -> Iterator[StopRequest]:
    """Turns SIGINT and SIGTERM into a request; a second one stops at once, as if this were not here.

    Outside the main thread Python cannot catch signals, and the request stays empty.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def on_signal(number: int, frame: FrameType | None) -> None:
        request.signal_number = number
        restore()

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield request
    finally:
        restore()
