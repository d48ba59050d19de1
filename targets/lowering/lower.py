"""ONNX to a Relax module and islands: what TVM takes, and what ONNX Runtime keeps."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx

from optc.models import storage
from optc.models.errors import OptcError
from optc.models.model import Model
from optc.models.session import Session, first_line
from optc.targets.base import ENDED, Placement
from optc.targets.lowering.graph import Graph
from optc.targets.lowering.integer.plan import IntegerPlan, Integers
from optc.targets.lowering.islands import Island, WholeGraphError, cut, plan
from optc.targets.lowering.known_bad import refusals
from optc.targets.lowering.offload import Offload, Offloader, Region, offload
from optc.targets.lowering.quiet import quiet

ISLAND = "island"
HOST = "host"
"""Where TVM's code runs beside an accelerator."""

Compile = Callable[[Any], Any]
"""Takes a Relax module (`tvm.IRModule`), returns an executable."""


@dataclass(frozen=True)
class Lowered:
    """A model compiled as far as TVM takes it.

    `executable`: what `compile` made of the Relax module, None where the whole graph is one island;
    `islands`: the packed function that the executable calls, and the model that it runs.
    """

    executable: Any
    islands: Mapping[str, Model]
    placement: tuple[Placement, ...]
    regions: tuple[Region, ...] = ()


def lower(model: Model, target: str, compile: Compile, offloader: Offloader | None = None) -> Lowered:
    """Import and compile `model`; nodes that TVM refuses at either step become islands.

    `offloader`: what takes integer operations off TVM; `target` is then its name.

    Raises `InputError` where a node is of an unknown domain, or where neither TVM nor ONNX Runtime takes the
    model.
    """
    graph = Graph(model)
    try:
        with quiet():
            return _lower(graph, target, compile, offloader)
    except WholeGraphError as error:
        Session(model)  # raises InputError where ONNX Runtime refuses it too
        reason = f"the whole graph is one island: {error}"
        return Lowered(None, {}, _placement(graph, dict.fromkeys(range(len(graph.nodes)), reason), target))


def _lower(graph: Graph, target: str, compile: Compile, offloader: Offloader | None) -> Lowered:
    from optc.targets.lowering.importer import import_graph
    from optc.targets.lowering.isolate import failing_nodes

    if graph.proto.graph.sparse_initializer:
        raise WholeGraphError("TVM cannot hold sparse initializers")
    refused = refusals(graph)
    integers = Integers(graph, refused)
    isolated = False
    while True:
        islands, reasons, lowered = _plan(graph, refused, integers)
        if len(reasons) == len(graph.nodes):
            raise WholeGraphError("; ".join(sorted(set(reasons.values()))[:3]) or "it has no nodes")
        models = {island_name(m): m for m in (_cut(graph, i) for i in islands)}
        try:
            taken = offload(graph, islands, lowered, offloader) if offloader else None
            regions = taken.regions if taken else ()
            module, more = import_graph(graph, islands, list(models), lowered, regions)
            if not more:
                placement = _placement(graph, reasons, target, lowered, taken)
                result = Lowered(compile(module), models, placement, regions)
                for region in regions:
                    offloader.compile(region)  # type: ignore[union-attr]
                return result
        except (OptcError, AttributeError, NameError, ImportError):
            raise  # not TVM's complaint about the model, but a fault to be seen
        except Exception as error:
            if isolated:
                raise WholeGraphError(f"TVM cannot compile it: {first_line(error)}") from error
            tried = reasons | dict.fromkeys(lowered.replaced, "")
            more, isolated = failing_nodes(graph, tried, compile), True
            if not more:
                raise WholeGraphError(f"TVM cannot compile it: {first_line(error)}") from error
        integers.refuse({i: r for i, r in more.items() if i in lowered.ops})
        refused |= {i: r for i, r in more.items() if i not in lowered.replaced}


def _plan(
    graph: Graph, refused: dict[int, str], integers: Integers
) -> tuple[list[Island], dict[int, str], IntegerPlan]:
    """Islands, and the integer operations of which no node is in one: each pushes the other back."""
    taken: set[int] = set()
    while True:
        lowered = integers.plan(taken)
        islands, reasons = plan(graph, {i: r for i, r in refused.items() if i not in lowered.replaced})
        more = lowered.replaced.intersection(reasons) - taken
        if not more:
            return islands, reasons, lowered
        taken |= more


def _cut(graph: Graph, island: Island) -> Model:
    model = cut(graph, island)
    try:
        Session(model)
    except OptcError as error:
        raise WholeGraphError(f"an island does not stand by itself: {error}") from error
    return model


def island_name(model: Model) -> str:
    """The packed function of an island: its name tells what it computes, weights included."""
    proto = model.to_proto(embed=False)
    digest = hashlib.sha256(proto.SerializeToString(deterministic=True))
    for tensor in storage.tensors_of(proto):
        if storage.is_external(tensor):
            digest.update(storage.external_bytes(tensor, model.folder).data)
    return f"optc.island.{digest.hexdigest()[:16]}"


def _placement(
    graph: Graph,
    reasons: Mapping[int, str],
    target: str,
    integers: IntegerPlan | None = None,
    taken: Offload | None = None,
) -> tuple[Placement, ...]:
    covered: frozenset[int] = integers.covered if integers else frozenset()
    floats: Mapping[int, str] = integers.floats if integers else {}
    hosted, ended = _hosted(graph, integers, taken) if integers and taken else ({}, {})

    def place(index: int, node: onnx.NodeProto) -> Placement:
        where, reason = target, reasons.get(index)
        if index in reasons:
            where = ISLAND
        elif taken and (integers is None or index not in covered or index in hosted):
            where, reason = HOST, hosted.get(index) or floats.get(index) or "it computes in float"
        elif index in ended:
            reason = ENDED + ended[index]
        return Placement(node.name, node.op_type, where, reason, index in covered, floats.get(index))

    return tuple(place(i, n) for i, n in enumerate(graph.nodes))


def _hosted(graph: Graph, integers: IntegerPlan, taken: Offload) -> tuple[dict[int, str], dict[int, str]]:
    """The nodes of integer operations that are in no region, and of those that the host ends; why."""
    index = {o: i for i, node in enumerate(graph.nodes) for o in node.output if o}
    inside = {op.output for region in taken.regions for op in region.ops}
    hosted: dict[int, str] = {}
    ended: dict[int, str] = {}
    for op in integers.ops.values():
        if op.output not in inside:
            hosted.update({index[n]: taken.reasons.get(op.output, "") for n in op.nodes})
        elif op.output in taken.ended:
            ended[index[op.output]] = taken.ended[op.output]
    return hosted, ended
