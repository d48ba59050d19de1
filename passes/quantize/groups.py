"""Values that share one code: what MaxPool, Concat and moves of data read and write."""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_graphsurgeon as gs

from optc.passes.quantize.region import Region


@dataclass
class Group:
    """Values of one code; `sources` are those whose range decides it, the others are made of them."""

    members: list[gs.Tensor] = field(default_factory=list)
    sources: list[gs.Tensor] = field(default_factory=list)


def code_groups(region: Region) -> list[Group]:
    """The coded values of `region`, grouped by the code they must share, in order of first use.

    A union-find over the values; each unit that `shares` joins what it reads with what it writes.
    """
    parent = {id(t): id(t) for t in region.coded}

    def root(key: int) -> int:
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for unit in region.units:
        if unit.shares:
            for tensor in unit.operands:
                parent[root(id(tensor))] = root(id(unit.output))
    groups: dict[int, Group] = {}
    for tensor in region.coded:
        group = groups.setdefault(root(id(tensor)), Group())
        group.members.append(tensor)
        producer = region.producers.get(id(tensor))
        if producer is None or not producer.shares:
            group.sources.append(tensor)
    return list(groups.values())
