"""The netlist's simulator, cell by cell, and what it refuses."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from machines import needs_rtl
from netlists import Simulated, cell, netlist

from optc.targets.fpga.netsim.formulas import formula, lookup
from optc.targets.fpga.netsim.layout import Layout
from optc.targets.fpga.netsim.netlist import load

CLK = 2
"""The clock's net, where there is one."""


def binary(value: int, width: int) -> str:
    return format(value, f"0{width}b")


def test_a_formula_is_its_table() -> None:
    noise = random.Random(1)
    tables = [(table, inputs) for inputs in range(4) for table in range(1 << (1 << inputs))]
    tables += [(noise.randrange(1 << 16), 4) for _ in range(2000)]
    for table, inputs in tables:
        text = formula(table, inputs).text
        for row in range(1 << inputs):
            values = [str(row >> i & 1) for i in range(inputs)]
            assert eval(text.format(*values)) == table >> row & 1, (table, inputs, text)


def test_constants_and_equal_operands_make_a_formula_shorter() -> None:
    multiplexer = 0xCACA
    assert lookup(multiplexer, ["a", "b", "c", "d"]) == "(a ^ (c & (a ^ b)))"
    assert lookup(multiplexer, ["a", "b", "1", "d"]) == "b"
    assert lookup(multiplexer, ["a", "b", "a", "d"]) == "(a & b)"
    assert lookup(multiplexer, ["0", "1", "c", "d"]) == "c"


@needs_rtl
def test_luts_and_multiplexers(tmp_path: Path) -> None:
    """Each of its own table, of inputs in any order, some constant or twice."""
    noise = random.Random(2)
    tables = [noise.randrange(1 << 16) for _ in range(60)]
    pins = [noise.choices([10, 11, 12, 13, "0", "1"], [3, 3, 3, 3, 1, 1], k=4) for _ in tables]
    cells = [
        cell("LUT4", {"INIT": binary(table, 16)}, **dict(zip("ABCD", bits, strict=True)), Z=100 + i)
        for i, (table, bits) in enumerate(zip(tables, pins, strict=True))
    ]
    cells.append(cell("PFUMX", ALUT=10, BLUT=11, C0=12, Z=160))
    cells.append(cell("L6MUX21", D0=10, D1=11, SD=12, Z=161))
    found = Simulated(netlist(tmp_path, {"x": range(10, 14)}, {"z": range(100, 162)}, *cells))
    for x in [*range(16), *reversed(range(16))]:
        found.set(x=x)
        values = {"0": 0, "1": 1} | {10 + i: x >> i & 1 for i in range(4)}
        rows = [sum(values[bit] << i for i, bit in enumerate(bits)) for bits in pins]
        wanted = [table >> row & 1 for table, row in zip(tables, rows, strict=True)]
        wanted += [values[10] if values[12] else values[11], values[11] if values[12] else values[10]]
        assert found.get("z") == sum(bit << i for i, bit in enumerate(wanted)), x


def carried(table: int, adds: bool, row: int, carry: int) -> tuple[int, int]:
    """Sum and carry of half a CCU2C, as Yosys' model has them."""
    total, make = table >> row & 1, table >> (row & 3) & 1
    return total ^ (carry & adds), carry if total else make & adds


@needs_rtl
def test_carries(tmp_path: Path) -> None:
    noise = random.Random(3)
    kinds = [[(noise.randrange(1 << 16), noise.random() < 0.8) for _ in range(2)] for _ in range(12)]
    cells = []
    for i, halves in enumerate(kinds):
        modes = {f"INIT{h}": binary(table, 16) for h, (table, _) in enumerate(halves)}
        modes |= {f"INJECT1_{h}": "NO" if adds else "YES" for h, (_, adds) in enumerate(halves)}
        pins = {f"{pin}{h}": 10 + 4 * h + k for h in range(2) for k, pin in enumerate("ABCD")}
        cells.append(cell("CCU2C", modes, **pins, CIN=18, S0=100 + 3 * i, S1=101 + 3 * i, COUT=102 + 3 * i))
    found = Simulated(netlist(tmp_path, {"x": range(10, 19)}, {"z": range(100, 136)}, *cells))
    for x in noise.sample(range(512), 512):
        found.set(x=x)
        wanted = 0
        for i, ((table0, adds0), (table1, adds1)) in enumerate(kinds):
            sum0, carry = carried(table0, adds0, x & 15, x >> 8)
            sum1, carry = carried(table1, adds1, x >> 4 & 15, carry)
            wanted |= (sum0 | sum1 << 1 | carry << 2) << 3 * i
        assert found.get("z") == wanted, x


@needs_rtl
def test_flip_flops(tmp_path: Path) -> None:
    """Two of each mode, one behind the other: what the clock changes, it does not see before the next."""
    modes = [
        (e, r, s) for e in ("1 ", "CE", "INV") for r in ("RESET", "SET") for s in ("LSR_OVER_CE", "ASYNC")
    ]
    cells = []
    for i, (enable, value, kind) in enumerate(modes):
        mode = {"CEMUX": enable, "REGSET": value, "SRMODE": kind, "GSR": "DISABLED"}
        for source, target in ((10, 100 + 2 * i), (100 + 2 * i, 101 + 2 * i)):
            cells.append(cell("TRELLIS_FF", mode, CLK=CLK, DI=source, CE=11, LSR=12, Q=target))
    inputs = {"clk": [CLK], "d": [10], "ce": [11], "lsr": [12]}
    found = Simulated(netlist(tmp_path, inputs, {"q": range(100, 124)}, *cells))
    noise = random.Random(4)
    state = [[int(value == "SET")] * 2 for _, value, _ in modes]
    for _ in range(300):
        d, ce, lsr = noise.randrange(2), noise.randrange(2), noise.random() < 0.2
        found.set(d=d, ce=ce, lsr=lsr)
        for now, (_, value, kind) in zip(state, modes, strict=True):
            if lsr and kind == "ASYNC":
                now[:] = [value == "SET"] * 2
        assert found.get("q") == sum(bit << i for i, bit in enumerate(sum(state, [])))
        found.clock()
        for now, (enable, value, _) in zip(state, modes, strict=True):
            if lsr:
                now[:] = [value == "SET"] * 2
            elif enable == "1 " or ce == (enable == "CE"):
                now[:] = [d, now[0]]
        assert found.get("q") == sum(bit << i for i, bit in enumerate(sum(state, [])))


@needs_rtl
def test_enables_and_resets_that_are_flip_flops(tmp_path: Path) -> None:
    """The clock changes them, but acts as they were before."""
    cells = [
        cell("TRELLIS_FF", CLK=CLK, DI=11, Q=100),
        cell("TRELLIS_FF", {"CEMUX": "CE"}, CLK=CLK, DI=10, CE=100, Q=101),
        cell("TRELLIS_FF", {"REGSET": "SET"}, CLK=CLK, DI=10, LSR=100, Q=102),
    ]
    found = Simulated(netlist(tmp_path, {"clk": [CLK], "d": [10], "x": [11]}, {"q": range(100, 103)}, *cells))
    noise = random.Random(8)
    acts, enabled, reset = 0, 0, 1
    for _ in range(100):
        d, x = noise.randrange(2), noise.randrange(2)
        found.set(d=d, x=x)
        found.clock()
        acts, enabled, reset = x, d if acts else enabled, 1 if acts else d
        assert found.get("q") == acts | enabled << 1 | reset << 2


@needs_rtl
def test_products(tmp_path: Path) -> None:
    """Of 18 by 18 bits, each factor with a sign or without."""
    pins: dict[str, int] = {f"P{i}": 100 + i for i in range(36)} | {"SIGNEDA": 50, "SIGNEDB": 51}
    pins |= {f"A{i}": 10 + i for i in range(18)} | {f"B{i}": 30 + i for i in range(18)}
    inputs = {"a": range(10, 28), "b": range(30, 48), "signs": [50, 51]}
    found = Simulated(netlist(tmp_path, inputs, {"p": range(100, 136)}, cell("MULT18X18D", **pins)))
    noise = random.Random(9)
    for _ in range(500):
        a, b = (noise.choice((noise.getrandbits(18), 1 << 17, (1 << 18) - 1, 1)) for _ in range(2))
        signs = noise.randrange(4)
        found.set(a=a, b=b, signs=signs)
        x, y = (v - ((v >> 17 & signs >> i & 1) << 18) for i, v in enumerate((a, b)))
        assert found.get("p") == x * y & (1 << 36) - 1, (a, b, signs)


@needs_rtl
def test_a_distributed_memory(tmp_path: Path) -> None:
    """What is written comes out at once, also where the address stays."""
    pins = {"DI": range(10, 14), "WAD": range(20, 24), "RAD": range(30, 34), "DO": range(40, 44)}
    init = [noise % 16 for noise in range(3, 99, 6)]
    value = binary(sum(word << 4 * i for i, word in enumerate(init)), 64)
    one = cell("TRELLIS_DPR16X4", {"INITVAL": value}, WCK=CLK, WRE=50, **pins)
    inputs = {"clk": [CLK], "data": pins["DI"], "there": pins["WAD"], "here": pins["RAD"], "write": [50]}
    found = Simulated(netlist(tmp_path, inputs, {"value": pins["DO"]}, one))
    noise = random.Random(10)
    for _ in range(500):
        there, here, data, write = (noise.randrange(limit) for limit in (4, 4, 16, 2))
        found.set(there=there, here=here, data=data, write=write)
        assert found.get("value") == init[here]
        found.clock()
        init[there] = data if write else init[there]
        assert found.get("value") == init[here]


def block_ram(width: int) -> dict[str, Any]:
    """Nets: data from 100, addresses from 200 and 220, enables of bytes from 240, 250 writes, 251 reads,
    outputs from 300.
    """
    shift = {2: 1, 4: 2, 9: 3, 18: 4, 36: 5}[width]
    modes = {f"DATA_WIDTH_{port}": binary(width, 32) for port in "AB"} | {"GSR": "DISABLED"}
    modes["INITVAL_00"] = "1" * 320
    pins: dict[str, int | str] = {"CLKA": CLK, "CLKB": CLK, "CEA": "1", "CEB": 251, "WEA": 250, "WEB": "0"}
    for i in range(14):
        low: int | str = 240 + i if i < width // 9 and width > 9 else "0"
        pins[f"ADA{i}"] = low if i < shift else 200 + i - shift
        pins[f"ADB{i}"] = "0" if i < shift else 220 + i - shift
    for i in range(width):
        pins[f"DI{'AB'[i // 18]}{i % 18}"] = 100 + i
        pins[f"DO{'AB'[i // 18] if width == 36 else 'B'}{i % 18}"] = 300 + i
    return cell("DP16KD", modes, **pins)


@needs_rtl
@pytest.mark.parametrize("width", [2, 4, 9, 18, 36])
def test_what_is_read_while_it_is_written_comes_inverted(width: int, tmp_path: Path) -> None:
    """Those of its bytes that are written, for one cycle; 16 times 18 bits are ones at first."""
    inputs = {
        "clk": [CLK],
        "data": range(100, 100 + width),
        "there": range(200, 213),
        "here": range(220, 233),
        "enables": range(240, 244),
        "write": [250],
        "reads": [251],
    }
    found = Simulated(netlist(tmp_path, inputs, {"value": range(300, 300 + width)}, block_ram(width)))
    ones = (1 << width) - 1
    enables = 0b0101 if width > 9 else 15
    written = sum(0x1FF << 9 * i for i in range(4) if enables >> i & 1) & ones
    data = 0b1001_1100_0011_1010_0110_1010_1100_0101_1001 & ones
    after = data & written | ones & ~written

    def step(write: int, there: int, here: int, reads: int = 1) -> int:
        found.set(write=write, there=there, here=here, data=data, enables=enables, reads=reads)
        found.clock()
        return found.get("value")

    assert step(0, 3, 400) == 0
    assert step(0, 3, 3) == ones
    assert step(0, 3, 3) == ones
    assert step(1, 3, 3) == ones ^ written
    assert step(1, 4, 3) == after
    assert step(1, 3, 3) == after ^ written
    assert step(1, 3, 3) == after ^ written
    assert step(0, 3, 3) == after
    assert step(0, 3, 4) == after
    assert step(0, 3, 5) == ones
    assert step(1, 5, 5, reads=0) == ones
    assert step(0, 5, 6, reads=0) == ones
    assert step(0, 5, 5) == after


MULTIPLIER = {f"P{i}": 100 + i for i in range(36)} | {f"{p}{i}": 10 for p in "AB" for i in range(18)}
REFUSED = {
    "cell0: the cell DCCA has no model": [cell("DCCA", CLKI=10, CLKO=100)],
    "cell0: TRELLIS_FF with CLKMUX INV has no model": [
        cell("TRELLIS_FF", {"CLKMUX": "INV"}, CLK=CLK, DI=10, Q=100)
    ],
    "cell0: TRELLIS_FF with SRMODE CE_OVER_LSR has no model": [
        cell("TRELLIS_FF", {"SRMODE": "CE_OVER_LSR"}, CLK=CLK, DI=10, Q=100)
    ],
    "cell0: MULT18X18D with REG_OUTPUT_CLK CLK0 has no model": [
        cell("MULT18X18D", {"REG_OUTPUT_CLK": "CLK0"}, **MULTIPLIER)
    ],
    "cell0: MULT18X18D with SOURCEA other than 0 has no model": [
        cell("MULT18X18D", **{**MULTIPLIER, "SOURCEA": 10})
    ],
    "cell0: DP16KD with REGMODE_B OUTREG has no model": [
        cell("DP16KD", {"REGMODE_B": "OUTREG"}, CLKA=CLK, CLKB=CLK)
    ],
    "cell0: DP16KD with DATA_WIDTH_A 1 has no model": [
        cell("DP16KD", {"DATA_WIDTH_A": binary(1, 32)}, CLKA=CLK, CLKB=CLK)
    ],
    "cell0: DP16KD with ports of two widths has no model": [
        cell("DP16KD", {"DATA_WIDTH_A": binary(9, 32)}, CLKA=CLK, CLKB=CLK)
    ],
    "cell0: EHXPLLL with RST other than 0 has no model": [cell("EHXPLLL", CLKI=CLK, RST=10, CLKOP=100)],
    "a netlist with 2 clocks, or one that is no input, has no model": [
        cell("TRELLIS_FF", CLK=CLK, DI=10, Q=101),
        cell("TRELLIS_FF", CLK=10, DI=101, Q=100),
    ],
    "a netlist with 1 clocks, or one that is no input, has no model": [
        cell("TRELLIS_FF", CLK=101, DI=10, Q=100)
    ],
    "net 100 has no driver with a model": [cell("LUT4", {"INIT": binary(1, 16)}, A=10, Z=101)],
    "cell1: logic that drives itself has no model": [
        cell("LUT4", {"INIT": binary(1, 16)}, A=102, Z=100),
        cell("LUT4", {"INIT": binary(8, 16)}, A=10, B=101, Z=102),
        cell("PFUMX", ALUT=102, BLUT=10, C0=10, Z=101),
    ],
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_has_no_model_is_an_error(text: str, tmp_path: Path) -> None:
    netlist(tmp_path, {"clk": [CLK], "x": [10]}, {"z": [100]}, *REFUSED[text])
    with pytest.raises(RuntimeError) as error:
        Layout(load(tmp_path / "top.json", "top"))
    assert str(error.value) == text
