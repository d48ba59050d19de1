"""What layers do to channels: they make some of their own, from all that they read."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from optc.passes.prune.structured.axes import Place
from optc.passes.prune.structured.rule import Result, Rule
from optc.passes.prune.structured.rules_through import same_shape


def makes(rule: Rule, weight: Place, axis: int) -> None:
    """Note that `axis` of `weight` holds output channels, where it is a constant."""
    atoms = rule.atoms(weight, axis)
    if isinstance(weight.tensor, gs.Constant) and atoms is not None:
        rule.axes.mark(atoms)


def gemm(rule: Rule) -> Result:
    """`y[m, n] = sum_k a[m, k] b[k, n] + c`, each possibly transposed."""
    a, b = Place(rule.node, 0), Place(rule.node, 1)
    m, k = (1, 0) if rule.node.attrs.get("transA", 0) else (0, 1)
    k_b, n = (1, 0) if rule.node.attrs.get("transB", 0) else (0, 1)
    if not (rule.is_constant(0) or rule.is_constant(1)):
        return "it multiplies two activations"
    if rule.given(2):
        c = Place(rule.node, 2)
        for axis, size in enumerate(c.shape or ()):
            if size != 1:
                rule.link((c, axis), (rule.y, 2 - len(c.shape or ()) + axis))
    makes(rule, a, m)
    makes(rule, b, n)
    rule.link((a, m), (rule.y, 0))
    rule.link((b, n), (rule.y, 1))
    rule.link((a, k), (b, k_b))
    return None


def matmul(rule: Rule) -> Result:
    """Matrices in the last two axes; the axes before broadcast."""
    a, b = Place(rule.node, 0), Place(rule.node, 1)
    ranks = [rule.rank(p) for p in (a, b, rule.y)]
    if min(ranks[:2]) < 2:
        return "it multiplies by a vector"
    makes(rule, a, ranks[0] - 2)
    makes(rule, b, ranks[1] - 1)
    rule.link((a, ranks[0] - 2), (rule.y, ranks[2] - 2))
    rule.link((b, ranks[1] - 1), (rule.y, ranks[2] - 1))
    for place, rank in zip((a, b), ranks, strict=False):
        for axis in range(rank - 2):
            if (place.shape or ())[axis] != 1:
                rule.link((place, axis), (rule.y, ranks[2] - rank + axis))
    if rule.is_constant(0) or rule.is_constant(1):
        rule.link((a, ranks[0] - 1), (b, ranks[1] - 2))
        return None
    reason = "two activations are multiplied over it"
    rule.stay(a, [ranks[0] - 1], reason)
    rule.stay(b, [ranks[1] - 2], reason)
    return None


def convolution(rule: Rule) -> Result:
    """Conv: weight [M, C/group, …]. ConvTranspose: [C, M/group, …]. Of a grouped one whole groups go."""
    if not rule.is_constant(1):
        return "its weight is quantized or computed; prune before quantize"
    weight, transposed = Place(rule.node, 1), rule.node.op == "ConvTranspose"
    read, written = (0, 1) if transposed else (1, 0)
    for place in (rule.x, rule.y, weight):
        rule.stay(place, range(2, rule.rank(place)), "it is a side of an image")
    rule.link((rule.x, 0), (rule.y, 0))
    if rule.given(2):
        rule.link((Place(rule.node, 2), 0), (rule.y, 1))
    groups = int(rule.node.attrs.get("group", 1))
    if groups == 1:
        makes(rule, weight, written)
        rule.link((weight, written), (rule.y, 1))
        rule.link((rule.x, 1), (weight, read))
        return None
    x, y = rule.atoms(rule.x, 1), rule.atoms(rule.y, 1)
    if x is None or y is None:
        return "its channels are not known"
    rule.stay(weight, [1], "it is part of a group")
    rule.link((weight, 0), (rule.x if transposed else rule.y, 1))
    first = x.reshape(groups, -1)[:, :1]
    rule.axes.link(x.reshape(groups, -1), first)
    rule.axes.link(y.reshape(groups, -1), first)
    return None


def batch_normalization(rule: Rule) -> Result:
    """A scale, bias, mean and variance for each channel of axis 1."""
    for index in range(1, 5):
        rule.link((Place(rule.node, index), 0), (rule.x, 1))
    return same_shape(rule, [], "")


def instance_normalization(rule: Rule) -> Result:
    """A scale and a bias for each channel of axis 1; means over each channel by itself."""
    for index in (1, 2):
        rule.link((Place(rule.node, index), 0), (rule.x, 1))
    return same_shape(rule, list(range(2, rule.rank(rule.x))), "it is normalised over")
