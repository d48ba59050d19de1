"""A quantized model's regions, compiled as `optc compile` does, checked, run, compared with the reference."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qdq import feeds

from optc.models.model import Model
from optc.passes.quantize.integer.compute import ended
from optc.passes.quantize.integer.execute import Reference
from optc.targets.lowering.graph import Graph
from optc.targets.lowering.integer.plan import Integers
from optc.targets.lowering.offload import Offload, offload
from optc.targets.vta import regions
from optc.targets.vta.check import check
from optc.targets.vta.compiler.offloader import VtaOffloader
from optc.targets.vta.compiler.region import RegionProgram
from optc.targets.vta.compiler.search import Machine
from optc.targets.vta.config import Config
from optc.targets.vta.isa import decode
from optc.targets.vta.program import Image
from optc.targets.vta.sim import Fsim
from optc.targets.vta.timing import PYNQ

Array = NDArray[Any]

SMALL = Config(
    log_block=3, log_uop_buff_size=12, log_inp_buff_size=11, log_wgt_buff_size=13, log_acc_buff_size=13
)
"""BLOCK 8, 1024 micro-ops, 256 INP, 128 WGT and 256 ACC elements: everything is cut into tiles and parts."""

TINY = Config(
    log_block=2, log_uop_buff_size=11, log_inp_buff_size=9, log_wgt_buff_size=11, log_acc_buff_size=11
)
"""BLOCK 4, 512 micro-ops, 128 elements of each other memory."""

PAIRS = Config(log_batch=1, log_inp_buff_size=15, log_acc_buff_size=17)
"""BATCH 2."""


@dataclass(frozen=True, eq=False)
class Compiled:
    """`taken`: the regions and the reasons of what is in none; `programs` by the region's name."""

    model: Model
    config: Config
    taken: Offload
    programs: Mapping[str, RegionProgram]

    @property
    def ops(self) -> set[str]:
        """The kinds of operations that run on VTA."""
        return {type(op).__name__ for region in self.taken.regions for op in region.ops}


def compiled(model: Model, config: Config | None = None, every: bool = False, uops: int = 2048) -> Compiled:
    """All regions of `model`, one behind the other in memory; `every`: each code made is an output."""
    config = config or Config()
    graph = Graph(model)
    offloader = VtaOffloader(Machine(config, PYNQ, min(uops, 1 << config.log_uop_buff_size - 2)))
    integers = Integers(graph, {})
    taken = offload(graph, [], integers.plan(set()), offloader)
    if every:
        inner = integers.program.accumulators()
        whole = [
            replace(r, outputs=tuple(o.output for o in r.ops if o.output not in inner - {*r.accumulators}))
            for r in taken.regions
        ]
        taken = replace(taken, regions=tuple(whole))
    for region in taken.regions:
        offloader.compile(region)
    return Compiled(model, config, taken, offloader.programs)


def assert_equal(found: Compiled, feeds: Mapping[str, Array], seed: int | None = 0) -> None:
    """The checker accepts; in program order and a random one (`seed`) regions give the reference's codes.

    Of accumulators: what the reference's ending makes of them is what the reference has.
    """
    reference = Reference(found.model)
    values = reference.trace(feeds)
    raw = {n: op for region in found.taken.regions for n, op in region.accumulators.items()}
    config = found.config
    end = max((p.end for p in found.programs.values()), default=0)
    with tempfile.TemporaryDirectory() as folder:
        entries = regions.save(found.programs, Path(folder))
        loaded = [regions.Region.load(Path(folder), e, config) for e in entries]
    for program in found.programs.values():
        check(decode(program.instructions, config), config, Image(program.constants))
    for order in (None, seed) if seed is not None else (None,):
        device = Fsim(config, end, order)
        device.write(0, np.random.default_rng(1).integers(0, 256, end).astype(np.uint8))
        for region in loaded:
            region.install(device)
        for region in loaded:
            outputs, _ = region.call(device, [values[n] for n in region.arguments])
            for place, got in zip(region.outputs, outputs, strict=True):
                if place.value in raw:
                    assert got.dtype == np.int32
                    got = ended(got, raw[place.value].ending, reference.program.rounding)
                np.testing.assert_array_equal(got, values[place.value], f"{place.value}, order {order}")
                assert got.dtype == values[place.value].dtype


def assert_offloaded(
    model: Model, feeds: Mapping[str, Array], config: Config | None = None, **options: Any
) -> Compiled:
    """`assert_equal` of a model whose every operation between Q and DQ is on VTA, and something is."""
    found = compiled(model, config, **options)
    between = {"it lies between float and integer"}
    assert set(found.taken.reasons.values()) <= between, found.taken.reasons
    assert found.taken.regions
    assert_equal(found, feeds)
    return found


def assert_ended_by_host(model: Model, reason: str) -> None:
    """`assert_offloaded` of a layer of which the accumulators leave VTA, for that reason."""
    found = assert_offloaded(model, feeds(model))
    assert all(reason in r for r in found.taken.ended.values()), found.taken.ended
    assert [len(r.accumulators) for r in found.taken.regions] == [1]
