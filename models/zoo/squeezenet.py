"""SqueezeNet 1.1 (Iandola et al. 2016, https://arxiv.org/abs/1602.07360): no BatchNormalization in it."""

from collections.abc import Mapping

import onnx

from optc.models.zoo.builder import BATCH, Array, GraphBuilder, Parameters

DESCRIPTION = (
    "SqueezeNet 1.1. Input 'image': [N,3,227,227] float32, BGR in 0..255 less the means 104.006, 116.669, "
    "122.679. Output 'probabilities': [N,1000] float32, ImageNet classes."
)
_FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
_POOL_BEFORE = (2, 4, 6)  # numbers of the fire modules, which count from 2, that a MaxPool stands before


def build_squeezenet(parameters: Parameters) -> onnx.ModelProto:
    """The network over `parameters`: `image` [N,3,227,227] -> `probabilities` [N,1000]."""
    b = GraphBuilder("squeezenet1.1", parameters)
    x = b.input("image", (BATCH, 3, 227, 227))
    x = b.relu(b.conv(x, "conv1", 64, 3, stride=2, pad=0, bias=True), "conv1.relu")
    for number, (squeeze, expand) in enumerate(_FIRES, start=2):
        if number in _POOL_BEFORE:
            x = b.pool("MaxPool", x, f"pool{number - 1}", 3, 2)
        x = _fire(b, x, f"fire{number}", squeeze, expand)
    x = b.node("GlobalAveragePool", [b.conv(x, "conv10", 1000, 1, bias=True)], "pool10")
    x = b.node("Softmax", [b.node("Flatten", [x], "flatten10", axis=1)], "probabilities", axis=1)
    b.output(x, (BATCH, 1000))
    return b.model(DESCRIPTION, {"optc.licence": "MIT"})


def from_keras(weights: Mapping[str, list[Array]]) -> dict[str, Array]:
    """Keras' kernels [H,W,I,O] and biases, by layer, as the arrays that `build_squeezenet` asks for."""
    arrays = {}
    for layer, (kernel, bias) in weights.items():
        name = layer.replace("/", ".")
        arrays[f"{name}.weight"] = kernel.transpose(3, 2, 0, 1)
        arrays[f"{name}.bias"] = bias
    return arrays


def _fire(b: GraphBuilder, x: str, name: str, squeeze: int, expand: int) -> str:
    x = b.relu(b.conv(x, f"{name}.squeeze1x1", squeeze, 1, bias=True), f"{name}.squeeze1x1.relu")
    parts = [
        b.relu(b.conv(x, f"{name}.expand{k}x{k}", expand, k, bias=True), f"{name}.expand{k}x{k}.relu")
        for k in (1, 3)
    ]
    return b.concat(parts, f"{name}.concat")
