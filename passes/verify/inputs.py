"""Inputs made from a model's input types and value ranges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.models.data import Samples
from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.session import Arrays, Session

Ranges = Mapping[str, tuple[float, float]]
"""Lowest and highest value of each input, by name."""

FREE_SIZES = (8, 32, 224)
"""Sizes tried in turn for free dimensions other than the batch; the first that runs is kept."""

_RANGE_SAMPLES = 256
_INDEX_KEEPERS = {
    "Cast",
    "Reshape",
    "Unsqueeze",
    "Squeeze",
    "Flatten",
    "Identity",
    "Transpose",
    "Expand",
    "Slice",
}


def input_tensors(model: Model) -> list[gs.Variable]:
    """The inputs that a caller must feed: not the initializers that are also inputs."""
    return [t for t in model.view.inputs if t.name not in model.overridable]


def value_ranges(model: Model, samples: Samples) -> Ranges:
    """Lowest and highest value of each input over the first samples."""
    names = [t.name for t in input_tensors(model) if t.name in samples.members]
    ranges: dict[str, tuple[float, float]] = {}
    for batch in samples.batches(names, 64, _RANGE_SAMPLES):
        for name, array in ((n, a) for n, a in batch.items() if a.size):
            low, high = ranges.get(name, (np.inf, -np.inf))
            ranges[name] = (min(low, float(array.min())), max(high, float(array.max())))
    return ranges


def generate(
    model: Model,
    seed: int = 0,
    ranges: Ranges | None = None,
    shapes: Mapping[str, Any] | None = None,
    free: int = 8,
) -> Arrays:
    """One array for each input, by name, the same for the same seed.

    Floats are uniform in their range in `ranges`, else standard normal; integers that index a table stay
    inside it; masks are 0 or 1. A free first dimension is 1, another takes its size from `shapes`, else is
    `free`. Raises `InputError` for an input without a type or shape.
    """
    rng = np.random.default_rng(seed)
    symbols: dict[str, int] = {}
    arrays: Arrays = {}
    for tensor in input_tensors(model):
        shape = _shape(tensor, symbols, (shapes or {}).get(tensor.name), free)
        arrays[tensor.name] = _values(rng, tensor, shape, (ranges or {}).get(tensor.name))
    return arrays


def generate_runnable(
    model: Model, session: Session, seed: int = 0, samples: Samples | None = None
) -> Arrays:
    """As `generate`, with free dimensions of a size that `session` runs, and the ranges seen in `samples`.

    Raises `InputError` where no size in `FREE_SIZES` works.
    """
    ranges = value_ranges(model, samples) if samples else {}
    shapes = {n: m.shape for n, m in samples.members.items()} if samples else {}
    for free in FREE_SIZES:
        feeds = generate(model, seed, ranges, shapes, free)
        try:
            session.run(feeds)
        except InputError as error:
            failure = error
        else:
            return feeds
    raise InputError(f"no inputs could be made that the model runs on; give some with -i ({failure})")


def _shape(
    tensor: gs.Variable, symbols: dict[str, int], sample: tuple[int, ...] | None, free: int
) -> tuple[int, ...]:
    if tensor.shape is None:
        raise InputError(f"input '{tensor.name}' has no shape; give inputs with -i, or bind it with --shape")
    sizes = []
    for axis, dim in enumerate(tensor.shape):
        if isinstance(dim, int) and dim >= 0:
            sizes.append(dim)
            continue
        size = 1 if axis == 0 else sample[axis] if sample and axis < len(sample) else free
        sizes.append(symbols.setdefault(dim, size) if isinstance(dim, str) else size)
    return tuple(sizes)


def _values(
    rng: np.random.Generator, tensor: gs.Variable, shape: tuple[int, ...], seen: tuple[float, float] | None
) -> NDArray[Any]:
    dtype = _dtype(tensor)
    if "mask" in tensor.name.lower():
        return _mask(rng, shape).astype(dtype)
    if dtype == np.bool_:
        return rng.integers(0, 2, shape).astype(dtype)
    if np.issubdtype(dtype, np.integer):
        low, high = seen if seen else _integer_range(tensor, dtype)
        return rng.integers(int(low), int(high), shape, np.int64, endpoint=True).astype(dtype)
    values = rng.uniform(*seen, shape) if seen else rng.standard_normal(shape)
    return np.asarray(values).astype(dtype)


def _mask(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Zeros and ones, never all zero along the last axis: a softmax over nothing is NaN."""
    mask = rng.integers(0, 2, shape)
    mask[..., :1] = 1
    return mask


def _dtype(tensor: gs.Variable) -> np.dtype[Any]:
    dtype = tensor.dtype or object
    if isinstance(dtype, int):
        dtype = onnx.helper.tensor_dtype_to_np_dtype(dtype)
    found: np.dtype[Any] = np.dtype(dtype)
    if found.kind == "O":
        raise InputError(f"input '{tensor.name}' is no tensor of numbers; give inputs with -i")
    return found


def _integer_range(tensor: gs.Variable, dtype: np.dtype[Any]) -> tuple[int, int]:
    bounds = list(_table_sizes(tensor, set()))
    if bounds:
        return 0, min(bounds) - 1
    if dtype.itemsize == 1:
        return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    return 0, 1


def _table_sizes(tensor: gs.Tensor, seen: set[int]) -> Iterator[int]:
    """Sizes of the tables that `tensor`, or what only changes its shape or type, is an index into."""
    for node in tensor.outputs:
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node.op == "Gather" and node.inputs[1] is tensor:
            shape = _known_shape(node.inputs[0])
            size = shape[node.attrs.get("axis", 0)] if shape else None
            if isinstance(size, int):
                yield size
        elif node.op in _INDEX_KEEPERS and node.inputs[0] is tensor:
            yield from _table_sizes(node.outputs[0], seen)


def _known_shape(tensor: gs.Tensor) -> Any:
    """The shape of a table, also of one that is stored quantized."""
    if (
        not isinstance(tensor, gs.Constant)
        and tensor.inputs
        and tensor.inputs[0].op in ("DequantizeLinear", "Cast")
    ):
        return _known_shape(tensor.inputs[0].inputs[0])
    return tensor.shape
