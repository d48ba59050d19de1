"""The functional simulator refuses what the page leaves undefined, and names the instruction."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from optc.targets.vta.config import Config, Memory
from optc.targets.vta.device import PAGE, SimulationError
from optc.targets.vta.isa import Alu, AluOp, Finish, Gemm, Instruction, Load, Store, encode_uops
from optc.targets.vta.sim import Fsim

CONFIG = Config()
DATA, UOPS, OUT = 0x10000, 0x20000, 0x30000
BUSY = Load(Memory.INP, 0, DATA // 16, 1, 8, 8, push_next=True)


def simulator(config: Config = CONFIG, order: int | None = None) -> Fsim:
    """Small numbers at DATA; at UOPS twelve micro-ops: dst = src = 0 to 7, then dst 0, 0, 1, 2 with src 0."""
    sim = Fsim(config, 1 << 20, order)
    sim.write(DATA, (np.arange(0x8000) % 7).astype(np.uint8))
    k, extra = np.arange(8), np.zeros(4, np.int64)
    dst = np.concatenate([k, [0, 0, 1, 2]])
    words = encode_uops(dst, np.concatenate([k, extra]), np.zeros(12, np.int64), config)
    sim.write(UOPS, words.view(np.uint8))
    return sim


def load_uops(**flags: Any) -> Load:
    return Load(Memory.UOP, 0, UOPS // 4, 1, 12, 12, **flags)


def load_acc(**flags: Any) -> Load:
    return Load(Memory.ACC, 0, DATA // 64, 1, 8, 8, **flags)


def alu(op: AluOp = AluOp.ADD, **values: Any) -> Alu:
    """An operation on elements 0 to 7 that leaves them as they are."""
    return replace(Alu(op, True, 0, 0, 8, 1, 1, 0, 0, 0, 0), **values)


def gemm(**values: Any) -> Gemm:
    return replace(Gemm(False, 0, 8, 1, 1, 0, 0, 0, 0, 0, 0), **values)


def store(**values: Any) -> Store:
    return replace(Store(0, OUT // 16, 1, 8, 8, pop_prev=True, push_prev=True), **values)


def whole(*middle: Instruction, last: Store | None = None) -> list[Instruction]:
    """A program that adds 0 to eight elements and stores them; `middle` runs before the addition."""
    return [
        load_uops(),
        load_acc(),
        *middle,
        alu(push_next=True),
        last or store(),
        Finish(pop_next=True),
    ]


def refused(program: list[Instruction], index: int, match: str, order: int | None = None) -> None:
    with pytest.raises(SimulationError, match=match) as caught:
        simulator(order=order).execute(program)
    assert caught.value.index == index
    assert str(caught.value).startswith(f"instruction {index}: ")


def test_the_base_program_runs() -> None:
    sim = simulator()
    sim.execute(whole())
    assert np.array_equal(sim.read(OUT, 8 * 16), (np.arange(0x8000) % 7).astype(np.uint8)[:512:4])


UNDEFINED: list[tuple[Instruction, str]] = [
    (Load(Memory.UOP, 8190, UOPS // 4, 1, 8, 8), "8192 of UOP"),
    (Load(Memory.ACC, 2047, DATA // 64, 1, 1, 1, x_pad_1=1), "2048 of ACC"),
    (Load(Memory.ACC, 0, 0, 1, 1, 1), "outside the memory"),
    (Load(Memory.ACC, 0, 1 << 20, 1, 1, 1), "outside the memory"),
    (Load(Memory.ACC, 0, DATA // 64, 1, 0, 1, x_pad_0=1), "padding"),
    (Load(Memory.ACC, 0, DATA // 64, 0, 1, 1), "without rows"),
    (Load(Memory.ACC_8BIT, 0, DATA // 16, 1, 1, 1), "ACC_8BIT"),
    (Load(Memory.OUT, 0, DATA // 16, 1, 1, 1), "LOAD of OUT"),
    (Load(Memory.UOP, 0, UOPS // 4, 2, 1, 1), "2 rows"),
    (Load(Memory.UOP, 0, UOPS // 4, 1, 1, 1, x_pad_0=1), "LOAD UOP with padding"),
    (gemm(), "INP element 0 is read"),
    (gemm(uop_begin=8, uop_end=13), "UOP element 12 is read"),
    (gemm(reset=True, uop_end=0), "micro-ops 0 to 0"),
    (gemm(reset=True, iter_in=0), "loops of 1 by 0"),
    (gemm(reset=True, iter_in=3, dst_in=1024), "ACC index 2048 is out of range"),
    (gemm(reset=True, iter_out=2, src_out=2047), "INP index 2048 is out of range"),
    (gemm(reset=True, iter_out=3, wgt_out=1000), "WGT index 2000 is out of range"),
    (alu(AluOp.MUL), "MUL"),
    (alu(AluOp.SHR, imm=16), "SHR by 16"),
    (alu(AluOp.SHR, imm=-17), "SHR by -17"),
    (alu(src_out=1, iter_out=2), "src is not its dst"),
    (alu(uop_begin=10, uop_end=11), "src is not its dst"),
    (alu(iter_in=2, dst_in=8, src_in=8), "ACC element 8 is read"),
    (alu(iter_in=2, dst_in=2047, src_in=2047), "ACC index 2048 is out of range"),
    (alu(uop_begin=8, uop_end=10), "right after"),
    (alu(use_imm=False, uop_begin=9, uop_end=11), "right after"),
]


@pytest.mark.parametrize("instruction, match", UNDEFINED, ids=[m for _, m in UNDEFINED])
def test_undefined_instructions_are_refused(instruction: Instruction, match: str) -> None:
    refused(whole(instruction), 2, match)


def test_tensor_shifts_are_0_to_15() -> None:
    shift = alu(AluOp.SHR, use_imm=False, uop_begin=10, uop_end=11)
    zero = [alu(AluOp.SHR, imm=15), alu(AluOp.SHR, imm=15)]
    for amount in (0, 15):
        simulator().execute(whole(*zero, alu(imm=amount), shift))
    for amount in (-1, 16):
        refused(whole(*zero, alu(imm=amount), shift), 5, "shift outside 0 to 15")


def test_only_what_gemm_or_alu_wrote_last_is_stored() -> None:
    for last in (load_acc(), gemm(reset=True)):
        program = whole()
        program[2] = alu()
        program.insert(3, replace(last, push_next=True))
        refused(program, 4, "no GEMM or ALU wrote it last")
    refused(whole(last=store(x_size=9)), 3, "OUT element 8 is stored")


def test_store_takes_no_padding_and_only_out() -> None:
    refused(whole(last=store(y_pad_0=1)), 3, "padding")
    refused(whole(last=store(memory=Memory.ACC)), 3, "only OUT")


def test_weights_take_no_padding() -> None:
    refused([Load(Memory.WGT, 0, DATA // 256, 1, 1, 1, x_pad_0=1), Finish()], 0, "LOAD WGT with padding")


def test_nothing_outlives_a_run() -> None:
    sim = simulator()
    sim.execute(whole())
    with pytest.raises(SimulationError, match="UOP element 0 is read"):
        sim.execute([alu(), Finish()])


@pytest.mark.parametrize("order", [None, 0, 1])
def test_tokens(order: int | None) -> None:
    program = [BUSY, load_uops(push_prev=True), Finish(pop_prev=True)]
    refused(program, 2, "1 tokens from compute to load are left", order)
    refused([Finish(pop_next=True)], 0, "deadlock: it waits for a token from store to compute", order)
    refused([replace(BUSY, push_next=False, pop_prev=True), Finish()], 0, "LOAD has no such", order)
    refused([load_uops()], 0, "without FINISH", order)
    refused([Finish(), load_uops()], 1, "after the FINISH", order)


def test_token_counters_end_at_255() -> None:
    refused([BUSY] * 256 + [Finish()], 255, "over 255 tokens")


def test_fetch_stalls_behind_a_full_queue() -> None:
    """The token that 513 loads wait for comes from an instruction behind them."""
    nop = Load(Memory.INP, 0, 0, 0, 0, 0)
    give = Load(Memory.UOP, 0, 0, 0, 0, 0, push_prev=True)

    def program(count: int) -> list[Instruction]:
        return [replace(nop, pop_next=True), *[nop] * (count - 2), replace(nop, push_next=True), give]

    simulator().execute([*program(512), Finish(pop_prev=True)])
    refused([*program(513), Finish(pop_prev=True)], 0, "deadlock")


def test_a_random_order_finds_a_missing_token() -> None:
    """ACC is written anew without waiting for the STORE before: some order stores the wrong elements."""
    program = whole()[:-1]
    program[-1] = replace(program[-1], push_prev=False)
    program += [load_acc(), Finish()]
    simulator().execute(program)
    with pytest.raises(SimulationError):
        for seed in range(20):
            simulator(order=seed).execute(program)


def test_arithmetic_wraps() -> None:
    """Left shifts fill bit 31 and drop what passes it; OUT keeps the low byte."""
    sim = simulator()
    sim.execute(whole(alu(AluOp.SHR, imm=-16), alu(AluOp.SHR, imm=-16), alu(imm=300)))
    assert set(sim.read(OUT, 128).tolist()) == {300 & 255}


@pytest.mark.parametrize("log_block, log_batch", [(2, 0), (3, 1), (4, 2), (5, 0)])
def test_other_shapes(log_block: int, log_batch: int) -> None:
    """One product of extreme and random values for other lanes; sums wrap at 32 bits."""
    config = Config(log_batch=log_batch, log_block=log_block, log_uop_buff_size=12, log_inp_buff_size=12,
                    log_wgt_buff_size=14, log_acc_buff_size=14)  # fmt: skip
    batch, block = config.batch, config.block
    rng = np.random.default_rng(log_block)
    rows = rng.integers(-128, 128, (batch, block)).astype(np.int8)
    weights = rng.integers(-128, 128, (block, block)).astype(np.int8)
    rows[0], weights[0] = -128, -128
    start = np.full((batch, block), 2**31 - 5, np.int32)
    sim = simulator(config)
    for address, data in ((0x40000, rows), (0x50000, weights), (0x60000, start)):
        sim.write(address, data.view(np.uint8).reshape(-1))
    sim.execute([
        Load(Memory.UOP, 0, UOPS // 4, 1, 1, 1),
        Load(Memory.ACC, 0, 0x60000 // (batch * block * 4), 1, 1, 1),
        Load(Memory.INP, 0, 0x40000 // (batch * block), 1, 1, 1),
        Load(Memory.WGT, 0, 0x50000 // block**2, 1, 1, 1, push_next=True),
        gemm(uop_end=1, pop_prev=True),
        Alu(AluOp.SHR, True, 3, 0, 1, 1, 1, 0, 0, 0, 0, push_next=True),
        Store(0, OUT // (batch * block), 1, 1, 1, pop_prev=True, push_prev=True),
        Finish(pop_next=True),
    ])  # fmt: skip
    total = start.astype(np.int64) + rows.astype(np.int64) @ weights.T.astype(np.int64)
    expected = (total.astype(np.int32) >> 3).astype(np.int8)
    found = sim.read(OUT, batch * block).view(np.int8).reshape(batch, block)
    assert np.array_equal(found, expected)


def test_page_zero_is_refused() -> None:
    assert PAGE == 0x1000
    refused(whole(last=store(dram=0xFF)), 3, "outside the memory")
