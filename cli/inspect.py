"""`optc inspect`: what is in a model or an artifact."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from optc.cli.settings import Settings, settings_of, verb
from optc.models.errors import InputError

if TYPE_CHECKING:
    from optc.models.model import Model
    from optc.targets.artifact import Artifact


@verb("inspect")
@click.argument("what", metavar="MODEL|DIR|PROGRAM")
@click.option("--disasm", is_flag=True, help="Print instructions of a VTA program or artifact as text.")
@click.option("--config", metavar="vta.json", help="The configuration of a VTA program, if not the default.")
@click.option("--sensitivity", is_flag=True, help="What each layer of MODEL loses by itself, quantized.")
@click.option("--calib", metavar="X.npz", help="Samples for it, by input name, batch first.")
@click.option("--samples", type=click.IntRange(min=1), help="Use so many of them (16).")
@click.option("--plot", metavar="OUT.svg", help="Draw it, too.")
@click.pass_context
def command(ctx: click.Context, /, what: str, disasm: bool, config: str | None, **options: Any) -> None:
    """Show what is in a model, an artifact or a VTA program.

    Size, operators, inputs, outputs, metadata; of an artifact also its files, its launches on VTA and where
    its nodes run.

    MODEL is an .onnx file or zoo:NAME, DIR an artifact, PROGRAM a VTA program (.npz).
    """
    if options.pop("sensitivity"):
        from optc.cli.sensitivity import show_sensitivity

        if disasm or config:
            raise click.UsageError("give --sensitivity or --disasm, not both")
        show_sensitivity(what, settings_of(ctx), **options)
        return
    for name, value in options.items():
        if value is not None:
            raise click.UsageError(f"--{name} goes with --sensitivity")
    if what.endswith(".npz"):
        from optc.cli.program import show_program

        show_program(what, config, disasm, settings_of(ctx))
        return
    if disasm and not config and Path(what).is_dir():
        from optc.cli.program import show_artifact
        from optc.targets.artifact import load

        artifact = load(what)
        if artifact.manifest["program"].get("regions"):
            show_artifact(artifact, settings_of(ctx))
            return
    if disasm or config:
        raise InputError(f"{what}: holds no VTA program; --disasm takes one (.npz), or an artifact of vta")
    _show(what, settings_of(ctx))


def _show(what: str, settings: Settings) -> None:
    from optc.cli.console import print_json
    from optc.models.source import open_source
    from optc.targets.artifact import load

    artifact = load(what) if Path(what).is_dir() else None
    model = artifact.model if artifact else open_source(what).model
    found = model_json(model)
    if settings.json:
        print_json(found | ({"manifest": artifact.manifest} if artifact else {}))
        return
    _print_model(found)
    if artifact:
        _print_artifact(artifact, settings)


def model_json(model: Model) -> dict[str, Any]:
    """Name, opset, counts, operators, inputs, outputs and metadata of a model."""
    from optc.passes.analysis.counts import count
    from optc.targets.compiler import all_nodes
    from optc.targets.feeds import inputs_of, outputs_of

    header, graph = model.header, model.to_proto(embed=False).graph
    ops = Counter((f"{n.domain}." if n.domain else "") + n.op for n in all_nodes(model.view))
    return {
        "name": model.name,
        "producer": f"{header.producer_name} {header.producer_version}".strip(),
        "ir_version": header.ir_version,
        "opsets": {o.domain or "ai.onnx": o.version for o in header.opset_import},
        "counts": dataclasses.asdict(count(model)),
        "operators": dict(sorted(ops.items(), key=lambda item: (-item[1], item[0]))),
        "inputs": inputs_of(graph),
        "outputs": outputs_of(graph),
        "metadata": model.metadata(),
    }


def _print_model(found: dict[str, Any]) -> None:
    from optc.cli.console import console, number, print_table, size
    from optc.cli.tables import macs
    from optc.passes.analysis.counts import Counts

    counts = Counts(**found["counts"])
    opsets = ", ".join(f"{domain} {version}" for domain, version in found["opsets"].items())
    free = " (free dimensions count as 1)" if counts.free else ""
    print_table(
        ["model", found["name"]],
        [
            ("producer", found["producer"]),
            ("IR, opsets", f"{found['ir_version']}, {opsets}"),
            ("nodes", number(counts.nodes)),
            ("parameters", number(counts.parameters)),
            ("MACs", macs(counts) + free),
            ("tensors", size(counts.bytes)),
            *((f"metadata {k}", v) for k, v in found["metadata"].items()),
        ],
    )
    ends = [(k, v) for k in ("inputs", "outputs") for v in found[k]]
    rows = [(kind[:-1], v["name"], str(v["dtype"]), _shape(v["shape"])) for kind, v in ends]
    print_table(["", "name", "dtype", "shape"], rows)
    print_table(["operator", ">nodes"], [(k, str(v)) for k, v in found["operators"].items()])
    console().print("")


def _shape(shape: list[Any] | None) -> str:
    return "any" if shape is None else "[" + ", ".join("?" if d is None else str(d) for d in shape) + "]"


def _print_artifact(artifact: Artifact, settings: Settings) -> None:
    from optc.cli.console import print_table
    from optc.cli.program import show_regions
    from optc.cli.tables import print_placement

    manifest = artifact.manifest
    rows = [
        ("target", manifest["target"]),
        ("pipeline", manifest.get("pipeline", "")),
        *((f"file {name}", f"sha256 {digest}") for name, digest in manifest["files"].items()),
        *((f"built with {name}", version) for name, version in manifest["versions"].items()),
    ]
    print_table(["artifact", str(artifact.folder)], rows)
    show_regions(artifact)
    print_placement(artifact.placement, settings.verbose)
