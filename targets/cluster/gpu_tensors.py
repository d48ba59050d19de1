"""Tensors that stay on a GPU between the parts of ranks: PyTorch's, which Ray moves by NCCL.

Everything else between ranks is an array of numpy; PyTorch is loaded only where ranks are on GPUs.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from optc.targets.base import DeviceRunner, Runner
from optc.targets.cluster.program import Array, Collective

NEEDED = ("torch", "cupy")
"""What Ray's NCCL channels are made of."""
CARRIED = ("bool", "int8", "uint8", "int32", "int64", "float16", "float32", "float64")
"""Types that Ray has NCCL's names for (`ray.util.collective.collective_group.nccl_util`), and numpy knows."""

Value = Any
"""An array of numpy on the host, or a tensor of PyTorch on the GPU."""


def installed() -> bool:
    """Whether this Python has what NCCL needs."""
    return all(find_spec(name) for name in NEEDED)


def usable() -> bool:
    """Whether tensors can stay on this process' GPU, and leave it by NCCL."""
    if not installed():
        return False
    try:
        import torch
        from cupy.cuda import nccl
    except (ImportError, OSError):  # a build that does not load here
        return False
    return bool(torch.cuda.is_available() and nccl.available)


def on_gpu(runner: Runner) -> bool:
    """Whether the runner can leave its outputs on a GPU."""
    return isinstance(runner, DeviceRunner) and runner.device == "cuda"


def run(runner: Runner, feeds: dict[str, Value]) -> dict[str, Value]:
    """The outputs of a part that is `on_gpu`: there, without a copy, if NCCL could carry them."""
    assert isinstance(runner, DeviceRunner)
    return {name: _kept(value) for name, value in runner.run_on_device(feeds).items()}


def _kept(value: Any) -> Value:
    """A tensor of TVM's as PyTorch's where it is on the GPU and may stay there."""
    import torch

    tensor = torch.from_dlpack(value) if str(value.dtype) in CARRIED else None
    return tensor if tensor is not None and tensor.is_cuda else value.numpy()


def to_host(value: Value) -> Array:
    """The value as an array of numpy, itself where it is on the host."""
    array: Array = value.cpu().numpy() if hasattr(value, "is_cuda") else value
    return array


def contiguous(value: Value) -> Value:
    """The value with its elements in order in memory."""
    return np.ascontiguousarray(value) if isinstance(value, np.ndarray) else value.contiguous()


def join(collective: Collective, pieces: Sequence[Value | None]) -> Value:
    """`collective.join` wherever the pieces are: on the GPU if all are."""
    found = [piece for piece in pieces if piece is not None]
    if any(isinstance(piece, np.ndarray) for piece in found):
        return collective.join([to_host(piece) for piece in found])
    import torch

    return collective.join(found, torch.cat)
