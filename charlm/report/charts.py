"""Charts for the page as inline SVG: lines, bands and dots on linear or logarithmic axes, labelled where they end.

Lines differ by their dashes as well as by their colours; colours stand in the page's style sheet, by class. A chart
is as wide as a phone, so that its letters keep their size; several of them stand side by side on a larger screen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from markupsafe import Markup

_WIDTH, _HEIGHT = 400, 250  # pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 14, 26, 40  # margins around the axes
_LABELS = 116  # right margin where lines are labelled there
_LABEL_HEIGHT = 15
_MOST_TICKS = 6
_FEW_DECADES = 1.5  # up to which a logarithmic axis is labelled 1, 2, 5 and not by powers of ten alone
_MOST_POINTS = 400  # of a line: more cannot be told apart, and make the file large
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Series:
    """A line, or dots.

    Attributes:
        name: what it is called at its end; "" for nothing.
        x: of each point.
        y: of each point; what is not finite is left out.
        style: which of the page's colours and dashes, from 0.
        lower: of a band around it, at each point.
        upper: of the band.
        sizes: draw dots instead of a line, of these radii in pixels.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: int = 0
    lower: Sequence[float] = ()
    upper: Sequence[float] = ()
    sizes: Sequence[float] = ()


@dataclass(frozen=True)
class Chart:
    """A pair of axes and what is drawn between them.

    Attributes:
        title: in few words; it stands above the chart on the page.
        description: what a reader who cannot see it should know.
        x_label: what runs to the right.
        y_label: what runs upward.
        series: at least one point in all.
        references: horizontal lines: their names, values and styles.
        log_x: whether the x axis is logarithmic.
        log_y: whether the y axis is.
        from_zero: whether a linear y axis begins at zero.
        diagonal: whether the line y = x is drawn.
    """

    title: str
    description: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    references: Sequence[tuple[str, float, int]] = ()
    log_x: bool = False
    log_y: bool = False
    from_zero: bool = False
    diagonal: bool = False

    @property
    def svg(self) -> Markup:
        """The chart as SVG for a page whose style sheet has its colours."""
        return draw(self)


class _Axis:
    """Places numbers between two ends in pixels, and knows its ticks."""

    def __init__(
        self,
        values: Sequence[float],
        begin: float,
        end: float,
        log: bool,
        *,
        from_zero: bool = False,
        ends_at_data: bool = False,
    ) -> None:
        self._begin, self._end, self._log = begin, end, log
        usable = [v for v in values if math.isfinite(v) and (v > 0 or not log)] or [1.0]
        self.ticks = _log_ticks(usable) if log else _linear_ticks([*usable, 0.0] if from_zero else usable)
        self._low, self._high = self._scale(self.ticks[0]), self._scale(self.ticks[-1])
        if ends_at_data and not log:  # instead of at a round number
            self._high = max(max(usable), self.ticks[-2])
            self.ticks = [tick for tick in self.ticks if tick <= self._high]

    def _scale(self, value: float) -> float:
        return math.log10(value) if self._log else value

    def place(self, value: float) -> float:
        """Returns where a value stands; one beyond an end stands at it."""
        if self._log and value <= 0:
            return self._begin
        share = (self._scale(value) - self._low) / ((self._high - self._low) or 1.0)
        return round(self._begin + min(1.0, max(0.0, share)) * (self._end - self._begin), 1)

    def label(self, tick: float) -> str:
        if self._log and not all(1e-3 <= t < 1e5 for t in self.ticks):
            exponent = round(math.log10(tick))
            return "10" + str(exponent).translate(_SUPERSCRIPTS)
        return short_number(tick)


def short_number(value: float) -> str:
    """Formats a number in few characters: 0.25, 12, 1.5k, 20M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"


def draw(chart: Chart) -> Markup:
    """Draws a chart."""
    labelled = bool(chart.references) or any(series.name for series in chart.series)
    right, bottom = _WIDTH - (_LABELS if labelled else _RIGHT), _HEIGHT - _BOTTOM
    rows = [row for series in chart.series for row in (series.y, series.lower, series.upper)]
    xs = [x for series in chart.series for x in series.x]
    ys = [y for row in rows for y in row] + [value for _, value, _ in chart.references]
    x_axis = _Axis(xs, _LEFT, right, chart.log_x, ends_at_data=True)
    y_axis = _Axis(ys, bottom, _TOP, chart.log_y, from_zero=chart.from_zero)
    parts = [f'<text class="what" x="0" y="12">{escape(chart.y_label)}</text>']
    for tick in y_axis.ticks:
        y = y_axis.place(tick)
        parts.append(f'<path class="grid" d="M{_LEFT} {y}H{right}"/>')
        parts.append(f'<text class="tick end" x="{_LEFT - 7}" y="{y + 4}">{y_axis.label(tick)}</text>')
    for tick in x_axis.ticks:
        x = x_axis.place(tick)
        parts.append(f'<path class="axis" d="M{x} {bottom}v4"/>')
        parts.append(f'<text class="tick middle" x="{x}" y="{bottom + 17}">{x_axis.label(tick)}</text>')
    parts.append(f'<path class="axis" d="M{_LEFT} {bottom}H{right}"/>')
    parts.append(
        f'<text class="what middle" x="{(_LEFT + right) / 2}" y="{_HEIGHT - 4}">{escape(chart.x_label)}</text>'
    )
    if chart.diagonal:
        low, high = max(x_axis.ticks[0], y_axis.ticks[0]), min(x_axis.ticks[-1], y_axis.ticks[-1])
        ends = [f"{x_axis.place(v)} {y_axis.place(v)}" for v in (low, high)]
        parts.append(f'<path class="diagonal" d="M{"L".join(ends)}"/>')
    labels: list[tuple[float, str, int]] = []
    for name, value, style in chart.references:
        y = y_axis.place(value)
        parts.append(f'<path class="reference n{style}" d="M{_LEFT} {y}H{right}"/>')
        labels.append((y, name, style))
    for series in chart.series:
        parts += _draw_series(series, x_axis, y_axis)
        last = next((y for y in reversed(series.y) if math.isfinite(y)), None)
        if series.name and last is not None:
            labels.append((y_axis.place(last), series.name, series.style))
    for y, name, style in _spread(labels, bottom):
        parts.append(f'<text class="label n{style}" x="{right + 8}" y="{y + 4}">{escape(name)}</text>')
    title = quoteattr(f"{chart.title}. {chart.description}")
    svg = f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label={title}>'
    return Markup(svg + "".join(parts) + "</svg>")  # names are escaped above, the rest are numbers


def _draw_series(series: Series, x_axis: _Axis, y_axis: _Axis) -> list[str]:
    step = max(1, -(-len(series.x) // _MOST_POINTS))
    kept = [n for n in range(len(series.x)) if n % step == 0 or n == len(series.x) - 1]
    finite = [n for n in kept if math.isfinite(series.y[n])]
    parts = []
    if series.lower:
        edges = [(n, row) for row, order in ((series.upper, finite), (series.lower, finite[::-1])) for n in order]
        places = [
            f"{x_axis.place(series.x[n])} {y_axis.place(row[n])}" for n, row in edges if math.isfinite(row[n])
        ]
        if places:
            parts.append(f'<path class="band n{series.style}" d="M{"L".join(places)}Z"/>')
    places = [f"{x_axis.place(series.x[n])} {y_axis.place(series.y[n])}" for n in finite]
    if series.sizes:
        for n in finite:
            x, y = x_axis.place(series.x[n]), y_axis.place(series.y[n])
            parts.append(f'<circle class="dot n{series.style}" cx="{x}" cy="{y}" r="{series.sizes[n]:.1f}"/>')
    elif len(places) == 1:
        left, top = places[0].split()
        parts.append(f'<circle class="dot n{series.style}" cx="{left}" cy="{top}" r="4"/>')
    elif places:
        parts.append(f'<path class="line n{series.style}" d="M{"L".join(places)}"/>')
    return parts


def _spread(labels: Sequence[tuple[float, str, int]], bottom: float) -> list[tuple[float, str, int]]:
    """Moves labels apart that would stand on each other, in their order from the top, as little as goes."""
    ordered = sorted(labels)
    places = [max(float(_TOP), min(bottom, y)) for y, _, _ in ordered]
    for n in range(1, len(places)):
        places[n] = max(places[n], places[n - 1] + _LABEL_HEIGHT)
    if places and places[-1] > bottom:
        places[-1] = bottom
        for n in range(len(places) - 2, -1, -1):
            places[n] = min(places[n], places[n + 1] - _LABEL_HEIGHT)
    return [(round(y, 1), name, style) for y, (_, name, style) in zip(places, ordered, strict=True)]


def _linear_ticks(values: Sequence[float]) -> list[float]:
    """Returns round numbers, a few of them, of which the first and the last enclose the values."""
    low, high = min(values), max(values)
    span = (high - low) or abs(high) or 1.0
    exponent = math.floor(math.log10(span / _MOST_TICKS))
    for step in (m * 10.0**e for e in (exponent, exponent + 1) for m in (1, 2, 5)):
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first <= _MOST_TICKS:
            return [round(n * step, 12) for n in range(first, max(last, first + 1) + 1)]
    return [low, high]


def _log_ticks(values: Sequence[float]) -> list[float]:
    low, high = math.log10(min(values)), math.log10(max(values))
    if high - low <= _FEW_DECADES:
        fine = [m * 10.0**e for e in range(math.floor(low) - 1, math.ceil(high) + 2) for m in (1, 2, 5)]
        first = max(n for n, tick in enumerate(fine) if tick <= min(values) * 1.0001)
        last = min(n for n, tick in enumerate(fine) if tick >= max(values) * 0.9999)
        return fine[first : max(last, first + 1) + 1]
    step = max(1, math.ceil((high - low) / _MOST_TICKS))
    first, last = math.floor(low / step), math.ceil(high / step)
    return [10.0 ** (n * step) for n in range(first, max(last, first + 1) + 1) if -300 <= n * step <= 300]
