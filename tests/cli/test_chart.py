"""The picture is XML, and its bars are as long as the values say."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optc.cli.chart import Bars, bar_chart

SVG = "{http://www.w3.org/2000/svg}"


def bars_of(text: str) -> list[tuple[float, float]]:
    """Left end and width of the bars; background and legend left out."""
    rects = [
        r for r in ElementTree.fromstring(text).iter(f"{SVG}rect") if "x" in r.attrib and r.get("y") != "38"
    ]
    return [(float(r.attrib["x"]), float(r.attrib["width"])) for r in rects]


def test_lengths() -> None:
    (a, b, c, d) = bars_of(
        bar_chart("t", ["p", "q"], [("m", [20, 40]), ("n", [None, -10]), ("o", [math.inf])])
    )
    assert a[1] == pytest.approx(2 * c[1], abs=0.2) and b[1] == pytest.approx(2 * a[1], abs=0.2)
    assert a[0] == b[0] == d[0] and c[0] + c[1] == pytest.approx(a[0], abs=0.2)
    assert d[1] == b[1]  # the end of the axis


def test_labels_are_text() -> None:
    root = ElementTree.fromstring(bar_chart("a <b> & c", ["s"], [("x" * 30 + "<&>" + "y" * 30, [1.0])]))
    texts = [e.text for e in root.iter(f"{SVG}text")]
    assert texts[0] == "a <b> & c" and "x" * 21 + "…" + "y" * 21 in texts


VALUES = st.none() | st.floats(-300, 300) | st.sampled_from([math.inf, -math.inf])


@given(
    st.lists(st.tuples(st.text("ab/.", max_size=60), st.lists(VALUES, min_size=3, max_size=3)), max_size=70)
)
def test_everything_lies_within_the_picture(bars: Bars) -> None:
    text = bar_chart("t", ["p", "q", "r"], bars)
    root = ElementTree.fromstring(text)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert len(bars_of(text)) == sum(v is not None for _, values in bars for v in values)
    for rect in root.iter(f"{SVG}rect"):
        x, y = float(rect.get("x", 0)), float(rect.get("y", 0))
        assert x >= 0 and x + float(rect.attrib["width"]) <= width
        assert y >= 0 and y + float(rect.attrib["height"]) <= height
