"""What `optc inspect` shows of VTA programs, in a file or in an artifact."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from optc.cli.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optc.targets.artifact import Artifact
    from optc.targets.vta.config import Config
    from optc.targets.vta.program import Program
    from optc.targets.vta.regions import Region


def show_program(file: str, config_file: str | None, disasm: bool, settings: Settings) -> None:
    """Print a program's size and memory, or its instructions as text (`InputError`)."""
    from optc.targets.vta.config import Config
    from optc.targets.vta.program import Program

    config = Config.load(Path(config_file)) if config_file else Config()
    program = Program.load(Path(file))
    if disasm:
        _disassembly(program, config, settings)
    else:
        _summary(program, config, settings)


def _disassembly(program: Program, config: Config, settings: Settings) -> None:
    from optc.cli.console import print_json
    from optc.targets.vta.isa import decode
    from optc.targets.vta.text import disassemble

    text = disassemble(decode(program.instructions, config)).rstrip("\n")
    if settings.json:
        print_json({"instructions": text.split("\n")})
    else:
        print(text)


def show_artifact(artifact: Artifact, settings: Settings) -> None:
    """Print the instructions of every launch of an artifact of `vta`, those of each layer under its name."""
    from optc.cli.console import print_json

    found = {region.name: list(_by_layer(region)) for region in _regions(artifact)}
    if settings.json:
        print_json({"launches": {name: [line for _, line in lines] for name, lines in found.items()}})
        return
    for number, (name, lines) in enumerate(found.items()):
        print(f"# launch {number}: {name}")
        before = ""
        for layer, line in lines:
            if layer != before:
                print(f"# {layer}")
                before = layer
            print(line)


def show_regions(artifact: Artifact) -> None:
    """Print a table of the launches of an artifact of `vta`."""
    from optc.cli.console import number, print_table, size

    rows = [
        (
            str(index),
            number(len(region.stages)),
            number(len(region.program.instructions)),
            number(sum(int(s["macs"]) for s in region.stages)),
            size(sum(data.nbytes for _, data in region.program.inputs)),
            ", ".join(p.value for p in region.outputs),
        )
        for index, region in enumerate(_regions(artifact))
    ]
    if rows:
        print_table(["launch", ">layers", ">instructions", ">MACs", ">constants", "makes"], rows)


def _regions(artifact: Artifact) -> list[Region]:
    from optc.targets.vta.config import Config
    from optc.targets.vta.regions import Region

    program = artifact.manifest["program"]
    entries = program.get("regions", [])
    return [Region.load(artifact.folder, e, Config.from_json(program["config"])) for e in entries]


def _by_layer(region: Region) -> Iterator[tuple[str, str]]:
    """The layer and the text of each instruction."""
    from optc.targets.vta.isa import decode
    from optc.targets.vta.text import line

    instructions = decode(region.program.instructions, region.config)
    for owner, instruction in zip(region.owners, instructions, strict=True):
        yield str(region.stages[owner]["label"]), line(instruction)


def _summary(program: Program, config: Config, settings: Settings) -> None:
    from optc.cli.console import print_json, print_table, size
    from optc.targets.vta.isa import decode

    kinds = Counter(type(i).__name__.upper() for i in decode(program.instructions, config))
    areas = [
        {"kind": kind, "address": address, "bytes": data.nbytes}
        for kind, given in (("in", program.inputs), ("out", program.expected))
        for address, data in given
    ]
    if settings.json:
        print_json({"instructions": dict(kinds), "memory": areas})
        return
    print_table(["instruction", ">count"], [(kind, str(count)) for kind, count in kinds.most_common()])
    rows = [(str(a["kind"]), f"{a['address']:#x}", size(int(str(a["bytes"])))) for a in areas]
    print_table(["memory", ">address", ">size"], rows)
