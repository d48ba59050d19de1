"""A model run piece by piece: what comes before a layer is computed once, and the layer may change
meanwhile, or what it makes be tried out on the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.models.model import Model
from optc.models.session import Arrays, Session
from optc.passes.canonicalize.edit import all_graphs

Array = NDArray[Any]


class Walk:
    """Runs `model` from its inputs to its outputs over several samples, in steps.

    Memory holds, for every sample, the values that nodes to come still read. A node's constants are
    read when the walk passes it, and what is computed from constants alone (a weight from its codes) is
    computed then: changes made before take effect.
    """

    def __init__(self, model: Model, feeds: Sequence[Arrays]) -> None:
        self._model = model
        self._fixed = _fixed(model.view.nodes)
        self._nodes = [n for n in model.view.nodes if id(n) not in self._fixed]
        self._places = {id(node): place for place, node in enumerate(self._nodes)}
        self._last = _last_reads(self._nodes)
        for tensor in model.view.outputs:
            self._last[tensor.name] = len(self._nodes)
        inputs = {t.name for t in model.view.inputs}
        self._live = [{n: v for n, v in f.items() if n in inputs} for f in feeds]
        self._at = 0

    def before(self, node: gs.Node) -> None:
        """Run everything before `node`."""
        self._advance(self._places[id(node)], ())

    def after(self, node: gs.Node) -> list[Array]:
        """Run up to `node` and the node itself; its first output, for each sample."""
        name = node.outputs[0].name
        self._advance(self._places[id(node)] + 1, (name,))
        found = [values[name] for values in self._live]
        self._forget()
        return found

    def read(self, name: str) -> list[Array]:
        """A value that is still to be read, for each sample."""
        return [values[name] for values in self._live]

    def fork(self, node: gs.Node, like: Array) -> Fork:
        """Run everything before `node`, and give what its first output reaches, to be run by itself.

        `like`: a value of that output, for its dtype and rank. The walk stays before `node`.
        """
        self.before(node)
        later = self._nodes[self._at + 1 :]
        value = node.outputs[0].name
        reached = _reached(value, later)
        outputs = [t.name for t in self._model.view.outputs if t.name in reached]
        made = [name for name in outputs if name != value]
        if not made:
            return Fork(value, outputs, None, [{} for _ in self._live])
        nodes = _makers(made, later)
        read = sorted(set(_reads(nodes)) & set(self._live[0]) - {value})
        inputs = [*(_like(name, self._live[0][name]) for name in read), _like(value, like)]
        session = Session(self._model.piece(self._with_fixed(nodes), inputs, made), optimize=True)
        return Fork(value, outputs, session, [{n: values[n] for n in read} for values in self._live])

    def _advance(self, to: int, extra: Sequence[str]) -> None:
        if to <= self._at:
            return
        nodes = self._nodes[self._at : to]
        made = [t.name for n in nodes for t in n.outputs if not t.is_empty()]
        outputs = [n for n in made if self._last.get(n, -1) >= to or n in extra]
        read = set(_reads(nodes)) & set(self._live[0])
        if outputs:
            inputs = [_like(name, self._live[0][name]) for name in sorted(read)]
            session = Session(self._model.piece(self._with_fixed(nodes), inputs, outputs), optimize=True)
            for values in self._live:
                values |= session.run({name: values[name] for name in read})
        self._at = to
        if not extra:
            self._forget()

    def _with_fixed(self, nodes: Sequence[gs.Node]) -> list[gs.Node]:
        """`nodes`, and before them the nodes without inputs of the model that they read, in graph order."""
        needed: dict[int, gs.Node] = {}
        waiting = list(nodes)
        while waiting:
            for tensor in waiting.pop().inputs:
                for maker in tensor.inputs:
                    if id(maker) in self._fixed and id(maker) not in needed:
                        needed[id(maker)] = maker
                        waiting.append(maker)
        return sorted(needed.values(), key=lambda n: self._fixed[id(n)]) + list(nodes)

    def _forget(self) -> None:
        """Drop what no node to come reads."""
        for values in self._live:
            for name in [n for n in values if self._last.get(n, -1) < self._at]:
                del values[name]


class Fork:
    """The outputs of a model as a function of one value on the way; all other values are kept.

    `outputs`: the names of those that depend on the value.
    """

    def __init__(
        self, value: str, outputs: list[str], session: Session | None, kept: Sequence[Arrays]
    ) -> None:
        self.outputs = outputs
        self._value, self._session, self._kept = value, session, kept

    def run(self, values: Sequence[Array]) -> list[Arrays]:
        """The outputs for each sample, with these values in place of the kept one."""
        found = []
        for kept, value in zip(self._kept, values, strict=True):
            made = self._session.run({**kept, self._value: value}) if self._session else {}
            made[self._value] = value
            found.append({name: made[name] for name in self.outputs})
        return found


def _reached(value: str, nodes: Sequence[gs.Node]) -> set[str]:
    """The values that `nodes`, in order, compute from `value`, itself among them."""
    found = {value}
    for node in nodes:
        if any(name in found for name in _reads([node])):
            found.update(t.name for t in node.outputs if not t.is_empty())
    return found


def _makers(names: Sequence[str], nodes: Sequence[gs.Node]) -> list[gs.Node]:
    """Those of `nodes`, in order, that it takes to compute the named values."""
    wanted = set(names)
    found = []
    for node in reversed(nodes):
        if any(t.name in wanted for t in node.outputs):
            found.append(node)
            wanted.update(_reads([node]))
    return found[::-1]


def _fixed(nodes: Sequence[gs.Node]) -> dict[int, int]:
    """The nodes that compute from constants alone, by id(), with their places."""
    found: dict[int, int] = {}
    for place, node in enumerate(nodes):
        bodies = any(isinstance(value, gs.Graph) for value in node.attrs.values())
        if bodies or not node.inputs:
            continue
        if all(_is_fixed(t, found) for t in node.inputs):
            found[id(node)] = place
    return found


def _is_fixed(tensor: gs.Tensor, nodes: dict[int, int]) -> bool:
    return isinstance(tensor, gs.Constant) or tensor.is_empty() or any(id(m) in nodes for m in tensor.inputs)


def _like(name: str, values: Array) -> gs.Variable:
    return gs.Variable(name, values.dtype, [None] * values.ndim)


def _reads(nodes: Sequence[gs.Node]) -> Iterator[str]:
    """The names that `nodes` read, in their subgraphs too."""
    for node in nodes:
        yield from (t.name for t in node.inputs)
        for value in node.attrs.values():
            if isinstance(value, gs.Graph):
                for graph in all_graphs(value):
                    yield from (t.name for n in graph.nodes for t in n.inputs)
                    yield from (t.name for t in graph.outputs)


def _last_reads(nodes: Sequence[gs.Node]) -> dict[str, int]:
    """The place of the last node that reads each value."""
    return {name: place for place, node in enumerate(nodes) for name in _reads([node])}


def stacked(arrays: Sequence[Array]) -> Array:
    """The samples of a value, one after another along the first axis."""
    return np.concatenate([a if a.ndim else a.reshape(1) for a in arrays])
