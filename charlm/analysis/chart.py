"""Line charts with a logarithmic y axis and bands between quartiles, as SVG for screens, light or dark, and paper.

Lines differ by their dashes as well as by their colours. No scripts, fonts or files are loaded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT = 460, 310  # of a panel, in pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 18, 34, 46  # margins of a panel around its axes
_HEAD = 64  # above the panels: title and legend
_MOST_TICKS = 7
_FEW_DECADES = 2.5  # up to which an axis is labelled 1, 2, 5 and not by powers of ten alone
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

_STYLE = """
text { font: 12px system-ui, "DejaVu Sans", Arial, sans-serif; fill: #1d2126 }
.title { font-size: 16px; font-weight: 600 }
.panel { font-size: 13px; font-weight: 600 }
.back { fill: #ffffff }
.axis { stroke: #50565e; fill: none }
.grid { stroke: #dfe2e6; fill: none }
.line { fill: none; stroke-width: 2; stroke-linejoin: round }
.line.n0 { stroke: #0b5fa5 } .line.n1 { stroke: #b04a12; stroke-dasharray: 6 4 }
.band { stroke: none; fill-opacity: 0.18 }
.band.n0 { fill: #0b5fa5 } .band.n1 { fill: #b04a12 }
@media screen and (prefers-color-scheme: dark) {
  text { fill: #e6e8eb } .back { fill: #15181c } .axis { stroke: #a2a9b2 } .grid { stroke: #333940 }
  .line.n0 { stroke: #6cb6ff } .line.n1 { stroke: #ffa666 } .band.n0 { fill: #6cb6ff } .band.n1 { fill: #ffa666 }
}
"""


@dataclass(frozen=True)
class Line:
    """A line and the band around it: its name, and x, y and the ends of the band at each point."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    lower: Sequence[float]
    upper: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """A pair of axes: a title, their labels, and at most two lines, those of the same name alike in every panel."""

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]


def draw_charts(title: str, description: str, panels: Sequence[Panel]) -> str:
    """Returns an SVG document with the panels in two columns; a value that is not positive is drawn at the bottom.

    Args:
        title: stands above the panels.
        description: in words, for those who cannot see them.
        panels: with the same names of lines; at least one.
    """
    columns = min(2, len(panels))
    width, height = columns * _WIDTH, _HEAD + -(-len(panels) // columns) * _HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-labelledby="title description">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="description">{escape(description)}</desc>',
        f"<style>{_STYLE}</style>",
        f'<rect class="back" width="{width}" height="{height}"/>',
        f'<text class="title" x="16" y="26">{escape(title)}</text>',
        *_legend([line.name for line in panels[0].lines]),
    ]
    for number, panel in enumerate(panels):
        x, y = number % columns * _WIDTH, _HEAD + number // columns * _HEIGHT
        parts += [f'<g transform="translate({x} {y})">', *_draw_panel(panel), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _legend(names: Sequence[str]) -> list[str]:
    parts, x = [], 16
    for number, name in enumerate(names):
        parts.append(f'<rect class="band n{number}" x="{x}" y="40" width="34" height="14"/>')
        parts.append(f'<path class="line n{number}" d="M{x} 47h34"/>')
        parts.append(f'<text x="{x + 42}" y="51">{escape(name)}</text>')
        x += 60 + 8 * len(name)
    return [*parts, f'<text x="{x}" y="51">line: median, band: middle half</text>']


def _draw_panel(panel: Panel) -> list[str]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    xs = [x for line in panel.lines for x in line.x]
    values = [v for line in panel.lines for row in (line.y, line.lower, line.upper) for v in row]
    ticks = _log_ticks([v for v in values if v > 0 and math.isfinite(v)] or [1.0])
    left_x, x_span = min(xs), (max(xs) - min(xs)) or 1
    low, high = math.log10(ticks[0]), math.log10(ticks[-1])

    def place_x(x: float) -> float:
        return round(_LEFT + (x - left_x) / x_span * (right - _LEFT), 1)

    def place_y(y: float) -> float:
        share = 0.0 if y <= 0 or math.isnan(y) else (math.log10(min(y, ticks[-1])) - low) / (high - low)
        return round(bottom - max(0.0, share) * (bottom - _TOP), 1)

    parts = [f'<text class="panel" x="{_LEFT}" y="20">{escape(panel.title)}</text>']
    for tick in ticks:
        y = place_y(tick)
        parts.append(f'<path class="grid" d="M{_LEFT} {y}H{right}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{_log_label(tick, ticks)}</text>')
    for tick in _ticks(left_x, left_x + x_span):
        x = place_x(tick)
        parts.append(f'<path class="axis" d="M{x} {bottom}v5"/>')
        parts.append(f'<text x="{x}" y="{bottom + 19}" text-anchor="middle">{tick:g}</text>')
    for number, line in enumerate(panel.lines):
        upper = [f"{place_x(x)} {place_y(y)}" for x, y in zip(line.x, line.upper, strict=True)]
        lower = [f"{place_x(x)} {place_y(y)}" for x, y in zip(line.x, line.lower, strict=True)]
        middle = [f"{place_x(x)} {place_y(y)}" for x, y in zip(line.x, line.y, strict=True)]
        parts.append(f'<path class="band n{number}" d="M{"L".join([*upper, *reversed(lower)])}Z"/>')
        parts.append(f'<path class="line n{number}" d="M{"L".join(middle)}"/>')
    parts.append(f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{right}"/>')
    middle_x, middle_y = (_LEFT + right) / 2, (_TOP + bottom) / 2
    parts.append(f'<text x="{middle_x}" y="{bottom + 38}" text-anchor="middle">{escape(panel.x_label)}</text>')
    turned = f'transform="translate(18 {middle_y}) rotate(-90)" text-anchor="middle"'
    parts.append(f"<text {turned}>{escape(panel.y_label)}</text>")
    return parts


def _ticks(low: float, high: float) -> list[float]:
    """Returns round numbers from low to high, a few of them."""
    for step in (m * 10**e for e in range(7) for m in (1, 2, 5)):
        found = [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
        if len(found) <= _MOST_TICKS:
            return found
    return [low, high]


def _log_ticks(values: Sequence[float]) -> list[float]:
    """Returns round numbers, a few of them, of which the first and the last enclose the values."""
    low, high = math.log10(min(values)), math.log10(max(values))
    if high - low <= _FEW_DECADES:
        decades = range(math.floor(low) - 1, math.ceil(high) + 2)
        fine = [m * 10.0**e for e in decades for m in (1, 2, 5)]
        first = max(n for n, tick in enumerate(fine) if tick <= min(values))
        last = min(n for n, tick in enumerate(fine) if tick >= max(values))
        return fine[first : max(last, first + 1) + 1]
    step = math.ceil((high - low) / (_MOST_TICKS - 1))
    first, last = math.floor(low / step), math.ceil(high / step)
    return [10.0 ** (n * step) for n in range(first, last + 1) if -308 <= n * step <= 308]


def _log_label(tick: float, ticks: Sequence[float]) -> str:
    exponent = round(math.log10(tick))
    is_power = math.isclose(tick, 10.0**exponent, rel_tol=1e-9)
    if all(1e-3 <= t <= 1e3 for t in ticks):
        return f"{tick:g}"
    if is_power:
        return "10" + str(exponent).translate(_SUPERSCRIPTS)
    return f"{tick:.0e}".replace("e-0", "e-").replace("e+0", "e")
