"""The cycle models: how long a program takes on an implementation. Figures: docs/vta.md, "Cycles"."""

from __future__ import annotations

from collections.abc import Sequence

from optc.targets.vta.config import Config
from optc.targets.vta.figures import DE10, OPTC, PYNQ, TIMINGS, WORD_BYTES, Overlapped, Serial, Timing
from optc.targets.vta.isa import Instruction
from optc.targets.vta.overlapped import OverlappedMachine
from optc.targets.vta.report import Activity, Report
from optc.targets.vta.serial import SerialMachine

__all__ = ["DE10", "OPTC", "PYNQ", "TIMINGS", "WORD_BYTES", "Activity", "Report", "Timing", "simulate"]


def simulate(instructions: Sequence[Instruction], config: Config, timing: Timing) -> Report:
    """How long `instructions` take; `InputError` where they never end (deadlock)."""
    machine: SerialMachine | OverlappedMachine
    if isinstance(timing, Overlapped):
        machine = OverlappedMachine(instructions, config, timing)
    else:
        assert isinstance(timing, Serial)
        machine = SerialMachine(instructions, config, timing)
    machine.run()
    return Report(max((e for _, e in machine.spans), default=0), machine.activity, machine.spans)
