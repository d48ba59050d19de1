"""Another tool's quantized model in the codes that VTA computes exactly: an approximation, measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from optc.models.model import Model
from optc.passes.base import Context, Contract, Lossy
from optc.passes.quantize.groups import Seen
from optc.passes.quantize.leave import Choice
from optc.passes.quantize.quantize import ROUNDING, Quantize
from optc.passes.quantize.reference import Rounding
from optc.passes.quantize.strip import strip


@dataclass(frozen=True)
class Requantize:
    """Take a model's Q and DQ away and quantize it anew, by the ranges that its own codes span.

    What it is for: scales that are no powers of two, and uint8 or zero points, which VTA has not. The options
    are those of `quantize`; no calibration samples are needed where each value has a code. The error is what
    the verification table says. A model without Q and DQ is left as it is.
    """

    name: ClassVar[str] = "requantize"
    contract: ClassVar[Contract] = Lossy("the model's own scales and zero points")

    activations: Literal["int8", "uint8"] = "int8"
    scales: Literal["any", "pow2"] = "pow2"
    rounding: Rounding = "half_up"
    residual: Literal["code", "accumulator"] = "accumulator"
    per_channel: bool = False

    def run(self, model: Model, context: Context) -> bool:
        """Requantize `model`; True if it had codes."""
        ranges = strip(model)
        if not ranges:
            return False
        model.set_metadata(ROUNDING, self.rounding)
        again = Quantize(
            activations=self.activations,
            scales=self.scales,
            rounding=self.rounding,
            residual=self.residual,
            per_channel=self.per_channel,
        )
        again.with_ranges(model, context, {name: Seen(r, r) for name, r in ranges.items()}, Choice())
        return True
