"""Cycles of an artifact on VTA's timed simulator: totals, layers, roofline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def profile_json(runner: Any, layers: bool) -> dict[str, Any]:
    """Cycles and utilisation of what a runner ran last, with `layers` of each; {} where it counts none.

    The RTL gives its cycles alone.
    """
    from optc.targets.vta.profile import profile
    from optc.targets.vta.vta import VtaRunner

    if not isinstance(runner, VtaRunner):
        return {}
    if not runner.reports:
        return {"cycles": runner.cycles} if runner.cycles else {}
    regions = []
    for region, report in runner.reports.values():
        found = profile(region, report, runner.config)
        regions.append((region, report, found))
    cycles = sum(report.cycles for _, report, _ in regions)
    macs = sum(layer.macs for _, _, found in regions for layer in found)
    peak = runner.config.batch * runner.config.block**2
    summary: dict[str, Any] = {
        "cycles": cycles,
        "macs_on_vta": macs,
        "utilisation": round(macs / (peak * cycles), 4),
    }
    if layers:
        summary["layers"] = [layer.json(runner.config) for _, _, found in regions for layer in found]
    return summary


def print_cycles(found: Mapping[str, Any]) -> None:
    """The line of totals, where there are any."""
    from optc.cli.console import console

    if "cycles" in found:
        line = f"{found['cycles']:,} cycles on VTA a sample"
        if "utilisation" in found:
            line += f", {found['macs_on_vta']:,} multiply-accumulates"
            line += f", GEMM utilisation {found['utilisation']:.1%}"
        console().print(line)
    if "accuracy" in found:
        score = found["accuracy"]
        console().print(
            f"{score['metric']} on VTA {score['value']:.4f} [{score['low']:.4f}, {score['high']:.4f}], "
            f"{score['samples']} samples"
        )


def print_profile(runner: Any, layers: bool) -> None:
    """What `profile_json` gives, as tables and a drawing; a line says where there is nothing to show."""
    from optc.cli.console import console, print_table, size
    from optc.targets.vta.profile import marked, profile, roofline

    print_cycles(profile_json(runner, layers=False))
    if not layers:
        return
    if not getattr(runner, "reports", None):
        console().print("no layers to show: --device timed counts the cycles of each")
        return
    for region, report in runner.reports.values():
        found = profile(region, report, runner.config)
        rows = [
            (
                mark,
                layer.label,
                f"{layer.cycles:,}",
                f"{layer.utilisation(runner.config):.1%}",
                f"{layer.steps:,}",
                f"{layer.passes:,}",
                size(layer.read),
                size(layer.written),
                f"{layer.waited:,}",
                f"{layer.cycles / layer.floor:.3f}" if layer.floor else "",
            )
            for mark, layer in marked(found)
        ]
        heads = ["", "layer", ">cycles", ">GEMM use", ">steps", ">passes", ">read", ">written"]
        print_table([*heads, ">waited", ">to floor"], rows)
        console().print(roofline(found, runner.config), markup=False, highlight=False)
