"""Which operations become one region: connected, and never with a path that leaves and comes back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from drawn import quantized_networks
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qdq import Qdq

from optc.models.model import Model
from optc.passes.quantize.integer.ops import Dequantize, Layer, Op, Quantize, ToAccumulator
from optc.targets.lowering.graph import Graph, uses
from optc.targets.lowering.integer.plan import Integers
from optc.targets.lowering.offload import Offload, Region, Taken, offload

WEIGHT = np.ones((4, 4, 1, 1), np.int8)


class Taking:
    """Takes every operation but those of the host and the `left` ones, by their output's number.

    Of the `crossing` ones that have sums, these leave; of others, the host has to bring what they make.
    """

    def __init__(self, left: frozenset[int] = frozenset(), crossing: frozenset[int] = frozenset()) -> None:
        self.left, self.crossing = left, crossing

    def take(self, ops: Sequence[Op], shapes: Any, rounding: Any) -> Taken:
        self.shapes = shapes
        refused = {
            op.output: "not taken"
            for n, op in enumerate(ops)
            if isinstance(op, Quantize | Dequantize) or n in self.left
        }
        mine = [op for n, op in enumerate(ops) if n in self.crossing and op.output not in refused]
        whole = [op for op in mine if not isinstance(getattr(op, "ending", None), ToAccumulator)]
        sums = {op.output: "it is asked for" for op in whole if isinstance(op, Layer)}
        return Taken(refused, sums, frozenset(op.output for op in whole if op.output not in sums))

    def compile(self, region: Region) -> None:
        raise AssertionError


def offloaded(model: Model, to: Taking | None = None) -> tuple[Graph, Offload]:
    graph = Graph(model)
    return graph, offload(graph, [], Integers(graph, {}).plan(set()), to or Taking())


def layer(net: Qdq, value: str) -> str:
    return net.code(net.layer("Conv", value, WEIGHT, -2), 0)


def test_a_chain_is_one_region() -> None:
    net = Qdq()
    value = net.input((1, 4, 3, 3))
    for _ in range(3):
        value = layer(net, value)
    _, found = offloaded(net.model(value))
    (region,) = found.regions
    assert len(region.ops) == 3 and len(region.inputs) == len(region.outputs) == 1
    assert not region.batched


def test_branches_that_meet_are_one_region() -> None:
    net = Qdq()
    x = layer(net, net.input((1, 4, 3, 3)))
    value = net.code(net.node("Add", [layer(net, x), layer(net, x)]), 0)
    _, found = offloaded(net.model(value))
    assert [len(r.ops) for r in found.regions] == [4]


def test_a_path_that_leaves_and_comes_back_separates() -> None:
    """layer -> Erf on the host -> Add, which reads the layer, too: it cannot be in the layer's region."""
    net = Qdq()
    x = layer(net, net.input((1, 4, 3, 3)))
    outside = net.code(net.node("Erf", [x]), 0)
    value = net.code(net.node("Add", [x, outside]), 0)
    _, found = offloaded(net.model(value))
    assert [len(r.ops) for r in found.regions] == [1, 1]
    first, second = found.regions
    assert first.outputs[0] in second.inputs and len(second.inputs) == 2


def test_branches_beside_a_path_outside_stay_together() -> None:
    """The second layer does not wait for the Erf, so it goes with the first."""
    net = Qdq()
    x = layer(net, net.input((1, 4, 3, 3)))
    outside = net.code(net.node("Erf", [x]), 0)
    value = net.code(net.node("Add", [layer(net, x), outside]), 0)
    _, found = offloaded(net.model(value))
    assert [len(r.ops) for r in found.regions] == [2, 1]


def test_what_is_not_connected_is_apart() -> None:
    net = Qdq()
    x = net.input((1, 4, 3, 3))
    _, found = offloaded(net.model(layer(net, x), layer(net, x)))
    assert [len(r.ops) for r in found.regions] == [1, 1]
    assert len({r.name for r in found.regions}) == 2


def test_a_value_that_the_host_reads_is_an_output() -> None:
    net = Qdq()
    x = layer(net, net.input((1, 4, 3, 3)))
    graph, found = offloaded(net.model(layer(net, x), net.node("Erf", [x])))
    (region,) = found.regions
    assert set(region.outputs) == {op.output for op in region.ops}


def test_sums_that_the_host_ends_separate() -> None:
    """Of three layers the first gives its sums: the others are behind the host."""
    net = Qdq()
    value = net.input((1, 4, 3, 3))
    for _ in range(3):
        value = layer(net, value)
    _, found = offloaded(net.model(value), Taking(crossing=frozenset({1})))
    assert [len(r.ops) for r in found.regions] == [1, 2]
    assert [set(r.accumulators) for r in found.regions] == [set(found.regions[0].outputs), set()]
    assert found.ended == dict.fromkeys(found.regions[0].outputs, "it is asked for")


def test_what_the_host_has_to_bring_separates() -> None:
    net = Qdq()
    pooled = net.node("MaxPool", [layer(net, net.input((1, 4, 3, 3)))], kernel_shape=[1, 1])
    _, found = offloaded(net.model(layer(net, net.code(pooled, 0))), Taking(crossing=frozenset({2})))
    assert [len(r.ops) for r in found.regions] == [2, 1]
    assert not any(r.accumulators for r in found.regions)


def test_free_batch_dimensions() -> None:
    net = Qdq()
    taking = Taking()
    value = layer(net, net.input(("N", 4, 3, 3)))
    _, found = offloaded(net.model(value), taking)
    (region,) = found.regions
    assert region.batched
    assert taking.shapes[region.inputs[0]] == (1, 4, 3, 3)


def test_other_free_dimensions_have_no_shape() -> None:
    net = Qdq()
    taking = Taking()
    value = layer(net, net.input((1, 4, "H", 3)))
    _, found = offloaded(net.model(value), taking)
    assert not any(op.output in taking.shapes for r in found.regions for op in r.ops)


def test_moves_alone_are_no_region() -> None:
    net = Qdq()
    value = net.code(net.node("Flatten", [net.input((1, 4, 3, 3))]), 0)
    _, found = offloaded(net.model(value))
    assert not found.regions
    assert "nothing beside it is there to compute" in found.reasons.values()


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    model=quantized_networks(),
    left=st.frozensets(st.integers(0, 30), max_size=8),
    crossing=st.frozensets(st.integers(0, 30), max_size=8),
)
def test_regions_can_be_called_in_some_order(
    model: Model, left: frozenset[int], crossing: frozenset[int]
) -> None:
    """Whatever is refused: regions as wholes, operations and nodes of the host can be put in an order."""
    graph = Graph(model)
    plan = Integers(graph, {}).plan(set())
    accumulators = {n for r in plan.ops.values() for n in r.inputs if n not in graph.types}
    found = offload(graph, [], plan, Taking(left, crossing))
    assert not any(n in r.accumulators for r in found.regions for op in r.ops for n in op.inputs)
    inside = {op.output for r in found.regions for op in r.ops}
    assert sum(len(r.ops) for r in found.regions) == len(inside)
    items = [(set(r.inputs), set(r.outputs)) for r in found.regions]
    items += [(set(o.inputs), {o.output}) for o in plan.ops.values() if o.output not in inside]
    kept = (n for i, n in enumerate(graph.nodes) if i not in plan.replaced)
    items += [(set(uses(n)), set(n.output)) for n in kept]
    known = {*graph.inputs, *graph.constants}
    while items:
        ready = [i for i in items if i[0] - accumulators <= known]
        assert ready, "a cycle"
        known.update(n for _, made in ready for n in made)
        items = [i for i in items if i not in ready]
    assert known.issuperset(graph.outputs)
