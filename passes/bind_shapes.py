"""Bind the free dimensions of a model's inputs to numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_graphsurgeon as gs

from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.base import Context, Contract, Exact


@dataclass(frozen=True)
class BindShapes:
    """Give inputs fixed shapes: `bind-shapes{shapes=["image=1,3,224,224"]}`.

    A symbol that is bound (such as `N`) is bound wherever it stands. Inferred shapes of inner values that
    hold symbols are dropped; canonicalize infers them again.
    """

    name: ClassVar[str] = "bind-shapes"
    contract: ClassVar[Contract] = Exact()

    shapes: tuple[str, ...]

    def __post_init__(self) -> None:
        for text in self.shapes:
            parse_shape(text)

    def run(self, model: Model, context: Context) -> bool:
        """Bind the shapes; `InputError` where an input is unknown or a fixed dimension differs."""
        inputs = {t.name: t for t in model.view.inputs}
        bound: dict[str, int] = {}
        changed = False
        for text in self.shapes:
            name, shape = parse_shape(text)
            if name not in inputs:
                raise InputError(
                    f"--shape {text}: the model has no input '{name}'; it has {', '.join(inputs)}"
                )
            changed |= _bind(inputs[name], shape, bound, text)
        if changed:
            _bind_symbols(model.graph, bound)
        return changed


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """`"image=1,3,8,8"` as ("image", (1, 3, 8, 8)); `InputError` where it is not of that form."""
    name, _, dims = text.rpartition("=")
    try:
        shape = tuple(int(d) for d in dims.split(",")) if dims else ()
    except ValueError:
        shape = (-1,)
    if not name or any(d < 0 for d in shape):
        raise InputError(f"shape '{text}' is not of the form INPUT=1,3,224,224")
    return name, shape


def _bind(tensor: gs.Variable, shape: tuple[int, ...], bound: dict[str, int], text: str) -> bool:
    old = tensor.shape
    if old is not None and len(old) != len(shape):
        raise InputError(f"--shape {text}: input '{tensor.name}' has {len(old)} dimensions, not {len(shape)}")
    for before, after in zip(old or (), shape, strict=False):
        if isinstance(before, int) and before != after:
            raise InputError(
                f"--shape {text}: input '{tensor.name}' is {list(old)}, {before} cannot become {after}"
            )
        if isinstance(before, str) and bound.setdefault(before, after) != after:
            raise InputError(f"--shape {text}: '{before}' is both {bound[before]} and {after}")
    tensor.shape = list(shape)
    return old is None or list(old) != list(shape)


def _bind_symbols(graph: gs.Graph, bound: dict[str, int]) -> None:
    ends = {id(t) for t in (*graph.inputs, *graph.outputs)}
    for tensor in graph.tensors().values():
        if not isinstance(tensor, gs.Variable) or tensor.shape is None:
            continue
        shape = [bound.get(d, d) if isinstance(d, str) else d for d in tensor.shape]
        inner = id(tensor) not in ends
        tensor.shape = None if inner and any(not isinstance(d, int) for d in shape) else shape
