"""Progress of work that may take minutes, told now and then in one line, with the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from charlm.system.counts import format_size
from charlm.text.vocabulary import to_bytes

_FIRST_SECONDS, _EVERY_SECONDS = 5.0, 10.0


class Progress:
    """Tells how much of a text has been worked on.

    Args:
        what: what is done, such as `reading the text`.
        total_bytes: the size of the whole; None: it is not known, and nor is the time that is left.
        note: is told a line, first after five seconds, then every ten.
        clock: returns seconds.
    """

    def __init__(
        self,
        what: str,
        total_bytes: int | None,
        note: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what = what
        self._total = total_bytes
        self._note = note
        self._clock = clock
        self._begin = clock()
        self._next = self._begin + _FIRST_SECONDS
        self._done = self._kept = 0

    def watch(self, pieces: Iterable[str]) -> Iterator[str]:
        """Passes the pieces of a text on, and counts their bytes."""
        for piece in pieces:
            yield piece
            self.add(len(to_bytes(piece)))

    def keep(self, n_bytes: int) -> None:
        """Counts what was done by an earlier process, which says nothing about the time that is left."""
        self._done += n_bytes
        self._kept += n_bytes
        self._begin = self._clock()

    def add(self, n_bytes: int) -> None:
        """Counts what has been done."""
        self._done += n_bytes
        now = self._clock()
        if now < self._next:
            return
        self._next = now + _EVERY_SECONDS
        if self._total is None:
            self._note(f"{self._what}: {format_size(self._done)} so far")
            return
        left = (now - self._begin) * max(0, self._total - self._done) / max(1, self._done - self._kept)
        self._note(
            f"{self._what}: {format_size(self._done)} of {format_size(self._total)}, about {_duration(left)} left"
        )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02}s" if minutes else f"{rest} s"
