"""Convert a float32 graph to float16 or bfloat16, where its operators and its numbers allow it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import onnx
import onnx_graphsurgeon as gs

from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.base import Context, Contract, Declined, Lossy
from optc.passes.canonicalize.edit import Edit, all_graphs
from optc.passes.convert_floats.choose import Chooser
from optc.passes.convert_floats.islands import REASON, drop_islands
from optc.passes.convert_floats.rewrite import Rewrite
from optc.passes.convert_floats.small import SMALL, Plan, Small, cast_refusal
from optc.passes.convert_floats.values import WHO, Values, observed
from optc.passes.float_ends import End, note_ends
from optc.passes.names import layer_name, match_patterns


@dataclass(frozen=True)
class ConvertFloats:
    """Let constants and nodes be of a 16-bit float type; Casts stand where a float32 node meets them.

    `to`: the type; `keep`: name patterns of nodes that stay float32; `ends`: whether the inputs and outputs
    of the graph stay float32 or are `converted` too; `samples`: use only that many calibration samples.

    Float32 stays what the operator's schema asks for at the model's opset, what adds up squares or many
    values, what works on codes or holds subgraphs, what has constants beyond the type's range or too small
    for it, and, where there are calibration samples, what comes near the end of the range on them. A group of
    nodes without a layer or much of weights stays where only Casts would be added. A layer that `quantize`
    left float is converted, too.

    ONNX Runtime has few CPU kernels for bfloat16: such a model is for other devices, and optc itself runs its
    nodes in float32 between Casts to check it.
    """

    name: ClassVar[str] = WHO

    to: Literal["float16", "bfloat16"] = "float16"
    keep: tuple[str, ...] = ()
    ends: Literal["float32", "converted"] = "float32"
    samples: int | None = None

    def __post_init__(self) -> None:
        if self.samples is not None and self.samples < 1:
            raise InputError(f"{self.name}: samples {self.samples} is not at least 1")

    @property
    def contract(self) -> Contract:
        """Float32's precision goes."""
        return Lossy(f"the precision beyond {self.to}")

    def run(self, model: Model, context: Context) -> bool:
        """Convert; declines a graph whose types contradict each other, or whose opset knows no such Cast.

        Raises `InputError` where a pattern matches no node, or the samples do not fit.
        """
        names = [layer_name(n) for n in model.view.nodes if n.name or n.outputs]
        matched = set(match_patterns(self.name, names, self.keep, "node"))
        kept = {id(n) for n in model.view.nodes if (n.name or n.outputs) and layer_name(n) in matched}
        values = _values(model, SMALL[self.to])
        if isinstance(values, str):
            context.declined.append(Declined(f"graph {model.name}", values))
            return False
        seen = observed(model, values, context, self.samples)
        opsets = {o.domain if o.domain != "ai.onnx" else "": o.version for o in model.header.opset_import}
        chooser = Chooser(values, SMALL[self.to], opsets, seen, kept)
        ends = self._small_ends(model, values, seen, context)
        plans = self._plans(model, chooser, values, ends, context)
        if not plans and not ends:
            return False
        self._rewrite(model, values, chooser, plans, ends, context)
        return True

    def _small_ends(self, model: Model, values: Values, seen: dict[str, float], context: Context) -> set[str]:
        """Names of the inputs and outputs of the graph that become small."""
        if self.ends == "float32":
            return set()
        ends: set[str] = set()
        passed = {t.name for t in model.view.inputs} & values.outputs  # an input that is an output, too
        for tensor in (*model.view.inputs, *model.view.outputs):
            fixed = tensor.name in values.returned | passed or isinstance(tensor, gs.Constant)
            if not values.is_wide(tensor) or fixed:
                continue
            reached, largest = seen.get(tensor.name, 0.0), SMALL[self.to].largest
            if reached > largest:
                reason = f"it reached {reached:.3g} on the samples, {self.to} reaches {largest:g}"
                context.declined.append(Declined(f"{tensor.name} (an end of the graph)", reason))
            else:
                ends.add(tensor.name)
        return ends

    def _plans(
        self, model: Model, chooser: Chooser, values: Values, ends: set[str], context: Context
    ) -> dict[int, Plan]:
        """What becomes small, by id(node); the others are declined, in graph order."""
        plans: dict[int, Plan] = {}
        reasons: dict[int, str] = {}
        for node in context.visit(model.view.nodes):
            if node.op == "Constant" or any(values.copied(t) for t in node.outputs):
                continue
            if node.op == "Cast" and not values.is_wide(node.outputs[0]):
                continue
            found = chooser.plan(node)
            if isinstance(found, Plan):
                plans[id(node)] = found
            elif found is not None:
                reasons[id(node)] = found
        for node in drop_islands(plans, values, lambda t: t.name in ends):
            if any(values.is_wide(t) for t in node.outputs):
                reasons[id(node)] = REASON
        for node in model.view.nodes:
            if id(node) in reasons:
                context.decline(node, reasons[id(node)])
        return plans

    def _rewrite(
        self,
        model: Model,
        values: Values,
        chooser: Chooser,
        plans: dict[int, Plan],
        ends: set[str],
        context: Context,
    ) -> None:
        kept = {t.name for graph in all_graphs(model.view) for t in graph.outputs}
        edit = Edit(model.graph, model, context, kept)
        rewrite = Rewrite(edit, values, SMALL[self.to], plans, ends, chooser.may_overflow)
        rewrite.run()
        edit.finish()
        if ends:
            note_ends(model, {name: End(self.to) for name in ends})
        context.facts.update(
            converted=len(plans),
            casts=rewrite.casts,
            constants=rewrite.constants,
            underflow={name: {"zero": z, "subnormal": s} for name, (z, s) in rewrite.lost.items()},
        )


def _values(model: Model, small: Small) -> Values | str:
    """What is known of the values of `model`, or why it cannot be converted."""
    try:
        return cast_refusal(model.opset, small) or Values(model)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        return f"types cannot be inferred: {str(error).strip().splitlines()[0]}"
