"""What Reshape and Flatten do to channels: axes are split and merged."""

from __future__ import annotations

from math import prod

import numpy as np

from optc.passes.analysis.shapes import Shape
from optc.passes.prune.structured.axes import Place
from optc.passes.prune.structured.rule import Result, Rule


def reshape(rule: Rule) -> Result:
    """Reshape and Flatten: axes that keep their size go through, others are split or merged."""
    if rule.node.op == "Reshape" and (not rule.is_constant(1) or rule.node.attrs.get("allowzero", 0)):
        return "its shape is computed at run time"
    source, target = rule.x.shape or (), rule.y.shape or ()
    for before, after in blocks(source, target, _copied(rule)):
        _reshape_block(rule, before, after)
    return None


def _copied(rule: Rule) -> list[int]:
    """The axes that a Reshape copies (0 in its shape), or the batch of a Flatten."""
    if rule.node.op == "Flatten":
        return [0] if rule.axis(1, rule.rank(rule.x) + 1) == 1 else []
    return [i for i, v in enumerate(rule.numbers(1, "shape") or ()) if v == 0]


def _reshape_block(rule: Rule, before: list[int], after: list[int]) -> None:
    """Axes `before` of the input and `after` of the output, which hold the same elements."""
    source = [(a, s) for a in before if isinstance(s := (rule.x.shape or ())[a], int) and s != 1]
    target = [(a, s) for a in after if isinstance(s := (rule.y.shape or ())[a], int) and s != 1]
    if [s for _, s in source] == [s for _, s in target]:
        for (a, _), (b, _) in zip(source, target, strict=True):
            rule.link((rule.x, a), (rule.y, b))
        return
    merged = len(target) == 1 and _spread(rule, (rule.x, source), (rule.y, target[0][0]))
    if not merged and not (len(source) == 1 and _spread(rule, (rule.y, target), (rule.x, source[0][0]))):
        reason = f"it is reshaped together with others at {rule.node.name or rule.node.op}"
        rule.stay(rule.x, before, reason)
        rule.stay(rule.y, after, reason)


def _spread(rule: Rule, many: tuple[Place, list[tuple[int, int]]], one: tuple[Place, int]) -> bool:
    """Link the axes `many` = (axis, size) of one side to the single axis that holds all their elements.

    One of `many` carries the channels: the one that is known to, else (heads, then what is in a head) the
    first that is no small stack such as the 3 of query, key and value. The others must stay.
    """
    place, axes = many
    flat = rule.atoms(*one)
    if flat is None or flat.size != prod(size for _, size in axes):
        return False
    atoms = {axis: rule.atoms(place, axis) for axis, _ in axes}
    carriers = [axis for axis, _ in axes if rule.axes.holds_channels(atoms[axis])]  # type: ignore[arg-type]
    if len(carriers) > 1 or not (carriers or rule.axes.holds_channels(flat)):
        return False
    carrier = carriers[0] if carriers else _first_large(axes)
    for axis, _ in axes:
        if axis != carrier:
            rule.stay(place, [axis], "it is reshaped together with channels")
    inner = prod(size for axis, size in axes if axis > carrier)
    size = dict(axes)[carrier]
    carried = atoms[carrier]
    assert carried is not None
    rule.axes.link(flat, carried[np.arange(flat.size) // inner % size])
    return True


_STACK = 3


def _first_large(axes: list[tuple[int, int]]) -> int:
    return next((axis for axis, size in axes[:-1] if size > _STACK), axes[0][0])


def blocks(source: Shape, target: Shape, copied: list[int]) -> list[tuple[list[int], list[int]]]:
    """The axes of two shapes of the same elements in groups that hold the same, as fine as can be told.

    `copied`: places where the target takes the source's size. Sizes that are not known end up in one group.
    """
    found: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(source) and j < len(target):
        same = source[i] == target[j] and source[i] is not None
        if not (same or (j in copied and i == j)):
            break
        found.append(([i], [j]))
        i, j = i + 1, j + 1
    ends: list[tuple[list[int], list[int]]] = []
    m, n = len(source), len(target)
    while True:
        step = _last_block(source[i:m], target[j:n])
        if step is None:
            break
        a, b = step
        ends.append((list(range(m - a, m)), list(range(n - b, n))))
        m, n = m - a, n - b
    if m > i or n > j:
        ends.append((list(range(i, m)), list(range(j, n))))
    return found + ends[::-1]


def _last_block(source: Shape, target: Shape) -> tuple[int, int] | None:
    """How many axes at the end of both shapes have the same product; None where it cannot be told."""
    a = b = 0
    left = right = 1
    while not (a and b and left == right):
        take_source = (left <= right and a < len(source)) or b == len(target)
        size = source[-a - 1] if take_source and a < len(source) else None
        if not take_source:
            size = target[-b - 1]
        if not isinstance(size, int) or size == 0:
            return None
        if take_source:
            left, a = left * size, a + 1
        else:
            right, b = right * size, b + 1
    return a, b
