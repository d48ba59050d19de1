"""What a model takes and gives, and whether the arrays that a caller feeds fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import onnx
from numpy.typing import NDArray

from optc.models.errors import InputError

_ANONYMOUS = ("", "?", "None", "none", "unknown", "-1")
"""What exporters write for "some number": equal ones need not be equal numbers."""


class Spec(TypedDict):
    """A value at the border of a model.

    `dtype`: numpy's name, "object" for strings, None where it is no tensor; `shape`: sizes, names of free
    dimensions, None for a free one without a name; None where the rank is free.
    """

    name: str
    dtype: str | None
    shape: list[int | str | None] | None


def inputs_of(graph: onnx.GraphProto) -> list[Spec]:
    """The inputs that a caller has to give; initializers that are also inputs are constants here."""
    constants = {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    return [spec(i) for i in graph.input if i.name not in constants]


def outputs_of(graph: onnx.GraphProto) -> list[Spec]:
    """The outputs, in order."""
    return [spec(o) for o in graph.output]


def spec(info: onnx.ValueInfoProto) -> Spec:
    """The dtype and shape that a ValueInfoProto states."""
    tensor = info.type.tensor_type
    if not info.type.HasField("tensor_type") or not tensor.elem_type:
        return Spec(name=info.name, dtype=None, shape=None)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    return Spec(name=info.name, dtype=dtype, shape=shape_of(tensor))


def shape_of(tensor: onnx.TypeProto.Tensor) -> list[int | str | None] | None:
    """Sizes, names of free dimensions, None for a free one without a name; None for a free rank."""
    if not tensor.HasField("shape"):
        return None
    return [_dim(d) for d in tensor.shape.dim]


def _dim(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.HasField("dim_value"):
        return int(dim.dim_value) if dim.dim_value >= 0 else None
    return None if dim.dim_param in _ANONYMOUS else str(dim.dim_param)


def check_arrays(specs: Iterable[Spec], feeds: Mapping[str, NDArray[Any]]) -> None:
    """`InputError` naming the input where an array is missing, unknown, or of another dtype or shape.

    One name of a free dimension stands for one size in all inputs.
    """
    specs = list(specs)
    names = [s["name"] for s in specs]
    for name in feeds:
        if name not in names:
            raise InputError(f"the model has no input '{name}'; it takes {', '.join(names) or 'none'}")
    sizes: dict[str, int] = {}
    for wanted in specs:
        name = wanted["name"]
        if name not in feeds:
            raise InputError(f"no array for the input '{name}'; give one of shape {_text(wanted['shape'])}")
        array = np.asarray(feeds[name])
        if wanted["dtype"] is not None and not _same_dtype(array.dtype, wanted["dtype"]):
            raise InputError(f"input '{name}' takes {wanted['dtype']}, not {array.dtype}; convert it")
        _check_shape(name, wanted["shape"], array.shape, sizes)


def _same_dtype(given: np.dtype[Any], wanted: str) -> bool:
    return given.kind in "OUST" if wanted == "object" else given.name == wanted


def _check_shape(
    name: str, wanted: Sequence[int | str | None] | None, given: tuple[int, ...], sizes: dict[str, int]
) -> None:
    if wanted is None:
        return
    fits = len(wanted) == len(given)
    for want, got in zip(wanted, given, strict=False):
        expected = sizes.setdefault(want, got) if isinstance(want, str) else want
        fits = fits and expected in (None, got)
    if not fits:
        known = ", ".join(f"{k} = {v}" for k, v in sizes.items())
        raise InputError(
            f"input '{name}' takes shape {_text(wanted)}, the array has {list(given)}"
            + (f" (where {known})" if known else "")
        )


def _text(shape: Sequence[int | str | None] | None) -> str:
    if shape is None:
        return "any"
    return "[" + ", ".join("?" if d is None else str(d) for d in shape) + "]"
