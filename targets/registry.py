"""Which targets exist: one visible table, loaded lazily; third parties add theirs by entry point."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points

from optc.models.errors import InputError
from optc.passes.text import suggest
from optc.targets.base import Target

TARGETS = {
    "cpu": "optc.targets.cpu:Cpu",
    "cuda": "optc.targets.cuda.cuda:Cuda",
    "fpga": "optc.targets.fpga.fpga:Fpga",
    "onnxruntime": "optc.targets.onnxruntime:OnnxRuntime",
    "vta": "optc.targets.vta.vta:Vta",
}
"""Target name: module and class."""


def target_names() -> list[str]:
    """The names of all targets, ours and those of the entry-point group `optc.targets`, sorted."""
    return sorted({*TARGETS, *(e.name for e in entry_points(group="optc.targets"))})


def target_class(name: str) -> type[Target]:
    """The class of a target; `InputError` with the known names where there is none."""
    if name in TARGETS:
        module, _, cls = TARGETS[name].partition(":")
        found: type[Target] = getattr(import_module(module), cls)
        return found
    for entry in entry_points(group="optc.targets"):
        if entry.name == name:
            loaded: type[Target] = entry.load()
            return loaded
    raise InputError(f"unknown target '{name}'{suggest(name, target_names())} (see: optc list targets)")
