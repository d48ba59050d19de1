"""Reading a partition from the device annotations of a model, whoever wrote them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import onnx

from optc.models.errors import InputError
from optc.models.wiring import node_name, reads
from optc.passes.partition.annotations import even_ranges
from optc.passes.partition.assignment import Assignment
from optc.passes.partition.problem import in_order
from optc.passes.partition.sharding.factor import Factor
from optc.passes.partition.sharding.layout import Layout, Sharding, Spec
from optc.passes.partition.sharding.layouts import layouts
from optc.passes.partition.sharding.op import Facts

Axes = tuple[tuple[int, int], ...]
"""The axis that a tensor is shared along, counted from 0, and its unit; empty: whole everywhere."""


@dataclass(frozen=True)
class Shares:
    """How devices hold a tensor: `axes` as above, `devices` of each share (of the one, where it is whole)."""

    axes: Axes
    devices: tuple[tuple[int, ...], ...]


def is_annotated(model: onnx.ModelProto) -> bool:
    """Whether some node of the main graph says where it runs."""
    return any(node.device_configurations for node in model.graph.node)


def read_annotations(model: onnx.ModelProto, graph: onnx.GraphProto) -> Assignment:
    """The partition that `model` is annotated with; `graph` is its graph with inferred shapes.

    A node without a stage gets the least that its inputs allow. `InputError` names the node where the
    annotations contradict each other or the graph.
    """
    config = _configuration(model)
    nodes = in_order([n for n in model.graph.node if n.op_type != "Constant"])
    stage = _stages(nodes, config.name)
    dims = _dims(graph)
    specs = {node_name(n): found for n in nodes if (found := _specs(n, config, dims))}
    tensor = max((len(s.devices) for found in specs.values() for s in found.values()), default=1)
    count = max(stage.values(), default=0) + 1
    if config.num_devices % (count * tensor):
        raise InputError(
            f"annotations: {count} stages of {tensor} devices do not divide the {config.num_devices} devices "
            f"of configuration '{config.name}'"
        )
    _check_devices(specs, stage, tensor, config.num_devices // count)
    facts = Facts.of_graph(graph, _opset(model))
    read = {
        node_name(node): layout
        for node in nodes
        if (layout := read_layout(node, facts, specs.get(node_name(node), {}), tensor)) is not None
    }
    return Assignment(config.num_devices // (count * tensor), stage, Sharding(tensor, read))


def _opset(model: onnx.ModelProto) -> int:
    return next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)


def read_layout(
    node: onnx.NodeProto, facts: Facts, shares: Mapping[str, Shares], count: int
) -> Layout | None:
    """The layout over `count` devices that a node's annotations ask for; None where all is whole.

    Tensors that are not annotated lie as the node needs them. `InputError` where it cannot run so.
    """
    axes = {name: found.axes[0] for name, found in shares.items() if found.axes}
    if not axes:
        return None
    names = (*node.input, *node.output)

    def pieces(factor: Factor) -> int:
        places = [*factor.inputs.items(), *((len(node.input) + p, a) for p, a in factor.outputs.items())]
        units = [
            (facts.shapes[names[place]][axis], axes[names[place]][1])
            for place, axis in places
            if names[place] in axes and axes[names[place]][0] == axis
        ]
        return min((size // unit for size, unit in units if isinstance(size, int)), default=factor.units)

    for layout in layouts(facts.op(node), count, pieces):
        specs = dict(zip(names, (*layout.inputs, *layout.outputs), strict=True))
        if all(_fits(specs[name], found) for name, found in shares.items()):
            return layout
    text = ", ".join(f"'{name}' along axis {axis}" for name, (axis, _) in axes.items())
    raise InputError(f"annotations: {_where(node)} cannot run on {count} devices that share {text}")


def _fits(spec: Spec, shares: Shares) -> bool:
    """Whether a tensor lies as it is annotated, what a window needs beside it aside."""
    if spec is None or not shares.axes:
        return spec is None and not shares.axes
    axis, unit = shares.axes[0]
    cuts = [spec.ranges[0][0], *(stop for _, stop in spec.ranges)]
    window = cuts[0] != 0 or any(a[1] != b[0] for a, b in pairwise(spec.ranges))
    return spec.axis == axis and (window or spec.ranges == even_ranges(cuts[-1], len(spec.ranges), unit))


def _configuration(model: onnx.ModelProto) -> onnx.DeviceConfigurationProto:
    """The one configuration that nodes refer to."""
    used = {e.configuration_id: n for n in reversed(model.graph.node) for e in n.device_configurations}
    known = {c.name: c for c in model.configuration}
    for name, node in used.items():
        if name not in known:
            raise InputError(
                f"annotations: {_where(node)} is of configuration '{name}', which the model does not declare"
            )
    if len(used) > 1:
        raise InputError(
            f"annotations: nodes name {len(used)} configurations ({', '.join(sorted(used))}); keep one"
        )
    config = known[next(iter(used))]
    if config.num_devices < 1:
        raise InputError(f"annotations: configuration '{config.name}' has {config.num_devices} devices")
    if config.device and len(config.device) != config.num_devices:
        raise InputError(
            f"annotations: configuration '{config.name}' names {len(config.device)} of "
            f"{config.num_devices} devices"
        )
    return config


def _stages(nodes: Sequence[onnx.NodeProto], config: str) -> dict[str, int]:
    """The stage of every node, in topological order."""
    stage: dict[str, int] = {}
    made: dict[str, onnx.NodeProto] = {}
    for node in nodes:
        sources = [made[name] for name in reads(node) if name in made]
        least = max((stage[node_name(s)] for s in sources), default=0)
        given = {e.pipeline_stage for e in node.device_configurations if e.HasField("pipeline_stage")}
        if len(given) > 1:
            raise InputError(f"annotations: {_where(node)} is in stages {_listed(given)} at once")
        at = given.pop() if given else least
        if at < 0:
            raise InputError(f"annotations: {_where(node)} is in stage {at}; stages count from 0")
        late = next((s for s in sources if stage[node_name(s)] > at), None)
        if late is not None:
            raise InputError(
                f"annotations: {_where(node)} of stage {at} reads from {_where(late)} of the later stage "
                f"{stage[node_name(late)]}"
            )
        stage[node_name(node)] = at
        made |= {name: node for name in node.output if name}
    used = set(stage.values())
    gone = next((s for s in range(max(used, default=0)) if s not in used), None)
    if gone is not None:
        raise InputError(
            f"annotations: configuration '{config}': no node is in stage {gone} of {max(used) + 1}"
        )
    return stage


def _specs(
    node: onnx.NodeProto, config: onnx.DeviceConfigurationProto, dims: Mapping[str, Sequence[int | None]]
) -> dict[str, Shares]:
    """How each annotated tensor of a node is held."""
    found: dict[str, Shares] = {}
    for entry in node.device_configurations:
        for spec in entry.sharding_spec:
            where = f"annotations: {_where(node)}: '{spec.tensor_name}'"
            if spec.tensor_name not in (*node.input, *node.output):
                raise InputError(f"{where} is neither an input nor an output of it")
            if spec.tensor_name in found:
                raise InputError(f"{where} is described twice")
            found[spec.tensor_name] = _shares(spec, config, dims.get(spec.tensor_name), where)
    return found


def _shares(
    spec: onnx.ShardingSpecProto,
    config: onnx.DeviceConfigurationProto,
    dims: Sequence[int | None] | None,
    where: str,
) -> Shares:
    groups = {entry.key: tuple(entry.value) for entry in spec.index_to_device_group_map}
    devices = tuple(groups.get(number, (number,)) for number in spec.device)
    flat = [device for group in devices for device in group]
    odd = next((d for d in flat if not 0 <= d < config.num_devices), None)
    if odd is not None:
        raise InputError(
            f"{where} is on device {odd}, configuration '{config.name}' has {config.num_devices}"
        )
    if len(set(flat)) < len(flat):
        raise InputError(f"{where} is twice on one device")
    axes = tuple(_axis(dim, dims, where) for dim in spec.sharded_dim)
    split = [(axis, unit) for axis, unit, shards in axes if shards > 1]
    if len(split) > 1:
        raise InputError(f"{where} is shared along {len(split)} axes; optc takes one")
    shards = next((shards for _, _, shards in axes if shards > 1), 1)
    if split and shards != len(devices):
        raise InputError(f"{where} has {shards} shares for {len(devices)} devices")
    return Shares(tuple(split), devices if split else (tuple(flat),))


def _axis(dim: onnx.ShardedDimProto, dims: Sequence[int | None] | None, where: str) -> tuple[int, int, int]:
    """Axis, unit and number of shares."""
    if dims is None:
        raise InputError(f"{where} is shared, but its shape is not known")
    if not -len(dims) <= dim.axis < len(dims):
        raise InputError(f"{where} is shared along axis {dim.axis}, it has {len(dims)}")
    axis = dim.axis % len(dims)
    simple = list(dim.simple_sharding)
    if not simple or any(s.num_shards < 1 for s in simple) or any(s.num_shards > 1 for s in simple[1:]):
        raise InputError(f"{where}, axis {axis}: optc shares the blocks of one axis, outermost first")
    sizes = [s.dim_value for s in simple if s.HasField("dim_value")]
    unit = 1
    for size in sizes[1:]:
        unit *= size
    if len(sizes) == len(simple) and dims[axis] is not None and sizes[0] * unit != dims[axis]:
        raise InputError(f"{where}, axis {axis}, has {dims[axis]} elements, the annotation {sizes[0] * unit}")
    return axis, unit, simple[0].num_shards


def _check_devices(
    specs: Mapping[str, Mapping[str, Shares]], stage: Mapping[str, int], tensor: int, each: int
) -> None:
    """Every stage has devices of its own, at most `each`, and shares its work over `tensor`."""
    owner: dict[int, tuple[int, str]] = {}
    for name, found in specs.items():
        for shares in found.values():
            for device in (d for group in shares.devices for d in group):
                at, first = owner.setdefault(device, (stage[name], name))
                if at != stage[name]:
                    raise InputError(
                        f"annotations: device {device} is in stage {at} (node '{first}') and in stage "
                        f"{stage[name]} (node '{name}')"
                    )
            if shares.axes and len(shares.devices) != tensor:
                raise InputError(
                    f"annotations: node '{name}' shares its work over {len(shares.devices)} devices, others "
                    f"over {tensor}; optc takes equal groups"
                )
    for at in set(stage.values()):
        used = sorted(device for device, (its, _) in owner.items() if its == at)
        if len(used) > each:
            raise InputError(f"annotations: stage {at} is on the devices {used}; its share are {each}")


def _dims(graph: onnx.GraphProto) -> dict[str, list[int | None]]:
    """The sizes of the axes of every value and constant of known rank."""
    found: dict[str, list[int | None]] = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for info in (*graph.input, *graph.value_info, *graph.output):
        if info.type.tensor_type.HasField("shape"):
            dims = info.type.tensor_type.shape.dim
            found[info.name] = [d.dim_value if d.HasField("dim_value") else None for d in dims]
    return found


def _listed(numbers: set[int]) -> str:
    return " and ".join(str(n) for n in sorted(numbers))


def _where(node: onnx.NodeProto) -> str:
    return f"node '{node.name or node_name(node)}' ({node.op_type})"
