"""Weight-only quantization: weights become 8- or 4-bit constants, activations stay float."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar, Literal

from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.base import Context, Contract, Lossy
from optc.passes.canonicalize.edit import Edit
from optc.passes.names import chosen_names
from optc.passes.quantize.blocks import Type
from optc.passes.quantize.insert_weights import Stored, insert_weight, weight_grid
from optc.passes.quantize.learn_blocks import Job, learn_blocks
from optc.passes.quantize.tables import find_tables, quantize_table
from optc.passes.quantize.weight_layers import (
    WeightLayer,
    check_finite,
    find_weight_layers,
    quantized_names,
)

_OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class QuantizeWeights:
    """Store the weights of Conv, ConvTranspose, Gemm and MatMul as integers behind a DequantizeLinear.

    `bits`: 8 or 4; `symmetric`: signed integers with zero point 0, or unsigned ones with a zero point;
    `block`: that many weights along the axis that is summed share a scale (a layer with fewer has one scale
    an output channel, as all have without `block`). `weights=learnt`: each layer's integers are fitted to
    what the float layer makes of `samples` calibration samples, instead of rounding each weight to the
    nearest. `embeddings`: the tables of Gather become int8, one scale a row, looked up before they are
    multiplied out. `layers`, `skip`: name patterns of what is, and is not, quantized.

    A Gemm's weight is stored untransposed. ONNX Runtime makes one MatMulNBits of DequantizeLinear and MatMul
    or Gemm where `block` is none or a power of two of at least 16; by default it rounds the activations
    to 8 bits in it, too (`session.qdq_matmulnbits_accuracy_level`).

    Needs opset 13; 21 for blocks and 4 bits. What stays float is declined with the reason. Raises
    `InputError` on bad options, NaN or infinity in weights, and missing calibration samples.
    """

    name: ClassVar[str] = "quantize-weights"
    contract: ClassVar[Contract] = Lossy("the precision of weights beyond 8 or 4 bits")

    bits: Literal[8, 4] = 8
    block: int | None = None
    symmetric: bool = True
    weights: Literal["nearest", "learnt"] = "nearest"
    embeddings: bool = False
    layers: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    samples: int | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        if self.block is not None and self.block < 2:
            raise InputError(f"quantize-weights: block {self.block} is not at least 2")
        if self.samples is not None and self.samples < 1:
            raise InputError(f"quantize-weights: samples {self.samples} is not at least 1")

    def run(self, model: Model, context: Context) -> bool:
        """Quantize the weights of `model`; True unless it has none (more) to quantize."""
        layers = [x for x in find_weight_layers(model, _OPS, context.decline) if self._saves(x, context)]
        tables = find_tables(model, context.decline) if self.embeddings else []
        known = [x.name for x in (*layers, *tables)] + quantized_names(model, _OPS)
        names = chosen_names("quantize-weights", known, self.layers, self.skip)
        layers, tables = [x for x in layers if x.name in names], [x for x in tables if x.name in names]
        if not layers and not tables:
            return False
        self._check(model, bool(layers))
        for found in (*layers, *tables):
            check_finite(found.weight, found.nodes[0])
        before = model.copy() if self.weights == "learnt" and layers else None
        nodes = [id(n) for n in model.view.nodes]
        stored = self._write(model, context, layers, tables)
        if before is not None:
            originals = dict(zip(nodes, before.view.nodes, strict=True))
            own = [(x.nodes[0], stored[id(x)]) for x in layers if len(x.nodes) == 1]
            jobs = [Job(node, originals[id(node)], constants) for node, constants in own]
            learn_blocks(before, model, jobs, context, self.samples)
        return True

    def _saves(self, layer: WeightLayer, context: Context) -> bool:
        """Whether the integers and scales of a weight take less than itself; else its nodes are declined."""
        grid = weight_grid(layer, self.block)
        saves = grid.nbytes(tuple(layer.weight.shape), self._type) < int(layer.weight.values.nbytes)
        for node in layer.nodes if not saves else ():
            context.decline(node, "so few weights share a scale that it takes what they save")
        return saves

    @property
    def _type(self) -> Type:
        return Type(self.bits, self.symmetric)

    def _check(self, model: Model, layers: bool) -> None:
        oldest = 21 if layers and (self.bits == 4 or self.block is not None) else 13
        if model.opset < oldest:
            raise InputError(
                f"quantize-weights: this needs opset {oldest} or later, the model has {model.opset}; "
                "run upgrade-opset first"
            )

    def _write(
        self, model: Model, context: Context, layers: list[WeightLayer], tables: list[WeightLayer]
    ) -> dict[int, Stored]:
        """Put the nearest integers in place of the weights; the constants of each layer, by its id()."""
        edit = Edit(model.graph, model, context, {t.name for t in model.view.outputs})
        before = sum(int(x.weight.values.nbytes) for x in (*layers, *tables))
        stored = {id(x): insert_weight(edit, x, self._type, self.block) for x in layers}
        after = sum(weight_grid(x, self.block).nbytes(tuple(x.weight.shape), self._type) for x in layers)
        after += sum(quantize_table(edit, table) for table in tables)
        nodes = Counter(str(n.op) for x in (*layers, *tables) for n in x.nodes)
        context.facts.update(quantized=dict(sorted(nodes.items())), bytes_before=before, bytes_after=after)
        return stored
