"""A plan drawn as SVG: its stages side by side, what goes between them, and the schedule over time."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from optc.targets.cluster.program import Collective, Program
from optc.targets.cluster.simulate import Span, fetched_bytes

_COMPUTE, _FETCH, _INK, _GRID, _ARROW = "#33658a", "#e0a13a", "#1d2733", "#d5dce5", "#c0504d"
_SHADES = ("#33658a", "#6aa5c9", "#5b8c5a", "#7d5ba6")
"""Of micro-batches, in turn."""
_WIDTH, _LEFT, _ROW, _TOP = 900, 24, 34, 96
_LEAST = 46
"""Pixels of the narrowest stage."""
_SHOWN = 12
"""Ranks of the schedule that are drawn, from the first on."""


def draw_plan(
    title: str,
    program: Program,
    compute: Sequence[float],
    receive: Sequence[float],
    spans: Sequence[Span],
) -> str:
    """`compute`, `receive`: seconds of each stage a micro-batch; `spans`: the schedule of one replica."""
    stages, bottom = _stages(program, compute, receive)
    schedule, height = _schedule(program, spans, bottom + 56)
    parts = [_text(_LEFT, 30, title, 'font-weight="bold" font-size="15"'), *_legend(), *stages, *schedule]
    body = "\n".join(parts)
    width = _WIDTH + 2 * _LEFT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="Helvetica, Arial, sans-serif" font-size="11.5" fill="{_INK}">\n'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def _legend() -> list[str]:
    parts, x = [], float(_LEFT)
    for colour, name in ((_FETCH, "receive"), (_COMPUTE, "compute"), (_ARROW, "bytes a micro-batch")):
        parts.append(_rect(x, 46, 11, 11, colour))
        parts.append(_text(x + 16, 56, name))
        x += 40 + 6.7 * len(name)
    return parts


def _stages(program: Program, compute: Sequence[float], receive: Sequence[float]) -> tuple[list[str], float]:
    """The stages as columns whose width is their time, a row for each rank, and arrows below them."""
    total = sum(compute) + sum(receive) or 1.0
    room = _WIDTH - (_LEAST + 10) * len(compute)
    parts, x, middles = [], float(_LEFT), []
    for stage, (busy, wait) in enumerate(zip(compute, receive, strict=True)):
        width = _LEAST + max(room, 0) * (busy + wait) / total
        fetch = width * wait / (busy + wait) if busy + wait else 0.0
        parts.append(_text(x, _TOP - 18, f"stage {stage}", 'font-weight="bold"'))
        parts.append(_text(x, _TOP - 5, seconds_text(busy + wait)))
        for t in range(program.tensor):
            y = _TOP + _ROW * t
            parts.append(_rect(x, y, fetch, _ROW - 4, _FETCH))
            parts.append(_rect(x + fetch, y, width - fetch, _ROW - 4, _COMPUTE))
            label = f"rank {stage * program.tensor + t}"
            parts.append(_text(x + width / 2, y + 19, label, 'text-anchor="middle" fill="#ffffff"'))
        middles.append(x + width / 2)
        x += width + 10
    arrows, bottom = _arrows(program, middles, float(_TOP + _ROW * program.tensor))
    return parts + arrows, bottom


def _arrows(program: Program, middles: Sequence[float], top: float) -> tuple[list[str], float]:
    """What goes from stage to stage (or within one), bytes a micro-batch of all its ranks."""
    sizes: dict[tuple[int, int], int] = {}
    for number, rank in enumerate(program.ranks):
        for part in rank.parts:
            for giver, size in fetched_bytes(program, number, part).items():
                pair = (program.ranks[giver].stage, rank.stage)
                sizes[pair] = sizes.get(pair, 0) + size
    parts, y = [], top + 14
    for (source, to), size in sorted(sizes.items(), key=lambda entry: (entry[0][1] - entry[0][0], entry[0])):
        width = f'stroke="{_ARROW}" stroke-width="{1 + min(5, size.bit_length() / 6):.1f}" fill="none"'
        a, b = middles[source], middles[to]
        if source == to:
            kinds = [c.kind for c in program.collectives if _within(program, c, source)]
            names = ", ".join(f"{kinds.count(k)} {k}" for k in dict.fromkeys(kinds))
            parts.append(f'<path d="M{a - 16:.1f} {y} H{a + 16:.1f}" {width}/>')
            right = a > _LEFT + _WIDTH / 2
            place = 'text-anchor="end"' if right else ""
            text = f"{bytes_text(size)} in stage {to}: {names}"
            parts.append(_text(a - 24 if right else a + 24, y + 4, text, place))
        else:
            parts.append(f'<path d="M{a:.1f} {y} H{b - 7:.1f}" {width}/>')
            parts.append(f'<path d="M{b} {y} l-9 -5 v10 z" fill="{_ARROW}"/>')
            parts.append(_text((a + b) / 2, y - 5, bytes_text(size), 'text-anchor="middle"'))
        y += 24
    return parts, y


def _within(program: Program, collective: Collective, stage: int) -> bool:
    return all(program.ranks[r].stage == stage for r in (*collective.ranks, *collective.to))


def _schedule(program: Program, spans: Sequence[Span], top: float) -> tuple[list[str], float]:
    """The ranks as rows over time; shades tell micro-batches apart."""
    ranks = min(len(program.ranks), _SHOWN)
    end = max((s.stop for s in spans), default=1.0) or 1.0
    scale = (_WIDTH - 60) / end
    left = _LEFT + 60
    parts = [_text(_LEFT, top - 16, f"schedule: {seconds_text(end)}", 'font-weight="bold"')]
    bottom = top + 22 * ranks
    for tick in range(5):
        x = left + tick / 4 * end * scale
        parts.append(f'<path d="M{x:.1f} {top} V{bottom}" stroke="{_GRID}"/>')
        parts.append(_text(x, bottom + 16, seconds_text(tick / 4 * end), 'text-anchor="middle"'))
    for rank in range(ranks):
        parts.append(_text(_LEFT, top + 22 * rank + 15, f"rank {rank}"))
    for span in (s for s in spans if s.rank < ranks):
        y, shade = top + 22 * span.rank + 2, _SHADES[span.request % len(_SHADES)]
        parts.append(_rect(left + span.start * scale, y, (span.compute - span.start) * scale, 18, _FETCH))
        width = (span.stop - span.compute) * scale
        parts.append(_rect(left + span.compute * scale, y, width, 18, shade))
        if width > 16 and span.part == 0:
            x = left + span.compute * scale + width / 2
            parts.append(_text(x, y + 13, str(span.request), 'text-anchor="middle" fill="#ffffff"'))
    if ranks < len(program.ranks):
        parts.append(_text(_LEFT, bottom + 34, f"and {len(program.ranks) - ranks} more ranks"))
    return parts, bottom + 44


def seconds_text(seconds: float) -> str:
    """Such as `3.21 ms`."""
    if not seconds:
        return "0"
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1 or unit == "µs":
            return f"{seconds * factor:.3g} {unit}"
    raise AssertionError


def bytes_text(size: float) -> str:
    """Such as `1.5 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.3g} {unit}"
        size /= 1000
    raise AssertionError


def _rect(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height}" fill="{colour}"/>'


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(text)}</text>'
