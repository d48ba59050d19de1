"""What an inference takes in energy: an estimate, and how it is made."""

from __future__ import annotations

from typing import Any

STATIC_WATTS = 0.212 * 1.1
"""LFE5U-85F, core, standby, typical: 212 mA at 1.1 V (Lattice FPGA-DS-02012, "Supply Current (Standby)")."""
PICOJOULES_PER_MAC = 8.0
"""Of an int8 multiply-accumulate with its operands from block RAM: 0.2 + 0.1 pJ for the arithmetic and some
0.5 pJ for a byte of a small memory at 45 nm (Horowitz, ISSCC 2014), times ten for programmable logic, whose
dynamic power is 12 times that of standard cells without hard blocks (Kuon and Rose, TCAD 2007)."""
HOW = (
    "static: the part's typical standby current over the run; dynamic: 8 pJ for each multiply-accumulate, "
    "from published figures of arithmetic and of FPGAs; not measured, good to a factor of three at best"
)


def energy(macs: int, seconds: float) -> dict[str, Any]:
    """Millijoules of a run of `seconds` with `macs` multiply-accumulates, and how they were estimated."""
    static, dynamic = STATIC_WATTS * seconds, PICOJOULES_PER_MAC * 1e-12 * macs
    return {
        "millijoules": round((static + dynamic) * 1e3, 4),
        "static_millijoules": round(static * 1e3, 4),
        "dynamic_millijoules": round(dynamic * 1e3, 4),
        "how": HOW,
    }
