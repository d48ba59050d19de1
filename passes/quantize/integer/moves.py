"""ONNX's moves of data, in numpy (opset 13 and later)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def moved(op: str, x: Array, attributes: Mapping[str, Any], parameters: Sequence[Array | None]) -> Array:
    """`x` as `op` moves it; `parameters`: the inputs behind the first, None where absent."""
    if op == "Transpose":
        return np.transpose(x, attributes.get("perm"))
    if op == "Flatten":
        axis = int(attributes.get("axis", 1))
        rows = int(np.prod(x.shape[: axis if axis >= 0 else axis + x.ndim]))
        return x.reshape(rows, -1 if x.size else int(np.prod(x.shape[axis:])))
    if op == "Slice":
        return _sliced(x, parameters)
    first = parameters[0] if parameters else None
    if op == "Reshape":
        assert first is not None
        return _reshaped(x, first, bool(attributes.get("allowzero", 0)))
    axes = None if first is None else tuple(int(a) for a in first)
    if op == "Squeeze":
        return np.squeeze(x, axes)
    assert op == "Unsqueeze" and axes is not None, op
    return np.expand_dims(x, axes)


def _reshaped(x: Array, shape: Array, allow_zero: bool) -> Array:
    """A dimension of 0 is the input's own, unless zeros are allowed."""
    wanted = [int(d) for d in shape]
    if not allow_zero:
        wanted = [x.shape[i] if d == 0 else d for i, d in enumerate(wanted)]
    return x.reshape(wanted)


def _sliced(x: Array, parameters: Sequence[Array | None]) -> Array:
    """ONNX's Slice: starts, ends, axes, steps; out of range bounds are cut, as Python's slices do."""
    starts, ends, axes, steps = [*parameters, None, None][:4]
    assert starts is not None and ends is not None
    cut = [slice(None)] * x.ndim
    for index, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        axis = index if axes is None else int(axes[index])
        step = 1 if steps is None else int(steps[index])
        cut[axis] = slice(start, end, step)
    return x[tuple(cut)]
