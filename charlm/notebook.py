"""The progress of a training in a notebook: numbers, curve and sample, updated in the output of the cell.

IPython is imported only where it runs already.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from html import escape
from types import TracebackType
from typing import Any

from charlm.scoring.html import visible
from charlm.training.reports import Metrics, StepReport

_UPDATE_SECONDS = 0.5
_WIDTH, _HEIGHT = 480, 160  # of the curve, in pixels
_LEFT, _BOTTOM, _TOP = 56, 24, 8  # its margins
_MAX_POINTS = 300  # of a line
_SAMPLE_CHARACTERS, _MAX_NOTES, _NOTE_CHARACTERS = 600, 8, 300


def in_notebook() -> bool:
    """Returns whether this runs in a notebook, not in a terminal or a script."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    return getattr(shell, "kernel", None) is not None


class NotebookProgress:
    """Observes a training and shows it in the output of the running cell."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._updated = -_UPDATE_SECONDS
        self._state = "reading the corpus"
        self._fraction = 0.0
        self._report: StepReport | None = None
        self._evaluations: list[Metrics] = []
        self._sample = ""
        self._notes: list[str] = []
        self._handle: Any = None

    def __enter__(self) -> NotebookProgress:
        from IPython.display import display

        self._handle = display(self._bundle(), raw=True, display_id=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._state = "finished" if kind is None else "stopped"
        self._report = None
        self._show()

    def on_step(self, report: StepReport) -> None:
        """Shows a step, if there was none to be seen lately."""
        self._state, self._fraction, self._report = "training", report.fraction, report
        if self._clock() - self._updated >= _UPDATE_SECONDS:
            self._show()

    def on_evaluation(self, metrics: Metrics, sample: str, is_best: bool) -> None:
        """Shows an evaluation."""
        self._evaluations.append(metrics)
        self._sample = sample
        self._show()

    def on_note(self, note: str) -> None:
        """Shows a remark."""
        self._notes.append(note)
        self._show()

    def _show(self) -> None:
        self._updated = self._clock()
        if self._handle is not None:
            self._handle.update(self._bundle(), raw=True)

    def _bundle(self) -> dict[str, str]:
        lines = self._lines()
        notes = [_shown(note, _NOTE_CHARACTERS) for note in self._notes[-_MAX_NOTES:]]
        parts = [f"<div>{note}</div>" for note in notes]
        if self._report is not None:
            parts.append(f'<progress value="{self._fraction:.3f}" max="1" style="width:{_WIDTH}px"></progress>')
        parts += [f"<div>{escape(line)}</div>" for line in lines]
        if len(self._evaluations) > 1:
            parts.append(draw_curve(self._evaluations))
        if self._sample:
            style = "white-space:pre-wrap;overflow-wrap:anywhere;margin:4px 0"
            parts.append(f'<div>written at the last evaluation:</div><pre style="{style}">')
            parts.append(_shown(self._sample, _SAMPLE_CHARACTERS) + "</pre>")
        return {"text/html": "".join(parts), "text/plain": "\n".join(lines)}

    def _lines(self) -> list[str]:
        lines = [self._state]
        if (report := self._report) is not None:
            lines = [
                f"{report.fraction:.0%} · step {report.step:,} · epoch {report.epoch:.2f} · loss "
                f"{report.train_loss:.4f} · {report.characters_per_second:,.0f} characters/s · "
                f"{_seconds(report.seconds_left)} left"
            ]
        if self._evaluations:
            last = self._evaluations[-1]
            loss = "" if last.validation_loss is None else f", validation {last.validation_loss:.4f}"
            lines.append(
                f"step {last.step:,}: train {last.train_loss:.4f}{loss} nats, {last.bits_per_character:.3f} bits "
                f"per character, after {_seconds(last.seconds)}"
            )
        return lines


def _shown(text: str, most: int) -> str:
    """Returns the beginning of a text as HTML."""
    cut = text[:most] + "…" * (len(text) > most)
    return "".join("\n" if char == "\n" else visible(char) for char in cut)


def _seconds(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds < float("inf") else "? s"


def draw_curve(evaluations: Sequence[Metrics]) -> str:
    """Returns the losses against the characters as SVG, in the notebook's own colour; training is dashed."""
    step = -(-len(evaluations) // _MAX_POINTS)
    chosen = [*evaluations[:-1:step], evaluations[-1]]
    lines = {
        "validation": [(m.characters, m.validation_loss) for m in chosen if m.validation_loss is not None],
        "training": [(m.characters, m.train_loss) for m in chosen],
    }
    points = [point for line in lines.values() for point in line]
    later = [y for x, y in points if x > points[0][0]] or [y for _, y in points]
    right, low, high = max(x for x, _ in points), min(later), max(later)  # the first would flatten all others
    floor, ceiling = _HEIGHT - _BOTTOM, _TOP

    def place(x: float, y: float) -> str:
        y = max(low, min(high, y))
        across = _LEFT + x / (right or 1) * (_WIDTH - _LEFT - 8)
        return f"{across:.1f},{floor - (y - low) / ((high - low) or 1) * (floor - ceiling):.1f}"

    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" style="max-width:100%" '
        f'fill="currentColor" font-size="12" role="img" aria-label="loss from {high:.3f} to {low:.3f} nats">',
        f'<path d="M{_LEFT},{ceiling}V{floor}H{_WIDTH - 8}" fill="none" stroke="currentColor" opacity=".5"/>',
        f'<text x="{_LEFT - 6}" y="{ceiling + 8}" text-anchor="end">{high:.3f}</text>',
        f'<text x="{_LEFT - 6}" y="{floor}" text-anchor="end">{low:.3f}</text>',
        f'<text x="{_LEFT}" y="{_HEIGHT - 6}">nats a character over {right:,} characters; dashed: training</text>',
    ]
    for name, line in ((name, line) for name, line in lines.items() if line):
        dashes = ' stroke-dasharray="4 4"' if name == "training" else ' stroke-width="2"'
        places = " ".join(place(x, y) for x, y in line)
        parts.append(f'<polyline points="{places}" fill="none" stroke="currentColor"{dashes}/>')
    return "".join([*parts, "</svg>"])
