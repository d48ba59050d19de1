"""EfficientNet-Lite0: EfficientNet (Tan and Le 2019, https://arxiv.org/abs/1905.11946) for integer hardware.

Against EfficientNet-B0 it has no squeeze-and-excitation and Relu6 for swish. Padding is TensorFlow's SAME.
"""

from collections.abc import Mapping

import numpy as np
import onnx

from optc.models.zoo.builder import BATCH, Array, GraphBuilder, Parameters

DESCRIPTION = (
    "EfficientNet-Lite0. Input 'image': [N,3,224,224] float32, RGB in 0..255 as (x - 127) / 128. "
    "Output 'logits': [N,1000] float32, ImageNet classes."
)
_STAGES = (  # (expansion, channels, blocks, stride of the first block, kernel)
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
_EPSILON = 1e-3


def build_efficientnet_lite0(parameters: Parameters) -> onnx.ModelProto:
    """The network over `parameters`: `image` [N,3,224,224] -> `logits` [N,1000]."""
    b = GraphBuilder("efficientnet-lite0", parameters)
    b.constant("zero", np.float32(0))
    b.constant("six", np.float32(6))
    x = _conv(b, b.input("image", (BATCH, 3, 224, 224)), "_conv_stem", "_bn0", 32, 3, stride=2)
    index = 0
    for expansion, channels, blocks, stride, kernel in _STAGES:
        for block in range(blocks):
            x = _block(b, x, f"_blocks.{index}.", expansion, channels, stride if block == 0 else 1, kernel)
            index += 1
    x = _conv(b, x, "_conv_head", "_bn1", 1280, 1)
    b.output(b.classifier(x, "_fc", 1000), (BATCH, 1000))
    return b.model(DESCRIPTION, {"optc.licence": "Apache-2.0, as its package states"})


def from_torch(state: Mapping[str, Array]) -> dict[str, Array]:
    """The checkpoint's arrays under the names that `build_efficientnet_lite0` asks for."""
    arrays = {}
    for name, array in state.items():
        module, _, kind = name.rpartition(".")
        if "_bn" in module:
            kind = {"weight": "gamma", "bias": "beta"}.get(kind, kind)
        if kind != "num_batches_tracked":
            arrays[f"{module}.{kind}"] = array
    return arrays


def _conv(
    b: GraphBuilder, x: str, name: str, norm: str, out: int, kernel: int, stride: int = 1, groups: int = 1
) -> str:
    """Convolution, BatchNormalization, Relu6."""
    x = b.conv(x, name, out, kernel, stride=stride, groups=groups, auto_pad="SAME_UPPER")
    x = b.batch_norm(x, norm, epsilon=_EPSILON)
    return b.node("Clip", [x, "zero", "six"], f"{norm}.relu6")


def _block(b: GraphBuilder, x: str, name: str, expansion: int, out: int, stride: int, kernel: int) -> str:
    """Inverted residual: expand by 1x1, depthwise, project by 1x1 with no activation."""
    hidden = b.channels(x) * expansion
    y = x if expansion == 1 else _conv(b, x, f"{name}_expand_conv", f"{name}_bn0", hidden, 1)
    y = _conv(b, y, f"{name}_depthwise_conv", f"{name}_bn1", hidden, kernel, stride, groups=hidden)
    y = b.conv(y, f"{name}_project_conv", out, 1, auto_pad="SAME_UPPER")
    y = b.batch_norm(y, f"{name}_bn2", epsilon=_EPSILON)
    return b.add(y, x, f"{name}add") if stride == 1 and b.channels(x) == out else y
