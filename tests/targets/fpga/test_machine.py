"""What a board adds to the core, in Amaranth's simulator: memory, and the requests of the host."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest

pytest.importorskip("amaranth", reason="needs pip install 'optc[fpga]'")

from amaranth import Module, Signal
from streams import receiver, sender, simulate

from optc.targets.fpga.rtl.host import Host
from optc.targets.fpga.rtl.ram import BANK, Ram

FIRST, BANKS = 512, 2
WORDS = BANKS * BANK
INIT = [random.Random(2).randrange(2**64) for _ in range(WORDS)]


def read_bursts(seed: int | None) -> tuple[list[dict[str, int]], list[tuple[int, int]]]:
    """Bursts all over the memory, and the words that they bring with whether each is a burst's last."""
    noise = random.Random(seed)
    bursts, words = [], []
    for start in (0, BANK - 3, *(noise.randrange(WORDS - 16) for _ in range(20)), WORDS - 9):
        more = 8 if start == WORDS - 9 else noise.choice([0, 1, 7, 15])
        bursts.append({"word": FIRST + start, "more": more})
        words += [(INIT[start + n], int(n == more)) for n in range(more + 1)]
    return bursts, words


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_memory_is_read_whoever_waits(seed: int | None) -> None:
    ram, found = Ram(FIRST, BANKS, INIT), list[Any]()
    bursts, wanted = read_bursts(seed)
    pauses = [seed and random.Random(seed + n) for n in range(2)]

    async def watch(ctx: Any) -> None:
        async for _, _, fault in ctx.tick().sample(ram.fault):
            assert not fault

    simulate(
        ram,
        sender(ram.reads, bursts, pauses[0]),
        receiver(ram.beats, len(wanted), found, pauses[1]),
        watchers=[watch],
    )
    assert [(beat.data, beat.last) for beat in found] == wanted


async def host_word(ctx: Any, ram: Ram, index: int) -> int:
    ctx.set(ram.host_index, index)
    await ctx.tick().repeat(6)
    return int(ctx.get(ram.host_value))


def test_memory_writes_the_bytes_that_are_asked_for() -> None:
    ram, noise, model = Ram(FIRST, BANKS, INIT), random.Random(6), list(INIT)
    bursts, words = [], []
    for _ in range(12):
        start, more = noise.randrange(WORDS - 8), noise.randrange(8)
        bursts.append({"word": FIRST + start, "more": more})
        for n in range(more + 1):
            data, strobe = noise.randrange(2**64), noise.randrange(256)
            words.append({"piece": {"data": data, "strobe": strobe}, "last": n == more})
            mask = sum(255 << 8 * byte for byte in range(8) if strobe >> byte & 1)
            model[start + n] = model[start + n] & ~mask | data & mask
    answers, done = [0], Signal()
    m = Module()
    m.submodules.ram = ram

    async def watch(ctx: Any) -> None:
        async for _, _, answer in ctx.tick().sample(ram.answer):
            answers[0] += answer

    async def write(ctx: Any) -> None:
        await sender(ram.words, words, noise)(ctx)
        await ctx.tick().repeat(3)
        ctx.set(done, 1)

    async def check(ctx: Any) -> None:
        await ctx.tick().until(done)
        for burst in bursts:
            for word in range(burst["word"], burst["word"] + burst["more"] + 1):
                assert await host_word(ctx, ram, word - FIRST) == model[word - FIRST]
        assert answers[0] == len(bursts)

    m.d.sync += Signal().eq(done)
    simulate(m, sender(ram.writes, bursts), write, check, watchers=[watch])


@pytest.mark.parametrize("word", [0, FIRST - 1, FIRST + WORDS, 2**29 - 1])
def test_words_beyond_the_memory_are_a_fault(word: int) -> None:
    for which in ("read", "write"):
        ram, faults = Ram(FIRST, BANKS, INIT), [0]

        async def watch(ctx: Any, ram: Ram = ram, faults: list[int] = faults) -> None:
            async for _, _, fault in ctx.tick().sample(ram.fault):
                faults[0] += fault

        async def bench(ctx: Any, ram: Ram = ram, which: str = which) -> None:
            burst = {"word": word, "more": 0}
            if which == "read":
                await sender(ram.reads, [burst])(ctx)
                await receiver(ram.beats, 1, [])(ctx)
            else:
                await sender(ram.writes, [burst])(ctx)
                await sender(ram.words, [{"piece": {"data": 1, "strobe": 255}, "last": 1}])(ctx)
                await ctx.tick().repeat(2)
                inside = (word - FIRST) % 2**29 % WORDS
                assert await host_word(ctx, ram, inside) == INIT[inside]

        simulate(ram, bench, watchers=[watch])
        assert faults[0] == 1, which


def request(which: str, first: int, second: int) -> list[int]:
    return list(which.encode() + struct.pack("<II", first, second))


class HostAndRam:
    """A host with memory, and a core that ends as it is told."""

    def __init__(self) -> None:
        self.m = Module()
        self.m.submodules.ram = ram = Ram(FIRST, BANKS, INIT)
        self.m.submodules.host = self.host = host = Host(ram.index_bits, FIRST, bytes(range(8)))
        self.m.d.comb += [
            ram.host_index.eq(host.index),
            ram.host_strobe.eq(host.strobe),
            ram.host_data.eq(host.data),
            host.value.eq(ram.host_value),
        ]

    async def ask(self, ctx: Any, sent: list[int], answer: int, pauses: random.Random) -> bytes:
        """Send bytes as a serial line would, some cycles apart, and take `answer` bytes."""
        for byte in sent:
            await ctx.tick().repeat(4)
            ctx.set(self.host.received.payload, byte)
            ctx.set(self.host.received.valid, 1)
            await ctx.tick()
            ctx.set(self.host.received.valid, 0)
        found: list[int] = []
        await receiver(self.host.sent, answer, found, pauses)(ctx)
        return bytes(found)


def test_the_host_writes_and_reads_any_bytes() -> None:
    machine, noise = HostAndRam(), random.Random(8)
    model = bytearray(b"".join(word.to_bytes(8, "little") for word in INIT))

    async def bench(ctx: Any) -> None:
        assert await machine.ask(ctx, request("i", 0, 0), 8, noise) == bytes(range(8))
        await machine.ask(ctx, [ord("?"), *[0] * 8], 0, noise)  # what is no request is passed over
        for _ in range(12):
            at, size = noise.randrange(8 * WORDS - 40), noise.choice([0, 1, 3, 8, 21])
            data = noise.randbytes(size)
            model[at : at + size] = data
            await machine.ask(ctx, request("w", 8 * FIRST + at, size) + list(data), 0, noise)
            first, count = max(0, at - 3), size + 5
            found = await machine.ask(ctx, request("r", 8 * FIRST + first, count), count, noise)
            assert found == bytes(model[first : first + count])

    simulate(machine.m, bench)


def test_the_host_resets_launches_and_reports() -> None:
    machine = HostAndRam()
    host, seen = machine.host, list[tuple[int, ...]]()

    async def core(ctx: Any) -> None:
        sampled = ctx.tick().sample(host.reset, host.launch, host.address, host.count)
        async for _, _, reset, launch, address, count in sampled:
            if reset:
                seen.append((1,))
                ctx.set(host.finished, 0)
            if launch:
                seen.append((address, count))
                ctx.set(host.error, 0b110110)
                ctx.set(host.cycles, 0x12345678)
                ctx.set(host.finished, 1)

    async def bench(ctx: Any) -> None:
        for _ in range(2):
            seen.clear()
            found = await machine.ask(ctx, request("x", 0x4560, 77), 5, random.Random(1))
            assert found == bytes([0b110110, 0x78, 0x56, 0x34, 0x12])
            assert seen == [(1,), (0x4560, 77), (1,)]

    simulate(machine.m, bench, watchers=[core])
