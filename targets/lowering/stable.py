"""What makes TVM give the same bytes in every process. Imports TVM: load it late.

TVM lets the addresses of its objects decide three things: the order of a kernel's free dimensions, the
order of stores in functions that compute shapes, and the names of LLVM's alias classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import tvm.relax.utils
from tvm import tirx


class OrderedSet(dict[Any, None]):
    """The part of a set that `tvm.relax.utils` uses, in the order in which elements came."""

    def add(self, item: Any) -> None:
        """Take in one element."""
        self[item] = None

    def update(self, items: Iterable[Any]) -> None:  # type: ignore[override]
        """Take in elements."""
        for item in items:
            self.add(item)

    def __sub__(self, other: OrderedSet) -> list[Any]:
        return [item for item in self if item not in other]


def order_free_dimensions() -> None:
    """Let TVM list the free dimensions of a kernel in the order of their use; it has a set of addresses.

    The module's own name `set` is shadowed, as its function cannot be replaced; call this before importing
    a model.
    """
    vars(tvm.relax.utils)["set"] = OrderedSet


def order_shape_functions() -> Any:
    """A pass that sorts the stores of each shape function: each computes one dimension from given ones."""

    def visit(func: Any, _module: Any, _context: Any) -> Any:
        if not str(func.attrs.get("global_symbol", "") if func.attrs else "").startswith("shape_func"):
            return func
        body = func.body
        if isinstance(body, tirx.SeqStmt) and all(isinstance(s, tirx.BufferStore) for s in body):
            ordered = sorted(body, key=lambda s: int(s.indices[0]))
            return func.with_body(tirx.SeqStmt(ordered))
        return func

    return tirx.transform.prim_func_pass(visit, opt_level=0, name="OrderShapeFunctions")


_ADDRESS = re.compile(r'(?<=!")0x[0-9a-f]+(?=[".])')


def stable_ir(text: str) -> str:
    """LLVM IR with the addresses that TVM uses as names of alias classes numbered instead."""
    numbers: dict[str, str] = {}
    return _ADDRESS.sub(lambda m: numbers.setdefault(m[0], f"alias{len(numbers)}"), text)
