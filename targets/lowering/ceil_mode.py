"""Pools with `ceil_mode` whose output ONNX's shape inference overstates.

A last window that would begin in the padding at the end is left out (ONNX Runtime, and the definition);
inference counts it. Such a pool is written with the pads that give as many windows without `ceil_mode`, which
cover the same values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import onnx

from optc.passes.quantize.integer.ops import Window
from optc.passes.quantize.integer.windows import output_size, padding, reaches

Sizes = Callable[[str], tuple[int, ...] | None]
"""The spatial sizes of a value, None where they are not fixed."""


def restate(graph: onnx.GraphProto, sizes: Sizes) -> bool:
    """Rewrite the first pool whose output is not as large as `sizes` says; whether there was one."""
    for node in graph.node:
        if node.op_type not in ("MaxPool", "AveragePool") or node.domain not in ("", "ai.onnx"):
            continue
        given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        source, inferred = sizes(node.input[0]), sizes(node.output[0])
        if not given.get("ceil_mode") or source is None or inferred is None:
            continue
        window = _window(given)
        if output_size(window, source) != inferred:
            _write(node, window, source)
            del graph.value_info[:]
            for output in graph.output:
                output.type.tensor_type.ClearField("shape")
            return True
    return False


def _window(given: Mapping[str, Any]) -> Window:
    kernel = tuple(given["kernel_shape"])
    ones = (1,) * len(kernel)
    return Window(
        kernel,
        tuple(given.get("strides", ones)),
        tuple(given.get("dilations", ones)),
        tuple(given.get("pads", (0,) * 2 * len(kernel))),
        given.get("auto_pad", b"NOTSET").decode().replace("VALID", "NOTSET"),
        ceil_mode=True,
    )


def _write(node: onnx.NodeProto, window: Window, sizes: tuple[int, ...]) -> None:
    pads = padding(window, sizes)
    steps = zip(sizes, pads, output_size(window, sizes), window.strides, reaches(window), strict=True)
    after = [(count - 1) * s + reach - size - before for size, (before, _), count, s, reach in steps]
    kept = [a for a in node.attribute if a.name not in ("ceil_mode", "pads", "auto_pad")]
    del node.attribute[:]
    node.attribute.extend(kept)
    found = [*(before for before, _ in pads), *(max(a, 0) for a in after)]
    node.attribute.append(onnx.helper.make_attribute("pads", found))
