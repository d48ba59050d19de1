"""The whole family of exact clean-ups, run to a fixed point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from optc.models.errors import OptcError
from optc.models.model import Model
from optc.passes.base import Context, Contract, Exact, Pass
from optc.passes.canonicalize.bind_initializers import BindInitializers
from optc.passes.canonicalize.fold_affine import FoldAffine
from optc.passes.canonicalize.fold_constants import FoldConstants
from optc.passes.canonicalize.fold_pads import FoldPads
from optc.passes.canonicalize.fold_shapes import FoldShapes
from optc.passes.canonicalize.fuse_gemm import FuseGemm
from optc.passes.canonicalize.infer_shapes import InferShapes
from optc.passes.canonicalize.inline_ifs import InlineIfs
from optc.passes.canonicalize.merge_pairs import MergePairs
from optc.passes.canonicalize.merge_slices import MergeSlices
from optc.passes.canonicalize.merge_views import MergeViews
from optc.passes.canonicalize.remove_dead import RemoveDead
from optc.passes.canonicalize.remove_noops import RemoveNoops
from optc.passes.canonicalize.share_constants import ShareConstants
from optc.passes.canonicalize.share_nodes import ShareNodes
from optc.passes.canonicalize.upgrade_opset import UpgradeOpset

ROUNDS = 100
"""More rounds than this mean that two rewrites undo each other."""


@dataclass(frozen=True)
class Canonicalize:
    """Bring a model to its simplest equal form: the passes below, in order, until none changes anything.

    `opset`: upgrade to at least this version. `fold_limit`: how large folding constants may make the model,
    as a multiple of its size. Both as in `upgrade-opset` and `fold-constants`.
    """

    name: ClassVar[str] = "canonicalize"
    contract: ClassVar[Contract] = Exact()

    opset: int = 21
    fold_limit: float = 1.1

    def __post_init__(self) -> None:
        self.passes()

    def passes(self) -> tuple[Pass, ...]:
        """The family, in order; each is a pass of its own."""
        return (
            # Preparation
            BindInitializers(),
            UpgradeOpset(self.opset),
            # What is constant
            FoldConstants(self.fold_limit),
            InferShapes(),
            FoldShapes(),
            InlineIfs(),
            # What is superfluous
            RemoveNoops(),
            MergeViews(),
            MergePairs(),
            MergeSlices(),
            RemoveDead(),
            # What fits into another node
            FoldPads(),
            FuseGemm(),
            FoldAffine(),
            # What is there twice
            ShareConstants(),
            ShareNodes(),
        )

    def run(self, model: Model, context: Context) -> bool:
        """Run the family; True if any of it changed something."""
        passes = self.passes()
        version, clean = 0, [-1] * len(passes)
        for _ in range(ROUNDS):
            if all(seen == version for seen in clean):
                _without_repeats(context)
                return version > 0
            for place, p in enumerate(passes):
                if clean[place] == version:
                    continue
                before = model.changed
                changed = p.run(model, context)
                model.changed = before or changed
                version += changed
                clean[place] = -1 if changed else version
        raise OptcError(f"model '{model.name}': canonicalize found no end after {ROUNDS} rounds; report this")


def _without_repeats(context: Context) -> None:
    context.declined[:] = list(dict.fromkeys(context.declined))
