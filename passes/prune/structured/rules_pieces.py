"""Operators that join, cut and choose channels."""

from __future__ import annotations

import numpy as np

from optc.passes.prune.structured.axes import Place
from optc.passes.prune.structured.rule import Result, Rule
from optc.passes.prune.structured.rules_layers import makes


def concat(rule: Rule) -> Result:
    """The channels of the inputs, one after another."""
    rank = rule.rank(rule.y)
    at = rule.axis(0, rank)
    parts = [rule.atoms(place, at) for place in rule.inputs]
    joined = rule.atoms(rule.y, at)
    sizes = [p.size for p in parts if p is not None]
    if joined is None or len(sizes) != len(parts) or sum(sizes) != joined.size:
        return "the sizes that it joins are not fixed"
    ends = np.cumsum(sizes)[:-1]
    for part, piece in zip(parts, np.split(joined, ends), strict=True):
        assert part is not None
        rule.axes.link(part, piece)
    for place in rule.inputs:
        for axis in range(rank):
            if axis != at:
                rule.link((place, axis), (rule.y, axis))
    return None


def split(rule: Rule) -> Result:
    """Pieces of the channels."""
    rank = rule.rank(rule.x)
    at = rule.axis(0, rank)
    whole = rule.atoms(rule.x, at)
    parts = [rule.atoms(place, at) for place in rule.outputs]
    sizes = [p.size for p in parts if p is not None]
    if len(rule.outputs) != len(rule.node.outputs) or whole is None or sum(sizes) != whole.size:
        return "the sizes that it splits into are not known"
    for part, piece in zip(parts, np.split(whole, np.cumsum(sizes)[:-1]), strict=True):
        assert part is not None
        rule.axes.link(part, piece)
    for place in rule.outputs:
        for axis in range(rank):
            if axis != at:
                rule.link((rule.x, axis), (place, axis))
    return None


def slice_(rule: Rule) -> Result:
    """A range of the channels, in steps of 1."""
    rank = rule.rank(rule.x)
    starts, steps = rule.numbers(1, "starts"), rule.numbers(4, "steps")
    axes = rule.numbers(3, "axes") or list(range(len(starts or ())))
    if starts is None or (rule.given(4) and steps is None) or (rule.given(3) and not rule.is_constant(3)):
        return "what it cuts out is computed at run time"
    cut = {
        a % rank: (s, (steps or [1] * len(axes))[i])
        for i, (a, s) in enumerate(zip(axes, starts, strict=True))
    }
    for axis in range(rank):
        if axis not in cut:
            rule.link((rule.x, axis), (rule.y, axis))
            continue
        whole, piece = rule.atoms(rule.x, axis), rule.atoms(rule.y, axis)
        start, step = cut[axis]
        if whole is None or piece is None or step != 1:
            rule.stay(rule.x, [axis], "a Slice in steps reads it")
            rule.stay(rule.y, [axis], "a Slice in steps makes it")
            continue
        first = min(max(start + whole.size, 0) if start < 0 else start, whole.size)
        rule.axes.link(whole[first : first + piece.size], piece)
    return None


def gather(rule: Rule) -> Result:
    """Rows of a table: what is along `axis` is chosen, the other axes go through."""
    data, chosen = Place(rule.node, 0), Place(rule.node, 1)
    rank, count = rule.rank(data), rule.rank(chosen)
    at = rule.axis(0, rank)
    for axis in range(rank):
        if axis == at:
            continue
        if rule.is_constant(0):
            makes(rule, data, axis)
        rule.link((data, axis), (rule.y, axis if axis < at else axis - 1 + count))
    whole = rule.atoms(data, at)
    made = rule.atoms(rule.y, at) if count == 1 else None
    if whole is None or made is None or not rule.is_constant(1):
        rule.stay(data, [at], "it is chosen from by index")
        rule.stay(rule.y, range(at, at + count), "it is chosen by index")
        return None
    rule.axes.link(whole[np.asarray(rule.node.inputs[1].values).reshape(-1)], made)
    return None
