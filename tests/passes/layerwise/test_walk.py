"""A walk gives what one run of the whole model gives, and sees what changes in front of it."""

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from optc.models.model import Model
from optc.models.session import Session
from optc.models.source import open_source
from optc.passes.base import Context
from optc.passes.layerwise.walk import Walk
from optc.passes.pipeline import Pipeline
from optc.passes.registry import parse_passes


def bundled(pipeline: str) -> tuple[Model, list[dict[str, np.ndarray]]]:
    source = open_source("zoo:fashion-resnet")
    Pipeline(parse_passes(pipeline)).run(source.model, Context(calibration=source.calibration))
    assert source.calibration is not None
    return source.model, list(source.calibration.batches(list(source.calibration.members), 1, 3))


@pytest.mark.parametrize("pipeline", ["canonicalize", "canonicalize,quantize"])
def test_every_step_equals_the_whole(pipeline: str) -> None:
    model, feeds = bundled(pipeline)
    layers = [n for n in model.view.nodes if n.op in ("Conv", "Gemm")]
    names = [n.inputs[0].name for n in layers]
    copy = model.copy()
    copy.graph.outputs = [t for t in copy.graph.tensors().values() if t.name in names]
    session = Session(copy)
    walk = Walk(model, feeds)
    for node in layers:
        walk.before(node)
        read = walk.read(node.inputs[0].name)
        for sample, found in zip(feeds, read, strict=True):
            wanted = session.run(sample, [node.inputs[0].name])[node.inputs[0].name]
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_memory_holds_only_what_is_still_read() -> None:
    model, feeds = bundled("canonicalize")
    layers = [n for n in model.view.nodes if n.op == "Gemm"]
    walk = Walk(model, feeds)
    walk.before(layers[-1])
    assert [list(values) for values in walk._live] == [[layers[-1].inputs[0].name]] * 3


def test_a_weight_that_changes_in_front_of_the_walk_counts() -> None:
    model, feeds = bundled("canonicalize,quantize")
    (gemm,) = (n for n in model.view.nodes if n.op == "Gemm")
    walk = Walk(model, feeds)
    walk.before(gemm)
    codes = gemm.inputs[1].inputs[0].inputs[0]
    assert isinstance(codes, gs.Constant)
    codes.values = np.zeros_like(codes.values)
    found = walk.after(gemm)
    assert all(np.ptp(y - found[0]) == 0 for y in found)  # only the bias is left


@pytest.mark.parametrize("pipeline", ["canonicalize", "canonicalize,quantize"])
def test_a_fork_gives_the_outputs_and_leaves_the_walk_where_it_is(pipeline: str) -> None:
    model, feeds = bundled(pipeline)
    layers = [n for n in model.view.nodes if n.op in ("Conv", "Gemm")]
    session = Session(model)
    wanted = [session.run(sample) for sample in feeds]
    there, alone = Walk(model, feeds), Walk(model, feeds)
    for node in layers:
        values = alone.after(node)
        fork = there.fork(node, values[0])
        changed = fork.run([np.zeros_like(v) for v in values])
        for found, whole, other in zip(fork.run(values), wanted, changed, strict=True):
            assert list(found) == list(whole)
            for name in whole:
                np.testing.assert_allclose(found[name], whole[name], rtol=1e-3, atol=1e-3)
                assert not np.allclose(other[name], whole[name])


FORKS = """<ir_version: 10, opset_import: ["": 21]>
g (float[N] x) => (float[N] early, float[N] late, float[N] here) {
 early = Neg(x)  here = Exp(x)  side = Abs(x)  c = Clip(here, , top)  late = Add(c, side) }"""


def test_a_fork_has_the_outputs_that_the_value_reaches_itself_among_them() -> None:
    proto = onnx.parser.parse_model(FORKS)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(4, np.float32), "top"))
    model, x = Model(proto), np.array([-1.0, 2.0], np.float32)
    fork = Walk(model, [{"x": x}]).fork(model.view.nodes[1], x)
    assert fork.outputs == ["late", "here"]
    (found,) = fork.run([np.array([3.0, 5.0], np.float32)])
    assert {k: v.tolist() for k, v in found.items()} == {"late": [4.0, 6.0], "here": [3.0, 5.0]}


def test_a_fork_at_the_end_needs_nothing_more() -> None:
    model, feeds = bundled("canonicalize")
    last = model.view.nodes[-1]
    values = [np.full((1, 10), i, np.float32) for i in range(3)]
    found = Walk(model, feeds).fork(last, values[0]).run(values)
    assert [float(y[last.outputs[0].name].sum()) for y in found] == [0.0, 10.0, 20.0]
