"""GoogLeNet (Szegedy et al. 2014, https://arxiv.org/abs/1409.4842), BatchNormalization for bias and LRN.

Table 1 of the paper, 5x5 branches included, without the auxiliary classifiers.
"""

import onnx

from optc.models.zoo.builder import BATCH, GraphBuilder, Parameters, RandomParameters

_MODULES = (  # channels of 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection; None is a MaxPool
    ("3a", (64, 96, 128, 16, 32, 32)),
    ("3b", (128, 128, 192, 32, 96, 64)),
    ("pool3", None),
    ("4a", (192, 96, 208, 16, 48, 64)),
    ("4b", (160, 112, 224, 24, 64, 64)),
    ("4c", (128, 128, 256, 24, 64, 64)),
    ("4d", (112, 144, 288, 32, 64, 64)),
    ("4e", (256, 160, 320, 32, 128, 128)),
    ("pool4", None),
    ("5a", (256, 160, 320, 32, 128, 128)),
    ("5b", (384, 192, 384, 48, 128, 128)),
)


def build_inception(parameters: Parameters | None = None) -> onnx.ModelProto:
    """`image` [N,3,224,224] -> `logits` [N,1000]."""
    b = GraphBuilder("inception", parameters or RandomParameters())
    x = _conv(b, b.input("image", (BATCH, 3, 224, 224)), "conv1", 64, 7, stride=2)
    x = _conv(b, _halve(b, x, "pool1"), "conv2.reduce", 64, 1)
    x = _halve(b, _conv(b, x, "conv2", 192, 3), "pool2")
    for name, widths in _MODULES:
        x = _halve(b, x, name) if widths is None else _module(b, x, f"inception{name}", widths)
    b.output(b.classifier(x, "output", 1000), (BATCH, 1000))
    return b.model(
        "GoogLeNet with BatchNormalization. Input 'image': [N,3,224,224] float32. "
        "Output 'logits': [N,1000] float32. Random weights."
    )


def _conv(b: GraphBuilder, x: str, name: str, out: int, kernel: int, stride: int = 1) -> str:
    x = b.conv(x, f"{name}.conv", out, kernel, stride=stride)
    return b.relu(b.batch_norm(x, f"{name}.bn", epsilon=1e-3), f"{name}.relu")


def _halve(b: GraphBuilder, x: str, name: str) -> str:
    return b.pool("MaxPool", x, name, 3, 2, ceil_mode=1)


def _module(b: GraphBuilder, x: str, name: str, widths: tuple[int, ...]) -> str:
    one, reduce3, three, reduce5, five, projection = widths
    branches = [
        _conv(b, x, f"{name}.1x1", one, 1),
        _conv(b, _conv(b, x, f"{name}.3x3.reduce", reduce3, 1), f"{name}.3x3", three, 3),
        _conv(b, _conv(b, x, f"{name}.5x5.reduce", reduce5, 1), f"{name}.5x5", five, 5),
        _conv(b, b.pool("MaxPool", x, f"{name}.pool", 3, 1, pad=1), f"{name}.projection", projection, 1),
    ]
    return b.concat(branches, f"{name}.concat")
