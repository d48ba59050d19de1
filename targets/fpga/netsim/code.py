"""The C++ of a netlist: a class with its ports, used as what Verilator makes is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from optc.targets.fpga.netsim.cells import CONSTANTS, Bit
from optc.targets.fpga.netsim.layout import WORD, Layout, driven
from optc.targets.fpga.netsim.models import Logic, Register, local
from optc.targets.fpga.netsim.rams import clock_rams, declare_rams, init_rams

_CLASS = """\
// Generated from a netlist: a byte a net, 0 or 1. `eval` follows the inputs, and the clock where it rises.
#pragma once
#include <cstdint>
#include <cstring>

namespace {{  // What two loaded libraries name alike would be one

class {name} {{
public:
{ports}
    {name}() {{
{init}
    }}

    void eval() {{
{inputs}
        settle();
{rise}
{outputs}
    }}

private:
    alignas(64) uint8_t n[{size}] = {{}};
    uint64_t dirty[{count}];  // a bit a cluster of logic
{rams}
    template <int word>
    bool changes(uint64_t next) {{
        uint64_t now;
        std::memcpy(&now, n + 8 * word, 8);
        if (now == next) return false;
        std::memcpy(n + 8 * word, &next, 8);
        return true;
    }}

    uint64_t next(int word) const {{
        uint64_t found;
        std::memcpy(&found, n + 8 * ({words} + word), 8);
        return found;
    }}

    static void flip(uint8_t* bits, int count) {{
        for (int i = 0; i < count; ++i) bits[i] ^= 1;
    }}

    // Clusters only change what later ones read.
    void settle() {{
        using Cluster = void (*)({name}&);
        static constexpr Cluster clusters[] = {{{table}}};
        for (int word = 0; word < {count}; ++word)
            while (dirty[word]) {{
                const int bit = __builtin_ctzll(dirty[word]);
                dirty[word] &= dirty[word] - 1;
                clusters[64 * word + bit](*this);
            }}
    }}

    void clock() {{
{edge}
    }}

{clusters}
}};

}}  // namespace
"""
Control = Callable[[Bit], str]
"""The operand that is an enable or a reset as before the clock."""


def generate(layout: Layout, name: str) -> str:
    """The header with the class `name`; `RuntimeError` where a port has more than 64 bits."""
    netlist = layout.netlist
    wide = [port for port, (_, bits) in netlist.ports.items() if len(bits) > 64]
    if wide:
        raise RuntimeError(f"port {wide[0]} has more than 64 bits")
    clock = [port for port, (_, bits) in netlist.ports.items() if netlist.clock in bits]
    rise = f"if ({clock[0]} && !was) clock(), settle();\nwas = {clock[0]};" if clock else ""
    count = len(layout.clusters)
    return _CLASS.format(
        name=name,
        ports="".join(f"    uint64_t {port} = 0;\n" for port in netlist.ports),
        init=_indented(_init(layout), 2),
        inputs=_indented(_inputs(layout), 2),
        rise=_indented(rise.split("\n"), 2),
        outputs=_indented(_outputs(layout), 2),
        size=layout.size + WORD,
        words=layout.words,
        count=-(-count // 64),
        rams=_indented([*declare_rams(netlist), *(["uint64_t was = 0;"] if clock else [])], 1),
        table=", ".join(f"c{i}" for i in range(count)),
        edge=_indented(_clock(layout), 2),
        clusters="\n".join(_indented(_cluster(layout, name, i), 1) for i in range(count)),
    )


def _indented(lines: Iterable[str], depth: int) -> str:
    return "\n".join("    " * depth + line for line in lines)


def _init(layout: Layout) -> Iterator[str]:
    """Everything is to be evaluated at first."""
    count = len(layout.clusters)
    for word in range(-(-count // 64)):
        yield f"dirty[{word}] = {(1 << min(64, count - 64 * word)) - 1:#x}u;"
    for _, group in layout.groups:
        for one in group:
            if one.value:
                yield f"n[{layout.slots[one.q]}] = 1;"
    for place in layout.copies.get("1", ()):
        yield f"n[{place}] = 1;"
    yield from init_rams(layout.netlist)


def _inputs(layout: Layout) -> Iterator[str]:
    netlist = layout.netlist
    for port, (is_input, bits) in netlist.ports.items():
        for i, bit in enumerate(bits):
            if is_input and bit != netlist.clock:
                place, value = layout.slots[bit], f"({port} >> {i} & 1)"
                marks = " ".join(_mark(layout, [bit]))
                yield f"if (n[{place}] != {value}) {{ n[{place}] ^= 1; {marks} }}"


def _outputs(layout: Layout) -> Iterator[str]:
    for port, (is_input, bits) in layout.netlist.ports.items():
        if not is_input:
            terms = [f"uint64_t({read(layout, bit)}) << {i}" for i, bit in enumerate(bits) if bit != "0"]
            yield f"{port} = {' | '.join(terms) or '0'};"


def read(layout: Layout, bit: Bit) -> str:
    """The operand that is a net or a constant."""
    return str(bit) if bit in CONSTANTS else f"n[{layout.slots[bit]}]"


def _mark(layout: Layout, bits: Iterable[Bit], when: str = "") -> list[str]:
    """Statements that mark the clusters that read one of `bits`; `when`: only where that is one, not zero."""
    mask = f" & -uint64_t({when})" if when else ""
    return [f"dirty[{word}] |= {marks:#x}u{mask};" for word, marks in layout.marks(bits).items()]


def _cluster(layout: Layout, name: str, number: int) -> Iterator[str]:
    """Evaluates a cluster into variables, then writes what others read, and marks them where it changed."""
    cluster = layout.clusters[number]
    own = set(driven(cluster))

    def operand(bit: Bit) -> str:
        return local(bit) if bit in own else read(layout, bit)

    yield f"static void c{number}({name}& v) {{"
    yield "    uint8_t* const n = v.n;"
    yield "    uint64_t* const dirty = v.dirty;"
    for one in cluster:
        yield from ("    " + line for line in one.code(operand))
    yield from ("    " + line for line in _writes(layout, cluster))
    yield "}"


def _writes(layout: Layout, cluster: Sequence[Logic]) -> Iterator[str]:
    by_readers: dict[tuple[int, ...], list[Bit]] = {}
    for bit in driven(cluster):
        if bit in layout.readers:
            by_readers.setdefault(tuple(sorted(layout.readers[bit])), []).append(bit)
    for i, bits in enumerate(by_readers.values()):
        terms = [f"(n[{layout.slots[bit]}] ^ {local(bit)})" for bit in bits]
        yield f"const unsigned d{i} = {' | '.join(terms)};"
    for bit in driven(cluster):
        if bit in layout.slots:
            for place in (layout.slots[bit], *layout.copies.get(bit, ())):
                yield f"n[{place}] = {local(bit)};"
    for i, bits in enumerate(by_readers.values()):
        yield from _mark(layout, bits, f"d{i}")


def _clock(layout: Layout) -> Iterator[str]:
    """First all that reads what the clock changes, then the changes."""
    controls = {bit for one in layout.netlist.registers for bit in (one.enable, one.reset)}
    sampled = {bit: f"s{i}" for i, bit in enumerate(sorted(controls & layout.state, key=str))}
    for bit, variable in sampled.items():
        yield f"const uint8_t {variable} = {read(layout, bit)};"

    def control(bit: Bit) -> str:
        return sampled.get(bit) or read(layout, bit)

    yield from clock_rams(layout, partial(read, layout), partial(_mark, layout))
    for start, group in layout.groups:
        yield from _group(layout, start, group, control)
    yield from _given(layout)


def _group(layout: Layout, start: int, group: Sequence[Register], control: Control) -> Iterator[str]:
    """Registers with the same enable and reset; the reset goes before."""
    enable, reset = control(group[0].enable), control(group[0].reset)
    condition = f"{enable} ^ {group[0].off}" if group[0].off else enable
    if enable != "1" and reset != "0":
        condition += f" | {reset}"
    yield f"if ({condition}) {{"
    for i in range(0, len(group), WORD):
        word, members = start + i // WORD, group[i : i + WORD]
        value = sum(one.value << 8 * k for k, one in enumerate(members))
        found = f"next({word})"
        if reset != "0":
            found = f"{reset} ? {value:#x}u : {found}"
        yield "    " + _update(layout, word, [one.q for one in members], found)
    yield "}"


def _given(layout: Layout) -> Iterator[str]:
    """What block RAMs give, where they were read."""
    for number, (start, ram) in enumerate(zip(layout.outputs, layout.netlist.block_rams, strict=True)):
        yield f"if (fresh{number}) {{"
        for i in range(0, ram.width, WORD):
            word, bits = start + i // WORD, ram.outputs[i : i + WORD]
            yield "    " + _update(layout, word, bits, f"next({word})")
        yield "}"


def _update(layout: Layout, word: int, bits: Iterable[Bit], value: str) -> str:
    marks = " ".join(_mark(layout, bits))
    return f"if (changes<{word}>({value})) {{ {marks} }}"
