"""Target `fpga`: VTA on a board with a Lattice ECP5, programs and bitstream, simulated."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import onnx_graphsurgeon as gs

from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.session import Session
from optc.passes.base import Pass, Progress
from optc.passes.cost import Cost
from optc.passes.verify.inputs import generate_runnable
from optc.targets.artifact import Artifact
from optc.targets.base import Runner
from optc.targets.fpga import bitstream
from optc.targets.fpga.boards import Board, board
from optc.targets.fpga.boards.board import BANK_BYTES
from optc.targets.fpga.design import Design
from optc.targets.fpga.energy import energy
from optc.targets.vta.config import Config
from optc.targets.vta.device import PAGE, Device
from optc.targets.vta.timing import TIMINGS
from optc.targets.vta.vta import Vta, VtaRunner, compile_for, runner_on


@dataclass(frozen=True)
class Fpga:
    """VTA on a `board`, whose file says which configuration; `device`: what runs it here.

    `fsim`, `timed`, `rtl`: the simulators of `vta`; `board`: the RTL of the whole design with its serial
    line; `netlist`: what synthesis made of it.
    """

    name: ClassVar[str] = "fpga"

    board: str = "ulx3s-85f"
    device: Literal["fsim", "timed", "rtl", "board", "netlist"] = "fsim"
    seed: int = 1

    def __post_init__(self) -> None:
        """`InputError` where there is no such board."""
        board(self.board)

    def passes(self) -> tuple[Pass, ...]:
        """Those of VTA."""
        return Vta().passes()

    def accepts(self, node: gs.Node) -> str | None:
        """None: what VTA does not take runs on the host."""
        return None

    def cost(self, model: Model) -> Cost:
        """A roofline estimate at the clock that the board is to run at."""
        from optc.targets.measure import Roofline

        found = board(self.board)
        rate = found.target_mhz * 1e6
        name = f"VTA on {found.name} at {found.target_mhz:g} MHz"
        return Roofline(name, found.config.macs_per_cycle * rate, 8 * rate).estimate(model)

    def build(self, model: Model, out: Path) -> Artifact:
        """Compile `model` into the folder `out`, without the bitstream.

        Raises `InputError` where the programs and their data pass the memory of the board's design.
        """
        found = board(self.board)
        program, placement = compile_for(model, out, found.config, TIMINGS["optc"])
        _check_memory(program, found)
        return Artifact.create(out, self, model, program, placement)

    def finish(self, artifact: Artifact, progress: Progress) -> None:
        """Add the board's bitstream, which depends on no model: made once, then kept; and the report.

        Raises `MissingError` where a tool is not installed.
        """
        folder = bitstream.make(board(self.board), self.seed, progress)
        for name in bitstream.FILES:
            shutil.copy(folder / name, artifact.folder / name)
        runner = replace(self, device="timed").runner(artifact)
        if isinstance(runner, VtaRunner):
            runner.run(generate_runnable(artifact.model, Session(artifact.model), seed=0))
            found = _summary(bitstream.load_report(folder), runner)
            (artifact.folder / bitstream.REPORT).write_text(json.dumps(found, indent=1) + "\n")
        artifact.include()

    def runner(self, artifact: Artifact) -> Runner:
        """Load the artifact onto a simulator."""
        return runner_on(artifact, self.simulator)

    def simulator(self, config: Config, end: int) -> Device:
        """The device of `device`, with memory up to the address `end`."""
        if self.device in ("board", "netlist"):
            return self._board(config)
        vta = Vta(device=self.device, timing="optc")  # type: ignore[arg-type]
        return vta.simulator(config, end)

    def _board(self, config: Config) -> Device:
        from optc.targets.fpga.boardsim import SimulatedLink, netlist_library, rtl_library
        from optc.targets.fpga.link import LinkedBoard

        make = netlist_library if self.device == "netlist" else rtl_library
        return LinkedBoard(config, SimulatedLink(make(Design(board(self.board)))))


def _check_memory(program: Mapping[str, Any], found: Board) -> None:
    end = max((r["end"] for r in program.get("regions", ())), default=0)
    room = found.banks * BANK_BYTES
    if end - PAGE > room:
        raise InputError(
            f"its programs, weights and values take {(end - PAGE) / 1024:.0f} KiB, the memory of "
            f"{found.name}'s design holds {room // 1024} KiB: give a smaller network, or compile it for vta"
        )


def _summary(report: bitstream.Report, runner: VtaRunner) -> dict[str, Any]:
    """The bitstream's report, and what the one sample took that `runner` has run with cycles."""
    seconds = runner.cycles / (report.mhz * 1e6)
    macs = sum(stage["macs"] for region in runner.regions for stage in region.stages)
    return {
        **vars(report),
        "mhz": report.mhz,
        "cycles": runner.cycles,
        "macs": macs,
        "milliseconds": round(seconds * 1e3, 4),
        "gmac_per_second": round(macs / seconds / 1e9, 3) if seconds else 0.0,
        "energy": energy(macs, seconds),
    }
