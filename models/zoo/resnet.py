"""ResNet v1 (He et al. 2015, https://arxiv.org/abs/1512.03385) and v2 (https://arxiv.org/abs/1603.05027).

The definitions of MXNet Gluon's model zoo: v1's bottleneck has its stride in the first 1x1 convolution and
biases in both 1x1 ones; v2 is pre-activation and normalizes its input.
"""

from collections.abc import Callable
from functools import partial

import onnx

from optc.models.zoo.builder import BATCH, GraphBuilder, Parameters, RandomParameters

_Block = Callable[[GraphBuilder, str, str, int, int], str]  # graph, value, name, channels, stride
_LAYERS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}  # blocks of each stage
_BASIC = (64, 128, 256, 512)  # channels of each stage
_BOTTLENECK = (256, 512, 1024, 2048)
_CLASSES = 1000
_BRANCH = 0.2  # gain of a residual branch's last weights, so that sums over 33 blocks stay small
_DESCRIPTION = "Input 'image': [N,3,224,224] float32. Output 'logits': [N,1000] float32. Random weights."


def build_resnet_v1(depth: int, parameters: Parameters | None = None) -> onnx.ModelProto:
    """ResNet of 18, 34, 50 or 101 layers: `image` [N,3,224,224] -> `logits` [N,1000]; KeyError otherwise."""
    b = GraphBuilder(f"resnet{depth}-v1", parameters or RandomParameters())
    x = _stem(b, b.input("image", (BATCH, 3, 224, 224)))
    x = _stages(b, x, depth, _basic_v1 if depth < 50 else _bottleneck_v1)
    b.output(b.classifier(x, "output", _CLASSES), (BATCH, _CLASSES))
    return b.model(f"ResNet-{depth} v1. {_DESCRIPTION}")


def build_resnet_v2(depth: int, parameters: Parameters | None = None) -> onnx.ModelProto:
    """Pre-activation ResNet: `image` [N,3,224,224] -> `logits` [N,1000]; KeyError for an unknown depth."""
    b = GraphBuilder(f"resnet{depth}-v2", parameters or RandomParameters())
    x = b.batch_norm(b.input("image", (BATCH, 3, 224, 224)), "input.bn")
    x = _stages(b, _stem(b, x), depth, partial(_preactivated, bottleneck=depth >= 50))
    x = b.relu(b.batch_norm(x, "output.bn"), "output.relu")
    b.output(b.classifier(x, "output", _CLASSES), (BATCH, _CLASSES))
    return b.model(f"ResNet-{depth} v2. {_DESCRIPTION}")


def _stem(b: GraphBuilder, x: str) -> str:
    x = b.conv(x, "stem.conv", 64, 7, stride=2)
    return b.pool("MaxPool", b.relu(b.batch_norm(x, "stem.bn"), "stem.relu"), "stem.pool", 3, 2, pad=1)


def _stages(b: GraphBuilder, x: str, depth: int, block: _Block) -> str:
    widths = _BASIC if depth < 50 else _BOTTLENECK
    for stage, (blocks, channels) in enumerate(zip(_LAYERS[depth], widths, strict=True), start=1):
        for index in range(blocks):
            stride = 2 if stage > 1 and index == 0 else 1
            x = block(b, x, f"stage{stage}.{index}", channels, stride)
    return x


def _shortcut_v1(b: GraphBuilder, x: str, name: str, channels: int, stride: int) -> str:
    if stride == 1 and b.channels(x) == channels:
        return x
    x = b.conv(x, f"{name}.shortcut.conv", channels, 1, stride=stride)
    return b.batch_norm(x, f"{name}.shortcut.bn")


def _basic_v1(b: GraphBuilder, x: str, name: str, channels: int, stride: int) -> str:
    y = b.conv(x, f"{name}.conv1", channels, 3, stride=stride)
    y = b.relu(b.batch_norm(y, f"{name}.bn1"), f"{name}.relu1")
    y = b.batch_norm(b.conv(y, f"{name}.conv2", channels, 3), f"{name}.bn2", gain=_BRANCH)
    y = b.add(y, _shortcut_v1(b, x, name, channels, stride), f"{name}.add")
    return b.relu(y, f"{name}.relu2")


def _bottleneck_v1(b: GraphBuilder, x: str, name: str, channels: int, stride: int) -> str:
    y = b.conv(x, f"{name}.conv1", channels // 4, 1, stride=stride, bias=True)
    y = b.relu(b.batch_norm(y, f"{name}.bn1"), f"{name}.relu1")
    y = b.conv(y, f"{name}.conv2", channels // 4, 3)
    y = b.relu(b.batch_norm(y, f"{name}.bn2"), f"{name}.relu2")
    y = b.conv(y, f"{name}.conv3", channels, 1, bias=True)
    y = b.batch_norm(y, f"{name}.bn3", gain=_BRANCH)
    y = b.add(y, _shortcut_v1(b, x, name, channels, stride), f"{name}.add")
    return b.relu(y, f"{name}.relu3")


def _preactivated(b: GraphBuilder, x: str, name: str, channels: int, stride: int, bottleneck: bool) -> str:
    """BN-Relu before each convolution; a shortcut that changes shape branches off after the first Relu."""
    inner, shape = (
        (channels // 4, ((1, 1), (3, stride), (1, 1))) if bottleneck else (channels, ((3, stride), (3, 1)))
    )
    y = b.relu(b.batch_norm(x, f"{name}.bn1"), f"{name}.relu1")
    if stride != 1 or b.channels(x) != channels:
        x = b.conv(y, f"{name}.shortcut.conv", channels, 1, stride=stride)
    for number, (kernel, step) in enumerate(shape, start=1):
        last = number == len(shape)
        if number > 1:
            y = b.relu(b.batch_norm(y, f"{name}.bn{number}"), f"{name}.relu{number}")
        width, gain = (channels, _BRANCH) if last else (inner, 1.0)
        y = b.conv(y, f"{name}.conv{number}", width, kernel, stride=step, gain=gain)
    return b.add(y, x, f"{name}.add")
