"""A discrete-event simulation of a program on a cluster: when each rank does what.

A rank does the micro-batches in order, and of each its parts in order. It begins a part once everything that
the part reads is there, fetches it, tensor after tensor, and computes; it does one thing at a time. The
caller, too: it hands requests out and takes results back, in order, one after the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from optc.models.errors import InputError
from optc.passes.partition.cluster import Cluster, Link
from optc.targets.cluster.program import Collective, Message, Part, Program


@dataclass(frozen=True)
class Caller:
    """What the caller spends on a request and on its result: seconds."""

    submit: float = 0.0
    collect: float = 0.0


@dataclass(frozen=True)
class Span:
    """A rank of a replica did a part of a request: it fetched from `start` and computed from `compute`."""

    replica: int
    rank: int
    part: int
    request: int
    start: float
    compute: float
    stop: float


@dataclass
class Timeline:
    """What happened: `finished` has the time at which each request's result was collected, ascending."""

    finished: list[float]
    replicas: int = 1
    spans: list[Span] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Until the last result."""
        return max(self.finished, default=0.0)

    @property
    def throughput(self) -> float:
        """Requests a second once every replica has given a result; of all time where none gives a second.

        Replicas that go in step give their results at once: counted from the very first, one round of
        results would stand for no time.
        """
        first = self.finished[self.replicas - 1] if len(self.finished) > self.replicas else 0.0
        count = len(self.finished) - self.replicas if first else len(self.finished)
        return count / (self.seconds - first) if self.seconds > first else float("inf")


def simulate(
    program: Program,
    cluster: Cluster,
    requests: int,
    in_flight: int,
    replicas: int = 1,
    caller: Caller | None = None,
    record: bool = False,
) -> Timeline:
    """Run `requests` micro-batches through `replicas` copies, at most `in_flight` at once in each.

    Rank r of replica d is on the cluster's device number d × ranks + r; where there are fewer devices, the
    other replicas are on copies of the cluster. The parts' seconds are those of the program.
    `record` keeps the spans. `InputError` where there are too few devices, or a link is missing.
    """
    if not copies_of(program, cluster):
        raise InputError(
            f"simulate: the plan has {len(program.ranks)} ranks, cluster '{cluster.name}' only "
            f"{len(cluster.devices)} devices"
        )
    return _Simulation(program, cluster, requests, in_flight, replicas, caller or Caller(), record).run()


@dataclass(frozen=True)
class _Task:
    """A part, what it waits for of its own request (task numbers), and the seconds that each step takes."""

    rank: int
    part: int
    needs: tuple[int, ...]
    fetch: float
    compute: float


class _Replica:
    """One copy of the program in the middle of its work."""

    def __init__(self, number: int, tasks: Sequence[Sequence[_Task]]) -> None:
        self.number, self.tasks = number, tasks
        self.queues: list[list[int]] = []
        """The tasks of each rank, in order."""
        for place, task in enumerate(tasks[number]):
            while len(self.queues) <= task.rank:
                self.queues.append([])
            self.queues[task.rank].append(place)
        self.requests: list[int] = []
        self.at = [(0, 0)] * len(self.queues)
        """Of each rank the request (by its place) and the task that come next."""
        self.busy = [False] * len(self.queues)
        self.left: dict[int, int] = {}
        self.done: dict[int, set[int]] = {}
        self.flying = 0


class _Simulation:
    def __init__(
        self,
        program: Program,
        cluster: Cluster,
        requests: int,
        in_flight: int,
        replicas: int,
        caller: Caller,
        record: bool,
    ) -> None:
        self.requests, self.in_flight, self.caller, self.record = requests, in_flight, caller, record
        copies = min(replicas, copies_of(program, cluster))
        different = [_tasks(program, cluster, replica) for replica in range(copies)]
        tasks = [different[replica % len(different)] for replica in range(replicas)]
        self.replicas = [_Replica(number, tasks) for number in range(replicas)]
        self.tasks = tasks
        self.events: list[tuple[float, int, Callable[[float], None]]] = []
        self.count = 0
        self.sent = 0
        self.ready: set[int] = set()
        self.taken = 0
        self.calling = False
        self.owner: dict[int, _Replica] = {}
        self.free = deque(self.replicas)
        """Replicas that take another request, the one that waits longest first."""
        self.timeline = Timeline([0.0] * requests, replicas)

    def run(self) -> Timeline:
        self._call(0.0)
        while self.events:
            now, _, event = heappop(self.events)
            event(now)
        return self.timeline

    def _at(self, time: float, event: Callable[[float], None]) -> None:
        self.count += 1
        heappush(self.events, (time, self.count, event))

    def _call(self, now: float) -> None:
        """Let the caller do what comes next: take a result, else hand a request out."""
        if self.calling:
            return
        if self.taken in self.ready:
            self.calling = True
            request = self.taken
            self.taken += 1
            self._at(now + self.caller.collect, lambda time: self._collected(request, time))
        elif self.sent < self.requests and self.free:
            self.calling = True
            replica = self.free.popleft()
            replica.flying += 1
            if replica.flying < self.in_flight:
                self.free.append(replica)
            request = self.sent
            self.sent += 1
            self._at(now + self.caller.submit, lambda time: self._submitted(replica, request, time))

    def _submitted(self, replica: _Replica, request: int, now: float) -> None:
        self.calling = False
        self.owner[request] = replica
        replica.requests.append(request)
        replica.left[request] = len(self.tasks[replica.number])
        replica.done[request] = set()
        for rank in range(len(replica.queues)):
            self._start(replica, rank, now)
        if not replica.left[request]:
            self._finished(replica, request, now)
        self._call(now)

    def _collected(self, request: int, now: float) -> None:
        self.calling = False
        self.timeline.finished[request] = now
        self._call(now)

    def _start(self, replica: _Replica, rank: int, now: float) -> None:
        """Let a rank begin its next task, if it is idle and all is there."""
        place, step = replica.at[rank]
        if replica.busy[rank] or place >= len(replica.requests) or not replica.queues[rank]:
            return
        request, number = replica.requests[place], replica.queues[rank][step]
        task = self.tasks[replica.number][number]
        if not replica.done[request].issuperset(task.needs):
            return
        replica.busy[rank] = True
        last = step + 1 == len(replica.queues[rank])
        replica.at[rank] = (place + 1, 0) if last else (place, step + 1)
        stop = now + task.fetch + task.compute
        if self.record:
            span = Span(replica.number, rank, task.part, request, now, now + task.fetch, stop)
            self.timeline.spans.append(span)
        self._at(stop, lambda time: self._done(replica, rank, request, number, time))

    def _done(self, replica: _Replica, rank: int, request: int, number: int, now: float) -> None:
        replica.busy[rank] = False
        replica.done[request].add(number)
        replica.left[request] -= 1
        for other in range(len(replica.queues)):
            self._start(replica, other, now)
        if not replica.left[request]:
            self._finished(replica, request, now)

    def _finished(self, replica: _Replica, request: int, now: float) -> None:
        del replica.left[request]
        self.ready.add(request)
        if replica.flying == self.in_flight:
            self.free.append(replica)
        replica.flying -= 1
        self._call(now)


def caller_of(program: Program, sizes: Mapping[str, int], over: Link | None) -> Caller:
    """What the caller spends where requests and answers go over a link.

    `sizes`: bytes of the model's inputs and outputs by name. An input goes to every rank that reads it.
    """
    if over is None:
        return Caller()
    read = [
        n for rank in program.ranks for n in {n for p in rank.parts for n in p.inputs if n in program.inputs}
    ]
    giving = [n for n, rank in program.outputs.items() if rank >= 0]
    return Caller(
        sum(over.seconds(sizes.get(name, 0)) for name in read),
        over.seconds(sum(sizes.get(name, 0) for name in giving)),
    )


def copies_of(program: Program, cluster: Cluster) -> int:
    """How many replicas the cluster has devices for."""
    return len(cluster.devices) // len(program.ranks)


def _tasks(program: Program, cluster: Cluster, replica: int) -> list[_Task]:
    """The parts in an order in which they can run."""
    numbers = {(rank, name): i for i, (rank, part) in enumerate(program.order) for name in part.outputs}
    ranks = len(program.ranks)
    names = [device.name for device in cluster.devices[replica * ranks : (replica + 1) * ranks]]

    def link(a: int, b: int) -> Link:
        return cluster.link(names[a], names[b])

    tasks = []
    for rank, part in program.order:
        needs = {numbers[giver] for name in part.inputs for giver in program.givers(rank, name)}
        fetched = fetched_bytes(program, rank, part).items()
        fetch = sum(link(giver, rank).seconds(size) for giver, size in fetched)
        place = program.ranks[rank].parts.index(part)
        tasks.append(_Task(rank, place, tuple(sorted(needs)), fetch, part.seconds))
    return tasks


def fetched_bytes(program: Program, rank: int, part: Part) -> dict[int, int]:
    """What a part's inputs take from other ranks: bytes by giver; each gives all of it at once."""
    sizes: dict[int, int] = {}
    for name in part.inputs:
        source = program.source(rank, name)
        if isinstance(source, Message):
            sizes[source.source] = sizes.get(source.source, 0) + source.bytes
        elif isinstance(source, Collective):
            place = source.to.index(rank)
            for i, giver in enumerate(source.ranks):
                if giver != rank:
                    sizes[giver] = sizes.get(giver, 0) + source.piece_bytes(i, place)
    return sizes
