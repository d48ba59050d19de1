"""Reading a quantized ONNX model as an integer program (docs/semantics.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import onnx_graphsurgeon as gs

from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.quantize.integer.channelwise import has_constant, read_channelwise
from optc.passes.quantize.integer.endings import finish_layer, read_product
from optc.passes.quantize.integer.facts import Facts
from optc.passes.quantize.integer.found import Found
from optc.passes.quantize.integer.layers import Core, read_layer
from optc.passes.quantize.integer.ops import Dequantize, IntegerProgram, Left, Op, Quantize
from optc.passes.quantize.integer.units import (
    read_average_pool,
    read_concat,
    read_max_pool,
    read_move,
    read_sum,
)
from optc.passes.quantize.operators import REASONS
from optc.passes.quantize.quantize import ROUNDING
from optc.passes.quantize.reference import Rounding
from optc.passes.quantize.region import computes_floats

_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")

_READERS: dict[str, Callable[[gs.Node, Facts], Found | str]] = {
    "MatMul": read_product,
    "Max": read_channelwise,
    "Min": read_channelwise,
    "MaxPool": read_max_pool,
    "AveragePool": read_average_pool,
    "GlobalAveragePool": read_average_pool,
    "Concat": read_concat,
    "Reshape": read_move,
    "Transpose": read_move,
    "Flatten": read_move,
    "Slice": read_move,
    "Squeeze": read_move,
    "Unsqueeze": read_move,
}
"""Operators whose units are recognized by themselves; layers and sums are looked at together."""

_PAIR = ("QuantizeLinear", "DequantizeLinear")

_OTHER_FORMS = frozenset(
    ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear")
)


def integer_program(model: Model) -> IntegerProgram:
    """What `model` computes in integers, and every node that stays float, with the reason.

    A unit runs from the DQs on what it reads to the Q on what it writes, and is in the program only if
    docs/semantics.md defines its integers. `InputError` where the metadata names an unknown rounding.
    """
    facts = Facts(model, model_rounding(model))
    recognizer = _Recognizer(facts)
    recognizer.recognize()
    return IntegerProgram(tuple(recognizer.ops()), tuple(recognizer.left()), facts.rounding)


def model_rounding(model: Model) -> Rounding:
    """The rounding that the model's metadata names; `even` where it names none."""
    named = model.metadata().get(ROUNDING, "even")
    if named == "even":
        return "even"
    if named == "half_up":
        return "half_up"
    raise InputError(f"model '{model.name}': its rounding '{named}' is unknown; it can be even or half_up")


def node_key(node: gs.Node) -> str:
    """What names a node: its first output."""
    return str(next((t.name for t in node.outputs if not t.is_empty()), node.name))


class _Recognizer:
    """Finds the units, then gives each Q and DQ to those that alone read it."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.place = {id(node): index for index, node in enumerate(facts.nodes)}
        self.found: list[Found] = []
        self.taken: set[int] = set()
        self.reasons: dict[int, str] = {}

    def recognize(self) -> None:
        """Fill in what is found, and the reasons of what is not."""
        cores = self._cores()
        accumulated: set[int] = set()
        for node in self._open("Add"):
            if has_constant(node, self.facts):
                self._note(node, read_channelwise(node, self.facts))
                continue
            found = read_sum(node, cores, self.facts)
            self._note(node, found)
            if isinstance(found, Found):
                accumulated.update(id(t) for t in node.inputs if id(t) in cores)
        for core in cores.values():
            self._note(core.nodes[0], finish_layer(core, id(core.output) in accumulated, self.facts))
        for node in self._open(*_READERS):
            if id(node) not in self.reasons and id(node) not in self.taken:
                self._note(node, _READERS[node.op](node, self.facts))
        for node in self._open("Relu", "Clip"):
            self._note(node, read_sum(node, cores, self.facts))
        self._quantizers()

    def _open(self, *ops: str) -> list[gs.Node]:
        """The nodes of ONNX's own `ops` that no unit has taken."""
        return [n for n in self.facts.nodes if n.op in ops and _is_onnx(n) and id(n) not in self.taken]

    def _cores(self) -> dict[int, Core]:
        """The layers with weights, by the id() of their output; their nodes are taken."""
        cores: dict[int, Core] = {}
        for node in self._open(*_LAYERS):
            core = read_layer(node, self.facts)
            if isinstance(core, Core):
                cores[id(core.output)] = core
                self.taken.update(id(n) for n in core.nodes)
            elif isinstance(core, str):
                self.reasons[id(node)] = core
        return cores

    def _note(self, node: gs.Node, found: Found | str) -> None:
        if isinstance(found, str):
            self.reasons[id(node)] = found
            return
        self.found.append(found)
        self.taken.update(id(n) for n in found.nodes)

    def _quantizers(self) -> None:
        """Give each Q and DQ that only units read to the first of them; others stand by themselves."""
        self.found.sort(key=lambda found: self.place[id(found.nodes[0])])
        users: dict[int, Found] = {}
        for found in reversed(self.found):
            users.update({id(n): found for n in found.read})
        pairs = [n for n in self.facts.nodes if n.op in _PAIR and _is_onnx(n)]
        for op in reversed(_PAIR):
            for node in (n for n in pairs if n.op == op and id(n) in users):
                result = node.outputs[0]
                if id(result) not in self.facts.ends and all(id(n) in self.taken for n in result.outputs):
                    users[id(node)].nodes.append(node)
                    self.taken.add(id(node))
        for node in (n for n in pairs if id(n) not in self.taken):
            self._note(node, self._border(node))

    def _border(self, node: gs.Node) -> Found | str:
        """A Q or DQ between what is integer and what is float."""
        if self.facts.is_fixed(node.inputs[0]):
            return "what it reads is a constant"
        code = self.facts.code(node)
        if isinstance(code, str):
            return code
        names = (node.inputs[0].name,), node.outputs[0].name
        op = Quantize((), *names, code) if node.op == "QuantizeLinear" else Dequantize((), *names, code)
        return Found(op, [node], [])

    def ops(self) -> Iterator[Op]:
        """The operations in the order of the graph."""
        for found in sorted(self.found, key=lambda found: self.place[id(found.nodes[0])]):
            nodes = sorted(found.nodes, key=lambda node: self.place[id(node)])
            yield replace(found.op, nodes=tuple(node_key(n) for n in nodes))

    def left(self) -> Iterator[Left]:
        """The nodes that stay as they are and compute floats, in the order of the graph."""
        for node in self.facts.nodes:
            if id(node) not in self.taken and (computes_floats(node) or node.op in _OTHER_FORMS):
                yield Left(node_key(node), str(node.op), self._reason(node))

    def _reason(self, node: gs.Node) -> str:
        if id(node) in self.reasons:
            return self.reasons[id(node)]
        if node.op in _OTHER_FORMS or node.op.startswith("QLinear"):
            return "it is quantized in another form than Q and DQ"
        return REASONS.get(node.op, f"{node.op} has no integer form here")


def _is_onnx(node: gs.Node) -> bool:
    return node.domain in (None, "", "ai.onnx")
