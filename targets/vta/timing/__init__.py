"""The cycle models: how long a program takes on an implementation. Figures: docs/vta.md, "Cycles"."""

from __future__ import annotations

from collections.abc import Sequence

from optc.targets.vta.config import Config
from optc.targets.vta.isa import Instruction
from optc.targets.vta.timing.figures import DE10 as DE10
from optc.targets.vta.timing.figures import OPTC as OPTC
from optc.targets.vta.timing.figures import PYNQ as PYNQ
from optc.targets.vta.timing.figures import WORD_BYTES as WORD_BYTES
from optc.targets.vta.timing.figures import Overlapped, Serial
from optc.targets.vta.timing.figures import Timing as Timing
from optc.targets.vta.timing.overlapped import OverlappedMachine
from optc.targets.vta.timing.report import Activity as Activity
from optc.targets.vta.timing.report import Report as Report
from optc.targets.vta.timing.serial import SerialMachine

TIMINGS: dict[str, Timing] = {t.name: t for t in (PYNQ, DE10, OPTC)}


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
