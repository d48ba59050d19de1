"""The checker accepts what runs alike everywhere, and names the rule that a program breaks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from optc.targets.vta.check import CheckFailure, check
from optc.targets.vta.config import Config
from optc.targets.vta.isa import Finish, Instruction, decode, encode_uops
from optc.targets.vta.program import Image, Program
from optc.targets.vta.text import assemble

CONFIG = Config()
VECTORS = sorted((Path(__file__).parent / "vectors").glob("*.npz"))

DST, SRC, WGT = [0, 1, 0, 1, 5], [0, 1, 2, 3, 5], [0, 0, 0, 0, 1]
UOPS = encode_uops(np.array(DST), np.array(SRC), np.array(WGT), CONFIG)
MEMORY = Image([(0x1000, UOPS.view(np.uint8))])

BASE = """
load uop sram=0 dram=1024 size=1,5 stride=5
load acc sram=0 dram=256 size=1,16 stride=16
load inp sram=0 dram=1024 size=1,32 stride=32
load wgt push_next sram=0 dram=256 size=1,4 stride=4
gemm pop_prev uops=0:4 iter=2,1 dst=4,0 src=8,0 wgt=1,0
alu max uops=0:1 iter=8,1 dst=1,0 src=1,0 imm=-128
alu add push_next uops=1:2 iter=1,1 dst=0,0 src=0,0 tensor
store out pop_prev push_prev sram=0 dram=2048 size=1,8 stride=8
finish pop_next
"""


def base() -> list[Instruction]:
    """A small well-formed program: loads, GEMM, ALU, STORE, FINISH."""
    return assemble(BASE)


def with_line(index: int, line: str) -> list[Instruction]:
    """The program with another instruction at `index`."""
    found = base()
    found[index] = assemble(line)[0]
    return found


def run(instructions: list[Instruction], config: Config = CONFIG) -> None:
    check(instructions, config, MEMORY)


@pytest.mark.parametrize("path", VECTORS, ids=lambda p: p.stem)
def test_vectors_are_accepted(path: Path) -> None:
    program = Program.load(path)
    check(decode(program.instructions, CONFIG), CONFIG, program.memory_image())


def test_the_small_program_is_accepted() -> None:
    run(base())


WRONG = [
    # What an instruction is by itself.
    (
        "finish",
        8,
        "store out pop_prev push_prev sram=0 dram=4096 size=1,8 stride=8",
        "does not end with FINISH",
    ),
    ("finish", 5, "finish", "FINISH is not the last of 9"),
    ("flags", 2, "load inp push_prev sram=0 dram=1024 size=1,32 stride=32", "push_prev is set, but LOAD"),
    (
        "flags",
        7,
        "store out pop_prev push_next sram=0 dram=2048 size=1,8 stride=8",
        "push_next is set, but STORE",
    ),
    ("nop", 2, "load inp sram=0 dram=0 size=0,0 stride=0 pad=1,0,0,0", "x_size is 0"),
    ("size", 2, "load inp sram=0 dram=1024 size=0,32 stride=32", "y_size is 0"),
    ("range", 2, "load inp sram=2040 dram=1024 size=1,32 stride=32", "INP has 2048"),
    ("range", 1, "load acc sram=0 dram=256 size=15,127 stride=127 pad=1,1,1,1", "ACC has 2048"),
    ("address", 2, "load inp sram=0 dram=255 size=1,32 stride=32", "bytes 0xff0 to"),
    ("address", 2, "load inp sram=0 dram=268435455 size=1,32 stride=32", "are not all addressable"),
    ("memory", 7, "store acc pop_prev push_prev sram=0 dram=2048 size=1,8 stride=8", "STORE of ACC"),
    ("memory", 1, "load acc_8bit sram=0 dram=256 size=1,16 stride=16", "LOAD of ACC_8BIT"),
    (
        "padding",
        7,
        "store out pop_prev push_prev sram=0 dram=2048 size=1,8 stride=8 pad=0,0,1,0",
        "STORE with",
    ),
    (
        "padding",
        3,
        "load wgt push_next sram=0 dram=256 size=1,3 stride=3 pad=0,0,1,0",
        "LOAD WGT with padding",
    ),
    ("uop-rows", 0, "load uop sram=0 dram=1024 size=2,2 stride=2", "LOAD UOP of 2 rows"),
    ("uop-depth", 0, "load uop sram=2046 dram=1024 size=1,5 stride=5", "UOP has 2048"),
    ("uop-depth", 5, "alu max uops=2047:2049 iter=8,1 dst=1,0 src=1,0 imm=-128", "micro-op 2048 of 2048"),
    ("loops", 4, "gemm pop_prev uops=0:4 iter=0,1 dst=4,0 src=8,0 wgt=1,0", "loops of 0 by 1"),
    ("loops", 4, "gemm pop_prev uops=4:4 iter=2,1 dst=4,0 src=8,0 wgt=1,0", "micro-ops 4 to 4: none"),
    ("alu-op", 5, "alu mul uops=0:1 iter=8,1 dst=1,0 src=1,0 imm=2", "MUL"),
    ("shift", 5, "alu shr uops=0:1 iter=8,1 dst=1,0 src=1,0 imm=16", "SHR by 16"),
    ("shift", 6, "alu shr push_next uops=1:2 iter=1,1 dst=0,0 src=0,0 tensor imm=-1", "unused imm is -1"),
    # With micro-ops.
    ("uop-unloaded", 5, "alu max uops=5:6 iter=8,1 dst=1,0 src=1,0 imm=-128", "micro-op 5 is used"),
    ("index", 4, "gemm pop_prev uops=0:4 iter=2,1 dst=2047,0 src=8,0 wgt=1,0", "dst reaches element 2048"),
    (
        "index",
        4,
        "gemm pop_prev uops=0:4 iter=2,1 dst=4,0 src=2045,0 wgt=1,0",
        "src reaches element 2048 of INP",
    ),
    (
        "index",
        4,
        "gemm pop_prev uops=0:4 iter=2,2 dst=4,0 src=8,0 wgt=1,1023",
        "wgt reaches element 1024 of WGT",
    ),
    ("alu-immediate", 5, "alu max uops=0:1 iter=8,1 dst=1,0 src=2,0 imm=0", "src is not dst"),
    ("alu-immediate", 5, "alu max uops=2:3 iter=1,1 dst=0,0 src=0,0 imm=0", "src is not dst"),
    ("alu-hazard", 5, "alu max uops=0:1 iter=8,1 dst=0,0 src=0,0 imm=0", "on the dst of the step before"),
    ("alu-hazard", 6, "alu add push_next uops=0:1 iter=4,1 dst=1,0 src=0,0 tensor", "reads the dst"),
    # Tokens.
    ("tokens", 4, "gemm uops=0:4 iter=2,1 dst=4,0 src=8,0 wgt=1,0", "1 tokens from load to compute are left"),
    ("tokens", 3, "load wgt sram=0 dram=256 size=1,4 stride=4", "deadlock"),
    ("tokens", 8, "finish", "1 tokens from store to compute are left"),
    # Memory shared by modules.
    ("unwritten", 1, "load acc sram=0 dram=256 size=1,4 stride=4", "ACC element 4 is read"),
    ("unwritten", 2, "load inp sram=0 dram=1024 size=1,8 stride=8", "INP element 8 is read"),
    ("stored", 7, "store out pop_prev push_prev sram=0 dram=2048 size=1,9 stride=9", "element 8 is stored"),
    ("uop-stored", 7, "store out pop_prev push_prev sram=0 dram=256 size=1,8 stride=8", ""),
]


@pytest.mark.parametrize(("rule", "index", "line", "message"), WRONG, ids=[f"{w[0]}-{w[3]}" for w in WRONG])
def test_one_wrong_instruction(rule: str, index: int, line: str, message: str) -> None:
    with pytest.raises(CheckFailure) as caught:
        run(with_line(index, line))
    assert caught.value.rule == rule
    assert message in str(caught.value)


def test_micro_ops_in_a_row_into_one_element() -> None:
    same = Image([(0x1000, encode_uops(np.zeros(5), np.arange(5), np.zeros(5), CONFIG).view(np.uint8))])
    with pytest.raises(CheckFailure, match=r"instruction 4: two micro-ops in a row accumulate into dst 0"):
        check(base(), CONFIG, same)


def test_wgt_bits_of_an_alu_micro_op() -> None:
    """Where ACC is deeper than INP, they would be higher bits of src."""
    config = Config(log_inp_buff_size=13, log_wgt_buff_size=17)
    words = encode_uops(np.array(DST), np.array(DST), np.array([0, 1, 0, 0, 0]), config)
    with pytest.raises(
        CheckFailure, match=r"instruction 6: a micro-op of an ALU instruction has a wgt index"
    ):
        check(base(), config, Image([(0x1000, words.view(np.uint8))]))


def test_reset_is_stored() -> None:
    program = base()[:5] + assemble(
        "gemm reset push_next uops=0:2 iter=4,1 dst=2,0 src=0,0 wgt=0,0\n"
        "store out pop_prev push_prev sram=0 dram=2048 size=1,8 stride=8\nfinish pop_next"
    )
    with pytest.raises(CheckFailure, match="instruction 6: element 0 is stored, but no non-reset GEMM"):
        run(program)


def test_loaded_accumulator_is_stored() -> None:
    program = base()[:7] + assemble("load acc push_next sram=3 dram=256 size=1,1 stride=1") + base()[7:]
    program[6] = replace(program[6], push_next=False)
    with pytest.raises(CheckFailure, match="instruction 8: element 3 is stored"):
        run(program)


def race(line: str, at: int) -> None:
    """Add an instruction that no token orders against its neighbours."""
    program = base()
    program.insert(at, assemble(line)[0])
    with pytest.raises(CheckFailure) as caught:
        run(program)
    assert (caught.value.rule, caught.value.instruction) == ("race", at), caught.value


def test_load_overwrites_what_a_gemm_may_still_read() -> None:
    program = base()[:5] + assemble(
        "load inp push_next sram=0 dram=2048 size=1,32 stride=32\n"
        "alu max pop_prev uops=0:1 iter=8,1 dst=1,0 src=1,0 imm=-128"
    )
    with pytest.raises(CheckFailure, match="overwrites INP element 0, which COMPUTE's instruction") as caught:
        run([*program, *base()[6:]])
    assert caught.value.rule == "race" and caught.value.instruction == 5


def test_gemm_reads_what_load_may_still_write() -> None:
    program = base()
    program[3], program[2] = replace(program[3], push_next=False), replace(program[2], push_next=True)
    program.insert(5, assemble("load inp push_next sram=64 dram=4096 size=1,1 stride=1")[0])
    program[6] = replace(program[6], pop_prev=True)
    with pytest.raises(CheckFailure, match="reads WGT element 0, which LOAD's instruction") as caught:
        run(program)
    assert caught.value.rule == "race" and caught.value.instruction == 4


def test_compute_overwrites_what_store_may_still_read() -> None:
    race("alu max uops=0:1 iter=8,1 dst=1,0 src=1,0 imm=0", 8)


def test_store_reads_what_compute_may_still_write() -> None:
    program = base()
    program[5], program[6] = replace(program[5], push_next=True), replace(program[6], push_next=False)
    with pytest.raises(CheckFailure, match="reads ACC element 1, which COMPUTE's instruction") as caught:
        run(program)
    assert caught.value.rule == "race" and caught.value.instruction == 7


def test_load_of_stored_bytes_needs_both_tokens() -> None:
    program = base()
    program.insert(8, assemble("load inp sram=64 dram=2050 size=1,1 stride=1 push_next")[0])
    program.insert(9, assemble("load acc sram=64 dram=8 size=0,0 stride=0 pop_prev")[0])
    program[9] = replace(program[9], sram=0, dram=0)
    with pytest.raises(CheckFailure, match="loads bytes whose STORE it does not wait for") as caught:
        run(program)
    assert caught.value.rule == "dram-race" and caught.value.instruction == 8


def test_store_over_bytes_that_load_may_still_read() -> None:
    program = base()
    program.insert(3, assemble("load inp sram=64 dram=2050 size=1,1 stride=1")[0])
    run(program)  # ordered: compute waits for the load behind it, store for compute
    moved = [*base()[:4], *base()[4:7]]
    moved.append(assemble("load inp sram=64 dram=2050 size=1,1 stride=1 push_next")[0])
    moved += base()[7:8] + assemble("load acc sram=0 dram=0 size=0,0 stride=0 pop_prev") + base()[8:]
    with pytest.raises(CheckFailure) as caught:
        run(moved)
    assert caught.value.rule == "dram-race"


def test_finish_waits_for_every_load_and_store() -> None:
    program = [*base()[:8], assemble("load inp sram=64 dram=4096 size=1,1 stride=1")[0], base()[8]]
    with pytest.raises(CheckFailure, match="FINISH does not wait for the last LOAD"):
        run(program)
    program = base()
    program[7] = replace(program[7], push_prev=False)
    program[8] = Finish()
    with pytest.raises(CheckFailure, match="FINISH"):
        run(program)


def test_more_tokens_than_a_counter_holds() -> None:
    """256 may wait in some order, though few do in program order."""
    step = assemble(
        "load inp push_next sram=64 dram=4096 size=1,1 stride=1\n"
        "load acc pop_prev sram=0 dram=0 size=0,0 stride=0"
    )
    run([*step * 254, *base()])
    with pytest.raises(CheckFailure, match="256 tokens may wait from load to compute, 255 fit") as caught:
        run([*step * 255, *base()])
    assert caught.value.rule == "token-limit"


def test_fetch_stalls_behind_a_full_queue() -> None:
    """513 instructions wait for a token that only the next, not fetched yet, gives."""
    waiting = assemble("load acc pop_prev sram=0 dram=0 size=0,0 stride=0")
    more = assemble("load acc sram=0 dram=0 size=0,0 stride=0")
    give = assemble("load inp push_next sram=0 dram=0 size=0,0 stride=0")
    run([*waiting, *more * 511, *give, *base()])
    with pytest.raises(CheckFailure, match="deadlock") as caught:
        run([*waiting, *more * 512, *give, *base()])
    assert caught.value.rule == "tokens"
