from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.session import Session
from optc.passes.base import Context
from optc.passes.partition import measured
from optc.passes.partition.cluster import Device, load_cluster
from optc.passes.partition.partition import Partition
from optc.passes.partition.problem import Problem
from optc.passes.partition.solve import factorizations, solve
from optc.passes.registry import parse_passes
from optc.passes.text import to_text

CHAIN = """<ir_version: 9, opset_import: ["": 18]>
chain (float[2,4] x) => (float[2,4] y) { a = Neg(x) b = Abs(a) c = Exp(b) y = Relu(c) }"""
FUNCTION = """<ir_version: 9, opset_import: ["": 18, "local": 1]>
called (float[2] x) => (float[2] y) { a = local.twice(x) y = Neg(a) }
<opset_import: ["": 18], domain: "local"> twice (x) => (y) { n = Neg(x) y = Abs(n) }"""
CLUSTER = """[[device]]
name = "d"
count = {count}
macs_per_second = 1e9
bytes_per_second = 1e9
memory_bytes = {memory}
[[link]]
between = ["d", "d"]
latency_s = {latency}
bytes_per_second = 1e12
"""


def cluster(folder: Path, count: int = 4, memory: int = 10**9, latency: float = 1e-12) -> str:
    path = folder / "cluster.toml"
    path.write_text(CLUSTER.format(count=count, memory=memory, latency=latency))
    return str(path)


def unequal(folder: Path) -> str:
    """Two devices, and two that are a tenth as fast."""
    path = folder / "two.toml"
    two = CLUSTER.partition("[[link]]")[0].format(count=2, memory=10**9) + (
        '[[device]]\nname = "slow"\ncount = 2\nmacs_per_second = 1e8\nbytes_per_second = 1e8\n'
        "memory_bytes = 1000000000\n"
    )
    for ends in ('"d", "d"', '"d", "slow"', '"slow", "slow"'):
        two += f"[[link]]\nbetween = [{ends}]\nlatency_s = 1e-12\nbytes_per_second = 1e12\n"
    path.write_text(two)
    return str(path)


def model_of(text: str = CHAIN) -> Model:
    return Model(parser.parse_model(text))


def test_before_and_after(tmp_path: Path) -> None:
    model, context = model_of(), Context()
    assert Partition(stages=2, cluster=cluster(tmp_path)).run(model, context)
    proto = model.to_proto()
    onnx.checker.check_model(proto, full_check=True)
    found = {n.output[0]: n.device_configurations[0].pipeline_stage for n in proto.graph.node}
    assert found == {"a": 0, "b": 0, "c": 1, "y": 1}
    assert (proto.ir_version, proto.configuration[0].num_devices) == (11, 2)
    assert list(proto.configuration[0].device) == ["d0", "d1"]
    assert context.facts["stages"] == 2 and context.facts["gap"] == 0
    before = onnx.printer.to_text(parser.parse_model(CHAIN).graph)
    for node in proto.graph.node:
        del node.device_configurations[:]
    assert onnx.printer.to_text(proto.graph) == before


def test_it_is_idempotent_and_computes_the_same(tmp_path: Path) -> None:
    model, p = model_of(), Partition(stages=3, cluster=cluster(tmp_path))
    assert p.run(model, Context()) and not p.run(model, Context())
    x = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    np.testing.assert_equal(Session(model).run({"x": x}), Session(model_of()).run({"x": x}))
    assert Partition(stages=2, cluster=cluster(tmp_path)).run(model, Context())


def test_local_functions_are_inlined(tmp_path: Path) -> None:
    model = model_of(FUNCTION)
    assert Partition(stages=3, cluster=cluster(tmp_path)).run(model, Context())
    proto = model.to_proto()
    assert not proto.functions and len(proto.graph.node) == 3


def test_text() -> None:
    text = "partition{stages=4,tensor=2,cluster=h200-8}"
    assert to_text(parse_passes(text)) == text


def test_what_does_not_pay_is_not_shared(tmp_path: Path) -> None:
    model = model_of()
    Partition(tensor=2, cluster=cluster(tmp_path, latency=1.0)).run(model, Context())
    assert model.to_proto().configuration[0].num_devices == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stages": 5}, r"stages=5 × tensor=1 takes 5 devices, cluster 'cluster' has 4"),
        ({"stages": 2, "data": 3}, r"data=3 × stages=2 × tensor=1 takes 6 devices"),
    ],
)
def test_too_few_devices(tmp_path: Path, options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Partition(cluster=cluster(tmp_path), **options).run(model_of(), Context())  # type: ignore[arg-type]


def test_more_stages_than_nodes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="stages=5: the model has only 4 nodes"):
        Partition(stages=5, cluster=cluster(tmp_path, 8)).run(model_of(), Context())


def test_too_little_memory_says_how_much_is_missing(tmp_path: Path) -> None:
    proto = parser.parse_model(CHAIN)
    for node, name in zip(proto.graph.node, ("w0", "w1", "w2", "w3"), strict=True):
        node.op_type = "MatMul"
        node.input.append(name)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((4, 4), np.float32), name))
    message = "stages=1: the model does not fit; 20 more bytes .* fewest stages found that fit are 2"
    with pytest.raises(InputError, match=message):
        Partition(cluster=cluster(tmp_path, memory=300)).run(Model(proto), Context())
    Partition(stages=2, cluster=cluster(tmp_path, memory=300)).run(Model(proto), Context())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"devices": 4, "stages": 2}, "give devices, or data, stages and tensor, not both"),
        ({"stages": 0}, "stages=0: there must be at least 1"),
        ({"devices": 0}, "devices=0: there must be at least 1"),
        ({"tensor": 2, "measure": True}, "measure goes with stages and data only"),
    ],
)
def test_options_that_contradict(options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Partition(**options)  # type: ignore[arg-type]


def test_all_factorizations() -> None:
    found = factorizations(12)
    assert len(found) == len(set(found)) == 18 and all(a * b * c == 12 for a, b, c in found)


def test_the_search_finds_the_best_of_all(tmp_path: Path) -> None:
    path = cluster(tmp_path)
    found = {
        objective: Partition(devices=4, objective=objective, cluster=path).solution(  # type: ignore[arg-type]
            model_of(), load_cluster(path)
        )
        for objective in ("throughput", "latency")
    }
    every = [solve(model_of(), load_cluster(path), *degrees) for degrees in factorizations(4)]
    assert found["throughput"].throughput == max(s.throughput for s in every)
    assert found["latency"].latency == min(s.latency for s in every)


def test_replicas_help_where_one_device_suffices(tmp_path: Path) -> None:
    model = model_of()
    Partition(devices=4, cluster=cluster(tmp_path, latency=1.0)).run(model, Context())
    assert model.to_proto().configuration[0].num_devices == 4
    assert {e.pipeline_stage for n in model.to_proto().graph.node for e in n.device_configurations} == {0}


def test_measured_times(tmp_path: Path) -> None:
    latency = []
    for measure in (False, True):
        context = Context()
        Partition(stages=2, measure=measure, cluster=cluster(tmp_path)).run(model_of(), context)
        latency.append(context.facts["latency"])
    assert 0 < latency[0] != latency[1] > 0


def test_a_branch_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs inside a subgraph is in its node's time, not in the next node's, too."""
    names = [("r", 0.0, 100.0), ("inner", 10.0, 80.0), ("y", 110.0, 5.0)]
    events = [{"name": f"{name}_kernel_time", "ts": start, "dur": length} for name, start, length in names]
    monkeypatch.setattr(measured, "_profile", lambda serialized, feeds: events)
    text = """<ir_version: 9, opset_import: ["": 18]>
    m (float[2] x) => (float[2] y) { r = Neg(x) y = Abs(r) }"""
    model = model_of(text)
    problem = Problem.of(model, Device("d", 1.0, 1.0, 1))
    found = measured.with_measured_seconds(problem, model)
    assert [item.seconds for item in found.items] == pytest.approx([100e-6, 5e-6])


def test_nothing_is_measured_for_unequal_devices(tmp_path: Path) -> None:
    Partition(stages=2, measure=True, cluster=unequal(tmp_path)).run(model_of(), Context())
    with pytest.raises(InputError, match="those of equal devices"):
        Partition(stages=3, measure=True, cluster=unequal(tmp_path)).run(model_of(), Context())


def test_a_model_of_unknown_sizes_has_no_time() -> None:
    text = """<ir_version: 9, opset_import: ["": 18]>
    words (string[2] x) => (string[2] y) { a = Identity(x) y = Identity(a) }"""
    context = Context()
    Partition(stages=2).run(model_of(text), context)
    assert context.facts["throughput"] == float("inf")


def test_work_is_shared_as_fast_as_the_slowest_device(tmp_path: Path) -> None:
    text = """<ir_version: 9, opset_import: ["": 18]>
    m (float[8,64] x) => (float[8,64] y) { a = Exp(x) b = Exp(a) y = Exp(b) }"""
    found = solve(model_of(text), load_cluster(unequal(tmp_path)), stages=2, tensor=2)
    assert found.assignment.tensor == 2
    # Two nodes that read and write half of 2048 bytes at 1e8 bytes a second, and one that also gathers.
    assert found.plan.compute[0] >= 2 * 2048 / 1e8
