"""Curves as SVG text, both axes logarithmic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

_COLOURS = ("#33658a", "#e0a13a", "#5b8c5a", "#c0504d", "#7d5ba6", "#6aa5c9")
_INK, _GRID = "#1d2733", "#d5dce5"
_WIDTH, _HEIGHT, _LEFT, _TOP = 620, 360, 84, 84

Curves = Mapping[str, Sequence[tuple[float, float]]]


def line_chart(title: str, across: str, up: str, curves: Curves) -> str:
    """`curves`: points (x, y), all above 0, by name; `across`, `up`: what the axes are."""
    points = [point for curve in curves.values() for point in curve]
    xs, ys = _axis([x for x, _ in points], 2.0), _axis([y for _, y in points], 10.0)

    def place(x: float, y: float) -> tuple[float, float]:
        right = _LEFT + _WIDTH * _share(x, xs)
        return right, _TOP + _HEIGHT * (1 - _share(y, ys))

    parts = [_text(24, 30, title, 'font-weight="bold" font-size="15"'), *_legend(list(curves))]
    for x in xs:
        at, _ = place(x, ys[0])
        parts.append(f'<path d="M{at:.1f} {_TOP} V{_TOP + _HEIGHT}" stroke="{_GRID}"/>')
        parts.append(_text(at, _TOP + _HEIGHT + 18, f"{x:g}", 'text-anchor="middle"'))
    for y in ys:
        _, at = place(xs[0], y)
        parts.append(f'<path d="M{_LEFT} {at:.1f} H{_LEFT + _WIDTH}" stroke="{_GRID}"/>')
        parts.append(_text(_LEFT - 8, at + 4, f"{y:g}", 'text-anchor="end"'))
    for number, curve in enumerate(curves.values()):
        colour = _COLOURS[number % len(_COLOURS)]
        ends = [place(x, y) for x, y in curve]
        path = " ".join(f"{'L' if i else 'M'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(ends))
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in ends]
    parts.append(_text(_LEFT + _WIDTH / 2, _TOP + _HEIGHT + 40, across, 'text-anchor="middle"'))
    parts.append(_text(24, _TOP - 10, up))
    width, height = _LEFT + _WIDTH + 32, _TOP + _HEIGHT + 56
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="Helvetica, Arial, sans-serif" font-size="11.5" fill="{_INK}">\n'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def _axis(values: Sequence[float], base: float) -> list[float]:
    """Powers of `base` around all values, thinned out to a dozen."""
    low = math.floor(math.log(min(values), base) + 1e-9)
    high = max(math.ceil(math.log(max(values), base) - 1e-9), low + 1)
    step = -(-(high - low) // 12)
    return [base**e for e in range(low, high + step, step)]


def _share(value: float, axis: Sequence[float]) -> float:
    return math.log(value / axis[0]) / math.log(axis[-1] / axis[0])


def _legend(names: Sequence[str]) -> list[str]:
    parts, x = [], 24.0
    for number, name in enumerate(names):
        colour = _COLOURS[number % len(_COLOURS)]
        parts.append(f'<rect x="{x}" y="42" width="11" height="11" fill="{colour}"/>')
        parts.append(_text(x + 16, 52, name))
        x += 36 + 6.7 * len(name)
    return parts


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(text)}</text>'
