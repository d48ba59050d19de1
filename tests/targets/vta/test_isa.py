"""Instructions as bits and as text."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optc.models.errors import InputError
from optc.targets.vta.config import Config, Memory
from optc.targets.vta.isa import (
    Alu,
    AluOp,
    Finish,
    Gemm,
    Instruction,
    Load,
    Module,
    Opcode,
    Store,
    decode,
    decode_uops,
    encode,
    encode_uops,
    is_nop,
    layout,
    module_of,
)
from optc.targets.vta.program import Program
from optc.targets.vta.text import assemble, disassemble

VECTORS = sorted((Path(__file__).parent / "vectors").glob("*.npz"))
CONFIG = Config()
SMALL = Config(
    log_block=3, log_inp_buff_size=14, log_wgt_buff_size=15, log_acc_buff_size=16, log_uop_buff_size=14
)

LOOPS = (0, 14)
EXAMPLES: list[tuple[Instruction, str]] = [
    (
        Load(Memory.INP, 0x40, 0x1234, 8, 14, 56, 1, 0, 1, 1, pop_next=True, push_next=True),
        "500101d04800000008000e0038000111",
    ),
    (
        Gemm(False, 3, 12, 7, 14, 14, 1, 16, 1, 0, 0, pop_prev=True, push_prev=True),
        "2a03800138001c000e08000402000000",
    ),
    (
        Alu(AluOp.SHR, True, 8, 12, 13, 1, 98, 0, 1, 0, 1, push_next=True),
        "440ca0010800c4000008000002b00800",
    ),
    (Alu(AluOp.MAX, True, -128, 12, 13, 1, 98, 0, 1, 0, 1), "040ca0010800c40000080000029080ff"),
    (Store(0, 0x2000, 7, 14, 56, pop_prev=True, push_prev=True), "290200008000000007000e0038000000"),
    (Finish(pop_next=True), "13000000000000000000000000000000"),
]


@pytest.mark.parametrize(("instruction", "text"), EXAMPLES, ids=[type(i).__name__ for i, _ in EXAMPLES])
def test_bits_are_those_of_the_original_header(instruction: Instruction, text: str) -> None:
    assert encode([instruction], CONFIG).tobytes().hex() == text
    assert decode(np.frombuffer(bytes.fromhex(text), np.uint8).reshape(1, 16), CONFIG) == [instruction]


@pytest.mark.parametrize("path", VECTORS, ids=lambda p: p.stem)
def test_vectors_survive_bits_and_text(path: Path) -> None:
    stream = Program.load(path).instructions
    instructions = decode(stream, CONFIG)
    assert np.array_equal(encode(instructions, CONFIG), stream)
    assert assemble(disassemble(instructions)) == instructions


@st.composite
def instructions(draw: st.DrawFn, config: Config) -> Instruction:
    """Any values that the fields hold, sensible or not."""
    opcode = draw(st.sampled_from(Opcode))
    kinds = {
        Opcode.LOAD: Load,
        Opcode.STORE: Store,
        Opcode.GEMM: Gemm,
        Opcode.ALU: Alu,
        Opcode.FINISH: Finish,
    }
    values: dict[str, object] = {}
    for name, field in layout(opcode, config).items():
        low = -(1 << field.width - 1) if field.signed else 0
        if name == "memory":
            values[name] = draw(st.sampled_from(Memory))
        elif name == "op":
            values[name] = draw(st.sampled_from(AluOp))
        elif name != "opcode":
            value = draw(st.integers(low, low + (1 << field.width) - 1))
            values[name] = bool(value) if field.width == 1 else value
    return kinds[opcode](**values)  # type: ignore[no-any-return]


@pytest.mark.parametrize("config", [CONFIG, SMALL], ids=["default", "block 8"])
@given(data=st.data())
def test_any_instruction_survives_bits_and_text(config: Config, data: st.DataObject) -> None:
    drawn = data.draw(st.lists(instructions(config), max_size=5))
    assert decode(encode(drawn, config), config) == drawn
    assert assemble(disassemble(drawn)) == drawn


def test_fields_do_not_overlap() -> None:
    for config in (CONFIG, SMALL, Config(log_batch=2, log_block=5)):
        for opcode in Opcode:
            fields = layout(opcode, config).values()
            bits = [b for f in fields for b in range(f.offset, f.offset + f.width)]
            assert len(bits) == len(set(bits)) and max(bits) < 128
            assert not any(f.offset < 64 < f.offset + f.width for f in fields)


def test_value_beyond_its_field() -> None:
    finish, load = Finish(), Load(Memory.INP, 1 << 16, 0, 1, 1, 1)
    with pytest.raises(InputError, match=r"instruction 1 \(LOAD\): sram 65536 does not fit 16 bits"):
        encode([finish, load], CONFIG)


def test_bits_of_another_configuration() -> None:
    gemm = Gemm(False, 0, 1, 1, 1, 0, 0, 0, 0, 0, 1023)
    with pytest.raises(InputError, match=r"instruction 0 \(GEMM\): bit \d+ is set but belongs to no field"):
        decode(encode([gemm], CONFIG), SMALL)


@pytest.mark.parametrize("opcode", [5, 6, 7])
def test_opcode_that_does_not_exist(opcode: int) -> None:
    stream = np.zeros((1, 16), np.uint8)
    stream[0, 0] = opcode
    with pytest.raises(InputError, match=f"instruction 0: opcode {opcode} is none of"):
        decode(stream, CONFIG)


def test_memory_and_alu_operation_that_do_not_exist() -> None:
    stream = encode([Load(Memory.INP, 0, 0, 1, 1, 1), EXAMPLES[2][0]], CONFIG)
    wrong = stream.copy()
    wrong[0, 0] |= 0x80
    wrong[0, 1] |= 0x03
    with pytest.raises(InputError, match="instruction 0: memory 7 does not exist"):
        decode(wrong, CONFIG)
    stream[1, 13] |= 0x70
    with pytest.raises(InputError, match="instruction 1: op 7 does not exist"):
        decode(stream, CONFIG)


def test_a_stream_is_rows_of_16_bytes() -> None:
    with pytest.raises(InputError, match="an instruction stream is"):
        decode(np.zeros(16, np.uint8), CONFIG)


def test_micro_ops() -> None:
    words = encode_uops(np.array([5]), np.array([33]), np.array([9]), CONFIG)
    assert words.tolist() == [0x02410805]
    assert decode_uops(words, CONFIG).tolist() == [[5, 33, 9]]
    with pytest.raises(InputError, match="a micro-op's dst 2048 does not fit 11 bits"):
        encode_uops(np.array([2048]), np.array([0]), np.array([0]), CONFIG)


def test_modules() -> None:
    modules = [module_of(i) for i, _ in EXAMPLES]
    assert modules == [Module.LOAD, *[Module.COMPUTE] * 3, Module.STORE, Module.COMPUTE]
    for memory in (Memory.UOP, Memory.ACC):
        assert module_of(Load(memory, 0, 0, 1, 1, 1)) == Module.COMPUTE


def test_nops_move_nothing() -> None:
    assert is_nop(Store(0, 0, 0, 0, 0)) and is_nop(Load(Memory.INP, 0, 0, 0, 0, 0))
    assert not any(is_nop(i) for i, _ in EXAMPLES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("finish\nfinnish", "line 2: 'finnish' is none of"),
        ("load xyz sram=0", "line 1: cannot read 'load xyz sram=0': no 'XYZ'"),
        ("load inp sram=0", "no 'dram'"),
        ("finish sram=0", "'sram=0' has no place here"),
        ("gemm uops=0 iter=1,1 dst=0,0 src=0,0 wgt=0,0", "'uops=0' needs 2 numbers"),
        ("alu add uops=0:1 iter=1,1 dst=0,0 src=0,0", "give imm=NUMBER or tensor"),
        ("store out sram=x", "invalid literal"),
    ],
)
def test_text_that_is_no_program(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        assemble(text)


def test_comments_and_blank_lines() -> None:
    assert assemble("# nothing\n\nfinish pop_next # the end\n") == [Finish(pop_next=True)]


def test_flags_default_to_false() -> None:
    assert not any(dataclasses.asdict(Finish()).values())
