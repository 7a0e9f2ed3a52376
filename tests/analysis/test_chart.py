"""Charts as SVG: well formed, with everything inside its axes, and readable without colours."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm.analysis.chart import Line, Panel, draw_charts

SVG = "{http://www.w3.org/2000/svg}"


def chart(values: list[float], title: str = "title") -> ElementTree.Element:
    x = range(len(values))
    lines = [Line(name, x, values, values, [2 * v for v in values]) for name in ("trained", "untrained")]
    return ElementTree.fromstring(draw_charts(title, "description", [Panel(title, "lag", "norm", lines)] * 3))


@given(st.lists(st.one_of(st.just(0.0), st.floats(1e-290, 1e290)), min_size=1, max_size=70))
def test_all_points_lie_inside_the_axes(values: list[float]) -> None:
    for path in chart(values).iter(f"{SVG}path"):
        if path.get("class", "").startswith(("line", "band")) and "h" not in path.get("d", ""):
            points = re.findall(r"([-\d.e]+) ([-\d.e]+)", path.get("d", ""))
            assert points
            assert all(66 <= float(x) <= 442 and 34 <= float(y) <= 264 for x, y in points)


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([1.0, 1e-6], ["10⁻⁶", "10⁻⁴", "10⁻²", "10⁰", "10²"]),
        ([1.0, 20.0], ["1", "2", "5", "10", "20", "50"]),
        ([3.0, 3.0], ["2", "5", "10"]),
    ],
)
def test_the_logarithmic_axis_has_round_labels(values: list[float], labels: list[str]) -> None:
    root = chart(values)
    panel = root.find(f"{SVG}g")
    assert panel is not None
    found = [text.text for text in panel.iter(f"{SVG}text") if text.get("text-anchor") == "end"]
    assert found == labels


def test_what_a_file_is_called_cannot_break_the_document() -> None:
    root = chart([1.0, 2.0], 'a<b>&"</title><script>')
    assert root.findtext(f"{SVG}title") == 'a<b>&"</title><script>'
    assert not list(root.iter(f"{SVG}script"))


def test_lines_differ_without_colours_and_a_description_stands_in_for_them() -> None:
    root = chart([1.0, 2.0])
    style = root.findtext(f"{SVG}style") or ""
    assert "stroke-dasharray" in style
    assert "prefers-color-scheme: dark" in style
    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}desc") == "description"
    assert {"trained", "untrained"} <= {text.text for text in root.iter(f"{SVG}text")}
