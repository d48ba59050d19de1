"""How every exact pass is tested: ONNX text before and after, idempotence, equal outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from optc.models.model import Model
from optc.models.session import Session
from optc.passes.base import Context, Declined, Exact, Pass

HEADER = '<ir_version: 10, opset_import: ["": 21]>\n'
FREE = 4


class Checker:
    """Parses, runs, compares. `declined` holds what the last run left and why."""

    def __init__(self) -> None:
        self.declined: list[Declined] = []

    def parse(self, text: str) -> onnx.ModelProto:
        proto = onnx.parser.parse_model(text if text.lstrip().startswith("<") else HEADER + text)
        onnx.checker.check_model(proto)
        return onnx.shape_inference.infer_shapes(proto, data_prop=True)

    def run(self, p: Pass, before: str | onnx.ModelProto) -> onnx.ModelProto:
        """Run a pass, its second run without effect and the same outputs included."""
        proto = self.parse(before) if isinstance(before, str) else before
        original = onnx.ModelProto()
        original.CopyFrom(proto)
        model, context = Model(proto), Context()
        changed = p.run(model, context)
        self.declined = context.declined
        result = model.to_proto()
        assert changed or result == original, "it changed something and does not say so"
        again = Model(result)
        assert not p.run(again, Context()), "a second run changed something"
        assert again.to_proto().SerializeToString() == result.SerializeToString()
        self.equal_outputs(original, result)
        self.changed = changed
        return result

    def rewrites(self, p: Pass, before: str, after: str) -> onnx.ModelProto:
        result = self.run(p, before)
        assert plain(result) == plain(self.parse(after))
        assert self.changed
        return result

    def leaves(self, p: Pass, text: str) -> None:
        result = self.run(p, text)
        assert plain(result) == plain(self.parse(text))
        assert not self.changed

    def equal_outputs(self, before: onnx.ModelProto, after: onnx.ModelProto, seed: int = 0) -> None:
        feeds = random_feeds(before, seed)
        a, b = Session(Model(before)).run(feeds), Session(Model(after)).run(feeds)
        assert list(a) == list(b), "the outputs have other names"
        for name in a:
            assert_equal(a[name], b[name], name)


def assert_equal(a: NDArray[Any], b: NDArray[Any], name: str) -> None:
    """Equal within the contract Exact."""
    assert (a.dtype, a.shape) == (b.dtype, b.shape), name
    if a.dtype.name not in Exact().tolerance:
        np.testing.assert_array_equal(a, b, err_msg=name)
        return
    tolerance = Exact().tolerance[a.dtype.name]
    x, y = a.astype(np.float64), b.astype(np.float64)
    finite = np.abs(x[np.isfinite(x)])
    scale = float(finite.max()) if finite.size else 0.0
    np.testing.assert_allclose(y, x, rtol=tolerance.rtol, atol=tolerance.atol * scale, err_msg=name)


def plain(proto: onnx.ModelProto) -> str:
    """The graph as text, without inner types and node names, initializers in order of their names."""
    graph = onnx.GraphProto()
    graph.CopyFrom(proto.graph)
    del graph.value_info[:]
    tensors = sorted(graph.initializer, key=lambda t: t.name)
    arrays = [onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(t), t.name) for t in tensors]
    del graph.initializer[:]
    graph.initializer.extend(arrays)
    for node in graph.node:
        node.name = ""
        attributes = sorted(node.attribute, key=lambda a: a.name)
        copies = [onnx.AttributeProto.FromString(a.SerializeToString()) for a in attributes]
        del node.attribute[:]
        node.attribute.extend(copies)
    graph.name = "g"
    return str(onnx.printer.to_text(graph))


def random_feeds(proto: onnx.ModelProto, seed: int = 0) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(seed)
    weights = {t.name for t in proto.graph.initializer}
    feeds: dict[str, NDArray[Any]] = {}
    for item in proto.graph.input:
        if item.name in weights:
            continue
        dims = item.type.tensor_type.shape.dim
        shape = tuple(d.dim_value if d.HasField("dim_value") else FREE for d in dims)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(item.type.tensor_type.elem_type)
        values = rng.standard_normal(shape) if dtype.kind == "f" else rng.integers(0, 2, shape)
        feeds[item.name] = np.asarray(values).astype(dtype)
    return feeds


@pytest.fixture
def check() -> Checker:
    return Checker()
