"""What computes, in Amaranth's own simulator: the lanes of the ALU, the array of multipliers, the loops."""

from __future__ import annotations

import random
from itertools import product
from typing import Any

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="needs pip install 'optc[fpga]'")

from machines import SMALL
from streams import sender, simulate

from optc.targets.fpga.rtl.alu import Lane
from optc.targets.fpga.rtl.loops import Loops
from optc.targets.fpga.rtl.products import LATENCY, Products
from optc.targets.vta.isa import AluOp

LOW, HIGH = -(2**31), 2**31 - 1
EDGES = (LOW, LOW + 1, -(2**16), -1, 0, 1, 2**15, HIGH - 1, HIGH)


def wrapped(value: int) -> int:
    return (value - LOW) % 2**32 + LOW


def calculated(op: AluOp, x: int, y: int) -> int:
    """One lane, from the ISA's page."""
    if op == AluOp.SHR:
        return wrapped(x >> y if y >= 0 else x << -y)
    return {AluOp.MIN: min(x, y), AluOp.MAX: max(x, y), AluOp.ADD: wrapped(x + y)}[op]


def test_a_lane_calculates_as_the_page_says() -> None:
    lane, noise = Lane(), random.Random(1)
    cases = [(op, x, y) for op in (AluOp.MIN, AluOp.MAX, AluOp.ADD) for x, y in product(EDGES, EDGES)]
    cases += [(AluOp.SHR, x, y) for x in EDGES for y in range(-16, 16)]
    for _ in range(500):
        op, x = noise.choice((AluOp.MIN, AluOp.MAX, AluOp.ADD, AluOp.SHR)), noise.randint(LOW, HIGH)
        cases.append((op, x, noise.randint(-16, 15) if op == AluOp.SHR else noise.randint(LOW, HIGH)))

    async def bench(ctx: Any) -> None:
        for op, x, y in cases:
            ctx.set(lane.op, op.value)
            ctx.set(lane.x, x)
            ctx.set(lane.y, y)
            assert (ctx.get(lane.result), ctx.get(lane.refused)) == (calculated(op, x, y), 0), (op, x, y)

    simulate(lane, bench)


def test_a_lane_refuses_other_shifts_only() -> None:
    lane = Lane()

    async def bench(ctx: Any) -> None:
        for op in (AluOp.MIN, AluOp.MAX, AluOp.ADD, AluOp.SHR):
            ctx.set(lane.op, op.value)
            for y in (LOW, -(2**16) + 3, -17, 16, 31, 2**16, HIGH):
                ctx.set(lane.y, y)
                assert ctx.get(lane.refused) == (op == AluOp.SHR), (op, y)

    simulate(lane, bench)


@pytest.mark.parametrize(("batch", "block"), [(1, 4), (1, 8), (2, 8), (4, 4), (1, 16)])
def test_products_are_those_of_matrices(batch: int, block: int) -> None:
    products, random_ = Products(batch, block), np.random.default_rng(block)
    inputs = random_.integers(-128, 128, (20, batch, block))
    weights = random_.integers(-128, 128, (20, block, block))
    inputs[0], weights[0] = -128, -128  # the largest sums there are
    inputs[1], weights[1] = -128, 127
    wanted = np.einsum("nbk,nok->nbo", inputs, weights).reshape(20, -1).tolist()

    async def bench(ctx: Any) -> None:
        for step in range(20 + LATENCY):
            if step >= LATENCY:
                assert [ctx.get(s) for s in products.sums] == wanted[step - LATENCY]
            ctx.set(products.inp, inputs[min(step, 19)].reshape(-1).tolist())
            ctx.set(products.wgt, weights[min(step, 19)].reshape(-1).tolist())
            await ctx.tick()

    simulate(products, bench)


Nest = dict[str, int]
NAMES = ("dst", "src", "wgt")
WIDTHS = {"dst": 6, "src": 6, "wgt": 4}
"""Bits of the indices of `SMALL`."""


def steps_of(nest: Nest) -> list[tuple[int, ...]]:
    """(micro-op, what is added to its three indices, with a bit above them that says too far)."""
    found = []
    for i, j in product(range(nest["iter_out"]), range(nest["iter_in"])):
        added = []
        for name in NAMES:
            total, bits = i * nest[f"{name}_out"] + j * nest[f"{name}_in"], WIDTHS[name]
            added.append(total if total < 1 << bits else -1)
        found += [(uop, *added) for uop in range(nest["uop_begin"], nest["uop_end"])]
    return found


def random_nest(noise: random.Random) -> Nest:
    begin = noise.randrange(64)
    nest = {"uop_begin": begin, "uop_end": noise.randint(begin + 1, min(begin + 4, 64))}
    nest |= {"iter_out": noise.randint(1, 4), "iter_in": noise.randint(1, 4)}
    limit = noise.choice([2, 4, 16])
    return nest | {f"{n}_{loop}": noise.randrange(limit) for n in NAMES for loop in ("out", "in")}


def test_loops_give_a_step_a_cycle() -> None:
    loops, noise = Loops(SMALL), random.Random(4)
    nests = [random_nest(noise) for _ in range(80)]
    wanted = [step for nest in nests for step in steps_of(nest)]
    found: list[tuple[int, ...]] = []

    async def watch(ctx: Any) -> None:
        step = loops.step
        sampled = ctx.tick().sample(loops.valid, step.uop, step.dst, step.src, step.wgt)
        async for _, _, valid, uop, *added in sampled:
            if valid:
                limits = (1 << WIDTHS[name] for name in NAMES)
                found.append((uop, *(a if a < top else -1 for a, top in zip(added, limits, strict=True))))
            elif found and len(found) < len(wanted):
                raise AssertionError(f"a cycle without a step behind the step {len(found)}")

    async def bench(ctx: Any) -> None:
        await sender(loops.nests, nests)(ctx)
        await ctx.tick().repeat(100)

    simulate(loops, bench, watchers=[watch])
    assert found == wanted


@pytest.mark.parametrize(
    "change",
    [{"iter_out": 0}, {"iter_in": 0}, {"uop_end": 3}, {"uop_end": 2}, {"uop_begin": 63, "uop_end": 65}],
    ids=str,
)
def test_nests_that_are_empty_or_pass_the_memory_are_refused(change: Nest) -> None:
    loops = Loops(SMALL)
    good = {"uop_begin": 3, "uop_end": 5, "iter_out": 1, "iter_in": 1}

    async def bench(ctx: Any) -> None:
        for nest, bad in ((good, 0), (good | change, 1)):
            ctx.set(loops.nests.payload, nest)
            ctx.set(loops.nests.valid, 1)
            assert ctx.get(loops.refused) == bad
            await ctx.tick()
            ctx.set(loops.nests.valid, 0)
            await ctx.tick()
            assert ctx.get(loops.valid) == 1 - bad
            await ctx.tick().repeat(4)

    simulate(loops, bench)
