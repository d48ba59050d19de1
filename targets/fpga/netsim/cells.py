"""The cells of an ECP5's netlist, and in which modes they have a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

Bit = int | str
"""A net's number, or a constant, "0" or "1"."""
CONSTANTS = ("0", "1")

_MODES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "LUT4": {},
    "PFUMX": {},
    "L6MUX21": {},
    "CCU2C": {"INJECT1_0": ("YES", "NO"), "INJECT1_1": ("YES", "NO")},
    "TRELLIS_FF": {
        "GSR": ("DISABLED",),
        "CEMUX": ("1", "CE", "INV"),
        "CLKMUX": ("CLK",),
        "LSRMUX": ("LSR",),
        "REGSET": ("RESET", "SET"),
        "SRMODE": ("LSR_OVER_CE", "ASYNC"),
    },
    "TRELLIS_DPR16X4": {"WCKMUX": ("WCK",), "WREMUX": ("WRE",)},
    "MULT18X18D": {f"REG_{which}_CLK": ("NONE",) for which in ("INPUTA", "INPUTB", "PIPELINE", "OUTPUT")},
    "DP16KD": {
        **{f"DATA_WIDTH_{port}": ("18", "2", "4", "9", "36") for port in "AB"},
        **{f"REGMODE_{port}": ("NOREG",) for port in "AB"},
        **{f"CSDECODE_{port}": ("0b000",) for port in "AB"},
        **{f"WRITEMODE_{port}": ("NORMAL", "READBEFOREWRITE") for port in "AB"},
        **{f"CLK{port}MUX": (f"CLK{port}",) for port in "AB"},
        **{mode: ("SYNC", "ASYNC") for mode in ("RESETMODE", "ASYNC_RESET_RELEASE")},
        "GSR": ("DISABLED",),
    },
}
"""By cell: of its parameters, the values that have a model; `INIT...` may be any."""
_CLOCKS = {"TRELLIS_FF": ("CLK",), "TRELLIS_DPR16X4": ("WCK",), "DP16KD": ("CLKA", "CLKB")}
_ZERO = {"DP16KD": ("WEB", "RSTA", "RSTB"), "MULT18X18D": ("SOURCEA", "SOURCEB")}
"""By cell: pins that must be zero."""


@dataclass(frozen=True)
class Cell:
    """A cell as in Yosys' JSON; pins that are not connected are zero."""

    name: str
    kind: str
    parameters: Mapping[str, str]
    connections: Mapping[str, Sequence[Bit]]

    def bit(self, pin: str) -> Bit:
        """What a pin of one bit is connected to."""
        return (self.connections.get(pin) or ["0"])[0]

    def bits(self, pin: str, count: int) -> list[Bit]:
        """Those of the pins `pin`0, `pin`1, ... or of one pin of `count` bits."""
        if pin in self.connections:
            return list(self.connections[pin])
        return [self.bit(f"{pin}{i}") for i in range(count)]

    def number(self, parameter: str) -> int:
        """A parameter that is binary; what is undefined in it is zero."""
        return int(self.parameters.get(parameter, "0").replace("x", "0"), 2)

    def mode(self, parameter: str) -> str:
        """A parameter as text, numbers in decimal; where it is not given, the first that has a model."""
        found = self.parameters.get(parameter)
        if found is None:
            return _MODES[self.kind][parameter][0]
        return str(int(found, 2)) if len(found) == 32 else found.strip()

    def clocks(self) -> list[Bit]:
        """What its clocks are connected to."""
        return [self.bit(pin) for pin in _CLOCKS.get(self.kind, ())]

    def check(self) -> None:
        """`RuntimeError` where it has no model as it is."""
        if self.kind not in _MODES:
            raise RuntimeError(f"{self.name}: the cell {self.kind} has no model")
        for parameter in self.parameters:
            modes = _MODES[self.kind].get(parameter, ())
            if not parameter.startswith("INIT") and self.mode(parameter) not in modes:
                raise RuntimeError(
                    f"{self.name}: {self.kind} with {parameter} {self.mode(parameter)} has no model"
                )
        for pin in _ZERO.get(self.kind, ()):
            if self.bit(pin) != "0":
                raise RuntimeError(f"{self.name}: {self.kind} with {pin} other than 0 has no model")

    def renamed(self, names: Mapping[Bit, Bit]) -> Cell:
        """With other nets."""
        connections = {pin: [names.get(b, b) for b in bits] for pin, bits in self.connections.items()}
        return replace(self, connections=connections)

    def pll(self) -> dict[Bit, Bit]:
        """Of a PLL, what its outputs are: the clock as it is, locked from the beginning."""
        if self.bit("RST") != "0":
            raise RuntimeError(f"{self.name}: EHXPLLL with RST other than 0 has no model")
        outputs = {self.bit("CLKOP"): self.bit("CLKI"), self.bit("LOCK"): "1"}
        return {net: alias for net, alias in outputs.items() if isinstance(net, int)}
