"""Which passes exist: one visible table, loaded lazily; third parties add theirs by entry point."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import entry_points

from optc.models.errors import InputError
from optc.passes.base import Pass
from optc.passes.text import from_text, suggest

PASSES = {
    "bind-shapes": "optc.passes.bind_shapes:BindShapes",
    "canonicalize": "optc.passes.canonicalize.canonicalize:Canonicalize",
    # The family that canonicalize runs to a fixed point.
    "bind-initializers": "optc.passes.canonicalize.bind_initializers:BindInitializers",
    "fold-affine": "optc.passes.canonicalize.fold_affine:FoldAffine",
    "fold-constants": "optc.passes.canonicalize.fold_constants:FoldConstants",
    "fold-pads": "optc.passes.canonicalize.fold_pads:FoldPads",
    "fold-shapes": "optc.passes.canonicalize.fold_shapes:FoldShapes",
    "fuse-gemm": "optc.passes.canonicalize.fuse_gemm:FuseGemm",
    "infer-shapes": "optc.passes.canonicalize.infer_shapes:InferShapes",
    "inline-ifs": "optc.passes.canonicalize.inline_ifs:InlineIfs",
    "merge-pairs": "optc.passes.canonicalize.merge_pairs:MergePairs",
    "merge-slices": "optc.passes.canonicalize.merge_slices:MergeSlices",
    "merge-views": "optc.passes.canonicalize.merge_views:MergeViews",
    "remove-dead": "optc.passes.canonicalize.remove_dead:RemoveDead",
    "remove-noops": "optc.passes.canonicalize.remove_noops:RemoveNoops",
    "share-constants": "optc.passes.canonicalize.share_constants:ShareConstants",
    "share-nodes": "optc.passes.canonicalize.share_nodes:ShareNodes",
    "upgrade-opset": "optc.passes.canonicalize.upgrade_opset:UpgradeOpset",
    "equalize": "optc.passes.equalize.equalize:Equalize",
    "convert-floats": "optc.passes.convert_floats.convert_floats:ConvertFloats",
    "move-preactivation": "optc.passes.preactivation.move:MovePreactivation",
    "integer-ends": "optc.passes.quantize.integer_ends:IntegerEnds",
    "partition": "optc.passes.partition.partition:Partition",
    "prune": "optc.passes.prune.prune:Prune",
    "prune-channels": "optc.passes.prune.prune_channels:PruneChannels",
    "quantize": "optc.passes.quantize.quantize:Quantize",
    "quantize-dynamic": "optc.passes.quantize.quantize_dynamic:QuantizeDynamic",
    "quantize-weights": "optc.passes.quantize.quantize_weights:QuantizeWeights",
    "requantize": "optc.passes.quantize.requantize:Requantize",
}
"""Pass name: module and class."""


def pass_names() -> list[str]:
    """The names of all passes, ours and those of the entry-point group `optc.passes`, sorted."""
    return sorted({*PASSES, *(e.name for e in entry_points(group="optc.passes"))})


def pass_class(name: str) -> type[Pass]:
    """The class of a pass; `InputError` with the nearest names where there is none."""
    if name in PASSES:
        module, _, cls = PASSES[name].partition(":")
        found: type[Pass] = getattr(import_module(module), cls)
        return found
    for entry in entry_points(group="optc.passes"):
        if entry.name == name:
            loaded: type[Pass] = entry.load()
            return loaded
    raise InputError(f"unknown pass '{name}'{suggest(name, pass_names())} (see: optc list passes)")


def parse_passes(text: str, standard: Sequence[Pass] | None = None) -> tuple[Pass, ...]:
    """The passes of a pipeline text; `standard` is what that word stands for (`InputError`)."""
    return from_text(text, pass_class, standard)
