"""The checker: proves that a program does the same on every implementation of VTA, or says where not."""

from __future__ import annotations

from collections.abc import Sequence

from optc.targets.vta.config import Config, Memory
from optc.targets.vta.isa import Instruction
from optc.targets.vta.rules.dram import check_dram
from optc.targets.vta.rules.failure import CheckFailure
from optc.targets.vta.rules.form import check_form
from optc.targets.vta.rules.loops import Reader, check_loops
from optc.targets.vta.rules.races import check_races
from optc.targets.vta.rules.tokens import check_tokens

__all__ = ["CheckFailure", "check"]

UOP_DEPTH = 2048
"""Micro-ops that the original's RTL holds; its other implementations hold what the configuration says."""


def check(
    instructions: Sequence[Instruction], config: Config, memory: Reader, uop_depth: int = UOP_DEPTH
) -> None:
    """Prove a program well-formed (docs/vta.md, "What a program may do"), or raise `CheckFailure`.

    `memory`: as it stands before the run, for the micro-ops; `uop_depth`: how many of these fit on the chip,
    at most those of `config`. What depends on data, the amounts of a tensor SHR, is left to the simulators.
    """
    check_form(instructions, config, min(uop_depth, config.depth(Memory.UOP)))
    timeline = check_tokens(instructions)
    used = check_loops(instructions, config, memory)
    check_races(instructions, config, used, timeline)
    check_dram(instructions, config, timeline)
