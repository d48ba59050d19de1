"""The steps of a program as a compiled graph of Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """A compiled graph over `actors`, one per rank, with `in_flight` requests at once at most."""

    def __init__(self, schedule: Steps, actors: Sequence[Any], in_flight: int) -> None:
        steps = schedule.steps
        self._given = [i for i, step in enumerate(steps) if step.feeds or not schedule.senders[i]]
        self._answering = [i for i, step in enumerate(steps) if i in schedule.outputs or not step.sends]
        self._feeds = [steps[index].feeds for index in self._given]
        channel = QuietType(num_shm_buffers=in_flight)
        nodes: list[Sequence[Any]] = []
        with InputNode() as given:
            for index, step in enumerate(steps):
                arrived = []
                if index in self._given:
                    arrived.append(given[self._given.index(index)])
                    arrived[0].type_hint = channel
                for sender in schedule.senders[index]:
                    targets = [to for to, _ in steps[sender].sends]
                    arrived.append(nodes[sender][targets.index(index)])
                answers = max(1, len(step.sends) + (index in schedule.outputs))
                method = actors[step.rank].step.options(num_returns=answers)
                node = method.bind(index, *arrived)
                nodes.append(node if answers > 1 else [node])
                for answer in nodes[-1]:
                    answer.type_hint = channel
                    if answer.class_method_call is not None:
                        answer.class_method_call.type_hint = channel
            ends = MultiOutputNode([nodes[index][-1] for index in self._answering])
        self._dag = ends.experimental_compile(_submit_timeout=FOREVER, _max_inflight_executions=in_flight)

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
