"""Charts as SVG: lines stand where their numbers say, whatever these are."""

import re
from itertools import pairwise

import pytest

from charlm.report.charts import Chart, Series
from pages import Page


def points_of(svg: str, kind: str) -> list[tuple[float, float]]:
    (path,) = re.findall(rf'class="{kind} n0" d="M([^"]+)"', svg)
    return [(float(x), float(y)) for x, y in (pair.split() for pair in path.strip("Z").split("L"))]


def test_a_line_goes_through_its_points():
    chart = Chart("t", "d.", "x", "y", [Series("line", [0, 5, 10], [0, 50, 100])])
    (x0, y0), (x1, y1), (x2, y2) = points_of(chart.svg, "line")
    assert x1 == pytest.approx((x0 + x2) / 2, abs=0.2)
    assert y1 == pytest.approx((y0 + y2) / 2, abs=0.2)
    assert x0 < x2
    assert y0 > y2


def test_a_logarithmic_axis_makes_powers_equidistant_and_zero_the_bottom():
    chart = Chart("t", "d.", "x", "y", [Series("", [0, 1, 2, 3], [1, 1e-2, 1e-4, 0])], log_y=True)
    heights = [y for _, y in points_of(chart.svg, "line")]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.2)
    assert heights[3] >= heights[2]
    assert "10⁻⁴" in chart.svg


@pytest.mark.parametrize("values", [[1.0], [2.0, 2.0], [float("nan"), 1.0], [float("inf"), 3.0, 2.0], [0.0, 0.0]])
@pytest.mark.parametrize("log", [False, True])
def test_any_numbers_can_be_drawn(values: list[float], log: bool):
    svg = Chart("t", "d.", "x", "y", [Series("n", range(len(values)), values)], log_y=log).svg
    assert "nan" not in svg
    assert "inf" not in svg
    Page(svg)


def test_names_of_lines_do_not_stand_on_each_other():
    references = [(f"r{n}", 2.0 + n / 1000, n % 5) for n in range(6)]
    svg = Chart("t", "d.", "x", "y", [Series("s", [0, 1], [5, 2])], references).svg
    heights = sorted(float(y) for y in re.findall(r'class="label n\d" x="[\d.]+" y="([\d.]+)"', svg))
    assert len(heights) == 7
    assert min(b - a for a, b in pairwise(heights)) >= 14


def test_names_in_a_chart_are_escaped():
    svg = Chart("<b>", '"><script>', "<x>", "<y>", [Series("<s>", [0, 1], [1, 2])], [("<r>", 1.0, 0)]).svg
    assert {tag for tag, _ in Page(svg).elements} == {"svg", "text", "path"}
