"""The reference over whole graphs: integer units in numpy, all else as written by ONNX Runtime."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from optc.models.model import Model
from optc.models.session import Session
from optc.models.wiring import reads
from optc.passes.quantize.integer.compute import compute
from optc.passes.quantize.integer.ops import IntegerProgram, Move, Op
from optc.passes.quantize.integer.recognize import integer_program

Arrays = dict[str, NDArray[Any]]


def run_reference(model: Model, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
    """The outputs of a quantized `model` by name, each integer exactly as docs/semantics.md says.

    `feeds`: by input name. Raises `InputError` where ONNX Runtime refuses a float part or the feeds.
    """
    return Reference(model).run(feeds)


class Reference:
    """A quantized model, ready to run many times.

    `program`: what it computes in integers. Float nodes run in ONNX Runtime, graph optimizations off.
    """

    def __init__(self, model: Model) -> None:
        self.program: IntegerProgram = integer_program(model)
        self._proto = model.to_proto()
        self._outputs = [o.name for o in self._proto.graph.output]
        self._steps = list(_merged(_schedule(self._proto, self.program), _needed(self._proto, self.program)))
        self._sessions: dict[int, Session] = {}

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """The model's outputs by name."""
        values = self.trace(feeds)
        return {name: values[name] for name in self._outputs}

    def trace(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Every value of the program by name: codes, accumulators, and floats between the units."""
        values = {t.name: onnx.numpy_helper.to_array(t) for t in self._proto.graph.initializer}
        values.update({name: np.asarray(array) for name, array in feeds.items()})
        for index, step in enumerate(self._steps):
            if isinstance(step, Op):
                values[step.output] = compute(step, values, self.program.rounding)
            else:
                values.update(self._run_floats(index, step, values))
        return values

    def _run_floats(self, index: int, part: _Part, values: Arrays) -> Arrays:
        if index not in self._sessions:
            self._sessions[index] = Session(Model(_part_model(self._proto, part, values)))
        return self._sessions[index].run({name: values[name] for name in part.inputs}) if part.outputs else {}


@dataclass(frozen=True)
class _Part:
    """Nodes that ONNX Runtime runs; what they read from outside, and what they make."""

    nodes: tuple[onnx.NodeProto, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class _Step:
    item: Op | onnx.NodeProto
    reads: frozenset[str]
    writes: frozenset[str]


def _schedule(proto: onnx.ModelProto, program: IntegerProgram) -> Iterator[Op | onnx.NodeProto]:
    """Operations and float nodes, each after what it reads, otherwise in the order of the graph."""
    steps = _steps(proto, program)
    writer = {name: i for i, step in enumerate(steps) for name in step.writes}
    needs = [{writer[n] for n in step.reads if n in writer} for step in steps]
    readers: list[list[int]] = [[] for _ in steps]
    for index, sources in enumerate(needs):
        for source in sorted(sources):
            readers[source].append(index)
    ready = [i for i, sources in enumerate(needs) if not sources]
    heapq.heapify(ready)
    waiting = [len(sources) for sources in needs]
    while ready:
        index = heapq.heappop(ready)
        yield steps[index].item
        for reader in readers[index]:
            waiting[reader] -= 1
            if waiting[reader] == 0:
                heapq.heappush(ready, reader)


def _steps(proto: onnx.ModelProto, program: IntegerProgram) -> list[_Step]:
    owner = {key: op for op in program.ops for key in op.nodes}
    steps: list[_Step] = []
    seen: set[Op] = set()
    for node in proto.graph.node:
        op = owner.get(next((n for n in node.output if n), node.name))
        if op is None:
            written = frozenset(n for n in node.output if n)
            steps.append(_Step(node, frozenset(n for n in reads(node) if n), written))
        elif op not in seen:
            seen.add(op)
            extra = op.parameters if isinstance(op, Move) else ()
            steps.append(_Step(op, frozenset((*op.inputs, *extra)) - {""}, frozenset([op.output])))
    return steps


def _needed(proto: onnx.ModelProto, program: IntegerProgram) -> frozenset[str]:
    """The values that are read by more than the float nodes around them: by operations and from outside."""
    names = {o.name for o in proto.graph.output}
    for op in program.ops:
        names.update(op.inputs)
        names.update(op.parameters if isinstance(op, Move) else ())
    return frozenset(names)


def _merged(items: Iterator[Op | onnx.NodeProto], needed: frozenset[str]) -> Iterator[Op | _Part]:
    """Neighbouring float nodes as one part."""
    groups = [(kind, list(group)) for kind, group in itertools.groupby(items, lambda i: isinstance(i, Op))]
    runs = [[i for i in group if isinstance(i, onnx.NodeProto)] for _, group in groups]
    read = [frozenset(n for node in run for n in reads(node)) for run in runs]
    for index, (_, group) in enumerate(groups):
        yield from (item for item in group if isinstance(item, Op))
        if runs[index]:
            yield _part(runs[index], needed.union(*read[index + 1 :]))


def _part(nodes: Sequence[onnx.NodeProto], needed: frozenset[str]) -> _Part:
    made = dict.fromkeys(n for node in nodes for n in node.output if n)
    read = dict.fromkeys(n for node in nodes for n in reads(node) if n)
    return _Part(tuple(nodes), tuple(n for n in read if n not in made), tuple(n for n in made if n in needed))


def _part_model(proto: onnx.ModelProto, part: _Part, values: Arrays) -> onnx.ModelProto:
    """A model of the part alone, its inputs of the types that `values` have; constants stay constants."""
    overridable = {i.name for i in proto.graph.input}
    constants = [t for t in proto.graph.initializer if t.name in part.inputs and t.name not in overridable]
    names = {t.name for t in constants}
    graph = helper.make_graph(
        list(part.nodes),
        proto.graph.name,
        [helper.make_tensor_value_info(n, _element(values[n]), None) for n in part.inputs if n not in names],
        [onnx.ValueInfoProto(name=n) for n in part.outputs],
        initializer=constants,
    )
    model = helper.make_model(graph, opset_imports=proto.opset_import, ir_version=proto.ir_version)
    model.functions.extend(proto.functions)
    return model


def _element(array: NDArray[Any]) -> int:
    if array.dtype == object or array.dtype.kind == "U":
        return int(TensorProto.STRING)
    return int(helper.np_dtype_to_tensor_dtype(array.dtype))
