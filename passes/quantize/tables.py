"""Embedding tables as int8, one scale a row: a row is looked up first and multiplied out then."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from optc.models.model import Model
from optc.passes.canonicalize.edit import Edit, standard
from optc.passes.quantize.blocks import Grid, Type, nearest_scales, quantized
from optc.passes.quantize.units import Surroundings
from optc.passes.quantize.weight_layers import Decline, WeightLayer

_BYTES = Type(8, symmetric=True)
_ROWS = Grid(channel=0, summed=1, block=None)


def find_tables(model: Model, decline: Decline) -> list[WeightLayer]:
    """The tables of the main graph's Gathers; `decline` is told of those that stay, and why."""
    around = Surroundings(model)
    here = {id(node) for node in model.view.nodes}
    found: dict[int, WeightLayer] = {}
    for node in model.view.nodes:
        table = node.inputs[0] if node.op == "Gather" and standard(node) else None
        if not isinstance(table, gs.Constant) or table.dtype != np.float32:
            continue
        reason = around.weight_reason(table)
        if reason is None and not all(id(n) in here and _looks_up(n, table) for n in table.outputs):
            reason = "its table has less than two axes, or is read in another way, too"
        if reason is None and _ROWS.nbytes(tuple(table.shape), _BYTES) >= table.values.nbytes:
            reason = "a row is so short that its scale takes what it saves"
        if reason:
            decline(node, reason)
        else:
            found.setdefault(id(table), WeightLayer(table, 0, 1)).nodes.append(node)
    return list(found.values())


def _looks_up(node: gs.Node, table: gs.Constant) -> bool:
    """Whether `node` looks up rows of `table`."""
    rows = node.op == "Gather" and standard(node) and node.attrs.get("axis", 0) == 0
    return rows and node.inputs[0] is table and node.inputs[1] is not table and len(table.shape) > 1


def quantize_table(edit: Edit, table: WeightLayer) -> int:
    """Let the Gathers of `table` look up integers and scales; bytes of these."""
    values, name = table.weight.values, table.weight.name
    scales = nearest_scales(values, _ROWS, _BYTES)
    codes = edit.new_constant(f"{name}_quantized", quantized(values, scales, _ROWS, _BYTES).astype(np.int8))
    tall = (-1, *(1 for _ in values.shape[1:]))
    scale = edit.new_constant(f"{name}_scale", scales.scale.reshape(tall))
    for node in table.nodes:
        _multiply_out(edit, node, codes, scale)
    return _ROWS.nbytes(values.shape, _BYTES)


def _multiply_out(edit: Edit, node: gs.Node, codes: gs.Constant, scale: gs.Constant) -> None:
    """`node` looks up `codes`; a second Gather the scales, and the product is what `node` made."""
    output = node.outputs[0]

    def variable(kind: str, dtype: type) -> gs.Variable:
        return gs.Variable(edit.new_name(f"{output.name}_{kind}"), np.dtype(dtype))

    rows, floats, factor = (
        variable("codes", np.int8),
        variable("float", np.float32),
        variable("scale", np.float32),
    )
    edit.set_output(node, 0, rows)
    edit.set_input(node, 0, codes)
    indices = node.inputs[1]
    place = next(i for i, n in enumerate(edit.graph.nodes) if n is node)
    new = [
        gs.Node("Gather", edit.new_name(f"{factor.name}_Gather"), {"axis": 0}, [scale, indices], [factor]),
        gs.Node("Cast", edit.new_name(f"{floats.name}_Cast"), {"to": np.float32}, [rows], [floats]),
        gs.Node("Mul", edit.new_name(f"{output.name}_Mul"), {}, [floats, factor], [output]),
    ]
    edit.graph.nodes[place + 1 : place + 1] = new
