"""What plans are compared with: equal numbers of nodes, equal FLOPs, and the rule of Olive's SplitModel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from optc.passes.partition.even import equal_counts, equal_shares
from optc.passes.partition.order import edges
from optc.passes.partition.problem import Problem


def peers(problem: Problem, graph: onnx.GraphProto, count: int) -> dict[str, list[int] | str]:
    """The stage of every item by each peer's rule, stages renumbered where some are empty, or why none."""
    found: dict[str, list[int] | str] = {
        "equal nodes": equal_counts(problem, count),
        "equal FLOPs": _closed(equal_shares([item.macs for item in problem.items], count)),
    }
    names = {output: node.name for node in graph.node for output in node.output if output}
    paths = [_path(names[item.name]) for item in problem.items]
    for kind, members in (("blocks", _blocks(paths)), ("top level", _top(paths))):
        split = _olive(problem, paths, members, count)
        found[f"Olive SplitModel, {kind}"] = split
    return found


def _path(name: str) -> tuple[str, ...]:
    return tuple(name.replace("/", ".").strip(".").split("."))


def _top(paths: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """`block_to_split=""`: the children of the model itself."""
    return list(dict.fromkeys(path[:1] for path in paths))


def _blocks(paths: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """`block_to_split` with the names of all blocks that have numbered parts, such as layer0 or stage1.0."""
    found: dict[tuple[str, ...], None] = {}
    for path in paths:
        for depth, part in enumerate(path[:-1], 1):
            if part.rstrip("0123456789") != part:
                deeper = len(path) > depth + 1 and path[depth].isdigit()
                found[path[: depth + 1] if deeper else path[:depth]] = None
                break
    return list(found)


def _olive(
    problem: Problem, paths: Sequence[tuple[str, ...]], members: Sequence[tuple[str, ...]], count: int
) -> list[int] | str:
    """CaptureSplitInfo with `num_splits`, then SplitModel (olive-ai 0.13): a rule by names alone.

    The block's members, in order, are shared out in equal numbers. A node goes where the longest part of its
    name that is a member goes, but not before its inputs; one that no member names goes with its latest
    input, or, with no input that has a split, with its first reader, or to the first split.
    """
    if len(members) < count:
        return f"the names have {len(members)} members, too few for {count} splits"
    split = {
        m: s
        for s, part in enumerate(np.array_split(np.arange(len(members)), count))
        for m in (members[i] for i in part)
    }
    before, after = edges(problem)
    stage: list[int | None] = [None] * len(paths)
    for place, path in enumerate(paths):
        named = [split[path[:n]] for n in range(len(path), 0, -1) if path[:n] in split][:1]
        inputs = [s for s in (stage[p] for p in before[place]) if s is not None]
        stage[place] = max([*named, *inputs], default=None)
    for place in range(len(paths) - 1, -1, -1):
        if stage[place] is None:
            stage[place] = min((s for s in (stage[a] for a in after[place]) if s is not None), default=0)
    return _closed([s or 0 for s in stage])


def _closed(stage: Sequence[int]) -> list[int]:
    """The stages without the empty ones."""
    used = sorted(set(stage))
    return [used.index(s) for s in stage]
