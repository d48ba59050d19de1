"""Let the inputs and outputs of a quantized model be codes, without the Q and DQ at its ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from optc.models.model import Model
from optc.passes.base import Context, Contract, Declined, Exact, describe
from optc.passes.canonicalize.edit import all_names, detach
from optc.passes.float_ends import End, free_name, note_ends
from optc.passes.quantize.integer.facts import Facts, is_quantizer
from optc.passes.quantize.scales import Code


@dataclass(frozen=True)
class IntegerEnds:
    """Inputs that one QuantizeLinear alone reads, and outputs that a DequantizeLinear makes, become codes.

    Names stay; the metadata entry `optc.codes` says scale, zero point and dtype of each (see
    `optc.passes.float_ends`). The user of the model codes its inputs and decodes its outputs. Seen through
    these codes the outputs are the same.
    """

    name: ClassVar[str] = "integer-ends"
    contract: ClassVar[Contract] = Exact()

    inputs: bool = True
    outputs: bool = True

    def run(self, model: Model, context: Context) -> bool:
        """Change the ends; declines float32 ends that are of another form."""
        facts = Facts(model, "even")
        changed: dict[str, End] = {}
        sides = {"input": (self.inputs, model.view.inputs, _input)}
        sides["output"] = (self.outputs, model.view.outputs, _output)
        for side in sides:
            wanted, tensors, change = sides[side]
            floats = [(i, t.name) for i, t in enumerate(tensors) if wanted and t.dtype == np.float32]
            for index, name in floats:
                found = change(model, index, facts)
                if isinstance(found, str):
                    context.declined.append(Declined(f"{name} (the {side})", found))
                else:
                    changed[name] = End(found.dtype.name, found)
        if not changed:
            return False
        model.graph.nodes[:] = [n for n in model.view.nodes if n.outputs]
        note_ends(model, changed)
        context.facts["changed"] = sorted(changed)
        return True


def _input(model: Model, index: int, facts: Facts) -> Code | str:
    """Let the input at `index` be the codes that its Q makes; their code, or why it stays."""
    tensor = model.view.inputs[index]
    reader = facts.only_reader(tensor)
    if reader is None or not is_quantizer(reader, "QuantizeLinear") or reader.inputs[0] is not tensor:
        return f"not one QuantizeLinear alone reads it, but {_names(tensor.outputs)}"
    code, codes = facts.code(reader), reader.outputs[0]
    if isinstance(code, str):
        return code
    if _is_end(model, codes):
        return "its codes are an output of the graph, whose name must stay"
    detach(reader)
    model.graph.inputs[index] = _renamed(codes, tensor, code)
    return code


def _output(model: Model, index: int, facts: Facts) -> Code | str:
    """Let the output at `index` be the codes that its DQ reads; their code, or why it stays."""
    tensor = model.view.outputs[index]
    maker = tensor.inputs[0] if tensor.inputs else None
    if maker is None or not is_quantizer(maker, "DequantizeLinear"):
        return f"no DequantizeLinear makes it, but {_names(tensor.inputs)}"
    code, codes = facts.code(maker), maker.inputs[0]
    if isinstance(code, str):
        return code
    if _is_end(model, codes) or not codes.inputs:
        return "its codes are an input, another output or a constant, whose name must stay"
    inner = free_name(f"{tensor.name}_float", all_names(model.view))
    model.graph.outputs[index] = _renamed(codes, tensor, code)
    tensor.name = inner
    if not tensor.outputs:
        detach(maker)
    return code


def _renamed(codes: gs.Variable, end: gs.Variable, code: Code) -> gs.Variable:
    codes.name, codes.dtype, codes.shape = end.name, code.dtype, end.shape
    return codes


def _is_end(model: Model, tensor: gs.Tensor) -> bool:
    return any(tensor is t for t in (*model.view.inputs, *model.view.outputs))


def _names(nodes: list[gs.Node]) -> str:
    return ", ".join(describe(n) for n in nodes[:3]) or "nothing"
