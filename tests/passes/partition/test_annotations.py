from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import parser

from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.analysis.counts import inferred_graph
from optc.passes.partition.annotations import annotated, even_ranges, unit_of
from optc.passes.partition.assignment import Assignment
from optc.passes.partition.cluster import Cluster, Device, Link
from optc.passes.partition.read_annotations import is_annotated, read_annotations
from optc.passes.partition.sharding.layout import Layout, Sharding, Split
from optc.passes.partition.solve import solve

MLP = """<ir_version: 8, opset_import: ["": 18]>
mlp (float[3,8] x, float[8,12] a, float[12,8] b) => (float[3,8] y) {
    h = MatMul(x, a) g = Relu(h) t = MatMul(g, b) y = Neg(t)
}"""


def mlp() -> Model:
    proto = parser.parse_model(MLP)
    for name, shape in (("a", (8, 12)), ("b", (12, 8))):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(shape, np.float32), name))
    del proto.graph.input[1:]
    return Model(proto)


def megatron() -> Assignment:
    columns, rows = Split(1, ((0, 6), (6, 12))), Split(0, ((0, 6), (6, 12)))
    layouts = {
        "h": Layout((None, columns), (columns,)),
        "g": Layout((columns,), (columns,)),
        "t": Layout((columns, rows), (None,), True),
    }
    return Assignment(1, {"h": 0, "g": 0, "t": 0, "y": 1}, Sharding(2, layouts))


def read(proto: onnx.ModelProto) -> Assignment:
    return read_annotations(proto, inferred_graph(Model(proto)))


def test_stages_in_text() -> None:
    proto = annotated(mlp(), Assignment(2, {"h": 0, "g": 0, "t": 1, "y": 1}, Sharding(1, {})), list("pqrs"))
    onnx.checker.check_model(proto, full_check=True)
    (config,) = proto.configuration
    assert (config.name, config.num_devices, list(config.device)) == ("optc", 4, list("pqrs"))
    assert proto.ir_version == 11
    found = [[e.pipeline_stage for e in n.device_configurations] for n in proto.graph.node]
    assert found == [[0], [0], [1], [1]]
    assert not any(e.sharding_spec for n in proto.graph.node for e in n.device_configurations)


def test_shared_tensors_in_text() -> None:
    proto = annotated(mlp(), megatron(), [])
    onnx.checker.check_model(proto, full_check=True)
    (entry,) = proto.graph.node[2].device_configurations
    specs = {s.tensor_name: s for s in entry.sharding_spec}
    assert set(specs) == {"g", "b", "t"}
    (dim,) = specs["b"].sharded_dim
    assert dim.axis == 0 and [(s.dim_value, s.num_shards) for s in dim.simple_sharding] == [(12, 2)]
    assert list(specs["b"].device) == [0, 1]
    (group,) = specs["t"].index_to_device_group_map
    assert list(specs["t"].device) == [group.key] and list(group.value) == [0, 1]
    assert read(proto) == megatron()


def test_replicas_hold_shares_alike() -> None:
    whole = megatron()
    proto = annotated(mlp(), Assignment(3, whole.stage, whole.sharding), [])
    spec = proto.graph.node[0].device_configurations[0].sharding_spec[1]
    groups = {g.key: list(g.value) for g in spec.index_to_device_group_map}
    assert [groups[d] for d in spec.device] == [[0, 4, 8], [1, 5, 9]]
    assert read(proto).data == 3


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5))
def test_blocks_are_found_again(count: int, unit: int, blocks: int) -> None:
    size = unit * max(blocks, count)
    ranges = even_ranges(size, count, unit)
    assert ranges[0][0] == 0 and ranges[-1][1] == size
    assert even_ranges(size, count, unit_of(ranges, size)) == ranges


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))
def test_what_is_written_is_read(data: int, stages: int, tensor: int) -> None:
    devices = tuple(Device(f"d{i}", 1e6, 1e6, 2**30) for i in range(36))
    pairs = [(a.name, b.name) for i, a in enumerate(devices) for b in devices[i + 1 :]]
    cluster = Cluster("test", devices, dict.fromkeys(pairs, Link(1e-9, 1e12)))
    assignment = solve(mlp(), cluster, data, stages, tensor).assignment
    proto = annotated(mlp(), assignment, [])
    assert is_annotated(proto) and read(proto) == assignment


def test_a_node_without_a_stage_goes_where_its_inputs_are() -> None:
    proto = annotated(mlp(), Assignment(1, {"h": 0, "g": 1, "t": 1, "y": 1}, Sharding(1, {})), [])
    del proto.graph.node[2].device_configurations[:]
    assert read(proto).stage == {"h": 0, "g": 1, "t": 1, "y": 1}


Damage = Callable[[onnx.ModelProto], object]


def entry(proto: onnx.ModelProto, node: int) -> onnx.NodeDeviceConfigurationProto:
    return proto.graph.node[node].device_configurations[0]


def spec(proto: onnx.ModelProto, node: int, place: int) -> onnx.ShardingSpecProto:
    return entry(proto, node).sharding_spec[place]


def set_stage(node: int, stage: int) -> Damage:
    return lambda proto: setattr(entry(proto, node), "pipeline_stage", stage)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            set_stage(0, 1),
            r"node 'g' \(Relu\) of stage 0 reads from node 'h' \(MatMul\) of the later stage 1",
        ),
        (set_stage(3, -2), r"node 'y' \(Neg\) is in stage -2; stages count from 0"),
        (set_stage(3, 2), "no node is in stage 1 of 3"),
        (lambda p: setattr(entry(p, 1), "configuration_id", "other"), "which the model does not declare"),
        (lambda p: setattr(p.configuration[0], "num_devices", 3), "do not divide the 3 devices"),
        (lambda p: setattr(p.configuration[0], "num_devices", 0), "has 0 devices"),
        (lambda p: p.configuration[0].device.append("lonely"), "names 1 of 4 devices"),
        (lambda p: setattr(spec(p, 0, 0), "tensor_name", "y"), "'y' is neither an input nor an output"),
        (lambda p: spec(p, 2, 1).device.__setitem__(0, 9), "'b' is on device 9, configuration 'optc' has 4"),
        (lambda p: spec(p, 2, 1).device.__setitem__(0, 1), "'b' is twice on one device"),
        (
            lambda p: spec(p, 2, 1).device.__setitem__(slice(None), [2, 3]),
            r"stage 0 is on the devices \[0, 1, 2, 3\]; its share are 2",
        ),
        (lambda p: spec(p, 2, 1).device.append(2), "'b' has 2 shares for 3 devices"),
        (lambda p: setattr(spec(p, 2, 1).sharded_dim[0], "axis", 5), "along axis 5, it has 2"),
        (
            lambda p: setattr(spec(p, 2, 1).sharded_dim[0], "axis", 1),
            "axis 1, has 8 elements, the annotation 12",
        ),
        (
            lambda p: setattr(spec(p, 2, 1).sharded_dim[0].simple_sharding[0], "dim_value", 6),
            "has 12 elements, the annotation 6",
        ),
        (
            lambda p: spec(p, 1, 1).CopyFrom(spec(p, 2, 2)) or setattr(spec(p, 1, 1), "tensor_name", "g"),
            r"node 'g' \(Relu\) cannot run on 2 devices that share 'h' along axis 1",
        ),
        (
            lambda p: (
                entry(p, 3).sharding_spec.append(spec(p, 2, 2)) or setattr(spec(p, 3, 0), "tensor_name", "y")
            ),
            r"device 0 is in stage 0 \(node 'h'\) and in stage 1 \(node 'y'\)",
        ),
        (
            lambda p: entry(p, 1).sharding_spec.append(spec(p, 1, 0)),
            "'h' is described twice",
        ),
    ],
)
def test_contradictions(damage: Damage, message: str) -> None:
    proto = annotated(mlp(), megatron(), [])
    damage(proto)
    with pytest.raises(InputError, match=message):
        read(proto)


def test_two_configurations() -> None:
    proto = annotated(mlp(), megatron(), [])
    proto.configuration.add(name="other", num_devices=1)
    entry(proto, 3).configuration_id = "other"
    with pytest.raises(InputError, match=r"nodes name 2 configurations \(optc, other\); keep one"):
        read(proto)
