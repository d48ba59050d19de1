"""Runs a sharding step by step: every node on every device in ONNX Runtime, collectives in numpy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
from numpy.typing import NDArray

from optc.models.model import Model
from optc.models.session import Session
from optc.passes.partition.sharding.collectives import holds, received
from optc.passes.partition.sharding.layout import Layout, Sharding, Spec, Split
from optc.passes.partition.sharding.local import cut, local_node, values_of
from optc.passes.partition.sharding.op import Facts
from optc.targets.cluster.program import Collective

Array = NDArray[Any]


@dataclass(frozen=True)
class Moved:
    """A collective that was run: `to` is what the devices got, None the whole."""

    kind: str
    value: str
    to: Spec


@dataclass
class Run:
    """The outputs of a run, and its collectives in order."""

    outputs: dict[str, Array] = field(default_factory=dict)
    collectives: list[Moved] = field(default_factory=list)


def run_sharded(model: Model, sharding: Sharding, feeds: dict[str, Array]) -> Run:
    """`model` over the devices of `sharding`; the graph outputs are gathered on all of them."""
    return _Devices(model, sharding).run(feeds)


class _Devices:
    def __init__(self, model: Model, sharding: Sharding) -> None:
        self.model, self.sharding = model, sharding
        self.graph = model.view.copy().toposort()
        self.facts = Facts.of(model)
        self.count = sharding.devices
        self.have: dict[str, Spec] = {}
        self.arrays: dict[str, dict[Spec, list[Array]]] = {}
        self.moves: dict[str, set[Spec]] = {}
        self.result = Run()

    def run(self, feeds: dict[str, Array]) -> Run:
        for name, array in feeds.items():
            self._keep(name, None, [array] * self.count)
        nodes = [node for node in self.graph.nodes if node.op != "Constant"]
        self._plan(nodes)
        for node in nodes:
            self._step(node)
        for output in self.graph.outputs:
            arrays = self._read(output.name, None)
            for array in arrays[1:]:
                np.testing.assert_array_equal(array, arrays[0])
            self.result.outputs[output.name] = arrays[0]
        return self.result

    def _layout(self, node: gs.Node) -> Layout:
        name = next(t.name for t in node.outputs if t.name)
        whole = Layout((None,) * len(node.inputs), (None,) * len(node.outputs))
        return self.sharding.layouts.get(name, whole)

    def _plan(self, nodes: list[gs.Node]) -> None:
        """Which collectives each value needs."""
        wanted: dict[str, set[Spec]] = {t.name: {None} for t in self.graph.outputs}
        have: dict[str, Spec] = {}
        for node in nodes:
            layout = self._layout(node)
            for tensor, spec in zip(node.inputs, layout.inputs, strict=True):
                wanted.setdefault(tensor.name, set()).add(spec)
            have |= {t.name: spec for t, spec in zip(node.outputs, layout.outputs, strict=True)}
        self.moves = {name: received(have.get(name), specs) for name, specs in wanted.items()}

    def _keep(self, name: str, spec: Spec, arrays: list[Array]) -> None:
        self.have[name] = spec
        self.arrays[name] = {spec: arrays}

    def _read(self, name: str, want: Spec) -> list[Array]:
        """What the devices read of a value, by a collective where they lack it, once for each layout."""
        have, held = self.have[name], self.arrays[name]
        if want in held:
            return held[want]
        if have is None:
            return [cut(array, want, t) for t, array in enumerate(held[None])]
        if want is not None and holds(have, want):
            starts = [start for start, _ in have.ranges]
            pairs = zip(starts, want.ranges, strict=True)
            within = Split(want.axis, tuple((a - start, b - start) for start, (a, b) in pairs))
            return [cut(array, within, t) for t, array in enumerate(held[have])]
        to = None if None in self.moves[name] else want
        if to not in held:
            held[to] = self._exchange(name, held[have], to, axis=have.axis, have=have.ranges)
        return held[to] if to == want else [cut(array, want, t) for t, array in enumerate(held[to])]

    def _exchange(self, name: str, arrays: list[Array], to: Spec, **options: Any) -> list[Array]:
        if to is not None:
            options |= {"need_axis": to.axis, "need": to.ranges}
        devices = tuple(range(self.count))
        collective = Collective(name, name, devices, devices, 0, **options)
        self.result.collectives.append(Moved(collective.kind, name, to))
        pieces = [[collective.piece(s, t, arrays[s]) for s in range(self.count)] for t in range(self.count)]
        return [collective.join(row) for row in pieces]

    def _step(self, node: gs.Node) -> None:
        layout = self._layout(node)
        assert not any(isinstance(value, gs.Graph) for value in node.attrs.values()), "no subgraphs here"
        feeds: list[dict[str, Array]] = [{} for _ in range(self.count)]
        for place, (tensor, spec) in enumerate(zip(node.inputs, layout.inputs, strict=True)):
            if tensor.name and tensor.name not in self.facts.constants:
                for t, array in enumerate(self._read(tensor.name, spec)):
                    feeds[t][f"in{place}"] = array
        results = [self._run_local(node, layout, t, feeds[t]) for t in range(self.count)]
        for tensor, spec, arrays in zip(
            node.outputs, layout.outputs, zip(*results, strict=True), strict=True
        ):
            here = list(arrays)
            if layout.reduce:
                here = self._exchange(tensor.name, here, spec, reduce=True)
            lengths = [] if spec is None else [array.shape[spec.axis] for array in here]
            assert spec is None or lengths == [stop - start for start, stop in spec.ranges], node.op
            self._keep(tensor.name, spec, here)

    def _run_local(self, node: gs.Node, layout: Layout, t: int, feeds: dict[str, Array]) -> list[Array]:
        """One node on one device, as a model of its own."""
        local = local_node(node, self.facts, layout, t)
        constants = {f"in{place}": array for place, array in local.constants.items()}
        for place, tensor in enumerate(node.inputs):
            if place not in local.constants and tensor.name in self.facts.constants:
                constants[f"in{place}"] = values_of(tensor)
        feeds = {name: array for name, array in feeds.items() if name not in constants}
        ins = [f"in{place}" if tensor.name else "" for place, tensor in enumerate(node.inputs)]
        outs = [tensor.name for tensor in node.outputs]
        attributes = {name: _plain(value) for name, value in local.attrs.items()}
        made = onnx.helper.make_node(node.op, ins, outs, domain=node.domain, **attributes)
        graph = onnx.helper.make_graph(
            [made],
            "local",
            [_info(name, array) for name, array in feeds.items()],
            [onnx.ValueInfoProto(name=name) for name in outs],
            [onnx.numpy_helper.from_array(np.asarray(a, order="C"), n) for n, a in constants.items()],
        )
        proto = onnx.ModelProto(ir_version=self.model.header.ir_version, graph=graph)
        proto.opset_import.extend(self.model.header.opset_import)
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        session = ort.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
        results: list[Array] = session.run(outs, feeds)
        return results


def _plain(value: Any) -> Any:
    if isinstance(value, gs.Constant):
        return onnx.numpy_helper.from_array(np.asarray(value.values))
    return onnx.helper.np_dtype_to_tensor_dtype(np.dtype(value)) if isinstance(value, type) else value


def _info(name: str, array: Array) -> onnx.ValueInfoProto:
    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return onnx.helper.make_tensor_value_info(name, kind, list(array.shape))


def random_feeds(model: Model, seed: int = 0, **sizes: int) -> dict[str, Array]:
    """Normal floats and small integers; a free dimension is `sizes`' (1 by default)."""
    rng = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for tensor in model.view.inputs:
        shape = [d if isinstance(d, int) else sizes.get(d, 1) for d in tensor.shape]
        kind = np.dtype(tensor.dtype)
        if kind.kind == "f":
            feeds[tensor.name] = rng.standard_normal(shape).astype(kind)
        else:
            feeds[tensor.name] = rng.integers(0, 2, shape).astype(kind)
    return feeds


def check_sharded(
    model: Model, sharding: Sharding, feeds: dict[str, Array], tolerance: float = 1e-5
) -> list[Moved]:
    """The sharded run equals the whole one up to `tolerance` × the largest value; returns its collectives."""
    expected = Session(model, threads=1).run(feeds)
    run = run_sharded(model, sharding, feeds)
    for name, array in expected.items():
        scale = max(float(np.abs(array).max(initial=0)), 1e-30) if array.dtype.kind == "f" else 0
        np.testing.assert_allclose(run.outputs[name], array, rtol=0, atol=tolerance * scale)
    return run.collectives
