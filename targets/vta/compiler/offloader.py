"""What the lowering asks of VTA: which operations it takes, and programs of regions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from optc.passes.quantize.integer.ops import (
    Channelwise,
    Concat,
    Dequantize,
    Layer,
    Move,
    Op,
    Product,
    Quantize,
    Sum,
    ToAccumulator,
)
from optc.passes.quantize.reference import Rounding
from optc.targets.lowering.offload import Region, Shapes, Taken
from optc.targets.vta.compiler.build import stage_of
from optc.targets.vta.compiler.build_layers import accumulator
from optc.targets.vta.compiler.build_moves import places
from optc.targets.vta.compiler.build_sums import channel_steps
from optc.targets.vta.compiler.builder import Builder, Refused
from optc.targets.vta.compiler.linear import fitting
from optc.targets.vta.compiler.region import Given, RegionProgram, compile_region
from optc.targets.vta.compiler.requantize import without_idle_max
from optc.targets.vta.compiler.search import Machine
from optc.targets.vta.compiler.stages import Stage
from optc.targets.vta.compiler.tiling import tilings
from optc.targets.vta.device import PAGE

OpT = TypeVar("OpT", bound=Op)


class VtaOffloader:
    """Takes what `Builder` takes; `programs`: what was compiled, by the name of the region."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.programs: dict[str, RegionProgram] = {}
        self._stages: dict[str, Stage] = {}
        self._builder = Builder(machine.config, "half_up", {}, {})
        self._end = PAGE

    def take(self, ops: Sequence[Op], shapes: Shapes, rounding: Rounding) -> Taken:
        """As `Offloader.take`."""
        layers = {o.output: o for o in ops if isinstance(o, Layer) and isinstance(o.ending, ToAccumulator)}
        made = {o.output for o in ops if not isinstance(o, Quantize)}
        hosted = {n for o in ops for n in o.inputs if n not in made}
        self._builder = Builder(self.machine.config, rounding, shapes, layers, hosted=hosted)
        self._stages = {}
        reasons: dict[str, str] = {}
        for op in ops:
            if isinstance(op, Quantize | Dequantize):
                reasons[op.output] = "it lies between float and integer"
                continue
            reason = self._try(op, stage_of)
            if reason is not None:
                reasons[op.output] = reason
                hosted.add(op.output)
        self._part_sums(ops, layers, reasons)
        wide = {n: reason for n, (_, reason) in self._builder.wide.items() if n not in reasons}
        return Taken(reasons, wide, self._packed(ops, reasons))

    def _try(self, op: OpT, make: Callable[[Builder, OpT], Stage | None]) -> str | None:
        """Keep the stage of `op`, or say why there is none."""
        try:
            stage = make(self._builder, op)
        except Refused as error:
            return str(error)
        if stage is None:
            return None
        stage = fitting(stage, self.machine.config)
        if next(tilings(stage, self.machine.config), None) is None:
            return "no tile of it fits the memories on the chip"
        self._stages[op.output] = stage
        return None

    def _part_sums(self, ops: Sequence[Op], layers: Mapping[str, Layer], reasons: dict[str, str]) -> None:
        """Where VTA does not take a Sum or a layer of it, the host adds, and layers leave by themselves."""
        for op in ops:
            if not isinstance(op, Sum):
                continue
            joined = (op.output, *(n for n in op.inputs if n in layers))
            lost = next((reasons[n] for n in joined if n in reasons), None)
            if lost is None:
                continue
            reasons.setdefault(op.output, lost)
            for name in joined[1:]:
                reason = reasons.get(name) or self._try(layers[name], accumulator)
                if reason is not None:
                    reasons[name] = reason

    def _packed(self, ops: Sequence[Op], reasons: Mapping[str, str]) -> frozenset[str]:
        """Values that only the host can bring into the form that VTA wants."""
        taken = (op for op in ops if isinstance(op, Product) and op.output not in reasons)
        return frozenset(op.inputs[1] for op in taken)

    def compile(self, region: Region) -> None:
        """As `Offloader.compile`."""
        layouts, wide = self._builder.layouts, self._builder.wide
        aliases = dict(self._builder.aliases) | self._joined(region)
        stages = {o.output: self._stages[o.output] for o in region.ops if self._works(o, aliases)}
        self._extend(region, stages)
        program = compile_region(
            list(stages.values()),
            self._sources(region, list(stages.values())),
            {n: wide[n][0] if n in wide else layouts[n] for n in region.outputs},
            self.machine,
            self._end,
            aliases,
        )
        self._end = program.end
        self.programs[region.name] = replace(program, arguments=region.inputs)

    def _sources(self, region: Region, stages: Sequence[Stage]) -> dict[str, tuple[str, Given]]:
        """What the host brings: the value of each source, and its layout."""
        builder = self._builder
        read = dict.fromkeys(name for stage in stages for t in stage.terms for name, _ in t.reads)
        found: dict[str, tuple[str, Given]] = {n: builder.given[n] for n in read if n in builder.given}
        plain = {s for s in read if s not in found} | {
            base for n, (base, _) in builder.aliases.items() if n in read
        }
        outputs = {*region.outputs}
        for name in region.inputs:
            if name in plain or name in outputs or name not in {v for v, _ in found.values()}:
                found[name] = name, builder.layouts[name]
        return found

    def _extend(self, region: Region, stages: dict[str, Stage]) -> None:
        """Let a stage go on to what only moves and clamps its codes, while they are in ACC."""
        extended: set[str] = set()
        for op in region.ops:
            source = op.inputs[0]
            if not isinstance(op, Channelwise) or source not in stages or source in extended:
                continue
            before = stages[source]
            readers = [o for o in region.ops if source in o.inputs]
            alone = len(readers) == 1 and source not in region.outputs
            kept = before.steps[:-1] if alone else before.steps
            more = without_idle_max((*kept, *channel_steps(self._builder, op)))
            stages[source] = Stage(before.label, before.extent, more, before.planes, before.macs)
            extended.add(source)
            del stages[op.output]

    def _works(self, op: Op, aliases: Mapping[str, tuple[str, int]]) -> bool:
        """Whether the operation has a stage of its own."""
        in_place = isinstance(op, Concat) and all(aliases.get(n, ("",))[0] == op.output for n in op.inputs)
        return op.output in self._stages and not in_place

    def _joined(self, region: Region) -> dict[str, tuple[str, int]]:
        """Operands that can be written where a Concat wants them, and where that is."""
        found: dict[str, tuple[str, int]] = {}
        working = [o for o in region.ops if not isinstance(o, Concat | Move)]
        touched = {n for o in working for n in (*o.inputs, o.output)}
        for op in region.ops:
            where = places(self._builder, op) if isinstance(op, Concat) else None
            if where is None or len(set(op.inputs)) < len(op.inputs):
                continue
            if not touched.intersection((op.output, *op.inputs)):
                continue  # nothing but the host would touch it
            if not any(n in found or n in self._builder.aliases for n in op.inputs):
                found |= {n: (op.output, at) for n, at in zip(op.inputs, where, strict=True)}
        return found
