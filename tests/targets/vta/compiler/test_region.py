"""A region in memory: no two tensors that are in use at the same time overlap; nothing lies outside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from drawn import quantized_networks
from hypothesis import HealthCheck, given, settings
from qdq import Qdq, feeds
from regions_of import assert_equal, compiled
from test_layers import convolution

from optc.models.errors import InputError
from optc.models.model import Model
from optc.targets.vta.compiler import region as module
from optc.targets.vta.compiler.linear import ONES
from optc.targets.vta.compiler.region import RegionProgram
from optc.targets.vta.compiler.stages import Write
from optc.targets.vta.config import Config, Memory
from optc.targets.vta.device import PAGE
from optc.targets.vta.isa import Load, Store, decode

CONFIG = Config()
ELEMENT = CONFIG.element_bytes(Memory.INP)


def chain(length: int, side: int = 8) -> Model:
    net = Qdq()
    value = net.input((1, 16, side, side))
    for _ in range(length):
        layer = net.layer("Conv", value, np.eye(16, dtype=np.int8)[:, :, None, None] * 100, -7)
        value = net.code(layer, 0)
    return net.model(value)


def bytes_of(program: RegionProgram, kind: type) -> set[int]:
    """The DRAM elements that LOADs of INP, or STOREs, touch."""
    return {
        i.dram + y * i.x_stride + x
        for i in decode(program.instructions, CONFIG)
        if isinstance(i, kind) and (kind is Store or i.memory == Memory.INP)
        for y in range(i.y_size)
        for x in range(i.x_size)
    }


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(model=quantized_networks())
def test_areas_do_not_overlap(model: Model) -> None:
    """Constants, instructions, inputs and outputs of all regions; STOREs stay off what stays."""
    found = compiled(model)
    areas: list[tuple[int, int]] = []
    for program in found.programs.values():
        fixed = [(at, at + data.size) for at, data in program.constants]
        fixed.append((program.stream_address, program.stream_address + program.instructions.size))
        stored = {e * ELEMENT for e in bytes_of(program, Store)}
        assert not any(low <= e < high for e in stored for low, high in fixed)
        ends = {(p.address, p.address + p.layout.extent(CONFIG).elements * ELEMENT) for p in program.outputs}
        covered = {e for low, high in ends for e in range(low, high, ELEMENT)}
        given = {
            p.address + e * ELEMENT for p in program.inputs for e in range(p.layout.extent(CONFIG).elements)
        }
        assert covered <= stored | given  # an output may be an input that lies in it
        areas += fixed
        areas.append((min((p.address for p in program.inputs), default=PAGE), program.constants[0][0]))
        assert all(high <= program.end for _, high in fixed)
    whole = sorted(a for a in areas if a[0] < a[1])
    assert all(before[1] <= after[0] for before, after in zip(whole, whole[1:], strict=False))
    assert all(low >= PAGE for low, _ in whole)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(model=quantized_networks())
def test_live_tensors_do_not_overlap(model: Model) -> None:
    """Stage by stage, as if run: whoever reads a tensor finds in each element what its writer put there."""
    planned: list[Any] = []
    whole = module._plan

    def plan(stages: Any, ends: Any, aliases: Any, first: int, page: int) -> Any:
        found = whole(stages, ends, aliases, first, page)
        planned.append((stages, ends, aliases, found))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_plan", plan)
        compiled(model)
    for stages, ends, aliases, (addresses, end) in planned:
        as_if_run(stages, ends, aliases, addresses, end)


def as_if_run(stages: Any, ends: Any, aliases: Any, addresses: Any, end: int) -> None:
    """Follow which tensor's elements stand where, stage by stage."""
    holds: dict[int, tuple[str, int]] = {}

    def put(name: str, extent: Any) -> None:
        holds.update({addresses[name] + e: owner(name, e, aliases) for e in range(extent.elements)})

    def assert_there(name: str, extent: Any) -> None:
        assert all(holds[addresses[name] + e] == owner(name, e, aliases) for e in range(extent.elements))

    for name, extent in ends[0].items():
        put(name, extent)
    for stage in stages:
        read = [t for t in stage.terms if t.source != ONES]
        for term in read:
            assert_there(term.source, term.extent)
        for write in (s for s in stage.steps if isinstance(s, Write)):
            # A tile is written while others are still read: what this stage reads must not be there.
            mine = {addresses[write.target] + e for e in range(write.extent.elements)}
            for term in read:
                first = addresses[term.source]
                assert mine.isdisjoint(range(first, first + term.extent.elements))
            put(write.target, write.extent)
    for name, extent in ends[1].items():
        assert_there(name, extent)
    assert max(holds) < end


def owner(name: str, element: int, aliases: Any) -> tuple[str, int]:
    """The tensor that an element belongs to, and which of its elements it is."""
    while name in aliases:
        name, more = aliases[name]
        element += more
    return name, element


def test_memory_is_used_again() -> None:
    """A chain of any length needs room for the input, two tensors, and the constants."""

    def tensors(length: int) -> int:
        (program,) = compiled(chain(length)).programs.values()
        return max(bytes_of(program, Store)) - program.constants[0][0] // ELEMENT

    assert tensors(12) == tensors(4)


def test_beyond_the_address_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ADDRESS_SPACE", 1 << 14)
    with pytest.raises(InputError, match="bytes of memory, VTA addresses 4 GiB"):
        compiled(chain(2))


def test_regions_lie_one_behind_the_other() -> None:
    """Two regions with a float node between, in one memory."""
    net = Qdq()
    one = np.eye(16, dtype=np.int8)[:, :, None, None] * 100
    value = net.code(net.layer("Conv", net.input((1, 16, 4, 4)), one, -7), 0)
    value = net.code(net.node("Erf", [value]), -6)
    model = net.model(net.code(net.layer("Conv", value, one, -7), -6))
    found = compiled(model)
    first, second = found.programs.values()
    assert first.end <= second.constants[0][0]
    assert_equal(found, feeds(model))


def test_instructions_are_the_same_twice() -> None:
    from optc.targets.vta.compiler.search import forget

    model = convolution((1, 40, 9, 9), 33, (3, 3), pads=[1] * 4)
    programs = []
    for _ in range(2):
        forget()
        (program,) = compiled(model).programs.values()
        programs.append(program)
    first, second = programs
    np.testing.assert_array_equal(first.instructions, second.instructions)
    assert [a for a, _ in first.constants] == [a for a, _ in second.constants]
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(first.constants, second.constants, strict=True))


def test_every_load_is_of_something_written() -> None:
    (program,) = compiled(chain(3)).programs.values()
    known = {e for p in program.inputs for e in range(p.address // ELEMENT, p.address // ELEMENT + 64)}
    ones = program.constants[0][0] // ELEMENT
    assert bytes_of(program, Load) <= known | bytes_of(program, Store) | {ones}


def test_a_stage_keeps_off_what_the_one_before_is_storing() -> None:
    """Of one tile each: they take the two ends of ACC in turn."""
    (program,) = compiled(chain(4, side=2)).programs.values()
    first = [
        min(
            i.sram
            for i, owner in zip(decode(program.instructions, CONFIG), program.owners, strict=True)
            if owner == stage and isinstance(i, Store)
        )
        for stage in range(4)
    ]
    assert first[0] == first[2] == 0 and first[1] == first[3] > CONFIG.depth(Memory.ACC) // 2
