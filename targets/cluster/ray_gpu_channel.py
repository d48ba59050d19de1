"""Ray's channel for tensors on GPUs (NCCL), waiting for a value asleep as the other channels do."""

from __future__ import annotations

from typing import Any, Self

from ray.experimental.channel.shared_memory_channel import SharedMemoryType
from ray.experimental.channel.torch_tensor_type import TorchTensorType

from optc.targets.cluster.ray_channel import QuietType


class GpuType(TorchTensorType):  # type: ignore[misc]
    """The type of such channels: the tensors of a value go from GPU to GPU, the rest of it by the host.

    A message begins with the shapes of its tensors: a reader sleeps until these are there.
    """

    def __init__(self, buffers: int) -> None:
        super().__init__(transport=TorchTensorType.ACCELERATOR)
        self._buffers = buffers

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copy = type(self)(self._buffers)
        copy._communicator_id = self._communicator_id
        return copy

    def create_channel(
        self,
        writer: Any,
        reader_and_node_list: list[tuple[Any, str]],
        driver_actor_id: str | None = None,
        _cpu_data_channel: Any = None,
        _tensor_metadata_channel: Any = None,
    ) -> Any:
        """As Ray says, with room for every request in flight."""
        ends = (writer, reader_and_node_list, driver_actor_id)
        shapes = QuietType(num_shm_buffers=self._buffers).create_channel(*ends)
        rest = SharedMemoryType(num_shm_buffers=self._buffers).create_channel(*ends)
        return super().create_channel(*ends, rest, shapes)
