"""Making the chosen nodes small: constants, types of values, and Casts where the two types meet."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs
from onnx import TensorProto

from optc.models.export import element_type
from optc.passes.canonicalize.edit import Edit
from optc.passes.convert_floats.choose import underflow
from optc.passes.convert_floats.small import Plan, Small
from optc.passes.convert_floats.values import Values, attribute_values

Use = tuple[gs.Node, int]
"""A node, and the index of one of its inputs."""


class Rewrite:
    """Gives each value the types that its readers want, one tensor a type, shared by them.

    `plans`: the nodes that become small, by id(). `small_ends`: names of the graph's inputs and outputs that
    do. `may_overflow`: whether a node's result is to be cut to the range before a Cast.
    """

    def __init__(
        self,
        edit: Edit,
        values: Values,
        small: Small,
        plans: dict[int, Plan],
        small_ends: set[str],
        may_overflow: Callable[[gs.Node], bool],
    ) -> None:
        self._edit, self._values, self._small = edit, values, small
        self._plans, self._small_ends, self._may_overflow = plans, small_ends, may_overflow
        self._made = {id(p.node.outputs[i]) for p in plans.values() for i in p.outputs}
        self._first: list[gs.Node] = []
        self._after: dict[int, list[gs.Node]] = {}
        self.casts = self.constants = 0
        self.lost: dict[str, list[int]] = {}
        """Of each constant that has some: how many values become 0, how many subnormal."""

    def run(self) -> None:
        """Rewrite the graph."""
        for tensor in self._affected():
            values = self._values.constant(tensor)
            maker = tensor.inputs[0] if tensor.inputs else None
            if values is not None and tensor.name not in self._values.outputs:
                self._constant(tensor, values)
            elif maker is not None and self._values.copied(tensor):
                self._copy(maker, tensor)
            else:
                self._value(tensor, maker)
        self._place()
        self._drop_idle_casts()

    def _affected(self) -> list[gs.Tensor]:
        """The float32 values that some small node reads or makes, and the ends that become small."""
        graph = self._edit.graph
        found = [p.node.inputs[i] for p in self._plans.values() for i in p.inputs]
        found += [p.node.outputs[i] for p in self._plans.values() for i in p.outputs]
        found += [t for t in (*graph.inputs, *graph.outputs) if t.name in self._small_ends]
        return list({id(t): t for t in found}.values())

    def _uses(self, tensor: gs.Tensor) -> tuple[list[Use], list[Use], list[Use]]:
        """The uses that want `tensor` small, float32, and either way (Casts to other types)."""
        small: list[Use] = []
        wide: list[Use] = []
        either: list[Use] = []
        for node in {id(n): n for n in tensor.outputs}.values():
            plan = self._plans.get(id(node))
            for index in (i for i, t in enumerate(node.inputs) if t is tensor):
                if plan is not None and index in plan.inputs:
                    small.append((node, index))
                elif node.op == "Cast" and node.attrs["to"] != TensorProto.FLOAT:
                    either.append((node, index))
                else:
                    wide.append((node, index))
        return small, wide, either

    def _constant(self, tensor: gs.Tensor, values: np.ndarray) -> None:
        small, wide, either = self._uses(tensor)
        rounded = self._small.array(values)
        self.constants += 1
        counts = underflow(values, self._small)
        if any(counts):
            self.lost[tensor.name] = list(counts)
        free = not wide and not either and tensor.name not in self._values.returned
        if free and isinstance(tensor, gs.Constant):
            tensor.values = rounded
            return
        self._redirect(small, self._edit.new_constant(f"{tensor.name}_{self._small.name}", rounded))
        if free:
            self._edit.remove(tensor.inputs[0])

    def _copy(self, maker: gs.Node, tensor: gs.Tensor) -> None:
        """Let `maker`, a Cast to float32 or the like, make the small value itself, or a copy of it do so."""
        small, wide, either = self._uses(tensor)
        wide += either
        end = tensor.name in self._values.outputs | self._values.returned
        to_small = tensor.name in self._small_ends or (not end and not wide)
        if to_small:
            if wide:
                self._redirect(wide, self._copied(maker, tensor, False))
            self._retype(maker, tensor)
        else:
            self._redirect(small, self._copied(maker, tensor, True))

    def _copied(self, maker: gs.Node, tensor: gs.Tensor, small: bool) -> gs.Tensor:
        """What a second `maker` makes, small or float32."""
        copied = self._variable(tensor, small)
        name = self._edit.new_name(f"{copied.name}_{maker.op}")
        node = gs.Node(maker.op, name, dict(maker.attrs), list(maker.inputs), [copied])
        if small:
            self._retype(node, copied)
        self._after.setdefault(id(maker), []).append(node)
        return copied

    def _retype(self, maker: gs.Node, tensor: gs.Tensor) -> None:
        """Let a Cast, Constant or ConstantOfShape make the small type."""
        if maker.op == "Cast":
            maker.attrs["to"] = self._small.element
        else:
            given = attribute_values(maker)
            assert given is not None, "copied() said so"
            maker.attrs.clear()
            maker.attrs["value"] = gs.Constant("value", self._small.array(given))
        tensor.dtype = self._small.variable

    def _value(self, tensor: gs.Tensor, maker: gs.Node | None) -> None:
        """A value of the graph: of its maker's type, or of the type that an end must have."""
        small, wide, either = self._uses(tensor)
        native = id(tensor) in self._made
        if tensor.name in self._values.inputs:
            native = tensor.name in self._small_ends
        ends = self._values.outputs | self._values.returned
        named = tensor.name in self._small_ends if tensor.name in ends else native
        if named == native or maker is None:
            if native:
                tensor.dtype = self._small.variable
            if wide if native else small:
                self._redirect(wide if native else small, self._cast(tensor, not native, maker))
            return
        inner = self._variable(tensor, native)
        place = next(i for i, t in enumerate(maker.outputs) if t is tensor)
        self._edit.set_output(maker, place, inner)
        self._redirect((small if native else wide) + either, inner)
        tensor.dtype = self._small.variable if named else np.dtype(np.float32)
        self._cast(inner, named, maker, tensor)

    def _cast(
        self, source: gs.Tensor, small: bool, maker: gs.Node | None, target: gs.Tensor | None = None
    ) -> gs.Tensor:
        """A Cast of `source` behind its maker, cut to the range where that overflows; its result."""
        nodes = self._first if maker is None else self._after.setdefault(id(maker), [])
        target = self._variable(source, small) if target is None else target
        if small and maker is not None and self._may_overflow(maker):
            source = self._cut(source, nodes)
        to = self._small.element if small else TensorProto.FLOAT
        name = self._edit.new_name(f"{target.name}_Cast")
        nodes.append(gs.Node("Cast", name, {"to": int(to)}, [source], [target]))
        self.casts += 1
        return target

    def _cut(self, source: gs.Tensor, nodes: list[gs.Node]) -> gs.Tensor:
        cut = gs.Variable(self._edit.new_name(f"{source.name}_cut"), np.dtype(np.float32), source.shape)
        inputs = [source]
        if self._edit.opset >= 11:
            bounds = {"low": -self._small.largest, "high": self._small.largest}
            for end in bounds:
                inputs.append(self._edit.new_constant(f"{cut.name}_{end}", np.array(bounds[end], np.float32)))
            attrs = {}
        else:
            attrs = {"min": -self._small.largest, "max": self._small.largest}
        nodes.append(gs.Node("Clip", self._edit.new_name(f"{cut.name}_Clip"), attrs, inputs, [cut]))
        return cut

    def _variable(self, tensor: gs.Tensor, small: bool) -> gs.Variable:
        suffix = self._small.name if small else "float32"
        dtype = self._small.variable if small else np.dtype(np.float32)
        return gs.Variable(self._edit.new_name(f"{tensor.name}_{suffix}"), dtype, tensor.shape)

    def _redirect(self, uses: list[Use], tensor: gs.Tensor) -> None:
        for node, index in uses:
            self._edit.set_input(node, index, tensor)

    def _place(self) -> None:
        """Put the new nodes behind the makers of what they read."""
        nodes = list(self._first)
        for node in self._edit.graph.nodes:
            nodes += [node, *self._after.get(id(node), [])]
        self._edit.graph.nodes[:] = nodes

    def _drop_idle_casts(self) -> None:
        """Remove Casts that nobody reads, and those from the small type to itself."""
        ends = self._values.outputs | self._values.returned
        for node in [n for n in self._edit.graph.nodes if n.op == "Cast" and n.outputs]:
            source, result = node.inputs[0], node.outputs[0]
            if node.attrs["to"] == self._small.element == _element(source):
                self._edit.bypass(node, source)
            elif self._values.is_wide(result) and not result.outputs and result.name not in ends:
                self._edit.remove(node)


def _element(tensor: gs.Tensor) -> int:
    return element_type(tensor.dtype) if tensor.dtype is not None else 0
