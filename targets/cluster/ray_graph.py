"""The steps of a program as a compiled graph of Ray."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import ray
from ray.dag import InputNode, MultiOutputNode

from optc.targets.cluster.bell import Bell
from optc.targets.cluster.program import Array
from optc.targets.cluster.ray_channel import QuietType
from optc.targets.cluster.steps import Steps
from optc.targets.cluster.worker import Payload

FOREVER = 10**6
"""Seconds: an actor that dies is noticed otherwise, and one that computes may."""


class Graph:
    """A compiled graph over `actors`, one per rank, with `in_flight` requests at once at most.

    Between the ranks of `gpus` tensors stay on the GPU: an edge is then a `send` and a `receive` beside the
    steps, as Ray lets a method have one such argument, and all or none of its results.
    """

    def __init__(
        self, schedule: Steps, actors: Sequence[Any], in_flight: int, gpus: Collection[int] = ()
    ) -> None:
        self._schedule, self._actors, self._gpus = schedule, actors, gpus
        self._host = QuietType(num_shm_buffers=in_flight)
        self._gpu = _gpu_type(in_flight) if gpus else None
        steps = schedule.steps
        self._given = [i for i, step in enumerate(steps) if step.feeds or not schedule.senders[i]]
        answering = [i for i, step in enumerate(steps) if i in schedule.outputs or not step.sends]
        self._feeds = [steps[index].feeds for index in self._given]
        self._sent: dict[tuple[int, int], Any] = {}
        ends = {}
        with InputNode() as given:
            for index in range(len(steps)):
                arrived = []
                if index in self._given:
                    arrived.append(given[self._given.index(index)])
                    arrived[0].type_hint = self._host
                ends[index] = self._bind(index, arrived)
            output = MultiOutputNode([ends[index] for index in answering])
        self._dag = output.experimental_compile(_submit_timeout=FOREVER, _max_inflight_executions=in_flight)

    def _bind(self, index: int, arrived: list[Any]) -> Any:
        """A step with what it receives and sends; its last answer to the host."""
        step, actor = self._schedule.steps[index], self._actors[self._schedule.steps[index].rank]
        from_gpus = tuple(s for s in self._schedule.senders[index] if self._between_gpus(s, index))
        to_gpus = tuple(to for to, _ in step.sends if self._between_gpus(index, to))
        for sender in self._schedule.senders[index]:
            sent = self._sent[sender, index]
            if sender in from_gpus:
                sent = self._hint(actor.receive.bind(index, sender, sent), self._host)
            arrived.append(sent)
        to_hosts = [to for to, _ in step.sends if to not in to_gpus]
        count = len(to_hosts) + (index in self._schedule.outputs)
        answers = max(1, count + bool(to_gpus))
        node = actor.step.options(num_returns=answers).bind(index, from_gpus, to_gpus, *arrived)
        nodes = [self._hint(n, self._host) for n in (node if answers > 1 else [node])]
        self._sent |= {(index, to): sent for to, sent in zip(to_hosts, nodes, strict=False)}
        for to in to_gpus:
            self._sent[index, to] = self._hint(actor.send.bind(index, to, nodes[-1]), self._gpu)
        return nodes[max(0, count - 1)]

    def _between_gpus(self, sender: int, to: int) -> bool:
        steps = self._schedule.steps
        return steps[sender].rank in self._gpus and steps[to].rank in self._gpus

    @staticmethod
    def _hint(node: Any, channel: Any) -> Any:
        """The node, with the channel that its value goes through."""
        node.type_hint = channel
        if node.class_method_call is not None:
            node.class_method_call.type_hint = channel
        return node

    @property
    def bells(self) -> list[Bell]:
        """What rings when a request may be `ready`."""
        return [channel.bell for channel in self._dag.dag_output_channels]

    def submit(self, feeds: Mapping[str, Array]) -> Any:
        """Send a request in; what `get` takes. `RayError` where an actor has died."""
        return self._dag.execute(*({name: feeds[name] for name in names} for names in self._feeds))

    def ready(self) -> bool:
        """Whether the oldest request is answered; `RayError` where an actor has died."""
        return all([channel.ready() for channel in self._dag.dag_output_channels])

    def get(self, submitted: Any) -> list[Payload]:
        """The answers to the oldest request, once it is `ready`; its arrays last until the next `submit`."""
        found: list[Payload] = ray.get(submitted)
        return found

    def close(self) -> None:
        """Take the graph down; the actors stay. Returns once they are free again, or dead."""
        self._dag.teardown()


def _gpu_type(in_flight: int) -> Any:
    """Loads PyTorch, which nothing else here needs."""
    from optc.targets.cluster.ray_gpu_channel import GpuType

    return GpuType(in_flight)
