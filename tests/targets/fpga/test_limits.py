"""As many tokens as a counter holds, and one more; queues that are full; all as the simulator has it."""

from __future__ import annotations

import pytest
from machines import MEMORY, SMALL, launch, needs_rtl

from optc.models.errors import InputError
from optc.targets.fpga.link import ERRORS
from optc.targets.vta.config import Memory
from optc.targets.vta.device import PAGE
from optc.targets.vta.isa import Alu, AluOp, Finish, Gemm, Instruction, Load, Store, encode
from optc.targets.vta.sim import Fsim

pytestmark = needs_rtl
LIMIT = 255
FAR = 0x8000
BUSY = 8
"""More instructions than a module takes from its queue, with their tokens, before it runs them."""


def nop(module: str, **flags: bool) -> Instruction:
    if module == "store":
        return Store(0, 0, 0, 0, 0, **flags)
    return Load(Memory.INP if module == "load" else Memory.UOP, 0, 0, 0, 0, 0, **flags)


def busy(module: str) -> list[Instruction]:
    """What keeps a module from its next tokens for some thousand cycles."""
    if module == "compute":
        one = Load(Memory.UOP, 0, FAR, 1, 1, 1)
        return [one, Gemm(True, 0, 1, 64, 100, 1, 0, 0, 0, 0, 0), *[nop("compute")] * BUSY]
    if module == "load":
        return [*[Load(Memory.INP, 0, FAR, 1, 34, 34, 0, 0, 15, 15)] * 100, *[nop("load")] * BUSY]
    fill = Alu(AluOp.ADD, True, 1, 0, 1, 64, 1, 1, 0, 1, 0, push_next=True)
    loads = [Load(Memory.UOP, 0, FAR, 1, 1, 1), Load(Memory.ACC, 0, FAR, 1, 64, 64)]
    return [*loads, fill, Store(0, FAR, 1, 64, 64, pop_prev=True), *[Store(0, FAR, 1, 64, 64)] * 100]


WAYS = {
    ("load", "compute"): ("push_next", "pop_prev"),
    ("compute", "load"): ("push_prev", "pop_next"),
    ("compute", "store"): ("push_next", "pop_prev"),
    ("store", "compute"): ("push_prev", "pop_next"),
}


def many_tokens(giver: str, taker: str, count: int) -> list[Instruction]:
    """`count` tokens that wait at once, since the taker is busy; then all are taken."""
    push, pop = WAYS[giver, taker]
    program = [
        *busy(taker),
        *[nop(giver, **{push: True})] * count,
        *[nop(taker, **{pop: True})] * count,
    ]
    if taker == "compute":
        return [*program, Finish()]
    push, pop = WAYS[taker, "compute"]
    return [*program, nop(taker, **{push: True}), Finish(**{pop: True})]


@pytest.mark.parametrize(("giver", "taker"), WAYS)
def test_a_counter_holds_its_limit_and_no_more(giver: str, taker: str) -> None:
    assert launch(many_tokens(giver, taker, LIMIT)) > LIMIT
    with pytest.raises(InputError) as error:
        launch(many_tokens(giver, taker, LIMIT + 1))
    assert str(error.value) == f"the core stopped: {ERRORS[2]}"


@pytest.mark.parametrize(("giver", "taker"), WAYS)
def test_the_simulator_accepts_the_same(giver: str, taker: str) -> None:
    """In an order that lets the giver run first, as the core does."""
    program = many_tokens(giver, taker, LIMIT)
    device = Fsim(SMALL, MEMORY)
    device.write(PAGE, encode(program, SMALL))
    device.run(PAGE, len(program))


@pytest.mark.parametrize("module", ["load", "compute", "store"])
def test_a_full_queue_only_stalls(module: str) -> None:
    """Far more instructions than a queue holds, behind others that take long."""
    program = [*busy(module), *[nop(module)] * 2000]
    if module == "compute":
        program += [nop("load", push_next=True), Finish(pop_prev=True)]
    else:
        push, pop = WAYS[module, "compute"]
        program += [nop(module, **{push: True}), Finish(**{pop: True})]
    assert launch(program) > 2000
