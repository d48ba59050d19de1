"""Elements as words and frames of elements, in Amaranth's own simulator."""

from __future__ import annotations

import random
from typing import Any

import pytest

pytest.importorskip("amaranth", reason="needs pip install 'optc[fpga]'")

from amaranth import Elaboratable, Module, Signal
from streams import PAUSES, pauses, receiver, sender, simulate

from optc.targets.fpga.rtl.frames import Walk, fill_frame
from optc.targets.fpga.rtl.layouts import instruction_layout
from optc.targets.fpga.rtl.pack import Pack
from optc.targets.vta.config import Config
from optc.targets.vta.isa import Opcode

Words = list[tuple[int, int]]


def wanted_words(rows: list[list[int]], phases: list[int]) -> Words:
    """(bytes that count, which) of rows of half words, each row from `phase` of its first word on."""
    found = []
    for row, phase in zip(rows, phases, strict=True):
        places: list[int | None] = [None] * phase + list(row)
        places += [None] * (len(places) % 2)
        for low, high in zip(places[::2], places[1::2], strict=True):
            strobe = (low is not None) * 0x0F | (high is not None) * 0xF0
            found.append(((low or 0) | (high or 0) << 32, strobe))
    return found


def counted(piece: Any) -> tuple[int, int]:
    """The bytes that a word writes, and which they are."""
    mask = sum(255 << 8 * byte for byte in range(8) if piece.strobe >> byte & 1)
    return piece.data & mask, piece.strobe


@pytest.mark.parametrize("seed", PAUSES)
def test_half_words_are_joined_within_a_row(seed: int | None) -> None:
    noise, pack, found = random.Random(7), Pack(-1), list[Any]()
    rows = [[noise.randrange(2**32) for _ in range(noise.randrange(1, 6))] for _ in range(60)]
    phases = [noise.randrange(2) for _ in rows]

    # As in the store module: a row begins in the cycle in which the one before ends.
    m, starts, ends = Module(), Signal(), Signal()
    m.submodules.pack = pack
    m.d.comb += pack.begin.eq(starts | (ends & pack.elements.valid & pack.elements.ready))

    async def elements(ctx: Any) -> None:
        ctx.set(starts, 1)
        for number, row in enumerate(rows):
            ctx.set(pack.count, len(row))
            ctx.set(pack.phase, phases[number])
            if number == 0:
                await ctx.tick()
                ctx.set(starts, 0)
            else:
                await sender(pack.elements, rows[number - 1][-1:], pauses(seed))(ctx)
            ctx.set(ends, 0)
            await sender(pack.elements, row[:-1], pauses(seed))(ctx)
            ctx.set(ends, 1)
        await sender(pack.elements, rows[-1][-1:])(ctx)

    wanted = wanted_words(rows, phases)
    simulate(m, elements, receiver(pack.words, len(wanted), found, pauses(seed, 1)))
    assert [counted(piece) for piece in found] == wanted


@pytest.mark.parametrize("log", [0, 1, 3])
@pytest.mark.parametrize("seed", PAUSES)
def test_elements_are_split_into_words(log: int, seed: int | None) -> None:
    noise, pack, found = random.Random(8), Pack(log), list[Any]()
    values = [noise.randrange(2 ** (64 << log)) for _ in range(40)]
    wanted = [(value >> 64 * n & (2**64 - 1), 255) for value in values for n in range(1 << log)]
    simulate(
        pack,
        sender(pack.elements, values, pauses(seed)),
        receiver(pack.words, len(wanted), found, pauses(seed, 1)),
    )
    assert [counted(piece) for piece in found] == wanted


Place = tuple[int, bool, bool, int, bool]


def wanted_places(f: dict[str, int]) -> list[Place]:
    """(place on the chip, padding, ends a row, half of its word, last) of a frame's elements."""
    height = f["y_pad_0"] + f["y_size"] + f["y_pad_1"]
    width = f["x_pad_0"] + f["x_size"] + f["x_pad_1"]
    found: list[Place] = []
    for n in range(height * width if f["x_size"] and f["y_size"] else 0):
        y, x = n // width - f["y_pad_0"], n % width - f["x_pad_0"]
        pad = not (0 <= y < f["y_size"] and 0 <= x < f["x_size"])
        half = 0 if pad else (f["phase"] + y * f["stride"] + x) % 2
        ends = not pad and x == f["x_size"] - 1
        found.append((f["sram"] + n, pad, ends, half, n == height * width - 1))
    return found


class Framed(Elaboratable):
    """A walk over the frame of a LOAD instruction."""

    def __init__(self) -> None:
        self.insn = Signal(instruction_layout(Opcode.LOAD, Config()))
        self.walk = Walk()

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.walk = self.walk
        m.d.comb += fill_frame(self.walk.frame, self.insn)
        return m


def test_a_frame_is_walked_element_by_element() -> None:
    noise, framed = random.Random(9), Framed()
    walk = framed.walk
    frames = []
    for _ in range(40):
        frame = {n: noise.choice([0, 0, 1, 2, 15]) for n in ("y_pad_0", "y_pad_1", "x_pad_0", "x_pad_1")}
        frame |= {"y_size": noise.randrange(5), "x_size": noise.randrange(6), "sram": noise.randrange(2**16)}
        frames.append(frame | {"phase": noise.randrange(2), "stride": noise.randrange(2)})

    async def bench(ctx: Any) -> None:
        for frame in frames:
            names = [n for n in frame if n not in ("phase", "stride")]
            load = {n: frame[n] for n in names} | {"dram": frame["phase"], "x_stride": frame["stride"]}
            ctx.set(framed.insn, load)
            ctx.set(walk.start, 1)
            await ctx.tick()
            ctx.set(walk.start, 0)
            found: list[Place] = []
            while ctx.get(walk.busy):
                ctx.set(walk.step, noise.randrange(2))
                pad = bool(ctx.get(walk.pad))
                ends, half = bool(ctx.get(walk.row_end)) and not pad, 0 if pad else ctx.get(walk.phase)
                if ctx.get(walk.step):
                    found.append((ctx.get(walk.sram), pad, ends, half, bool(ctx.get(walk.last))))
                await ctx.tick()
            ctx.set(walk.step, 0)
            assert found == wanted_places(frame)

    simulate(framed, bench)
