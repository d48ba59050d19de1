"""The C++ of a netlist's memories: what holds them, and what they do at the clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from optc.targets.fpga.netsim.cells import Bit
from optc.targets.fpga.netsim.layout import WORD, Layout
from optc.targets.fpga.netsim.models import BlockRam, Pins, Port, Read, joined
from optc.targets.fpga.netsim.netlist import Netlist

Mark = Callable[[Iterable[Bit]], list[str]]
"""Statements that mark the clusters that read one of some nets."""


def declare_rams(netlist: Netlist) -> Iterator[str]:
    """A byte a bit of a block RAM, a byte a word of others. `stale`: written since it was last read."""
    for small in netlist.small_rams:
        values = ", ".join(str(small.init >> 4 * i & 15) for i in range(16))
        yield f"uint8_t {small.name}[16] = {{{values}}};"
    for number, ram in enumerate(netlist.block_rams):
        yield f"uint8_t m{number}[{len(ram.init)}] = {{}};"
        yield f"bool stale{number} = true;"
    for number in _numbers(ram.read_port for ram in netlist.block_rams).values():
        yield f"unsigned last{number} = 0;"


def init_rams(netlist: Netlist) -> Iterator[str]:
    """Fills block RAMs that begin with something."""
    for number, ram in enumerate(netlist.block_rams):
        if "1" in ram.init:
            words = [ram.init[i : i + 64] for i in range(0, len(ram.init), 64)]
            values = ", ".join(f"{int(word[::-1], 2):#x}u" for word in words)
            yield f"static const uint64_t i{number}[] = {{{values}}};"
            yield f"for (int i = 0; i < {len(ram.init)}; ++i) m{number}[i] = i{number}[i / 64] >> i % 64 & 1;"


def clock_rams(layout: Layout, read: Read, mark: Mark) -> Iterator[str]:
    """Block RAMs read into the words that the clock is to give, then memories are written."""
    rams = layout.netlist.block_rams
    writes = _numbers(ram.write_port for ram in rams)
    for (pins, address), number in writes.items():
        yield f"const bool write{number} = {_all(pins, read)};"
        yield f"const unsigned to{number} = write{number} ? {joined(address, read)} : 0;"
    for port, number in _numbers(ram.read_port for ram in rams).items():
        yield f"const bool read{number} = {_all(port[0], read)};"
        yield f"const unsigned from{number} = read{number} ? {joined(port[1], read)} : last{number};"
        yield f"const bool moved{number} = from{number} != last{number};"
        yield f"last{number} = from{number};"
    reads = _numbers(ram.read_port for ram in rams)
    for number, (ram, start) in enumerate(zip(rams, layout.outputs, strict=True)):
        place = (layout.words + start) * WORD
        yield from _read(ram, number, (reads[ram.read_port], writes[ram.write_port]), place, read)
        yield from _write(ram, number, writes[ram.write_port], read)
    for small in layout.netlist.small_rams:
        yield f"if ({read(small.enable)}) {{"
        yield f"    {small.name}[{joined(small.address, read)}] = {joined(small.data, read)};"
        yield from ("    " + line for line in mark([small.name]))
        yield "}"


def _numbers(ports: Iterable[Port]) -> dict[Port, int]:
    """A number for each port that differs."""
    found: dict[Port, int] = {}
    for port in ports:
        found.setdefault(port, len(found))
    return found


def _all(pins: Pins, read: Read) -> str:
    ones, zeros = pins
    terms = [read(bit) for bit in ones if bit != "1"] + [f"({read(bit)} ^ 1)" for bit in zeros if bit != "0"]
    return " & ".join(terms) or "1"


def _read(ram: BlockRam, number: int, ports: tuple[int, int], place: int, read: Read) -> Iterator[str]:
    """Only where something else than last time may come."""
    reads, writes = ports
    yield f"const bool fresh{number} = read{reads} & (moved{reads} | stale{number} | write{writes});"
    yield f"if (fresh{number}) {{"
    yield f"    std::memcpy(n + {place}, m{number} + from{reads} * {ram.width}, {ram.width});"
    yield f"    if (write{writes} && to{writes} == from{reads}) {{"
    for enable, first, count in _bytes(ram):
        yield f"        if ({read(enable)}) flip(n + {place + first}, {count});"
    yield "    }"
    yield f"    stale{number} = write{writes};"
    yield f"}} else stale{number} |= write{writes};"


def _write(ram: BlockRam, number: int, port: int, read: Read) -> Iterator[str]:
    yield f"if (write{port}) {{"
    yield f"    uint8_t* const m = m{number} + to{port} * {ram.width};"
    for enable, first, count in _bytes(ram):
        values = " ".join(f"m[{i}] = {read(ram.data[i])};" for i in range(first, first + count))
        yield f"    if ({read(enable)}) {{ {values} }}"
    yield "}"


def _bytes(ram: BlockRam) -> list[tuple[Bit, int, int]]:
    """What enables each byte of a word, its first bit, and how many it has."""
    if not ram.enables:
        return [("1", 0, ram.width)]
    return [(enable, 9 * i, 9) for i, enable in enumerate(ram.enables)]
