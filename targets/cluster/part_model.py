"""The ONNX model of a part of a rank."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import numpy_helper

from optc.models import storage
from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.wiring import node_name, reads, rename_in_bodies
from optc.passes.analysis.counts import inferred_graph
from optc.passes.partition.assignment import Assignment
from optc.passes.partition.sharding.layout import Layout, Spec, Split
from optc.passes.partition.sharding.local import local_node
from optc.passes.partition.sharding.op import Facts


@dataclass(frozen=True)
class Held:
    """A value as a node reads it: the part gets `base`, held as `base_spec`, and cuts `name` out of it.

    `base` and `name` are one where there is nothing to cut.
    """

    base: str
    base_spec: Spec
    spec: Spec
    name: str


@dataclass(frozen=True)
class Step:
    """A node of the model with how it reads each value, once for each time that it does.

    Without a node it gives what it reads the name `result`: a result of the model (not `everywhere`:
    on rank 0 of the stage alone), or a sum that other stages read, held as `spec`.
    """

    node: onnx.NodeProto | None
    layout: Layout | None
    held: Mapping[str, Sequence[Held]] = field(default_factory=dict)
    result: str = ""
    spec: Spec = None
    everywhere: bool = True

    def all_held(self) -> Iterator[Held]:
        """All that it reads."""
        for group in self.held.values():
            yield from group


class PartModels:
    """Makes the models of parts out of one model."""

    def __init__(self, model: Model, assignment: Assignment) -> None:
        self.proto = model.to_proto(embed=False)
        self.folder = model.folder
        graph = self.proto.graph
        self.constants: dict[str, onnx.TensorProto | onnx.SparseTensorProto | onnx.NodeProto] = {
            tensor.name: tensor for tensor in graph.initializer
        }
        self.constants |= {sparse.values.name: sparse for sparse in graph.sparse_initializer}
        self.constants |= {n.output[0]: n for n in graph.node if n.op_type == "Constant"}
        inferred = inferred_graph(model)
        # An initializer that is also an input is a constant here, as in artifacts.
        given = [i for i in inferred.input if i.name not in self.constants]
        del inferred.input[:]
        inferred.input.extend(given)
        self.types = {i.name: i.type for i in (*inferred.input, *inferred.value_info, *inferred.output)}
        self.ends = {info.name for info in (*graph.input, *graph.output)}
        self.tensor = assignment.tensor
        self.facts = Facts.of_graph(inferred, model.opset)
        self.by_name = {next((t.name for t in n.outputs if t.name), n.name): n for n in model.view.nodes}

    def size(self, name: str, spec: Spec) -> list[int]:
        """Bytes of what each rank of a stage holds of a value; free dimensions count as 1."""
        kind = self._tensor_type(name)
        if kind.elem_type == onnx.TensorProto.STRING or not kind.HasField("shape"):
            return [0] * self.tensor
        found = []
        for t in range(self.tensor):
            dims = [d.dim_value if d.HasField("dim_value") else 1 for d in kind.shape.dim]
            if spec is not None:
                dims[spec.axis] = spec.ranges[t][1] - spec.ranges[t][0]
            found.append(storage.byte_size(onnx.TensorProto(data_type=kind.elem_type, dims=dims)))
        return found

    def _tensor_type(self, name: str) -> onnx.TypeProto.Tensor:
        kind = self.types.get(name)
        if kind is None or not kind.tensor_type.elem_type:
            what = "is no tensor" if kind is not None else "has no known type"
            if name in self.ends:
                raise InputError(
                    f"partition: '{name}', which the model takes or gives, {what}; "
                    "plans hand over tensors alone"
                )
            raise InputError(
                f"partition: '{name}' goes between devices, but {what}; keep its nodes in one stage"
            )
        return kind.tensor_type

    def part(
        self, name: str, steps: Sequence[Step], t: int, sources: Mapping[str, str], taken: set[str]
    ) -> tuple[tuple[str, ...], tuple[str, ...], Model] | None:
        """Inputs, outputs and model of the part that does `steps` on rank `t` of its stage.

        `sources`: what the values made here are called; `taken`: names that are needed elsewhere. None where
        nothing of it is.
        """
        builder = _Builder(self, t, sources)
        for step in steps:
            builder.add(step)
        outputs = [n for n in builder.made if n in taken]
        if not outputs:
            return None
        graph = builder.graph
        graph.name = name
        graph.input.extend(self._info(n, spec, t) for n, spec in builder.inputs.items())
        graph.output.extend(self._info(n, builder.made[n], t) for n in outputs)
        proto = onnx.ModelProto(ir_version=self.proto.ir_version)
        proto.opset_import.extend(self.proto.opset_import)
        proto.metadata_props.extend(self.proto.metadata_props)
        proto.graph.CopyFrom(graph)
        return tuple(builder.inputs), tuple(outputs), Model(proto, self.folder)

    def _info(self, name: str, spec: Spec, t: int) -> onnx.ValueInfoProto:
        value = name.partition("@")[0] if name not in self.types else name
        info = onnx.ValueInfoProto(name=name)
        kind = self._tensor_type(value)
        if value not in self.ends and onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).isbuiltin != 1:
            text = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
            raise InputError(
                f"partition: '{value}' goes between devices, but is {text}, which runtimes do not hand over; "
                "keep its nodes in one stage"
            )
        info.type.CopyFrom(self.types[value])
        if spec is not None:
            dim = info.type.tensor_type.shape.dim[spec.axis]
            dim.dim_value = spec.ranges[t][1] - spec.ranges[t][0]
        return info


class _Builder:
    """Collects a part's nodes and constants, and what it reads and makes, with how that is held."""

    def __init__(self, models: PartModels, t: int, sources: Mapping[str, str]) -> None:
        self.models, self.t, self.sources = models, t, sources
        self.graph = onnx.GraphProto()
        self.inputs: dict[str, Spec] = {}
        self.made: dict[str, Spec] = {}
        self._here: set[str] = set()

    def add(self, step: Step) -> None:
        """Add what a step takes."""
        for held in step.all_held():
            self._read(held)
        if step.node is None:
            self._give(step)
            return
        node = self._local(step.node, step.layout)
        counts: dict[str, int] = {}
        for place, name in enumerate(step.node.input):
            if name in step.held:
                node.input[place] = step.held[name][counts.get(name, 0)].name
                counts[name] = counts.get(name, 0) + 1
        rename_in_bodies(node, {name: held[-1].name for name, held in step.held.items()})
        for name in dict.fromkeys(reads(node)):
            if name in self.models.constants:
                self._constant(name)
        for place, name in enumerate(node.output):
            if name:
                node.output[place] = self.sources[name]
                spec = step.layout.outputs[place] if step.layout else None
                self.made[node.output[place]] = None if step.layout and step.layout.reduce else spec
        self.graph.node.append(node)

    def _local(self, whole: onnx.NodeProto, layout: Layout | None) -> onnx.NodeProto:
        """The node as this rank runs it, its own constants taken over."""
        node = onnx.NodeProto()
        node.CopyFrom(whole)
        del node.device_configurations[:]
        if layout is None:
            return node
        source = self.models.by_name[node_name(whole)]
        local = local_node(source, self.models.facts, layout, self.t)
        for place, array in local.constants.items():
            node.input[place] = f"{node_name(whole)}@input{place}"
            self.graph.initializer.append(numpy_helper.from_array(array, node.input[place]))
        if local.attrs != source.attrs:
            changed = {n: v for n, v in local.attrs.items() if source.attrs.get(n) != v}
            kept = [a for a in whole.attribute if a.name not in changed]
            del node.attribute[:]
            node.attribute.extend(kept)
            node.attribute.extend(onnx.helper.make_attribute(n, v) for n, v in changed.items())
        return node

    def _read(self, held: Held) -> None:
        if held.base not in self.made and held.base not in self.inputs:
            self.inputs[held.base] = held.base_spec
        if held.name != held.base and held.name not in self._here:
            self._here.add(held.name)
            assert isinstance(held.spec, Split)
            first = held.base_spec.ranges[self.t][0] if held.base_spec else 0
            self._slice(held.base, held.name, held.spec, first)

    def _slice(self, base: str, name: str, spec: Split, first: int) -> None:
        """Cut `name` out of `base`, which begins with element `first` of the whole."""
        start, stop = spec.ranges[self.t]
        ends = {"start": start - first, "stop": stop - first, "axis": spec.axis}
        for end, number in ends.items():
            self.graph.initializer.append(numpy_helper.from_array(np.array([number]), f"{name}.{end}"))
        inputs = [base, *(f"{name}.{end}" for end in ends)]
        self.graph.node.append(onnx.helper.make_node("Slice", inputs, [name], name))

    def _give(self, step: Step) -> None:
        """Make what a step without a node gives: an Identity of a value, or the constant that it is."""
        if step.held:
            source = next(step.all_held()).name
            self.graph.node.append(onnx.helper.make_node("Identity", [source], [step.result]))
        else:
            self._constant(step.result)
        self.made[step.result] = step.spec

    def _constant(self, name: str) -> None:
        """Take over a constant of the whole model."""
        if name in self._here:
            return
        self._here.add(name)
        source = self.models.constants[name]
        if isinstance(source, onnx.NodeProto):
            node = onnx.NodeProto()
            node.CopyFrom(source)
            del node.device_configurations[:]
            self.graph.node.append(node)
        elif isinstance(source, onnx.SparseTensorProto):
            self.graph.sparse_initializer.append(source)
        else:
            self.graph.initializer.append(source)
