"""What was measured of gradients as rows of words and numbers, for the terminal and for pages; without torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from charlm.analysis.gradients import GradientReport, StateGradient


def layer_count(report: GradientReport) -> int:
    """Returns how many layers the networks have."""
    return max(curve.layer for curve in report.networks["trained"].states)


def name_in_layer(name: str, layer: int, layers: int) -> str:
    """Returns the name of a state, gate or matrix, with its layer where there are several."""
    return name if layers == 1 else f"{name}, layer {layer}"


def describe_half_life(curve: StateGradient, unit: str) -> str:
    """Returns the half-life of a gradient in words."""
    if math.isnan(curve.decay):
        return "none: too few medians are not zero"
    if curve.decay == 1:
        return "infinite: it keeps its size"
    if curve.decay > 1:
        return f"none: it grows, and doubles in {-curve.half_life:.1f} {unit}"
    return f"{curve.half_life:.1f} {unit}"


def decay_rows(report: GradientReport) -> list[list[str]]:
    """Returns for each state and network: their names, the fitted factor a step, and the half-life."""
    layers = layer_count(report)
    return [
        [
            name_in_layer(curve.state, curve.layer, layers),
            name,
            f"{curve.decay:.4f}",
            describe_half_life(curve, report.unit),
        ]
        for curves in zip(*(network.states for network in report.networks.values()), strict=True)
        for name, curve in zip(report.networks, curves, strict=True)
    ]


def gate_rows(report: GradientReport, decimals: int) -> list[list[str]]:
    """Returns for each gate its name, and for each network the share of time below 0.1 and above 0.9."""
    layers = layer_count(report)
    return [
        [
            name_in_layer(gates[0].gate, gates[0].layer, layers),
            *(f"{share:.{decimals}%}" for gate in gates for share in (gate.below, gate.above)),
        ]
        for gates in zip(*(network.gates for network in report.networks.values()), strict=True)
    ]


def matrix_rows(report: GradientReport) -> list[list[str]]:
    """Returns for each recurrent matrix its name, and of each network its radius and largest singular value."""
    layers = layer_count(report)
    return [
        [
            name_in_layer(matrices[0].block, matrices[0].layer, layers),
            *(f"{n:.3f}" for matrix in matrices for n in (matrix.radius, matrix.largest_singular_value)),
        ]
        for matrices in zip(*(network.spectra for network in report.networks.values()), strict=True)
    ]
