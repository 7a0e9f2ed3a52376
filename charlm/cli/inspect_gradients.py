"""`charlm inspect --gradients`: what is measured of the gradients, as tables and curves, as JSON or as a plot."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charlm.analysis.gradient_tables import (
    decay_rows,
    describe_half_life,
    gate_rows,
    layer_count,
    matrix_rows,
    name_in_layer,
)
from charlm.cli.layout import cut, fit_table, terminal_width, wrap_lines
from charlm.cli.render import CURVE_LABEL_CELLS, draw_curve, json_line, note, printable
from charlm.errors import InputError
from charlm.system.counts import count_of
from charlm.system.files import replace_file

if TYPE_CHECKING:
    from charlm.analysis.chart import Panel
    from charlm.analysis.gradients import GradientReport, NetworkGradients, Quartiles, StateGradient
    from charlm.language_model import LanguageModel

_SHOWN = (0, 1, 2, 5, 10, 15, 20, 30, 40, 50, 60, 80, 100, 150, 200, 300, 400, 500)  # lags of the tables
_CURVE_HEIGHT = 7
_CURVE_WIDTH = 60
_PNG_PIXELS = 2  # on a side, for each pixel of the SVG
_TITLE_CELLS = 90  # that fit above the plots


def show_gradients(
    lm: LanguageModel, paths: Sequence[str] | None, *, lags: int, encoding: str, as_json: bool, out: Path | None
) -> None:
    """Measures the gradients of a run, prints what was found, and draws it into a file if one is named.

    Args:
        lm: the model.
        paths: a text to measure on; without any, the run's own validation split.
        lags: the longest.
        encoding: of the text.
        as_json: print one JSON object.
        out: an SVG file, or a PNG file.
    """
    draw = None if out is None else _renderer(out)
    from charlm.analysis.gradients import compare_with_untrained, held_out
    from charlm.text.corpus import load_held_out

    split = load_held_out(paths, lm.vocabulary, encoding=encoding, note=note) if paths else held_out(lm)
    text = printable(", ".join(paths)) if paths else "the run's validation split"
    report = compare_with_untrained(lm, split, text, lags=lags)
    longest = len(report.places) - 1
    if longest < lags:
        note(f"only lags up to {longest} are shown, because too few places have more {report.unit} before them")
    if len(lm.mixture.experts) > 1:
        note("this model is a mixture; only the gradients of its network are shown")
    if out is not None and draw is not None:
        with replace_file(out) as file:
            file.write(draw(_draw(report)))
    if as_json:
        print(json_line(_as_json(report)))
    else:
        print("\n".join(_as_text(report, terminal_width(sys.stdout))))


def _renderer(out: Path) -> Callable[[str], bytes]:
    """Returns what makes a file of a plot in SVG, by the ending of its name.

    Raises:
        InputError: the file cannot be written, or is of another kind, or what makes PNG is not installed.
    """
    if not out.parent.is_dir() or out.is_dir():
        raise InputError(
            f"--out {out}: there is no such folder"
            if not out.parent.is_dir()
            else f"--out {out}: this is a folder, not a file"
        )
    if out.suffix.lower() == ".svg":
        return str.encode
    if out.suffix.lower() != ".png":
        raise InputError(f"--out {out}: the plot is written as SVG or PNG; give a name that ends in .svg or .png")
    try:
        from resvg_py import svg_to_bytes
    except ImportError:
        raise InputError(
            "PNG files need resvg-py; run `pip install 'charlm[png]'`, or give a name that ends in .svg"
        ) from None
    return lambda svg: bytes(svg_to_bytes(svg_string=svg, zoom=_PNG_PIXELS))


# ----------------------------------------------------------------------------------------------------- JSON


def _as_json(report: GradientReport) -> dict[str, Any]:
    return {
        "text": report.text,
        "unit": report.unit,
        "places": report.places.tolist(),
        **{name: _network_as_json(network) for name, network in report.networks.items()},
    }


def _network_as_json(network: NetworkGradients) -> dict[str, Any]:
    return {
        "gradients": [
            {
                "layer": curve.layer,
                "state": curve.state,
                **_quartiles_as_json(curve.norms),
                "decay": _finite(curve.decay),
                "half_life": _finite(curve.half_life),
            }
            for curve in network.states
        ],
        "connectivity": _quartiles_as_json(network.connectivity),
        "gates": [
            {"layer": gate.layer, "gate": gate.gate, "below_0.1": gate.below, "above_0.9": gate.above}
            for gate in network.gates
        ],
        "recurrent_matrices": [
            {
                "layer": matrix.layer,
                "block": matrix.block,
                "spectral_radius": matrix.radius,
                "largest_singular_value": matrix.largest_singular_value,
            }
            for matrix in network.spectra
        ],
    }


def _quartiles_as_json(quartiles: Quartiles) -> dict[str, list[float | None]]:
    rows = {"median": quartiles.median, "lower_quartile": quartiles.lower, "upper_quartile": quartiles.upper}
    return {name: [_finite(value) for value in values.tolist()] for name, values in rows.items()}


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


# ----------------------------------------------------------------------------------------------------- text


def _as_text(report: GradientReport, width: int | None) -> Iterator[str]:
    """Yields the lines that people read."""
    networks = report.networks
    layers = layer_count(report)
    count, longest = count_of(int(report.places[0]), "place"), len(report.places) - 1
    yield wrap_lines(f"gradients at {count} of {report.text}, up to {longest} {report.unit} back", width)
    for name, network in networks.items():
        (top,) = (curve for curve in network.states if (curve.layer, curve.state) == (layers, "s"))
        heading = f"log10 of the median norm of the gradient by {_state_name(top, layers)}, {name}"
        yield ""
        yield wrap_lines(heading, width)
        yield from _curve(top, width)
    yield ""
    yield wrap_lines("norm of the gradient of the loss by each state, median", width)
    columns = [
        [f"{_state_name(curve, layers)} {name}", *_numbers(curve.norms, 0)]
        for curves in zip(*(network.states for network in networks.values()), strict=True)
        for name, curve in zip(networks, curves, strict=True)
    ]
    yield from _columns("lag", _lags(longest, 0), columns, width)
    yield ""
    yield wrap_lines("fitted decay: the factor from one lag to the next, and the half-life", width)
    yield from fit_table([["state", "network", "factor", "half-life"], *decay_rows(report)], "<<><", width)
    yield ""
    yield wrap_lines("connectivity: gradient of the true next logit by each input, median norm", width)
    columns = [[name, *_numbers(network.connectivity, 1)] for name, network in networks.items()]
    yield from _columns(f"{report.unit} back", _lags(longest, 1), columns, width)
    yield from _causes(report, width)


def _causes(report: GradientReport, width: int | None) -> Iterator[str]:
    """Yields the tables of gates and of matrices."""
    if report.networks["trained"].gates:
        yield ""
        yield wrap_lines("gates: share of time below 0.1 and above 0.9", width)
        head = ["gate", *(f"{name} {side}" for name in report.networks for side in ("< 0.1", "> 0.9"))]
        yield from fit_table([head, *gate_rows(report, decimals=1)], "<>>>>", width)
    yield ""
    yield wrap_lines("recurrent matrices: spectral radius ρ and largest singular value σ", width)
    head = ["matrix", *(f"{name} {what}" for name in report.networks for what in "ρσ")]
    yield from fit_table([head, *matrix_rows(report)], "<>>>>", width)


def _state_name(curve: StateGradient, layers: int) -> str:
    return name_in_layer(curve.state, curve.layer, layers)


def _lags(longest: int, first: int) -> list[int]:
    return [lag for lag in _SHOWN if first <= lag < longest] + [longest]


def _numbers(quartiles: Quartiles, first: int) -> list[str]:
    """Formats the medians at the lags of the tables, the first of which stands at the beginning."""
    lags = _lags(len(quartiles.median) - 1 + first, first)
    return [f"{quartiles.median[lag - first]:.2e}" for lag in lags]


def _columns(name: str, lags: Sequence[int], columns: Sequence[Sequence[str]], width: int | None) -> list[str]:
    table = zip([name, *map(str, lags)], *columns, strict=True)
    return fit_table(table, ">" * (len(columns) + 1), width, min_name=None)


def _curve(curve: StateGradient, width: int | None) -> list[str]:
    points = [(float(lag), math.log10(v)) for lag, v in enumerate(curve.norms.median.tolist()) if 0 < v < math.inf]
    if not points:
        return ["zero at every lag"]
    room = _CURVE_WIDTH if width is None else max(10, min(_CURVE_WIDTH, width - CURVE_LABEL_CELLS))
    return draw_curve(points, width=room, height=_CURVE_HEIGHT)


# ----------------------------------------------------------------------------------------------------- plot


def _draw(report: GradientReport) -> str:
    from charlm.analysis.chart import draw_charts

    states = report.networks["trained"].states
    layers = layer_count(report)
    panels = [
        _panel(
            report,
            f"Gradient of the loss by the state {_state_name(state, layers)}",
            f"lag k, in {report.unit}",
            "norm",
            0,
            lambda network, number=number: network.states[number].norms,  # type: ignore[misc]
        )
        for number, state in enumerate(states)
    ]
    panels.append(
        _panel(
            report,
            "Connectivity: gradient of the true next logit",
            f"{report.unit} back",
            "norm, by the one-hot input",
            1,
            lambda network: network.connectivity,
        )
    )
    description = " ".join(
        f"{name}, {_state_name(curve, layers)}: {curve.norms.median[0]:.2e} at lag 0, {curve.norms.median[-1]:.2e} "
        f"at lag {len(report.places) - 1}, half-life {describe_half_life(curve, report.unit)}."
        for name, network in report.networks.items()
        for curve in network.states
    )
    title = f"Gradients through time, at {count_of(int(report.places[0]), 'place')} of {report.text}"
    return draw_charts(cut(title, _TITLE_CELLS), description, panels)


def _panel(
    report: GradientReport,
    title: str,
    x_label: str,
    y_label: str,
    first: int,
    values_of: Callable[[NetworkGradients], Quartiles],
) -> Panel:
    from charlm.analysis.chart import Line, Panel

    lines = []
    for name, network in report.networks.items():
        found = values_of(network)
        x = range(first, first + len(found.median))
        lines.append(Line(name, x, found.median.tolist(), found.lower.tolist(), found.upper.tolist()))
    return Panel(title, x_label, y_label, lines)
