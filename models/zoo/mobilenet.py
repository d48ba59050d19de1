"""MobileNetV2 (Sandler et al. 2018, https://arxiv.org/abs/1801.04381), width 1."""

import numpy as np
import onnx

from optc.models.zoo.builder import BATCH, GraphBuilder, Parameters, RandomParameters

_STAGES = (  # (expansion, channels, blocks, stride of the first block): table 2 of the paper
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def build_mobilenet_v2(parameters: Parameters | None = None) -> onnx.ModelProto:
    """`image` [N,3,224,224] -> `logits` [N,1000]."""
    b = GraphBuilder("mobilenet-v2", parameters or RandomParameters())
    b.constant("zero", np.float32(0))
    b.constant("six", np.float32(6))
    x = _conv(b, b.input("image", (BATCH, 3, 224, 224)), "stem", 32, 3, stride=2)
    for stage, (expansion, channels, blocks, stride) in enumerate(_STAGES):
        for index in range(blocks):
            x = _block(b, x, f"stage{stage}.{index}", expansion, channels, stride if index == 0 else 1)
    x = _conv(b, x, "head", 1280, 1)
    b.output(b.classifier(x, "output", 1000), (BATCH, 1000))
    return b.model(
        "MobileNetV2. Input 'image': [N,3,224,224] float32. Output 'logits': [N,1000] float32. "
        "Random weights."
    )


def _conv(b: GraphBuilder, x: str, name: str, out: int, kernel: int, stride: int = 1, groups: int = 1) -> str:
    """Convolution, BatchNormalization, Relu6."""
    x = b.conv(x, f"{name}.conv", out, kernel, stride=stride, groups=groups)
    return b.node("Clip", [b.batch_norm(x, f"{name}.bn"), "zero", "six"], f"{name}.relu6")


def _block(b: GraphBuilder, x: str, name: str, expansion: int, out: int, stride: int) -> str:
    """Inverted residual with a linear bottleneck."""
    hidden = b.channels(x) * expansion
    y = x if expansion == 1 else _conv(b, x, f"{name}.expand", hidden, 1)
    y = _conv(b, y, f"{name}.depthwise", hidden, 3, stride, groups=hidden)
    y = b.batch_norm(b.conv(y, f"{name}.project.conv", out, 1), f"{name}.project.bn")
    return b.add(y, x, f"{name}.add") if stride == 1 and b.channels(x) == out else y
