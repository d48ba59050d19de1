"""Layers: the scales of what they read and of what they make go into their weights."""

from __future__ import annotations

import numpy as np

from optc.passes.equalize.rules_sums import meet
from optc.passes.equalize.scaled import ScaledRule
from optc.passes.prune.structured.axes import Place
from optc.passes.prune.structured.rule import Result

FIXED = "its weight is no float32 constant of its own (quantized, computed, or an input)"


def convolution(rule: ScaledRule) -> Result:
    """Conv: weight [M, C/group, …]. ConvTranspose: [C, M/group, …]."""
    weight = rule.constant(1)
    if weight is None:
        return FIXED
    groups, transposed = int(rule.node.attrs.get("group", 1)), rule.node.op == "ConvTranspose"
    sides = (rule.y, rule.x) if transposed else (rule.x, rule.y)
    planes = (1,) * (weight.ndim - 2)
    across, along = rule.atoms(sides[0], 1), rule.atoms(sides[1], 1)  # of axes 1 and 0 of the weight
    if across is not None:
        size = weight.shape[0] // groups
        spread = np.repeat(across.reshape(groups, 1, -1), size, axis=1).reshape(*weight.shape[:2], *planes)
        rule.slot(1, sides[0], 1, across.reshape(1, -1, *planes) if groups == 1 else spread, weight=True)
    if along is not None:
        rule.slot(1, sides[1], 1, along.reshape(-1, 1, *planes), weight=True)
    return _bias(rule)


def gemm(rule: ScaledRule) -> Result:
    """`y[m, n] = sum_k a[m, k] b[k, n] + c[n]`, each possibly transposed; `b` is the weight."""
    weight = rule.constant(1)
    if weight is None or not rule.varies(0):
        return FIXED
    k = 0 if rule.node.attrs.get("transA", 0) else 1
    turned = bool(rule.node.attrs.get("transB", 0))
    for value, axis, column in ((rule.x, k, turned), (rule.y, 1, not turned)):
        atoms = rule.atoms(value, axis)
        if atoms is not None:
            rule.slot(1, value, axis, atoms[None] if column else atoms[:, None], weight=True)
    return _bias(rule)


def matmul(rule: ScaledRule) -> Result:
    """The weight is [..., K, N] at the second input."""
    weight = rule.constant(1)
    if not rule.varies(0) or (weight is None and rule.is_constant(1)):
        return FIXED
    ranks = [rule.rank(place) for place in (rule.x, rule.y)]
    if weight is None or weight.ndim < 2 or min(ranks) < 2:
        return "it multiplies two activations, or by a vector"
    for value, axis in ((rule.x, ranks[0] - 1), (rule.y, ranks[1] - 1)):
        atoms = rule.atoms(value, axis)
        if atoms is not None:
            rule.slot(1, value, axis, atoms if value.output else atoms[:, None], weight=True)
    return None


def _bias(rule: ScaledRule) -> Result:
    """The bias of a Conv, or the last axis of a Gemm's."""
    if not rule.given(2):
        return None
    bias = Place(rule.node, 2)
    return meet(rule, bias, rule.rank(bias) - 1, 1)


def normalization(rule: ScaledRule) -> Result:
    """LayerNormalization, RMSNormalization: a scale, and perhaps a bias, of the shape of the last axes."""
    rank = rule.rank(rule.y)
    first = rule.axis(-1, rank)
    for index in (1, 2):
        if not rule.given(index):
            continue
        place = Place(rule.node, index)
        if rule.varies(index) or rule.rank(place) != rank - first:
            return "its scale or bias is no constant for each channel"
        for axis in range(first, rank):
            reason = meet(rule, place, axis - first, axis)
            if reason:
                return reason
    return None
