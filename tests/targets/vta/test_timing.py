"""The cycle models against figures measured on the original RTL, and on optc's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optc_cycles import PROGRAMS, with_finish
from optc_cycles import VECTORS as MEASURED

from optc.models.errors import InputError
from optc.targets.vta.config import Config
from optc.targets.vta.isa import Instruction, Module, decode
from optc.targets.vta.program import Program
from optc.targets.vta.text import assemble
from optc.targets.vta.timing import DE10, OPTC, PYNQ, TIMINGS, Timing, simulate

CONFIG = Config()
VECTORS = sorted((Path(__file__).parent / "vectors").glob("*.npz"))
ORIGINALS = {t.name: t for t in (PYNQ, DE10)}
LAUNCH = 25
"""Cycles of a launch with FINISH alone."""


def cycles(line: str, timing: Timing = PYNQ) -> int:
    """Cycles of one instruction by itself, from its start to its end."""
    start, end = simulate(assemble(f"{line}\nfinish"), CONFIG, timing).spans[0]
    return end - start


@pytest.mark.parametrize("timing", ORIGINALS.values(), ids=list(ORIGINALS))
@pytest.mark.parametrize("path", VECTORS, ids=lambda p: p.stem)
def test_vectors(path: Path, timing: Timing) -> None:
    measured = int(np.load(path)[f"cycles_{timing.name}"])
    found = simulate(decode(Program.load(path).instructions, CONFIG), CONFIG, timing).cycles
    bar = 0.01 if path.stem.startswith("conv") else 0.02
    assert abs(found - measured) <= bar * measured


@pytest.mark.parametrize("path", VECTORS, ids=lambda p: p.stem)
def test_vectors_on_our_rtl(path: Path) -> None:
    found = simulate(decode(Program.load(path).instructions, CONFIG), CONFIG, OPTC).cycles
    assert abs(found - MEASURED[path.stem]) <= 0.005 * MEASURED[path.stem]


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_on_our_rtl(name: str) -> None:
    lines, measured = PROGRAMS[name]
    found = simulate(assemble(with_finish(lines)), CONFIG, OPTC).cycles
    # Programs whose modules compete for the read port all the time may differ by a burst or two.
    assert abs(found - measured) <= (512 if measured > 20_000 else 3)


def test_where_two_elements_share_a_word_each_takes_a_cycle() -> None:
    """Measured on optc's RTL."""
    sizes = {"inp": 12, "wgt": 13, "acc": 14}
    config = Config(log_block=2, **{f"log_{name}_buff_size": log for name, log in sizes.items()})
    program = "load inp push_next sram=0 dram=1025 size=7,9 stride=12 pad=1,0,2,1\nfinish pop_prev"
    assert simulate(assemble(program), config, OPTC).cycles == 143


GEMM = "uops=0:{} iter={},{} dst=0,0 src=0,0 wgt=0,0"
ALU = "uops=0:{} iter={},{} dst=0,0 src=0,0"
ROWS = [
    (f"gemm {GEMM.format(9, 14, 14)}", 9 * 14 * 14 + 9),
    (f"gemm reset {GEMM.format(2, 8, 16)}", 256 + 9),
    (f"alu max {ALU.format(1, 8, 32)} imm=0", 256 + 9),
    (f"alu add {ALU.format(1, 8, 32)} tensor", 2 * 256 + 9),
    ("load inp sram=0 dram=1024 size=1,196 stride=196", 2 * 196 + 25),
    ("load inp sram=0 dram=1024 size=14,14 stride=56", 2 * 196 + 25),
    ("load wgt sram=0 dram=1024 size=1,64 stride=64", 32 * 64 + 25),
    ("load acc sram=0 dram=1024 size=1,64 stride=64", 8 * 64 + 25),
    ("load uop sram=0 dram=1024 size=1,64 stride=64", 64 // 2 + 24),
    ("load inp sram=0 dram=1024 size=14,14 stride=14 pad=1,1,1,1", 457),
    ("load inp sram=0 dram=0 size=0,0 stride=0", 4),
    ("load acc sram=0 dram=0 size=0,0 stride=0", 4),
    ("store out sram=0 dram=0 size=0,0 stride=0", 4),
]


@pytest.mark.parametrize("timing", ORIGINALS.values(), ids=list(ORIGINALS))
@pytest.mark.parametrize(("line", "measured"), ROWS, ids=[r[0] for r in ROWS])
def test_one_instruction(line: str, measured: int, timing: Timing) -> None:
    assert abs(cycles(line, timing) - measured) <= 1


@pytest.mark.parametrize(("timing", "bursts"), [(PYNQ, 2), (DE10, 32)], ids=["pynq", "de10"])
def test_store_pays_for_each_burst(timing: Timing, bursts: int) -> None:
    assert (
        abs(cycles("store out sram=0 dram=1024 size=1,256 stride=256", timing) - (3 * 256 + 3 * bursts + 3))
        <= 1
    )
    rows = cycles("store out sram=0 dram=1024 size=32,8 stride=64", timing)
    assert abs(rows - (3 * 256 + 3 * 32 + 3)) <= 1


def test_launch_with_finish_alone() -> None:
    for timing in ORIGINALS.values():
        assert abs(simulate(assemble("finish"), CONFIG, timing).cycles - LAUNCH) <= 1


def test_fetch_limits_tiny_instructions() -> None:
    """de10: 5.6 cycles an instruction were measured."""
    tiny = assemble(
        "load inp sram=0 dram=0 size=0,0 stride=0\nstore out sram=0 dram=0 size=0,0 stride=0\n" * 200
    )
    assert abs(simulate(tiny, CONFIG, DE10).cycles / 400 - 5.6) < 0.3


def test_loads_and_gemms_overlap() -> None:
    """8 of each, independent: 16647 and 16537 alone, 16663 together were measured, the launch with them."""
    load, gemm = "load wgt sram=0 dram=1024 size=1,64 stride=64\n", f"gemm {GEMM.format(1, 129, 16)}\n"
    alone = [simulate(assemble(x * 8), CONFIG, PYNQ).cycles for x in (load, gemm)]
    together = simulate(assemble((load + gemm) * 8), CONFIG, PYNQ).cycles
    assert max(alone) <= together <= max(alone) + 30
    assert abs(together - 16663) <= 0.005 * 16663


def test_loads_of_two_modules_share_the_port() -> None:
    both = assemble(
        "load wgt sram=0 dram=1024 size=1,64 stride=64\nload acc sram=0 dram=8192 size=1,256 stride=256"
    )
    report = simulate(both, CONFIG, PYNQ)
    assert report.cycles >= 64 * 32 + 256 * 8
    assert sum(a.memory for a in report.modules.values()) >= 2000


def test_waiting_for_a_token_is_counted() -> None:
    program = assemble(
        "load wgt push_next sram=0 dram=1024 size=1,64 stride=64\n"
        f"gemm pop_prev {GEMM.format(1, 8, 16)}\nfinish"
    )
    activity = simulate(program, CONFIG, PYNQ).modules
    assert abs(activity[Module.COMPUTE].token - (64 * 32 + 25)) <= 2
    assert activity[Module.COMPUTE].busy == 128 + 9 + 4
    assert activity[Module.LOAD].busy == 64 * 32 + 25
    assert activity[Module.STORE].busy == activity[Module.STORE].token == 0


@pytest.mark.parametrize("timing", TIMINGS.values(), ids=list(TIMINGS))
def test_deadlock_is_an_error(timing: Timing) -> None:
    with pytest.raises(InputError, match="instruction 0: deadlock"):
        simulate(assemble(f"gemm pop_prev {GEMM.format(1, 1, 1)}\nfinish"), CONFIG, timing)


def test_overlapping_instructions_are_accounted_for_once() -> None:
    for lines, _ in PROGRAMS.values():
        report = simulate(assemble(with_finish(lines)), CONFIG, OPTC)
        for activity in report.modules.values():
            assert min(activity.busy, activity.token, activity.memory) >= 0
            assert activity.busy + activity.token + activity.memory <= report.cycles
    wait = simulate(assemble(with_finish(PROGRAMS["a GEMM waits for a LOAD"][0])), CONFIG, OPTC)
    assert wait.modules[Module.LOAD].busy + wait.modules[Module.LOAD].memory == 64 * 32 + 22
    assert wait.modules[Module.COMPUTE].token == 64 * 32 + 22 - 2  # fetched two cycles behind it
    assert 128 <= wait.modules[Module.COMPUTE].busy <= 128 + 4


LINES = st.sampled_from([row[0] for row in ROWS])


@pytest.mark.parametrize("timing", [DE10, OPTC], ids=["de10", "optc"])
@given(lines=st.lists(LINES, min_size=1, max_size=12), extra=LINES)
def test_one_more_instruction_is_never_faster(timing: Timing, lines: list[str], extra: str) -> None:
    def total(program: list[str]) -> int:
        instructions: list[Instruction] = assemble("\n".join(program))
        return simulate(instructions, CONFIG, timing).cycles

    assert total([*lines, extra]) >= total(lines)
