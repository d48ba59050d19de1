"""Tokens keep every dependency, and no more are pushed than popped."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from optc.targets.vta.channels import moves
from optc.targets.vta.compiler.tokens import assign
from optc.targets.vta.config import Config, Memory
from optc.targets.vta.isa import Finish, Instruction, Load, Module, Store
from optc.targets.vta.order import legal_order
from optc.targets.vta.rules.tokens import check_tokens
from optc.targets.vta.timing import PYNQ, simulate

NOPS = {
    Module.LOAD: Load(Memory.INP, 0, 0, 0, 0, 0),
    Module.COMPUTE: Load(Memory.UOP, 0, 0, 0, 0, 0),
    Module.STORE: Store(0, 0, 0, 0, 0),
}


@st.composite
def dependencies(draw: Any) -> tuple[list[Instruction], list[Module], list[tuple[int, int]]]:
    """NOPs of random modules with random edges between neighbouring ones, and a FINISH behind all."""
    modules = draw(st.lists(st.sampled_from(list(Module)), min_size=1, max_size=30))
    pairs = [
        (first, last)
        for last in range(len(modules))
        for first in range(last)
        if abs(modules[first] - modules[last]) == 1
    ]
    edges = draw(st.lists(st.sampled_from(pairs), max_size=40)) if pairs else []
    for module in (Module.LOAD, Module.STORE):
        ends = [i for i, m in enumerate(modules) if m == module]
        edges += [(ends[-1], len(modules))] if ends else []
    return [*(NOPS[m] for m in modules), Finish()], [*modules, Module.COMPUTE], edges


@settings(max_examples=300, deadline=None)
@given(drawn=dependencies(), seed=st.integers(0, 1000))
def test_every_order_keeps_every_edge(drawn: Any, seed: int) -> None:
    instructions, modules, edges = drawn
    found = assign(instructions, modules, edges)
    for order in (None, seed):
        place = {index: n for n, index in enumerate(legal_order(found, order))}
        assert all(place[first] < place[last] for first, last in edges)


@settings(max_examples=200, deadline=None)
@given(drawn=dependencies())
def test_the_checker_knows_every_edge(drawn: Any) -> None:
    """Whatever the modules' speed: `before` counts what must have ended."""
    instructions, modules, edges = drawn
    timeline = check_tokens(assign(instructions, modules, edges))
    for first, last in edges:
        assert timeline.before[last][modules[first]] >= timeline.place[first]


@settings(max_examples=100, deadline=None)
@given(drawn=dependencies())
def test_the_timing_model_keeps_every_edge(drawn: Any) -> None:
    instructions, modules, edges = drawn
    spans = simulate(assign(instructions, modules, edges), Config(), PYNQ).spans
    assert all(spans[first][1] <= spans[last][0] for first, last in edges)


@settings(max_examples=200, deadline=None)
@given(drawn=dependencies())
def test_tokens_balance(drawn: Any) -> None:
    found = [moves(i) for i in assign(*drawn)]
    assert not any(m.wrong for m in found)
    pushes = sorted(c for m in found for c in m.pushes)
    assert pushes == sorted(c for m in found for c in m.pops)
    assert len(pushes) <= len(set(drawn[2]))


def test_an_edge_that_another_one_implies_costs_no_token() -> None:
    modules = [Module.LOAD, Module.LOAD, Module.COMPUTE, Module.COMPUTE]
    found = assign([NOPS[m] for m in modules], modules, [(0, 2), (1, 2), (0, 3)])
    assert [len(moves(i).pushes) for i in found] == [0, 1, 0, 0]
    assert [len(moves(i).pops) for i in found] == [0, 0, 1, 0]
