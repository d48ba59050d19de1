"""A horizontal bar chart as SVG text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

_COLOURS = ("#33658a", "#6aa5c9", "#e0a13a", "#5b8c5a", "#c0504d", "#7d5ba6")
_INK, _GRID = "#1d2733", "#d5dce5"
_PLOT = 560
"""Width of the bars' field in pixels."""
_TOP = 78
_LONGEST = 44
"""Characters of a label that are shown."""

Bars = Sequence[tuple[str, Sequence[float | None]]]


def bar_chart(title: str, series: Sequence[str], bars: Bars) -> str:
    """A group of bars for each of `bars` (a label, and a value for each of `series` or None), from the top.

    Values are finite or infinite; what passes the axis ends with it.
    """
    thick = 8 if len(bars) <= 12 else 5 if len(bars) <= 30 else 4
    step = thick * len(series) + max(thick, 6)
    left = 24 + round(6.7 * max((len(_short(label)) for label, _ in bars), default=0))
    low, high = _limits(bars)
    scale = _PLOT / (high - low)
    bottom = _TOP + step * len(bars)
    parts = [_text(12, 24, title, 'font-weight="bold" font-size="15"'), _legend(series)]
    for tick in range(low, high + 1, 10):
        x = left + (tick - low) * scale
        colour = "#3b4a5c" if tick == 0 else _GRID
        parts.append(f'<path d="M{x:.1f} {_TOP} V{bottom}" stroke="{colour}" stroke-width="1"/>')
        parts.extend(_text(x, y, str(tick), 'text-anchor="middle"') for y in (_TOP - 5, bottom + 16))
    for row, (label, values) in enumerate(bars):
        y = _TOP + step * row + (step - thick * len(series)) / 2
        middle = _TOP + step * (row + 0.5) + 4
        parts.append(_text(left - 8, middle, _short(label), 'text-anchor="end"'))
        for index, value in enumerate(values):
            if value is not None:
                ends = sorted(left + (min(max(v, low), high) - low) * scale for v in (0.0, value))
                place = f'x="{ends[0]:.1f}" y="{y + thick * index:.1f}" width="{ends[1] - ends[0]:.1f}"'
                parts.append(f'<rect {place} height="{thick - 0.8}" fill="{_colour(index)}"/>')
    width, height = left + _PLOT + 24, bottom + 28
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="Helvetica, Arial, sans-serif" font-size="11.5" fill="{_INK}">\n'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def _limits(bars: Bars) -> tuple[int, int]:
    """The ends of the axis: tens that hold 0 and every finite value."""
    values = [v for _, group in bars for v in group if v is not None and math.isfinite(v)]
    low, high = min([0.0, *values]), max([10.0, *values])
    return 10 * math.floor(low / 10), 10 * math.ceil(high / 10)


def _legend(series: Sequence[str]) -> str:
    x, parts = 12.0, []
    for index, name in enumerate(series):
        parts.append(f'<rect x="{x}" y="38" width="11" height="11" fill="{_colour(index)}"/>')
        parts.append(_text(x + 16, 48, name))
        x += 34 + 6.7 * len(name)
    return "\n".join(parts)


def _colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]


def _short(label: str) -> str:
    """The label, its middle left out where it is long."""
    half = (_LONGEST - 1) // 2
    return label if len(label) <= _LONGEST else f"{label[:half]}…{label[-half:]}"


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(text)}</text>'
