"""What `optc inspect` shows of a VTA program in a file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from optc.cli.settings import Settings

if TYPE_CHECKING:
    from optc.targets.vta.config import Config
    from optc.targets.vta.program import Program


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
