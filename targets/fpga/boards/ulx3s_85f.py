"""ULX3S with an LFE5U-85F; pins as in the board's own constraints file (github.com/emard/ulx3s)."""

from __future__ import annotations

from optc.targets.fpga.boards.board import Board, Part
from optc.targets.vta.config import Config

LFE5U_85F = Part(
    "LFE5U-85F-6BG381C",
    flag="--85k",
    package="CABGA381",
    speed=6,
    luts=83640,
    flip_flops=83640,
    multipliers=156,
    block_rams=208,
)

ULX3S_85F = Board(
    "ulx3s-85f",
    LFE5U_85F,
    clock_mhz=25,
    target_mhz=75,
    baud=3_000_000,
    pins={
        "clk": "G2",
        "rx": "M1",
        "tx": "L4",
        **{f"led[{n}]": site for n, site in enumerate(("B2", "C2", "C1", "D2", "D1", "E2", "E1", "H3"))},
    },
    config=Config(
        log_block=3,
        log_uop_buff_size=13,
        log_inp_buff_size=14,
        log_wgt_buff_size=15,
        log_acc_buff_size=15,
    ),
    banks=3,
)
