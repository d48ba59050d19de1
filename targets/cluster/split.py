"""Cutting a partitioned model into one model for each part of each rank, and what goes between them.

A value has a home: the stage that makes it, and how the devices there hold it (whole, or shared along an
axis). Where a node reads it in another stage or held otherwise, it gets there by a message, by a collective,
or by a Slice out of the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx

from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.wiring import node_name, reads
from optc.passes.partition.assignment import Assignment
from optc.passes.partition.problem import in_order
from optc.passes.partition.sharding.collectives import holds
from optc.passes.partition.sharding.layout import Layout, Spec
from optc.passes.verify.watcher import RANDOM
from optc.targets.cluster.part_model import Held, PartModels, Step
from optc.targets.cluster.program import CALLER, Collective, Message, Part, Program, Rank

MARK = "@"
"""Between a value's name and how it is held, where that is not as its name alone says."""


@dataclass(frozen=True)
class Home:
    """Where a value is made, and how the devices of that stage hold it.

    `piece` is its name there; `source` is the name of the terms that are to be summed up first, else again
    that of the piece.
    """

    stage: int
    spec: Spec
    piece: str
    source: str

    @property
    def terms(self) -> bool:
        """Whether it has to be summed up."""
        return self.piece != self.source


def split(
    model: Model, assignment: Assignment, seconds: Mapping[str, float]
) -> tuple[Program, dict[str, Model]]:
    """The program of one replica, and the models of its parts by name; `seconds` of a node by its name.

    Nodes that nothing needs are left out. `InputError` where a value that cannot be sent (a sequence, one of
    unknown type or of one that numpy lacks) would go between parts, or devices would share random work.
    """
    return _Splitter(model, assignment, seconds).split()


class _Splitter:
    def __init__(self, model: Model, assignment: Assignment, seconds: Mapping[str, float]) -> None:
        self.assignment, self.seconds = assignment, seconds
        self.tensor = assignment.tensor
        self.models = PartModels(model, assignment)
        graph = self.models.proto.graph
        self.inputs = [i.name for i in graph.input if i.name not in self.models.constants]
        self.results = [o.name for o in graph.output]
        nodes = in_order([n for n in graph.node if n.op_type != "Constant"])
        self.nodes = _needed(nodes, self.results)
        if self.tensor > 1:
            self._check_shared()
        self.home = {name: home for node in self.nodes for name, home in self._homes(node)}
        self.wanted = self._wanted()
        self.specs: dict[str, list[Spec]] = {}
        self.messages: dict[tuple[int, str], list[Message]] = {}
        self.collectives: dict[tuple[int, str], Collective] = {}
        self.steps: dict[tuple[int, int], list[Step]] = {}
        """What each level of a stage does, on every rank unless the step says otherwise."""
        self.level: dict[str, int] = {}
        self.sums: dict[str, Home] = {}
        """Of terms that other stages read, where their sum is."""

    def _check_shared(self) -> None:
        """Refuse what devices that share work cannot do."""
        names = [*self.inputs, *(name for node in self.nodes for name in node.output)]
        odd = next((name for name in names if MARK in name), None)
        if odd is not None:
            raise InputError(f"partition: the name '{odd}' holds a '{MARK}', which optc needs; rename it")
        drawn = next((node for node in self.nodes if node.op_type in RANDOM), None)
        if drawn is not None:
            raise InputError(
                f"partition: node '{node_name(drawn)}' ({drawn.op_type}) is random, and devices that share "
                "work would each draw their own numbers; give stages or data, not tensor"
            )

    def _layout(self, node: onnx.NodeProto) -> Layout | None:
        return self.assignment.sharding.layouts.get(node_name(node))

    def _stage(self, node: onnx.NodeProto) -> int:
        return self.assignment.stage[node_name(node)]

    def _homes(self, node: onnx.NodeProto) -> Iterator[tuple[str, Home]]:
        layout = self._layout(node)
        for place, name in enumerate(node.output):
            spec = layout.outputs[place] if layout else None
            reduce = layout is not None and layout.reduce
            # A result of the whole is made by a node of its own where it has to be put together first.
            apart = name in self.results and (reduce or spec is not None)
            piece = f"{name}{MARK}held" if apart else name
            yield name, Home(self._stage(node), spec, piece, f"{name}{MARK}terms" if reduce else piece)

    def _uses(self, node: onnx.NodeProto) -> dict[str, list[Spec]]:
        """The values that a node reads, constants aside, and how it wants them held."""
        layout = self._layout(node)
        found: dict[str, list[Spec]] = {}
        for place, name in enumerate(node.input):
            spec = layout.inputs[place] if layout and place < len(layout.inputs) else None
            found.setdefault(name, []).append(spec)
        for name in set(reads(node)) - set(node.input):
            found[name] = [None]
        return {name: specs for name, specs in found.items() if name in self.home or name in self.inputs}

    def _wanted(self) -> dict[tuple[int, str], list[Spec]]:
        """How a value is wanted in a stage."""
        wanted: dict[tuple[int, str], list[Spec]] = {}
        for node in self.nodes:
            for name, specs in self._uses(node).items():
                wanted.setdefault((self._stage(node), name), []).extend(specs)
        return wanted

    def split(self) -> tuple[Program, dict[str, Model]]:
        for node in self.nodes:
            self._place(node)
        for name in self.results:
            self._give(name)
        return self._program()

    def _place(self, node: onnx.NodeProto) -> None:
        """Give a node its level: behind what it reads, and behind the collectives that bring it."""
        stage, level = self._stage(node), 0
        held: dict[str, list[Held]] = {}
        for name, specs in self._uses(node).items():
            held[name] = [self._reach(stage, name, spec) for spec in specs]
            if name in self.home and self.home[name].stage == stage:
                later = any((stage, h.base) in self.collectives for h in held[name])
                level = max(level, self.level[name] + later)
        self.steps.setdefault((stage, level), []).append(Step(node, self._layout(node), held))
        self.level.update((name, level) for name in node.output)

    def _reach(self, stage: int, name: str, spec: Spec) -> Held:
        """How the ranks of `stage` come by a value that is to be held as `spec`."""
        if name not in self.home:
            return Held(name, None, spec, name if spec is None else self._form(name, spec))
        home = self.home[name]
        if home.terms and home.stage != stage:
            home = self._sum(name)
        whole = None in self.wanted[stage, name]
        if holds(home.spec, spec):
            base, base_spec = home.piece, home.spec
        elif whole:
            base, base_spec = f"{name}{MARK}whole", None
        else:
            base, base_spec = self._form(name, spec), spec
        self._bring(home, stage, name, base, base_spec)
        return Held(base, base_spec, spec, base if spec == base_spec else self._form(name, spec))

    def _sum(self, name: str) -> Home:
        """Where the sum of terms is that other stages read: summed up at home, so that it is sent once."""
        home = self.home[name]
        if name not in self.sums:
            piece = f"{name}{MARK}sum"
            self.sums[name] = Home(home.stage, home.spec, piece, piece)
            self._bring(home, home.stage, name, home.piece, home.spec)
            held = {name: [Held(home.piece, home.spec, home.spec, home.piece)]}
            step = Step(None, None, held, piece, home.spec)
            self.steps.setdefault((home.stage, self.level[name] + 1), []).append(step)
        return self.sums[name]

    def _bring(self, home: Home, stage: int, name: str, base: str, spec: Spec, first: bool = False) -> None:
        """See that the ranks of a stage (the `first` alone) get the value as `base`, held as `spec`."""
        key, to = (stage, base), self._ranks(stage)[: 1 if first else None]
        if spec == home.spec and not home.terms:
            if stage != home.stage and key not in self.messages:
                size = self.models.size(name, spec)
                pairs = zip(self._ranks(home.stage), to, strict=True)
                self.messages[key] = [Message(base, a, b, size[t]) for t, (a, b) in enumerate(pairs)]
            return
        found = self.collectives.get(key)
        if found is not None and len(found.to) >= len(to):
            return
        have = home.spec if not home.terms else None
        self.collectives[key] = Collective(
            home.source,
            base,
            self._ranks(home.stage),
            to,
            self.models.size(name, None)[0],
            home.terms,
            have.axis if have else 0,
            have.ranges if have else (),
            spec.axis if spec else 0,
            spec.ranges if spec else (),
        )

    def _form(self, name: str, spec: Spec) -> str:
        """The name of a value that is held otherwise than at home."""
        assert spec is not None
        known = self.specs.setdefault(name, [])
        if spec not in known:
            known.append(spec)
        return f"{name}{MARK}share{known.index(spec)}"

    def _give(self, name: str) -> None:
        """See that rank 0 of its stage has a result of the whole under its own name."""
        if name in self.inputs:
            return
        if name in self.models.constants:
            self.steps.setdefault((self.assignment.stages - 1, 0), []).append(
                Step(None, None, {}, name, everywhere=False)
            )
            return
        home = self.home[name]
        if home.piece == name:
            return
        base = home.piece if home.spec is None else f"{name}{MARK}whole"
        self._bring(home, home.stage, name, base, None, first=True)
        held = {name: [Held(base, None, None, base)]}
        self.steps.setdefault((home.stage, self.level[name] + 1), []).append(
            Step(None, None, held, name, everywhere=False)
        )

    def _ranks(self, stage: int) -> tuple[int, ...]:
        return tuple(range(stage * self.tensor, (stage + 1) * self.tensor))

    def _program(self) -> tuple[Program, dict[str, Model]]:
        outputs = {name: self._giver(name) for name in self.results}
        messages = tuple(m for group in self.messages.values() for m in group)
        collectives = tuple(self.collectives.values())
        ranks: list[Rank] = []
        models: dict[str, Model] = {}
        for stage in range(self.assignment.stages):
            for t, rank in enumerate(self._ranks(stage)):
                taken = {m.tensor for m in messages if m.source == rank}
                taken |= {c.source for c in collectives if rank in c.ranks}
                taken |= {n for n, at in outputs.items() if at == rank}
                found = dict(self._parts(stage, rank, t, taken))
                ranks.append(Rank(stage, t, tuple(found)))
                models.update((part.name, model) for part, model in found.items())
        return Program(tuple(ranks), messages, collectives, tuple(self.inputs), outputs), models

    def _giver(self, result: str) -> int:
        """The rank that has a result of the whole."""
        if result in self.inputs:
            return CALLER
        home = self.home.get(result)
        return self._ranks(home.stage if home else self.assignment.stages - 1)[0]

    def _parts(self, stage: int, rank: int, t: int, taken: set[str]) -> Iterator[tuple[Part, Model]]:
        """The parts of a rank, and their models; `taken`: what others take of its values."""
        levels = sorted(level for at, level in self.steps if at == stage)
        steps = {level: [s for s in self.steps[stage, level] if s.everywhere or t == 0] for level in levels}
        levels = [level for level in levels if steps[level]]
        for place, level in enumerate(levels):
            later = {h.base for other in levels[place + 1 :] for s in steps[other] for h in s.all_held()}
            name = f"rank{rank}" if len(levels) == 1 else f"rank{rank}.{place}"
            part = self.models.part(name, steps[level], t, self.home_sources(steps[level]), taken | later)
            if part is not None:
                inputs, outputs, model = part
                seconds = sum(self.seconds.get(node_name(s.node), 0.0) for s in steps[level] if s.node)
                yield Part(name, inputs, outputs, seconds), model

    def home_sources(self, steps: list[Step]) -> dict[str, str]:
        """What the values that some steps make are called in their parts."""
        made = [name for s in steps if s.node is not None for name in s.node.output if name]
        return {name: self.home[name].source for name in made}


def _needed(nodes: list[onnx.NodeProto], results: list[str]) -> list[onnx.NodeProto]:
    """The nodes that some result needs, in their order."""
    wanted, kept = set(results), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(reads(node))
            kept.append(node)
    return kept[::-1]
