"""The serial line, in Amaranth's own simulator."""

from __future__ import annotations

import random
from typing import Any

import pytest

pytest.importorskip("amaranth", reason="needs pip install 'optc[fpga]'")

from amaranth import Module
from streams import sender, simulate

from optc.targets.fpga.rtl.uart import Receiver, Transmitter


@pytest.mark.parametrize("divisor", [8, 9, 17, 25])
def test_bytes_pass_the_serial_line(divisor: int) -> None:
    m = Module()
    m.submodules.transmitter = transmitter = Transmitter(divisor)
    m.submodules.receiver = ear = Receiver(divisor)
    m.d.comb += ear.rx.eq(transmitter.tx)
    values, found = [0, 255, 0x55, 0xAA, 1, 128, *random.Random(divisor).randbytes(30)], list[int]()

    async def watch(ctx: Any) -> None:
        async for _, _, valid, byte in ctx.tick().sample(ear.bytes.valid, ear.bytes.payload):
            if valid:
                found.append(byte)

    async def send(ctx: Any) -> None:
        await sender(transmitter.bytes, values, random.Random(1))(ctx)
        await ctx.tick().repeat(12 * divisor)

    simulate(m, send, watchers=[watch])
    assert found == values


@pytest.mark.parametrize("slip", [-0.03, 0.03])
def test_a_host_with_another_clock_is_understood(slip: float) -> None:
    """Over the ten bits of a byte, a clock that is 3% off slips by less than half a bit."""
    divisor, ear, found = 32, Receiver(32), list[int]()
    values = list(random.Random(3).randbytes(12))
    wave = [1] * 5
    for value in values:
        bits = [0, *(value >> n & 1 for n in range(8)), 1]
        wave += [bits[int(n / (divisor * (1 + slip)))] for n in range(int(10 * divisor * (1 + slip)))]

    async def bench(ctx: Any) -> None:
        for level in [*wave, *[1] * divisor]:
            ctx.set(ear.rx, level)
            (valid, byte) = (await ctx.tick().sample(ear.bytes.valid, ear.bytes.payload))[2:]
            if valid:
                found.append(byte)

    simulate(ear, bench)
    assert found == values


@pytest.mark.parametrize("cycles", [80, 90, 300])
def test_a_line_that_stays_low_sends_no_byte(cycles: int) -> None:
    ear = Receiver(8)

    async def bench(ctx: Any) -> None:
        for cycle in range(600):
            ctx.set(ear.rx, not 10 <= cycle < 10 + cycles)
            (valid,) = (await ctx.tick().sample(ear.bytes.valid))[2:]
            assert not valid

    simulate(ear, bench)
