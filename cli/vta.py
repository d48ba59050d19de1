"""`optc vta`: VTA programs by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from optc.cli.settings import common_options, settings_of, verb

if TYPE_CHECKING:
    from optc.targets.vta.config import Config
    from optc.targets.vta.device import Device
    from optc.targets.vta.program import Program


@click.group("vta", params=common_options())
def command() -> None:
    """Run VTA programs by themselves, on a simulator.

    The format of a program's file, the machine and its rules: docs/vta.md.
    """


@verb("exec")
@click.argument("file", metavar="FILE.npz")
@click.option("--device", type=click.Choice(["fsim", "timed", "rtl"]), default="fsim", show_default=True)
@click.option(
    "--timing",
    type=click.Choice(["pynq", "de10", "optc"]),
    help="Whose cycles `timed` counts (default: pynq).",
)
@click.option("--config", metavar="vta.json", help="The machine's configuration; else the original's.")
@click.option("--order", type=int, metavar="SEED", help="Run ready instructions in random order (fsim).")
@click.option("--unchecked", is_flag=True, help="Skip the checker; the simulator itself stops at a fault.")
@click.option("--profile", is_flag=True, help="Show where the cycles go (timed).")
@click.option("--latency", type=click.IntRange(0, 100_000), help="Cycles until memory answers (rtl; 16).")
@click.option("--stall", type=click.IntRange(0, 255), help="Of 256 cycles, in how many memory waits (rtl).")
@click.option("--trace", metavar="FROM:TO", help="Write these cycles to FILE.vcd, in this folder (rtl).")
@click.pass_context
def execute(ctx: click.Context, /, file: str, **options: Any) -> int:
    """Run one program and compare the memory with what the file expects.

    FILE.npz holds instructions, memory before and memory after. Exit status 1: the memory differs.
    """
    from optc.cli.console import print_json
    from optc.targets.vta.config import Config
    from optc.targets.vta.program import Program

    settings = settings_of(ctx)
    _refuse(options)
    config = Config.load(Path(options["config"])) if options["config"] else Config()
    program = Program.load(Path(file))
    if not options["unchecked"]:
        _check(program, config)
    device = _device(program, config, options | {"file": file}, settings.quiet)
    cycles = _run(program, device)
    found = {"device": options["device"], "cycles": cycles, **_compare(program, device)}
    if options["profile"]:
        found["profile"] = _profile(device)
    if settings.json:
        print_json(found)
    elif not settings.quiet:
        _print(found)
    return 0 if found["match"] else 1


command.add_command(execute)


_NEEDS = {
    "timing": "timed",
    "profile": "timed",
    "order": "fsim",
    "latency": "rtl",
    "stall": "rtl",
    "trace": "rtl",
}
"""The device that an option is for."""


def _refuse(options: dict[str, Any]) -> None:
    """Options of one device given to the other (`UsageError`)."""
    for name, device in _NEEDS.items():
        if options[name] not in (None, False) and options["device"] != device:
            raise click.UsageError(f"--{name} needs --device {device}")


def _check(program: Program, config: Config) -> None:
    """Prove the program well-formed (`CheckFailure`)."""
    from optc.targets.vta.check import check
    from optc.targets.vta.isa import decode

    check(decode(program.instructions, config), config, program.memory_image())


def _device(program: Program, config: Config, options: dict[str, Any], quiet: bool) -> Device:
    """The simulator asked for, with memory up to the highest address of the file, at least the usual size."""
    from optc.targets.vta.sim import MEMORY_BYTES, Fsim

    memory = max(MEMORY_BYTES, program.place() + program.instructions.nbytes)
    if options["device"] == "fsim":
        return Fsim(config, memory, options["order"])
    if options["device"] == "rtl":
        return _rtl(config, memory, options, quiet)
    from optc.targets.vta.timed import Timed
    from optc.targets.vta.timing import TIMINGS

    return Timed(config, TIMINGS[options["timing"] or "pynq"], memory)


def _rtl(config: Config, memory: int, options: dict[str, Any], quiet: bool) -> Device:
    """The RTL in Verilator, built on the first use."""
    from optc.cli.progress import terminal_progress
    from optc.targets.fpga.rtlsim import Bus, RtlSim, Waves

    trace, path = options["trace"], Path(options["file"]).with_suffix(".vcd").name
    waves = Waves(Path(path), *_window(trace)) if trace else None
    with terminal_progress(quiet) as progress:
        if progress:
            progress.begin("building the RTL's simulator (once)")
        given = {n: options[n] for n in ("latency", "stall") if options[n] is not None}
        return RtlSim(config, memory, Bus(**given), waves)


def _window(text: str) -> tuple[int, int]:
    """Two cycles out of FROM:TO (`UsageError` where they are none)."""
    first, _, last = text.partition(":")
    if not (first.isdecimal() and last.isdecimal() and int(first) < int(last)):
        raise click.UsageError(f"--trace {text}: not of the form FROM:TO, two cycles, such as 0:500")
    return int(first), int(last)


def _run(program: Program, device: Device) -> int:
    """Write memory, run, and give the cycles."""
    for address, data in program.inputs:
        device.write(address, data)
    start = program.place()
    device.write(start, program.instructions.reshape(-1))
    return device.run(start, len(program.instructions))


def _compare(program: Program, device: Device) -> dict[str, Any]:
    """How many expected bytes there are, how many of them differ, and the one of the lowest address."""
    import numpy as np

    first: dict[str, Any] | None = None
    differ = 0
    for address, want in program.expected:
        got = device.read(address, want.nbytes)
        where = np.flatnonzero(got != want)
        differ += where.size
        if where.size and (first is None or address + where[0] < first["address"]):
            at = int(where[0])
            first = {"address": address + at, "got": int(got[at]), "want": int(want[at])}
    compared = sum(want.nbytes for _, want in program.expected)
    return {"match": first is None, "compared": compared, "differ": differ, "first": first}


def _profile(device: Device) -> dict[str, dict[str, int]]:
    """Cycles that each module was busy, waited for a token, waited for memory."""
    from dataclasses import asdict

    from optc.targets.vta.timed import Timed

    assert isinstance(device, Timed) and device.report is not None
    return {module.name.lower(): asdict(activity) for module, activity in device.report.modules.items()}


def _print(found: dict[str, Any]) -> None:
    from optc.cli.console import console, print_table

    out, first = console(), found["first"]
    if first is None:
        out.print(f"match: {found['compared']} bytes are as expected")
    else:
        place = f"{first['address']:#x}: got {first['got']:#04x}, want {first['want']:#04x}"
        out.print(f"no match: {found['differ']} of {found['compared']} bytes differ, first at {place}")
    if found["device"] != "fsim":
        out.print(f"{found['cycles']} cycles")
    else:
        out.print("cycles: fsim counts none; --device timed and --device rtl do")
    if "profile" in found:
        rows = [(name, *(str(v) for v in spent.values())) for name, spent in found["profile"].items()]
        print_table(["cycles", ">busy", ">waits for a token", ">waits for memory"], rows)


@verb("export")
@click.argument("artifact", metavar="DIR")
@click.option("-i", "--inputs", metavar="IN.npz", help="Inputs by name, batch first; else generated ones.")
@click.option("-o", "--out", metavar="FOLDER", required=True, help="A new or empty folder.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of generated inputs.")
@click.pass_context
def export(ctx: click.Context, /, artifact: str, inputs: str | None, out: str, seed: int) -> None:
    """Write the VTA programs of an artifact with memory before and after, for one input.

    DIR is a folder that `optc compile --target vta` wrote. Each launch becomes a file that `optc vta exec`
    runs and compares, and so can any other implementation of VTA.
    """
    from optc.cli.arrays import feeds_for
    from optc.cli.console import console, print_json
    from optc.targets.artifact import load
    from optc.targets.vta.export import export_launches

    settings = settings_of(ctx)
    loaded = load(artifact)
    files = export_launches(loaded, feeds_for(loaded.model, inputs, seed), Path(out))
    if settings.json:
        print_json({"files": [str(f) for f in files]})
    elif not settings.quiet:
        for file in files:
            console().print(f"wrote {file}")


command.add_command(export)
