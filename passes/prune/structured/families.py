"""The channels of a model that can go, in families of like ones: an analysis, which changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import gcd

import numpy as np
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.ir.tensor import SparseValues

from optc.models.model import Model
from optc.passes.analysis.shapes import rank_of
from optc.passes.canonicalize.edit import all_graphs, has_subgraph, standard
from optc.passes.names import layer_name
from optc.passes.prune.structured.axes import Atoms, Axes, Place
from optc.passes.prune.structured.rule import Result, Rule
from optc.passes.prune.structured.rules import RULES

Decline = Callable[[gs.Node, str], None]


@dataclass(frozen=True)
class Slot:
    """An axis of a weight: its `atoms`; `out`: it holds the channels that the layer makes, else those it
    reads.
    """

    place: Place
    axis: int
    atoms: Atoms
    out: bool


@dataclass(frozen=True)
class Family:
    """Channels that hang on the same axes, each by as many indices, so that any of them may go.

    `components`: one number a channel (see `Axes.components`), in the order of the first layer that makes
    them; `makers`, `readers`: the weights' axes that hold them; `step`: how many may go at a time, so that
    every axis keeps a width of the wanted multiple.
    """

    components: Atoms
    makers: tuple[Slot, ...]
    readers: tuple[Slot, ...]
    step: int

    @property
    def name(self) -> str:
        """The name of the first layer that makes the channels."""
        return layer_name(self.makers[0].place.node)

    def widths(self) -> range:
        """How many channels may stay, besides all of them: multiples of `step`."""
        return range(self.step, self.components.size, self.step)


@dataclass(frozen=True)
class Channels:
    """What `find_channels` found.

    `layers`: the names of all layers with weights; `components`: of each atom; `slots`: the weights' axes.
    """

    layers: tuple[str, ...]

    axes: Axes
    components: Atoms
    slots: tuple[Slot, ...]
    families: tuple[Family, ...]


def find_channels(model: Model, align: int, decline: Decline) -> Channels:
    """The families of channels of `model` that can go, in graph order; widths stay multiples of `align`.

    `decline` is told of each layer whose channels must all stay, and why. Shapes must have been inferred.
    """
    axes = follow(model)
    components = axes.components()
    slots = tuple(_slots(model, axes))
    frozen = axes.frozen(components)
    counts = _counts(axes, components)
    families: dict[tuple[tuple[int, int], ...], list[int]] = {}
    for slot in slots:
        if not slot.out:
            continue
        free = [c for c in dict.fromkeys(components[slot.atoms].tolist()) if c not in frozen]
        if not free:
            reason = next((frozen[c] for c in components[slot.atoms].tolist()), "it has no channels")
            decline(slot.place.node, f"its channels stay: {reason}")
        for component in free:
            members = families.setdefault(tuple(sorted(counts[component].items())), [])
            if component not in members:
                members.append(component)
    found = [_family(key, members, slots, components, align) for key, members in families.items()]
    large = tuple(_large_enough(found, align, decline))
    return Channels(_layers(model), axes, components, slots, large)


def _layers(model: Model) -> tuple[str, ...]:
    nodes = (n for n in model.view.nodes if standard(n))
    weights = ((n, n.inputs[i]) for n in nodes for i, _, out in _weight_axes(n) if out)
    return tuple(dict.fromkeys(layer_name(n) for n, t in weights if isinstance(t, gs.Constant)))


def follow(model: Model, rules: Mapping[str, Callable[[Rule], Result]] = RULES) -> Axes:
    """Every operator's rule applied, in graph order; `rules` by operator."""
    axes = Axes()
    graph = model.view
    for tensor in graph.inputs:
        _stay(axes, tensor, "it is an input of the model")
    for node in graph.nodes:
        _apply(node, axes, rules)
    for place in _places(graph):
        if any(place.tensor is t for t in graph.outputs):
            _stay_place(axes, place, "it is an output of the model")
        elif place.tensor.name in model.overridable:
            _stay_place(axes, place, "it is also an input of the model, which a caller may override")
        elif isinstance(place.tensor, gs.Constant) and isinstance(place.tensor._values, SparseValues):
            _stay_place(axes, place, "it is stored sparse")
    for inner in list(all_graphs(graph))[1:]:
        for place in _places(inner):
            _stay(axes, place.tensor, "a subgraph reads it")
    return axes


def _apply(node: gs.Node, axes: Axes, rules: Mapping[str, Callable[[Rule], Result]]) -> None:
    rule = Rule(node, axes)
    if node.op not in rules or not standard(node) or has_subgraph(node):
        rule.stay_all(f"{node.op} cannot be followed")
        return
    if any(rank_of(place.tensor) is None for place in (*rule.inputs, *rule.outputs)):
        rule.stay_all(
            f"a shape at {layer_name(node)} is not known (run canonicalize first: it infers shapes)"
        )
        return
    reason = rules[node.op](rule)
    if reason:
        rule.stay_all(f"{node.op}: {reason}")


def _places(graph: gs.Graph) -> Iterator[Place]:
    for node in graph.nodes:
        yield from (Place(node, i) for i, t in enumerate(node.inputs) if not t.is_empty())
        yield from (Place(node, i, True) for i, t in enumerate(node.outputs) if not t.is_empty())


def _stay(axes: Axes, tensor: gs.Tensor, reason: str) -> None:
    """Freeze all axes of a variable."""
    if isinstance(tensor, gs.Constant):
        return
    place = next((Place(n, i) for n in tensor.outputs for i, t in enumerate(n.inputs) if t is tensor), None)
    if place is not None:
        _stay_place(axes, place, reason)


def _stay_place(axes: Axes, place: Place, reason: str) -> None:
    for axis in range(rank_of(place.tensor) or 0):
        axes.freeze(axes.atoms(place, axis), reason)


def _slots(model: Model, axes: Axes) -> Iterator[Slot]:
    """The axes of all weights: those that layers make channels along, and those that they read along."""
    for node in model.view.nodes:
        if not standard(node):
            continue
        for index, axis, out in _weight_axes(node):
            place = Place(node, index)
            if isinstance(place.tensor, gs.Constant) and (atoms := axes.known(place, axis)) is not None:
                yield Slot(place, axis, atoms, out)


def _weight_axes(node: gs.Node) -> Iterator[tuple[int, int, bool]]:
    """(input, axis, whether it makes channels) of a layer's weight."""
    grouped = node.attrs.get("group", 1) != 1
    if node.op == "Conv":
        yield from ([(1, 0, True)] if grouped else [(1, 0, True), (1, 1, False)])
    elif node.op == "ConvTranspose":
        yield from ([(1, 0, False)] if grouped else [(1, 1, True), (1, 0, False)])
    elif node.op in ("Gemm", "MatMul"):
        for index in (0, 1):
            rank = rank_of(node.inputs[index]) or 0
            flipped = bool(node.attrs.get("transB" if index else "transA", 0)) != (index == 0)
            if rank >= 2:
                out = rank - 2 if flipped else rank - 1
                yield index, out, True
                yield index, 2 * rank - 3 - out, False
    elif node.op == "Gather" and rank_of(node.inputs[0]):
        rank = rank_of(node.inputs[0]) or 0
        at = int(node.attrs.get("axis", 0)) % rank
        yield from ((0, axis, True) for axis in range(rank) if axis != at)


def _counts(axes: Axes, components: Atoms) -> dict[int, dict[int, int]]:
    """For each component, by how many indices it hangs on which axis (named by its first atom)."""
    found: dict[int, dict[int, int]] = {}
    for first, size in axes.ranges():
        for component, count in zip(
            *np.unique(components[first : first + size], return_counts=True), strict=True
        ):
            found.setdefault(int(component), {})[first] = int(count)
    return found


def _family(
    key: tuple[tuple[int, int], ...],
    members: list[int],
    slots: tuple[Slot, ...],
    components: Atoms,
    align: int,
) -> Family:
    chosen = np.asarray(members, np.int64)
    on = [slot for slot in slots if np.isin(components[slot.atoms], chosen).any()]
    # Only widths of weights fill the lanes of the hardware; how many heads there are does not matter to it.
    counts = dict(key)
    step = max(align // gcd(counts[int(slot.atoms[0])], align) for slot in on)
    return Family(chosen, tuple(s for s in on if s.out), tuple(s for s in on if not s.out), step)


def _large_enough(families: list[Family], align: int, decline: Decline) -> Iterator[Family]:
    for family in families:
        if len(family.widths()):
            yield family
        else:
            reason = (
                f"it has {family.components.size} channels, which go {family.step} at a time (align {align})"
            )
            decline(family.makers[0].place.node, reason)
