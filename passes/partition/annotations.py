"""Writing a partition into a model as ONNX device annotations (IR version 11).

Each node names its pipeline stage, and where the devices of a stage share the work, how they hold its
tensors. The form is that of onnx.proto: `DeviceConfigurationProto`, `NodeDeviceConfigurationProto`,
`ShardingSpecProto`. A dimension that is shared in blocks of u elements (attention heads) is written as two
simple shardings, of n / u blocks over the devices and of u elements over one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import gcd

import onnx

from optc.models.model import Model
from optc.models.wiring import node_name
from optc.passes.analysis.shapes import Dim, Shape
from optc.passes.partition.assignment import Assignment
from optc.passes.partition.sharding.factor import even
from optc.passes.partition.sharding.layout import Range, Spec
from optc.passes.partition.sharding.op import Facts

CONFIGURATION = "optc"
"""The name of the configuration that optc writes."""

IR_VERSION = 11
"""The first with device annotations."""


def annotated(model: Model, assignment: Assignment, devices: Sequence[str]) -> onnx.ModelProto:
    """A copy of `model` with `assignment` written into its main graph's nodes.

    `devices`: their names, as many as the assignment has, or none. What was annotated before is dropped;
    tensors in external files stay there.
    """
    proto = model.to_proto(embed=False)
    shapes = Facts.of(model).shapes if assignment.sharding.layouts else {}
    _write(proto, assignment, devices, shapes)
    return proto


def _write(
    model: onnx.ModelProto, assignment: Assignment, devices: Sequence[str], shapes: Mapping[str, Shape]
) -> None:
    clear_annotations(model)
    model.ir_version = max(model.ir_version, IR_VERSION)
    model.configuration.add(name=CONFIGURATION, num_devices=assignment.devices, device=devices)
    for node in model.graph.node:
        if node_name(node) not in assignment.stage:
            continue  # a Constant lies wherever it is read
        stage = assignment.stage[node_name(node)]
        entry = node.device_configurations.add(configuration_id=CONFIGURATION, pipeline_stage=stage)
        layout = assignment.sharding.layouts.get(node_name(node))
        if layout is not None:
            pairs = [
                *zip(node.input, layout.inputs, strict=False),
                *zip(node.output, layout.outputs, strict=False),
            ]
            for name, spec in dict(pairs).items():
                if name:
                    size = shapes[name][spec.axis] if spec is not None else None
                    _add_spec(entry.sharding_spec.add(tensor_name=name), spec, size, assignment, stage)


def clear_annotations(model: onnx.ModelProto) -> None:
    """Drop every device annotation."""
    del model.configuration[:]
    for node in model.graph.node:
        del node.device_configurations[:]


def _add_spec(
    added: onnx.ShardingSpecProto, spec: Spec, size: Dim, assignment: Assignment, stage: int
) -> None:
    """Say how the devices of a stage hold a tensor of `size` along the axis; replicas hold it alike."""
    shares = stage_devices(assignment, stage)
    if spec is None:
        shares = [[device for share in shares for device in share]]
    for number, share in enumerate(shares):
        if len(share) == 1:
            added.device.append(share[0])
        else:
            added.device.append(-1 - number)
            added.index_to_device_group_map.add(key=-1 - number, value=share)
    if spec is not None:
        assert isinstance(size, int), "only axes of known size are shared"
        unit = unit_of(spec.ranges, size)
        dim = added.sharded_dim.add(axis=spec.axis)
        dim.simple_sharding.add(dim_value=size // unit, num_shards=len(spec.ranges))
        if unit > 1:
            dim.simple_sharding.add(dim_value=unit, num_shards=1)


def stage_devices(assignment: Assignment, stage: int) -> list[list[int]]:
    """The devices of a stage: for each of its shares, one of each replica."""
    data, stages, tensor = assignment.data, assignment.stages, assignment.tensor
    return [[(d * stages + stage) * tensor + t for d in range(data)] for t in range(tensor)]


def even_ranges(size: int, count: int, unit: int = 1) -> tuple[Range, ...]:
    """`size` elements in blocks of `unit` over `count` devices, as equal as can be."""
    return tuple(pairwise(unit * cut for cut in even(size // unit, count)))


def unit_of(ranges: Sequence[Range], size: int) -> int:
    """The smallest blocks in which `ranges` share an axis evenly; 1 where they do not (those of a window)."""
    whole = gcd(size, *(start for start, _ in ranges))
    units = [u for u in range(1, whole + 1) if whole % u == 0]
    return next((u for u in units if even_ranges(size, len(ranges), u) == tuple(ranges)), 1)
