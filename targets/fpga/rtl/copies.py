"""Registers that hold the same, for signals that go to many places."""

from amaranth import Module, Signal, ValueLike

from optc.targets.fpga.design import COPY


def copies(m: Module, name: str, value: ValueLike, count: int) -> list[Signal]:
    """`count` registers that take the bit `value` each cycle; none is reset."""
    made = [Signal(name=f"{name}_{n}", reset_less=True, attrs={COPY: 1}) for n in range(count)]
    m.d.sync += [register.eq(value) for register in made]
    return made
