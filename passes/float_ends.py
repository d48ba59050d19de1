"""Models whose inputs and outputs are codes or 16-bit floats, and how they are fed and read as float32.

The metadata entry `optc.codes` says of each such end what stands for a float32: codes with their scale and
zero point, `{"image": {"dtype": "uint8", "scale": 0.003921569, "zero_point": 0}}`, meaning
`x = scale * (q - zero_point)`; or a smaller float type, `{"image": {"dtype": "float16"}}`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import TensorProto

from optc.models.data import Member
from optc.models.errors import InputError
from optc.models.export import element_type
from optc.models.model import Model
from optc.models.session import Arrays
from optc.passes.canonicalize.edit import all_names
from optc.passes.quantize.scales import Code

CODES = "optc.codes"
"""The metadata entry."""

_FLOATS = ("float16", "bfloat16")


@dataclass(frozen=True)
class End:
    """What stands for the float32 values of an input or output: codes, or where `code` is None, `dtype`."""

    dtype: str
    code: Code | None = None

    @property
    def element(self) -> int:
        """The ONNX element type."""
        return int(TensorProto.DataType.Value(self.dtype.upper()))

    def encode(self, values: NDArray[Any]) -> NDArray[Any]:
        """float32 as what the model takes: as QuantizeLinear rounds, ties to even, or as Cast does."""
        if self.code is not None:
            return self.code.quantize(values)
        small: NDArray[Any] = values.astype(onnx.helper.tensor_dtype_to_np_dtype(self.element))
        return small

    def decode(self, values: NDArray[Any]) -> NDArray[Any]:
        """What the model gives as float32."""
        return values.astype(np.float32) if self.code is None else self.code.dequantize(values)


def ends_of(model: Model) -> dict[str, End]:
    """The inputs and outputs that stand for float32 values, by name; entries that fit no more do not count.

    Raises `InputError` where the metadata entry is not what this page says.
    """
    text = model.metadata().get(CODES)
    if text is None:
        return {}
    try:
        found = {str(name): _end(entry) for name, entry in json.loads(text).items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"model '{model.name}': its metadata entry '{CODES}' is damaged ({error}); remove it"
        ) from error
    tensors = {t.name: t for t in (*model.view.inputs, *model.view.outputs) if t.dtype is not None}
    return {n: e for n, e in found.items() if n in tensors and element_type(tensors[n].dtype) == e.element}


def _end(entry: Mapping[str, Any]) -> End:
    if entry["dtype"] in _FLOATS:
        return End(entry["dtype"])
    dtype = np.dtype(entry["dtype"])
    if dtype not in (np.dtype(np.int8), np.dtype(np.uint8)):
        raise ValueError(f"codes of {dtype}")
    return End(dtype.name, Code(np.float32(entry["scale"]), int(entry["zero_point"]), dtype))


def note_ends(model: Model, ends: Mapping[str, End]) -> None:
    """Write `ends` into the metadata of `model`, beside what stands there."""
    entries = json.loads(model.metadata().get(CODES, "{}"))
    for name, end in ends.items():
        entries[name] = {"dtype": end.dtype}
        if end.code is not None:
            # The shortest text from which the float32 comes back.
            scale = float(str(end.code.scale))
            entries[name] |= {"scale": scale, "zero_point": end.code.zero_point}
    model.set_metadata(CODES, json.dumps(entries, sort_keys=True))


def with_float_ends(model: Model) -> Model:
    """A copy of `model` with float32 inputs and outputs of the same names; itself where they are so already.

    Q and DQ, or Casts, stand between them and the model. They round as ONNX says, to even, also where the
    model's own rounding is another.
    """
    ends = ends_of(model)
    if not ends:
        return model
    copy = model.copy()
    graph = copy.graph
    names = all_names(graph)
    before = [_input(graph, i, ends[t.name], names) for i, t in enumerate(graph.inputs) if t.name in ends]
    after = [_output(graph, i, ends[t.name], names) for i, t in enumerate(graph.outputs) if t.name in ends]
    graph.nodes[:] = [*before, *graph.nodes, *after]
    kept = {k: v for k, v in copy.metadata().items() if k != CODES}
    del copy.header.metadata_props[:]
    for key, value in kept.items():
        copy.header.metadata_props.add(key=key, value=value)
    return copy


def _input(graph: gs.Graph, index: int, end: End, names: set[str]) -> gs.Node:
    outer, inner = _parted(graph.inputs, index, names)
    return _between(outer, inner, end, end.element, "QuantizeLinear", names)


def _output(graph: gs.Graph, index: int, end: End, names: set[str]) -> gs.Node:
    outer, inner = _parted(graph.outputs, index, names)
    return _between(inner, outer, end, TensorProto.FLOAT, "DequantizeLinear", names)


def _parted(ends: list[gs.Tensor], index: int, names: set[str]) -> tuple[gs.Variable, gs.Tensor]:
    """A float32 end in place of the one at `index`, of its name, and that one, renamed."""
    inner = ends[index]
    outer = gs.Variable(inner.name, np.dtype(np.float32), inner.shape)
    inner.name = free_name(f"{outer.name}_codes", names)
    ends[index] = outer
    return outer, inner


def _between(source: gs.Tensor, target: gs.Tensor, end: End, to: int, op: str, names: set[str]) -> gs.Node:
    if end.code is None:
        return gs.Node("Cast", free_name(f"{target.name}_Cast", names), {"to": to}, [source], [target])
    scale = gs.Constant(free_name(f"{target.name}_scale", names), np.array(end.code.scale, np.float32))
    zero = np.array(end.code.zero_point, end.code.dtype)
    inputs = [source, scale, gs.Constant(free_name(f"{target.name}_zero_point", names), zero)]
    return gs.Node(op, free_name(f"{target.name}_{op}", names), {}, inputs, [target])


def free_name(wanted: str, names: set[str]) -> str:
    """`wanted`, with a number behind it where `names` has it; added to `names`."""
    name, number = wanted, 1
    while name in names:
        name, number = f"{wanted}_{number}", number + 1
    names.add(name)
    return name


def as_given(model: Model, members: Mapping[str, Member]) -> Model:
    """The model that arrays of these types fit: `with_float_ends`, unless they are what the model takes."""
    ends = ends_of(model)
    given = {n for n, end in ends.items() if n in members and members[n].dtype.name == end.dtype}
    return model if given else with_float_ends(model)


def encoded(model: Model, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
    """`feeds` by input name, float32 ones as what `model` takes."""
    ends = ends_of(model)
    return {n: ends[n].encode(v) if n in ends and v.dtype == np.float32 else v for n, v in feeds.items()}


def decoded(model: Model, outputs: Mapping[str, NDArray[Any]]) -> Arrays:
    """`outputs` by name, what stands for float32 as float32."""
    ends = ends_of(model)
    return {n: ends[n].decode(v) if n in ends else v for n, v in outputs.items()}
