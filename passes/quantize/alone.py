"""One layer by itself, on samples of its inputs: float, or under a setting."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.session import Session
from optc.passes.canonicalize.edit import detach
from optc.passes.quantize.scales import Code
from optc.passes.quantize.settings import Setting
from optc.passes.quantize.statistics import MinMax
from optc.passes.quantize.units import Unit

Array = NDArray[Any]


class Alone:
    """The head of `unit`: its inputs and its weight go into one session anew at each run.

    `inputs`: float, by name, each for every sample; their codes span what the samples hold. Raises
    `InputError` where that is not finite.
    """

    def __init__(self, model: Model, unit: Unit, inputs: Mapping[str, list[Array]]) -> None:
        self._unit, self._inputs = unit, inputs
        self._ranges = {name: _range(name, values) for name, values in inputs.items()}
        self._coded: dict[tuple[Code | None, ...], list[dict[str, Array]]] = {}
        self._session = _session(model, unit, {name: values[0].ndim for name, values in inputs.items()})

    def run(self, setting: Setting | None = None) -> list[Array]:
        """What the layer makes for each sample, under `setting` or in float."""
        codes = {n: setting.code(*limits) if setting else None for n, limits in self._ranges.items()}
        weight = {}
        if self._unit.weight is not None:
            code = codes[self._unit.operands[0].name]
            values = setting.weight(self._unit, code) if setting else self._unit.weight.values
            weight = {self._unit.weight.name: values}
        runs = self._rounded(codes)
        return [self._session.run({**feeds, **weight})[self._session.outputs[0]] for feeds in runs]

    def _rounded(self, codes: Mapping[str, Code | None]) -> list[dict[str, Array]]:
        """The inputs, sample by sample, as their codes say them; settings with the same codes share them."""
        key = tuple(codes.values())
        if key not in self._coded:
            columns = [[_as_coded(x, codes[name]) for x in self._inputs[name]] for name in codes]
            self._coded[key] = [dict(zip(codes, row, strict=True)) for row in zip(*columns, strict=True)]
        return self._coded[key]


def _session(model: Model, unit: Unit, ranks: Mapping[str, int]) -> Session:
    """The head of `unit` with its inputs (of these ranks) and its weight as inputs, and one output."""
    weight = {} if unit.weight is None else {unit.weight.name: unit.weight.values.ndim}
    given = {n: gs.Variable(n, np.float32, [None] * rank) for n, rank in {**ranks, **weight}.items()}
    head = unit.head
    inputs = [given.get(t.name, t) for t in head.inputs]
    result = head.outputs[0].name
    node = gs.Node(head.op, head.name, dict(head.attrs), inputs, [gs.Variable(result)])
    session = Session(model.piece([node], list(given.values()), [result]), optimize=True)
    detach(node)  # or the bias would have one reader more
    return session


def _as_coded(x: Array, code: Code | None) -> Array:
    return x if code is None else code.dequantize(code.quantize(x))


def _range(name: str, values: list[Array]) -> tuple[float, float]:
    seen = MinMax()
    for x in values:
        if x.size and not (math.isfinite(x.min()) and math.isfinite(x.max())):
            raise InputError(f"the calibration samples make '{name}' NaN or infinite")
        seen.add(x)
    return seen.range()
