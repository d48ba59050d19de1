"""Models of an ECP5's cells, of what optc's netlists use: our own, after Lattice's FPGA-TN-02204 (memory),
FPGA-TN-02205 (multipliers) and FPGA-DS-02012 (logic cells).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from optc.targets.fpga.netsim.cells import Bit, Cell
from optc.targets.fpga.netsim.formulas import lookup

Read = Callable[[Bit], str]
"""The C++ operand, 0 or 1, that is a net."""

_MUX, _XOR, _AND = 0xCA, 6, 8
"""As LUTs; of `_MUX`, the third input chooses the second, else the first."""


@dataclass(frozen=True)
class Logic:
    """Outputs that follow the inputs: `code` gives C++ that defines the variable `local` of each.

    `weight`: about how much work it is, a LUT being one.
    """

    name: str
    inputs: Sequence[Bit]
    outputs: Sequence[Bit]
    code: Callable[[Read], list[str]]
    weight: int = 1


@dataclass(frozen=True)
class Register:
    """`q` becomes `d` at the clock where `enable` is not `off`, or where `reset` is, `value`, as at first."""

    name: str
    q: Bit
    d: Bit
    enable: Bit
    off: int
    reset: Bit
    value: int


@dataclass(frozen=True)
class SmallRam:
    """Sixteen words of four bits, written at the clock; `read` follows the address and the array `name`."""

    name: str
    address: Sequence[Bit]
    data: Sequence[Bit]
    enable: Bit
    init: int
    read: Logic


Pins = tuple[tuple[Bit, ...], tuple[Bit, ...]]
"""Pins that must all be one, and pins that must all be zero."""
Port = tuple[Pins, tuple[Bit, ...]]
"""When a block RAM's port works, and its address."""


@dataclass(frozen=True)
class BlockRam:
    """18 kibit: a port that writes and one that reads words of `width` bits.

    A byte that is read in the cycle in which it is written comes out inverted: the data sheet promises
    nothing, and nothing may depend on it. `enables`: which bytes are written, of words of more than one.
    `init`: a character a bit, word by word.
    """

    name: str
    width: int
    write_port: Port
    enables: tuple[Bit, ...]
    data: tuple[Bit, ...]
    read_port: Port
    outputs: tuple[Bit, ...]
    init: str


def nets(bits: Iterable[Bit]) -> list[Bit]:
    """Those of `bits` that are no constants."""
    return [bit for bit in bits if isinstance(bit, int)]


def local(bit: Bit) -> str:
    """The name of the C++ variable that `Logic.code` gives an output."""
    return f"t{bit}".replace("-", "_")


def joined(bits: Sequence[Bit], read: Read) -> str:
    """The C++ of a number whose bits, from the lowest, are `bits`."""
    masks: dict[Bit, int] = {}
    for place, bit in enumerate(bits):
        masks[bit] = masks.get(bit, 0) | 1 << place
    return " | ".join(f"{read(b)} * {m:#x}u" for b, m in masks.items() if b != "0") or "0u"


def logic(cell: Cell) -> Logic:
    """The model of a cell without a state."""
    if cell.kind == "LUT4":
        return lut(cell.name, cell.bit("Z"), cell.number("INIT"), [cell.bit(pin) for pin in "ABCD"])
    if cell.kind == "PFUMX":
        return lut(cell.name, cell.bit("Z"), _MUX, [cell.bit(pin) for pin in ("BLUT", "ALUT", "C0")])
    if cell.kind == "L6MUX21":
        return lut(cell.name, cell.bit("Z"), _MUX, [cell.bit(pin) for pin in ("D0", "D1", "SD")])
    return _carry(cell) if cell.kind == "CCU2C" else _multiplier(cell)


def lut(name: str, output: Bit, table: int, inputs: Sequence[Bit]) -> Logic:
    """A truth table of up to four inputs."""
    return Logic(
        name,
        inputs,
        nets([output]),
        lambda read: [f"const unsigned {local(output)} = {lookup(table, [*map(read, inputs)])};"],
    )


def _carry(cell: Cell) -> Logic:
    """Two bits of a carry chain: each a LUT of four inputs whose output is added to the carry; without
    INJECT, the LUT's lower half says what the carry becomes where the sum does not pass it on.
    """
    halves = [[cell.bit(f"{pin}{half}") for pin in "ABCD"] for half in range(2)]
    sums, out = [cell.bit("S0"), cell.bit("S1")], cell.bit("COUT")
    outputs = nets([*sums, out])
    end = "".join(f"_{bit}" for bit in outputs[:1])

    def code(read: Read) -> list[str]:
        lines, carry = [], read(cell.bit("CIN"))
        for half, (inputs, total) in enumerate(zip(halves, sums, strict=True)):
            table, adds = cell.number(f"INIT{half}"), cell.mode(f"INJECT1_{half}") == "NO"
            operands, names = [*map(read, inputs)], [f"p{half}{end}", f"g{half}{end}"]
            lines.append(f"const unsigned {names[0]} = {lookup(table, operands)};")
            lines.append(f"const unsigned {names[1]} = {lookup(table & 15, operands[:2]) if adds else 0};")
            total_of = lookup(_XOR, [names[0], carry if adds else "0"])
            lines += [f"const unsigned {local(total)} = {total_of};"] if total in outputs else []
            after = f"c{half}{end}"
            lines.append(f"const unsigned {after} = {lookup(_MUX, [names[1], carry, names[0]])};")
            carry = after
        return lines + ([f"const unsigned {local(out)} = {carry};"] if out in outputs else [])

    return Logic(cell.name, [*halves[0], *halves[1], cell.bit("CIN")], outputs, code, 4)


def _multiplier(cell: Cell) -> Logic:
    """18 by 18 bits, without its registers."""
    factors = [cell.bits(pin, 18) for pin in "AB"]
    signs = [cell.bit(f"SIGNED{pin}") for pin in "AB"]
    outputs = cell.bits("P", 36)
    name = "".join(map(local, nets(outputs)[:1]))

    def code(read: Read) -> list[str]:
        lines = []
        for pin, factor, sign in zip("ab", factors, signs, strict=True):
            top = lookup(_AND, [read(factor[-1]), read(sign)])
            lines.append(
                f"const int64_t {pin}_{name} = int64_t({joined(factor, read)}) - (int64_t({top}) << 18);"
            )
        lines.append(f"const uint64_t p_{name} = uint64_t(a_{name} * b_{name});")
        used = [(place, bit) for place, bit in enumerate(outputs) if isinstance(bit, int)]
        return lines + [f"const unsigned {local(bit)} = p_{name} >> {place} & 1;" for place, bit in used]

    return Logic(cell.name, [*factors[0], *factors[1], *signs], nets(outputs), code, 40)


def register(cell: Cell, hidden: int) -> tuple[Register, list[Logic]]:
    """A flip-flop; one with an asynchronous reset is the net `hidden` and logic behind it.

    That reset must last until the clock.
    """
    value = int(cell.mode("REGSET") == "SET")
    enable, off = {"1": ("1", 0), "CE": (cell.bit("CE"), 0), "INV": (cell.bit("CE"), 1)}[cell.mode("CEMUX")]
    q, reset = cell.bit("Q"), cell.bit("LSR")
    kept = Register(cell.name, q, cell.bit("DI"), enable, off, reset, value)
    if cell.mode("SRMODE") != "ASYNC":
        return kept, []
    kept = Register(cell.name, hidden, kept.d, enable, off, reset, value)
    inputs: list[Bit] = [hidden, str(value), reset]
    return kept, [lut(cell.name, q, _MUX, inputs)]


def small_ram(cell: Cell, number: int) -> SmallRam:
    """A distributed memory."""
    name, address, outputs = f"ram{number}", cell.bits("RAD", 4), cell.bits("DO", 4)

    def code(read: Read) -> list[str]:
        lines = [f"const unsigned w{number} = v.{name}[{joined(address, read)}];"]
        return lines + [
            f"const unsigned {local(bit)} = w{number} >> {i} & 1;"
            for i, bit in enumerate(outputs)
            if bit != "0"
        ]

    read = Logic(cell.name, [*address, name], nets(outputs), code, 4)
    return SmallRam(
        name, cell.bits("WAD", 4), cell.bits("DI", 4), cell.bit("WRE"), cell.number("INITVAL"), read
    )


def block_ram(cell: Cell) -> BlockRam:
    """A block RAM; `RuntimeError` where its ports have words of different sizes."""
    width = int(cell.mode("DATA_WIDTH_A"))
    if width != int(cell.mode("DATA_WIDTH_B")):
        raise RuntimeError(f"{cell.name}: DP16KD with ports of two widths has no model")
    count = max(1, width // 9)
    shift = {2: 1, 4: 2, 9: 3, 18: 4, 36: 5}[width]
    written, read = cell.bits("ADA", 14), cell.bits("ADB", 14)
    outputs = [*(cell.bits("DOA", 18) if width == 36 else ()), *cell.bits("DOB", 18)]
    return BlockRam(
        cell.name,
        width,
        (((cell.bit("CEA"), cell.bit("WEA")), tuple(cell.bits("CSA", 3))), tuple(written[shift:])),
        tuple(written[:count] if count > 1 else ()),
        tuple([*cell.bits("DIA", 18), *cell.bits("DIB", 18)][:width]),
        (((cell.bit("CEB"),), tuple(cell.bits("CSB", 3))), tuple(read[shift:])),
        tuple(outputs[:width]),
        _contents(cell, width),
    )


def _contents(cell: Cell, width: int) -> str:
    """Of 20 bits of INITVAL, 18 are used; of nine of these, words of 2 and 4 bits use eight."""
    rows = "".join(cell.parameters.get(f"INITVAL_{i:02X}", "").rjust(320, "0")[::-1] for i in range(64))
    bits = "".join(rows[i : i + 18] for i in range(0, len(rows), 20)).replace("x", "0")
    return bits if width >= 9 else "".join(bits[i : i + 8] for i in range(0, len(bits), 9))
